//! A bank that cannot read its accounts. Wallets and an auditor, each in a process of its own with
//! a secret of its own, use a ledger in another process, over a socket. This one starts them, kills
//! the ledger (SIGKILL) twice and opens its log with another number of shards, checks the public
//! books meanwhile, and prints what each party can really see.
//!
//! ```text
//! cargo run --release -p private_bank
//! cargo run --release -p private_bank -- --wallets 5 --payments 40
//! cargo run --release -p private_bank -- --payments 100 --kills 100
//! ```
//!
//! With `--kills` the ledger is killed so many times, at moments that are drawn from `--seed`:
//! while it verifies, writes, or starts. Each time it is opened with another number of shards, one
//! to four.
//!
//! The exit status is 0 if every payment was made once, all books balance, and nobody sees what is
//! not his; 1 if not; 2 if it could not go on.

mod auditor;
mod kills;
mod ledger;
mod parent;
mod socket;
mod wallet;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use freehold_private::{PublicKey, Terms};

/// What is wanted.
#[derive(Debug, Parser)]
#[command(about = "Confidential payments between processes, and what each party sees of them")]
struct Arguments {
    /// How many wallets: 2 to 16.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(2..=16))]
    wallets: u64,
    /// Payments of each.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    payments: u64,
    /// How often the ledger is killed, at random moments; without it twice, after a third of the
    /// payments each.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    kills: Option<u64>,
    /// What the moments are drawn from; without it another each time. It is printed.
    #[arg(long, requires = "kills")]
    seed: Option<u64>,
    #[command(subcommand)]
    role: Option<Role>,
}

/// The processes that this one starts.
#[derive(Debug, Subcommand)]
enum Role {
    /// The ledger: accounts in a log, and a gate.
    #[command(hide = true)]
    Ledger { directory: PathBuf, socket: PathBuf, terms: String, shards: usize },
    /// A wallet. It makes its secret, and shows it to nobody.
    #[command(hide = true)]
    Wallet {
        id: u64,
        wallets: u64,
        payments: u64,
        socket: PathBuf,
        /// Where it notes the claims that were made, for the auditor.
        claims: PathBuf,
    },
    /// The auditor.
    #[command(hide = true)]
    Auditor { wallets: u64, socket: PathBuf },
}

/// Whatever keeps a process from going on.
type Failed = Box<dyn std::error::Error + Send + Sync>;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Result<[u8; N], Failed> {
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2).ok_or("a text ends early")?, 16)?;
    }
    Ok(bytes)
}

fn key(text: &str) -> Result<PublicKey, Failed> {
    PublicKey::from_bytes(unhex(text)?).ok_or_else(|| "a text is no key".into())
}

/// Terms as text: the ledger's id and the auditor's key.
fn terms(text: &str) -> Result<Terms, Failed> {
    let (ledger, auditor) = text.split_once(':').ok_or("a text is no terms")?;
    Terms::new(unhex(ledger)?, key(auditor)?).ok_or_else(|| "a text is no key".into())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = match &arguments.role {
        None => parent::run(&arguments),
        Some(Role::Ledger { directory, socket, terms, shards }) => {
            ledger::serve(directory, socket, terms, *shards)
        }
        Some(Role::Wallet { id, wallets, payments, socket, claims }) => {
            wallet::live(*id, *wallets, *payments, socket, claims)
        }
        Some(Role::Auditor { wallets, socket }) => auditor::audit(*wallets, socket),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("private_bank: {error}");
            ExitCode::from(2)
        }
    }
}
