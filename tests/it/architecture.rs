//! `docs/ARCHITECTURE.md` names every folder of the repository's source, and no path that does not
//! exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Where the source is.
const ROOTS: [&str; 15] = [
    "src",
    "shards",
    "models",
    "workloads",
    "peers",
    "cli",
    "metrics",
    "private",
    "replica",
    "apps",
    "bench",
    "examples",
    "benches",
    "tests",
    "fuzz",
];

/// Folders that belong to one that is named: a package's own, and those that hold no source.
const UNNAMED: [&str; 3] = ["target", "formats", "made_up"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What the section `## Files` has in backticks that looks like a path.
fn named(page: &str) -> BTreeSet<&str> {
    let section =
        page.split("\n## ").find(|section| section.starts_with("Files\n")).expect("a section `## Files`");
    let spans = section.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    spans.filter(|span| span.contains('/') && !span.contains(' ')).collect()
}

/// Every folder below `folder` that holds a file of Rust, by its path from the root.
fn folders(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let entry = entry.expect("a folder can be read to its end");
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && !UNNAMED.iter().any(|unnamed| name == *unnamed) {
            folders(&path, found);
        }
        if path.extension().is_some_and(|extension| extension == "rs") {
            let folder = folder.strip_prefix(root()).expect("it is below the root").to_path_buf();
            if !found.contains(&folder) {
                found.push(folder);
            }
        }
    }
}

#[test]
fn every_folder_is_named() {
    let page = std::fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("the page exists");
    let named = named(&page);
    let mut found = Vec::new();
    ROOTS.iter().for_each(|folder| folders(&root().join(folder), &mut found));

    let mut wrong = Vec::new();
    for folder in &found {
        let folder = folder.to_str().expect("a path in ASCII");
        let is_of_a_crate = folder.starts_with("src") || folder.starts_with("shards/src");
        let is_named = if is_of_a_crate {
            named.iter().any(|path| path.starts_with(&format!("{folder}/")))
        } else {
            // By itself, or with all that belongs to the same package.
            Path::new(folder).ancestors().any(|above| named.contains(&*format!("{}/", above.display())))
        };
        if !is_named {
            wrong.push(format!("{folder} is not named"));
        }
    }
    for path in named {
        if !root().join(path).exists() {
            wrong.push(format!("{path} is named and does not exist"));
        }
    }
    assert!(found.len() > 20, "the folders were looked through: {found:?}");
    assert!(wrong.is_empty(), "docs/ARCHITECTURE.md, section Files:\n{}", wrong.join("\n"));
}

/// What opens, makes, renames or removes a file by its path.
const BY_PATH: [&str; 6] =
    ["File::open(", "File::options(", "File::create", "use std::fs;", "std::fs::{self", "std::fs::re"];

/// By its path another file may be found than the one in the directory that is locked: the
/// directory was moved, say, and another is in its place. So only `src/disk/directory.rs` opens,
/// makes, renames or removes files of a log, by the directory's descriptor.
#[test]
fn no_file_of_a_log_is_opened_by_its_path() {
    let mut looked_at = 0;
    for folder in ["src/log", "src/disk", "src/core", "src/runtime"] {
        for entry in std::fs::read_dir(root().join(folder)).expect("the folder exists") {
            let path = entry.expect("a folder can be read to its end").path();
            if path.ends_with("directory.rs") || path.ends_with("tests.rs") {
                continue;
            }
            if path.is_dir() {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("it is text");
            looked_at += 1;
            let is_by_path = |line: &&str| {
                let is_word = |at: usize| !line[..at].ends_with(|before: char| before.is_alphanumeric());
                let is_used = |what: &str| line.match_indices(what).any(|(at, _)| is_word(at));
                !line.trim_start().starts_with("//") && BY_PATH.iter().any(|what| is_used(what))
            };
            let found = text.lines().find(is_by_path);
            assert!(found.is_none(), "{}: {found:?}", path.display());
        }
    }
    assert!(looked_at > 8);
}

/// The names in the table of the section `## Invariants`.
fn invariants(page: &str) -> BTreeSet<&str> {
    let section = page
        .split("\n## ")
        .find(|section| section.starts_with("Invariants\n"))
        .expect("a section `## Invariants`");
    section.lines().filter_map(|line| line.strip_prefix("| *")?.split('*').next()).collect()
}

/// The names at the start of assertion messages in `text`: words in lower case that hyphens join,
/// and a colon.
fn asserted(text: &str) -> BTreeSet<&str> {
    let begins = |string: &&str| {
        let name = string.split(':').next().unwrap_or("");
        string.len() > name.len()
            && name.contains('-')
            && name
                .split('-')
                .all(|word| !word.is_empty() && word.chars().all(|letter| letter.is_ascii_lowercase()))
    };
    let strings = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let strings = strings.flat_map(|line| line.split('"').skip(1).step_by(2));
    strings.filter(begins).map(|string| string.split(':').next().expect("there is a first")).collect()
}

/// All source below `folder`.
fn source(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).expect("the folder exists") {
        let path = entry.expect("a folder can be read to its end").path();
        if path.is_dir() {
            source(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&std::fs::read_to_string(&path).expect("it is text"));
        }
    }
}

/// The page says that assertions quote the names of invariants: 6 of 21 did.
#[test]
fn each_invariant_is_asserted() {
    let made_up = "// \"not-this: one\"\nassert!(true, \"this-one: {x}\"); let y = \"a: b\"; \"no-name\"";
    assert_eq!(asserted(made_up), BTreeSet::from(["this-one"]));

    let page = std::fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("the page exists");
    let (named, mut text) = (invariants(&page), String::new());
    ["src", "shards/src", "models/src"].iter().for_each(|folder| source(&root().join(folder), &mut text));
    let asserted = asserted(&text);
    assert!(named.len() > 20, "the table was found: {named:?}");
    let missing: Vec<_> = named.difference(&asserted).collect();
    assert!(
        missing.is_empty(),
        "in the table of docs/ARCHITECTURE.md, and no assertion quotes it: {missing:?}"
    );
    let unknown: Vec<_> = asserted.difference(&named).collect();
    assert!(unknown.is_empty(), "quoted by an assertion, and not in the table: {unknown:?}");
}
