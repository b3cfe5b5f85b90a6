//! Blobs, and entries that have a second order: whatever is done to them, they are as plain vectors
//! and maps are, after failures and crashes as well.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use freehold_shard::testing::Bench;
use freehold_shard::*;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Id {
    File(u64),
    Part((u64, u64)),
    Tenant(u64),
    Expiry((u64, u64, u64)),
    Session((u64, u64)),
}

impl ObjectId for Id {
    const COLLECTION: Option<CollectionOf<Id>> = Some(|id| match *id {
        Id::File(_) | Id::Tenant(_) => None,
        Id::Part((file, _)) => Some(Id::File(file)),
        Id::Expiry((tenant, ..)) | Id::Session((tenant, _)) => Some(Id::Tenant(tenant)),
    });
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum State {
    File(File),
    Part(Part),
    Tenant(Tenant),
    Expiry(Expiry),
    Session(Session),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct File;
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Part(Vec<u8>);
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tenant;
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Expiry;
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Session {
    /// It has no end if this is 0.
    ends: u64,
    used: u64,
}

thread_local! {
    /// How many parts were copied.
    static PARTS_COPIED: Cell<usize> = const { Cell::new(0) };
}

impl Clone for Part {
    fn clone(&self) -> Self {
        PARTS_COPIED.set(PARTS_COPIED.get() + 1);
        Part(self.0.clone())
    }
}

macro_rules! kinds {
    ($($Kind:ident($Key:ty) $(in $Header:ident, $indexed:literal)?),+) => {$(
        impl Kind<Host> for $Kind {
            type Key = $Key;
            const NAME: &'static str = stringify!($Kind);

            fn id(key: $Key) -> Id {
                Id::$Kind(key)
            }

            fn key(id: Id) -> Option<$Key> {
                if let Id::$Kind(key) = id { Some(key) } else { None }
            }

            fn into_state(self) -> State {
                State::$Kind(self)
            }

            fn from_state(state: State) -> Result<Self, State> {
                if let State::$Kind(it) = state { Ok(it) } else { Err(state) }
            }

            fn of(state: &State) -> Option<&Self> {
                if let State::$Kind(it) = state { Some(it) } else { None }
            }

            fn of_mut(state: &mut State) -> Option<&mut Self> {
                if let State::$Kind(it) = state { Some(it) } else { None }
            }
        }
        $(impl EntryKind<Host> for $Kind {
            type Header = $Header;
            const IS_INDEXED: bool = $indexed;
        })?
    )+};
}

kinds! {
    File(u64),
    Part((u64, u64)) in File, false,
    Tenant(u64),
    Expiry((u64, u64, u64)) in Tenant, false,
    Session((u64, u64)) in Tenant, true
}

/// So small that every bound is met.
const PART_BYTES: u64 = 8;

impl BlobPart<Host> for Part {
    const PART_BYTES: usize = PART_BYTES as usize;

    fn part_key(file: u64, part: u64) -> (u64, u64) {
        (file, part)
    }

    fn part_number(key: (u64, u64)) -> u64 {
        key.1
    }

    fn of_bytes(bytes: Vec<u8>) -> Self {
        Part(bytes)
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Indexed<Host> for Session {
    type Index = Expiry;

    fn place_of((tenant, user): (u64, u64), session: &Self) -> Option<(u64, u64, u64)> {
        (session.ends > 0).then_some((tenant, session.ends, user))
    }

    fn key_at((tenant, _, user): (u64, u64, u64)) -> (u64, u64) {
        (tenant, user)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Message {
    Append(u64, Vec<u8>),
    Truncate(u64, u64),
    /// From one file's end to another's, so many bytes.
    Copy(u64, u64, u64),
    Put(u64, u64, u64),
    Change(u64, u64, u64),
    Take(u64, u64),
    /// Ends all whose end is before.
    Expire(u64, u64),
    Clear(u64),
    /// Takes so many of a tenant whose end is first, and puts them to another. It says what it
    /// needs, or not.
    Move(u64, u64, usize, Says),
    /// Does it, and fails.
    Fail(Box<Message>),
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Says {
    Nothing,
    All,
}

struct Host;

/// All places of a tenant.
fn places(tenant: u64) -> RangeInclusive<(u64, u64, u64)> {
    (tenant, 0, 0)..=(tenant, u64::MAX, u64::MAX)
}

impl Actor for Host {
    type Id = Id;
    type State = State;
    type Message = Message;
    type Reply = u64;
    type Error = AccessError<Id>;

    fn addressees(message: &Message, to: &mut Addressees<Id>) {
        match message {
            Message::Append(file, _) | Message::Truncate(file, _) => to.write(Id::File(*file)),
            Message::Copy(from, into, _) => {
                to.read(Id::File(*from));
                to.write(Id::File(*into));
            }
            Message::Put(tenant, ..)
            | Message::Change(tenant, ..)
            | Message::Take(tenant, _)
            | Message::Expire(tenant, _)
            | Message::Clear(tenant) => to.write(Id::Tenant(*tenant)),
            Message::Move(from, into, ..) => {
                [from, into].into_iter().for_each(|of| to.write(Id::Tenant(*of)))
            }
            Message::Fail(message) => Self::addressees(message, to),
        }
    }

    fn needs(message: &Message, to: &mut Needs<Self>) {
        if let Message::Move(from, into, most, Says::All) = *message {
            to.range_by::<Session>(from, places(from), most);
            // They end at whatever time: so all places there are, and all users.
            to.range_by::<Session>(into, places(into), 100);
            to.range_of::<Session>(into, (into, 0)..=(into, u64::MAX), 100);
        }
    }

    fn pointed_bytes(state: &State) -> usize {
        if let State::Part(part) = state { part.0.len() } else { 0 }
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<u64, AccessError<Id>> {
        match *message {
            Message::Append(file, ref bytes) => {
                let mut file = objects.blob::<Part>(file)?;
                file.append(bytes)?;
                Ok(file.len())
            }
            Message::Truncate(file, len) => {
                let mut file = objects.blob::<Part>(file)?;
                file.truncate(len)?;
                Ok(file.len())
            }
            Message::Copy(from, into, bytes) => {
                let from = objects.blob::<Part>(from)?;
                let begin = from.len().saturating_sub(bytes);
                let mut read = vec![0; bytes as usize];
                let count = from.read_at(begin, &mut read);
                objects.blob::<Part>(into)?.append(&read[..count])?;
                Ok(count as u64)
            }
            Message::Put(tenant, user, ends) => {
                let mut sessions = objects.indexed::<Session>(tenant)?;
                let was = sessions.put((tenant, user), Session { ends, used: 1 })?;
                Ok(was.map_or(0, |was| was.used))
            }
            Message::Change(tenant, user, ends) => {
                let change = |session: &mut Session| {
                    session.used += 1;
                    std::mem::replace(&mut session.ends, ends)
                };
                Ok(objects.indexed::<Session>(tenant)?.change((tenant, user), change)?.unwrap_or_default())
            }
            Message::Take(tenant, user) => {
                let was = objects.indexed::<Session>(tenant)?.take((tenant, user))?;
                Ok(was.map_or(0, |was| was.used))
            }
            Message::Expire(tenant, now) => {
                let (mut sessions, mut ended) = (objects.indexed::<Session>(tenant)?, 0);
                while sessions.take_first_by((tenant, 0, 0)..(tenant, now, 0))?.is_some() {
                    ended += 1;
                }
                Ok(ended)
            }
            Message::Clear(tenant) => objects.indexed::<Session>(tenant)?.clear().map(|()| 0),
            Message::Move(from, into, most, _) => {
                let mut sessions = objects.indexed::<Session>(from)?;
                let mut taken = Vec::new();
                while taken.len() < most
                    && let Some(first) = sessions.take_first_by(places(from))?
                {
                    taken.push(first);
                }
                let (count, mut sessions) = (taken.len() as u64, objects.indexed::<Session>(into)?);
                for ((_, user), session) in taken {
                    sessions.put((into, user), session)?;
                }
                Ok(count)
            }
            Message::Fail(ref message) => {
                Self::receive(message, objects)?;
                Err(AccessError::Absent { id: Id::File(0) })
            }
        }
    }
}

/// What there should be: of each file its bytes, of each tenant and user an end and a number.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    files: BTreeMap<u64, Vec<u8>>,
    sessions: BTreeMap<(u64, u64), (u64, u64)>,
}

impl Model {
    fn receive(&mut self, message: &Message) -> Option<u64> {
        let file =
            |files: &mut BTreeMap<u64, Vec<u8>>, file: &u64| files.get(file).cloned().unwrap_or_default();
        Some(match message {
            Message::Append(at, bytes) => {
                let all = self.files.entry(*at).or_default();
                all.extend(bytes);
                all.len() as u64
            }
            Message::Truncate(at, len) => {
                let all = self.files.entry(*at).or_default();
                all.truncate(*len as usize);
                all.len() as u64
            }
            Message::Copy(from, into, bytes) => {
                let from = file(&mut self.files, from);
                let end = from[from.len().saturating_sub(*bytes as usize)..].to_vec();
                self.files.entry(*into).or_default().extend(&end);
                end.len() as u64
            }
            Message::Put(tenant, user, ends) => {
                self.sessions.insert((*tenant, *user), (*ends, 1)).map_or(0, |(_, used)| used)
            }
            Message::Change(tenant, user, ends) => match self.sessions.get_mut(&(*tenant, *user)) {
                Some((end, used)) => {
                    *used += 1;
                    std::mem::replace(end, *ends)
                }
                None => 0,
            },
            Message::Take(tenant, user) => {
                self.sessions.remove(&(*tenant, *user)).map_or(0, |(_, used)| used)
            }
            Message::Expire(tenant, now) => {
                let before = self.sessions.len();
                self.sessions.retain(|(of, _), (ends, _)| of != tenant || *ends == 0 || *ends >= *now);
                (before - self.sessions.len()) as u64
            }
            Message::Clear(tenant) => {
                self.sessions.retain(|(of, _), _| of != tenant);
                0
            }
            Message::Move(from, into, most, _) => {
                let of = self.sessions.iter().filter(|((of, _), (ends, _))| of == from && *ends > 0);
                let mut first: Vec<_> = of.map(|((_, user), (ends, _))| (*ends, *user)).collect();
                first.sort_unstable();
                first.truncate(*most);
                let taken: Vec<_> = first
                    .into_iter()
                    .map(|(_, user)| (user, self.sessions.remove(&(*from, user)).expect("it is there")))
                    .collect();
                let count = taken.len() as u64;
                self.sessions.extend(taken.into_iter().map(|(user, session)| ((*into, user), session)));
                count
            }
            Message::Fail(_) => return None,
        })
    }

    /// Of a bench, from all objects that it has. The second order has each end once, and no other.
    fn of(bench: &Bench<Host>) -> Self {
        let (mut model, mut parts, mut places) = (Model::default(), BTreeMap::new(), Vec::new());
        for (id, _, state) in bench.objects() {
            match (id, state) {
                (Id::Part(key), State::Part(part)) => drop(parts.insert(key, part.0.clone())),
                (Id::Session(key), State::Session(Session { ends, used })) => {
                    model.sessions.insert(key, (*ends, *used));
                }
                (Id::Expiry(place), State::Expiry(Expiry)) => places.push(place),
                other => panic!("nothing else was put: {other:?}"),
            }
        }
        places.sort_unstable();
        let with_end = model.sessions.iter().filter(|(_, (ends, _))| *ends > 0);
        let mut wanted: Vec<_> =
            with_end.map(|((tenant, user), (ends, _))| (*tenant, *ends, *user)).collect();
        wanted.sort_unstable();
        assert_eq!(places, wanted, "index-agrees");
        for ((file, part), bytes) in parts {
            let all = model.files.entry(file).or_default();
            assert_eq!(all.len() as u64, part * PART_BYTES, "all parts but the last are full");
            assert!((1..=PART_BYTES).contains(&(bytes.len() as u64)), "no part is empty");
            all.extend(bytes);
        }
        model
    }

    fn without_empty_files(mut self) -> Self {
        self.files.retain(|_, bytes| !bytes.is_empty());
        self
    }
}

fn messages() -> impl Strategy<Value = Message> {
    let (file, tenant, user, ends) = (0..3_u64, 0..2_u64, 0..6_u64, 0..9_u64);
    let len = prop_oneof![0..40_u64, (0..5_u64).prop_map(|parts| parts * PART_BYTES)];
    let plain = prop_oneof![
        3 => (file.clone(), len.clone(), any::<u8>())
            .prop_map(|(file, len, first)| Message::Append(file, (0..len).map(|at| first ^ at as u8).collect())),
        2 => (file.clone(), len.clone()).prop_map(|(file, len)| Message::Truncate(file, len)),
        2 => (file.clone(), file, len).prop_map(|(from, into, len)| Message::Copy(from, into, len)),
        4 => (tenant.clone(), user.clone(), ends.clone()).prop_map(|(t, u, ends)| Message::Put(t, u, ends)),
        3 => (tenant.clone(), user.clone(), ends.clone()).prop_map(|(t, u, ends)| Message::Change(t, u, ends)),
        2 => (tenant.clone(), user).prop_map(|(tenant, user)| Message::Take(tenant, user)),
        1 => (tenant.clone(), ends).prop_map(|(tenant, now)| Message::Expire(tenant, now)),
        1 => tenant.clone().prop_map(Message::Clear),
        1 => (tenant.clone(), tenant.clone(), 0..3_usize)
            .prop_map(|(from, into, most)| Message::Move(from, into, most, Says::Nothing)),
        2 => (tenant.clone(), tenant, 0..7_usize)
            .prop_map(|(from, into, most)| Message::Move(from, into, most, Says::All)),
    ];
    (plain, 0..4_u8)
        .prop_map(|(message, fails)| if fails == 0 { Message::Fail(Box::new(message)) } else { message })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 400 }))]

    #[test]
    fn blobs_are_vectors_and_second_orders_agree(
        shards in 1..4_usize,
        messages in prop::collection::vec((messages(), 0..12_u8), 1..40),
    ) {
        let (mut bench, mut model) = (Bench::<Host>::shards(shards).with_log(), Model::default());
        for (message, crashes) in messages {
            let wanted = model.receive(&message);
            prop_assert_eq!(bench.ask(message.clone()).ok(), wanted, "{:?}", message);
            if crashes == 0 {
                bench.crash();
            }
            bench.pass(Duration::from_millis(1));
            prop_assert_eq!(Model::of(&bench).without_empty_files(), model.clone().without_empty_files());
        }
    }
}

#[test]
fn reading_a_blob_ends_where_it_ends() {
    let mut bench = Bench::<Host>::shards(1);
    let bytes: Vec<u8> = (0..3 * PART_BYTES as u8).collect();
    bench.ask(Message::Append(0, bytes.clone())).expect("it is appended");
    // One byte more than there is, all, one less, none.
    for (wanted, count) in [(25, 24), (24, 24), (23, 23), (0, 0)] {
        assert_eq!(bench.ask(Message::Copy(0, 1, wanted)), Ok(count));
        assert_eq!(bench.get(Id::Part((1, 0))).is_some(), count > 0);
        bench.ask(Message::Truncate(1, 0)).expect("it is emptied");
        assert_eq!(bench.get(Id::Part((1, 0))), None);
    }
}

/// However large a blob is, a message copies the part that it changes, and none that it reads,
/// appends, or takes away.
#[test]
fn a_blob_is_never_copied_whole() {
    let mut bench = Bench::<Host>::shards(1).with_log();
    let whole = vec![7; 100 * PART_BYTES as usize];
    for (message, copied) in [
        (Message::Append(0, whole), 0),
        (Message::Append(0, vec![8]), 0),
        (Message::Append(0, vec![9]), 1),
        (Message::Copy(0, 1, 100 * PART_BYTES), 0),
        (Message::Truncate(0, 100 * PART_BYTES + 1), 1),
        (Message::Truncate(0, 100 * PART_BYTES), 0),
        (Message::Truncate(0, 50 * PART_BYTES + 3), 1),
        (Message::Truncate(0, 0), 0),
    ] {
        let before = PARTS_COPIED.replace(0);
        assert!(bench.ask(message.clone()).is_ok(), "{message:?}");
        assert_eq!(PARTS_COPIED.get(), copied, "{before} before {message:?}");
    }
}

#[test]
fn the_second_order_is_by_its_places() {
    let mut bench = Bench::<Host>::shards(1);
    for (user, ends) in [(1, 30), (2, 10), (3, 20), (4, 0)] {
        bench.ask(Message::Put(0, user, ends)).expect("it is put");
    }
    // Those of 10 and 20 are over; one that ends at 30 has a moment left.
    assert_eq!(bench.ask(Message::Expire(0, 30)), Ok(2));
    assert_eq!(bench.ask(Message::Change(0, 1, 5)), Ok(30));
    assert_eq!(bench.ask(Message::Expire(0, 30)), Ok(1));
    assert_eq!(Model::of(&bench).sessions, BTreeMap::from([((0, 4), (0, 1))]));
}

/// What has a second order comes along with its places, and a place with what has it: a message
/// that said what it needs runs once. One that said nothing misses entries together, and not each
/// in a run of its own.
#[test]
fn a_second_order_comes_along() {
    let (mut spans, mut moved, mut fewest) = (0, 0, u64::MAX);
    for (seed, other) in (0..4).flat_map(|seed| (1..4).map(move |other| (seed, other))) {
        for (from, into) in [(0, other), (other, 0)] {
            for (says, most) in [(Says::All, 20), (Says::Nothing, 3)] {
                let mut bench = Bench::<Host>::shards(2).with_seed(seed).with_log();
                for user in 0..30 {
                    bench.ask(Message::Put(from, user, 100 - user)).expect("it is put");
                }
                let before = bench.counters();
                assert_eq!(bench.ask(Message::Move(from, into, most, says)), Ok(most as u64));
                let after = bench.counters();
                let model = Model::of(&bench);
                let users = |tenant| Vec::from_iter(model.sessions.keys().filter(|(of, _)| *of == tenant));
                assert_eq!((users(from).len(), users(into).len()), (30 - most, most));
                if after.consensus > before.consensus {
                    let reruns = after.reruns - before.reruns;
                    let most_reruns = if says == Says::All { 0 } else { 6 };
                    assert!(reruns <= most_reruns, "{reruns} reruns from {from} into {into}: {says:?}");
                    (spans, moved) = (spans + 1, moved + most);
                    fewest = if says == Says::Nothing { fewest.min(reruns) } else { fewest };
                }
            }
        }
    }
    // From elsewhere: one for the places, and one for all that have them.
    assert_eq!(fewest, 2);
    assert!(spans >= 4 && moved >= 42, "some tenants are on two shards");
}

/// What a state points to counts, if the actor says how much that is.
#[test]
fn parts_count_with_their_bytes_when_they_come_along() {
    let limits = Limits { carried_bytes_max: 1 << 10, ..Limits::default() };
    let bytes = size_of::<(Id, Option<State>)>() + PART_BYTES as usize;
    let fit = (limits.carried_bytes_max / bytes) as u64;
    assert!(limits.carried_bytes_max >= (fit as usize + 1) * (bytes - PART_BYTES as usize), "it matters");
    let refused = Err(AskError::Aborted(AccessError::TooMuchCarried { max: 1 << 10 }));
    let mut carried = 0;
    for other in 1..8 {
        for (from, into) in [(0, other), (other, 0)] {
            let mut bench = Bench::<Host>::shards(2).with_seed(7).with_limits(limits);
            bench.ask(Message::Append(from, vec![7; 100 * PART_BYTES as usize])).expect("it is appended");
            // From its end: as many whole parts.
            assert_eq!(bench.ask(Message::Copy(from, into, fit * PART_BYTES)), Ok(fit * PART_BYTES));
            let more = bench.ask(Message::Copy(from, into, (fit + 1) * PART_BYTES));
            if more == refused {
                carried += 1;
            } else {
                assert_eq!(more, Ok((fit + 1) * PART_BYTES));
            }
        }
    }
    assert!(carried > 0, "some file comes along from another shard");
}
