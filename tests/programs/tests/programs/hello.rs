//! The example program `hello`, run as a user runs it.

use crate::example;

#[test]
fn hello_counts_one_visit() {
    let output = example("hello").output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.starts_with("visits to page 7: 1\n1 messages on "), "{said}");
    assert!(said.contains("all of them to their end"), "{said}");
}
