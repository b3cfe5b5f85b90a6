//! A bank: one account is one object, one payment one message, wherever its two accounts live. It
//! is audited while payments are made, from snapshots: at every instant all accounts together must
//! hold what they were opened with, to the coin. And in the end the books must balance.
//!
//! It keeps a log: a payment that was answered is on disk. With `--data` the log stays, and the
//! bank goes on where it was when it is run again with the same payments, however it ended: each is
//! made or refused once. See `run` and `decided` for how.
//!
//! ```text
//! cargo run --release -p bank                        # a million payments; then the log is removed
//! cargo run --release -p bank -- --data ledger       # the same, and can be killed and run again
//! cargo run --release -p bank -- --no-log            # in memory only, paid by several threads if there are many cores
//! cargo run --release -p bank -- --generate 50000000 --metrics 127.0.0.1:9100    # for `freehold top`
//! cargo run --release -p bank -- --input payments.csv --balances balances.csv
//! cargo run --release -p bank -- --generate 100000 --accounts 10000 --write-payments payments.csv
//! cargo run --release -p bank --features replicated -- --data ledger --replicated nats://10.0.0.1:4222
//! ```
//! An account is opened by the first payment that names it, whatever comes of the payment. What the
//! bank then did can be checked by a script that shares no code with it; `apps/bank/verify.py` is
//! one. From the payments and the list of those refused it can tell exactly what must be on every
//! account: see there.
//!
//! The exit status is 0 if every audit was exact, the books balance and every payment was made or
//! refused; 1 if not; 2 if the bank could not begin or not go on, as with another input than its
//! log is of; 3 if `--strict` met a bad line.
//!
//! All of the program is in here, so that it compiles while Freehold's machine code is made. A
//! program that is one crate waits for that, and then compiles alone.

mod arguments;
mod audit;
mod books;
mod decided;
mod generate;
mod input;
mod ledger;
mod opened;
mod place;
mod progress;
mod refusals;
mod report;
mod run;
mod tellers;

use std::error::Error as _;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use clap::Parser;
use freehold::{AskError, Config, Handle, PlacementKey, Shards, SnapshotError, StartError, Stats};
use freehold_metrics::Server;
use thiserror::Error;

use crate::arguments::{Arguments, BATCH_MAX};
use crate::audit::{AuditError, Auditor, Census};
use crate::books::check_books;
use crate::generate::{GenerateError, Generator, Recipe};
use crate::input::{CsvPayments, HeaderError, InputError, Payment};
use crate::ledger::{Key, Ledger, Refusal};
use crate::opened::{NodeError, Opened};
use crate::place::Place;
use crate::progress::Progress;
use crate::refusals::Refusals;
use crate::report::{Kept, Report};
use crate::run::{OnBadLine, Plan, Run, RunError};

/// What each shard gets of a batch, about, if nothing else is said.
const BATCH_PER_SHARD: u64 = 1 << 10;
/// Up to so many payments are made up before the clock starts: making one takes longer than paying
/// it. More would take too much memory.
const MADE_AHEAD_MAX: u64 = 4_000_000;
/// Shards that have answered everything publish their numbers in less.
const SETTLED_AFTER: Duration = Duration::from_secs(1);
/// Buffer of each file, in bytes.
const FILE_BUFFER_BYTES: usize = 256 << 10;

/// Why the bank does not end well.
#[derive(Debug, Error)]
enum Failure {
    #[error("cannot {what} {}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("no payments in {}", path.display())]
    Header { path: PathBuf, source: HeaderError },
    #[error("no such payments can be made")]
    Generate(#[from] GenerateError),
    #[error("the runtime does not start")]
    Start(#[from] StartError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(
        "there is no place for a log that is removed in the end; name a directory by `--data`, or say `--no-log`"
    )]
    Place(#[source] io::Error),
    #[error("no metrics can be served at {addr}; name an address of this machine with a free port")]
    Pages { addr: String, source: io::Error },
    #[error("nothing was paid")]
    Unpaid(#[source] RunError),
    #[error("the payments refused cannot be read")]
    Refusals(#[from] SnapshotError),
    #[error("cannot print the report")]
    Print(#[source] io::Error),
    #[error("stopped before the end of the payments")]
    Stopped(#[source] InputError),
    #[error("{payments} payments were neither made nor refused; what went wrong first")]
    Unhandled { payments: u64, source: AskError<Refusal> },
    #[error("{accounts} accounts cannot be read; what went wrong first")]
    Unread { accounts: u64, source: AskError<Refusal> },
    #[error("audit {number} during the run is not exact")]
    Audit { number: u64, source: AuditError },
    #[error("the audit in the end is not exact")]
    LastAudit(#[source] AuditError),
    #[error("the books do not balance")]
    Imbalance,
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Unhandled { .. }
            | Failure::Unread { .. }
            | Failure::Audit { .. }
            | Failure::LastAudit(_)
            | Failure::Imbalance => 1,
            Failure::Stopped(InputError::BadLine { .. })
            | Failure::Unpaid(RunError::Unread(InputError::BadLine { .. })) => 3,
            _ => 2,
        })
    }
}

type Payments = Box<dyn Iterator<Item = Result<Payment, InputError>>>;
type Output = Option<Box<dyn Write>>;

/// The program `bank`.
pub fn main() -> ExitCode {
    let Err(failure) = bank(&Arguments::parse()) else { return ExitCode::SUCCESS };
    eprint!("bank: {failure}");
    let mut source = failure.source();
    while let Some(error) = source {
        eprint!(": {error}");
        source = error.source();
    }
    eprintln!();
    failure.exit_code()
}

fn bank(arguments: &Arguments) -> Result<(), Failure> {
    let mut refused = created(&arguments.refused)?;
    let balances = created(&arguments.balances)?;
    let mut plan = plan(arguments);
    let config = Config::default();
    let config = Config {
        shards: arguments.shards.map_or(Shards::PerAllowedCore, Shards::Count),
        // A service leaves this key random. Here accounts are to live at the same places from run
        // to run.
        placement_key: Some(PlacementKey(arguments.seed)),
        ingress_entries_max: plan.ingress_entries(config.batch_messages_max).max(config.ingress_entries_max),
        ..config
    };
    let place = match &arguments.data {
        Some(path) => Some(Place::Named(path.clone())),
        None if arguments.no_log => None,
        None => Some(Place::temporary().map_err(Failure::Place)?),
    };
    let opened = Opened::open(arguments, place.as_ref(), config)?;
    let handle = opened.handle();
    let _pages = pages(arguments, &handle)?;
    if arguments.batch.is_none() {
        let shards = handle.shards().div_ceil(plan.tellers) as u64;
        plan.batch = (BATCH_PER_SHARD * shards).min(BATCH_MAX) as usize;
    }

    let (progress, payments) = payments(arguments, &handle)?;
    let census = Census::default();
    let failed = |error| match error {
        RunError::List(source) => cannot_write(&arguments.refused, source),
        error => Failure::Unpaid(error),
    };
    let one = |refused| Run::new(&handle, &plan, &progress, &census, refused);
    let run = match &place {
        None if plan.tellers > 1 => None,
        None => Some(one(refused.take())),
        Some(_) => {
            census.found(&handle)?;
            Some(one(None).with_bookmark().map_err(failed)?)
        }
    };
    let auditor = Auditor { handle: &handle, opening: plan.opening, census: &census };
    let (paid, audits) = auditor.audit_during(arguments.audit_every(), || match run {
        Some(run) => run.pay(payments),
        None => tellers::pay(&handle, &plan, &progress, &census, payments),
    });
    progress.finish();
    opened.is_ours()?;
    let (mut tally, accounts) = paid.map_err(failed)?;
    let stats = settled_stats(&handle, tally.orders);
    let mut accounts: Vec<u64> = accounts.into_keys().collect();
    accounts.sort_unstable();
    if tally.stopped.is_none() {
        census.all_are(accounts.len() as u64);
    }
    let last_audit = auditor.audit();
    if place.is_some() {
        let refusals = Refusals::read(&handle)?;
        tally.refused_are(refusals.count());
        if let Some(to) = &mut refused {
            refusals.list(to).map_err(|source| cannot_write(&arguments.refused, source))?;
        }
    }
    let books = check_books(&handle, &plan, &accounts, balances)
        .map_err(|source| cannot_write(&arguments.balances, source))?;
    let recovery = opened.recovery();
    opened.shutdown();

    let kept = place.as_ref().zip(recovery).map(|(place, recovery)| Kept { place, recovery });
    let report = Report {
        kept: &kept,
        tally: &tally,
        audits: &audits,
        last_audit: &last_audit,
        books: &books,
        stats: &stats,
        plan: &plan,
    };
    write!(io::stdout(), "{report}").map_err(Failure::Print)?;
    let is_balanced = books.balance();
    if let Some(source) = tally.first_unhandled {
        return Err(Failure::Unhandled { payments: tally.unhandled, source });
    }
    if let Some(source) = audits.failed {
        return Err(Failure::Audit { number: audits.exact + audits.revoked + 1, source });
    }
    last_audit.map_err(Failure::LastAudit)?;
    if let Some(source) = books.first_unread {
        return Err(Failure::Unread { accounts: books.unread, source });
    }
    if !is_balanced {
        return Err(Failure::Imbalance);
    }
    tally.stopped.map_or(Ok(()), |error| Err(Failure::Stopped(error)))
}

/// How to drive. Of batches it has the most payments that there may be together.
fn plan(arguments: &Arguments) -> Plan {
    let shards = arguments.shards.unwrap_or_else(|| available_parallelism().map_or(1, usize::from));
    Plan {
        tellers: arguments.tellers(shards),
        batch: arguments.batch.unwrap_or(BATCH_MAX) as usize,
        in_flight: arguments.in_flight as usize,
        opening: arguments.opening,
        on_bad_line: if arguments.strict { OnBadLine::Stop } else { OnBadLine::GoOn },
    }
}

/// The pages about the runtime, as long as they are kept, if they are wanted.
fn pages(arguments: &Arguments, handle: &Handle<Ledger>) -> Result<Option<Server>, Failure> {
    let Some(addr) = &arguments.metrics else { return Ok(None) };
    let server = freehold_metrics::serve(handle.clone(), addr.as_str())
        .map_err(|source| Failure::Pages { addr: addr.clone(), source })?;
    eprintln!("bank: metrics at http://{0}/metrics; `freehold top {0}` shows them", server.addr());
    Ok(Some(server))
}

/// The payments to make, and the progress bar that suits them.
fn payments(arguments: &Arguments, handle: &Handle<Ledger>) -> Result<(Progress, Payments), Failure> {
    let Some(path) = &arguments.input else {
        let Arguments { generate: payments, accounts, skew, seed, .. } = *arguments;
        let cross = arguments.cross(handle.shards());
        let recipe = Recipe { payments, accounts, cross, skew, seed };
        let copy = created(&arguments.write_payments)?;
        let home = handle.clone();
        let generator =
            Generator::new(&recipe, handle.shards(), move |account| home.home(&Key::Account(account)), copy)?;
        let progress = Progress::of_payments(payments);
        if payments > MADE_AHEAD_MAX {
            return Ok((progress, Box::new(generator)));
        }
        let made: Vec<_> = generator.collect();
        return Ok((progress, Box::new(made.into_iter())));
    };
    let no_header = |source| Failure::Header { path: path.clone(), source };
    if path == Path::new("-") {
        let payments = CsvPayments::new(io::stdin().lock()).map_err(no_header)?;
        return Ok((Progress::of_stream(), Box::new(payments)));
    }
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
    let (bytes, file) =
        opened.map_err(|source| Failure::File { what: "read", path: path.clone(), source })?;
    let (progress, file) = Progress::of_file(file, bytes);
    let file = BufReader::with_capacity(FILE_BUFFER_BYTES, file);
    Ok((progress, Box::new(CsvPayments::new(file).map_err(no_header)?)))
}

/// The statistics once they tell of `orders` orders, or a moment later: a shard publishes its
/// numbers after it has answered.
fn settled_stats(handle: &Handle<Ledger>, orders: u64) -> Stats {
    let begun = Instant::now();
    loop {
        let stats = handle.stats();
        if stats.handled() >= orders || begun.elapsed() > SETTLED_AFTER {
            return stats;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Creates a file to write to, if there is to be one.
fn created(path: &Option<PathBuf>) -> Result<Output, Failure> {
    let Some(path) = path else { return Ok(None) };
    let file =
        File::create(path).map_err(|source| Failure::File { what: "write", path: path.clone(), source })?;
    Ok(Some(Box::new(BufWriter::with_capacity(FILE_BUFFER_BYTES, file))))
}

fn cannot_write(path: &Option<PathBuf>, source: io::Error) -> Failure {
    Failure::File { what: "write", path: path.clone().unwrap_or_default(), source }
}
