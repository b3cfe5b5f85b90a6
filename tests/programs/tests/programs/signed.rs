//! The example program `signed`, run as a user runs it.

use crate::example;

#[test]
fn signed_writes_what_was_signed_and_nothing_else() {
    let output = example("signed").arg("100").output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains("a note of another: the signature is not this user's"), "{said}");
    assert!(said.contains("a note sent twice: the claim passed the gate: "), "{said}");
    assert!(said.contains("\n200 notes in "), "{said}");
}
