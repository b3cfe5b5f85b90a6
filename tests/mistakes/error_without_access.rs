//! An error that cannot say that an object was not to be had.
use freehold::{Actor, Addressees, Objects};

struct Users;

#[derive(Debug)]
enum Refused {
    Banned,
}

impl Actor for Users {
    type Id = u64;
    type State = u64;
    type Message = u64;
    type Reply = ();
    type Error = Refused;

    fn addressees(message: &u64, to: &mut Addressees<u64>) {
        to.write(*message);
    }

    fn receive(_: &u64, _: &mut Objects<'_, Self>) -> Result<(), Refused> {
        Err(Refused::Banned)
    }
}
