//! `freehold doctor`: it says what the library says, and its exit status is for scripts.

use freehold::doctor::{Examination, examine};

use crate::freehold;

#[test]
fn it_says_what_the_library_says() {
    let place = tempfile::tempdir().expect("there is room");
    let (code, said, error) =
        freehold(&["doctor", "--directory", place.path().to_str().expect("it is text"), "--shards", "1"]);
    let examination =
        Examination { shards: Some(1), directory: Some(place.path().into()), ..Examination::default() };
    let diagnosis = examine(&examination);
    assert_eq!(code, Some(if diagnosis.passed() { 0 } else { 1 }), "{said}{error}");
    for check in &diagnosis.checks {
        assert!(said.contains(check.name), "{}: {said}", check.name);
    }
    let left = std::fs::read_dir(place.path()).expect("it is there").count();
    assert_eq!(left, 0, "nothing is left behind");
}

#[test]
fn it_fails_where_nothing_can_be_stored() {
    let (code, said, _) = freehold(&["doctor", "--directory", "/proc/none", "--shards", "1"]);
    assert!(code == Some(1) && said.contains("/proc/none"), "{said}");
}

#[test]
fn a_wrong_command_line_is_told_from_a_wrong_machine() {
    for arguments in [&["doctor", "--shards", "0"][..], &["doctor", "--shard", "1"], &["examine"], &[]] {
        let (code, _, error) = freehold(arguments);
        assert!(code == Some(2) && !error.is_empty(), "{arguments:?}: {error}");
    }
}
