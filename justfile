# `just` lists these. Each is one command that works without just as well.

_list:
    @just --list --unsorted

# The tests, as CI runs them
test *arguments:
    cargo test --workspace {{arguments}}

# Seconds: what a change must pass before anything else
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    cargo test -p freehold --test it -- tidy architecture readme guide

# Everything that must hold before a change lands: about a quarter of an hour on two cores
ci:
    .ci/run

# Instructions of the hot paths, against those checked in; needs valgrind
instructions *arguments:
    cargo bench --bench instructions -- {{arguments}}

# Throughput and latency over shards, some minutes; `just bench --quick`, `just bench --peers`
bench *arguments:
    cargo run --release -p freehold-scaling --bin shard_scaling -- {{arguments}}

# The fuzz targets, for so many seconds together; needs a C++ compiler
fuzz seconds="60":
    fuzz/run {{seconds}}

# The pure crate under Miri, and what lanes have of `unsafe`; needs a nightly toolchain with Miri
miri:
    MIRIFLAGS=-Zmiri-disable-isolation cargo +nightly miri test -p freehold-shard \
        --test it --target-dir target/miri -- turn:: transactions::
    cargo +nightly miri test -p freehold-models --target-dir target/miri -- in_bulk::
