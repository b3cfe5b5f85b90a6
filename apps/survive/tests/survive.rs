//! `survive`, run as a user runs it: what was acknowledged outlives kills at any moment, and what
//! is not so is found.
//!
//! `FREEHOLD_KILLS=5000 cargo test --release -p survive` takes a few minutes.

#[path = "../src/check.rs"]
mod check;
#[path = "../src/ledger.rs"]
#[allow(dead_code, reason = "of the actor only what an account notes")]
mod ledger;

use std::collections::BTreeMap;
use std::process::Command;

use tempfile::TempDir;

use crate::check::{Acknowledged, Books, Losses, Wrong, as_text};
use crate::ledger::{Account, LIFE_BITS, Payment};

const KILLS: u64 = 200;

/// Runs it with a log of its own, and gives its status and what it said.
fn survive(arguments: &str) -> (Option<i32>, String) {
    let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_survive"))
        .args(arguments.split_whitespace())
        .arg("--data")
        .arg(directory.path())
        .output()
        .expect("it starts");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(2) {
        // For whoever looks into it.
        let _ = directory.keep();
    }
    (output.status.code(), said)
}

fn number(said: &str, word: &str) -> u64 {
    let line = said.lines().find(|line| line.trim_start().starts_with(word));
    let line = line.unwrap_or_else(|| panic!("no line begins with {word}:\n{said}"));
    let number = line.split_whitespace().nth(1).expect("a number follows");
    number.replace([',', ':'], "").parse().expect("it is a number")
}

/// The sum of a column of the table, from 0.
fn column(said: &str, at: usize) -> u64 {
    let rows = said.lines().filter(|line| line.starts_with('│')).skip(1);
    let cell = |row: &str| row.trim_matches('│').split_whitespace().nth(at).expect("a cell").replace(',', "");
    rows.map(|row| cell(row).parse::<u64>().expect("it is a number")).sum()
}

#[test]
fn nothing_acknowledged_is_lost_torn_or_made_twice() {
    let kills = std::env::var("FREEHOLD_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number"));
    let seed = std::process::id();
    let (status, said) = survive(&format!("--kills {kills} --seed {seed}"));
    assert_eq!(status, Some(0), "with seed {seed}: {said}");
    assert!(said.contains("survived: every acknowledged payment is there"), "{said}");
    assert_eq!((number(&said, "kills"), number(&said, "lost")), (kills, 0));
    assert_eq!(number(&said, "kept"), number(&said, "acknowledged"));
    assert!(number(&said, "acknowledged") > 20 * kills, "so few mean little: {said}");
    let [lives, early, late, owed, checkpoints] = [1, 2, 3, 5, 6].map(|at| column(&said, at));
    assert_eq!((lives, early + late), (kills + 1, kills), "{said}");
    assert!(early > 0 && owed > 0 && checkpoints > 0, "there was no such thing to survive: {said}");
}

#[test]
fn what_does_not_wait_for_the_disk_may_be_lost_but_only_the_last_of_it() {
    let (status, said) = survive("--kills 20 --ack applied");
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(number(&said, "kept") + number(&said, "lost"), number(&said, "acknowledged"), "{said}");
}

// A check that finds nothing wrong says something only if it would.
#[test]
fn what_is_called_durable_and_is_not_is_found() {
    let (status, said) = survive("--kills 100 --pretend");
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("was acknowledged and is lost") && said.contains("NOT SURVIVED"), "{said}");
}

const ACCOUNTS: u64 = 10;
const SEED: u64 = 3;

/// What accounts say after these payments.
fn after(numbers: &[u64]) -> BTreeMap<u64, Account> {
    let mut all = BTreeMap::<u64, Account>::new();
    for &number in numbers {
        let Payment { from, to, amount, .. } = Payment::numbered(SEED, number, ACCOUNTS, 0);
        let payer = all.entry(from).or_default();
        payer.balance -= amount;
        payer.paid.push(number);
        let payee = all.entry(to).or_default();
        payee.balance += amount;
        payee.got.push(number);
    }
    all
}

/// What is wrong with accounts after a first life whose payments 0 to 4 are there, by the books of
/// somebody who was told of 0 to 3.
fn wrong(losses: Losses, spoil: impl FnOnce(&mut BTreeMap<u64, Account>)) -> Vec<Wrong> {
    let mut books = Books::new(SEED, ACCOUNTS, losses);
    books.acknowledge((0..4).map(|number| Acknowledged { number, next: number + 2 }));
    let mut found = after(&[0, 1, 2, 3, 4]);
    spoil(&mut found);
    books.check(&found, 0, 1 << LIFE_BITS).wrong
}

#[test]
fn the_check_finds_what_is_wrong() {
    let of = |number| Payment::numbered(SEED, number, ACCOUNTS, 0);
    let forget = |numbers: &mut Vec<u64>, number| numbers.retain(|other| *other != number);
    let (from, to) = (of(2).from, of(2).to);
    assert_eq!(wrong(Losses::Nothing, |_| {}), []);
    assert_eq!(wrong(Losses::Nothing, |found| *found = after(&[0, 1, 3, 4])), [Wrong::Lost(2)]);
    assert_eq!(wrong(Losses::TheLast, |found| *found = after(&[0, 1])), [], "the last may be lost");
    assert_eq!(
        wrong(Losses::TheLast, |found| *found = after(&[0, 1, 3])),
        [],
        "they were under way at the same time"
    );
    assert_eq!(
        wrong(Losses::TheLast, |found| *found = after(&[0, 1, 4])),
        [Wrong::Hole { lost: 2, there: 4 }]
    );
    let torn = wrong(Losses::Nothing, |found| {
        let payee = found.get_mut(&to).expect("it was paid");
        payee.balance -= of(2).amount;
        forget(&mut payee.got, 2);
    });
    assert_eq!(torn, [Wrong::Torn(2), Wrong::Sum(-of(2).amount)]);
    let twice = wrong(Losses::Nothing, |found| {
        found.get_mut(&from).expect("it paid").paid.push(2);
        found.get_mut(&from).expect("it paid").balance -= of(2).amount;
        found.get_mut(&to).expect("it was paid").got.push(2);
        found.get_mut(&to).expect("it was paid").balance += of(2).amount;
    });
    assert_eq!(twice, [Wrong::Twice(2)]);
    let coin = wrong(Losses::Nothing, |found| found.get_mut(&to).expect("it was paid").balance += 1);
    assert!(matches!(coin[..], [Wrong::Balance { .. }, Wrong::Sum(1)]), "{coin:?}");
    let strange =
        wrong(Losses::Nothing, |found| found.get_mut(&from).expect("it paid").got.push(7 << LIFE_BITS));
    assert_eq!(strange, [Wrong::Strange { account: from, number: 7 << LIFE_BITS }]);
    assert_eq!(strange[0].to_string(), format!("account {from} knows of payment 7-0, and cannot"));
    assert_eq!(as_text((7 << LIFE_BITS) + 5), "7-5");
}

#[test]
fn what_was_checked_once_must_stay() {
    let mut books = Books::new(SEED, ACCOUNTS, Losses::TheLast);
    let first = after(&[0, 1, 2]);
    assert_eq!(books.check(&first, 0, 1 << LIFE_BITS).wrong, []);
    let mut later = first.clone();
    for account in later.values_mut() {
        account.paid.clear();
        account.got.clear();
    }
    assert_eq!(books.check(&later, 1 << LIFE_BITS, 2 << LIFE_BITS).wrong, []);
    let gone = *first.keys().next().expect("there are accounts");
    later.remove(&gone);
    let wrong = books.check(&later, 2 << LIFE_BITS, 3 << LIFE_BITS).wrong;
    assert!(
        wrong.contains(&Wrong::Balance { account: gone, holds: 0, must: first[&gone].balance }),
        "{wrong:?}"
    );
}
