//! The world under test: no runtime, no service, and every meeting from a seed.

use std::cell::Cell;
use std::rc::Rc;

use freehold::testing::Bench;

use super::*;

const PACE: Duration = Duration::from_secs(1);

fn census(bench: &Bench<World>) -> Tally {
    let census = bench.tally(count);
    judge(&census);
    census
}

/// So many entities appear, and wake up.
fn populate(bench: &mut Bench<World>, entities: EntityNo) {
    assert!(bench.call_all((0..entities).map(Appear)).iter().all(Result::is_ok));
    assert_eq!(bench.timers(), 0, "they sleep");
    assert!(bench.call_all((0..REGIONS).map(Ring)).iter().all(Result::is_ok));
}

#[test]
fn everybody_is_in_one_place_in_whatever_order_they_move() {
    Bench::<World>::explore(0..20, |bench| {
        *bench = Bench::shards(3).with_seed(bench.seed()).with_context(PACE).with_performer(|_, action| {
            let Message::Forage(Forage(no)) = *action else { unreachable!("it is the only action") };
            Fed(no, Some(MEAL)).into()
        });
        populate(bench, 30);
        for _ in 0..10 {
            bench.pass(PACE / 3);
            census(bench);
        }
        let steps =
            bench.objects().map(|(_, _, state)| if let State::Entity(of) = state { of.steps } else { 0 });
        assert!(steps.sum::<u64>() > 90, "they move");
        assert_eq!(
            (bench.timers(), bench.take_failures().len()),
            (30, 0),
            "each has its next step before it"
        );
    });
}

#[test]
fn who_is_hungry_asks_until_there_is_a_meal() {
    let asked = Rc::new(Cell::new(0_u64));
    let count = asked.clone();
    let mut bench = Bench::<World>::shards(2).with_context(PACE).with_performer(move |_, action| {
        let Message::Forage(Forage(no)) = *action else { unreachable!("it is the only action") };
        count.set(count.get() + 1);
        // The service fails every third time.
        Fed(no, (!count.get().is_multiple_of(3)).then_some(MEAL)).into()
    });
    populate(&mut bench, 10);
    for _ in 0..3 * MEAL {
        bench.pass(PACE);
    }
    let census = census(&bench);
    assert!(census.get("meals") >= 20, "{census:?}");
    assert_eq!(census.get("meals"), i128::from(asked.get() - asked.get() / 3), "an outcome counts once");
    assert!(bench.take_failures().is_empty());
}

#[test]
fn a_bell_is_heard_by_all_of_its_region() {
    let mut bench = Bench::<World>::shards(2).with_context(PACE);
    assert!(bench.call_all((1..=5).map(|no| Appear(no * REGIONS))).iter().all(Result::is_ok));
    assert!(bench.call(Appear(1)).is_ok());
    assert_eq!((bench.call(Ring(0)), bench.call(Ring(1)), bench.call(Ring(2))), (Ok(5), Ok(1), Ok(0)));
    assert_eq!((census(&bench).get("heard"), bench.timers()), (6, 6), "each wakes up once");
    assert_eq!(bench.call(Ring(0)), Ok(5));
    assert_eq!((census(&bench).get("heard"), bench.timers()), (11, 6));
}
