//! What a message may do while it runs beside reading and writing: want many objects at once, tell
//! many messages, set timers and take them back, and know the time and the context.

use std::time::Duration;

use freehold_shard::testing::Bench;
use freehold_shard::*;
use serde::{Deserialize, Serialize};

struct People;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Person {
    friends: Vec<u64>,
    greeted: u64,
    /// When it was greeted last.
    at: Duration,
    timer: Option<TimerId>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Message {
    Befriend(u64, Vec<u64>),
    /// Greets all friends, which are not among the addressees.
    Greet(u64, Way),
    /// Tells each friend a greeting, while it reads who they are; then fails, if it is to.
    Publish(u64, Result<(), ()>),
    Hello(u64),
    /// A greeting in an hour. Both remember it.
    Remind(u64, u64),
    /// Takes that greeting back; then fails, if it is to.
    Forget(u64, Result<(), ()>),
    /// A greeting in an hour, taken back at once.
    RemindAndForget(u64),
    /// Tells a message that fails, at once and in an hour; it is for one object or for two.
    Doom(u64, Option<u64>),
    Fail(u64, Option<u64>),
    /// What time is it, and what is the context?
    Ask(u64),
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Way {
    OneByOne,
    Wanted,
    ReadOnly,
    Pair,
    Many,
}

#[derive(Clone, Debug, PartialEq)]
enum Refusal {
    Asked,
    Access(AccessError<u64>),
}

impl From<AccessError<u64>> for Refusal {
    fn from(error: AccessError<u64>) -> Self {
        Refusal::Access(error)
    }
}

#[derive(Debug, PartialEq)]
struct Context(u64);

const HOUR: Duration = Duration::from_secs(3600);

impl Actor for People {
    type Id = u64;
    type State = Person;
    type Message = Message;
    type Reply = u64;
    type Error = Refusal;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        match *message {
            Message::Befriend(id, _)
            | Message::Hello(id)
            | Message::Forget(id, _)
            | Message::Doom(id, _)
            | Message::RemindAndForget(id) => to.write(id),
            Message::Fail(id, other) => {
                to.write(id);
                other.into_iter().for_each(|other| to.write(other));
            }
            Message::Greet(id, _) | Message::Publish(id, _) | Message::Ask(id) => to.read(id),
            Message::Remind(id, other) => {
                to.write(id);
                to.write(other);
            }
        }
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<u64, Refusal> {
        match message {
            Message::Befriend(id, friends) => {
                objects.get_or_insert_with(*id, Person::default)?.friends = friends.clone();
            }
            Message::Greet(id, way) => {
                let friends = objects.get(*id)?.map(|person| person.friends.clone()).unwrap_or_default();
                return greet(objects, &friends, *way);
            }
            Message::Publish(id, end) => {
                if let Some(person) = objects.get(*id)? {
                    person.friends.iter().try_for_each(|friend| objects.tell(Message::Hello(*friend)))?;
                }
                return end.map(|()| 0).map_err(|()| Refusal::Asked);
            }
            Message::Hello(id) => {
                let at = objects.now();
                let person = objects.get_or_insert_with(*id, Person::default)?;
                (person.greeted, person.at) = (person.greeted + 1, at);
            }
            Message::Remind(id, other) => {
                let timer = objects.tell_after(HOUR, Message::Hello(*id))?;
                objects.get_or_insert_with(*id, Person::default)?.timer = Some(timer);
                objects.get_or_insert_with(*other, Person::default)?.timer = Some(timer);
            }
            Message::Forget(id, end) => {
                if let Some(timer) = objects.get_mut(*id)?.and_then(|person| person.timer.take()) {
                    objects.cancel(timer)?;
                }
                return end.map(|()| 0).map_err(|()| Refusal::Asked);
            }
            Message::RemindAndForget(id) => {
                let timer = objects.tell_after(HOUR, Message::Hello(*id))?;
                objects.cancel(timer)?;
            }
            Message::Doom(id, other) => {
                objects.tell(Message::Fail(*id, *other))?;
                objects.tell_after(HOUR, Message::Fail(*id, *other))?;
            }
            Message::Fail(..) => panic!("as the test says"),
            Message::Ask(_) => return Ok(objects.now().as_secs() + objects.context::<Context>()?.0),
        }
        Ok(0)
    }
}

/// Greets friends, and says how many there are.
fn greet(objects: &mut Objects<'_, People>, friends: &[u64], way: Way) -> Result<u64, Refusal> {
    match way {
        Way::OneByOne => {}
        Way::Wanted => objects.want(friends.iter().copied())?,
        Way::ReadOnly => {
            objects.want_to_read(friends.iter().copied())?;
            for friend in friends {
                objects.get(*friend)?;
            }
            return Ok(friends.len() as u64);
        }
        Way::Pair => {
            objects.get_pair_mut(friends[0], friends[1])?;
            return Ok(2);
        }
        Way::Many => {
            objects.get_many_mut([friends[0], friends[1], friends[2], friends[3]])?;
            return Ok(4);
        }
    }
    for friend in friends {
        objects.get_or_insert_with(*friend, Person::default)?.greeted += 1;
    }
    Ok(friends.len() as u64)
}

/// How often a message of person 0 began anew that found all its friends elsewhere.
fn begun_anew(way: Way, friends: u64) -> (Result<u64, AskError<Refusal>>, u64) {
    begun_anew_at_most(Limits::default().reruns_max, way, friends)
}

/// The same with this bound.
fn begun_anew_at_most(reruns_max: u32, way: Way, friends: u64) -> (Result<u64, AskError<Refusal>>, u64) {
    let limits = Limits { reruns_max, ..Limits::default() };
    let mut bench = Bench::<People>::shards(4).with_limits(limits);
    assert_eq!(bench.ask(Message::Befriend(0, (1..=friends).collect())), Ok(0));
    let outcome = bench.ask(Message::Greet(0, way));
    let Counters { undeclared, reruns, .. } = bench.counters();
    (outcome, undeclared + reruns)
}

/// An order of an exchange that found nine others in its book was given up, because each rerun
/// added one object.
#[test]
fn objects_that_a_message_wants_come_in_one_rerun() {
    // One at a time takes long, and ends. (Those that are at home where it runs it need not miss.)
    assert!(matches!(begun_anew(Way::OneByOne, 20), (Ok(20), 9..=20)));
    assert!(matches!(begun_anew(Way::OneByOne, 63), (Ok(63), 21..=63)));
    assert!(matches!(begun_anew_at_most(8, Way::OneByOne, 20), (Err(AskError::AddresseesUnstable), _)));
    assert_eq!(begun_anew(Way::Wanted, 20), (Ok(20), 1));
    assert_eq!(begun_anew(Way::ReadOnly, 20), (Ok(20), 1));
    assert_eq!(begun_anew(Way::Pair, 2), (Ok(2), 1));
    assert_eq!(begun_anew(Way::Many, 4), (Ok(4), 1));
    // As many as there may be: 63 beside the one that is declared.
    assert_eq!(begun_anew(Way::Wanted, 63), (Ok(63), 1));
    let too_many = AccessError::TooManyObjects { max: ADDRESSEES_MAX };
    let (outcome, _) = begun_anew(Way::Wanted, 64);
    assert_eq!(outcome, Err(AskError::Aborted(Refusal::Access(too_many))));
}

#[test]
fn an_object_can_be_read_while_messages_are_told() {
    let mut bench = Bench::<People>::shards(3);
    assert_eq!(bench.ask(Message::Befriend(0, (1..1000).collect())), Ok(0));
    assert_eq!(bench.ask(Message::Publish(0, Ok(()))), Ok(0));
    assert!((1..1000).all(|id| bench.get(id).is_some_and(|friend| friend.greeted == 1)));
}

/// How many messages wait for each shard is counted while they are told, and not again for each.
#[test]
fn what_was_told_and_undone_takes_no_room() {
    let limits = Limits { own_messages_max: 10, outbox_messages_max: 10, ..Limits::default() };
    let mut bench = Bench::<People>::shards(1).with_limits(limits);
    assert_eq!(bench.ask(Message::Befriend(0, (1..=10).collect())), Ok(0));
    assert_eq!(bench.ask(Message::Befriend(11, (1..=11).collect())), Ok(0));
    for _ in 0..3 {
        assert_eq!(bench.ask(Message::Publish(0, Err(()))), Err(AskError::Aborted(Refusal::Asked)));
        let full = Refusal::Access(AccessError::NoRoom { waiting: 10 });
        assert_eq!(bench.ask(Message::Publish(11, Ok(()))), Err(AskError::Aborted(full)));
        assert_eq!(bench.ask(Message::Publish(0, Ok(()))), Ok(0));
    }
    assert!((1..=10).all(|id| bench.get(id).is_some_and(|friend| friend.greeted == 3)));
}

#[test]
fn a_timer_is_taken_back_wherever_its_message_ran() {
    Bench::<People>::explore(0..40, |bench| {
        for id in 0..10 {
            let other = 100 + id;
            assert_eq!(bench.ask(Message::Remind(id, other)), Ok(0));
            assert_eq!(bench.timers(), 1);
            // A message that fails takes nothing back.
            assert!(bench.ask(Message::Forget(id, Err(()))).is_err());
            assert_eq!(bench.timers(), 1);
            // The shard where the timer waits is this one or the other's.
            let at = if bench.seed() % 2 == 0 { id } else { other };
            assert_eq!(bench.ask(Message::Forget(at, Ok(()))), Ok(0));
            assert_eq!(bench.timers(), 0);
        }
        assert_eq!(bench.ask(Message::RemindAndForget(5)), Ok(0));
        assert_eq!(bench.timers(), 0);
        bench.pass(2 * HOUR);
        assert!((0..10).all(|id| bench.get(id).is_some_and(|person| person.greeted == 0)));
    });
}

#[test]
fn taking_back_what_has_run_does_nothing() {
    let mut bench = Bench::<People>::shards(2);
    assert_eq!(bench.ask(Message::Remind(1, 2)), Ok(0));
    assert_eq!(bench.ask(Message::Remind(3, 4)), Ok(0));
    bench.pass(HOUR / 2);
    assert_eq!(bench.ask(Message::Forget(3, Ok(()))), Ok(0));
    bench.pass(HOUR);
    assert_eq!(bench.ask(Message::Forget(1, Ok(()))), Ok(0));
    assert_eq!(bench.ask(Message::Forget(2, Ok(()))), Ok(0));
    let greeted = |id| bench.get(id).map(|person| (person.greeted, person.at));
    assert_eq!((greeted(1), greeted(3)), (Some((1, HOUR)), Some((0, Duration::ZERO))), "at its time");
}

/// Nobody waits for a message that was told.
#[test]
fn a_message_that_fails_unheard_is_kept_for_the_program() {
    std::panic::set_hook(Box::new(|_| {}));
    for (shards, other) in [(1, None), (1, Some(8)), (4, Some(8)), (4, Some(9)), (4, Some(10))] {
        let mut bench = Bench::<People>::shards(shards);
        assert_eq!(bench.ask(Message::Doom(7, other)), Ok(0));
        let told = bench.take_failures();
        bench.pass(HOUR);
        let timed = bench.take_failures();
        for failures in [told, timed] {
            let [Failure { message, error: AskError::Panicked(panic) }] = &failures[..] else {
                panic!("{failures:?}");
            };
            assert_eq!(*message, std::any::type_name::<Message>());
            assert_eq!(panic.text(), "as the test says");
            let objects = [Some(7), other].into_iter().flatten().map(|id| id.to_string());
            assert!(objects.into_iter().any(|id| id == panic.object()), "{panic:?}");
        }
        assert!(matches!(bench.ask(Message::Fail(7, other)), Err(AskError::Panicked(_))));
        assert!(bench.take_failures().is_empty(), "one who waits hears of it");
    }
}

#[test]
fn a_message_knows_the_time_and_the_context() {
    let mut bench = Bench::<People>::shards(2).with_context(Context(5));
    bench.pass(HOUR);
    assert_eq!(bench.ask(Message::Ask(1)), Ok(3605));
    let mut bench = Bench::<People>::shards(2);
    let wanted = std::any::type_name::<Context>();
    let refused = Refusal::Access(AccessError::NoContext { wanted });
    assert_eq!(bench.ask(Message::Ask(1)), Err(AskError::Aborted(refused)));
}

#[test]
fn a_seed_decides_everything_and_matters() {
    let run = |seed| {
        let mut bench = Bench::<People>::shards(3).with_seed(seed);
        let friends = |id: u64| Message::Befriend(id % 5, vec![id, id + 1, id + 2]);
        bench.ask_all((0..40).map(friends));
        bench.ask_all((0..40).map(|id| Message::Greet(id % 5, Way::Wanted)));
        bench.ask_all((0..40).map(|id| Message::Publish(id % 5, Ok(()))));
        (bench.snapshot(), bench.counters())
    };
    assert_eq!(run(7), run(7));
    assert!((0..10).any(|seed| run(seed).1 != run(7).1), "the order is the seed's");
}

/// How often each of two friends was greeted, by a message to both.
#[test]
fn what_was_answered_outlives_a_crash_and_the_rest_is_whole_or_nothing() {
    let (mut kept, mut lost) = (0, 0);
    Bench::<People>::explore(0..60, |bench| {
        *bench = Bench::shards(1 + bench.seed() as usize % 3).with_seed(bench.seed()).with_log();
        assert_eq!(bench.ask(Message::Befriend(0, vec![1, 2])), Ok(0));
        let mut answered = 0;
        for _ in 0..4 {
            let outcomes = bench.crash_while((0..5).map(|_| Message::Greet(0, Way::Wanted)));
            answered += outcomes.iter().filter(|outcome| outcome.is_ok()).count() as u64;
            let unknown = outcomes.iter().filter(|outcome| **outcome == Err(AskError::Unknown)).count();
            assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count() + unknown, 5);
            let greeted = [1, 2].map(|id| bench.get(id).map_or(0, |friend| friend.greeted));
            assert_eq!(greeted[0], greeted[1], "a message is whole or nothing");
            assert!(greeted[0] >= answered, "what was answered is there");
            (kept, lost) = (kept + greeted[0] - answered, lost + unknown as u64);
            answered = greeted[0];
        }
    });
    assert!(kept > 0 && lost > kept, "{kept} of {lost} took effect unheard");
}

/// Timers go on after a crash, those that were taken back do not, and numbers are not given again.
#[test]
fn timers_outlive_crashes_unless_they_are_taken_back() {
    for seed in 0..20 {
        let mut bench = Bench::<People>::shards(3).with_seed(seed).with_log();
        for id in 0..10 {
            assert_eq!(bench.ask(Message::Remind(id, 100 + id)), Ok(0));
            bench.crash();
        }
        assert_eq!(bench.timers(), 10);
        for id in 0..5 {
            assert_eq!(bench.ask(Message::Forget([id, 100 + id][seed as usize % 2], Ok(()))), Ok(0));
        }
        assert_eq!(bench.timers(), 5);
        bench.crash();
        assert_eq!(bench.timers(), 5);
        bench.pass(HOUR);
        let greeted = (0..10).map(|id| bench.get(id).map_or(0, |person| person.greeted));
        assert!(greeted.eq([0, 0, 0, 0, 0, 1, 1, 1, 1, 1]), "seed {seed}");
        bench.crash();
        assert_eq!((bench.timers(), bench.take_failures().len()), (0, 0));
    }
}

/// Without a log nothing outlives a crash.
#[test]
fn a_crash_without_a_log_leaves_nothing() {
    let mut bench = Bench::<People>::shards(2);
    assert_eq!(bench.ask(Message::Remind(1, 2)), Ok(0));
    bench.crash();
    assert!(bench.snapshot().is_empty() && bench.timers() == 0);
}

/// Objects that remind each other.
mod reminders {
    use super::*;

    pub(super) struct Reminders;

    #[derive(Clone, Debug, Serialize, Deserialize)]
    pub(super) enum Say {
        /// A greeting in an hour. The object remembers it.
        Later(u64),
        /// Takes back the timer that the object remembers, or this one.
        Back(u64, Option<TimerId>),
        Hello(u64),
        /// Names so many objects, and reads one more.
        Touch(Vec<u64>, u64),
    }

    impl Actor for Reminders {
        type Id = u64;
        type State = Option<TimerId>;
        type Message = Say;
        type Reply = ();
        type Error = AccessError<u64>;

        fn addressees(message: &Say, to: &mut Addressees<u64>) {
            match message {
                Say::Later(id) | Say::Back(id, _) | Say::Hello(id) => to.write(*id),
                Say::Touch(ids, _) => ids.iter().for_each(|id| to.write(*id)),
            }
        }

        fn receive(message: &Say, objects: &mut Objects<'_, Self>) -> Result<(), AccessError<u64>> {
            match *message {
                Say::Later(id) => {
                    let timer = objects.tell_after(HOUR, Say::Hello(id))?;
                    objects.insert(id, Some(timer)).map(drop)
                }
                Say::Back(id, timer) => {
                    let timer = timer.or(objects.get(id)?.copied().flatten());
                    timer.map_or(Ok(()), |timer| objects.cancel(timer))
                }
                Say::Hello(id) => objects.remove(id).map(drop),
                Say::Touch(_, more) => objects.get(more).map(drop),
            }
        }
    }
}

use reminders::{Reminders, Say};

/// A timer that was named by its number alone was gone from the log whatever the rest of its id
/// said: it ran in this life, and a crash lost it.
#[test]
fn an_id_that_is_not_right_cancels_nothing() {
    let mut bench = Bench::<Reminders>::shards(2).with_log();
    bench.ask(Say::Later(1)).expect("it is set");
    let timer = bench.get(1).copied().flatten().expect("it remembers its timer");
    let (due, number): (u64, u64) =
        postcard::from_bytes(&postcard::to_allocvec(&timer).expect("it is short")).expect("two numbers");
    for wrong in [(due + 1, number), (0, number), (due, number + 2)] {
        let wrong =
            postcard::from_bytes(&postcard::to_allocvec(&wrong).expect("it is short")).expect("an id");
        bench.ask(Say::Back(1, Some(wrong))).expect("that is no error");
        assert_eq!(bench.timers(), 1, "{wrong:?}");
        bench.crash();
        assert_eq!(bench.timers(), 1, "after a crash, {wrong:?}");
    }
    bench.ask(Say::Back(1, None)).expect("it is taken back");
    assert_eq!(bench.timers(), 0);
    bench.crash();
    assert_eq!(bench.timers(), 0);
}

/// A message that names 64 objects of one shard and reads one of another became a transaction of
/// 65, which no message may have: the shard panicked at its lock point.
#[test]
fn one_object_too_many_is_refused() {
    let router = Router::new(PlacementKey(0), 2);
    for names_here in [true, false] {
        let of = |here: bool| (0..).filter(move |id| (router.home(id) == ShardIndex(0)) == here);
        let named: Vec<u64> = of(names_here).take(ADDRESSEES_MAX).collect();
        let more = of(!names_here).next().expect("there are many");
        let mut bench = Bench::<Reminders>::shards(2);
        assert_eq!(bench.ask(Say::Touch(named[1..].to_vec(), more)), Ok(()));
        let refused = AskError::Aborted(AccessError::TooManyObjects { max: ADDRESSEES_MAX });
        assert_eq!(bench.ask(Say::Touch(named.clone(), more)), Err(refused));
        assert_eq!(bench.ask(Say::Hello(more)), Ok(()), "the shard lives");
    }
}

/// What a message wanted when it ran first counted for ever: with 40 friends, and 40 others by the
/// time it ran again, it was refused for good.
#[test]
fn what_is_not_wanted_any_more_does_not_count() {
    for seed in 0..50 {
        let mut bench = Bench::<People>::shards(4).with_seed(seed);
        bench.ask(Message::Befriend(0, (1..=40).collect())).expect("it has friends");
        let others = Message::Befriend(0, (41..=80).collect());
        let outcomes = bench.ask_all([Message::Greet(0, Way::Wanted), others]);
        assert!(outcomes.iter().all(Result::is_ok), "seed {seed}: {outcomes:?}");
    }
}

/// An object that was here without having been declared was not wanted, and was missed where the
/// message ran next.
#[test]
fn all_that_is_wanted_comes_in_one_rerun_whatever_is_here() {
    let ways = [(Way::Wanted, 20), (Way::ReadOnly, 20), (Way::Pair, 2), (Way::Many, 4)];
    for (way, friends) in ways {
        for seed in 0..50 {
            let mut bench = Bench::<People>::shards(4).with_seed(seed);
            bench.ask(Message::Befriend(0, (1..=friends).collect())).expect("it has friends");
            bench.ask(Message::Greet(0, way)).expect("all are greeted");
            let Counters { undeclared, reruns, .. } = bench.counters();
            assert!(undeclared + reruns <= 1, "{way:?}, seed {seed}: {undeclared} and {reruns}");
        }
    }
}
