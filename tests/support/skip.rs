//! A test that cannot run on this machine says so, and is green. With `FREEHOLD_REQUIRE_ALL=1` it
//! fails instead, so that a test which runs nowhere is noticed. `FREEHOLD_REQUIRE` names what is
//! there: for want of that no test skips itself. `.ci/run` names what it has installed.

use std::io::Write;

/// Set to 1, it makes a failure of every skip.
pub const REQUIRE_ALL: &str = "FREEHOLD_REQUIRE_ALL";

/// Programs that this machine has, with spaces between.
pub const REQUIRE: &str = "FREEHOLD_REQUIRE";

/// Says why a test, or a part of it, does not run here: past the harness, which keeps what a test
/// that passes prints.
///
/// # Panics
/// If all must run, or those that need what `why` names.
#[track_caller]
pub fn skip(test: &str, why: &str) {
    let why = why.trim();
    let is_set = |name: &str, forbids: &dyn Fn(&str) -> bool| {
        let is_so = std::env::var(name).is_ok_and(|value| forbids(&value));
        assert!(!is_so, "{test}: {name} is set, and {why}");
    };
    is_set(REQUIRE_ALL, &is_forbidden);
    is_set(REQUIRE, &|names| is_required(names, why));
    let _ = writeln!(std::io::stderr(), "\n{test}: SKIPPED: {why}");
}

/// Whether this value of [`REQUIRE_ALL`] forbids to skip.
pub fn is_forbidden(value: &str) -> bool {
    !matches!(value, "" | "0")
}

/// Whether one of these names is in the reason of a skip.
pub fn is_required(names: &str, why: &str) -> bool {
    names.split_whitespace().any(|name| why.contains(name))
}
