//! A text as an id.
use freehold::{AccessError, Actor, Addressees, Objects};

struct Users;

impl Actor for Users {
    type Id = String;
    type State = u64;
    type Message = String;
    type Reply = ();
    type Error = AccessError<String>;

    fn addressees(message: &String, to: &mut Addressees<String>) {
        to.write(message.clone());
    }

    fn receive(_: &String, _: &mut Objects<'_, Self>) -> Result<(), AccessError<String>> {
        Ok(())
    }
}
