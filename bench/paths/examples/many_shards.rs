//! What does a transaction need as shards become more, and a round as lanes do? Many shards in one
//! thread, counted by callgrind: instructions, and no time.
//!
//! ```text
//! cargo run --release -p freehold-paths --example many_shards              2 to 64 shards; needs valgrind
//! cargo run --release -p freehold-paths --example many_shards -- --once    each once and small, not counted
//! ```
//! Each shard has 64 transfers under way, each from one of its accounts to one of a shard that is
//! drawn. They go through the runtime's own lanes. What is counted is the shards and their lanes:
//! no executor, no caller, and nothing of what it costs that lines move between CPUs.

#[path = "../../../src/transport/in_bulk.rs"]
mod in_bulk;
#[allow(dead_code, reason = "a program uses a part of each")]
#[path = "../../../src/transport/lanes.rs"]
mod lanes;
#[path = "../../../benches/workload/mod.rs"]
mod workload;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use comfy_table::Cell;
use freehold::Config;
use freehold_shard::{
    Addressees, Destination, Effects, Envelope, Inbox, Limits, Mvcc, NoPrefetch, OwnerId, Ownership,
    PlacementKey, ReturnAddress, Router, Shard, ShardIndex, Time,
};

use lanes::{Lanes, lanes};
use workload::report::table;
use workload::transfers::{Bank, OPENING, Order};
use workload::{Draws, SEED, id_of};

/// How many shards.
const SHARDS: [usize; 6] = [2, 4, 8, 16, 32, 64];
/// Transfers that each shard has under way.
const TOGETHER: usize = 64;
/// Accounts of each shard.
const ACCOUNTS: usize = 1_000;
/// Transfers of the shorter run, over all shards; the longer has twice as many.
const TRANSFERS: usize = 32 << 10;
/// Rounds without work of the shorter run, over all shards.
const IDLE_ROUNDS: usize = 32 << 10;
/// Of one lane, as many as the runtime takes at a time.
const TAKEN_MAX: usize = 1024;
/// How the program is told, under valgrind, what to run: this, `pairs` or `idle`, shards, how much.
const RUN: &str = "--run";

const NOW: Time = Time(0);
const SENDER: OwnerId = OwnerId(0);

/// Shards, and what is between them.
struct World {
    router: Router,
    shards: Vec<Shard<Bank, NoPrefetch>>,
    inboxes: Vec<Inbox<Bank>>,
    effects: Vec<Effects<Bank>>,
    lanes: Vec<Lanes<Envelope<Bank>>>,
    /// By shard.
    accounts: Vec<Vec<u64>>,
    draws: Draws,
    flushed: Vec<usize>,
    begun: usize,
    answered: usize,
    /// How often a lane had something when it was looked at.
    filled: usize,
}

impl World {
    fn new(count: usize) -> Self {
        let router = Router::new(PlacementKey(SEED), count);
        let mvcc = Arc::new(Mvcc::new(count));
        let shard =
            |at| Shard::new(ShardIndex(at as u16), router, Limits::default(), SEED, Arc::clone(&mvcc));
        let mut accounts = vec![Vec::new(); count];
        for id in (0..).map(id_of) {
            let there = &mut accounts[router.home(&id).index()];
            if there.len() < ACCOUNTS {
                there.push(id);
            }
            if accounts.iter().all(|there| there.len() == ACCOUNTS) {
                break;
            }
        }
        let mut world = World {
            router,
            shards: (0..count).map(shard).collect(),
            inboxes: (0..count).map(|_| Inbox::new()).collect(),
            effects: (0..count).map(|_| Effects::new(count)).collect(),
            lanes: lanes(count, Config::default().lane_entries(count)),
            accounts,
            draws: Draws::new(1 << 32, 0),
            flushed: Vec::new(),
            begun: 0,
            answered: 0,
            filled: 0,
        };
        for (at, ids) in world.accounts.iter().enumerate() {
            for &id in ids {
                let open = Order::Open { id, ownership: Ownership::default() };
                let opened = world.shards[at].ask_now(NOW, SENDER, &open, &mut world.effects[at]);
                opened.unwrap_or_else(|error| panic!("account {id} is not opened: {error}"));
            }
        }
        world
    }

    fn below(&mut self, end: usize) -> usize {
        (self.draws.next_object() as usize * end) >> 32
    }

    /// A task of this shard asks for a transfer.
    fn begin(&mut self, at: usize) {
        self.begun += 1;
        let other = self.below(self.shards.len() - 1);
        let there = other + usize::from(other >= at);
        let (from, to) = (self.below(ACCOUNTS), self.below(ACCOUNTS));
        let message =
            Order::Transfer { from: self.accounts[at][from], to: self.accounts[there][to], amount: 1 };
        let answer_to = ReturnAddress::Shard { shard: ShardIndex(at as u16), call: 0 };
        let begun = self.shards[at].begin_pair(NOW, SENDER, message, answer_to, &mut self.effects[at]);
        if let Err(message) = begun {
            // Its account here is locked.
            let to = match self.router.destination::<Bank>(&message, &mut Addressees::new()) {
                Destination::One(to) | Destination::Several(to) => to.index(),
                Destination::Nowhere => unreachable!("a transfer names its accounts"),
            };
            let envelope = Envelope::Message { message, sender: SENDER, answer_to };
            match to == at {
                true => self.inboxes[at].envelopes.push(envelope),
                false => self.effects[at].outboxes[to].push_back(envelope),
            }
        }
    }

    /// What a shard's pump does in a round, as far as lanes and messages go. `total` transfers are
    /// begun, all told.
    fn round(&mut self, at: usize, total: usize) {
        self.take(at);
        self.turn(at);
        for _ in 0..self.hear(at) {
            if self.begun < total {
                self.begin(at);
            }
        }
        self.give(at);
    }

    #[inline(never)]
    fn take(&mut self, at: usize) {
        self.lanes[at].drain(&mut self.inboxes[at].envelopes, TAKEN_MAX);
    }

    fn turn(&mut self, at: usize) {
        self.shards[at].turn(NOW, &mut self.inboxes[at], &mut self.effects[at]);
    }

    fn hear(&mut self, at: usize) -> usize {
        let answers = self.effects[at].answers.drain(..);
        let heard =
            answers.inspect(|(_, outcome)| assert!(outcome.is_ok(), "every transfer is made")).count();
        self.answered += heard;
        heard
    }

    #[inline(never)]
    fn give(&mut self, at: usize) {
        self.lanes[at].flush(&mut self.effects[at].outboxes, &mut self.flushed);
        self.filled += self.flushed.len();
        self.flushed.clear();
    }

    /// Makes so many transfers, over all shards.
    fn make(&mut self, total: usize) {
        for at in (0..self.shards.len()).cycle().take(TOGETHER * self.shards.len()) {
            if self.begun < total {
                self.begin(at);
            }
        }
        (0..self.shards.len()).for_each(|at| self.give(at));
        while self.answered < total {
            (0..self.shards.len()).for_each(|at| self.round(at, total));
        }
        while self.shards.iter().any(|shard| shard.transactions() != (0, 0)) {
            (0..self.shards.len()).for_each(|at| self.round(at, total));
        }
        let all = self.shards.iter().flat_map(|shard| shard.objects());
        let (held, parts) = all.fold((0_u128, 0), |(held, parts), (_, _, account)| {
            (held + u128::from(account.balance), parts + account.transfers)
        });
        let opened = u128::from(OPENING) * (ACCOUNTS * self.shards.len()) as u128;
        assert_eq!((held, parts), (opened, 2 * total as u64), "each transfer is made once");
    }

    fn envelopes(&self) -> u64 {
        self.lanes.iter().map(|lanes| lanes.sent).sum()
    }
}

/// What a run did.
fn run(kind: &str, shards: usize, count: usize) -> World {
    let mut world = World::new(shards);
    match kind {
        "pairs" => world.make(count),
        _ => (0..shards).cycle().take(count).for_each(|at| {
            world.take(at);
            world.give(at);
        }),
    }
    world
}

fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let said = match given.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [RUN, kind, shards, count] => {
            let number = |text: &str| text.parse().expect("the program starts itself with numbers");
            run(kind, number(shards), number(count));
            Ok(())
        }
        ["--once"] => {
            SHARDS.iter().for_each(|shards| drop((run("pairs", *shards, 1_000), run("idle", *shards, 100))));
            println!("many_shards: each once, and every transfer was made");
            Ok(())
        }
        [] => count_all(),
        _ => Err(format!("unknown arguments {given:?}: there is only --once")),
    };
    said.map_or_else(
        |error| {
            eprintln!("many_shards: {error}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn count_all() -> Result<(), String> {
    let scratch =
        tempfile::tempdir().map_err(|error| format!("no directory for valgrind's files: {error}"))?;
    let mut shown = table([
        "shards",
        "instructions a transfer",
        "envelopes a transfer",
        "envelopes of a filled lane",
        "filled lanes a transfer",
        "instructions of a round of empty lanes",
        "lanes, MiB",
    ]);
    for shards in SHARDS {
        let each = |kind, count| -> Result<f64, String> {
            let [once, twice] = [1, 2].map(|times| instructions(kind, shards, times * count, scratch.path()));
            Ok((twice? as f64 - once? as f64) / count as f64)
        };
        let (pairs, idle) = (each("pairs", TRANSFERS)?, each("idle", IDLE_ROUNDS)?);
        let world = run("pairs", shards, TRANSFERS);
        let sent = world.envelopes() as f64;
        shown.add_row(
            [
                shards.to_string(),
                format!("{pairs:.0}"),
                format!("{:.2}", sent / TRANSFERS as f64),
                format!("{:.1}", sent / world.filled as f64),
                format!("{:.2}", world.filled as f64 / TRANSFERS as f64),
                format!("{idle:.0}"),
                format!("{:.1}", mebibytes(shards)),
            ]
            .map(Cell::new),
        );
    }
    println!("{shown}\nlanes of 256 shards: {:.1} MiB, by their sizes", mebibytes(256));
    Ok(())
}

/// How much memory the lanes of so many shards have, by their sizes.
fn mebibytes(shards: usize) -> f64 {
    let entries = shards * (shards - 1) * Config::default().lane_entries(shards);
    (entries * size_of::<Envelope<Bank>>()) as f64 / f64::from(1 << 20)
}

/// How many instructions a run needs, start-up and all.
fn instructions(kind: &str, shards: usize, count: usize, scratch: &Path) -> Result<u64, String> {
    let counts = scratch.join(format!("{kind}-{shards}-{count}"));
    let program = std::env::current_exe().map_err(|error| format!("where this program is: {error}"))?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "-q"]).arg(format!("--callgrind-out-file={}", counts.display()));
    valgrind.arg(program).args([RUN, kind, &shards.to_string(), &count.to_string()]);
    valgrind.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).stdin(Stdio::null());
    let output = valgrind.output().map_err(|error| format!("valgrind does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("valgrind failed: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let written = fs::read_to_string(&counts).map_err(|error| format!("{}: {error}", counts.display()))?;
    let total =
        written.lines().find_map(|line| line.strip_prefix("summary: ").or(line.strip_prefix("totals: ")));
    total
        .and_then(|total| total.trim().parse().ok())
        .ok_or_else(|| format!("{}: no total in it", counts.display()))
}
