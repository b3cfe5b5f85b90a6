//! The examples, run as a user runs them.
//!
//! They are the programs of this package, so they are built from their source before this is run.

use std::path::{Path, PathBuf};
use std::process::Command;

mod exchange;
mod founding;
mod hello;
mod killed;
mod limiter;
mod many_shards;
mod signed;
mod webhooks;
mod world;

/// The example of this name.
fn example(name: &str) -> Command {
    Command::new(match name {
        "exchange" => env!("CARGO_BIN_EXE_exchange"),
        "hello" => env!("CARGO_BIN_EXE_hello"),
        "limiter" => env!("CARGO_BIN_EXE_limiter"),
        "signed" => env!("CARGO_BIN_EXE_signed"),
        "webhooks" => env!("CARGO_BIN_EXE_webhooks"),
        "world" => env!("CARGO_BIN_EXE_world"),
        "fast_path_bench" => env!("CARGO_BIN_EXE_fast_path_bench"),
        "partitioned_fast_path_bench" => env!("CARGO_BIN_EXE_partitioned_fast_path_bench"),
        "mixed_path_bench" => env!("CARGO_BIN_EXE_mixed_path_bench"),
        "many_shards" => env!("CARGO_BIN_EXE_many_shards"),
        _ => panic!("there is no example {name}"),
    })
}

/// An example that is not named above is not tested.
#[test]
fn every_example_is_known() {
    let folders = ["examples", "bench/paths/examples"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(root.join(folder)).expect("it is there"));
    let files = files.map(|file| file.expect("it is listed").path());
    // A file, or a folder with a `main.rs`.
    let is_program =
        |path: &PathBuf| path.extension().is_some_and(|end| end == "rs") || path.join("main.rs").exists();
    let programs: Vec<_> = files.filter(is_program).collect();
    for program in &programs {
        let name = program.file_stem().and_then(|name| name.to_str()).expect("names are plain");
        assert!(example(name).get_program().to_string_lossy().ends_with(name));
    }
    assert_eq!(programs.len(), 10, "{programs:?}");
}
