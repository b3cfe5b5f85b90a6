//! The example program `webhooks`, run as a user runs it, and killed.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

use crate::example;

/// The number behind `what` in what a program said.
fn number(said: &str, before: &str) -> u64 {
    let rest = said.split(before).nth(1).unwrap_or_else(|| panic!("it says `{before}`: {said}"));
    rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn every_order_is_told_of_though_the_shop_is_killed() {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("webhooks");
    drop(std::fs::remove_dir_all(&directory));
    let mut killed =
        example("webhooks").arg(&directory).arg("1000").stdout(Stdio::piped()).spawn().expect("it starts");
    let said = BufReader::new(killed.stdout.take().expect("it is piped")).lines();
    let mut said = said.map(|line| line.expect("it is text"));
    assert_eq!(said.next().as_deref(), Some("found: 0 orders, and the service knows 0"));
    assert_eq!(said.next().as_deref(), Some("placed: 1000"));
    // They are on disk, and the service has heard of some.
    killed.kill().expect("it runs");
    killed.wait().expect("it ends");

    let output = example("webhooks").arg(&directory).arg("10").output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.starts_with("found: 1000 orders, "), "{said}");
    assert!(said.contains("the service knows all 1010 orders, "), "{said}");
    assert!(said.contains("all of them to their end"), "{said}");
    // Each answer counts once. An answer that came as the first run was killed may be lost.
    let (answers, requests) = (number(&said, "orders, by "), number(&said, "requests of this run: "));
    assert!((1010..=3000).contains(&answers) && requests > 0, "{said}");
    std::fs::remove_dir_all(directory).expect("it is there");
}

#[test]
fn webhooks_without_a_directory_says_what_it_wants() {
    let output = example("webhooks").output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("webhooks DIRECTORY [ORDERS]"), "{output:?}");
}
