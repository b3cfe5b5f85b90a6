//! A message that would like to wait while it is answered.
use freehold::{AccessError, Objects, Receive, To};

freehold::actor! {
    actor Users {
        id: Id, state: State, message: Message, reply: Reply, error: AccessError<Id>,
        kinds { User(number: u64) }
        messages { Visit -> () }
    }
}

#[derive(Clone, freehold::__typed::serde::Serialize, freehold::__typed::serde::Deserialize)]
#[serde(crate = "freehold::__typed::serde")]
struct User;
struct Visit;

impl Receive<Users> for Visit {
    fn addressees(&self, to: &mut To<'_, Users>) {
        to.write::<User>(1);
    }

    async fn receive(&self, _: &mut Objects<'_, Users>) -> Result<(), AccessError<Id>> {
        Ok(())
    }
}
