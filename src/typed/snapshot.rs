//! Snapshots by kind.

use std::fmt;
use std::future::Future;
use std::ops::RangeBounds;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use freehold_shard::{Actor, EntryKind, Kind};

use crate::api::snapshot::{Snapshot, SnapshotRead};
use crate::error::SnapshotError;

impl<A: Actor> Snapshot<A> {
    /// The object of the kind `K` with this key as it was; `None` if it did not exist. As
    /// [`Snapshot::get`].
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let bank = runtime.handle();
    /// bank.call(Deposit { account: 7, cents: 5 }).wait().unwrap();
    /// let snapshot = bank.snapshot().wait().unwrap();
    /// assert_eq!(snapshot.read::<Account>(7).wait(), Ok(Some(Account { cents: 5 })));
    /// ```
    ///
    /// # Errors
    /// [`SnapshotError::WrongKind`] if an object of another kind was put there past the kinds;
    /// otherwise see [`SnapshotError`].
    pub fn read<K: Kind<A>>(&self, key: K::Key) -> KindRead<Option<A::State>, Option<K>> {
        KindRead { read: self.get(K::id(key)), turn: |state| state.map(of_kind::<A, K>).transpose() }
    }

    /// The objects of the kind `K` with these keys, in their order: as [`Snapshot::get_all`].
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let bank = runtime.handle();
    /// bank.call(Deposit { account: 7, cents: 5 }).wait().unwrap();
    /// let snapshot = bank.snapshot().wait().unwrap();
    /// let accounts = snapshot.read_all::<Account>([7, 8]).wait();
    /// assert_eq!(accounts, Ok(vec![Some(Account { cents: 5 }), None]));
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::read`].
    pub fn read_all<K: Kind<A>>(
        &self,
        keys: impl IntoIterator<Item = K::Key>,
    ) -> KindRead<Vec<Option<A::State>>, Vec<Option<K>>> {
        KindRead {
            read: self.get_all(keys.into_iter().map(K::id)),
            turn: |states| states.into_iter().map(|state| state.map(of_kind::<A, K>).transpose()).collect(),
        }
    }

    /// Folds all objects of the kind `K` into one value: as [`Snapshot::fold`], which has those of
    /// all kinds.
    ///
    /// ```
    /// # use freehold_example::*;
    /// let runtime = start();
    /// let bank = runtime.handle();
    /// bank.call(Deposit { account: 7, cents: 5 }).wait().unwrap();
    /// let snapshot = bank.snapshot().wait().unwrap();
    /// let add = |sum: &mut u64, _number: u64, account: &Account| *sum += account.cents;
    /// assert_eq!(snapshot.fold_kind(|| 0, add, |one, other| one + other).wait(), Ok(5));
    /// ```
    ///
    /// # Errors
    /// As [`Snapshot::read`].
    pub fn fold_kind<K, T, M, F, G>(&self, make: M, each: F, merge: G) -> KindRead<KindFold<T>, T>
    where
        K: Kind<A>,
        T: Send + 'static,
        M: Fn() -> T,
        F: Fn(&mut T, K::Key, &K) + Clone + Send + 'static,
        G: Fn(T, T) -> T + Send + 'static,
    {
        let make = move || KindFold { value: make(), stranger: None };
        let each = move |fold: &mut KindFold<T>, id: A::Id, state: &A::State| match (K::key(id), K::of(state))
        {
            (Some(key), Some(object)) => each(&mut fold.value, key, object),
            (Some(_), None) => fold.stranger = Some(K::NAME),
            (None, _) => {}
        };
        let merge = move |one: KindFold<T>, other: KindFold<T>| KindFold {
            value: merge(one.value, other.value),
            stranger: one.stranger.or(other.stranger),
        };
        let turn = |fold: KindFold<T>| match fold.stranger {
            Some(kind) => Err(SnapshotError::WrongKind { kind }),
            None => Ok(fold.value),
        };
        KindRead { read: self.fold(make, each, merge), turn }
    }
}

/// Entries of a kind, with their ids or keys.
type FoundEntries<K, E> = Vec<(K, E)>;

/// Entries of the kind `E` that are being read.
type EntriesRead<A, E> =
    KindRead<FoundEntries<<A as Actor>::Id, <A as Actor>::State>, FoundEntries<<E as Kind<A>>::Key, E>>;

impl<A: Actor> Snapshot<A> {
    /// The entries of the kind `E` of a collection in a range of keys as they were, in their order,
    /// and no more than the first `most`: as [`Snapshot::range`].
    ///
    /// # Errors
    /// As [`Snapshot::read`].
    pub fn read_entries<E: EntryKind<A>>(
        &self,
        collection: <E::Header as Kind<A>>::Key,
        keys: impl RangeBounds<E::Key>,
        most: usize,
    ) -> EntriesRead<A, E> {
        let ids = (keys.start_bound().map(|key| E::id(*key)), keys.end_bound().map(|key| E::id(*key)));
        let turn = |found: FoundEntries<A::Id, A::State>| {
            let of = |(id, state)| match E::key(id) {
                Some(key) => of_kind::<A, E>(state).map(|entry| (key, entry)),
                None => Err(SnapshotError::WrongKind { kind: E::NAME }),
            };
            found.into_iter().map(of).collect()
        };
        KindRead { read: self.range(E::Header::id(collection), ids, most), turn }
    }
}

/// A fold under way.
pub struct KindFold<T> {
    value: T,
    /// The kind of an object that is not of its kind, if one was met.
    stranger: Option<&'static str>,
}

fn of_kind<A: Actor, K: Kind<A>>(state: A::State) -> Result<K, SnapshotError> {
    K::from_state(state).map_err(|_| SnapshotError::WrongKind { kind: K::NAME })
}

/// Something of a snapshot by kind: a [`SnapshotRead`] of `S`, and `T` of it.
#[must_use = "the shards are asked, and what they say comes by awaiting this, or by its `wait`"]
pub struct KindRead<S, T> {
    read: SnapshotRead<S>,
    turn: fn(S) -> Result<T, SnapshotError>,
}

impl<S: Send + 'static, T> KindRead<S, T> {
    /// Blocks the calling thread until it is there.
    ///
    /// # Errors
    /// As awaiting it; on a shard's thread [`SnapshotError::WaitOnShard`] at once.
    pub fn wait(self) -> Result<T, SnapshotError> {
        (self.turn)(self.read.wait()?)
    }
}

impl<S: Send + 'static, T> Future for KindRead<S, T> {
    type Output = Result<T, SnapshotError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let read = ready!(Pin::new(&mut self.read).poll(cx));
        Poll::Ready(read.and_then(self.turn))
    }
}

impl<S, T> fmt::Debug for KindRead<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KindRead").finish_non_exhaustive()
    }
}
