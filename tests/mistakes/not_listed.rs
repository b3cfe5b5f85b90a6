//! A kind and a message that `actor!` does not list, and a message that says nothing.
use freehold::__typed::serde::{Deserialize, Serialize};
use freehold::{AccessError, Handle, Objects, Receive, To};

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
struct Guest;
struct Visit;
struct Leave;
struct Stay;

impl Receive<Users> for Visit {
    fn addressees(&self, to: &mut To<'_, Users>) {
        to.write::<Guest>(1);
    }

    fn receive(&self, objects: &mut Objects<'_, Users>) -> Result<(), AccessError<Id>> {
        objects.send(Stay)?;
        Ok(())
    }
}

fn stay(users: &Handle<Users>) {
    drop(users.call(Stay));
}
