//! The example program `world`, run as a user runs it.

use crate::example;

/// Its own checks fail if an entity is lost, or in two regions in one snapshot.
#[test]
fn the_world_lives_until_it_has_eaten() {
    let output = example("world").args(["2000", "500"]).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && output.stderr.is_empty(), "nothing failed: {output:?}");
    assert!(said.starts_with("2000 entities, "), "{said}");
    let last = said.lines().rfind(|line| line.contains(" meals, ")).expect("it says what it counts");
    assert!(!last.contains(" 0 bells heard"), "{said}");
    assert!(said.contains("all of them to their end"), "{said}");
    assert!(said.contains(", and in the last of them 2000 entities"), "{said}");
}
