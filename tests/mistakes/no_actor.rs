//! A type that is no actor.
use freehold::{Config, Runtime};

struct Users;

fn main() {
    drop(Runtime::<Users>::start(Config::default()));
}
