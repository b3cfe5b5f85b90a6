//! Where the time of slow messages went, and of a few others.
//!
//! No clock is read for a message. A message is *followed* for one of two reasons, and only then
//! shards look for it among what they take, run and answer.
//!
//! - One ask of [`LATENCY_STRIDE`](super::LATENCY_STRIDE) has its latency taken. Of these one is
//!   followed from its begin, at most each [`SAMPLE_EVERY`].
//! - The runtime's watching thread looks at the reply slots each quarter of
//!   [`Config::slow_message`](crate::Config::slow_message). An ask that it has met
//!   [`LOOKS_TO_FOLLOW`] times after the first is followed from then on ([`Looks`]). What happened
//!   to it before is not known, nor when exactly it was asked.
//!
//! A shard asks once a round whether anything is followed at all: one relaxed load. So what a
//! message costs is the same as before, and a shard pays for a look at each message of a round only
//! while something is slow, or sampled.
//!
//! At most [`PLACES`] messages are followed at a time, and one that finds its place taken is not.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use freehold_shard::ShardIndex;

use super::message_trace::{MessageTrace, Stage, TracedWait};
use crate::route::Route;

/// Messages that are followed at a time.
const PLACES: usize = 128;
/// Traces that are kept, of each kind.
pub(crate) const KEPT: usize = 128;
/// Lock waits that are kept of a message.
const WAITS_MAX: usize = 16;
/// A message is followed from its begin at most so often.
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
/// The watching thread looks so often in the time from which a message is slow.
pub(crate) const LOOKS: u32 = 4;
/// After so many looks an ask is followed: it then has taken three quarters of that time.
const LOOKS_TO_FOLLOW: u32 = LOOKS - 1;

/// A message that is followed.
#[derive(Debug)]
struct FollowedAsk {
    slot: u32,
    generation: u32,
    begun: Instant,
    /// From its begin; otherwise since then.
    since: Option<Instant>,
    message: Option<&'static str>,
    object: Option<String>,
    route: Option<Route>,
    taken: Option<Instant>,
    ran: Option<Instant>,
    waits: Vec<SeenWait>,
}

/// A wait for a lock that a shard has seen.
#[derive(Debug)]
pub(crate) struct SeenWait {
    pub(crate) shard: ShardIndex,
    pub(crate) object: String,
    pub(crate) ahead: u32,
    pub(crate) behind: Option<&'static str>,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
}

/// How a shard has found a message that has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ran {
    /// In the turn that began then: it is about to be answered, or held for the first time.
    InTurn(Instant),
    /// It waits until it is durable, for however long.
    Held,
}

/// What a runtime knows of its slow messages.
#[derive(Debug)]
pub(crate) struct Traces {
    /// How many messages are followed.
    following: CachePadded<AtomicU32>,
    /// When the next may be followed from its begin, in nanoseconds of the runtime's time.
    next_sample_ns: AtomicU64,
    /// Asks and batches that were slow.
    slow: AtomicU64,
    slow_from: Duration,
    started: Instant,
    state: Mutex<TraceState>,
}

#[derive(Debug)]
struct TraceState {
    /// A message is at its slot's number, modulo [`PLACES`].
    places: Box<[Option<FollowedAsk>]>,
    last_number: u64,
    slow: VecDeque<Arc<MessageTrace>>,
    sampled: VecDeque<Arc<MessageTrace>>,
}

/// A message that has ended, and what it is kept as.
#[derive(Debug)]
pub(crate) struct EndedTrace(pub(crate) Arc<MessageTrace>);

impl Traces {
    pub(crate) fn new(started: Instant, slow_from: Duration) -> Traces {
        let state = TraceState {
            places: (0..PLACES).map(|_| None).collect(),
            last_number: 0,
            slow: VecDeque::with_capacity(KEPT),
            sampled: VecDeque::with_capacity(KEPT),
        };
        Traces {
            following: CachePadded::default(),
            next_sample_ns: AtomicU64::new(0),
            slow: AtomicU64::new(0),
            slow_from,
            started,
            state: Mutex::new(state),
        }
    }

    /// Of a runtime that begins now, and takes a second for slow.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Traces {
        Traces::new(Instant::now(), Duration::from_secs(1))
    }

    /// Whether any message is followed.
    #[inline]
    pub(crate) fn is_following(&self) -> bool {
        self.following.load(Ordering::Relaxed) > 0
    }

    /// Whether a message, or a batch, that took so long is slow.
    #[inline]
    pub(crate) fn is_slow(&self, took: Duration) -> bool {
        took >= self.slow_from
    }

    /// An ask whose latency is taken begins: it may be followed. Called before it is sent.
    #[cold]
    pub(crate) fn sample(&self, slot: u32, generation: u32, now: Instant) {
        let at = now.saturating_duration_since(self.started).as_nanos() as u64;
        let next = self.next_sample_ns.load(Ordering::Relaxed);
        let after = at + SAMPLE_EVERY.as_nanos() as u64;
        let is_due = at >= next
            && self
                .next_sample_ns
                .compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if is_due {
            self.follow(slot, generation, now, None);
        }
    }

    /// Follows an ask that was seen first when it `begun`, for too long `now`.
    fn follow_slow(&self, slot: u32, generation: u32, begun: Instant, now: Instant) {
        self.follow(slot, generation, begun, Some(now));
    }

    fn follow(&self, slot: u32, generation: u32, begun: Instant, since: Option<Instant>) {
        let mut state = self.lock();
        let place = &mut state.places[slot as usize % PLACES];
        let is_taken =
            place.as_ref().is_some_and(|other| other.slot != slot || other.generation == generation);
        if is_taken {
            return;
        }
        let followed = FollowedAsk {
            slot,
            generation,
            begun,
            since,
            message: None,
            object: None,
            route: None,
            taken: None,
            ran: None,
            waits: Vec::new(),
        };
        if place.replace(followed).is_none() {
            self.following.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Those of `asks`, with their places there, that are followed.
    pub(crate) fn find<T>(&self, asks: impl Iterator<Item = (T, u32, u32)>) -> Vec<(T, u32, u32)> {
        let mut state = self.lock();
        asks.filter(|(_, slot, generation)| state.followed(*slot, *generation).is_some()).collect()
    }

    /// A shard has taken a message at `now`, which is of this kind, names this object first, and
    /// goes this way. A transaction that comes to its next shard changes nothing.
    pub(crate) fn taken(
        &self,
        (slot, generation): (u32, u32),
        now: Instant,
        message: &'static str,
        object: Option<String>,
        route: Route,
    ) {
        let mut state = self.lock();
        if let Some(followed) = state.followed(slot, generation)
            && followed.message.is_none()
        {
            (followed.message, followed.object, followed.route) = (Some(message), object, Some(route));
            followed.taken = followed.taken.or(Some(now));
        }
    }

    /// A message has got a lock that it waited for.
    pub(crate) fn waited(&self, (slot, generation): (u32, u32), message: &'static str, wait: SeenWait) {
        let mut state = self.lock();
        if let Some(followed) = state.followed(slot, generation)
            && followed.waits.len() < WAITS_MAX
        {
            followed.message = followed.message.or(Some(message));
            followed.route = Some(Route::Consensus);
            followed.taken = followed.taken.or(Some(wait.began));
            followed.waits.push(wait);
        }
    }

    /// Messages have run, as a shard has found `now`.
    pub(crate) fn ran(&self, asks: impl Iterator<Item = (u32, u32)>, how: Ran, now: Instant) {
        let mut state = self.lock();
        for (slot, generation) in asks {
            let Some(followed) = state.followed(slot, generation) else { continue };
            if followed.ran.is_some() {
                continue;
            }
            if let Ran::InTurn(began) = how {
                followed.taken = followed.taken.or(Some(began));
            }
            // One that nobody saw being taken ran before it was followed.
            followed.ran = if followed.taken.is_some() { Some(now) } else { followed.since };
        }
    }

    /// These are about to be answered, by `shard`. What they are kept as.
    pub(crate) fn answered(
        &self,
        asks: impl Iterator<Item = (u32, u32)>,
        shard: ShardIndex,
        now: Instant,
    ) -> Vec<EndedTrace> {
        let mut state = self.lock();
        let mut ended = Vec::new();
        for (slot, generation) in asks {
            if state.followed(slot, generation).is_none() {
                continue;
            }
            let followed = state.places[slot as usize % PLACES].take().expect("it was found");
            self.following.fetch_sub(1, Ordering::Relaxed);
            let is_exact = followed.since.is_none();
            let trace = followed.ends(shard, now, self.started);
            let lists = match is_exact {
                false => Lists::Slow,
                true if self.is_slow(trace.took) => Lists::Both,
                true => Lists::Sampled,
            };
            ended.push(state.keep(trace, lists));
        }
        ended
    }

    /// A batch of so many messages was slow: it began then, and is answered by `shard`.
    #[cold]
    pub(crate) fn slow_batch(
        &self,
        shard: ShardIndex,
        begun: Instant,
        now: Instant,
        messages: usize,
    ) -> EndedTrace {
        self.count_slow(1);
        let trace = MessageTrace {
            number: 0,
            shard,
            message: None,
            object: None,
            route: None,
            messages: messages as u32,
            answered: now.saturating_duration_since(self.started),
            took: now.saturating_duration_since(begun),
            is_exact: true,
            taken: None,
            ran: None,
            waits: Vec::new(),
        };
        self.lock().keep(trace, Lists::Slow)
    }

    /// An ask could not be sent after all.
    #[cold]
    pub(crate) fn forget(&self, slot: u32, generation: u32) {
        let mut state = self.lock();
        if state.followed(slot, generation).is_some() {
            state.places[slot as usize % PLACES] = None;
            self.following.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Forgets those that do not wait any more and that no shard has said to have answered: the
    /// runtime did, or has died.
    fn forget_ended(&self, waits: impl Fn(u32, u32) -> bool) {
        if !self.is_following() {
            return;
        }
        // Apart: to look at a slot takes its lock, and an ask that begins to be followed has it.
        let followed: Vec<_> = self
            .lock()
            .places
            .iter()
            .flatten()
            .map(|followed| (followed.slot, followed.generation))
            .collect();
        for (slot, generation) in followed {
            if !waits(slot, generation) {
                self.forget(slot, generation);
            }
        }
    }

    fn count_slow(&self, more: u64) {
        self.slow.fetch_add(more, Ordering::Relaxed);
    }

    /// How many asks and batches were slow, and the last of them; the last that were followed from
    /// their begin.
    pub(crate) fn read(&self) -> (u64, Vec<Arc<MessageTrace>>, Vec<Arc<MessageTrace>>) {
        let state = self.lock();
        let all = |traces: &VecDeque<Arc<MessageTrace>>| traces.iter().cloned().collect();
        (self.slow.load(Ordering::Relaxed), all(&state.slow), all(&state.sampled))
    }

    fn lock(&self) -> MutexGuard<'_, TraceState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a trace that has ended is kept.
enum Lists {
    Slow,
    Sampled,
    Both,
}

impl TraceState {
    fn followed(&mut self, slot: u32, generation: u32) -> Option<&mut FollowedAsk> {
        let place = self.places[slot as usize % PLACES].as_mut();
        place.filter(|followed| followed.slot == slot && followed.generation == generation)
    }

    fn keep(&mut self, mut trace: MessageTrace, lists: Lists) -> EndedTrace {
        self.last_number += 1;
        trace.number = self.last_number;
        let trace = Arc::new(trace);
        let (slow, sampled) = (&mut self.slow, &mut self.sampled);
        let lists = match lists {
            Lists::Slow => [Some(slow), None],
            Lists::Sampled => [None, Some(sampled)],
            Lists::Both => [Some(slow), Some(sampled)],
        };
        for list in lists.into_iter().flatten() {
            if list.len() == KEPT {
                list.pop_front();
            }
            list.push_back(trace.clone());
        }
        EndedTrace(trace)
    }
}

impl FollowedAsk {
    fn ends(self, shard: ShardIndex, now: Instant, started: Instant) -> MessageTrace {
        let since_ask = |at: Instant| at.saturating_duration_since(self.begun);
        let wait = |wait: SeenWait| TracedWait {
            shard: wait.shard,
            object: wait.object,
            ahead: wait.ahead,
            behind: wait.behind,
            from: since_ask(wait.began),
            to: since_ask(wait.ended),
        };
        MessageTrace {
            number: 0,
            shard,
            message: self.message,
            object: self.object,
            route: self.route,
            messages: 1,
            answered: now.saturating_duration_since(started),
            took: since_ask(now),
            is_exact: self.since.is_none(),
            taken: self.taken.map(since_ask),
            ran: self.ran.map(since_ask),
            waits: self.waits.into_iter().map(wait).collect(),
        }
    }
}

impl EndedTrace {
    /// Says it to `tracing`, as a span with a span for each part.
    pub(crate) fn say(&self) {
        let MessageTrace { number, shard, message, object, took, is_exact, .. } = &*self.0;
        let (shard, message, object) = (shard.0, message.unwrap_or("?"), object.as_deref().unwrap_or("?"));
        let span = tracing::debug_span!("message", number, shard, message, object, ?took, is_exact);
        span.in_scope(|| {
            for Stage { name, from, to } in self.0.stages() {
                tracing::debug_span!("stage", stage = name, ?from, ?to).in_scope(|| {});
            }
            for TracedWait { shard, object, ahead, behind, from, to } in &self.0.waits {
                let (shard, behind) = (shard.0, behind.unwrap_or("?"));
                tracing::debug_span!("lock_wait", shard, object, ahead, behind, ?from, ?to).in_scope(|| {});
            }
        });
    }
}

/// What the watching thread has seen of the asks in flight.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    /// By slot.
    seen: Vec<Option<SeenAsk>>,
}

#[derive(Clone, Copy, Debug)]
struct SeenAsk {
    generation: u32,
    first: Instant,
    /// After the first.
    looks: u32,
}

impl Looks {
    /// Looks at those that wait `now`: in each of the first `slots` slots, the generation of the
    /// ask that waits there.
    pub(crate) fn look(
        &mut self,
        traces: &Traces,
        slots: u32,
        waiting: impl Fn(u32) -> Option<u32>,
        now: Instant,
    ) {
        for slot in 0..slots {
            let Some(generation) = waiting(slot) else { continue };
            let first = SeenAsk { generation, first: now, looks: 0 };
            if slot as usize >= self.seen.len() {
                self.seen.resize(slot as usize + 1, None);
            }
            let place = &mut self.seen[slot as usize];
            let Some(seen) = place.as_mut().filter(|seen| seen.generation == generation) else {
                *place = Some(first);
                continue;
            };
            seen.looks = seen.looks.saturating_add(1);
            match seen.looks {
                LOOKS_TO_FOLLOW => traces.follow_slow(slot, generation, seen.first, now),
                LOOKS => traces.count_slow(1),
                _ => {}
            }
        }
        traces.forget_ended(|slot, generation| waiting(slot) == Some(generation));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::said::{SaidSpan, SaidSpans};

    const T: Duration = Duration::from_millis(100);
    const HERE: ShardIndex = ShardIndex(1);

    fn ms(at: u64) -> Duration {
        Duration::from_millis(at)
    }

    fn stages(trace: &MessageTrace) -> Vec<(&'static str, Duration, Duration)> {
        trace.stages().map(|Stage { name, from, to }| (name, from, to)).collect()
    }

    #[test]
    fn a_trace_is_a_span_with_its_parts_in_it() {
        let begun = Instant::now();
        let traces = Traces::new(begun, T);
        traces.sample(7, 3, begun);
        traces.taken((7, 3), begun + ms(2), "Pay", Some("Account(1)".into()), Route::Consensus);
        let (began, ended) = (begun + ms(3), begun + ms(5));
        let (object, behind) = ("Account(2)".into(), Some("Fold"));
        let wait = SeenWait { shard: HERE, object, ahead: 4, behind, began, ended };
        traces.waited((7, 3), "Pay", wait);
        traces.ran([(7, 3)].into_iter(), Ran::InTurn(begun + ms(5)), begun + ms(6));
        let answered = traces.answered([(7, 3)].into_iter(), HERE, begun + ms(30));
        let [trace] = &answered[..] else { panic!("{answered:?}") };
        let spans = SaidSpans::default();
        tracing::subscriber::with_default(spans.clone(), || trace.say());
        let (message, parts) = spans.find("message", "message", "Pay").expect("it is said");
        let is = |span: &SaidSpan, fields: &[(&str, &str)]| {
            fields.iter().all(|(name, value)| span.fields.get(name).is_some_and(|said| said == value))
        };
        assert!(is(&message, &[("number", "1"), ("shard", "1"), ("took", "30ms"), ("is_exact", "true")]));
        assert_eq!(message.fields["object"], "Account(1)");
        let names: Vec<_> = parts.iter().map(|part| part.name).collect();
        assert_eq!(names, ["stage", "stage", "stage", "lock_wait"]);
        assert!(is(&parts[0], &[("stage", "queued"), ("from", "0ns"), ("to", "2ms")]), "{parts:#?}");
        let wait = [("shard", "1"), ("object", "Account(2)"), ("behind", "Fold"), ("from", "3ms")];
        assert!(is(&parts[3], &wait), "{parts:#?}");
        assert_eq!(spans.all().len(), 5);
    }

    #[test]
    fn a_message_that_is_followed_from_its_begin_has_all_its_parts() {
        let begun = Instant::now();
        let traces = Traces::new(begun, T);
        assert!(!traces.is_following());
        traces.sample(7, 3, begun);
        assert!(traces.is_following());
        // Another use of the slot, and another slot, are other messages.
        for (slot, generation) in [(7, 4), (8, 3), (7 + PLACES as u32, 3)] {
            assert!(traces.answered([(slot, generation)].into_iter(), HERE, begun + ms(1)).is_empty());
        }
        traces.taken((7, 3), begun + ms(2), "Pay", Some("Account(1)".into()), Route::Consensus);
        // It comes to the next shard, where it waits.
        traces.taken((7, 3), begun + ms(3), "Other", None, Route::Fast);
        let wait = SeenWait {
            shard: HERE,
            object: "Account(2)".into(),
            ahead: 4,
            behind: Some("Fold"),
            began: begun + ms(3),
            ended: begun + ms(5),
        };
        traces.waited((7, 3), "Pay", wait);
        traces.ran([(7, 3)].into_iter(), Ran::InTurn(begun + ms(5)), begun + ms(6));
        traces.ran([(7, 3)].into_iter(), Ran::Held, begun + ms(20));
        let ended = traces.answered([(7, 3)].into_iter(), HERE, begun + ms(30));
        let [EndedTrace(trace)] = &ended[..] else { panic!("{ended:?}") };
        assert!(!traces.is_following());
        let (named, object) = (trace.message, trace.object.as_deref());
        assert_eq!((named, object, trace.route), (Some("Pay"), Some("Account(1)"), Some(Route::Consensus)));
        let parts = [("queued", ms(0), ms(2)), ("running", ms(2), ms(6)), ("durable", ms(6), ms(30))];
        assert_eq!(stages(trace), parts);
        let wait = &trace.waits[0];
        assert_eq!((wait.ahead, wait.behind, wait.from, wait.to), (4, Some("Fold"), ms(3), ms(5)));
        assert!(trace.is_exact && trace.took == ms(30) && trace.number == 1);
        let (slow, slowest, sampled) = traces.read();
        assert_eq!((slow, slowest.len(), sampled.len()), (0, 0, 1), "it was not slow");
    }

    #[test]
    fn one_is_followed_from_its_begin_each_tenth_of_a_second() {
        let begun = Instant::now();
        let traces = Traces::new(begun, T);
        for slot in 0..50 {
            traces.sample(slot, 0, begun + ms(10 * u64::from(slot)));
        }
        let asks: Vec<u32> =
            traces.find((0..50).map(|slot| (slot, slot, 0))).into_iter().map(|it| it.0).collect();
        assert_eq!(asks, [0, 10, 20, 30, 40]);
    }

    /// Has the thread look each 25 ms, while asks wait in these slots from then on for so long, in
    /// milliseconds.
    fn look(traces: &Traces, begun: Instant, asks: &[(u32, u64, u64)], until: u64) {
        let mut looks = Looks::default();
        for at in (0..=until).step_by(25) {
            let waiting = |slot| {
                let waits =
                    |(of, from, took): &&(u32, u64, u64)| *of == slot && (*from..from + took).contains(&at);
                asks.iter().find(waits).map(|(_, from, _)| *from as u32)
            };
            looks.look(traces, 64, waiting, begun + ms(at));
        }
    }

    #[test]
    fn an_ask_that_takes_too_long_is_followed_before_it_is_slow_and_counted_when_it_is() {
        // An ask that takes just so long, whenever it begins.
        for from in 1..=25 {
            let begun = Instant::now();
            let traces = Traces::new(begun, T);
            look(&traces, begun, &[(9, from, 101)], from + 100);
            let ended = traces.answered([(9, from as u32)].into_iter(), HERE, begun + ms(from + 101));
            let [EndedTrace(trace)] = &ended[..] else { panic!("from {from}: {ended:?}") };
            assert!(trace.took >= ms(101 - 25) && trace.took <= ms(101) && !trace.is_exact, "{trace:?}");
            assert_eq!(traces.read().1.len(), 1);
        }
        // Many short ones in one slot are not, and one that lasts is counted once.
        let begun = Instant::now();
        let traces = Traces::new(begun, T);
        let short: Vec<_> = (0..100).map(|at| (3, 10 * at, 9)).collect();
        look(&traces, begun, &short, 1000);
        assert_eq!((traces.read().0, traces.is_following()), (0, false));
        look(&traces, begun, &[(9, 1, 900)], 800);
        assert_eq!((traces.read().0, traces.is_following()), (1, true));
        // It ends without a shard's word: the runtime gave it up.
        look(&traces, begun, &[], 25);
        assert!(!traces.is_following());
    }

    #[test]
    fn what_was_not_seen_is_not_made_up() {
        let begun = Instant::now();
        let traces = Traces::new(begun, T);
        let ask = || [(5, 0)].into_iter();
        // It ran before it was followed, and waits for the disk.
        traces.follow_slow(5, 0, begun, begun + ms(75));
        traces.ran(ask(), Ran::Held, begun + ms(90));
        let held = traces.answered(ask(), HERE, begun + ms(500));
        assert_eq!(stages(&held[0].0), [("running", ms(0), ms(75)), ("durable", ms(75), ms(500))]);
        // It was taken into a turn before that, which took long.
        traces.follow_slow(5, 0, begun, begun + ms(75));
        traces.ran(ask(), Ran::InTurn(begun + ms(10)), begun + ms(300));
        let ran = traces.answered(ask(), HERE, begun + ms(300));
        assert_eq!(stages(&ran[0].0), [("queued", ms(0), ms(10)), ("running", ms(10), ms(300))]);
        // No shard has seen it before it was answered.
        traces.follow_slow(5, 0, begun, begun + ms(75));
        let unseen = traces.answered(ask(), HERE, begun + ms(300));
        assert_eq!(stages(&unseen[0].0), [("answered", ms(0), ms(300))]);
    }

    #[test]
    fn places_and_traces_are_bounded() {
        let begun = Instant::now();
        let traces = Traces::new(begun, T);
        for slot in 0..3 * PLACES as u32 {
            traces.follow_slow(slot, 0, begun, begun + ms(75));
        }
        assert_eq!(traces.following.load(Ordering::Relaxed), PLACES as u32);
        // A use of the slot that is over makes room.
        traces.follow_slow(0, 1, begun, begun + ms(75));
        assert_eq!(traces.following.load(Ordering::Relaxed), PLACES as u32);
        for round in 0..KEPT + 10 {
            traces.slow_batch(HERE, begun, begun + T, round);
        }
        let (slow, kept, _) = traces.read();
        assert_eq!((slow, kept.len()), ((KEPT + 10) as u64, KEPT));
        assert_eq!((kept[0].number, kept[0].messages), (11, 10));
    }
}
