//! `private_bank`, run as a user runs it: small.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use freehold_private::{AuditorSecret, Secret, Terms, Wallet};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sends a frame, and says which kind of answer comes.
fn ask(stream: &mut UnixStream, kind: u8, bytes: &[u8]) -> u8 {
    let length = (bytes.len() + 1) as u32;
    stream.write_all(&[&length.to_le_bytes()[..], &[kind], bytes].concat()).expect("it is read");
    let mut head = [0; 4];
    stream.read_exact(&mut head).expect("it answers");
    let mut answer = vec![0; u32::from_le_bytes(head) as usize];
    stream.read_exact(&mut answer).expect("all of it");
    answer[0]
}

/// A ledger's process. It ends with the test, also with one that fails.
struct Ledger(Child);

impl Drop for Ledger {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).expect("it is a child");
    }
}

// Anybody who could connect could deposit, and so make money.
#[test]
fn only_the_operator_deposits() {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a place");
    let path = |name: &str| place.path().join(name).display().to_string();
    let (auditor, secret) = (AuditorSecret::random().public(), Secret::random());
    let owner = secret.public();
    let wallet = Wallet::new(Terms::new([7; 32], auditor).expect("it is a key"), 1, secret);
    let terms = format!("{}:{}", hex(&[7; 32]), hex(&auditor.to_bytes()));
    let ledger = Command::new(env!("CARGO_BIN_EXE_private_bank"))
        .args(["ledger", &path("log"), &path("socket"), &terms, "1"])
        .stdin(Stdio::piped())
        .spawn();
    let mut ledger = Ledger(ledger.expect("it starts"));
    let teller = [5; 16];
    writeln!(ledger.0.stdin.as_mut().expect("it was asked for"), "{}", hex(&teller)).expect("it is read");
    let mut stream = loop {
        assert!(ledger.0.try_wait().expect("it is a child").is_none(), "it ended");
        match UnixStream::connect(path("socket")) {
            Ok(stream) => break stream,
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(5)),
        }
    };
    let deposit =
        |teller: &[u8]| [teller, &1_u64.to_le_bytes(), &100_u64.to_le_bytes(), &owner.to_bytes()].concat();
    const CLAIM: u8 = 0;
    const DEPOSIT: u8 = 2;
    const DONE: u8 = 0;
    const REFUSED: u8 = 1;
    assert_eq!(ask(&mut stream, CLAIM, &wallet.open().to_bytes()), DONE, "the account is there");
    for other in [&[][..], &[4; 16], &teller[..15]] {
        assert_eq!(ask(&mut stream, DEPOSIT, &deposit(other)), REFUSED, "{other:?}");
    }
    assert_eq!(ask(&mut stream, DEPOSIT, &deposit(&teller)), DONE);
}

/// Runs it with these arguments, and gives what it says.
fn run(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_private_bank"))
        .args(arguments)
        .env("TMPDIR", env!("CARGO_TARGET_TMPDIR"))
        .output()
        .expect("it starts");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains(" times: exact"), "{said}");
    assert!(said.contains("the auditor's sums agree with the balances that the wallets read"), "{said}");
    said
}

#[test]
fn every_payment_is_made_once_and_nobody_sees_what_is_not_his() {
    let said = run(&["--wallets", "3", "--payments", "6"]);
    assert!(said.contains("18 payments of 3 wallets; the ledger was killed twice"), "{said}");
    // 1 to 6, 2 to 7 and 3 to 8.
    assert!(said.contains("the auditor's total is 81: exact"), "{said}");
    let row = |party: &str| said.lines().find(|line| line.contains(party)).expect("a row").to_string();
    assert_eq!(row("wallet 2").matches("sealed").count(), 2, "{said}");
    assert_eq!(row("auditor ").matches("sealed").count(), 3, "{said}");
}

/// Eight here; by hand hundreds: `FREEHOLD_KILLS=100 cargo test --release -p private_bank`.
#[test]
fn every_payment_is_made_once_though_the_ledger_is_killed_at_any_moment() {
    let kills = std::env::var("FREEHOLD_KILLS").unwrap_or_else(|_| "8".to_string());
    let said = run(&["--wallets", "3", "--payments", &kills, "--kills", &kills, "--seed", "7"]);
    assert!(said.contains(&format!("the ledger was killed {kills} times (seed 7)")), "{said}");
}
