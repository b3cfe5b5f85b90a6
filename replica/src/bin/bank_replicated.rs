//! A node of a bank on several machines. Start it on each, with the same servers: one becomes the
//! owner and pays, and the others stand by. Kill the owner, or a server, and see who goes on.
//!
//! ```text
//! NATS_USER=ledger NATS_PASSWORD=.. NATS_SYS_USER=sys NATS_SYS_PASSWORD=.. \
//!     bank_replicated DIRECTORY NODE SERVERS nats://host:4222 ..      SERVERS is on how many the stream is
//! ```
//! It ends when its input does.

use std::io::Read;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use freehold::{AccessError, Actor, Addressees, Config, Handle, Idle, LogConfig, Objects, Shards};
use freehold_replica::{Login, ReplicaConfig, ReplicaError, Replicated, Role, SyncCheck};
use serde::{Deserialize, Serialize};

/// Accounts.
struct Bank;

/// Moves a coin to the next account.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Pay {
    from: u64,
}

/// How many accounts there are.
const ACCOUNTS: u64 = 1000;
/// How many payments are asked at once.
const AT_ONCE: u64 = 100;

impl Actor for Bank {
    type Id = u64;
    type State = i64;
    type Message = Pay;
    type Reply = ();
    type Error = AccessError<u64>;

    fn addressees(pay: &Pay, to: &mut Addressees<u64>) {
        to.write(pay.from);
        to.write((pay.from + 1) % ACCOUNTS);
    }

    fn receive(pay: &Pay, objects: &mut Objects<'_, Self>) -> Result<(), AccessError<u64>> {
        *objects.get_or_insert_with(pay.from, || 0)? -= 1;
        *objects.get_or_insert_with((pay.from + 1) % ACCOUNTS, || 0)? += 1;
        Ok(())
    }
}

/// How the node joins, as it was told.
fn told() -> Option<(String, ReplicaConfig)> {
    let mut told = std::env::args().skip(1);
    let (directory, node) = (told.next()?, told.next()?);
    let replicas = told.next()?.parse().ok()?;
    let replica = ReplicaConfig {
        replicas,
        login: Login::of_environment(),
        sync_check: SyncCheck::of_environment(),
        takeover_after: Some(Duration::from_secs(1)),
        ..ReplicaConfig::new("bank_replicated", node, told)
    };
    Some((directory, replica))
}

/// Pays for a second, or until it is not answered. Says how many payments were made.
fn pay(bank: &Handle<Bank>) -> u64 {
    let (begun, mut paid) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(1) {
        let asked = bank.ask_all((0..AT_ONCE).map(|at| Pay { from: (paid + at) % ACCOUNTS }));
        let made = asked.wait().into_iter().filter(Result::is_ok).count() as u64;
        paid += made;
        if made < AT_ONCE {
            break;
        }
    }
    paid
}

fn run(directory: &str, replica: ReplicaConfig) -> Result<(), ReplicaError> {
    let is_over = AtomicBool::new(false);
    // Several nodes may share a machine, to try it.
    let config = Config { shards: Shards::Count(1), idle: Idle::Spin(Duration::ZERO), ..Config::default() };
    let node = Replicated::<Bank>::open(config, LogConfig::at(directory), replica)?;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            is_over.store(true, Ordering::SeqCst);
        });
        while !is_over.load(Ordering::SeqCst) {
            let status = node.status();
            let (role, term, epoch) = (status.role, status.term, status.epoch);
            match (role, node.handle()) {
                (_, Some(bank)) => println!("owner of term {term}: {} payments", pay(&bank)),
                (Role::Standby, None) => {
                    let shown = node.snapshot();
                    let sum: Option<i64> = shown.ok().map(|shown| shown.iter().map(|(_, coins)| coins).sum());
                    println!("standby in term {term}, at {epoch}: the sum is {sum:?}");
                    node.wait_until(|status| status.role != Role::Standby, Duration::from_secs(1));
                }
                (Role::Joining | Role::Owner, None) => {
                    node.wait_until(|status| status.role != role, Duration::from_secs(1));
                }
                _ => {
                    println!("{role:?}: {}", status.failure.unwrap_or_default());
                    break;
                }
            }
        }
    });
    if let Some(report) = node.shutdown() {
        println!("{report}");
    }
    Ok(())
}

fn main() -> ExitCode {
    let Some((directory, replica)) = told() else {
        eprintln!("bank_replicated DIRECTORY NODE SERVERS nats://host:port ..");
        return ExitCode::from(2);
    };
    match run(&directory, replica) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
