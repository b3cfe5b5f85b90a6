//! No boolean parameter where an enum says it: nobody who reads `f(x, true)` knows what is true.

use super::{closed, files, refuse, take_apart, words};

const CALLERS: &str = "its callers pass a name, or a question, that says what it is";
const GIVEN: &str = "a trait or a macro gives its signature";
const MESSAGE: &str = "a field of a message, as in the benchmark's definition";
const SETTER: &str = "it sets a flag, and its name says which";

/// Functions that have one, where they are, and why.
const ALLOWED: [(&str, &str, &str); 36] = [
    ("apps/bank/src/generate.rs", "draw_pair", CALLERS),
    ("bench/scaling/src/bin/shard_scaling/drive.rs", "new", CALLERS),
    ("bench/scaling/src/report/curves.rs", "point", CALLERS),
    ("benches/collections/whole.rs", "reopened", CALLERS),
    ("benches/collections/whole.rs", "runtimes", CALLERS),
    ("benches/exchange/by_hand.rs", "place", MESSAGE),
    ("benches/workload/report.rs", "verdict", CALLERS),
    ("peers/benches/exchange/market.rs", "rank", MESSAGE),
    ("private/benches/private.rs", "everywhere", CALLERS),
    ("replica/src/node/owning.rs", "stop_runtime", CALLERS),
    ("replica/tests/nodes/faults.rs", "now_is", SETTER),
    ("shards/src/actor/run.rs", "add_if", CALLERS),
    ("shards/src/fault.rs", "skip_pieces", SETTER),
    ("shards/src/log/chain.rs", "take", CALLERS),
    ("shards/src/log/fixed/write.rs", "serialize_bool", GIVEN),
    ("shards/src/shard/mod.rs", "note_lock_waits", SETTER),
    ("shards/src/shard/resume.rs", "hold_resumed", SETTER),
    ("shards/src/store/partition.rs", "count", CALLERS),
    ("shards/src/store/slot.rs", "set_has_version", SETTER),
    ("shards/src/store/slot.rs", "set_watched", SETTER),
    ("shards/src/transaction/locks.rs", "note", SETTER),
    ("shards/tests/it/pieces.rs", "renew", MESSAGE),
    ("shards/tests/simulation/checker.rs", "counts", CALLERS),
    ("shards/tests/simulation/checker.rs", "follow", CALLERS),
    ("src/config.rs", "spin", CALLERS),
    ("src/disk/directory.rs", "make", CALLERS),
    ("src/disk/name.rs", "what_is_written_is_read", GIVEN),
    ("src/gate/lines.rs", "bring_on", CALLERS),
    ("src/gate/strikes.rs", "put", CALLERS),
    ("src/log/contents.rs", "tell_damage", CALLERS),
    ("src/runtime/report.rs", "has_lost_nothing", CALLERS),
    ("tests/denied_calls.rs", "judge", CALLERS),
    ("tests/support/forgetful.rs", "fsync", GIVEN),
    ("tests/support/forgetful.rs", "fsyncdir", GIVEN),
    ("tests/support/forgetful.rs", "hang", SETTER),
    ("workloads/src/part.rs", "note", CALLERS),
];

/// The parameters of a function, of whose source `code` is what follows its name.
fn parameters(code: &str) -> Option<&str> {
    let mut angles = 0;
    for (at, character) in code.char_indices() {
        match character {
            '<' => angles += 1,
            '>' if !code[..at].ends_with('-') => angles -= 1,
            '(' if angles == 0 => return Some(&code[at + 1..closed(code, at)]),
            _ => {}
        }
    }
    None
}

/// Whether one of these parameters is a `bool`, and not a function that returns one.
fn has_boolean(parameters: &str) -> bool {
    let (mut depth, mut each) = (0, vec![String::new()]);
    for (at, character) in parameters.char_indices() {
        match character {
            '(' | '[' | '<' => depth += 1,
            '>' if parameters[..at].ends_with('-') => {}
            ')' | ']' | '>' => depth -= 1,
            ',' if depth == 0 => each.push(String::new()),
            _ => {}
        }
        each.last_mut().expect("there is one").push(character);
    }
    each.iter().any(|one| one.split_once(':').is_some_and(|(_, of)| of.trim() == "bool"))
}

/// The functions that have a boolean parameter.
fn with_booleans(source: &str) -> Vec<String> {
    let code = take_apart(source).code;
    let mut found = Vec::new();
    for (from, word) in words(&code).filter(|(_, word)| *word == "fn") {
        let behind = &code[from + word.len()..];
        // A type like `fn(bool) -> u8` has no name.
        let Some((at, name)) = behind.strip_prefix(' ').and_then(|rest| words(rest).next()) else { continue };
        if parameters(&behind[1 + at + name.len()..]).is_some_and(has_boolean) {
            found.push(name.to_owned());
        }
    }
    found
}

#[test]
fn no_parameter_is_a_boolean_where_an_enum_says_it() {
    let made_up = "fn a(x: u8, is_b: bool) {}\nfn c(d: impl Fn(u8, bool) -> bool) -> bool { true }\n\
                   fn e<F: Fn() -> bool>(mut f: bool, g: F) {}\ntype H = fn(bool) -> u8; // fn i(j: bool)\n\
                   trait K { fn l(\n    &self,\n    m: bool,\n); fn n(o: &bool, p: Option<bool>, q: (u8, bool)); }\n";
    assert_eq!(with_booleans(made_up), ["a", "e", "l"]);

    let mut found = Vec::new();
    for (file, text) in files(".rs") {
        found.extend(with_booleans(&text).into_iter().map(|name| (file.clone(), name)));
    }
    let is_allowed = |file: &str, name: &str| ALLOWED.iter().any(|one| (one.0, one.1) == (file, name));
    let unknown = found.iter().filter(|(file, name)| !is_allowed(file, name));
    let mut complaints: Vec<_> = unknown.map(|(file, name)| format!("{file}: {name}")).collect();
    for (file, name, _) in ALLOWED {
        if !found.iter().any(|one| (one.0.as_str(), one.1.as_str()) == (file, name)) {
            complaints.push(format!("ALLOWED: {name} of {file} has none"));
        }
    }
    refuse(&complaints, "an enum, or two functions, would say what is true:");
}
