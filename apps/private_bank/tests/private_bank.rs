//! `private_bank`, run as a user runs it: small.

use std::process::Command;

#[test]
fn every_payment_is_made_once_and_nobody_sees_what_is_not_his() {
    let output = Command::new(env!("CARGO_BIN_EXE_private_bank"))
        .args(["--wallets", "3", "--payments", "6"])
        .env("TMPDIR", env!("CARGO_TARGET_TMPDIR"))
        .output()
        .expect("it starts");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("18 payments of 3 wallets; the ledger was killed twice"), "{said}");
    assert!(said.contains(" times: exact"), "{said}");
    assert!(said.contains("the auditor's sums agree with the balances that the wallets read"), "{said}");
    let row = |party: &str| said.lines().find(|line| line.contains(party)).expect("a row").to_string();
    assert_eq!(row("wallet 2").matches("sealed").count(), 2, "{said}");
    assert_eq!(row("auditor ").matches("sealed").count(), 3, "{said}");
}
