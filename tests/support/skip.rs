//! A test that cannot run on this machine says so, and is green. With `FREEHOLD_REQUIRE_ALL=1` it
//! fails instead, so that a test which runs nowhere is noticed.

use std::io::Write;

/// Set to 1, it makes a failure of every skip.
pub const REQUIRE_ALL: &str = "FREEHOLD_REQUIRE_ALL";

/// Says why a test, or a part of it, does not run here: past the harness, which keeps what a test
/// that passes prints.
///
/// # Panics
/// If all must run.
#[track_caller]
pub fn skip(test: &str, why: &str) {
    let why = why.trim();
    assert!(
        !is_forbidden(std::env::var(REQUIRE_ALL).ok().as_deref()),
        "{test}: {REQUIRE_ALL} is set, and {why}"
    );
    let _ = writeln!(std::io::stderr(), "\n{test}: SKIPPED: {why}");
}

/// Whether this value of [`REQUIRE_ALL`] forbids to skip.
pub fn is_forbidden(value: Option<&str>) -> bool {
    value.is_some_and(|value| !matches!(value, "" | "0"))
}
