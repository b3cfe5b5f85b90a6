//! The example program `exchange`, run as a user runs it, and killed.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use crate::example;

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
    assert!(first.starts_with("found: 0 users, 0 shares traded, 0 offered: the books balance\n"), "{first}");
    assert!(first.contains("all of them to their end"), "{first}");
    let left = first.lines().find_map(|line| line.strip_prefix("left: ")).expect("it says what it leaves");
    assert!(left.starts_with("1000 users, "), "{left}");
    assert!(!left.contains(" 0 shares traded"), "{left}");
    let second = run(&directory, "1");
    // An order whose time is over goes in between, and no trade does.
    let traded = |line: &str| line.split(", ").nth(1).map(str::to_owned);
    let found = second.lines().find_map(|line| line.strip_prefix("found: ")).expect("it says what it finds");
    assert_eq!(traded(found), traded(left), "{found}\n{left}");
    std::fs::remove_dir_all(directory).expect("it is there");
}

/// Its own audit fails if an order is torn: then it does not end well.
#[test]
fn the_books_balance_after_it_was_killed() {
    let directory = directory("killed");
    for orders in ["1000000", "1000000", "100"] {
        let mut killed = example("exchange")
            .arg(&directory)
            .arg(orders)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut said = BufReader::new(killed.stdout.take().expect("it is piped")).lines();
        let found = said.next().expect("it says what it finds").expect("it is text");
        assert!(found.starts_with("found: ") && found.ends_with("the books balance"), "{found}");
        if orders == "100" {
            assert!(!found.contains(" 0 shares traded"), "it was killed while it traded: {found}");
            assert!(killed.wait().expect("it ends").success());
        } else {
            std::thread::sleep(Duration::from_millis(700));
            killed.kill().expect("it runs");
            killed.wait().expect("it ends");
        }
    }
    std::fs::remove_dir_all(directory).expect("it is there");
}

#[test]
fn without_a_directory_it_says_what_it_wants() {
    let output = example("exchange").output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("exchange DIRECTORY [ORDERS]"), "{output:?}");
}
