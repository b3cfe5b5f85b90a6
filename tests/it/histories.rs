//! What clients see is strictly serializable: threads and tasks on shards read and append to a few
//! hot lists on real executors, and `adya`, a checker of transactional isolation, looks in what
//! they were answered for what no order of the messages explains. Lists tell most: a read shows
//! every append before it, in order.
//!
//! Clients also read several lists at once from a snapshot: to the judge that is one more
//! transaction, begun when the snapshot is asked for and over when its lists are there. One in four
//! lists is shared, and is also read by itself, as it was published last.
//!
//! Each answer stands in one log, between what was answered before it was sent and what was sent
//! after it was answered, so the judge knows the order in real time. In the end every list is read,
//! so that an append that was lost is missed.
//!
//! Two histories for each number of shards, or `FREEHOLD_HISTORIES`: `FREEHOLD_HISTORIES=1000 cargo
//! test --release --test it histories::`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::{fs, iter, path, thread};

use crate::support::{Watchdog, hush, start};
use adya::{History, Opts, Valid, Workload};
use freehold::{
    AccessError, Actor, ActorPanic, Addressees, AskError, Config, Counters, Handle, Local, Objects, Outcome,
    Runtime, Snapshot, SnapshotRead, glommio,
};
use futures::executor::block_on;
use rand_pcg::Pcg32;
use rand_pcg::rand_core::{Rng, SeedableRng};

/// Messages of one history.
const MESSAGES: u64 = 4_000;

/// So many lists are in use at a time,
const LISTS: u64 = 4;

/// and one of them gives way to a new one after so many messages, so that lists stay short.
const MESSAGES_PER_LIST: u64 = 40;

/// Each list of a number that is a multiple of this is shared from the message on that begins it.
const SHARED_EVERY: u64 = 4;

/// The most steps of a message.
const STEPS_MAX: u64 = 4;

#[derive(Clone, Copy)]
enum Step {
    Read(u64),
    /// Appends to a list an element that no other step appends.
    Append(u64, u64),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Declares {
    Everything,
    /// Only the first list: the message runs again for each other that is elsewhere or locked.
    TheFirst,
    /// Every list, but only to be read: the message runs again for what it writes.
    Reads,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    Well,
    /// Refused by the actor once all is written.
    Aborted,
    Panicked,
}

struct Message {
    steps: Vec<Step>,
    declares: Declares,
    ends: Ends,
}

/// Objects that are lists.
struct Lists;

#[derive(Debug)]
enum Refusal {
    OnPurpose,
    Access(#[allow(dead_code, reason = "to be printed")] AccessError<u64>),
}

impl From<AccessError<u64>> for Refusal {
    fn from(error: AccessError<u64>) -> Self {
        Refusal::Access(error)
    }
}

impl Actor for Lists {
    type Id = u64;
    type State = Vec<u64>;
    type Message = Arc<Message>;
    /// What each `Read` saw.
    type Reply = Vec<Vec<u64>>;
    type Error = Refusal;

    fn addressees(message: &Arc<Message>, to: &mut Addressees<u64>) {
        let declared = if message.declares == Declares::TheFirst { 1 } else { message.steps.len() };
        for step in &message.steps[..declared] {
            match *step {
                Step::Append(list, _) if message.declares != Declares::Reads => to.write(list),
                Step::Append(list, _) | Step::Read(list) => to.read(list),
            }
        }
    }

    fn receive(message: &Arc<Message>, objects: &mut Objects<'_, Self>) -> Result<Vec<Vec<u64>>, Refusal> {
        let mut seen = Vec::new();
        for step in &message.steps {
            match *step {
                Step::Read(list) => seen.push(objects.get(list)?.cloned().unwrap_or_default()),
                Step::Append(list, element) => {
                    let is_new = objects.get(list)?.is_none();
                    objects.get_or_insert_with(list, Vec::new)?.push(element);
                    if is_new && is_shared(list) {
                        objects.share(list)?;
                    }
                }
            }
        }
        match message.ends {
            Ends::Well => Ok(seen),
            Ends::Aborted => Err(Refusal::OnPurpose),
            Ends::Panicked => panic!("panicked on purpose"),
        }
    }
}

fn is_shared(list: u64) -> bool {
    list.is_multiple_of(SHARED_EVERY)
}

/// A message under way, or a read that takes none. Each is a process of its own to the judge, which
/// has nothing else to go by than real time.
struct Begun {
    process: usize,
    message: Arc<Message>,
}

impl Begun {
    fn lists(&self) -> Vec<u64> {
        self.message.steps.iter().map(|&(Step::Read(list) | Step::Append(list, _))| list).collect()
    }
}

enum What {
    Invoked,
    Succeeded(Vec<Vec<u64>>),
    Failed,
    /// Told: it may or may not happen, at any time.
    Unheard,
}

struct Event {
    what: What,
    process: usize,
    message: Arc<Message>,
}

/// Where the clients of one history take their messages from, and where they write what became of
/// them.
struct Run {
    messages: u64,
    taken: AtomicU64,
    log: Mutex<Vec<Event>>,
}

impl Run {
    fn new(messages: u64) -> Arc<Self> {
        Arc::new(Run { messages, taken: AtomicU64::new(0), log: Mutex::default() })
    }

    /// Another message, written down as begun: it must be sent next.
    fn begin(&self, random: &mut Pcg32) -> Option<Begun> {
        let number = self.take()?;
        let step = |step, random: &mut Pcg32| {
            let list = number / MESSAGES_PER_LIST + below(random, LISTS);
            match below(random, 2) {
                0 => Step::Read(list),
                _ => Step::Append(list, number * STEPS_MAX + step),
            }
        };
        let steps = (0..1 + below(random, STEPS_MAX)).map(|at| step(at, random)).collect();
        let declares = match below(random, 4) {
            0 => Declares::TheFirst,
            1 => Declares::Reads,
            _ => Declares::Everything,
        };
        let ends = match below(random, 32) {
            0 | 1 => Ends::Aborted,
            2 => Ends::Panicked,
            _ => Ends::Well,
        };
        Some(self.begin_with(Message { steps, declares, ends }))
    }

    /// A read of all lists in use, for a snapshot.
    fn begin_snapshot(&self) -> Option<Begun> {
        let first = self.take()? / MESSAGES_PER_LIST;
        Some(self.begin_reading(first..first + LISTS))
    }

    /// A read of a list that is shared, if there is one by now.
    fn begin_published(&self) -> Option<Begun> {
        let list = (self.take()? / MESSAGES_PER_LIST).next_multiple_of(SHARED_EVERY);
        Some(self.begin_reading([list]))
    }

    /// The number of another message.
    fn take(&self) -> Option<u64> {
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        (number < self.messages).then_some(number)
    }

    fn is_over(&self) -> bool {
        self.taken.load(Ordering::Relaxed) >= self.messages
    }

    fn begin_reading(&self, lists: impl IntoIterator<Item = u64>) -> Begun {
        let steps = lists.into_iter().map(Step::Read).collect();
        self.begin_with(Message { steps, declares: Declares::Everything, ends: Ends::Well })
    }

    fn begin_with(&self, message: Message) -> Begun {
        let message = Arc::new(message);
        let mut log = self.log.lock().expect("nobody panics while it writes");
        let process = log.len();
        log.push(Event { what: What::Invoked, process, message: message.clone() });
        Begun { process, message }
    }

    fn end(&self, begun: Begun, outcome: Outcome<Lists>) {
        let what = match (begun.message.ends, outcome) {
            (Ends::Well, Ok(seen)) => What::Succeeded(seen),
            (Ends::Aborted, Err(AskError::Aborted(Refusal::OnPurpose))) => What::Failed,
            (Ends::Panicked, Err(AskError::Panicked(_))) => What::Failed,
            // It never ran.
            (_, Err(AskError::Overloaded)) => What::Failed,
            (_, outcome) => panic!("a message ended with {outcome:?}"),
        };
        self.write(begun, what);
    }

    fn write(&self, Begun { process, message }: Begun, what: What) {
        let mut log = self.log.lock().expect("nobody panics while it writes");
        log.push(Event { what, process, message });
    }

    /// Reads every list there can be, through `ask`.
    fn read_all(&self, mut ask: impl FnMut(&Begun) -> Outcome<Lists>) {
        let lists: Vec<u64> = (0..self.messages / MESSAGES_PER_LIST + LISTS).collect();
        for some in lists.chunks(STEPS_MAX as usize) {
            let begun = self.begin_reading(some.iter().copied());
            let outcome = ask(&begun);
            self.end(begun, outcome);
        }
    }

    /// The log as the judge reads it: Jepsen's histories, one line of JSON for each event.
    fn history(&self) -> String {
        let mut text = String::new();
        for Event { what, process, message } in self.log.lock().expect("nobody panics while it writes").iter()
        {
            let kind = match what {
                What::Invoked => "invoke",
                What::Succeeded(_) => "ok",
                What::Failed => "fail",
                What::Unheard => "info",
            };
            let mut seen = if let What::Succeeded(seen) = what { seen.iter() } else { [].iter() };
            let step = |step: &Step| match step {
                Step::Append(list, element) => format!("[\"append\",{list},{element}]"),
                Step::Read(list) => match seen.next() {
                    Some(seen) => format!("[\"r\",{list},{seen:?}]"),
                    None => format!("[\"r\",{list},null]"),
                },
            };
            let steps = message.steps.iter().map(step).collect::<Vec<_>>().join(",");
            writeln!(text, r#"{{"type":"{kind}","process":{process},"value":[{steps}]}}"#)
                .expect("a string takes everything");
        }
        text
    }
}

fn below(random: &mut Pcg32, bound: u64) -> u64 {
    u64::from(random.next_u32()) % bound
}

/// The lists that `begun` reads, from a snapshot that was asked for after it had begun.
async fn read_from(snapshot: SnapshotRead<Snapshot<Lists>>, begun: &Begun) -> Outcome<Lists> {
    let (snapshot, lists) = (snapshot.await.expect("the runtime runs"), begun.lists());
    let seen = snapshot.get_all(lists.clone()).await.expect("it is open");
    for (list, seen) in lists.iter().zip(&seen).filter(|(list, _)| is_shared(**list)) {
        let published = snapshot.published(list).expect("it is open");
        assert_eq!(
            published.as_deref(),
            seen.as_ref(),
            "what is published of list {list}, and what there is"
        );
    }
    Ok(seen.into_iter().map(Option::unwrap_or_default).collect())
}

/// The list that `begun` reads, as it was published last.
fn read_published(handle: &Handle<Lists>, begun: &Begun) -> Outcome<Lists> {
    Ok(begun
        .lists()
        .iter()
        .map(|list| handle.published(list).as_deref().cloned().unwrap_or_default())
        .collect())
}

/// A client on a thread: single messages one by one and several in flight, also behind a snapshot
/// that is still to come, batches, messages it hears nothing of, and what is published.
fn ask_from_thread(handle: &Handle<Lists>, run: &Run, mut random: Pcg32) {
    while !run.is_over() {
        let way = below(&mut random, 10);
        let some = 1 + below(&mut random, if way < 4 { 1 } else { 10 }) as usize;
        let reading = if way == 8 { run.begin_snapshot() } else { None };
        let reading = reading.map(|begun| (handle.snapshot(), begun));
        if way == 9 {
            for begun in iter::from_fn(|| run.begin_published()).take(some) {
                let outcome = read_published(handle, &begun);
                run.end(begun, outcome);
            }
            continue;
        }
        let begun = iter::from_fn(|| run.begin(&mut random)).take(some);
        match way {
            6 => {
                let begun: Vec<_> = begun.collect();
                let outcomes = handle.ask_all(begun.iter().map(|begun| begun.message.clone())).wait();
                begun.into_iter().zip(outcomes).for_each(|(begun, outcome)| run.end(begun, outcome));
            }
            7 => begun.for_each(|begun| {
                let told = handle.tell(begun.message.clone());
                run.write(begun, if told.is_ok() { What::Unheard } else { What::Failed });
            }),
            _ => {
                let asked: Vec<_> = begun.map(|begun| (handle.ask(begun.message.clone()), begun)).collect();
                if let Some((snapshot, begun)) = reading {
                    let outcome = block_on(read_from(snapshot, &begun));
                    run.end(begun, outcome);
                }
                asked.into_iter().for_each(|(asked, begun)| run.end(begun, asked.wait()));
            }
        }
    }
}

/// A client on a shard: at once where that can be, else by a future; and from snapshots.
async fn ask_on_shard(local: &Local<Lists>, run: &Run, mut random: Pcg32) {
    loop {
        let reads = below(&mut random, 8) == 0;
        let Some(begun) = (if reads { run.begin_snapshot() } else { run.begin(&mut random) }) else { return };
        let outcome = if reads {
            read_from(local.snapshot(), &begun).await
        } else {
            ask_at_once_or_later(local, &begun).await
        };
        run.end(begun, outcome);
        glommio::executor().yield_task_queue_now().await;
    }
}

async fn ask_at_once_or_later(local: &Local<Lists>, begun: &Begun) -> Outcome<Lists> {
    match local.ask_now(&begun.message) {
        Err(AskError::Elsewhere { .. } | AskError::Busy) => local.ask(begun.message.clone()).await,
        outcome => outcome,
    }
}

/// The history of one runtime that clients of all kinds talk to at once, and what its shards
/// counted.
fn record(shards: usize, threads: u64, seed: u64) -> (Arc<Run>, Counters) {
    let runtime: Runtime<Lists> = start(shards, Config::default());
    let handle = runtime.handle();
    let run = Run::new(MESSAGES);
    let on_shards = runtime.on_each_shard({
        let run = run.clone();
        move |local| {
            let (run, shard) = (run.clone(), u64::from(local.shard().0));
            let random = move |task| Pcg32::new(seed, 100 + 2 * shard + task);
            async move {
                futures::join!(ask_on_shard(&local, &run, random(0)), ask_on_shard(&local, &run, random(1)))
            }
        }
    });
    thread::scope(|scope| {
        for thread in 0..threads {
            let (handle, run) = (&handle, &run);
            scope.spawn(move || ask_from_thread(handle, run, Pcg32::new(seed, thread)));
        }
    });
    for ended in on_shards.wait() {
        ended.expect("a client on a shard goes on to the end");
    }
    run.read_all(|begun| handle.ask(begun.message.clone()).wait());
    run.read_all(|begun| block_on(read_from(handle.snapshot(), begun)));
    let report = runtime.shutdown();
    assert!(report.drained && report.deaths.is_empty(), "{report}");
    let counters = report.stats.shards.iter().map(|shard| shard.counters.values());
    let sum = counters.reduce(|sum, shard| std::array::from_fn(|at| sum[at] + shard[at]));
    (run, Counters::from_values(sum.expect("there is a shard")))
}

pub(crate) fn judge(history: &str) -> adya::Report {
    let history = History::from_json(history).expect("it is written as Jepsen writes it");
    let opts = Opts { models: vec!["strict-serializable".into()], ..Opts::default() };
    adya::check(&history, Workload::ListAppend, &opts)
}

/// What is wrong with a history, in words.
pub(crate) fn complaints(report: &adya::Report) -> String {
    let anomalies = report.anomalies.iter().filter_map(|(kind, found)| Some((kind, found.first()?)));
    anomalies.map(|(kind, anomaly)| format!("{kind}: {}\n", anomaly.explanation)).collect()
}

#[test]
fn what_clients_see_is_strictly_serializable() {
    hush();
    let watchdog = Watchdog::new("what_clients_see_is_strictly_serializable");
    let histories = std::env::var("FREEHOLD_HISTORIES")
        .map_or(2, |histories| histories.parse().expect("FREEHOLD_HISTORIES is a whole number"));
    for seed in 0..histories {
        for shards in [1, 2, 4] {
            watchdog.feed();
            let (run, counters) = record(shards, 2 + seed % 3, seed);
            let history = run.history();
            let report = judge(&history);
            if report.valid != Valid::True {
                let file = format!("history-{seed}-on-{shards}-shards.jsonl");
                let file = path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
                fs::write(&file, history).expect("the target's directory can be written");
                panic!(
                    "seed {seed}, {shards} shards: {:?}, see {}\n{}",
                    report.valid,
                    file.display(),
                    complaints(&report)
                );
            }
            // A history in which nothing met would be valid too.
            println!("seed {seed}, {shards} shards: {counters:?}");
            assert!(counters.aborted > 0 && counters.panicked > 0 && counters.fast > 0, "{counters:?}");
            assert!(shards == 1 || counters.consensus > MESSAGES / 4, "{counters:?}");
            assert!(shards == 1 || counters.reruns > 0, "{counters:?}");
            assert!(counters.shared > 0 && counters.revoked == 0, "{counters:?}");
        }
    }
}

/// What is wrong with a [`Flawed`] store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    Nothing,
    /// Two at once both read before either writes back.
    LosesUpdates,
    /// Two at once both read before either appends to what is there then.
    SkewsWrites,
    /// What aborts or panics stays written.
    KeepsWhatFailed,
    /// A message that only reads is answered with what was there a moment ago.
    AnswersFromThePast,
    /// Who only reads, by a message or from a snapshot, sees the first list as it was before
    /// another message, and the others as they are after it.
    TearsReads,
    /// The last messages are answered and never written: only who reads again in the end can tell.
    ForgetsTheLast,
}

/// Messages of a flawed store's history.
const FLAWED_MESSAGES: u64 = 800;

/// A forgetful store remembers what processes below this did. A process has the number of the log's
/// line on which it begins, and each message has two lines: so it forgets the last two messages.
const REMEMBERED: usize = 2 * FLAWED_MESSAGES as usize - 4;

/// A store of lists that is handed two messages at once.
struct Flawed {
    flaw: Flaw,
    lists: BTreeMap<u64, Vec<u64>>,
    a_moment_ago: BTreeMap<u64, Vec<u64>>,
}

impl Flawed {
    fn answer(&mut self, pair: [&Begun; 2]) -> [Outcome<Lists>; 2] {
        let before = self.lists.clone();
        let outcomes = pair.map(|begun| self.answer_one(begun, &before));
        self.a_moment_ago = before;
        outcomes
    }

    fn answer_one(&mut self, begun: &Begun, before: &BTreeMap<u64, Vec<u64>>) -> Outcome<Lists> {
        let steps = &begun.message.steps;
        let only_reads = steps.iter().all(|step| matches!(step, Step::Read(_)));
        let mut copy = match self.flaw {
            Flaw::LosesUpdates | Flaw::SkewsWrites => before,
            Flaw::AnswersFromThePast if only_reads => &self.a_moment_ago,
            _ => &self.lists,
        }
        .clone();
        let torn = (self.flaw == Flaw::TearsReads && only_reads).then(|| begun.lists()[0]);
        let mut seen = Vec::new();
        for step in steps {
            match *step {
                Step::Read(list) if torn == Some(list) => {
                    seen.push(before.get(&list).cloned().unwrap_or_default());
                }
                Step::Read(list) => seen.push(copy.entry(list).or_default().clone()),
                Step::Append(list, element) => copy.entry(list).or_default().push(element),
            }
        }
        let outcome = match begun.message.ends {
            Ends::Well => Ok(seen),
            Ends::Aborted => Err(AskError::Aborted(Refusal::OnPurpose)),
            Ends::Panicked => Err(AskError::Panicked(ActorPanic::new(&0, "on purpose"))),
        };
        let is_kept = match self.flaw {
            Flaw::KeepsWhatFailed => true,
            Flaw::ForgetsTheLast => outcome.is_ok() && begun.process < REMEMBERED,
            _ => outcome.is_ok(),
        };
        for step in steps.iter().filter(|_| is_kept) {
            let &Step::Append(list, element) = step else { continue };
            if self.flaw == Flaw::SkewsWrites {
                self.lists.entry(list).or_default().push(element);
            } else {
                self.lists.insert(list, copy[&list].clone());
            }
        }
        outcome
    }
}

// The judge can say no, and to each flaw for a reason of its own: with the same messages, and the
// same log.
#[test]
fn a_flawed_store_is_found_out() {
    for (flaw, expected) in [
        (Flaw::Nothing, None),
        (Flaw::LosesUpdates, Some("lost-update")),
        (Flaw::SkewsWrites, Some("G2-item")),
        (Flaw::KeepsWhatFailed, Some("G1a")),
        (Flaw::AnswersFromThePast, Some("G-single-item-realtime")),
        (Flaw::TearsReads, Some("G-single-item")),
        (Flaw::ForgetsTheLast, Some("G-single-item-realtime")),
    ] {
        let run = Run::new(FLAWED_MESSAGES);
        let mut random = Pcg32::seed_from_u64(7);
        let mut store = Flawed { flaw, lists: BTreeMap::new(), a_moment_ago: BTreeMap::new() };
        for pair in 0.. {
            let one = run.begin(&mut random);
            // Now and then a snapshot while a message is under way.
            let other = if pair % 4 == 0 { run.begin_snapshot() } else { run.begin(&mut random) };
            let (Some(one), Some(other)) = (one, other) else { break };
            let [to_one, to_other] = store.answer([&one, &other]);
            run.end(one, to_one);
            run.end(other, to_other);
        }
        run.read_all(|begun| {
            let before = store.lists.clone();
            store.answer_one(begun, &before)
        });
        let report = judge(&run.history());
        println!("{flaw:?}: {:?}", report.anomaly_types);
        match expected {
            None => assert_eq!(report.valid, Valid::True, "{}", complaints(&report)),
            Some(kind) => {
                assert_eq!(report.valid, Valid::False, "{flaw:?}");
                assert!(report.anomaly_types.iter().any(|found| found == kind), "{flaw:?}: {report:?}");
            }
        }
    }
}
