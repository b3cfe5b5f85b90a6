//! A log for states that cannot be written.
use freehold::{AccessError, Actor, Addressees, Config, LogConfig, Objects, Runtime};

#[derive(Clone)]
struct Session;

struct Users;

impl Actor for Users {
    type Id = u64;
    type State = Session;
    type Message = u64;
    type Reply = ();
    type Error = AccessError<u64>;

    fn addressees(message: &u64, to: &mut Addressees<u64>) {
        to.write(*message);
    }

    fn receive(_: &u64, _: &mut Objects<'_, Self>) -> Result<(), AccessError<u64>> {
        Ok(())
    }
}

fn main() {
    drop(Runtime::<Users>::start(Config::default()));
    drop(Runtime::<Users>::open(Config::default(), LogConfig::at("users")));
}
