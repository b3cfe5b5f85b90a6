//! Actors of several kinds, on whole runtimes and by their enums alone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use freehold_shard::{
    AccessError, Actor, AskError, Key, Kind, MessageOf, Named, Objects, OwnerId, Ownership, PlacementKey,
    Receive, Shape, To, placement_hash,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::config::{Config, Shards};
use crate::error::{SnapshotError, TellError};
use crate::log::LogConfig;
use crate::patience::Patience;
use crate::runtime::Runtime;

/// What `actor!` writes, as one would write it by hand.
mod by_hand {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
    pub(super) enum Id {
        Account(u64),
        Position((u64, u32)),
        User(Key),
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub(super) enum State {
        Account(Account),
        Position(Position),
        User(User),
    }
}

crate::actor! {
    /// Runs what a test sends it, on the objects that the test names.
    actor Zoo {
        id: Id,
        #[derive(Debug, PartialEq)]
        state: State,
        message: Message,
        #[derive(Debug)]
        reply: Reply,
        error: Refused,
        kinds {
            Account(user: u64),
            Position(user: u64, symbol: u32) at user,
            User(name: Key),
        }
        messages { Run -> i64, Pass -> String, Stray -> () }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Account(i64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Position(i64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
    visits: i64,
}

impl Named for User {
    fn name(&self) -> &str {
        &self.name
    }
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
enum Refused {
    #[error("refused")]
    Simply,
    #[error(transparent)]
    Access(#[from] AccessError<Id>),
}

type What = Box<dyn Fn(&mut Objects<'_, Zoo>) -> Result<i64, Refused> + Send>;

/// No `Serialize`: this actor runs in memory.
struct Run {
    to: Vec<Id>,
    what: What,
}

impl Receive<Zoo> for Run {
    fn addressees(&self, to: &mut To<'_, Zoo>) {
        self.to.iter().for_each(|id| to.addressees().write(*id));
    }

    fn receive(&self, objects: &mut Objects<'_, Zoo>) -> Result<i64, Refused> {
        (self.what)(objects)
    }
}

/// Has account `to` get a coin by a message, and in 20 ms another by a timer.
struct Pass {
    to: u64,
}

impl Receive<Zoo> for Pass {
    fn addressees(&self, to: &mut To<'_, Zoo>) {
        to.read::<Account>(self.to);
    }

    fn receive(&self, objects: &mut Objects<'_, Zoo>) -> Result<String, Refused> {
        let to = self.to;
        objects.send(add(to, 1))?;
        objects.send_after(Duration::from_millis(20), add(to, 10))?;
        Ok(format!("to {to}: {:?}", objects.read::<Account>(to)?))
    }
}

/// Names nobody.
#[derive(Debug)]
struct Stray;

impl Receive<Zoo> for Stray {
    fn addressees(&self, _: &mut To<'_, Zoo>) {}

    fn receive(&self, _: &mut Objects<'_, Zoo>) -> Result<(), Refused> {
        Ok(())
    }
}

fn run<const N: usize>(
    to: [Id; N],
    what: impl Fn(&mut Objects<'_, Zoo>) -> Result<i64, Refused> + Send + 'static,
) -> Run {
    Run { to: to.into(), what: Box::new(what) }
}

fn add(user: u64, coins: i64) -> Run {
    run([Id::Account(user)], move |objects| {
        let account = objects.write_or_insert_with(user, || Account(0))?;
        account.0 += coins;
        Ok(account.0)
    })
}

fn count(user: u64) -> Run {
    run([Id::Account(user)], move |objects| {
        Ok(objects.read::<Account>(user)?.map_or(-1, |account| account.0))
    })
}

fn start(shards: usize) -> Runtime<Zoo> {
    let config =
        Config { shards: Shards::Count(shards), placement_key: Some(PlacementKey(7)), ..Config::default() };
    Runtime::start(config).expect("it starts")
}

/// Puts a position where an account is to be, past the kinds.
fn put_a_stranger(user: u64) -> Run {
    run([Id::Account(user)], move |objects| {
        objects.insert(Id::Account(user), State::Position(Position(5)))?;
        Ok(0)
    })
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let mut patience = Patience::of(Duration::from_secs(30));
    while !is_so() {
        assert!(!patience.is_over(), "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_message_is_answered_by_its_own_reply_from_threads_and_from_shards() {
    let runtime = start(2);
    let zoo = runtime.handle();
    assert_eq!(zoo.call(add(1, 5)).wait(), Ok(5));
    assert_eq!(futures::executor::block_on(zoo.call(add(2, 3))), Ok(3));
    let passed: Result<String, _> = zoo.call(Pass { to: 1 }).wait();
    assert_eq!(passed.as_deref(), Ok("to 1: Some(Account(5))"));
    assert_eq!(zoo.call_all([add(1, 1), add(2, 1), add(1, 1)]).wait(), [Ok(7), Ok(4), Ok(8)]);
    eventually("a timer's message comes", || zoo.call(count(1)).wait() == Ok(18));
    zoo.send(add(1, 1)).expect("there is room");
    assert_eq!(zoo.call_waiting(count(1)).wait(), Ok(19));
    let mixed = zoo.ask_all([count(1).into(), Pass { to: 3 }.into()]).wait();
    let [Ok(Reply::Run(19)), Ok(Reply::Pass(said))] = &mixed[..] else { panic!("{mixed:?}") };
    assert_eq!(said, "to 3: None");

    let on_shards = runtime.on_each_shard(|local| async move {
        let now = [1, 2].map(|user| local.call_now(count(user)));
        let asked = local.call(count(1)).await;
        local.send(add(9, 1)).expect("there is room");
        assert!(matches!(local.send(Stray), Err(TellError::Unaddressed(Stray))));
        (now, asked)
    });
    for (now, asked) in on_shards.wait().into_iter().map(Result::unwrap) {
        assert_eq!(asked, Ok(19));
        for (now, there) in now.into_iter().zip([19, 4]) {
            assert!(matches!(now, Err(AskError::Elsewhere { .. })) || now == Ok(there), "{now:?}");
        }
    }
    assert_eq!(zoo.call(Stray).wait(), Err(AskError::Unaddressed));
    assert!(matches!(zoo.send(Stray), Err(TellError::Unaddressed(Stray))));
    runtime.shutdown();
    assert!(matches!(zoo.send(Pass { to: 77 }), Err(TellError::Stopped(Pass { to: 77 }))));
}

#[test]
fn objects_are_reached_by_kind() {
    let runtime = start(1);
    let zoo = runtime.handle();
    let all = run([], |objects| {
        assert_eq!(objects.put(1, Account(1))?, None);
        assert_eq!(objects.put(1, Account(2))?, Some(Account(1)));
        assert_eq!(objects.put((1, 1), Position(3))?, None, "a position's key is no account's");
        assert_eq!(objects.write_or_insert_with((1, 2), || Position(4))?, &Position(4));
        assert_eq!(objects.write_or_insert_with((1, 2), || Position(9))?, &Position(4));
        let (account, position) = objects.pair::<Account, Position>(1, (1, 2))?;
        std::mem::swap(&mut account.expect("it was put").0, &mut position.expect("it was made").0);
        assert_eq!(objects.pair::<Account, Account>(1, 2)?, (Some(&mut Account(4)), None));
        let same = objects.pair::<Account, Account>(1, 1).map(|_| ());
        assert_eq!(same, Err(AccessError::SameObject { id: Id::Account(1) }));
        let [two, none, one] = objects.many_mut::<Position, 3>([(1, 2), (8, 8), (1, 1)])?;
        assert_eq!((two.as_deref(), none, one.as_deref()), (Some(&Position(2)), None, Some(&Position(3))));
        one.expect("it is there").0 = 30;
        two.expect("it is there").0 = 20;
        let same = objects.many_mut::<Account, 3>([1, 2, 1]).map(|_| ());
        assert_eq!(same, Err(AccessError::SameObject { id: Id::Account(1) }));
        assert_eq!(objects.many_mut::<Account, 0>([])?, []);
        assert_eq!(objects.take::<Position>((1, 1))?, Some(Position(30)));
        assert_eq!(objects.take::<Position>((1, 1))?, None);
        assert_eq!((objects.exists::<Position>((1, 1))?, objects.exists::<Position>((1, 2))?), (false, true));
        assert_eq!(objects.read::<Account>(7)?, None);
        assert_eq!(objects.write::<Account>(7)?, None);
        Ok(i64::from(objects.contains(Id::Position((1, 2)))?))
    });
    // It names an object, so that it is sent somewhere.
    assert_eq!(zoo.call(Run { to: vec![Id::Account(1)], ..all }).wait(), Ok(1));
    let snapshot = zoo.snapshot().wait().unwrap();
    assert_eq!(snapshot.read::<Account>(1).wait(), Ok(Some(Account(4))));
    assert_eq!(snapshot.read::<Position>((1, 1)).wait(), Ok(None));
    let positions = snapshot.read_all::<Position>([(1, 1), (1, 2)]).wait();
    assert_eq!(positions, Ok(vec![None, Some(Position(20))]));
}

/// Each of them changes nothing, and the object is what it was.
#[test]
fn an_object_of_another_kind_is_an_error() {
    type Try = fn(&mut Objects<'_, Zoo>) -> Result<(), AccessError<Id>>;
    let tries: [(&str, Try); 9] = [
        ("read", |objects| objects.read::<Account>(1).map(|_| ())),
        ("exists", |objects| objects.exists::<Account>(1).map(|_| ())),
        ("write", |objects| objects.write::<Account>(1).map(|_| ())),
        ("write_or", |objects| objects.write_or_insert_with(1, || Account(1)).map(|_| ())),
        ("put", |objects| objects.put(1, Account(1)).map(|_| ())),
        ("take", |objects| objects.take::<Account>(1).map(|_| ())),
        ("pair, first", |objects| objects.pair::<Account, Account>(1, 2).map(|_| ())),
        ("pair, second", |objects| objects.pair::<Position, Account>((1, 1), 1).map(|_| ())),
        ("many", |objects| objects.many_mut::<Account, 2>([2, 1]).map(|_| ())),
    ];
    let runtime = start(1);
    let zoo = runtime.handle();
    zoo.call(put_a_stranger(1)).wait().unwrap();
    zoo.call(add(2, 1)).wait().unwrap();
    for (name, try_it) in tries {
        let wrong = AccessError::WrongKind { id: Id::Account(1), kind: "Account" };
        let expected = wrong;
        let tried = run([Id::Account(1)], move |objects| {
            assert_eq!(try_it(objects), Err(expected), "{name}");
            // Also where the message goes on, nothing has changed.
            assert_eq!(objects.get(Id::Account(1))?, Some(&State::Position(Position(5))), "{name}");
            assert_eq!(objects.ownership(Id::Account(1))?, Some(Ownership::Owned(OwnerId(0))), "{name}");
            Ok(1)
        });
        assert_eq!(zoo.call(tried).wait(), Ok(1), "{name}");
        let refused = run([Id::Account(1)], move |objects| Ok(try_it(objects).map(|()| 0)?));
        assert_eq!(zoo.call(refused).wait(), Err(AskError::Aborted(Refused::Access(wrong))), "{name}");
    }
    let wrong = SnapshotError::WrongKind { kind: "Account" };
    let snapshot = zoo.snapshot().wait().unwrap();
    assert_eq!(snapshot.read::<Account>(1).wait(), Err(wrong.clone()));
    assert_eq!(snapshot.read_all::<Account>([2, 1]).wait(), Err(wrong.clone()));
    assert_eq!(snapshot.read::<Account>(2).wait(), Ok(Some(Account(1))));
    let sum = |sum: &mut i64, user: u64, account: &Account| *sum += account.0 * user as i64;
    assert_eq!(snapshot.fold_kind::<Account, _, _, _, _>(|| 0, sum, |a, b| a + b).wait(), Err(wrong));
    zoo.call(run([Id::Account(1)], |objects| Ok(objects.remove(Id::Account(1)).map(|_| 0)?))).wait().unwrap();
    let snapshot = zoo.snapshot().wait().unwrap();
    assert_eq!(snapshot.fold_kind::<Account, _, _, _, _>(|| 0, sum, |a, b| a + b).wait(), Ok(2));
}

/// A fold of a kind sees its objects with their keys, on all shards, and no others.
#[test]
fn a_fold_of_a_kind_leaves_the_others_out() {
    let runtime = start(2);
    let zoo = runtime.handle();
    let put = |user: u64| {
        run([Id::Account(user), Id::Position((user, 0))], move |objects| {
            objects.put(user, Account(1))?;
            objects.put((user, 0), Position(1_000_000))?;
            Ok(0)
        })
    };
    assert!(zoo.call_all((1..=100).map(put)).wait().iter().all(Result::is_ok));
    let snapshot = zoo.snapshot().wait().unwrap();
    let sum = |sum: &mut i64, user: u64, account: &Account| *sum += account.0 * user as i64;
    assert_eq!(snapshot.fold_kind::<Account, _, _, _, _>(|| 0, sum, |a, b| a + b).wait(), Ok(5050));
    // A stranger is noticed on each shard.
    for shard in 0..2 {
        let is_here = |user: &u64| zoo.home(&Id::Account(*user)).index() == shard;
        let user = (1..).find(is_here).expect("there are many accounts");
        zoo.call(put_a_stranger(user)).wait().unwrap();
        let snapshot = zoo.snapshot().wait().unwrap();
        let folded = snapshot.fold_kind::<Account, _, _, _, _>(|| 0, sum, |a, b| a + b).wait();
        assert_eq!(folded, Err(SnapshotError::WrongKind { kind: "Account" }));
        zoo.call(run([Id::Account(user)], move |objects| {
            Ok(objects.remove(Id::Account(user)).map(|_| 0)?)
        }))
        .wait()
        .unwrap();
    }
}

#[test]
fn objects_of_one_place_live_on_one_shard_whatever_their_kind() {
    let home = |id: Id| placement_hash(PlacementKey(7), &id);
    for user in 0..100 {
        let positions = [0, 1, u32::MAX].map(|symbol| home(Id::Position((user, symbol))));
        assert!(positions.iter().all(|position| *position == positions[0]), "of user {user}");
        assert_ne!(home(Id::Account(user)), positions[0], "without `at` the kind counts");
        assert_ne!(home(Id::Account(user)), home(Id::Account(user + 1)));
    }
    assert_ne!(home(Id::User(Key::new("a"))), home(Id::User(Key::new("b"))));
}

#[test]
fn names_are_keys_and_one_that_is_taken_is_refused() {
    let runtime = start(1);
    let zoo = runtime.handle();
    let long = "a name of more than fifteen bytes";
    let visit = |name: &'static str| {
        run([Id::User(name.into())], move |objects| {
            assert_eq!(objects.read_named::<User>(name)?.map(|user| user.name()).unwrap_or(name), name);
            let new = || User { name: name.to_owned(), visits: 0 };
            let user = objects.write_named_or_insert_with(name, new)?;
            user.visits += 1;
            Ok(objects.write_named::<User>(name)?.expect("it was made").visits)
        })
    };
    for (name, visits) in [("user:42", 1), (long, 1), ("user:42", 2), (long, 2), ("user:43", 1)] {
        assert_eq!(zoo.call(visit(name)).wait(), Ok(visits), "{name}");
    }
    // No two names that share a key can be made. An object says another name than its key's.
    let taken = run([Id::User(long.into())], move |objects| {
        objects.write::<User>(Key::new(long))?.expect("it is there").name = "another".to_owned();
        Ok(0)
    });
    assert_eq!(zoo.call(taken).wait(), Ok(0));
    type Try = fn(&mut Objects<'_, Zoo>, &str) -> Result<(), AccessError<Id>>;
    let tries: [Try; 3] = [
        |objects, name| objects.read_named::<User>(name).map(|_| ()),
        |objects, name| objects.write_named::<User>(name).map(|_| ()),
        |objects, name| {
            let new = || User { name: "new".to_owned(), visits: 0 };
            objects.write_named_or_insert_with(name, new).map(|_| ())
        },
    ];
    for try_it in tries {
        let refused = run([Id::User(long.into())], move |objects| Ok(try_it(objects, long).map(|()| 0)?));
        let other = AccessError::OtherName { id: Id::User(long.into()) };
        assert_eq!(zoo.call(refused).wait(), Err(AskError::Aborted(Refused::Access(other))));
    }
    // An object that is made with a wrong name is refused as well, and is not there.
    let wrong = run([Id::User("right".into())], |objects| {
        let new = || User { name: "wrong".to_owned(), visits: 0 };
        Ok(objects.write_named_or_insert_with("right", new)?.visits)
    });
    assert!(matches!(
        zoo.call(wrong).wait(),
        Err(AskError::Aborted(Refused::Access(AccessError::OtherName { .. })))
    ));
    assert_eq!(zoo.snapshot().wait().unwrap().read::<User>("right".into()).wait(), Ok(None));
    // Nor is it there if the message goes on: it was, and no name could reach it any more.
    let goes_on = run([Id::User("right".into())], |objects| {
        let new = || User { name: "wrong".to_owned(), visits: 0 };
        assert!(objects.write_named_or_insert_with("right", new).is_err());
        Ok(0)
    });
    assert_eq!(zoo.call(goes_on).wait(), Ok(0));
    assert_eq!(zoo.snapshot().wait().unwrap().read::<User>("right".into()).wait(), Ok(None));
}

#[test]
fn an_error_undoes_all_kinds() {
    let runtime = start(2);
    let zoo = runtime.handle();
    zoo.call(add(1, 5)).wait().unwrap();
    let refused = run([Id::Account(1), Id::Position((1, 1))], |objects| {
        objects.put((1, 1), Position(7))?;
        objects.take::<Account>(1)?;
        Err(Refused::Simply)
    });
    assert_eq!(zoo.call(refused).wait(), Err(AskError::Aborted(Refused::Simply)));
    let snapshot = zoo.snapshot().wait().unwrap();
    assert_eq!(snapshot.read::<Account>(1).wait(), Ok(Some(Account(5))));
    assert_eq!(snapshot.read::<Position>((1, 1)).wait(), Ok(None));
}

/// The bytes of `one` are those of `other`, and each is read as the other.
fn is_written_alike<T, U>(one: &T, other: &U)
where
    T: Serialize + DeserializeOwned,
    U: Serialize + DeserializeOwned,
{
    let bytes = postcard::to_allocvec(one).expect("it can be written");
    assert_eq!(bytes, postcard::to_allocvec(other).expect("it can be written"));
    let read: T = postcard::from_bytes(&bytes).expect("it can be read");
    assert_eq!(postcard::to_allocvec(&read).expect("it can be written"), bytes);
    let text = serde_json::to_string(one).expect("it can be written");
    assert_eq!(text, serde_json::to_string(other).expect("it can be written"));
    let read: T = serde_json::from_str(&text).expect("it can be read");
    assert_eq!(serde_json::to_string(&read).expect("it can be written"), text);
}

#[test]
fn the_enums_are_written_as_one_would_derive_it() {
    is_written_alike(&Id::Account(7), &by_hand::Id::Account(7));
    is_written_alike(&Id::Position((7, 8)), &by_hand::Id::Position((7, 8)));
    is_written_alike(&Id::User("user:42".into()), &by_hand::Id::User("user:42".into()));
    is_written_alike(&State::Account(Account(-1)), &by_hand::State::Account(Account(-1)));
    is_written_alike(&State::Position(Position(5)), &by_hand::State::Position(Position(5)));
    let user = User { name: "user:42".to_owned(), visits: 3 };
    is_written_alike(&State::User(user.clone()), &by_hand::State::User(user));
    // A start compares these with what is in a log.
    assert_eq!(Shape::of::<Id>(), Shape::of::<by_hand::Id>());
    assert_eq!(Shape::of::<State>(), Shape::of::<by_hand::State>());
}

#[test]
fn a_variant_that_there_is_not_is_refused() {
    // The number behind the last, and a number of two bytes.
    for bytes in [&[3, 0, 0][..], &[0x80, 0x01, 0, 0], &[]] {
        assert!(postcard::from_bytes::<Id>(bytes).is_err(), "{bytes:?}");
        assert!(postcard::from_bytes::<by_hand::Id>(bytes).is_err(), "{bytes:?}");
    }
    let error = |text| serde_json::from_str::<Id>(text).unwrap_err().to_string();
    let derived = |text| serde_json::from_str::<by_hand::Id>(text).unwrap_err().to_string();
    for text in ["{\"Horse\":1}", "{\"Account\":\"x\"}", "7", "\"Account\""] {
        assert_eq!(error(text), derived(text), "{text}");
    }
}

#[test]
fn what_is_of_another_kind_or_message_comes_back() {
    assert_eq!(<Account as Kind<Zoo>>::key(Id::Account(7)), Some(7));
    assert_eq!(<Account as Kind<Zoo>>::key(Id::Position((7, 1))), None);
    assert_eq!(<Account as Kind<Zoo>>::from_state(State::Account(Account(1))), Ok(Account(1)));
    assert_eq!(
        <Account as Kind<Zoo>>::from_state(State::Position(Position(1))),
        Err(State::Position(Position(1)))
    );
    assert_eq!(
        (<Account as Kind<Zoo>>::of(&State::Position(Position(1))), <Account as Kind<Zoo>>::NAME),
        (None, "Account")
    );
    assert!(Pass::from_message(Stray.into()).is_none());
    assert!(Pass::from_message(Pass { to: 1 }.into()).is_some_and(|pass| pass.to == 1));
    assert!(Run::from_reply(Reply::Stray(())).is_none());
    assert_eq!(
        [Stray.into(), Pass { to: 1 }.into()].map(|message| Zoo::message_name(&message)),
        ["Stray", "Pass"]
    );
    for message in [Stray.into(), Pass { to: 1 }.into()] {
        assert_eq!(Zoo::MESSAGE_NAMES[Zoo::message_index(&message)], Zoo::message_name(&message));
    }
    assert_eq!(Run::from_reply(Reply::Run(7)), Some(7));
}

/// Messages that can be written, with a log.
mod durable {
    use super::*;

    crate::actor! {
        pub(super) actor Ledger {
            id: Id, state: State, message: Message, reply: Reply, error: AccessError<Id>,
            schema: crate::Schema::new(3),
            kinds { Account(user: u64) }
            messages { Add -> i64, AddLater -> () }
        }
    }

    #[derive(Serialize, Deserialize)]
    pub(super) struct Add(pub(super) u64, pub(super) i64);
    #[derive(Serialize, Deserialize)]
    pub(super) struct AddLater(pub(super) Duration, pub(super) Add);

    impl Receive<Ledger> for Add {
        fn addressees(&self, to: &mut To<'_, Ledger>) {
            to.write::<Account>(self.0);
        }

        fn receive(&self, objects: &mut Objects<'_, Ledger>) -> Result<i64, AccessError<Id>> {
            let account = objects.write_or_insert_with(self.0, || Account(0))?;
            account.0 += self.1;
            Ok(account.0)
        }
    }

    impl Receive<Ledger> for AddLater {
        fn addressees(&self, to: &mut To<'_, Ledger>) {
            self.1.addressees(to);
        }

        fn receive(&self, objects: &mut Objects<'_, Ledger>) -> Result<(), AccessError<Id>> {
            let Add(user, coins) = self.1;
            objects.send_after(self.0, Add(user, coins)).map(drop)
        }
    }
}

/// Objects and timers are in the log, with the types that the actor states.
#[test]
fn a_log_brings_objects_and_timers_of_an_actor_of_kinds_back() {
    use durable::{Add, AddLater, Ledger};

    assert_eq!(<Ledger as Actor>::SCHEMA, crate::Schema::new(3));
    let directory = tempfile::tempdir().expect("a directory can be made");
    let open = |shards| {
        let config = Config { shards: Shards::Count(shards), ..Config::default() };
        Runtime::<Ledger>::open(config, LogConfig::at(directory.path())).expect("it opens")
    };
    let mut runtime = open(2);
    for user in 1..=50 {
        assert_eq!(runtime.handle().call(Add(user, 3)).wait(), Ok(3));
    }
    // One is due long after this test, and one soon after a start. A slow machine may stop too late
    // for that: then the next is due later.
    let hour = Duration::from_secs(3600);
    assert_eq!(runtime.handle().call(AddLater(hour, Add(8, 10))).wait(), Ok(()));
    let (mut late, mut sum) = (Duration::from_millis(300), 3);
    while runtime.recovery().expect("there is a log").owed < 2 {
        assert_eq!(runtime.handle().call(AddLater(late, Add(7, 10))).wait(), Ok(()));
        (late, sum) = (late * 4, sum + 10);
        runtime.shutdown();
        runtime = open(1);
    }
    assert_eq!(runtime.recovery().expect("there is a log").objects, 50);
    let ledger = runtime.handle();
    eventually("the timer goes on after a restart", || ledger.call(Add(7, 0)).wait() == Ok(sum));
    assert_eq!(ledger.call(Add(8, 0)).wait(), Ok(3), "the other's time has not come");
}

/// States that cannot be written, of an actor that has no log.
mod in_memory {
    use super::*;
    use std::sync::mpsc::Sender;

    crate::actor! {
        pub(super) actor Sessions {
            id: Id, state: State, message: Message, reply: Reply, error: AccessError<Id>,
            kinds { Session(user: u64) }
            messages { Connect -> (), Say -> bool }
        }
    }

    #[derive(Clone)]
    pub(super) struct Session {
        since: Instant,
        out: Sender<u64>,
    }

    pub(super) struct Connect(pub(super) u64, pub(super) Sender<u64>);
    pub(super) struct Say(pub(super) u64, pub(super) u64);

    impl Receive<Sessions> for Connect {
        fn addressees(&self, to: &mut To<'_, Sessions>) {
            to.write::<Session>(self.0);
        }

        fn receive(&self, objects: &mut Objects<'_, Sessions>) -> Result<(), AccessError<Id>> {
            objects.put(self.0, Session { since: Instant::now(), out: self.1.clone() }).map(|_| ())
        }
    }

    impl Receive<Sessions> for Say {
        fn addressees(&self, to: &mut To<'_, Sessions>) {
            to.read::<Session>(self.0);
        }

        fn receive(&self, objects: &mut Objects<'_, Sessions>) -> Result<bool, AccessError<Id>> {
            let Some(session) = objects.read::<Session>(self.0)? else { return Ok(false) };
            Ok(session.since <= Instant::now() && session.out.send(self.1).is_ok())
        }
    }
}

#[test]
fn states_of_an_actor_in_memory_need_not_be_written() {
    use in_memory::{Connect, Say, Sessions};

    let config = Config { shards: Shards::Count(2), ..Config::default() };
    let runtime = Runtime::<Sessions>::start(config).expect("it starts");
    let sessions = runtime.handle();
    let (out, listens) = std::sync::mpsc::channel();
    assert_eq!(sessions.call(Connect(7, out)).wait(), Ok(()));
    assert_eq!((sessions.call(Say(7, 5)).wait(), listens.recv()), (Ok(true), Ok(5)));
    assert_eq!(sessions.call(Say(8, 5)).wait(), Ok(false));
    drop(listens);
    assert_eq!(sessions.call(Say(7, 6)).wait(), Ok(false), "nobody listens");
    // Each is counted by its type, on the shard where it ran.
    let counted = || {
        let mut all = BTreeMap::new();
        let counts = runtime.stats().shards.into_iter().flat_map(|shard| shard.messages);
        counts.for_each(|(message, count)| *all.entry(message).or_insert(0) += count);
        all
    };
    eventually("all are counted", || counted() == BTreeMap::from([("Connect", 1), ("Say", 3)]));
}
