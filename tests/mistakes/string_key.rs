//! A text as the key of a kind.
use freehold::{AccessError, Objects, Receive, To};
use freehold::__typed::serde::{Deserialize, Serialize};

freehold::actor! {
    actor Users {
        id: Id, state: State, message: Message, reply: Reply, error: AccessError<Id>,
        kinds { User(name: String) }
        messages { Visit -> () }
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(crate = "freehold::__typed::serde")]
struct User;
struct Visit;

impl Receive<Users> for Visit {
    fn addressees(&self, _: &mut To<'_, Users>) {}
    fn receive(&self, _: &mut Objects<'_, Users>) -> Result<(), AccessError<Id>> {
        Ok(())
    }
}
