//! What does a confidential payment cost: to prove, to verify in batches, on its shard, and for
//! plain messages beside it?
//!
//! ```text
//! cargo bench -p freehold-private --bench private
//! cargo bench -p freehold-private --bench private -- plain        the last, alone
//! ```
//! Proving and verifying are timed by the thread's CPU time, the least of some rounds, so that a
//! busy machine shows less. What a shard does is its own count of busy time. Latencies are of the
//! clock on the wall. The work is checked: every payment is made, and the public books balance.
//!
//! Plain asks are those of a task of the shard, beside which the shard does what claims ask of it.
//! The shard has a CPU, and another has all else that is private: the gate's threads, and the
//! thread that hands claims over. Rounds with claims and without take turns, in the same places.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use freehold::{Config, Gate, GateConfig, Local, LogConfig, Runtime, Shards, Workers, glommio};
use freehold_private::{
    Account, AuditorSecret, Books, Checker, Claim, Guard, Ledger, Message, Secret, Submission, Terms, Wallet,
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// What each account begins with.
const DEPOSIT: u64 = 1_000_000;

/// This thread's CPU time.
fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// The least CPU time of `rounds` rounds.
fn least(rounds: usize, mut round: impl FnMut()) -> Duration {
    let time = |_| {
        let begun = cpu_time();
        round();
        cpu_time() - begun
    };
    (0..rounds).map(time).min().expect("there is a round")
}

/// An account with a deposit folded, without a runtime.
fn funded(checker: &Checker, wallet: &Wallet) -> Account {
    let proven = |claim: &Claim| checker.verify_one(claim).expect("it is honest");
    let mut account = Account::opened(&proven(&wallet.open())).expect("it opens");
    account.deposit(DEPOSIT).expect("it fits");
    let fold = wallet.fold(&account).expect("it can be read");
    account.apply(&proven(&fold)).expect("it fits");
    account
}

struct Prover {
    terms: Terms,
    checker: Checker,
}

impl Prover {
    fn wallet(&self, id: u64) -> Wallet {
        Wallet::new(self.terms.clone(), id, Secret::random())
    }

    /// Proving, verifying in batches, and applying.
    fn alone(&self, largest: usize, rounds: usize) {
        let payer = self.wallet(1);
        let account = funded(&self.checker, &payer);
        let payees: Vec<_> = (2..9).map(|id| (id, self.wallet(id).public(), id)).collect();
        for payees in [&payees[..1], &payees[..3], &payees[..]] {
            let prove = least(rounds, || drop(payer.pay(&account, payees)));
            let claim = payer.pay(&account, payees).expect("it is there");
            let (bytes, paid) = (claim.to_bytes().len(), payees.len());
            println!("prove, {paid} payees: {:.2} ms; {bytes} bytes", prove.as_secs_f64() * 1e3);
            // Alike, which saves no work: nothing is kept from one to the next.
            let claims = vec![claim; largest];
            for batch in [1, 4, 16, 64, 256].into_iter().filter(|batch| *batch <= largest) {
                let claims: Vec<_> = claims[..batch].iter().collect();
                let verify = least(rounds, || drop(self.checker.verify(&claims).expect("all are honest")));
                let each = verify.as_secs_f64() / (batch * paid) as f64;
                println!(
                    "  verify, {batch:3} at once: {:7.1} us a payment, {:6.0} a second and core",
                    each * 1e6,
                    1.0 / each
                );
            }
        }
        let claim = payer.pay(&account, &payees[..1]).expect("it is there");
        let proven = self.checker.verify_one(&claim).expect("it is honest");
        let mut copies = vec![account; 10_000];
        let apply =
            least(1, || copies.iter_mut().for_each(|account| account.apply(&proven).expect("it fits")));
        println!("apply, at the payer, without a runtime: {:.0} ns", apply.as_secs_f64() * 1e9 / 10_000.0);
    }
}

/// A runtime with accounts, and claims for it.
struct Bank {
    runtime: Runtime<Ledger>,
    gate: Gate<Ledger, Guard>,
    wallets: Vec<Wallet>,
}

impl Bank {
    fn new(prover: &Prover, runtime: Runtime<Ledger>, gate: GateConfig, wallets: u64) -> Bank {
        let terms = prover.terms.clone();
        let gate = runtime.gate(gate, move || Guard::new(terms.clone())).expect("it opens");
        let wallets: Vec<_> = (1..=wallets).map(|id| prover.wallet(id)).collect();
        let bank = Bank { runtime, gate, wallets };
        bank.make(bank.wallets.iter().map(Wallet::open));
        for wallet in &bank.wallets {
            let message = Message::Deposit { account: wallet.id(), key: wallet.public(), amount: DEPOSIT };
            bank.runtime.handle().ask(message).wait().expect("it is open");
        }
        bank.make(
            bank.wallets.iter().map(|wallet| wallet.fold(&bank.account(wallet)).expect("it can be read")),
        );
        bank
    }

    fn account(&self, wallet: &Wallet) -> Account {
        let snapshot = self.runtime.handle().snapshot().wait().expect("it opens");
        snapshot.get(wallet.id()).wait().expect("it is read").expect("it is open")
    }

    /// Makes all, as fast as the gate takes them.
    fn make(&self, claims: impl Iterator<Item = Claim>) {
        let send = |claim: Claim| self.gate.ask(Submission { sender: claim.account(), claim });
        let asks: Vec<_> = claims.map(send).collect();
        for ask in asks {
            ask.wait().expect("it is honest");
        }
    }

    /// So many payments of each wallet to the next, in a pipeline, and folds of what came before.
    fn claims(&self, each: usize) -> Vec<Claim> {
        let mut claims = Vec::new();
        for (at, wallet) in self.wallets.iter().enumerate() {
            let payee = &self.wallets[(at + 1) % self.wallets.len()];
            let mut account = self.account(wallet);
            let fold = wallet.fold(&account).expect("it can be read");
            account = wallet.after(&account, &fold).expect("it was made from it");
            claims.push(fold);
            for _ in 0..each {
                let claim = wallet.pay(&account, &[(payee.id(), payee.public(), 1)]).expect("it is there");
                account = wallet.after(&account, &claim).expect("it was made from it");
                claims.push(claim);
            }
        }
        // Folds come first, so that a payee is not full; each wallet's own stay in order.
        claims.sort_by_key(Claim::version);
        claims
    }

    fn check_books(&self) {
        let mut books = Books::new();
        let accounts = Ledger::accounts(&self.runtime.handle()).expect("they are read");
        accounts.values().for_each(|account| books.add(account));
        assert_eq!(books.balance(), Ok(i128::from(self.wallets.len() as u64 * DEPOSIT)));
    }

    fn busy(&self) -> Duration {
        Duration::from_nanos(self.runtime.stats().shards.iter().map(|shard| shard.activity.busy_ns).sum())
    }

    /// What a shard is busy for with each claim, its probe included.
    fn on_shards(&self, each: usize, name: &str) {
        let claims = self.claims(each);
        let (busy, begun, made) = (self.busy(), Instant::now(), claims.len());
        self.make(claims.into_iter());
        let (wall, busy) = (begun.elapsed(), self.busy() - busy);
        let rate = made as f64 / wall.as_secs_f64();
        println!(
            "{name}: {made} claims, {rate:.0} a second; the shard was busy for {:.2} us each",
            busy.as_secs_f64() * 1e6 / made as f64
        );
        self.check_books();
    }

    /// Latency of so many in flight.
    fn latency(&self, in_flight: usize, rounds: usize) {
        let mut taken = Vec::new();
        for _ in 0..rounds {
            let each = in_flight.div_ceil(self.wallets.len()).max(1);
            let claims = self.claims(each);
            let (folds, pays): (Vec<_>, Vec<_>) =
                claims.into_iter().enumerate().partition(|(at, _)| *at < self.wallets.len());
            self.make(folds.into_iter().map(|(_, claim)| claim));
            let mut pays = pays.into_iter().map(|(_, claim)| claim).peekable();
            while pays.peek().is_some() {
                let begun = Instant::now();
                let send = |claim: Claim| self.gate.ask(Submission { sender: claim.account(), claim });
                let asks: Vec<_> = pays.by_ref().take(in_flight).map(send).collect();
                for ask in asks {
                    ask.wait().expect("it is honest");
                    taken.push(begun.elapsed());
                }
            }
        }
        println!("latency, {in_flight:3} in flight: {}", quantiles(&mut taken));
    }

    /// What plain deposits take, one after the other: a task of the shard lets the shard do what
    /// else there is, and asks, `asks` times and for as long as there are claims to be made.
    fn plain_on_shard(&self, asks: usize, claims: Vec<Claim>) -> Taken {
        let is_made = Arc::new(AtomicBool::new(claims.is_empty()));
        let (is_over, key) = (is_made.clone(), self.wallets[0].public());
        let task = move |local: Local<Ledger>| {
            let is_over = is_over.clone();
            async move {
                let mut taken = Vec::with_capacity(1 << 21);
                while taken.len() < asks || !is_over.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    glommio::executor().yield_task_queue_now().await;
                    let message = Message::Deposit { account: 1, key, amount: 0 };
                    local.ask(message).await.expect("it is open");
                    taken.push(begun.elapsed());
                }
                taken
            }
        };
        let asking = self.runtime.on_each_shard(task);
        self.make(claims.into_iter());
        is_made.store(true, Ordering::Relaxed);
        Taken::of(asking.wait().remove(0).expect("the task ends"))
    }

    /// Rounds of plain asks alone and beside full private load, in turns.
    fn plain(&self, rounds: usize, asks: usize, each: usize) {
        let [mut alone, mut beside] = [const { Vec::new() }; 2];
        for _ in 0..rounds {
            let claims = self.claims(each);
            alone.push(self.plain_on_shard(asks, Vec::new()));
            beside.push(self.plain_on_shard(1, claims));
        }
        let [alone, beside] =
            [("alone", alone), ("beside full private load", beside)].map(|(name, taken)| {
                let [p50, p99, rare, most] =
                    [0, 1, 2, 3].map(|at| median(taken.iter().map(|taken| taken.quantiles[at]).collect()));
                let asks = median(taken.iter().map(|taken| taken.asks).collect());
                println!(
                    "plain asks {name}: p50 {p50:?}, p99 {p99:?}, p99.9 {rare:?}, most {most:?} of {asks}"
                );
                [p50, p99, rare].map(|time| time.as_secs_f64())
            });
        let [p50, p99, rare] = [0, 1, 2].map(|at| beside[at] / alone[at]);
        println!("  {p50:.2}, {p99:.2} and {rare:.2} times those alone; medians of {rounds} rounds");
        self.check_books();
    }

    /// Plain deposits of a thread, one after the other, alone and beside full private load, where
    /// each thread runs as it comes.
    fn plain_of_thread(&self, asks: usize, each: usize) {
        let ask = |asks: usize, goes_on: &dyn Fn() -> bool| {
            let mut taken = Vec::new();
            let (handle, key) = (self.runtime.handle(), self.wallets[0].public());
            while taken.len() < asks && goes_on() {
                let begun = Instant::now();
                let message = Message::Deposit { account: 1, key, amount: 0 };
                handle.ask(message).wait().expect("it is open");
                taken.push(begun.elapsed());
            }
            taken
        };
        println!("plain asks of a thread alone: {}", quantiles(&mut ask(asks, &|| true)));
        let claims = self.claims(each);
        let mut taken = std::thread::scope(|scope| {
            let load = scope.spawn(|| self.make(claims.into_iter()));
            ask(usize::MAX, &|| !load.is_finished())
        });
        println!("plain asks of a thread beside full private load: {}", quantiles(&mut taken));
        self.check_books();
    }
}

/// What the asks of a round took.
struct Taken {
    /// p50, p99, p99.9, and the most.
    quantiles: [Duration; 4],
    asks: usize,
}

impl Taken {
    fn of(mut taken: Vec<Duration>) -> Taken {
        taken.sort_unstable();
        let last = taken.len() - 1;
        let at = |of_thousand: usize| taken[(taken.len() * of_thousand / 1000).min(last)];
        Taken { quantiles: [at(500), at(990), at(999), taken[last]], asks: taken.len() }
    }
}

fn median<T: Ord + Copy>(mut all: Vec<T>) -> T {
    all.sort_unstable();
    all[all.len() / 2]
}

/// The CPUs that this thread may run on.
fn cpus() -> Vec<usize> {
    let allowed = sched_getaffinity(None).expect("it runs somewhere");
    (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect()
}

/// A shard on a CPU, and its gate and this thread on another.
fn apart(prover: &Prover, wallets: u64) -> Option<Bank> {
    let [on_shard, private, ..] = cpus()[..] else { return None };
    let config = Config { shards: Shards::OnCpus(vec![on_shard]), ..Config::default() };
    let gate = GateConfig { workers: Workers::OnCpus(vec![private]), ..GateConfig::default() };
    let bank = Bank::new(prover, Runtime::start(config).expect("it starts"), gate, wallets);
    // Last: where the process may run is where its main thread may.
    let mut place = CpuSet::new();
    place.set(private);
    sched_setaffinity(None, &place).expect("it is allowed there");
    Some(bank)
}

fn quantiles(taken: &mut [Duration]) -> String {
    taken.sort_unstable();
    let at = |of_thousand: usize| {
        let at = (taken.len() * of_thousand / 1000).min(taken.len().saturating_sub(1));
        taken.get(at).copied().unwrap_or_default()
    };
    format!("p50 {:?}, p99 {:?}, p99.9 {:?} of {}", at(500), at(990), at(999), taken.len())
}

fn main() {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let is_plain_only = std::env::args().any(|argument| argument == "plain");
    let auditor = AuditorSecret::random();
    let terms = Terms::new([7; 32], auditor.public()).expect("a key");
    let prover = Prover { checker: Checker::new(terms.clone()), terms };
    let (wallets, each) = if is_bench { (64, 16) } else { (3, 2) };
    if !is_plain_only {
        everywhere(&prover, is_bench, wallets, each);
    }
    // It binds this thread, so it is the last.
    match apart(&prover, wallets) {
        Some(bank) if is_bench => bank.plain(9, 200_000, each / 2),
        Some(bank) => bank.plain(1, 10, each),
        None => println!("plain asks: there is no second CPU for what is private"),
    }
}

/// All but the plain asks of a task, with threads where they come to run.
fn everywhere(prover: &Prover, is_bench: bool, wallets: u64, each: usize) {
    let (largest, rounds) = if is_bench { (256, 5) } else { (4, 1) };
    prover.alone(largest, rounds);
    let config = || Config { shards: Shards::Count(1), ..Config::default() };
    let runtime = Runtime::start(config()).expect("it starts");
    let bank = Bank::new(prover, runtime, GateConfig::default(), wallets);
    bank.on_shards(each, "in memory, one shard");
    for in_flight in [1, 16, 256].into_iter().take(if is_bench { 3 } else { 1 }) {
        bank.latency(in_flight, 1);
    }
    bank.plain_of_thread(if is_bench { 20_000 } else { 10 }, each);
    let directory = tempfile::tempdir().expect("there is room");
    let runtime = Runtime::open(config(), LogConfig::at(directory.path())).expect("it opens");
    let bank = Bank::new(prover, runtime, GateConfig::default(), wallets);
    bank.on_shards(each, "logged, one shard");
}
