//! An actor that would like to wait while it answers.
use freehold::{AccessError, Actor, Addressees, Objects};

struct Users;

impl Actor for Users {
    type Id = u64;
    type State = u64;
    type Message = u64;
    type Reply = ();
    type Error = AccessError<u64>;

    fn addressees(message: &u64, to: &mut Addressees<u64>) {
        to.write(*message);
    }

    async fn receive(_: &u64, _: &mut Objects<'_, Self>) -> Result<(), AccessError<u64>> {
        Ok(())
    }
}
