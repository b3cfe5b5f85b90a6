//! The operator's command for a database's stream: reads all of it, and of the checkpoint that it
//! names, and says what there is or what is wrong. It joins nothing and changes nothing. The owner
//! hears of damage, and repairs it.
//!
//! ```text
//! NATS_USER=ledger NATS_PASSWORD=.. freehold-stream verify ledger nats://nats-a:4222
//! ```
//! A program of its own: the operator's `freehold` has no client of NATS, no tokio and no TLS. The
//! login comes from the environment: `NATS_USER` and `NATS_PASSWORD`, `NATS_TOKEN`, `NATS_NKEY` (a
//! seed), or `NATS_CREDS` (a file); authorities to trust from `NATS_CA` (a PEM file). The exit
//! status is 0 if all is well, 1 if something is wrong, and 2 if the command line is.

use std::env::{args, var};
use std::process::ExitCode;

use freehold_replica::{Login, ReplicaConfig, SyncCheck, Tls, verify};

const USAGE: &str = "freehold-stream verify DATABASE nats://host:port ..";

/// What is to be read, as the command line says.
fn told() -> Option<ReplicaConfig> {
    let mut told = args().skip(1);
    (told.next()? == "verify").then_some(())?;
    let database = told.next()?;
    let servers: Vec<String> = told.collect();
    (!servers.is_empty()).then_some(())?;
    let authorities = var("NATS_CA").ok().map(Into::into);
    Some(ReplicaConfig {
        login: Login::of_environment(),
        tls: Tls { authorities, ..Tls::default() },
        // It appends nothing, so nothing depends on it.
        sync_check: SyncCheck::Assumed,
        ..ReplicaConfig::new(database, "freehold-stream", servers)
    })
}

fn main() -> ExitCode {
    let Some(config) = told() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match verify(&config) {
        Ok(found) => {
            println!("{found}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
