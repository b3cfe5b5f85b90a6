//! A program that is killed at any moment.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

/// How often a test kills: `FREEHOLD_KILLS`, or a few times.
pub fn kills() -> u64 {
    std::env::var("FREEHOLD_KILLS").map_or(3, |kills| kills.parse().expect("it is a number"))
}

/// A number that looks drawn, below `max`.
pub fn below(random: &mut u64, max: u64) -> u64 {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*random >> 33) % max
}

/// It runs, and is killed with the test that has it.
pub struct Killed {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Killed {
    pub fn start(program: &mut Command) -> Self {
        let mut child = program.stdout(Stdio::piped()).spawn().expect("it starts");
        let said = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Killed { child, said }
    }

    /// The next line that it says.
    pub fn line(&mut self) -> String {
        self.said.next().expect("it says one more line").expect("it is text")
    }

    /// Kills it after so many microseconds.
    pub fn after(self, microseconds: u64) {
        thread::sleep(Duration::from_micros(microseconds));
    }

    /// All that it says until its end, which is a good one.
    pub fn ends_well(mut self) -> String {
        let said: Vec<_> = self.said.by_ref().map(|line| line.expect("it is text")).collect();
        let said = said.join("\n");
        assert!(self.child.wait().expect("it is a child").success(), "{said}");
        said
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        // Of one that has ended it is nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
