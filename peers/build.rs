//! Takes the versions of what is measured from the workspace's Cargo.lock, so that no table names
//! one that was not measured.

use std::env;
use std::fs;

const MEASURED: [&str; 7] = ["actix", "dashmap", "fjall", "kameo", "redb", "surrealmx", "tokio"];

fn main() {
    let lock = format!("{}/../Cargo.lock", env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    println!("cargo::rerun-if-changed={lock}");
    let text = fs::read_to_string(&lock).unwrap_or_else(|error| panic!("{lock}: {error}"));
    let lock: toml::Table = text.parse().expect("cargo writes what reads");
    let packages = lock["package"].as_array().expect("a list of packages");
    let of = |field: &str, package: &toml::Value| package[field].as_str().expect("a string").to_owned();
    let ours = packages.iter().find(|package| of("name", package) == "freehold-peers").expect("this package");
    let dependencies = ours["dependencies"].as_array().expect("a list of dependencies");
    for name in MEASURED {
        // "name", or "name version" if there are several of that name.
        let dependency = dependencies
            .iter()
            .filter_map(toml::Value::as_str)
            .find(|dependency| dependency.split(' ').next() == Some(name))
            .unwrap_or_else(|| panic!("{name} is no dependency"));
        let version = match dependency.split(' ').nth(1) {
            Some(version) => version.to_owned(),
            None => {
                let package = packages.iter().find(|package| of("name", package) == name);
                of("version", package.expect("a dependency is a package"))
            }
        };
        println!("cargo::rustc-env=VERSION_{}={version}", name.to_uppercase());
    }
}
