//! `docs/OPERATE.md` and the unit beside it say what is so: each warning of the code is in the
//! document, and systemd takes the unit.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::support::skip::skip;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What each `tracing::warn!` and `tracing::error!` of a source says: the last text of the call.
/// One that says something it was given, as `"{behind}"`, has no words of its own.
fn warnings(source: &str) -> Vec<String> {
    let calls = source.split("tracing::warn!(").flat_map(|piece| piece.split("tracing::error!(")).skip(1);
    let said = calls.filter_map(|call| {
        let (mut depth, mut text, mut said) = (1, None::<String>, None);
        let mut characters = call.chars();
        while let Some(character) = characters.next() {
            match (&mut text, character) {
                (Some(text), '\\') => text.extend(characters.next()),
                (Some(_), '"') => said = text.take(),
                (Some(text), character) => text.push(character),
                (None, '"') => text = Some(String::new()),
                (None, '(') => depth += 1,
                (None, ')') => depth -= 1,
                (None, _) => {}
            }
            if depth == 0 {
                break;
            }
        }
        said
    });
    said.filter(|said| !said.starts_with('{')).collect()
}

fn sources(folder: &Path, all: &mut String) {
    for entry in std::fs::read_dir(folder).expect("it can be read") {
        let path = entry.expect("it can be read to its end").path();
        if path.is_dir() {
            sources(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *all += &std::fs::read_to_string(&path).expect("it is text");
        }
    }
}

#[test]
fn warnings_are_found_with_their_words() {
    let source = "tracing::warn!(shard, took = f(x), \"a \\\"turn\\\" was slow\"); g(\"no\");\n\
                  tracing::error!(\n  a, \"b (c) d\"\n);\ntracing::warn!(\"{given}\")";
    assert_eq!(warnings(source), ["a \"turn\" was slow", "b (c) d"]);
}

#[test]
fn each_warning_is_in_the_document_and_no_other() {
    let mut all = String::new();
    sources(&root().join("src"), &mut all);
    sources(&root().join("shards/src"), &mut all);
    let page = read("docs/OPERATE.md");
    let section = page.split("\n## ").find(|section| section.starts_with("Warnings\n")).expect("a section");
    // What stands in braces is filled in when it is said, and documented as it is said.
    let said = |words: String| words.replace("{UNDER_WAY}", "under-way");
    let in_code: BTreeSet<String> = warnings(&all).into_iter().map(said).collect();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")).skip(1);
    let documented: BTreeSet<String> = rows
        .filter_map(|row| Some(row.split(" | ").next()?.to_owned()))
        .filter(|row| !row.starts_with('-'))
        .collect();
    let missing: Vec<_> = in_code.difference(&documented).collect();
    let gone: Vec<_> = documented.difference(&in_code).collect();
    assert!(missing.is_empty() && gone.is_empty(), "not in OPERATE.md: {missing:#?}; only there: {gone:#?}");
    assert!(in_code.len() > 20);
}

#[test]
fn systemd_takes_the_unit() {
    let directory = tempfile::tempdir().expect("there is a place");
    // Its programs are not installed here.
    let unit = read("docs/operate/bank.service");
    let programs = ["/usr/local/bin/freehold", "/usr/local/bin/bank"];
    assert!(programs.iter().all(|program| unit.contains(program)));
    let unit = programs.iter().fold(unit, |unit, program| unit.replace(program, "/bin/true"));
    let path = directory.path().join("bank.service");
    let verify = |unit: &str| {
        std::fs::write(&path, unit).expect("it can be written");
        Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output()
    };
    let Ok(output) = verify(&unit) else {
        return skip("systemd_takes_the_unit", "there is no `systemd-analyze`");
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !said.contains("bank.service"), "{said}");
    let wrong =
        verify(&unit.replace("LimitNOFILE=65536", "LimitNOFILES=65536")).expect("it ran a moment ago");
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("LimitNOFILES"), "a mistake is noticed");
}
