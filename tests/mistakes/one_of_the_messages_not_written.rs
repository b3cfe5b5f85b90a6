//! A log for messages, one of which cannot be written.
use freehold::__typed::serde::{Deserialize, Serialize};
use freehold::{AccessError, Config, LogConfig, Objects, Receive, Runtime, To};

freehold::actor! {
    actor Users {
        id: Id, state: State, message: Message, reply: Reply, error: AccessError<Id>,
        kinds { User(number: u64) }
        messages { Visit -> (), Leave -> () }
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(crate = "freehold::__typed::serde")]
struct User;
#[derive(Serialize, Deserialize)]
#[serde(crate = "freehold::__typed::serde")]
struct Visit;
struct Leave;

impl Receive<Users> for Visit {
    fn addressees(&self, to: &mut To<'_, Users>) {
        to.write::<User>(1);
    }

    fn receive(&self, _: &mut Objects<'_, Users>) -> Result<(), AccessError<Id>> {
        Ok(())
    }
}

impl Receive<Users> for Leave {
    fn addressees(&self, to: &mut To<'_, Users>) {
        to.write::<User>(1);
    }

    fn receive(&self, _: &mut Objects<'_, Users>) -> Result<(), AccessError<Id>> {
        Ok(())
    }
}

fn main() {
    drop(Runtime::<Users>::start(Config::default()));
    drop(Runtime::<Users>::open(Config::default(), LogConfig::at("users")));
}
