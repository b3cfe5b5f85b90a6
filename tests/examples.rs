//! The example program `hello`, run as a user runs it.
//!
//! `cargo test` builds the examples before it runs this. `cargo test --test examples` does not; then they are as they were built last.

mod support;

use std::process::Command;

use support::example;

#[test]
fn hello_counts_one_visit() {
    let output = Command::new(example("hello")).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.starts_with("visits to page 7: 1\n1 messages on "), "{said}");
    assert!(said.contains("all of them to their end"), "{said}");
}
