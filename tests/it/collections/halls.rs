//! A collection with entries of two kinds.

use freehold::testing::Bench;
use freehold::{AccessError, Objects, Receive, To};
use serde::{Deserialize, Serialize};

freehold::actor! {
    actor Halls {
        id: Id, state: State, message: Message, reply: Reply, error: AccessError<Id>,
        kinds {
            Hall(number: u64),
            Chair(hall: u64, number: u64) in Hall(hall),
            Lamp(hall: u64, number: u64) in Hall(hall),
        }
        messages { Furnish -> (), Dim -> bool, Clear -> (), Count -> (usize, usize), Look -> (usize, Option<u64>) }
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Hall;

#[derive(Clone, Serialize, Deserialize)]
struct Chair;

#[derive(Clone, Serialize, Deserialize)]
struct Lamp {
    is_on: bool,
}

struct Furnish;

/// Removes lamps that are off, four looks at a time. Whether it came to the end.
struct Dim {
    from: Option<u64>,
}

/// Removes chairs, eight at a time. Whether none is left.
struct Clear;

/// Chairs and lamps.
struct Count;

/// Looks at so many lamps and keeps all. How many it looked at, and which is next.
struct Look(usize);

impl Receive<Halls> for Look {
    fn addressees(&self, to: &mut To<'_, Halls>) {
        to.write::<Hall>(1);
    }

    fn receive(&self, objects: &mut Objects<'_, Halls>) -> Result<(usize, Option<u64>), AccessError<Id>> {
        let mut looked = 0;
        let next = objects.entries::<Lamp>(1)?.retain(.., self.0, |_, _| {
            looked += 1;
            true
        })?;
        Ok((looked, next.map(|(_, number)| number)))
    }
}

impl Receive<Halls> for Furnish {
    fn addressees(&self, to: &mut To<'_, Halls>) {
        to.write::<Hall>(1);
    }

    fn receive(&self, objects: &mut Objects<'_, Halls>) -> Result<(), AccessError<Id>> {
        for number in 0..20 {
            objects.entries::<Chair>(1)?.put((1, number), Chair)?;
        }
        for number in 0..6 {
            objects.entries::<Lamp>(1)?.put((1, number), Lamp { is_on: number % 2 == 0 })?;
        }
        Ok(())
    }
}

impl Receive<Halls> for Dim {
    fn addressees(&self, to: &mut To<'_, Halls>) {
        to.write::<Hall>(1);
    }

    fn receive(&self, objects: &mut Objects<'_, Halls>) -> Result<bool, AccessError<Id>> {
        let mut lamps = objects.entries::<Lamp>(1)?;
        let next = match self.from {
            // All of the collection: its chairs come first.
            None => lamps.retain(.., 4, |_, lamp| lamp.is_on)?,
            Some(from) => lamps.retain((1, from).., 4, |_, lamp| lamp.is_on)?,
        };
        match next {
            None => Ok(true),
            Some((_, from)) => objects.send(Dim { from: Some(from) }).map(|_| false),
        }
    }
}

impl Receive<Halls> for Clear {
    fn addressees(&self, to: &mut To<'_, Halls>) {
        to.write::<Hall>(1);
    }

    fn receive(&self, objects: &mut Objects<'_, Halls>) -> Result<(), AccessError<Id>> {
        objects.entries::<Chair>(1)?.clear()
    }
}

impl Receive<Halls> for Count {
    fn addressees(&self, to: &mut To<'_, Halls>) {
        to.read::<Hall>(1);
    }

    fn receive(&self, objects: &mut Objects<'_, Halls>) -> Result<(usize, usize), AccessError<Id>> {
        let chairs = objects.entries::<Chair>(1)?.range(..).count();
        Ok((chairs, objects.entries::<Lamp>(1)?.range(..).count()))
    }
}

/// `retain` of one kind ended where entries of another began, and `clear` removed those, too.
#[test]
fn entries_of_two_kinds_are_told_apart() {
    let mut bench = Bench::<Halls>::shards(1);
    bench.call(Furnish).expect("there is room");
    assert_eq!(bench.call(Count), Ok((20, 6)));
    bench.call(Dim { from: None }).expect("it runs");
    assert_eq!(bench.call(Count), Ok((20, 3)), "the lamps that are off are gone");
    assert_eq!(bench.call(Clear), Ok(()));
    assert_eq!(bench.call(Count), Ok((0, 3)));
}

/// With nothing to look at, `retain` said that no lamp is left. It took chairs for lamps that
/// it had looked at: where they came first, `clear` of one lamp at a time removed none.
#[test]
fn entries_of_another_kind_are_no_end_and_do_not_count() {
    let mut bench = Bench::<Halls>::shards(1);
    assert_eq!(bench.call(Look(0)), Ok((0, None)), "there is none");
    bench.call(Furnish).expect("there is room");
    let looks = [0, 1, 5, 6, 7, 22, 30].map(|most| bench.call(Look(most)).expect("it runs"));
    let all = (6, None);
    assert_eq!(looks, [(0, Some(0)), (1, Some(1)), (5, Some(5)), all, all, all, all]);
}
