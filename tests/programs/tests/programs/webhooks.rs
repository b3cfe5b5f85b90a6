//! The example program `webhooks`, run as a user runs it, and killed.

use std::path::PathBuf;

use crate::example;
use crate::killed::{Killed, below, kills};

/// The number behind `what` in what a program said.
fn number(said: &str, before: &str) -> u64 {
    let rest = said.split(before).nth(1).unwrap_or_else(|| panic!("it says `{before}`: {said}"));
    rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|number| number.parse().ok()).expect("a number")
}

/// It ends with an error if an order has more answers than requests: then an outcome was counted
/// twice. See `exchange` for how to kill it more often.
#[test]
fn every_order_is_told_of_though_the_shop_is_killed() {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("webhooks");
    drop(std::fs::remove_dir_all(&directory));
    let (kills, mut random, mut placed) = (kills(), u64::from(std::process::id()), 0);
    for life in 0..kills {
        let mut program = example("webhooks");
        let mut killed = Killed::start(program.arg(&directory).arg("100"));
        let found = killed.line();
        assert!(number(&found, "found: ") >= placed, "life {life}, {placed} orders were placed: {found}");
        // In the last life at least all are placed.
        if life + 1 == kills || below(&mut random, 4) > 0 {
            assert_eq!(killed.line(), "placed: 100", "life {life}");
            placed = number(&found, "found: ") + 100;
        }
        killed.after(below(&mut random, 150_000));
    }
    let mut program = example("webhooks");
    let said = Killed::start(program.arg(&directory).arg("10")).ends_well();
    assert!(said.contains("all of them to their end"), "{said}");
    let (found, known) = (number(&said, "found: "), number(&said, "the service knows all "));
    assert!(found >= placed && known == found + 10, "{placed} were placed: {said}");
    // Each answer counts once, and each order has one at least.
    let (answers, requests) = (number(&said, "orders, by "), number(&said, "requests of this run: "));
    assert!(answers >= known && requests > 0, "{said}");
    std::fs::remove_dir_all(directory).expect("it is there");
}

#[test]
fn webhooks_without_a_directory_says_what_it_wants() {
    let output = example("webhooks").output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("webhooks DIRECTORY [ORDERS]"), "{output:?}");
}
