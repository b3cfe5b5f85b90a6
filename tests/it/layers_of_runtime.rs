//! Imports of the runtime's crate go down only: `src/` is made of layers, and a file names its own
//! layer or a lower one.
//!
//! A layer is a file or a folder of `src/`. Tests and comments may name anything.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// From the bottom to the top. No two of them can need each other, as each may only name those
/// before it.
const LAYERS: [&str; 13] = [
    "random",
    "fork",
    "disk",
    "topology",
    "doctor",
    "error",
    "config",
    "log",
    "stats",
    "transport",
    "core",
    "api",
    "runtime",
];

/// Imports that climb all the same: the file, what it names, and why that stays.
const EXCEPTIONS: [(&str, &str, &str); 0] = [];

/// Files that are no part of a layer: the crate's root, and tests.
const NO_LAYER: [&str; 3] = ["lib.rs", "tests.rs", "test_actor.rs"];

/// An import that climbs: the layer of the file, and the first word of the path.
type Climb = (String, String);

/// Everything in `text` but comments and the tests at its end.
fn without_comments_and_tests(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The first word of every path that begins with `crate::`, and of every path of a group behind it.
fn named_from_the_root(code: &str) -> BTreeSet<String> {
    let word = |path: &str| -> String {
        path.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
    };
    let mut words = BTreeSet::new();
    for (at, found) in code.match_indices("crate::") {
        let path = code[at + found.len()..].trim_start();
        let Some(group) = path.strip_prefix('{') else {
            words.insert(word(path));
            continue;
        };
        let (mut depth, mut begins) = (1, 0);
        for (at, letter) in group.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 || depth == 1 && letter == ',' {
                words.insert(word(&group[begins..at]));
                begins = at + 1;
            }
            if depth == 0 {
                break;
            }
        }
    }
    words.remove("");
    words
}

/// What climbs in a file of `layer`. A name that is no layer is one that the crate's root gives
/// out, and so of the top.
fn climbs(layers: &[&str], layer: &str, text: &str) -> Vec<Climb> {
    let height = |name: &str| layers.iter().position(|layer| *layer == name);
    let own = height(layer).unwrap_or_else(|| panic!("`{layer}` is in no layer: give it its place"));
    let named = named_from_the_root(&without_comments_and_tests(text));
    let climbs = named.into_iter().filter(|name| height(name).is_none_or(|other| other > own));
    climbs.map(|name| (layer.to_string(), name)).collect()
}

/// Every file of Rust below `folder`.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("a folder can be read to its end").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// What climbs in the crate in this directory, by file, without the exceptions. An exception that
/// is not needed is wrong, too.
fn wrong(crate_directory: &Path, layers: &[&str], exceptions: &[(&str, &str, &str)]) -> Vec<String> {
    let source = crate_directory.join("src");
    let (mut found, mut wrong) = (Vec::new(), Vec::new());
    files(&source, &mut found);
    assert!(found.len() > layers.len(), "the files were looked through: {found:?}");
    let mut unused: Vec<_> = exceptions.to_vec();
    for path in found.iter().filter(|path| !NO_LAYER.iter().any(|name| path.ends_with(name))) {
        let path = path.strip_prefix(&source).expect("it is below");
        let layer = path.iter().next().and_then(|first| Path::new(first).file_stem()?.to_str());
        let text = std::fs::read_to_string(source.join(path)).expect("it is text");
        for (layer, name) in climbs(layers, layer.expect("a name in ASCII"), &text) {
            let before = unused.len();
            unused.retain(|(file, named, _)| !(path.ends_with(file) && *named == name));
            if unused.len() == before {
                wrong.push(format!("src/{}: `{layer}` is below `{name}`", path.display()));
            }
        }
    }
    wrong
        .extend(unused.iter().map(|(file, named, _)| format!("src/{file} does not name `{named}` any more")));
    wrong
}

#[test]
fn imports_go_down_only() {
    let wrong = wrong(Path::new(env!("CARGO_MANIFEST_DIR")), &LAYERS, &EXCEPTIONS);
    assert!(wrong.is_empty(), "docs/ARCHITECTURE.md, section Files, has the layers:\n{}", wrong.join("\n"));
}

#[test]
fn an_import_that_climbs_is_found() {
    let source = "
        use crate::ground::{Ground, Other};
        use crate::{ground, middle::{self, Middle}, top::Top};
        // use crate::comment::Comment;
        pub(crate) fn f() -> crate::Root {
            crate::peak::work()
        }
        #[cfg(test)]\nmod tests {
            use crate::api::Api;
        }
    ";
    let found = climbs(&["ground", "middle", "top", "peak", "api"], "middle", source);
    let names: Vec<_> = found.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(names, ["Root", "peak", "top"]);
    assert!(climbs(&["ground", "middle"], "middle", "use crate::{ground::A, middle};").is_empty());
}
