//! Which objects are hot: those that many of the last messages named, and those that transactions
//! had to wait for.
//!
//! A shard has a [`HotSketch`] of each. It is the space-saving algorithm (Metwally, Agrawal, El
//! Abbadi: "Efficient computation of frequent and top-k elements in data streams", 2005): so many
//! places; an id without one takes the place with the least count, and inherits the count. So a
//! count is too high by at most the least one, and an object with more than one in [`PLACES`] of
//! all messages has a place.
//!
//! Nothing on the way of a message looks at it. At most once a millisecond a shard takes one of the
//! messages that have just come, and counts it for all that came since the last time. Counts are of
//! the last one or two windows of [`WINDOW`], so an object that has cooled down leaves.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use freehold_shard::{ObjectId, ShardIndex};

/// Objects that are counted at a time.
const PLACES: usize = 64;
/// How long a window lasts.
const WINDOW: Duration = Duration::from_secs(10);
/// Rates are of at least so long, so that the first messages of all are not taken for a flood.
const SPAN_MIN: Duration = Duration::from_secs(1);
/// Shards take a message to be counted at most so often.
pub(crate) const SAMPLE_EVERY: Duration = Duration::from_millis(1);

/// One of the hottest objects.
#[derive(Clone, Debug, PartialEq)]
pub struct HotObject {
    /// Where it lives.
    pub shard: ShardIndex,
    /// Its id, as `Debug` writes it.
    pub id: String,
    /// Messages to it in a second, or waits for it, lately: an estimate from samples.
    pub per_second: f64,
}

struct HotPlace<I> {
    id: I,
    count: u64,
}

/// The ids that were counted most, about.
struct HotSketch<I> {
    places: Vec<HotPlace<I>>,
}

impl<I: ObjectId> HotSketch<I> {
    fn new() -> Self {
        HotSketch { places: Vec::new() }
    }

    fn count(&mut self, id: I, weight: u64) {
        if let Some(place) = self.places.iter_mut().find(|place| place.id == id) {
            place.count += weight;
        } else if self.places.len() < PLACES {
            self.places.push(HotPlace { id, count: weight });
        } else {
            let least = self.places.iter_mut().min_by_key(|place| place.count).expect("there are places");
            (least.id, least.count) = (id, least.count + weight);
        }
    }
}

/// What a shard counts in a window.
struct Window<I> {
    began: Instant,
    touched: HotSketch<I>,
    waited: HotSketch<I>,
}

impl<I: ObjectId> Window<I> {
    fn new(began: Instant) -> Self {
        Window { began, touched: HotSketch::new(), waited: HotSketch::new() }
    }
}

/// Which of its two lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heat {
    Touched,
    Waited,
}

/// What is hot on a shard. Behind a lock that its shard takes at most once a millisecond, and
/// readers of statistics.
pub(crate) struct HotWindows<I> {
    /// The one before, and the one now.
    windows: [Window<I>; 2],
}

/// Those of one shard, on lines of their own.
pub(crate) type SharedHot<I> = CachePadded<Mutex<HotWindows<I>>>;

impl<I: ObjectId> HotWindows<I> {
    pub(crate) fn new(now: Instant) -> Self {
        HotWindows { windows: [Window::new(now), Window::new(now)] }
    }

    /// Begins another window if the one now has lasted long enough.
    fn turn(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.windows[1].began);
        if age >= 2 * WINDOW {
            *self = HotWindows::new(now);
        } else if age >= WINDOW {
            self.windows.swap(0, 1);
            self.windows[1] = Window::new(now);
        }
    }

    /// Counts an object for so many messages or waits.
    pub(crate) fn count(&mut self, now: Instant, heat: Heat, id: I, weight: u64) {
        self.turn(now);
        let [_, window] = &mut self.windows;
        match heat {
            Heat::Touched => window.touched.count(id, weight),
            Heat::Waited => window.waited.count(id, weight),
        }
    }

    /// Adds the rates of this shard's to `rates`, by id.
    pub(crate) fn rates(&mut self, now: Instant, heat: Heat, rates: &mut Vec<(I, f64)>) {
        self.turn(now);
        let span = now.saturating_duration_since(self.windows[0].began).max(SPAN_MIN).as_secs_f64();
        let begin = rates.len();
        for window in &self.windows {
            let sketch = match heat {
                Heat::Touched => &window.touched,
                Heat::Waited => &window.waited,
            };
            for place in &sketch.places {
                let rate = place.count as f64 / span;
                match rates[begin..].iter_mut().find(|(id, _)| *id == place.id) {
                    Some((_, sum)) => *sum += rate,
                    None => rates.push((place.id, rate)),
                }
            }
        }
    }
}

/// The hottest of all shards.
pub(crate) fn hottest<I: ObjectId>(
    mut rates: Vec<(I, f64)>,
    max: usize,
    home: impl Fn(&I) -> ShardIndex,
) -> Vec<HotObject> {
    let mut hottest = Vec::new();
    // There are few of each. To sort them all would be more to compile.
    while hottest.len() < max {
        let mut first: Option<(usize, &(I, f64))> = None;
        for (at, one) in rates.iter().enumerate() {
            if first.is_none_or(|(_, first)| first.1.total_cmp(&one.1).then(one.0.cmp(&first.0)).is_lt()) {
                first = Some((at, one));
            }
        }
        let Some((at, _)) = first else { break };
        let (id, per_second) = rates.swap_remove(at);
        hottest.push(HotObject { shard: home(&id), id: format!("{id:?}"), per_second });
    }
    hottest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(hot: &mut HotWindows<u64>, now: Instant) -> Vec<(u64, f64)> {
        let mut rates = Vec::new();
        hot.rates(now, Heat::Touched, &mut rates);
        rates.sort_by(|(_, rate), (_, other)| other.total_cmp(rate));
        rates
    }

    #[test]
    fn an_object_of_many_messages_is_found_among_any_number_of_others() {
        let begun = Instant::now();
        let mut hot = HotWindows::new(begun);
        for at in 0..10_000 {
            hot.count(begun, Heat::Touched, 1_000_000 + at, 1);
            if at % 10 == 0 {
                hot.count(begun, Heat::Touched, 7, 1);
            }
        }
        let now = begun + Duration::from_secs(5);
        let rates = rates(&mut hot, now);
        assert_eq!(rates.len(), PLACES, "it is bounded");
        let (id, rate) = rates[0];
        // 1,000 in five seconds, and at most one in 64 of 11,000 too many.
        assert!(id == 7 && (200.0..=200.0 + 11_000.0 / 64.0 / 5.0).contains(&rate), "{id} {rate}");
        let mut waited = Vec::new();
        hot.rates(now, Heat::Waited, &mut waited);
        assert!(waited.is_empty(), "nobody waited");
    }

    #[test]
    fn an_id_without_a_place_takes_that_of_the_least_and_inherits_its_count() {
        let begun = Instant::now();
        let mut hot = HotWindows::new(begun);
        (0..PLACES as u64).for_each(|id| hot.count(begun, Heat::Touched, id, 10 + id));
        // It had the least, and has no more.
        hot.count(begun, Heat::Touched, 0, 5);
        hot.count(begun, Heat::Touched, 999, 3);
        let rates = rates(&mut hot, begun);
        let of = |id| rates.iter().find(|(of, _)| *of == id).map(|(_, rate)| *rate);
        assert_eq!((of(0), of(1), of(999)), (Some(15.0), None, Some(11.0 + 3.0)));
    }

    #[test]
    fn waits_of_two_windows_are_added_and_a_long_silence_ends_both() {
        let begun = Instant::now();
        let mut hot = HotWindows::new(begun);
        hot.count(begun, Heat::Waited, 7_u64, 20);
        hot.count(begun + WINDOW, Heat::Waited, 7, 30);
        let mut waited = Vec::new();
        hot.rates(begun + WINDOW, Heat::Waited, &mut waited);
        assert_eq!(waited, [(7, 5.0)]);
        assert_eq!(rates(&mut hot, begun + WINDOW), [], "it was waited for, and not touched");
        let mut silent = HotWindows::new(begun);
        silent.count(begun, Heat::Touched, 7, 300);
        assert_eq!(rates(&mut silent, begun + 2 * WINDOW), []);
    }

    #[test]
    fn an_object_that_has_cooled_down_leaves_after_two_windows() {
        let begun = Instant::now();
        let mut hot = HotWindows::new(begun);
        hot.count(begun, Heat::Touched, 7, 300);
        assert_eq!(rates(&mut hot, begun), [(7, 300.0)], "at least a second is counted");
        let later = begun + WINDOW;
        hot.count(later, Heat::Touched, 8, 100);
        assert_eq!(rates(&mut hot, later), [(7, 30.0), (8, 10.0)]);
        let later = later + WINDOW;
        assert_eq!(rates(&mut hot, later), [(8, 10.0)]);
        assert_eq!(rates(&mut hot, later + 2 * WINDOW), []);
    }

    #[test]
    fn the_hottest_of_all_come_first_and_there_are_at_most_so_many() {
        let rates = vec![(1_u64, 3.0), (2, 9.0), (3, 9.0), (4, 1.0)];
        let hottest = hottest(rates, 3, |id| ShardIndex(*id as u16));
        let found: Vec<_> = hottest.iter().map(|hot| (hot.shard.0, hot.id.as_str())).collect();
        assert_eq!(found, [(2, "2"), (3, "3"), (1, "1")]);
    }
}
