//! The habits that no compiler keeps, over every file of the repository: how wide prose is, how
//! long a function is, why a lint is allowed, and that a name means one thing.
//!
//! A list of exceptions only shrinks: an entry that is no longer needed fails the test, too. Each
//! check is tried on a made-up source first, so a check that finds nothing is one that looked.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

mod booleans;
mod sentences;

/// Columns of prose: documents and comments. Code has rustfmt's 110.
const COLUMNS_MAX: usize = 100;
/// Lines of a function, signature and closing brace included.
const FUNCTION_LINES_MAX: usize = 70;

/// Lines of an example, in all of its files but its tests: who learns from it reads all of it.
const EXAMPLE_LINES_MAX: usize = 300;

/// Functions that are longer, how long they may be, and why.
const LONG_FUNCTIONS: [(&str, usize, &str); 13] = [
    (
        "a_producer_that_is_too_fast_is_refused_in_bounded_memory_and_nothing_accepted_is_lost",
        95,
        "a test's story",
    ),
    ("a_shard_that_dies_leaves_nobody_waiting_and_nobody_deceived", 115, "a test's story"),
    ("audit", 85, "the simulator's: one arm for each thing that is checked"),
    ("bank", 100, "the program from top to bottom"),
    ("chosen", 90, "shard_scaling's: one arm for each argument"),
    ("it_prints_what_is_there_and_what_is_wrong", 75, "a test's story"),
    ("judge", 85, "a test's: one arm for each kind of damage"),
    ("key_figures", 80, "one figure after another"),
    ("model", 75, "a test's: one arm for each step"),
    ("run", 80, "TATP's: one arm for each transaction"),
    ("shut_down_in_the_middle", 85, "a test's story"),
    ("tcp_per_core_stores", 80, "a test's story"),
    ("the_page_of_sixteen_shards_shows_all_that_is_to_be_shown", 95, "a test's story"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files of the repository that end so, with their paths from its root; what git does not keep
/// is left out.
fn files(ending: &str) -> Vec<(String, String)> {
    fn look_into(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder can be read") {
            let path = entry.expect("a folder can be read to its end").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                look_into(&path, ending, found);
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    look_into(root(), ending, &mut found);
    found.sort();
    let read = |path: &PathBuf| {
        let name = path.strip_prefix(root()).expect("it is below the root").display().to_string();
        (name, fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    };
    found.iter().map(read).collect()
}

/// A source of Rust, apart: in `code` every comment and the inside of every string is spaces, in
/// `comments` all else is.
struct Apart {
    code: String,
    comments: String,
}

fn take_apart(source: &str) -> Apart {
    let mut apart = Apart { code: String::new(), comments: String::new() };
    let mut left = source;
    while let Some(first) = left.chars().next() {
        let (length, is_comment) = match token(left) {
            Some(token) => token,
            None => {
                apart.code.push(first);
                apart.comments.push(if first == '\n' { '\n' } else { ' ' });
                left = &left[first.len_utf8()..];
                continue;
            }
        };
        let blank = |text: &str| -> String {
            text.chars().map(|character| if character == '\n' { '\n' } else { ' ' }).collect()
        };
        let text = &left[..length];
        apart.code += &blank(text);
        apart.comments += &if is_comment { text.to_owned() } else { blank(text) };
        left = &left[length..];
    }
    apart
}

/// The length of the comment, string or character that `left` begins with, and whether it is a
/// comment.
fn token(left: &str) -> Option<(usize, bool)> {
    let until =
        |end: &str, from: usize| left[from..].find(end).map_or(left.len(), |at| from + at + end.len());
    if left.starts_with("//") {
        return Some((left.find('\n').unwrap_or(left.len()), true));
    }
    if left.starts_with("/*") {
        return Some((until("*/", 2), true));
    }
    if let Some(raw) = left.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            return Some((until(&format!("\"{}", "#".repeat(hashes)), hashes + 2), false));
        }
    }
    let quote = left.chars().next().filter(|first| ['"', '\''].contains(first))?;
    let mut characters = left.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        // A lifetime has no second quote behind its first character.
        if quote == '\''
            && character != '\\'
            && at == 1
            && !left[at + character.len_utf8()..].starts_with('\'')
        {
            return None;
        }
        match character {
            '\\' => drop(characters.next()),
            _ if character == quote => return Some((at + 1, false)),
            _ => {}
        }
    }
    Some((left.len(), false))
}

/// The line without what cannot be wrapped: targets of links, and addresses.
fn without_links(line: &str) -> String {
    let mut short = String::new();
    for (at, piece) in line.split("](").enumerate() {
        short += if at == 0 { piece } else { piece.split_once(')').map_or(piece, |(_, after)| after) };
    }
    let words = short.split(' ').map(|word| if word.contains("://") { "" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

fn is_wide(line: &str) -> bool {
    without_links(line).chars().count() > COLUMNS_MAX
}

/// Lines of a document that are too wide, of prose: neither of tables nor of code.
fn wide_prose(markdown: &str) -> Vec<usize> {
    let mut is_code = false;
    let mut wide = Vec::new();
    for (at, line) in markdown.lines().enumerate() {
        is_code ^= line.trim_start().starts_with("```");
        if !is_code && !line.starts_with('|') && !line.starts_with("![") && is_wide(line) {
            wide.push(at + 1);
        }
    }
    wide
}

/// Lines of a source that are too wide and have a comment. Code and drawings in comments are left
/// out, as in documents.
fn wide_comments(source: &str) -> Vec<usize> {
    let comments = take_apart(source).comments;
    let (mut wide, mut is_in_block) = (Vec::new(), false);
    for (at, (line, comment)) in source.lines().zip(comments.lines()).enumerate() {
        let is_comment = !comment.trim().is_empty();
        let is_fence = line.trim_start().trim_start_matches(['/', '!', ' ']).starts_with("```");
        is_in_block = is_comment && is_in_block != is_fence;
        if is_comment && !is_in_block && is_wide(line) {
            wide.push(at + 1);
        }
    }
    wide
}

/// Every word of the code and where it begins.
fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_inner = |character: char| character.is_alphanumeric() || character == '_';
    let mut at = 0;
    std::iter::from_fn(move || {
        at += code[at..].find(is_inner)?;
        let from = at;
        at += code[from..].find(|character| !is_inner(character)).unwrap_or(code.len() - from);
        Some((from, &code[from..at]))
    })
}

/// Where the bracket is closed that `code` has at `open`.
fn closed(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, character) in code[open..].char_indices() {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return open + at;
        }
    }
    code.len()
}

/// Every function with a body: its name, and how many lines it has.
fn functions(source: &str) -> Vec<(String, usize)> {
    let code = take_apart(source).code;
    let mut found = Vec::new();
    for (from, word) in words(&code) {
        if word != "fn" {
            continue;
        }
        // A type like `fn(u8) -> u8` has no name, and the next word is none of its own.
        let Some(name) = code[from..].strip_prefix("fn ").and_then(|rest| words(rest).next()) else {
            continue;
        };
        let mut at = from;
        while let Some(next) = code[at..].find(['(', '[', '{', ';']) {
            at += next;
            match code.as_bytes()[at] {
                b'{' => {
                    let lines = code[from..closed(&code, at)].matches('\n').count() + 1;
                    found.push((name.1.to_owned(), lines));
                    break;
                }
                b';' => break,
                _ => at = closed(&code, at) + 1,
            }
        }
    }
    found
}

/// Lines of attributes that allow or expect something and say no reason.
fn without_reason(source: &str) -> Vec<usize> {
    let code = take_apart(source).code;
    let mut lines = Vec::new();
    let mut from = 0;
    while let Some(at) = code[from..].find('#').map(|at| from + at) {
        from = at + 1;
        let open = at + 1 + usize::from(code[at + 1..].starts_with('!'));
        if !code[open..].starts_with('[') {
            continue;
        }
        let attribute = &code[open..closed(&code, open)];
        let allows = words(attribute).filter(|(_, word)| ["allow", "expect"].contains(word)).count();
        let reasons = words(attribute).filter(|(_, word)| *word == "reason").count();
        if allows > reasons {
            lines.push(code[..at].matches('\n').count() + 1);
        }
    }
    lines
}

/// The types that a source defines for its module: not in functions, nor in a module of tests.
fn types(source: &str) -> Vec<String> {
    let code = take_apart(source).code;
    let mut depth = 0;
    let mut outermost = String::new();
    for character in code.chars() {
        depth -= i32::from(character == '}');
        outermost.push(if depth == 0 { character } else { ' ' });
        depth += i32::from(character == '{');
    }
    let mut found = Vec::new();
    let mut all = words(&outermost).map(|(_, word)| word);
    while let Some(word) = all.next() {
        if ["struct", "enum", "union", "trait", "type"].contains(&word) {
            found.extend(all.next().map(str::to_owned));
        }
    }
    found
}

/// Whether a source is of the two crates and not a test.
fn is_of_the_crates(file: &str) -> bool {
    let is_test = file.ends_with("tests.rs") || file.contains("/tests/") || file.ends_with("test_actor.rs");
    (file.starts_with("src/") || file.starts_with("shards/src/")) && !is_test
}

/// One complaint a line, or nothing.
fn refuse(complaints: &[String], what_to_do: &str) {
    let mut all = String::new();
    complaints.iter().for_each(|complaint| writeln!(all, "  {complaint}").expect("a string takes all"));
    assert!(complaints.is_empty(), "{what_to_do}\n{all}");
}

#[test]
fn documents_are_wrapped() {
    let long = "x".repeat(COLUMNS_MAX);
    let made_up = format!("{long}\n{long}y\n|{long}|\n```\n{long}y\n```\nsee [x](http://{long})\n{long} y\n");
    assert_eq!(wide_prose(&made_up), [2, 8]);

    let mut wide = Vec::new();
    for (file, text) in files(".md") {
        wide.extend(wide_prose(&text).iter().map(|line| format!("{file}:{line}")));
    }
    refuse(&wide, "wrap these at 100 columns:");
}

#[test]
fn comments_are_wrapped() {
    let long = "x".repeat(COLUMNS_MAX);
    let made_up = format!("//{long}\nlet a = \"//{long}\";\nlet b = 1; // {long}\n// {}\n", &long[4..]);
    let in_block = format!("/// ```\n/// {long}\n/// ```\n/// {long}\n");
    assert_eq!(wide_comments(&(made_up + &in_block)), [1, 3, 8]);

    let mut wide = Vec::new();
    for (file, text) in files(".rs") {
        wide.extend(wide_comments(&text).iter().map(|line| format!("{file}:{line}")));
    }
    refuse(&wide, "wrap these comments at 100 columns:");
}

#[test]
fn functions_are_short() {
    let body = "    x();\n".repeat(FUNCTION_LINES_MAX - 2);
    let made_up =
        format!("fn fits(a: [u8; 2]) {{\n{body}}}\nfn long() -> X\n{{\n{body}}}\ntrait T {{ fn none(); }}\n");
    let of = |name: &str, lines| (name.to_owned(), lines);
    let (fits, long) = (of("fits", FUNCTION_LINES_MAX), of("long", FUNCTION_LINES_MAX + 1));
    assert_eq!(functions(&made_up), [fits, long]);

    let mut complaints = Vec::new();
    let mut needed = BTreeSet::new();
    for (file, text) in files(".rs") {
        for (name, lines) in functions(&text).into_iter().filter(|(_, lines)| *lines > FUNCTION_LINES_MAX) {
            let max = LONG_FUNCTIONS
                .iter()
                .find(|(exception, ..)| *exception == name)
                .map_or(0, |(_, max, _)| *max);
            if lines > max {
                complaints.push(format!("{file}: {name} has {lines} lines"));
            }
            needed.insert(name);
        }
    }
    for (name, max, _) in LONG_FUNCTIONS {
        if !needed.contains(name) {
            complaints.push(format!("LONG_FUNCTIONS: {name} has at most 70 lines, {max} are allowed"));
        }
    }
    refuse(&complaints, "a function has at most 70 lines, and an exception is one:");
}

/// The lines of each example: a file of `examples/`, or a folder there with all below it.
fn examples(files: &[(String, String)]) -> BTreeMap<&str, usize> {
    let mut lines = BTreeMap::new();
    for (file, text) in files {
        if let Some(path) = file.strip_prefix("examples/").filter(|path| !path.ends_with("tests.rs")) {
            let example = path.split('/').next().unwrap_or(path);
            *lines.entry(example).or_default() += text.lines().count();
        }
    }
    lines
}

#[test]
fn examples_are_short() {
    let file = |path: &str, lines| (path.to_owned(), "x\n".repeat(lines));
    let made_up = [file("examples/a/main.rs", 2), file("examples/a/b/c.rs", 3), file("src/d.rs", 9)];
    let tests = [file("examples/a/tests.rs", 9), file("examples/e.rs", 4)];
    assert_eq!(examples(&[made_up.to_vec(), tests.to_vec()].concat()), [("a", 5), ("e.rs", 4)].into());

    let files = files(".rs");
    let long = examples(&files).into_iter().filter(|(_, lines)| *lines > EXAMPLE_LINES_MAX);
    let complaints: Vec<_> =
        long.map(|(example, lines)| format!("examples/{example}: {lines} lines")).collect();
    refuse(&complaints, "an example has at most 300 lines, in all of its files but its tests:");
}

#[test]
fn what_is_allowed_has_a_reason() {
    let made_up =
        "#![allow(a)]\n#[allow(b, reason = \"so\")]\n#[cfg_attr(x, expect(c))]\n// #[allow(d)]\nallow(e);\n";
    assert_eq!(without_reason(made_up), [1, 3]);

    let mut complaints = Vec::new();
    for (file, text) in files(".rs") {
        complaints.extend(without_reason(&text).iter().map(|line| format!("{file}:{line}")));
    }
    refuse(&complaints, "say why, by `reason = \"..\"`:");
}

#[test]
fn a_type_has_a_name_of_its_own() {
    let made_up = "struct A<'a>(&'a u8);\nimpl B for A { type C = u8; }\nfn f() { enum D {} }\nmod tests { struct E; }\n\
                   pub(crate) type F = [u8; 2]; // struct G\n";
    assert_eq!(types(made_up), ["A", "F"]);

    let mut homes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (file, text) in files(".rs").into_iter().filter(|(file, _)| is_of_the_crates(file)) {
        types(&text).into_iter().for_each(|name| homes.entry(name).or_default().push(file.clone()));
    }
    let twice = homes.iter().filter(|(_, files)| files.len() > 1);
    let complaints: Vec<_> = twice.map(|(name, files)| format!("{name}: {}", files.join(", "))).collect();
    refuse(&complaints, "give these types one name each:");
}

#[test]
fn a_skip_can_be_forbidden() {
    use crate::support::skip;

    for (value, is_forbidden) in [("", false), ("0", false), ("1", true)] {
        assert_eq!(skip::is_forbidden(value), is_forbidden, "{value:?}");
    }
    let why = "there is no `promtool` (of the package prometheus)";
    for (names, is_required) in [("", false), ("python3 nats-server", false), ("python3 promtool", true)] {
        assert_eq!(skip::is_required(names, why), is_required, "{names}");
    }
}

/// Tests that say by themselves that they were not run, and not by `skip`.
fn silent_skips(source: &str) -> Vec<usize> {
    let is_skip = |line: &str| {
        line.contains("println!(")
            && ["skipped", "not tested", "was not tried"].iter().any(|word| line.contains(word))
    };
    source.lines().enumerate().filter(|(_, line)| is_skip(line)).map(|(at, _)| at + 1).collect()
}

#[test]
fn tests_skip_themselves_in_one_way() {
    let made_up = "return eprintln!(\"not tested: one CPU\");\nskip(\"a\", \"one CPU\");\n";
    assert_eq!(silent_skips(made_up), [1]);

    let mut complaints = Vec::new();
    for (file, text) in files(".rs").into_iter().filter(|(file, _)| file.contains("tests")) {
        if file != "tests/it/tidy.rs" {
            complaints.extend(silent_skips(&text).iter().map(|line| format!("{file}:{line}")));
        }
    }
    refuse(&complaints, "skip by `support::skip::skip`, so that it can be forbidden:");
}
