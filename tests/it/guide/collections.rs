//! Collections, and their ranges.

use freehold::{AccessError, Config, Objects, Receive, Runtime, Shards, To};

use super::{Deserialize, Error, Serialize};

freehold::actor! {
    pub actor Feeds {
        id: Id, state: State, message: Message, reply: Reply, error: Refused,
        kinds {
            Channel(name: u64),
            // The posts of a channel live where it does, in the order of their keys.
            Post(channel: u64, number: u64) in Channel(channel),
        }
        messages { Publish -> u64, Expire -> () }
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Channel {
    published: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Post {
    text: String,
    is_kept: bool,
}

#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Refused {
    #[error("the channel is empty")]
    Empty,
    #[error(transparent)]
    Access(#[from] AccessError<Id>),
}

pub struct Publish {
    channel: u64,
    text: String,
}

pub struct Expire {
    channel: u64,
    from: u64,
}

impl Receive<Feeds> for Publish {
    fn addressees(&self, to: &mut To<'_, Feeds>) {
        // A message that has the channel has its posts.
        to.write::<Channel>(self.channel);
    }

    fn receive(&self, objects: &mut Objects<'_, Feeds>) -> Result<u64, Refused> {
        let channel = objects.write_or_insert_with(self.channel, || Channel { published: 0 })?;
        channel.published += 1;
        let number = channel.published;
        let mut posts = objects.entries::<Post>(self.channel)?;
        posts.put((self.channel, number), Post { text: self.text.clone(), is_kept: false })?;
        if posts.len() > 1000 {
            posts.walk((self.channel, 0)..).next()?.ok_or(Refused::Empty)?.take()?;
        }
        Ok(number)
    }
}

impl Receive<Feeds> for Expire {
    fn addressees(&self, to: &mut To<'_, Feeds>) {
        to.write::<Channel>(self.channel);
    }

    fn receive(&self, objects: &mut Objects<'_, Feeds>) -> Result<(), Refused> {
        // Some at a time, so that no turn is long.
        let mut posts = objects.entries::<Post>(self.channel)?;
        let next = posts.retain((self.channel, self.from).., 100, |_, post| post.is_kept)?;
        if let Some((channel, from)) = next {
            objects.send(Expire { channel, from })?;
        }
        Ok(())
    }
}

#[test]
fn a_channel_keeps_its_last_posts() -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::<Feeds>::start(Config { shards: Shards::Count(2), ..Config::default() })?;
    let feeds = runtime.handle();
    let publish = |text: u64| Publish { channel: 7, text: text.to_string() };
    assert!(feeds.call_all((1..=1005).map(publish)).wait().iter().all(Result::is_ok));
    let snapshot = feeds.snapshot().wait()?;
    let ten: Vec<((u64, u64), Post)> = snapshot.read_entries::<Post>(7, (7, 90).., 10).wait()?;
    let numbers: Vec<u64> = ten.iter().map(|((_, number), _)| *number).collect();
    assert_eq!(numbers, Vec::from_iter(90..100));
    let first = snapshot.read_entries::<Post>(7, .., 1).wait()?;
    assert_eq!(first, [((7, 6), Post { text: "6".to_owned(), is_kept: false })]);
    feeds.call(Expire { channel: 7, from: 990 }).wait()?;
    let left = feeds.snapshot().wait()?.read_entries::<Post>(7, (7, 985).., 10).wait()?;
    assert_eq!(left.last().map(|(key, _)| *key), Some((7, 989)));
    Ok(())
}
