//! What the pump does after a round: it goes on, gives way, spins or parks. Decided here, carried
//! out in `pump`.
//!
//! The story: a shard's log was behind, so the shard took nothing from the ingress. A round found
//! nothing to do, and a shard with messages in its ingress does not park. The pump went from one to
//! the other without an `await`. So its executor never looked at its ring, never saw that the
//! disk's write had ended, and the shard stayed behind for ever.
//!
//! Invariant *gives-way*: of [`LOOKS_PER_CLOCK`] steps in a row at least one lets the executor look
//! at its ring. The pump takes its steps from here only, and awaits something at each [`PumpStep`]
//! but [`PumpStep::Look`]; a `Look` comes only while `looks` counts up to a multiple of that
//! number.

use std::time::{Duration, Instant};

use crate::core::{Found, Publish};

/// How many empty looks a spinning pump takes between two looks at the clock.
pub(super) const LOOKS_PER_CLOCK: u32 = 16;

/// After so many rounds the pump lets tasks run that it does not know of.
const ROUNDS_PER_YIELD: u32 = 8;

/// What the pump does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PumpStep {
    /// It lets every task run that is ready.
    Yield,
    /// It lets the executor do what it wants to, if it wants to.
    YieldIfNeeded,
    /// It lets the executor look around, and another thread have the CPU.
    GiveWay,
    /// It lets the executor look around, and goes on spinning.
    SpinOn,
    /// It looks again at once.
    Look,
    /// It has a last round, and then waits for an event, if [`Pace::parks_after`] says so.
    Park,
}

/// What the pump knows of its shard after a round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around {
    /// Tasks were woken.
    pub(super) woke: bool,
    /// There are tasks.
    pub(super) has_tasks: bool,
    /// It need not look at its ring soon: neither a write of its log nor an end is under way.
    pub(super) may_spin: bool,
    /// How long it spins.
    pub(super) spin: Duration,
}

/// Where the pump is between two parks.
#[derive(Debug)]
pub(super) struct Pace {
    /// Rounds since something was found.
    looks: u32,
    rounds: u32,
    /// Since when nothing was found, if it may spin.
    spins_since: Option<Instant>,
}

impl Pace {
    pub(super) fn new() -> Pace {
        Pace { looks: 0, rounds: 0, spins_since: None }
    }

    /// Whether the next round is to publish what tasks did by themselves.
    #[inline]
    pub(super) fn publishes(&self) -> Publish {
        let is_last = self.looks % LOOKS_PER_CLOCK == LOOKS_PER_CLOCK - 1;
        if is_last { Publish::Always } else { Publish::WithWork }
    }

    /// What comes after a round. `now` reads a clock: after work the one that the round has read.
    #[inline]
    pub(super) fn next(&mut self, found: Found, around: Around, now: impl FnOnce() -> Instant) -> PumpStep {
        match found {
            Found::Work => {
                self.spins_since = Some(now());
                self.looks = 0;
                self.rounds = self.rounds.wrapping_add(1);
                // Tasks were woken, or there are some, or there may be some that the pump does not
                // know of.
                let yields = around.woke || around.has_tasks || self.rounds.is_multiple_of(ROUNDS_PER_YIELD);
                if yields { PumpStep::Yield } else { PumpStep::YieldIfNeeded }
            }
            Found::FullLanes => {
                self.looks += 1;
                PumpStep::GiveWay
            }
            Found::Nothing => {
                self.looks += 1;
                let looks_at_clock = self.looks.is_multiple_of(LOOKS_PER_CLOCK);
                let spins = match self.spins_since {
                    Some(_) if !around.may_spin || around.spin.is_zero() => false,
                    Some(since) => !looks_at_clock || now().saturating_duration_since(since) < around.spin,
                    None => false,
                };
                match (spins, around.has_tasks || looks_at_clock) {
                    (true, true) => PumpStep::SpinOn,
                    (true, false) => PumpStep::Look,
                    (false, _) => {
                        self.looks = 0;
                        PumpStep::Park
                    }
                }
            }
        }
    }

    /// Whether the pump parks after the last round before a park. `now` reads a clock.
    ///
    /// The story: it parked whatever that round had found, if there was nothing left to do. But a
    /// shard that drains says in a round that finds nothing that it is at rest. A message that came
    /// just before the last round was run in it, the shard parked, and never said so: the shutdown
    /// waited for as long as it may. Invariant *rests-before-it-parks*: a pump parks after a round
    /// that found nothing, and after no other.
    #[inline]
    pub(super) fn parks_after(&mut self, found: Found, now: impl FnOnce() -> Instant) -> bool {
        if found == Found::Work {
            self.spins_since = Some(now());
        }
        found == Found::Nothing
    }

    /// The pump has parked. It spins afterwards if there may be work, from `since` on, and not if
    /// only time has passed.
    pub(super) fn parked(&mut self, since: Option<Instant>) {
        self.spins_since = since;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FOUND: [Found; 3] = [Found::Work, Found::FullLanes, Found::Nothing];

    proptest! {
        // Whatever rounds find: the executor looks at its ring.
        #[test]
        fn the_pump_gives_way_again_and_again(
            rounds in proptest::collection::vec((0..FOUND.len(), any::<[bool; 3]>(), 0_u64..100, any::<bool>()), 1..400),
        ) {
            let (mut pace, begun) = (Pace::new(), Instant::now());
            let (mut now, mut blind) = (begun, 0);
            for (found, [woke, has_tasks, may_spin], took, wakes) in rounds {
                now += Duration::from_micros(took);
                let around = Around { woke, has_tasks, may_spin, spin: Duration::from_micros(200) };
                let step = pace.next(FOUND[found], around, || now);
                blind = if step == PumpStep::Look { blind + 1 } else { 0 };
                prop_assert!(blind < LOOKS_PER_CLOCK, "gives-way");
                if step == PumpStep::Park {
                    pace.parked(wakes.then_some(now));
                }
            }
        }
    }

    #[test]
    fn it_spins_for_its_time_and_then_parks() {
        let (mut pace, begun) = (Pace::new(), Instant::now());
        let around =
            Around { woke: false, has_tasks: false, may_spin: true, spin: Duration::from_micros(100) };
        assert_eq!(pace.next(Found::Nothing, around, || begun), PumpStep::Park, "nothing was found yet");
        pace.parked(None);
        assert_eq!(pace.next(Found::Work, around, || begun), PumpStep::YieldIfNeeded);
        let steps: Vec<_> = (1..=1000)
            .map(|look| pace.next(Found::Nothing, around, || begun + Duration::from_micros(look)))
            .take_while(|step| *step != PumpStep::Park)
            .collect();
        assert_eq!(steps.len(), 111, "it looks at the clock each sixteenth time");
        assert_eq!(steps.iter().filter(|step| **step == PumpStep::SpinOn).count(), 6);
        // While the disk writes it parks at once, so that the executor sees the end of the write.
        pace.next(Found::Work, around, || begun);
        let writes = Around { may_spin: false, ..around };
        assert_eq!(pace.next(Found::Nothing, writes, || begun), PumpStep::Park);
        assert!(!pace.parks_after(Found::FullLanes, || begun) && pace.parks_after(Found::Nothing, || begun));
    }

    /// A shard, its disk and its executor, as far as they matter to the pump.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
    struct Model {
        /// Messages wait in the ingress.
        ingress: bool,
        /// The log is so far behind that the shard takes none of them.
        behind: bool,
        /// The disk writes.
        writing: bool,
        /// It has written, and the executor has not seen it yet.
        written: bool,
        /// The runtime stops, and waits until the shard says that it is at rest.
        drains: bool,
        /// The last round said so.
        at_rest: bool,
        /// The pump is about to have its last round before a park.
        parks: bool,
        looks: u32,
        parked: bool,
    }

    impl Model {
        /// A round: what it finds, and what is so after it.
        fn round(self) -> (Found, Model) {
            let works = self.ingress && !self.behind;
            let found = if works { Found::Work } else { Found::Nothing };
            (found, Model { ingress: self.ingress && !works, at_rest: !self.ingress, ..self })
        }

        /// The executor looks at its ring.
        fn sees(self) -> Model {
            match self.written {
                // The write's end wakes a parked pump.
                true => Model { behind: false, writing: false, written: false, parked: false, ..self },
                false => self,
            }
        }
    }

    /// Every state that can be reached, and what the pump does in it. While the disk writes and the
    /// shard is behind, the pump may wait; it may not go on for ever without letting the executor
    /// see that the write has ended. While the shard drains, the pump may not wait before it has
    /// said that it is at rest.
    #[test]
    fn a_pump_that_is_held_back_is_neither_busy_and_blind_nor_asleep_with_work() {
        let mut seen = std::collections::BTreeSet::new();
        let mut open: Vec<Model> = (0..16)
            .map(|bits: u32| {
                let writing = bits & 4 != 0;
                // The log is behind only while the disk writes: what waits is the next batch.
                Model {
                    ingress: bits & 1 != 0,
                    behind: bits & 2 != 0 && writing,
                    writing,
                    drains: bits & 8 != 0,
                    ..Model::default()
                }
            })
            .collect();
        while let Some(state) = open.pop() {
            if !seen.insert(state) {
                continue;
            }
            // Another shard sends; the disk finishes.
            open.push(Model { ingress: true, parked: false, ..state });
            if state.writing && !state.written {
                open.push(Model { written: true, ..state });
            }
            if state.parked {
                assert!(!state.ingress || state.behind, "asleep with work: {state:?}");
                assert!(!state.behind || state.writing, "nothing would wake it: {state:?}");
                assert!(state.ingress || state.at_rest, "rests-before-it-parks: {state:?}");
                // An executor whose tasks all wait looks at its ring.
                open.push(state.sees());
                continue;
            }
            let begun = Instant::now();
            let mut pace = Pace { looks: state.looks, rounds: 0, spins_since: Some(begun) };
            let (found, mut next) = state.round();
            if found == Found::Work {
                // What it ran may put the log behind.
                open.push(Model { behind: true, writing: true, parks: false, ..next });
            }
            if state.parks {
                next.parks = false;
                // Unless something has come meanwhile.
                next.parked = pace.parks_after(found, || begun) && (!next.ingress || next.behind);
                open.push(if next.parked { next } else { next.sees() });
                continue;
            }
            let spin = Duration::from_secs(3600);
            let may_spin = !state.writing && !state.drains;
            let step = pace.next(found, Around { woke: false, has_tasks: false, may_spin, spin }, || begun);
            next.looks = pace.looks % LOOKS_PER_CLOCK;
            match step {
                PumpStep::Look => assert!(pace.looks > state.looks, "gives-way: {state:?}"),
                PumpStep::Park => next.parks = true,
                _ => next = next.sees(),
            }
            open.push(next);
        }
        assert!(seen.len() > 30, "{}", seen.len());
    }
}
