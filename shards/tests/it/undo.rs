//! All or nothing: messages that do anything an actor can do, and fail or panic anywhere, against a
//! model that knows only successes.

use std::collections::HashMap;
use std::sync::Arc;

use freehold_shard::*;
use proptest::prelude::*;

/// What a message does, step by step.
#[derive(Clone, Debug)]
enum Step {
    Get(u64),
    Set(u64, u64),
    AddOrInsert(u64, u64),
    SwapPair(u64, u64),
    Insert(u64, u64),
    Remove(u64),
    Transfer(u64, OwnerId),
    Share(u64),
    Freeze(u64),
    Tell(u64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Reply,
    Fail,
    Panic,
    /// The state's `clone` panics at the next first write: the before-image cannot be taken.
    ClonePanics,
}

#[derive(Clone, Debug)]
struct Script {
    sender: OwnerId,
    declared: Vec<(u64, Access)>,
    steps: Vec<Step>,
    end: End,
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Value {
    number: u64,
    ballast: Vec<u8>,
    #[serde(skip)]
    clone_panics: bool,
}

impl Value {
    fn new(number: u64) -> Self {
        Value { number, ballast: vec![7; 16], clone_panics: false }
    }
}

impl Clone for Value {
    fn clone(&self) -> Self {
        assert!(!self.clone_panics, "this clone panics");
        Value { number: self.number, ballast: self.ballast.clone(), clone_panics: self.clone_panics }
    }
}

struct Scripted;

#[derive(Debug, PartialEq)]
enum Refusal {
    Access(AccessError<u64>),
    Asked,
}

impl From<AccessError<u64>> for Refusal {
    fn from(error: AccessError<u64>) -> Self {
        Refusal::Access(error)
    }
}

impl Actor for Scripted {
    type Id = u64;
    type State = Value;
    type Message = Script;
    type Reply = Vec<Option<u64>>;
    type Error = Refusal;

    fn addressees(message: &Script, to: &mut Addressees<u64>) {
        for &(id, access) in &message.declared {
            match access {
                Access::Read => to.read(id),
                Access::Write => to.write(id),
            }
        }
    }

    fn receive(message: &Script, objects: &mut Objects<'_, Self>) -> Result<Self::Reply, Refusal> {
        let mut seen = Vec::new();
        assert_eq!(objects.sender(), message.sender);
        for step in &message.steps {
            match *step {
                Step::Get(id) => seen.push(objects.get(id)?.map(|value| value.number)),
                Step::Set(id, number) => {
                    let value = objects.get_mut(id)?;
                    seen.push(value.as_ref().map(|value| value.number));
                    if let Some(value) = value {
                        value.number = number;
                        value.ballast.push(number as u8);
                    }
                }
                Step::AddOrInsert(id, number) => {
                    let value = objects.get_or_insert_with(id, || Value::new(1))?;
                    value.number = value.number.wrapping_add(number);
                    seen.push(Some(value.number));
                }
                Step::SwapPair(a, b) => {
                    if let (Some(a), Some(b)) = objects.get_pair_mut(a, b)? {
                        std::mem::swap(&mut a.number, &mut b.number);
                    }
                }
                Step::Insert(id, number) => {
                    let value = Value { clone_panics: id == u64::MAX, ..Value::new(number) };
                    seen.push(objects.insert(id, value)?.map(|value| value.number));
                }
                Step::Remove(id) => seen.push(objects.remove(id)?.map(|value| value.number)),
                Step::Transfer(id, owner) => objects.transfer(id, owner)?,
                Step::Share(id) => objects.share(id)?,
                Step::Freeze(id) => objects.freeze(id)?,
                Step::Tell(id) => objects.tell(told(id, objects.sender()))?,
            }
        }
        match message.end {
            End::Reply => Ok(seen),
            End::Fail => Err(Refusal::Asked),
            End::Panic => panic!("as the script says"),
            End::ClonePanics => {
                // An object nobody has touched: taking its before-image panics in the middle of the
                // message.
                objects.get_or_insert_with(u64::MAX, || Value::new(0))?;
                Ok(seen)
            }
        }
    }
}

/// What a told message does: it marks an object no script names.
fn told(id: u64, sender: OwnerId) -> Script {
    let mark = 1_000 + id;
    let declared = vec![(mark, Access::Write)];
    Script { sender, declared, steps: vec![Step::AddOrInsert(mark, 1)], end: End::Reply }
}

type World = HashMap<u64, (Ownership, u64, usize)>;

/// What `script` does to `world`: a second, plain implementation of what `Objects` promises.
fn model(world: &World, script: &Script) -> Option<(World, Vec<u64>)> {
    let mut after = world.clone();
    let mut tells = Vec::new();
    let may = |after: &World, id: u64| match after.get(&id) {
        Some((Ownership::Owned(owner), ..)) => *owner == script.sender,
        Some((Ownership::Shared, ..)) | None => true,
        Some((Ownership::Immutable, ..)) => false,
    };
    // Whoever may write an object when the message begins may do so to its end, whatever it does to
    // the ownership.
    let before = world.clone();
    let mut mine: Vec<u64> = Vec::new();
    let mut write = |after: &World, id: u64| {
        let allowed =
            mine.contains(&id) || if before.contains_key(&id) { may(&before, id) } else { may(after, id) };
        if allowed && after.contains_key(&id) {
            mine.push(id);
        }
        allowed.then_some(())
    };
    for step in &script.steps {
        match *step {
            Step::Get(_) => {}
            Step::Set(id, number) => {
                write(&after, id)?;
                if let Some(object) = after.get_mut(&id) {
                    object.1 = number;
                    object.2 += 1;
                }
            }
            Step::AddOrInsert(id, number) => {
                write(&after, id)?;
                let object = after.entry(id).or_insert((Ownership::Owned(script.sender), 1, 16));
                object.1 = object.1.wrapping_add(number);
                write(&after, id)?;
            }
            Step::SwapPair(a, b) => {
                if a == b {
                    return None;
                }
                write(&after, a)?;
                write(&after, b)?;
                if let (Some(&(_, at_a, _)), Some(&(_, at_b, _))) = (after.get(&a), after.get(&b)) {
                    after.get_mut(&a)?.1 = at_b;
                    after.get_mut(&b)?.1 = at_a;
                }
            }
            Step::Insert(id, number) => {
                write(&after, id)?;
                let ownership = after.get(&id).map_or(Ownership::Owned(script.sender), |object| object.0);
                after.insert(id, (ownership, number, 16));
                write(&after, id)?;
            }
            Step::Remove(id) => {
                write(&after, id)?;
                after.remove(&id);
            }
            Step::Transfer(id, owner) => {
                write(&after, id)?;
                after.get_mut(&id)?.0 = Ownership::Owned(owner);
            }
            Step::Share(id) => {
                write(&after, id)?;
                after.get_mut(&id)?.0 = Ownership::Shared;
            }
            Step::Freeze(id) => {
                write(&after, id)?;
                after.get_mut(&id)?.0 = Ownership::Immutable;
            }
            Step::Tell(id) => tells.push(1_000 + id),
        }
    }
    (script.end == End::Reply).then_some((after, tells))
}

fn world(shard: &Shard<Scripted>) -> World {
    shard
        .objects()
        .map(|(id, ownership, value)| (id, (ownership, value.number, value.ballast.len())))
        .filter(|(id, _)| *id != u64::MAX)
        .collect()
}

fn step() -> impl Strategy<Value = Step> {
    let id = || 0_u64..6;
    prop_oneof![
        2 => id().prop_map(Step::Get),
        3 => (id(), any::<u64>()).prop_map(|(id, number)| Step::Set(id, number)),
        4 => (id(), any::<u64>()).prop_map(|(id, number)| Step::AddOrInsert(id, number)),
        2 => (id(), id()).prop_map(|(a, b)| Step::SwapPair(a, b)),
        2 => (id(), any::<u64>()).prop_map(|(id, number)| Step::Insert(id, number)),
        2 => id().prop_map(Step::Remove),
        1 => (id(), 0_u64..2).prop_map(|(id, owner)| Step::Transfer(id, OwnerId(owner))),
        1 => id().prop_map(Step::Share),
        1 => (id(), 0_u8..8).prop_map(|(id, dice)| if dice == 0 { Step::Freeze(id) } else { Step::Get(id) }),
        1 => id().prop_map(Step::Tell),
    ]
}

fn script() -> impl Strategy<Value = Script> {
    let access = prop_oneof![Just(Access::Read), Just(Access::Write)];
    let end = prop_oneof![6 => Just(End::Reply), 1 => Just(End::Fail), 1 => Just(End::Panic), 1 => Just(End::ClonePanics)];
    let declared = proptest::collection::vec((0_u64..6, access), 1..4);
    (0_u64..2, declared, proptest::collection::vec(step(), 0..6), end)
        .prop_map(|(sender, declared, steps, end)| Script { sender: OwnerId(sender), declared, steps, end })
}

fn quiet_panics() {
    std::panic::set_hook(Box::new(|_| {}));
}

fn new_shard() -> (Shard<Scripted>, Arc<Mvcc<Scripted>>) {
    let mvcc = Arc::new(Mvcc::new(1));
    // Every step of a script may be about an object that is shared and not declared.
    let limits = Limits { reruns_max: 20, ..Limits::default() };
    let mut shard = Shard::new(ShardIndex(0), Router::new(PlacementKey(1), 1), limits, 99, mvcc.clone());
    // The object whose clone panics; inserted by its owner, so that a script of any sender fails on
    // the clone or on ownership.
    let mut effects = Effects::new(1);
    let declared = vec![(u64::MAX, Access::Write)];
    let insert =
        Script { sender: OwnerId(0), declared, steps: vec![Step::Insert(u64::MAX, 0)], end: End::Reply };
    shard.ask_now(Time(0), OwnerId(0), &insert, &mut effects).expect("a plain insert succeeds");
    (shard, mvcc)
}

/// Runs a message at once, or, if one of its objects is shared, as a transaction.
fn ask(shard: &mut Shard<Scripted>, script: &Script, effects: &mut Effects<Scripted>) -> Outcome<Scripted> {
    match shard.ask_now(Time(0), script.sender, script, effects) {
        Err(AskError::Busy) => {}
        outcome => return outcome,
    }
    let mut inbox = Inbox::new();
    let answer_to = ReturnAddress::Outside { slot: 0, generation: 0 };
    inbox.envelopes.push(Envelope::Message { message: script.clone(), sender: script.sender, answer_to });
    for _ in 0..50 {
        shard.turn(Time(0), &mut inbox, effects);
        if let Some((_, outcome)) = effects.answers.pop() {
            return outcome;
        }
    }
    panic!("a transaction of one shard ends: {script:?}")
}

// A `receive` that catches a panic of its own `make` and succeeds: the object does not exist, and
// its slot is not lost.
#[test]
fn an_object_that_was_not_made_leaves_nothing() {
    struct Halfway;
    impl Actor for Halfway {
        type Id = u64;
        type State = u64;
        type Message = u64;
        type Reply = bool;
        type Error = AccessError<u64>;

        fn addressees(id: &u64, to: &mut Addressees<u64>) {
            to.write(1_000);
            to.write(*id);
        }

        fn receive(id: &u64, objects: &mut Objects<'_, Self>) -> Result<bool, AccessError<u64>> {
            let make = || panic!("no state for {id}");
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let _ = objects.get_or_insert_with(*id, make);
            }));
            Ok(caught.is_err() && !objects.contains(*id)?)
        }
    }
    quiet_panics();
    let mut shard = Shard::<Halfway>::new(
        ShardIndex(0),
        Router::new(PlacementKey(1), 1),
        Limits::default(),
        7,
        Arc::new(Mvcc::new(1)),
    );
    let (mut effects, mut inbox) = (Effects::new(1), Inbox::new());
    // As the first object of the message, and as another.
    for id in [1_000, 1] {
        assert_eq!(shard.ask_now(Time(0), OwnerId(0), &id, &mut effects), Ok(true));
        shard.turn(Time(0), &mut inbox, &mut effects);
        assert_eq!((shard.objects().count(), shard.counters().objects), (0, 0));
    }
}

/// A state that cannot be copied while it is [`BROKEN`].
#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Fragile(u64);

const BROKEN: u64 = 13;

impl Clone for Fragile {
    fn clone(&self) -> Self {
        assert!(self.0 != BROKEN, "it breaks");
        Fragile(self.0)
    }
}

// A state whose copy panics when it is to be published: the message had succeeded, and is undone
// all the same.
#[test]
fn what_cannot_be_copied_is_not_published() {
    struct Shop;
    impl Actor for Shop {
        type Id = u64;
        type State = Fragile;
        type Message = (u64, u64);
        type Reply = ();
        type Error = AccessError<u64>;

        fn addressees((id, _): &(u64, u64), to: &mut Addressees<u64>) {
            to.write(*id);
        }

        fn receive(
            (id, number): &(u64, u64),
            objects: &mut Objects<'_, Self>,
        ) -> Result<(), AccessError<u64>> {
            *objects.get_or_insert_with(*id, || Fragile(0))? = Fragile(*number);
            if *number == BROKEN {
                objects.share(*id)?;
                objects.tell((*id, 0))?;
            }
            Ok(())
        }
    }
    quiet_panics();
    let mvcc = Arc::new(Mvcc::new(1));
    let mut shard = Shard::<Shop>::new(
        ShardIndex(0),
        Router::new(PlacementKey(1), 1),
        Limits::default(),
        7,
        mvcc.clone(),
    );
    let mut effects = Effects::new(1);
    // One that was there before, and one that the message made.
    assert_eq!(shard.ask_now(Time(0), OwnerId(0), &(1, 0), &mut effects), Ok(()));
    for id in [1, 2] {
        let outcome = shard.ask_now(Time(0), OwnerId(0), &(id, BROKEN), &mut effects);
        assert!(matches!(outcome, Err(AskError::Panicked(_))));
    }
    let objects: Vec<_> = shard.objects().collect();
    assert_eq!(objects, [(1, Ownership::Owned(OwnerId(0)), &Fragile(0))]);
    assert!(mvcc.is_empty() && shard.own_messages() == 0);
}

// A state whose copy panics on the way to the transaction's last shard: nothing is changed
// anywhere, nothing stays locked, and its sender hears of it.
#[test]
fn what_cannot_be_copied_ends_its_transaction() {
    struct Shop;
    impl Actor for Shop {
        type Id = u64;
        type State = Fragile;
        type Message = Vec<(u64, u64)>;
        type Reply = ();
        type Error = AccessError<u64>;

        fn addressees(items: &Vec<(u64, u64)>, to: &mut Addressees<u64>) {
            items.iter().for_each(|(id, _)| to.write(*id));
        }

        fn receive(items: &Vec<(u64, u64)>, objects: &mut Objects<'_, Self>) -> Result<(), AccessError<u64>> {
            for (id, number) in items {
                objects.insert(*id, Fragile(*number))?;
            }
            Ok(())
        }
    }
    quiet_panics();
    let (router, mvcc) = (Router::new(PlacementKey(1), 3), Arc::new(Mvcc::new(3)));
    let [a, b, c] = [0, 1, 2]
        .map(|shard| (0..).find(|id| router.home::<u64>(id) == ShardIndex(shard)).expect("there is one"));
    let mut shards: Vec<Shard<Shop>> =
        (0..3).map(|at| Shard::new(ShardIndex(at), router, Limits::default(), 7, mvcc.clone())).collect();
    let mut effects: Vec<Effects<Shop>> = (0..3).map(|_| Effects::new(3)).collect();
    let mut ask = |shards: &mut Vec<Shard<Shop>>, items: &[(u64, u64)]| {
        let mut inboxes: Vec<Inbox<Shop>> = (0..3).map(|_| Inbox::new()).collect();
        let first = items.iter().map(|(id, _)| router.home(id).index()).min().expect("there are some");
        let answer_to = ReturnAddress::Outside { slot: 0, generation: 0 };
        inboxes[first].envelopes.push(Envelope::Message {
            message: items.to_vec(),
            sender: OwnerId(0),
            answer_to,
        });
        let mut answers = Vec::new();
        for turn in 0..30 {
            let at = turn % 3;
            shards[at].turn(Time(0), &mut inboxes[at], &mut effects[at]);
            answers.extend(effects[at].answers.drain(..).map(|(_, outcome)| outcome));
            for (inbox, outbox) in inboxes.iter_mut().zip(&mut effects[at].outboxes) {
                inbox.envelopes.extend(outbox.drain(..));
            }
        }
        assert!(shards.iter().all(|shard| shard.transactions() == (0, 0)), "nothing is left under way");
        answers
    };
    assert_eq!(ask(&mut shards, &[(a, 1), (b, 1), (c, 1)]), [Ok(())]);
    // On the second of three shards, where there is another that holds a lock already.
    assert_eq!(ask(&mut shards, &[(b, BROKEN)]), [Ok(())]);
    assert!(matches!(ask(&mut shards, &[(a, 2), (b, 2), (c, 2)])[..], [Err(AskError::Panicked(_))]));
    assert_eq!(shards[1].counters().panicked, 1);
    // Alone on its shard it cannot be copied to be undone either; the others are as they were, and
    // free.
    assert_eq!(ask(&mut shards, &[(a, 3), (c, 3)]), [Ok(())]);
    let numbers: Vec<u64> =
        shards.iter().flat_map(|shard| shard.objects().map(|(_, _, state)| state.0)).collect();
    assert_eq!(numbers, [3, BROKEN, 3]);
    let snapshot = mvcc.epochs().open(Time(0));
    shards.iter_mut().for_each(Shard::enter);
    assert!(shards.iter().all(|shard| shard.has_closed(snapshot)), "nothing is in doubt");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 3 } else { 512 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_message_is_applied_whole_or_not_at_all(scripts in proptest::collection::vec(script(), 1..40)) {
        quiet_panics();
        let (mut shard, mvcc) = new_shard();
        let (mut effects, mut inbox) = (Effects::new(1), Inbox::new());
        let mut expected = World::new();
        for script in scripts {
            let outcome = ask(&mut shard, &script, &mut effects);
            match model(&expected, &script) {
                Some((after, tells)) => {
                    prop_assert!(outcome.is_ok(), "{:?} for {:?}", outcome, script);
                    expected = after;
                    // What was told runs in the next turn, as the sender of what told it.
                    for mark in tells {
                        let marked = expected.entry(mark).or_insert((Ownership::Owned(script.sender), 1, 16));
                        if marked.0 == Ownership::Owned(script.sender) {
                            marked.1 += 1;
                        }
                    }
                }
                None => prop_assert!(outcome.is_err(), "{:?} for {:?}", outcome, script),
            }
            shard.turn(Time(0), &mut inbox, &mut effects);
            prop_assert_eq!(&world(&shard), &expected, "after {:?}", script);
            // What anyone may read without a message is what there is.
            for id in 0..6 {
                let published = mvcc.latest(&id).map(|value| (value.number, value.ballast.len()));
                let public = expected.get(&id).filter(|object| !matches!(object.0, Ownership::Owned(_)));
                prop_assert_eq!(published, public.map(|&(_, number, ballast)| (number, ballast)), "object {}", id);
            }
        }
        prop_assert_eq!(
            mvcc.len(), expected.values().filter(|object| !matches!(object.0, Ownership::Owned(_))).count()
        );
    }

    // A batch does what its messages do one by one.
    #[test]
    fn a_batch_equals_its_messages(scripts in proptest::collection::vec(script(), 1..60)) {
        quiet_panics();
        let (mut one_by_one, mut batched) = (new_shard().0, new_shard().0);
        let (mut effects, mut inbox) = (Effects::new(1), Inbox::new());
        // What is shared takes the other path, and there a message that declares too little runs
        // again behind those after it.
        let stays = |step: &Step| !matches!(step, Step::Share(_));
        let scripts: Vec<_> = scripts
            .into_iter()
            .map(|script| Script {
                sender: OwnerId(0),
                steps: script.steps.into_iter().filter(stays).collect(),
                ..script
            })
            .collect();
        let singly: Vec<_> =
            scripts.iter().map(|script| one_by_one.ask_now(Time(0), OwnerId(0), script, &mut effects)).collect();
        let entries = scripts.into_iter().map(BatchEntry::Waiting).collect();
        inbox.batches.push(Batch { sender: OwnerId(0), entries, tag: 5 });
        batched.turn(Time(0), &mut inbox, &mut effects);
        let batch = effects.batches.pop().expect("the batch comes back");
        prop_assert_eq!(batch.tag, 5);
        for (entry, alone) in batch.entries.into_iter().zip(singly) {
            match entry {
                // Each panic is one of its own.
                BatchEntry::Answered(Err(AskError::Panicked(_))) => {
                    prop_assert!(matches!(alone, Err(AskError::Panicked(_))), "{:?}", alone);
                }
                BatchEntry::Answered(outcome) => prop_assert_eq!(outcome, alone),
                _ => prop_assert!(false, "unanswered"),
            }
        }
        one_by_one.turn(Time(0), &mut inbox, &mut effects);
        batched.turn(Time(0), &mut inbox, &mut effects);
        prop_assert_eq!(world(&one_by_one), world(&batched));
    }
}
