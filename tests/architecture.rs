//! `docs/ARCHITECTURE.md` names every file of the repository's source once, and none that does not exist.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where every file has to be named.
const FOLDERS: [&str; 9] =
    ["src", "shards", "models", "workloads", "peers", "examples", "benches", "tests", "docs"];

/// Files that say what they are by their name, and the page itself.
const UNNAMED: [&str; 3] = ["Cargo.toml", "Cargo.lock", "docs/ARCHITECTURE.md"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What the section `## Files` has in backticks that looks like the path of a file, in its tables' first columns, its lists and its prose. What stands
/// in a table's other columns explains, and may mention another file.
fn named(page: &str) -> Vec<&str> {
    let section =
        page.split("\n## ").find(|section| section.starts_with("Files\n")).expect("a section `## Files`");
    let claims = section.lines().map(|line| match line.strip_prefix('|') {
        Some(row) => row.split('|').next().unwrap_or_default(),
        None => line,
    });
    let spans = claims.flat_map(|line| line.split('`').skip(1).step_by(2));
    spans.filter(|span| span.contains('/') && !span.ends_with('/') && !span.contains(' ')).collect()
}

/// Every file below `folder`, by its path from the root.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let entry = entry.expect("a folder can be read to its end");
        let name = entry.file_name();
        // `formats` holds what earlier versions wrote.
        if name.to_string_lossy().starts_with('.') || name == "target" || name == "formats" {
            continue;
        }
        match entry.file_type().expect("an entry has a type").is_dir() {
            true => files(&entry.path(), found),
            false => {
                found.push(entry.path().strip_prefix(root()).expect("it is below the root").to_path_buf())
            }
        }
    }
}

#[test]
fn every_file_is_named_once() {
    let page = std::fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("the page exists");
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    named(&page).into_iter().for_each(|path| *times.entry(path).or_default() += 1);
    let mut found = Vec::new();
    FOLDERS.iter().for_each(|folder| files(&root().join(folder), &mut found));

    let mut wrong = Vec::new();
    for path in &found {
        let path = path.to_str().expect("a path in ASCII");
        if UNNAMED.iter().any(|unnamed| path == *unnamed || path.ends_with(&format!("/{unnamed}"))) {
            continue;
        }
        match times.get(path) {
            None => wrong.push(format!("{path} is not named")),
            Some(1) => {}
            Some(times) => wrong.push(format!("{path} is named {times} times")),
        }
    }
    for path in times.keys() {
        if !root().join(path).is_file() {
            wrong.push(format!("{path} is named and does not exist"));
        }
    }
    assert!(found.len() > 40, "the folders were looked through");
    assert!(wrong.is_empty(), "docs/ARCHITECTURE.md, section Files:\n{}", wrong.join("\n"));
}
