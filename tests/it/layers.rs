//! Imports go down only: a file names its own layer and those below it.
//!
//! Tests may name anything. A layer is a folder of a crate, or some files beside its `lib.rs`.
//! `docs/ARCHITECTURE.md` says what each is for.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The layers of a crate, a line each, the lowest first. Modules on one line know each other,
/// unless a `|` stands between them.
type Layers = &'static str;

const SHARDS: Layers = "
    counters fault in_place key object panics placement prefetch sync tally time
    epoch
    log | store
    actor
    transaction
    shard
    testing
";

const RUNTIME: Layers = "
    random
    fork
    spawn
    disk
    topology
    doctor
    error
    config
    action
    embedding
    log
    route
    stats
    transport
    core
    api
    gate
    typed
    runtime
";

#[test]
fn no_import_of_the_pure_crate_climbs() {
    check("shards/src", SHARDS);
}

#[test]
fn no_import_of_the_runtime_climbs() {
    check("src", RUNTIME);
}

/// Fails if an import climbs in the crate whose source is in `folder`, or if `layers` is not all of
/// that crate.
fn check(folder: &str, layers: Layers) {
    let mut files = Vec::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), "", &mut files);
    let wrong = climbing(&files, layers);
    assert!(wrong.is_empty(), "{folder}:\n{}", wrong.join("\n"));
    let found: BTreeSet<&str> = files.iter().map(|file| module(&file.path)).collect();
    for name in layers.split_whitespace().filter(|name| *name != "|") {
        assert!(found.contains(name), "{folder} has no module `{name}`: take it out of the layers");
    }
}

/// A file of a crate, by its path from the folder of the crate's source.
struct File {
    path: String,
    text: String,
}

/// Files that are in no layer: the root of a crate knows all of them, and tests may name anything.
const NO_LAYER: [&str; 3] = ["lib.rs", "tests.rs", "test_actor.rs"];

/// Reads every file of Rust below `folder` that is in a layer.
fn read(folder: &Path, below: &str, files: &mut Vec<File>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let entry = entry.expect("a folder can be read to its end");
        let name = entry.file_name().into_string().expect("a name in ASCII");
        let (at, path) = (entry.path(), format!("{below}{name}"));
        if at.is_dir() {
            read(&at, &format!("{path}/"), files);
        } else if name.ends_with(".rs") && !NO_LAYER.contains(&&*name) {
            files.push(File { path, text: fs::read_to_string(at).expect("it is text") });
        }
    }
}

/// The module at the root of the crate that a file belongs to.
fn module(path: &str) -> &str {
    path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
}

/// Where a module stands: in which line of the layers, and in which part of the line.
fn place(layers: Layers, module: &str) -> Option<(usize, usize)> {
    layers.lines().enumerate().find_map(|(line, names)| {
        let part = names.split('|').position(|part| part.split_whitespace().any(|name| name == module));
        part.map(|part| (line, part))
    })
}

/// What is wrong with the imports of `files`.
fn climbing(files: &[File], layers: Layers) -> Vec<String> {
    let mut wrong = Vec::new();
    for File { path, text } in files {
        let Some((line, part)) = place(layers, module(path)) else {
            wrong.push(format!("{path} is in no layer"));
            continue;
        };
        for name in imports(path, text) {
            match place(layers, name) {
                Some((other, at)) if other < line || (other, at) == (line, part) => {}
                Some(_) => wrong.push(format!("{path} imports {name}, which is not below {}", module(path))),
                None => wrong
                    .push(format!("{path} names {name} at the crate's root: name the module that has it")),
            }
        }
    }
    wrong
}

/// The modules at the root of the crate that a file names: behind each `crate::`, and behind each
/// chain of `super::` that is long enough to come to the root.
fn imports<'a>(path: &str, text: &'a str) -> BTreeSet<&'a str> {
    // How many modules are between the root and what stands here: of folders, of the file, and
    // inside of it.
    let of_file = path.trim_end_matches("/mod.rs").matches('/').count();
    let (mut braces, mut modules) = (0_usize, Vec::new());
    let (tokens, mut found) = (tokens(text), BTreeSet::new());
    let mut tests = usize::MAX;
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).map_or("", |before| tokens[before]);
        match *token {
            "{" => {
                braces += 1;
                if at >= 2 && tokens[at - 2] == "mod" {
                    modules.push(braces);
                    if before == "tests" {
                        tests = tests.min(braces);
                    }
                }
            }
            "}" => {
                modules.pop_if(|module| *module == braces);
                braces = braces.saturating_sub(1);
                if braces < tests {
                    tests = usize::MAX;
                }
            }
            _ if braces >= tests => {}
            // What a macro names by `$crate` is named where the macro is used.
            "crate" if before != "::" && before != "$" && tokens.get(at + 1) == Some(&"::") => {
                found.extend(first_names(&tokens[at + 2..]));
            }
            "super" if before != "::" => {
                let way = tokens[at..].chunks(2).take_while(|step| *step == ["super", "::"]).count();
                if way > of_file + modules.len() {
                    found.extend(first_names(&tokens[at + 2 * way..]));
                }
            }
            _ => {}
        }
    }
    found
}

/// The names that a path, or a group of paths in braces, begins with.
fn first_names<'a>(tokens: &[&'a str]) -> Vec<&'a str> {
    if tokens.first() != Some(&"{") {
        return tokens.first().copied().into_iter().collect();
    }
    let (mut braces, mut names) = (0, Vec::new());
    for two in tokens.windows(2) {
        braces += i32::from(two[0] == "{") - i32::from(two[0] == "}");
        if braces == 0 {
            break;
        }
        if braces == 1 && ["{", ","].contains(&two[0]) && two[1] != "}" {
            names.push(two[1]);
        }
    }
    names
}

/// The words and signs of a text, without comments, strings and characters.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_word = |char: char| char.is_alphanumeric() || char == '_';
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if let Some(length) = string(rest) {
            length
        } else if is_word(first) {
            let length = rest.find(|char| !is_word(char)).unwrap_or(rest.len());
            tokens.push(&rest[..length]);
            length
        } else {
            let length = if rest.starts_with("::") { 2 } else { first.len_utf8() };
            if !first.is_whitespace() {
                tokens.push(&rest[..length]);
            }
            length
        };
        rest = &rest[length..];
    }
    tokens
}

/// How long the string or character is that `text` begins with, if it begins with one.
fn string(text: &str) -> Option<usize> {
    let quoted = |from: usize, quote: char| {
        let mut is_escaped = false;
        let end = text[from..].char_indices().find(|(_, char)| {
            let ends = *char == quote && !is_escaped;
            is_escaped = *char == '\\' && !is_escaped;
            ends
        });
        end.map_or(text.len(), |(at, _)| from + at + 1)
    };
    let raw = text.strip_prefix("br").or_else(|| text.strip_prefix('r'));
    if let Some(behind) = raw.map(|raw| raw.trim_start_matches('#')).filter(|behind| behind.starts_with('"'))
    {
        let begin = text.len() - behind.len();
        let end = format!("\"{}", "#".repeat(text[..begin].matches('#').count()));
        return Some(behind[1..].find(&end).map_or(text.len(), |at| begin + 1 + at + end.len()));
    }
    let mut chars = text.chars();
    match (chars.next()?, chars.next(), chars.next()) {
        ('"', ..) => Some(quoted(1, '"')),
        ('b', Some('"'), _) => Some(quoted(2, '"')),
        // And not a lifetime.
        ('\'', Some('\\'), _) | ('\'', Some(_), Some('\'')) => Some(quoted(1, '\'')),
        _ => None,
    }
}

/// The layers of a crate that is made up.
const MADE_UP: Layers = "
    time object
    log | store
    shard
";

/// What is wrong in a crate that has this file and no other.
fn wrong(path: &str, text: &str) -> Vec<String> {
    climbing(&[File { path: path.to_string(), text: text.to_string() }], MADE_UP)
}

#[test]
fn an_import_that_climbs_is_found() {
    for (path, text) in [
        ("store/slot.rs", "use crate::shard::Shard;"),
        ("store/slot.rs", "use crate::{time::Time, shard};"),
        (
            "store/slot.rs",
            "pub(crate) use crate::{\n    time::{Time, Zone},\n    shard::{Shard, engine},\n};",
        ),
        ("store/slot.rs", "fn turn(shard: &mut crate::shard::Shard) {}"),
        ("store/slot.rs", "use super::super::shard::Shard;"),
        ("store/mod.rs", "use super::shard::Shard;"),
        ("time.rs", "use super::shard;"),
        ("time.rs", "mod zones {\n    use crate::log::Log;\n}"),
        ("time.rs", "mod tests {\n    use crate::shard;\n}\nuse crate::log::Log;"),
        ("time.rs", "mod zones {\n    mod inner {}\n    use super::super::log::Log;\n}"),
        ("store/slot.rs", "const TEXT: &str = \"it's\"; // said\nuse crate::shard::Shard;"),
        // Beside it, and not below.
        ("store/slot.rs", "use crate::log::Log;"),
        ("log/batch.rs", "use crate::store::slot::Slot;"),
        // By a name that the root gives it.
        ("store/slot.rs", "use crate::Shard;"),
        ("store/slot.rs", "use crate::*;"),
        ("strange.rs", ""),
    ] {
        assert_eq!(wrong(path, text).len(), 1, "{path}: {text}: {:?}", wrong(path, text));
    }
}

#[test]
fn an_import_that_goes_down_is_right() {
    for (path, text) in [
        ("shard/mod.rs", "use crate::{log::Log, shard::engine::Engine, store::{Slot, index}, time::Time};"),
        (
            "store/slot.rs",
            "use super::index;\nmod chunk {\n    use super::super::index;\n    use super::*;\n}",
        ),
        ("store/mod.rs", "mod shard {}\nuse crate::store::index;"),
        ("time.rs", "#[cfg(test)]\nmod tests {\n    mod inner {}\n    use crate::shard::Shard;\n}"),
        ("time.rs", "use crate::object::Id;\nmod zones {\n    use super::*;\n}"),
        ("time.rs", "macro_rules! time {\n    () => {\n        $crate::shard::Shard\n    };\n}"),
        (
            "object.rs",
            "// use crate::shard;\n/* crate::shard::Shard */\n/// [`Shard`](crate::Shard)\npub(crate) fn id() {}",
        ),
        (
            "object.rs",
            "fn id<'a>() -> [&'a str; 3] { [\"crate::shard\", r#\"\"crate::shard\"#, \"\\\"crate::shard\"] }",
        ),
    ] {
        assert_eq!(wrong(path, text), Vec::<String>::new(), "{path}: {text}");
    }
}
