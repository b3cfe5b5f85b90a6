//! The code a reader copies from the README is code that compiles and runs: each of its Rust blocks
//! is, byte for byte, the file that the comment before it names, which `cargo test` builds and
//! `tests/programs` runs.

use std::path::Path;

/// The first thing a reader sees must fit on a screen. Blank lines count.
const HELLO_LINES_MAX: usize = 24;

/// A Rust block and the file that the line before it names, if it does.
#[derive(Debug, PartialEq)]
struct Block {
    file: Option<String>,
    code: String,
}

fn rust_blocks(markdown: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut before = "";
    let mut lines = markdown.lines();
    while let Some(line) = lines.next() {
        if line.trim_start().starts_with("```rust") {
            let file = before.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
            let code = lines.by_ref().take_while(|line| line.trim_start() != "```");
            blocks.push(Block {
                file: file.map(str::to_owned),
                code: code.map(|line| format!("{line}\n")).collect(),
            });
        }
        before = line;
    }
    blocks
}

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_rust_block_of_the_readme_is_a_file_that_is_built() {
    let blocks = rust_blocks(&read("README.md"));
    for Block { file, code } in &blocks {
        let file = file.as_ref().unwrap_or_else(|| panic!("no `<!-- file -->` before this block:\n{code}"));
        assert_eq!(*code, read(file), "the README's block differs from {file}");
    }
    let files: Vec<_> = blocks.iter().filter_map(|block| block.file.as_deref()).collect();
    assert!(files.contains(&"examples/hello.rs"), "the README shows examples/hello.rs, not only {files:?}");
}

#[test]
fn hello_fits_on_a_screen() {
    let lines = read("examples/hello.rs").lines().count();
    assert!(lines <= HELLO_LINES_MAX, "{lines} lines");
}

#[test]
fn blocks_are_found_with_the_file_before_them() {
    let markdown =
        "a\n<!-- examples/x.rs -->\n```rust\nfn x() {}\n\n```\n```sh\nls\n```\n\n```rust,no_run\ny();\n```\n";
    let block =
        |file: Option<&str>, code: &str| Block { file: file.map(str::to_owned), code: code.to_owned() };
    let expected = [block(Some("examples/x.rs"), "fn x() {}\n\n"), block(None, "y();\n")];
    assert_eq!(rust_blocks(markdown), expected);
}
