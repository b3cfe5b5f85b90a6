//! The example program `exchange`, run as a user runs it, and killed.

use std::path::PathBuf;

use crate::example;
use crate::killed::{Killed, below, kills};

/// A directory of its own, which is not there yet.
fn directory(name: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("exchange-{name}"));
    drop(std::fs::remove_dir_all(&directory));
    directory
}

/// What it says when it runs to its end.
fn run(directory: &PathBuf, orders: &str) -> String {
    let output = example("exchange").arg(directory).arg(orders).output().expect("it starts");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_exchange_goes_on_where_it_ended() {
    let directory = directory("goes-on");
    let first = run(&directory, "300");
    assert!(
        first.starts_with("found: 0 users, 0 shares traded by 0 orders, 0 offered: the books balance\n"),
        "{first}"
    );
    assert!(first.contains("all of them to their end"), "{first}");
    let left = first.lines().find_map(|line| line.strip_prefix("left: ")).expect("it says what it leaves");
    assert!(!left.starts_with("0 users, "), "{left}");
    assert!(!left.contains(" 0 shares traded"), "{left}");
    let second = run(&directory, "1");
    // An order whose time is over goes in between, and no trade does.
    let traded = |line: &str| line.split(", ").nth(1).map(str::to_owned);
    let found = second.lines().find_map(|line| line.strip_prefix("found: ")).expect("it says what it finds");
    assert_eq!(traded(found), traded(left), "{found}\n{left}");
    std::fs::remove_dir_all(directory).expect("it is there");
}

/// How many orders are in the books, as it says.
fn placed(found: &str) -> u64 {
    let number = found.split(" traded by ").nth(1).and_then(|rest| rest.split(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("it says how many: {found}"))
}

/// Its own audit fails if an order is torn or traded twice: then it says nothing.
///
/// `FREEHOLD_KILLS=100 cargo test --release -p freehold-programs --test programs killed` takes some
/// two minutes.
#[test]
fn the_books_balance_after_it_was_killed() {
    let directory = directory("killed");
    let (kills, mut random) = (kills(), u64::from(std::process::id()));
    let (mut answered, mut in_the_books) = (0, 0);
    for life in 0..=kills {
        let orders = if life < kills { "100000000" } else { "100" };
        let mut program = example("exchange");
        let mut killed = Killed::start(program.arg(&directory).arg(orders));
        let found = killed.line();
        assert!(found.starts_with("found: ") && found.ends_with("the books balance"), "life {life}: {found}");
        in_the_books = placed(&found);
        assert!(in_the_books >= answered, "life {life}: {answered} orders were taken before: {found}");
        if life == kills {
            killed.ends_well();
            break;
        }
        // At any moment: while it opens, while it trades.
        answered = in_the_books;
        for _ in 0..below(&mut random, 4) {
            let said = killed.line();
            let taken = said.strip_prefix("so far: ").and_then(|rest| rest.split(' ').next()?.parse().ok());
            let taken: u64 = taken.unwrap_or_else(|| panic!("it says how far it is: {said}"));
            answered = in_the_books + taken;
        }
        killed.after(below(&mut random, 100_000));
    }
    assert!(in_the_books > 0, "it was killed while it traded");
    std::fs::remove_dir_all(directory).expect("it is there");
}

#[test]
fn without_a_directory_it_says_what_it_wants() {
    let output = example("exchange").output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("exchange DIRECTORY [ORDERS]"), "{output:?}");
}
