//! The rules of a gate, with a verifier that does what its claims say.

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use freehold_shard::{AskError, ShardIndex};
use rustix::thread::CpuSet;

use super::config::{GateConfig, GateStartError, Workers};
use super::{Gate, GateError, Verifier, flaw};
use crate::config::{Config, Shards};
use crate::error::ConfigError;
use crate::held::hold_up;
use crate::route::Route;
use crate::runtime::Runtime;
use crate::stats::Stats;
use crate::test_actor::{Accounts, Error, Message, NOWHERE};

/// A worker that does nothing for so long is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the verifier makes of a claim.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Good,
    Bad,
    /// It verifies, and its object refuses it.
    Unfit,
    /// It verifies, and its object panics at it.
    Breaks,
    Panics,
    /// The verifier panics, and no other can be made.
    Fatal,
}

struct Claim {
    line: u64,
    sender: u64,
    account: u64,
    kind: Kind,
    probe: Option<Message>,
}

fn claim(line: u64, kind: Kind) -> Claim {
    Claim { line, sender: line, account: line, kind, probe: None }
}

/// How a claim adds to its account: by its line, so that sums say which were made.
fn coins(line: u64) -> u64 {
    1 << line
}

/// A verifier that waits for leave before each batch, and tells its lines.
struct Toy {
    told: Sender<Vec<u64>>,
    leave: Arc<Mutex<Receiver<()>>>,
    is_fatal: Arc<Mutex<bool>>,
}

impl Verifier<Accounts> for Toy {
    type Claim = Claim;
    type Refusal = &'static str;

    fn line(claim: &Claim) -> u64 {
        claim.line
    }

    fn sender(claim: &Claim) -> u64 {
        claim.sender
    }

    fn probe(claim: &Claim) -> Option<Message> {
        claim.probe.clone()
    }

    fn verify(&mut self, claims: &[&Claim]) -> Result<Vec<Message>, &'static str> {
        self.told.send(claims.iter().map(|claim| claim.line).collect()).expect("the test listens");
        // Without leave, when the test is over.
        let _ = self.leave.lock().expect("one waits").recv();
        if claims.iter().any(|claim| claim.kind == Kind::Fatal) {
            *self.is_fatal.lock().expect("nobody panics with it") = true;
            panic!("fatal");
        }
        assert!(claims.iter().all(|claim| claim.kind != Kind::Panics), "a claim that panics");
        if claims.iter().any(|claim| claim.kind == Kind::Bad) {
            return Err("bad");
        }
        let message = |claim: &&Claim| match (claim.kind, claim.account) {
            (Kind::Unfit, account) => Message::Refuse { account },
            (Kind::Breaks, account) => Message::Break { account },
            (_, account) => Message::Add { account, coins: coins(claim.line) },
        };
        Ok(claims.iter().map(message).collect())
    }
}

/// A runtime with a gate, and the verifier's ends.
struct Bench {
    runtime: Runtime<Accounts>,
    gate: Gate<Accounts, Toy>,
    batches: Receiver<Vec<u64>>,
    leave: Sender<()>,
}

fn bench(shards: usize, config: GateConfig) -> Bench {
    let config_of_shards = Config { shards: Shards::Count(shards), ..Config::default() };
    let runtime = Runtime::start(config_of_shards).expect("it starts");
    let (told, batches) = mpsc::channel();
    let (leave, leaves) = mpsc::channel();
    let (leaves, is_fatal) = (Arc::new(Mutex::new(leaves)), Arc::new(Mutex::new(false)));
    let make = move || {
        assert!(!*is_fatal.lock().expect("nobody panics with it"), "no other");
        Toy { told: told.clone(), leave: leaves.clone(), is_fatal: is_fatal.clone() }
    };
    let gate = runtime.gate(config, make).expect("it opens");
    Bench { runtime, gate, batches, leave }
}

impl Bench {
    /// The verifier has begun with these lines.
    fn begun(&self) -> Vec<u64> {
        self.batches.recv_timeout(PATIENCE).expect("the worker verifies what waits")
    }

    /// Lets the verifier go on with one batch.
    fn go_on(&self) {
        self.leave.send(()).expect("the worker lives");
    }

    /// Lets the verifier go on with all that comes.
    fn let_all_go(&self) {
        // Nobody hears it if the worker has ended.
        (0..10_000).for_each(|_| {
            let _ = self.leave.send(());
        });
    }

    fn ask(&self, line: u64, kind: Kind) -> super::ticket::GateAsk<Accounts, &'static str> {
        self.gate.ask(claim(line, kind))
    }

    fn balance(&self, account: u64) -> u64 {
        self.runtime.handle().ask(Message::Count { account }).wait().expect("it is counted")
    }
}

/// What is known of a claim at once.
fn known<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    match Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}

fn is_pending<F: Future + Unpin>(future: &mut F) -> bool {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

#[test]
fn what_piled_up_is_the_next_batch_and_no_more_than_may_be() {
    let bench = bench(1, GateConfig { batch_max: 3, ..GateConfig::default() });
    let mut asks = vec![bench.ask(1, Kind::Good)];
    assert_eq!(bench.begun(), [1], "nothing lingers");
    asks.extend((2..7).map(|line| bench.ask(line, Kind::Good)));
    bench.go_on();
    assert_eq!(bench.begun(), [2, 3, 4]);
    bench.let_all_go();
    assert_eq!(bench.begun(), [5, 6]);
    for (ask, line) in asks.into_iter().zip(1..) {
        assert_eq!(ask.wait(), Ok(coins(line)));
    }
    let Stats { gates, .. } = bench.runtime.stats();
    assert_eq!((gates[0].passed, gates[0].batches, gates[0].waiting), (6, 3, 0));
    let stats = bench.runtime.stats();
    assert_eq!((stats.routed(Route::Private), stats.routed(Route::Fast)), (6, 6));
}

#[test]
fn a_full_gate_says_so_and_has_room_when_it_has_answered() {
    let bench = bench(1, GateConfig { claims_max: 4, ..GateConfig::default() });
    let asks: Vec<_> = (1..5).map(|line| bench.ask(line, Kind::Good)).collect();
    assert_eq!(known(bench.ask(5, Kind::Good)), Some(Err(GateError::Overloaded)));
    bench.let_all_go();
    assert!(asks.into_iter().all(|ask| ask.wait().is_ok()));
    assert_eq!(bench.ask(5, Kind::Good).wait(), Ok(coins(5)));
    assert_eq!(bench.gate.stats().overloaded, 1);
}

#[test]
fn a_batch_that_fails_is_halved_and_honest_claims_pass() {
    let bench = bench(1, GateConfig::default());
    let first = bench.ask(20, Kind::Good);
    assert_eq!(bench.begun(), [20]);
    let asks: Vec<_> =
        (0..8).map(|line| bench.ask(line, if line == 5 { Kind::Bad } else { Kind::Good })).collect();
    bench.let_all_go();
    assert_eq!(first.wait(), Ok(coins(20)));
    for (ask, line) in asks.into_iter().zip(0..) {
        let outcome = if line == 5 { Err(GateError::Refused("bad")) } else { Ok(coins(line)) };
        assert_eq!(ask.wait(), outcome);
    }
    let batches: Vec<_> = bench.batches.try_iter().collect();
    let halves: [&[u64]; 7] =
        [&[0, 1, 2, 3, 4, 5, 6, 7], &[0, 1, 2, 3], &[4, 5, 6, 7], &[4, 5], &[4], &[5], &[6, 7]];
    assert_eq!(batches, halves);
    assert_eq!(bench.balance(5), 0);
}

#[test]
fn a_sender_of_a_bad_claim_is_verified_apart_from_then_on() {
    let bench = bench(1, GateConfig { claims_max: 64, suspects_max: 1, ..GateConfig::default() });
    let of_sender = |line, kind| Claim { sender: 99, ..claim(line, kind) };
    let mut asks = vec![bench.ask(1, Kind::Good)];
    assert_eq!(bench.begun(), [1]);
    // What the worker takes together with a bad claim, and what comes later.
    asks.push(bench.gate.ask(of_sender(2, Kind::Bad)));
    asks.extend([bench.gate.ask(of_sender(3, Kind::Good)), bench.ask(4, Kind::Good)]);
    bench.go_on();
    assert_eq!(bench.begun(), [2, 3, 4]);
    asks.extend([bench.gate.ask(of_sender(5, Kind::Good)), bench.ask(6, Kind::Good)]);
    (0..2).for_each(|_| bench.go_on());
    assert_eq!((bench.begun(), bench.begun()), (vec![2], vec![4]), "3 is of the same sender");
    asks.extend([bench.gate.ask(of_sender(7, Kind::Good)), bench.ask(8, Kind::Good)]);
    // A suspect gets a sixteenth of the room: of 3, 5, 7 and this.
    asks.push(bench.gate.ask(of_sender(9, Kind::Good)));
    assert_eq!(known(bench.gate.ask(of_sender(10, Kind::Good))), Some(Err(GateError::Overloaded)));
    bench.let_all_go();
    let lines = |line: usize| (1..10).nth(line).expect("as many as asks");
    for (at, ask) in asks.into_iter().enumerate() {
        let outcome = ask.wait();
        assert_eq!(outcome.is_err(), lines(at) == 2, "{outcome:?}");
    }
    let batches: Vec<_> = bench.batches.try_iter().collect();
    assert_eq!(batches, [vec![6, 8], vec![3], vec![5], vec![7], vec![9]], "beside each batch one");
    let stats = bench.gate.stats();
    assert_eq!((stats.apart, stats.overloaded, stats.stopped, stats.waiting), (4, 1, 0, 0));
    // Another suspect takes the place of this one.
    assert_eq!(bench.ask(11, Kind::Bad).wait(), Err(GateError::Refused("bad")));
    assert_eq!(bench.gate.ask(of_sender(12, Kind::Good)).wait(), Ok(coins(12)));
    assert_eq!(bench.gate.stats().apart, 4);
}

/// One sender filled the room of suspects with its claims, and an honest owner whose device had
/// sent one bad claim was answered `Overloaded` for as long as that sender liked.
#[test]
fn a_suspect_does_not_take_the_room_of_the_others() {
    let bench = bench(1, GateConfig { claims_max: 64, ..GateConfig::default() });
    let of = |sender, line, kind| bench.gate.ask(Claim { sender, ..claim(line, kind) });
    let senders = 50..55;
    (0..senders.clone().count()).for_each(|_| bench.go_on());
    for (line, sender) in (1..).zip(senders.clone()) {
        assert_eq!(of(sender, line, Kind::Bad).wait(), Err(GateError::Refused("bad")));
        bench.begun();
    }
    let mut asks = vec![bench.ask(10, Kind::Good)];
    assert_eq!(bench.begun(), [10]);
    // Four have as many as one may have, and that is the room of all.
    let (mut line, mut refused) = (11, Vec::new());
    for sender in senders {
        for _ in 0..5 {
            let mut ask = of(sender, line, Kind::Good);
            line += 1;
            match known(&mut ask) {
                Some(outcome) => refused.push((sender, outcome)),
                None => asks.push(ask),
            }
        }
    }
    let is_full = |sender| (sender, Err(GateError::Overloaded));
    assert_eq!(refused, [50, 51, 52, 53, 54, 54, 54, 54, 54].map(is_full));
    bench.let_all_go();
    assert!(asks.into_iter().all(|ask| ask.wait().is_ok()));
    // It has room again once its claims are taken.
    assert_eq!(of(50, line, Kind::Good).wait(), Ok(coins(line)));
}

/// Two of three suspects are remembered. The first was forgotten while claims of it waited apart,
/// and its next claim, which waited with all others, overtook them.
#[test]
fn a_suspect_that_is_forgotten_does_not_overtake_itself() {
    let bench = bench(1, GateConfig { suspects_max: 1, ..GateConfig::default() });
    let of = |sender, line, kind| Claim { sender, ..claim(line, kind) };
    let first = bench.ask(1, Kind::Good);
    assert_eq!(bench.begun(), [1]);
    let mut asks = vec![bench.gate.ask(of(50, 2, Kind::Bad))];
    asks.extend([3, 4].map(|line| bench.gate.ask(of(50, line, Kind::Good))));
    asks.push(bench.gate.ask(of(60, 5, Kind::Bad)));
    (0..3).for_each(|_| bench.go_on());
    // Of 2 to 5 the first half is 2 and 3, of which 2 is bad: now 3 and 4 wait apart. The batch of
    // 5 makes 60 the suspect that is remembered, instead of 50.
    assert_eq!([bench.begun(), bench.begun(), bench.begun()], [vec![2, 3, 4, 5], vec![2, 3], vec![2]]);
    bench.go_on();
    assert_eq!(bench.begun(), [5]);
    bench.go_on();
    assert_eq!(bench.begun(), [3]);
    asks.push(bench.gate.ask(of(50, 6, Kind::Good)));
    bench.let_all_go();
    assert_eq!(first.wait(), Ok(coins(1)));
    let good: Vec<_> = asks.into_iter().map(|ask| ask.wait().is_ok()).collect();
    assert_eq!(good, [false, true, true, false, true]);
    assert_eq!(bench.batches.try_iter().collect::<Vec<_>>(), [[4], [6]], "in the order they were asked");
    assert_eq!(bench.ask(7, Kind::Good).wait(), Ok(coins(7)));
    // With nothing left apart it is as others are.
    assert_eq!(bench.gate.ask(of(50, 8, Kind::Good)).wait(), Ok(coins(8)));
    assert_eq!(bench.gate.stats().apart, 3);
}

/// A claim that verifies, and is refused by its objects, cost a verification each time, and nobody
/// was suspected for it.
#[test]
fn a_sender_whose_claims_are_refused_by_objects_is_verified_apart() {
    let bench = bench(1, GateConfig { strikes_max: 3, ..GateConfig::default() });
    let of_sender = |line, kind| bench.gate.ask(Claim { sender: 99, ..claim(line, kind) });
    let first = of_sender(1, Kind::Unfit);
    assert_eq!(bench.begun(), [1]);
    let others = [2, 3].map(|line| of_sender(line, Kind::Unfit));
    bench.go_on();
    assert_eq!(bench.begun(), [2, 3]);
    let mut good = vec![bench.ask(9, Kind::Good)];
    let held = hold_up(&bench.runtime, ShardIndex(0));
    bench.go_on();
    assert_eq!(bench.begun(), [9]);
    // These wait together while the sender gets its strikes.
    good.extend([of_sender(4, Kind::Good), bench.ask(5, Kind::Good), of_sender(6, Kind::Good)]);
    drop(held);
    for ask in std::iter::once(first).chain(others) {
        assert_eq!(ask.wait(), Err(GateError::Message(AskError::Aborted(Error::Refused))));
    }
    good.extend([of_sender(7, Kind::Good), bench.ask(8, Kind::Good)]);
    bench.let_all_go();
    assert!(good.into_iter().all(|ask| ask.wait().is_ok()));
    let batches: Vec<_> = bench.batches.try_iter().collect();
    assert_eq!(batches, [vec![5, 8], vec![4], vec![6], vec![7]], "beside each batch one");
    let stats = bench.gate.stats();
    assert_eq!((stats.struck, stats.passed, stats.apart), (3, 3 + 6, 3));
    assert_eq!((stats.refused, stats.overloaded, stats.waiting), (0, 0, 0));
}

/// An honest sender that collided comes out again; one that has sent a bad claim does not.
#[test]
fn applied_claims_take_strikes_away() {
    let bench = bench(1, GateConfig { strikes_max: 2, ..GateConfig::default() });
    bench.let_all_go();
    let made = |sender, kind| bench.gate.ask(Claim { sender, ..claim(sender, kind) }).wait().is_ok();
    let apart = || bench.gate.stats().apart;
    for _ in 0..5 {
        assert!(!made(1, Kind::Unfit) && made(1, Kind::Good));
    }
    assert_eq!(apart(), 0, "as many are applied as refused");
    // More refusals than there may be strikes: they are not counted.
    (0..6).for_each(|_| assert!(!made(1, Kind::Unfit)));
    assert_eq!(apart(), 4);
    assert!(made(1, Kind::Good) && made(1, Kind::Good));
    assert_eq!(apart(), 6);
    assert!(made(1, Kind::Good));
    assert_eq!(apart(), 6, "it is out after two");
    assert!(!made(2, Kind::Bad) && !made(2, Kind::Unfit) && !made(2, Kind::Unfit));
    (0..4).for_each(|_| assert!(made(2, Kind::Good)));
    assert_eq!(apart(), 6 + 2 + 4, "applied claims do not excuse a bad one");
}

/// Only the word of the objects is a strike: not a panic there, nor one of the verifier.
#[test]
fn what_is_no_word_of_the_objects_is_no_strike() {
    let bench = bench(1, GateConfig { strikes_max: 1, ..GateConfig::default() });
    bench.let_all_go();
    let broken = bench.ask(1, Kind::Breaks).wait();
    assert!(matches!(broken, Err(GateError::Message(AskError::Panicked(_)))), "{broken:?}");
    let lost = bench.gate.ask(Claim { account: NOWHERE, ..claim(1, Kind::Good) }).wait();
    assert!(matches!(lost, Err(GateError::Panicked(_))), "{lost:?}");
    let stale = Claim { probe: Some(Message::Refuse { account: 1 }), ..claim(1, Kind::Good) };
    let stale = bench.gate.ask(stale).wait();
    assert!(matches!(stale, Err(GateError::Probe(AskError::Aborted(_)))), "{stale:?}");
    assert_eq!(bench.ask(1, Kind::Good).wait(), Ok(coins(1)));
    assert_eq!((bench.gate.stats().struck, bench.gate.stats().apart), (0, 0));
    assert!(bench.ask(1, Kind::Unfit).wait().is_err());
    assert_eq!(bench.ask(1, Kind::Good).wait(), Ok(2 * coins(1)));
    assert_eq!((bench.gate.stats().struck, bench.gate.stats().apart), (1, 1));
}

/// Three senders take turns, and two are remembered: each was forgotten before it came back.
#[test]
fn senders_that_take_turns_are_suspects_in_the_end() {
    let bench = bench(1, GateConfig { strikes_max: 3, suspects_max: 2, ..GateConfig::default() });
    bench.let_all_go();
    for line in [1, 2, 3].into_iter().cycle().take(600) {
        assert!(bench.ask(line, Kind::Unfit).wait().is_err());
    }
    let apart = bench.gate.stats().apart;
    assert!(apart > 100, "{apart} of 600, and a third is to be");
}

#[test]
fn one_sender_does_not_take_all_the_room() {
    let bench = bench(1, GateConfig { sender_claims_max: 2, ..GateConfig::default() });
    let of = |sender, line| Claim { sender, ..claim(line, Kind::Good) };
    let asks = [1, 2].map(|line| bench.gate.ask(of(50, line)));
    assert_eq!(known(bench.gate.ask(of(50, 3))), Some(Err(GateError::Overloaded)));
    let other = bench.gate.ask(of(60, 4));
    bench.let_all_go();
    assert!(asks.into_iter().all(|ask| ask.wait().is_ok()));
    assert_eq!(other.wait(), Ok(coins(4)));
    assert_eq!(bench.gate.ask(of(50, 5)).wait(), Ok(coins(5)), "they were answered");
    assert_eq!((bench.gate.stats().overloaded, bench.gate.stats().waiting), (1, 0));
}

/// Wakes nobody, and panics instead.
struct Rude;

impl Wake for Rude {
    fn wake(self: Arc<Self>) {
        panic!("a waker that panics on purpose");
    }
}

/// A waker is anyone's code, and so is `addressees`: a panic there ended the gate's thread, and
/// nobody else was answered.
#[test]
fn a_panic_of_a_waker_or_of_addressees_hurts_no_other_claim() {
    let bench = bench(1, GateConfig::default());
    let mut rude = bench.ask(1, Kind::Good);
    let waker = Waker::from(Arc::new(Rude));
    assert!(Pin::new(&mut rude).poll(&mut Context::from_waker(&waker)).is_pending());
    let lost = bench.gate.ask(Claim { account: NOWHERE, ..claim(2, Kind::Good) });
    // In the same line, behind one that is never sent.
    let behind = bench.ask(2, Kind::Good);
    let other = bench.ask(3, Kind::Good);
    bench.let_all_go();
    let panicked = lost.wait();
    assert!(matches!(&panicked, Err(GateError::Panicked(said)) if said.contains("nowhere")), "{panicked:?}");
    assert_eq!((behind.wait(), other.wait()), (Ok(coins(2)), Ok(coins(3))));
    assert_eq!(bench.ask(4, Kind::Good).wait(), Ok(coins(4)));
    assert_eq!(rude.wait(), Ok(coins(1)));
    assert_eq!(bench.gate.stats().waiting, 0);
    assert!(bench.runtime.shutdown().drained);
}

#[test]
fn a_claim_that_its_objects_would_refuse_is_not_verified() {
    let bench = bench(1, GateConfig::default());
    bench.let_all_go();
    let stale = Claim { probe: Some(Message::Break { account: 1 }), ..claim(1, Kind::Good) };
    let fresh = Claim { probe: Some(Message::Count { account: 2 }), ..claim(2, Kind::Good) };
    let outcome = bench.gate.ask(stale).wait();
    assert!(matches!(outcome, Err(GateError::Probe(AskError::Panicked(_)))), "{outcome:?}");
    assert_eq!(bench.gate.ask(fresh).wait(), Ok(coins(2)));
    assert_eq!(bench.batches.try_iter().collect::<Vec<_>>(), [vec![2]]);
    assert_eq!((bench.gate.stats().stale, bench.balance(1)), (1, 0));
}

/// `ask_all` routes each probe on the worker's thread where there are several shards: a panic there
/// once ended the worker, and with it all that its lines were ever to verify.
#[test]
fn a_probe_that_names_nobody_is_its_own_claims_end_alone() {
    for shards in [1, 2] {
        let bench = bench(shards, GateConfig::default());
        bench.let_all_go();
        let nowhere = Some(Message::Add { account: NOWHERE, coins: 1 });
        let outcome = bench.gate.ask(Claim { probe: nowhere, ..claim(1, Kind::Good) }).wait();
        assert!(
            matches!(&outcome, Err(GateError::Panicked(said)) if said.contains("nowhere")),
            "{outcome:?}"
        );
        // The same line and worker go on.
        let probe = Some(Message::Count { account: 1 });
        assert_eq!(bench.gate.ask(Claim { probe, ..claim(1, Kind::Good) }).wait(), Ok(coins(1)));
        assert_eq!(bench.gate.ask(claim(2, Kind::Good)).wait(), Ok(coins(2)));
    }
}

/// The first message of a line goes to a shard that is held up, the second to one that is not. Says
/// whether the second overtakes the first.
fn overtakes_itself() -> bool {
    let bench = bench(2, GateConfig::default());
    let handle = bench.runtime.handle();
    let on = |shard| (100..).find(|id| handle.home(id) == ShardIndex(shard)).expect("there is one");
    let (slow, free) = (on(0), on(1));
    let held = hold_up(&bench.runtime, ShardIndex(0));
    let to = |line, account| Claim { account, ..claim(line, Kind::Good) };
    bench.let_all_go();
    let mut first = bench.gate.ask(to(1, slow));
    let mut second = bench.gate.ask(to(1, free));
    // What one thread brings on after them has arrived, so they were looked at.
    let other = loop {
        let outcome = bench.gate.ask(to(2, free)).wait();
        if bench.gate.stats().batches > 0 && bench.gate.stats().waiting <= 2 {
            break outcome;
        }
    };
    assert!(other.is_ok() && is_pending(&mut first));
    let overtakes = !bench.balance(free).is_multiple_of(coins(2));
    assert!(overtakes || is_pending(&mut second));
    drop(held);
    assert_eq!(first.wait(), Ok(coins(1)));
    assert_eq!(second.wait().map(|sum| sum % coins(2)), Ok(coins(1)));
    overtakes
}

/// The second overtook the first. A gate that does not keep the order is found out here.
#[test]
fn one_claim_of_a_line_is_past_the_gate_at_a_time() {
    assert!(!overtakes_itself());
    assert!(flaw::without_order(overtakes_itself), "a gate without order was not noticed");
}

#[test]
fn a_verifier_that_panics_is_made_anew_and_hurts_no_other_claim() {
    let bench = bench(1, GateConfig::default());
    let first = bench.ask(1, Kind::Good);
    assert_eq!(bench.begun(), [1]);
    let asks =
        [(2, Kind::Good), (3, Kind::Panics), (4, Kind::Good)].map(|(line, kind)| bench.ask(line, kind));
    bench.let_all_go();
    assert_eq!(first.wait(), Ok(coins(1)));
    let [good, panicked, other] = asks.map(|ask| ask.wait());
    assert_eq!((good, other), (Ok(coins(2)), Ok(coins(4))));
    assert_eq!(panicked, Err(GateError::Panicked("a claim that panics".into())));
    assert_eq!(bench.gate.stats().panicked, 1);
}

#[test]
fn a_verifier_that_cannot_be_made_again_leaves_nobody_waiting() {
    let bench = bench(1, GateConfig { batch_max: 2, ..GateConfig::default() });
    let asks: Vec<_> = [Kind::Fatal, Kind::Good, Kind::Good, Kind::Good]
        .into_iter()
        .zip(1..)
        .map(|(kind, line)| bench.ask(line, kind))
        .collect();
    bench.let_all_go();
    for ask in asks {
        let outcome = ask.wait();
        assert!(matches!(&outcome, Err(GateError::Broken(said)) if said.contains("no other")), "{outcome:?}");
    }
    assert!(matches!(bench.ask(5, Kind::Good).wait(), Err(GateError::Broken(_))));
    assert_eq!(bench.runtime.handle().ask(Message::Add { account: 7, coins: 1 }).wait(), Ok(1));
    assert_eq!(bench.gate.stats().waiting, 0);
    assert!(bench.runtime.shutdown().drained);
}

#[test]
fn a_gate_that_is_shut_down_answers_everyone() {
    let Bench { runtime, gate, batches, leave } = bench(1, GateConfig::default());
    let passed = gate.ask(claim(1, Kind::Good));
    leave.send(()).expect("the worker lives");
    assert_eq!(passed.wait(), Ok(coins(1)));
    let verified = gate.ask(claim(2, Kind::Good));
    assert_eq!((batches.recv(), batches.recv()), (Ok(vec![1]), Ok(vec![2])));
    let waiting = gate.ask(claim(3, Kind::Good));
    let stopping = std::thread::spawn(move || runtime.shutdown());
    // The queue is swept first of all.
    assert_eq!(waiting.wait(), Err(GateError::Stopped));
    // The runtime takes nothing from outside any more.
    let other = gate.ask(claim(4, Kind::Good)).wait();
    assert_eq!(other, Err(GateError::Stopped));
    leave.send(()).expect("the worker lives");
    let outcome = verified.wait();
    assert!(matches!(outcome, Ok(_) | Err(GateError::Stopped)), "{outcome:?}");
    let report = stopping.join().expect("it stops");
    assert!(report.drained, "{report}");
    assert_eq!(report.stats.routed(Route::Private), report.stats.gates[0].passed);
}

/// The claims of a sender that is found out after the gate was closed were put where no worker
/// looks any more, and their callers waited for ever.
#[test]
fn a_suspect_of_the_last_moment_is_answered() {
    let Bench { runtime, gate, batches, leave } = bench(1, GateConfig::default());
    let go_on = || leave.send(()).expect("the worker lives");
    let first = gate.ask(claim(9, Kind::Good));
    assert_eq!(batches.recv(), Ok(vec![9]));
    let bad = gate.ask(Claim { sender: 5, ..claim(1, Kind::Bad) });
    let mut good = gate.ask(Claim { sender: 5, ..claim(2, Kind::Good) });
    go_on();
    assert_eq!(first.wait(), Ok(coins(9)));
    assert_eq!(batches.recv(), Ok(vec![1, 2]));
    go_on();
    assert_eq!(batches.recv(), Ok(vec![1]));
    let stopping = std::thread::spawn(move || runtime.shutdown());
    while gate.ask(claim(3, Kind::Good)).wait() != Err(GateError::Stopped) {}
    go_on();
    assert_eq!(bad.wait(), Err(GateError::Refused("bad")));
    let report = stopping.join().expect("it stops");
    assert!(report.drained, "{report}");
    assert!(!is_pending(&mut good), "it waits for ever");
}

/// A shard dies while it has a message that has passed.
#[test]
fn a_gate_whose_runtime_dies_answers_everyone() {
    let bench = bench(1, GateConfig::default());
    drop(bench.runtime.on_each_shard(|_| async {
        let task = async {
            // The first step is taken inside a task that the runtime watches.
            glommio::executor().yield_now().await;
            panic!("this executor dies on purpose")
        };
        glommio::spawn_local(task).detach();
    }));
    bench.let_all_go();
    // Until it has died.
    let died = loop {
        if let Err(error) = bench.ask(1, Kind::Good).wait() {
            break error;
        }
    };
    assert!(matches!(died, GateError::Stopped | GateError::Message(AskError::Unknown)), "{died:?}");
    assert_eq!(bench.ask(2, Kind::Good).wait(), Err(GateError::Stopped));
    assert_eq!(bench.runtime.shutdown().deaths.len(), 1);
}

#[test]
fn a_task_on_a_shard_awaits_a_claim_and_does_not_block() {
    let bench = bench(1, GateConfig::default());
    bench.let_all_go();
    let gate = bench.gate.clone();
    let asked = bench.runtime.on_each_shard(move |_| {
        let gate = gate.clone();
        async move { (gate.ask(claim(1, Kind::Good)).await, gate.ask(claim(2, Kind::Good)).wait()) }
    });
    let (awaited, waited) = asked.wait().remove(0).expect("the task ends");
    assert_eq!(awaited, Ok(coins(1)));
    assert_eq!(waited, Err(GateError::Message(AskError::WaitOnShard)));
}

#[test]
fn a_gate_that_cannot_be_is_refused() {
    let runtime = Runtime::<Accounts>::start(Config { shards: Shards::Count(1), ..Config::default() });
    let runtime = runtime.expect("it starts");
    let open = |config| runtime.gate(config, || -> Toy { panic!("never made") }).map(drop);
    let error = open(GateConfig { batch_max: 257, ..GateConfig::default() }).unwrap_err();
    assert!(matches!(&error, GateStartError::Config(ConfigError::OutOfRange { max: 256, .. })), "{error}");
    let error =
        open(GateConfig { workers: Workers::OnCpus(vec![60_000]), ..GateConfig::default() }).unwrap_err();
    assert!(matches!(error, GateStartError::Placement(_)), "{error}");
    let error = open(GateConfig::default()).unwrap_err();
    assert!(matches!(&error, GateStartError::Broken(said) if said == "never made"), "{error}");
    assert!(runtime.stats().gates.is_empty());
}

/// The CPUs that the calling thread may run on.
fn here() -> Vec<usize> {
    let here = rustix::thread::sched_getaffinity(None).expect("it runs somewhere");
    (0..CpuSet::MAX_CPU).filter(|cpu| here.is_set(*cpu)).collect()
}

/// Tells where the thread runs that wakes it.
struct Whence(Sender<Vec<usize>>);

impl Wake for Whence {
    fn wake(self: Arc<Self>) {
        self.0.send(here()).expect("the test listens");
    }
}

/// The thread that passes messages on ran on any CPU, on those of shards as well.
#[test]
fn a_gate_runs_on_cpus_of_its_own() {
    let cpu = crate::topology::Topology::of_this_process().expect("it is known").cpus()[0].id;
    let (seen, cpus) = mpsc::channel();
    let runtime = Runtime::<Accounts>::start(Config { shards: Shards::Count(1), ..Config::default() });
    let runtime = runtime.expect("it starts");
    let (leave, leaves) = mpsc::channel();
    let leaves = Arc::new(Mutex::new(leaves));
    let (told, _batches) = mpsc::channel();
    let make = {
        let seen = seen.clone();
        move || {
            seen.send(here()).expect("the test listens");
            Toy { told: told.clone(), leave: leaves.clone(), is_fatal: Arc::default() }
        }
    };
    let config = GateConfig { workers: Workers::OnCpus(vec![cpu]), ..GateConfig::default() };
    let gate = runtime.gate(config, make).expect("it opens");
    assert_eq!(cpus.recv(), Ok(vec![cpu]), "the worker, and not where others may run");
    let mut asked = gate.ask(claim(1, Kind::Good));
    let waker = Waker::from(Arc::new(Whence(seen)));
    assert!(Pin::new(&mut asked).poll(&mut Context::from_waker(&waker)).is_pending(), "it has no leave yet");
    leave.send(()).expect("the worker lives");
    assert_eq!(cpus.recv_timeout(PATIENCE), Ok(vec![cpu]), "the thread that answers");
    assert_eq!(asked.wait(), Ok(coins(1)));
}
