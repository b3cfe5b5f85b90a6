//! A log for messages that cannot be written.
use freehold::{AccessError, Actor, Addressees, Config, LogConfig, Objects, Runtime};

struct Visit(u64);
struct Users;

impl Actor for Users {
    type Id = u64;
    type State = u64;
    type Message = Visit;
    type Reply = ();
    type Error = AccessError<u64>;

    fn addressees(message: &Visit, to: &mut Addressees<u64>) {
        to.write(message.0);
    }

    fn receive(_: &Visit, _: &mut Objects<'_, Self>) -> Result<(), AccessError<u64>> {
        Ok(())
    }
}

fn main() {
    drop(Runtime::<Users>::start(Config::default()));
    drop(Runtime::<Users>::open(Config::default(), LogConfig::at("users")));
}
