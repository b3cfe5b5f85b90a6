//! An id of one's own that does not say that it is one.
use freehold::{AccessError, Actor, Addressees, Objects};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct UserId(u64);

struct Users;

impl Actor for Users {
    type Id = UserId;
    type State = u64;
    type Message = UserId;
    type Reply = ();
    type Error = AccessError<UserId>;

    fn addressees(message: &UserId, to: &mut Addressees<UserId>) {
        to.write(*message);
    }

    fn receive(_: &UserId, _: &mut Objects<'_, Self>) -> Result<(), AccessError<UserId>> {
        Ok(())
    }
}
