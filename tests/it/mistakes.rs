//! The compiler's errors for usual mistakes say what to do.
//!
//! Each file of `tests/mistakes` has one mistake and is compiled alone. Compared are the phrases
//! that an embedder needs, and not the whole text as `trybuild` does: that is the compiler's, and
//! changes with it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file, and what the compiler says of it. Nothing: it compiles.
const MISTAKES: [(&str, &[&str]); 13] = [
    ("async_receive", &["`receive` has an incompatible type", "expected `Result<", "found future"]),
    (
        "async_receive_of_a_message",
        &["`receive` has an incompatible type", "expected `Result<", "found future"],
    ),
    (
        "error_without_access",
        &["`Refused: From<", "AccessError<u64>>` is not satisfied", "// a variant `#[from] AccessError<_>`"],
    ),
    (
        "message_not_written",
        &[
            "`Visit: serde",
            "add",
            "#[derive(serde::Serialize)]` to your `Visit` type",
            "`Runtime::<A>::open`",
        ],
    ),
    (
        "newtype_id",
        &[
            "`UserId` cannot identify an object",
            "derives `Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize`",
            "`impl ObjectId for UserId {}`",
        ],
    ),
    ("no_actor", &["`Users` is no actor", "declare it by `freehold::actor!`"]),
    ("none", &[]),
    (
        "not_listed",
        &[
            "`Leave` is listed as a message of `Users`, and nothing says what it does",
            "write `impl Receive<Users> for Leave`, with `addressees` and `receive`",
            "`Guest` is no kind of object of `Users`",
            "list it in `kinds { .. }` of the `actor!` that declares `Users`, with its key: `Guest(key: u64)`",
            "`Stay` is no message of `Users`",
            "list it in `messages { .. }` of the `actor!` that declares `Users`, with its reply: `Stay -> ()`",
        ],
    ),
    (
        "one_of_the_messages_not_written",
        &[
            "#[derive(serde::Serialize)]` to your `Leave` type",
            "for `Message` to implement",
            "`Runtime::<A>::open`",
        ],
    ),
    (
        "second_order_changed_past_it",
        &[
            "changed through `objects.indexed::<..>`",
            "Session>::put::{constant#0}",
            "KindEntries::<'_, '_, Host, Session>::take::{constant#0}",
            "KindEntries::<'_, '_, Host, Session>::write::{constant#0}",
            "Session>::retain::<std::ops::RangeTo<(u64, u64)>, {closure@",
            "Session>::clear::{constant#0}",
            "KindEntry::<'_, '_, '_, Host, Session>::write::{constant#0}",
            "KindEntry::<'_, '_, '_, Host, Session>::take::{constant#0}",
            "these entries are the places of a second order (`by`), which change with what has them",
            "Expiry>::put::{constant#0}",
            "KindEntries::<'_, '_, Host, Expiry>::take::{constant#0}",
            "KindEntries::<'_, '_, Host, Expiry>::write::{constant#0}",
            "Expiry>::retain::<std::ops::RangeTo<(u64, u64, u64)>, {closure@",
            "Expiry>::clear::{constant#0}",
            "KindEntry::<'_, '_, '_, Host, Expiry>::write::{constant#0}",
            "KindEntry::<'_, '_, '_, Host, Expiry>::take::{constant#0}",
        ],
    ),
    ("state_not_written", &["#[derive(serde::Serialize)]` to your `Session` type", "`Runtime::<A>::open`"]),
    (
        "string_id",
        &["`String` cannot identify an object", "use `freehold::Key`, made by `Key::new(\"user:42\")`"],
    ),
    (
        "string_key",
        &["`String` cannot identify an object", "use `freehold::Key`, made by `Key::new(\"user:42\")`"],
    ),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mistakes")
}

/// Where cargo has put what this program is made of.
fn built() -> PathBuf {
    std::env::current_exe().expect("it runs").parent().expect("it is in a folder").to_path_buf()
}

/// The library that this program is linked with: the one that was built last.
fn library() -> PathBuf {
    let files =
        std::fs::read_dir(built()).expect("it is there").map(|file| file.expect("it is listed").path());
    let name =
        |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let libraries =
        files.filter(|path| name(path).starts_with("libfreehold-") && name(path).ends_with(".rlib"));
    let built_at = |path: &PathBuf| path.metadata().and_then(|file| file.modified()).expect("it has a time");
    libraries.max_by_key(built_at).expect("this program is linked with it")
}

/// Compiles a file, as a crate that depends on this one. What the compiler said, if it refused.
fn compile(name: &str) -> Option<String> {
    let out = tempfile::tempdir().expect("a directory can be made");
    let mut library_is = std::ffi::OsString::from("freehold=");
    library_is.push(library());
    let mut dependencies = std::ffi::OsString::from("dependency=");
    dependencies.push(built());
    let output = Command::new("rustc")
        // Code is made, too: some is refused only then.
        .args(["--edition", "2024", "--crate-type", "lib", "--emit", "metadata,obj", "--color", "never"])
        .args(["--cap-lints", "allow", "-L"])
        .arg(dependencies)
        .arg("--extern")
        .arg(library_is)
        .arg("--out-dir")
        .arg(out.path())
        .arg(folder().join(format!("{name}.rs")))
        .output()
        .expect("the compiler starts");
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn each_usual_mistake_is_answered_by_what_to_do() {
    for (name, phrases) in MISTAKES {
        match compile(name) {
            None => assert!(phrases.is_empty(), "{name} compiles"),
            Some(said) => {
                assert!(!phrases.is_empty(), "{name} is no mistake:\n{said}");
                for phrase in phrases {
                    assert!(said.contains(phrase), "{name}: not said is {phrase:?}\n{said}");
                }
            }
        }
    }
}

#[test]
fn each_file_of_a_mistake_is_compiled() {
    let files =
        std::fs::read_dir(folder()).expect("it is there").map(|file| file.expect("it is listed").path());
    let mut names: Vec<_> = files.map(|path| path.file_stem().expect("it has a name").to_owned()).collect();
    names.sort();
    assert_eq!(names, MISTAKES.map(|(name, _)| name));
}
