//! Blobs: values larger than a state should be, kept in parts.
//!
//! A blob is a collection whose entries are its parts, in their order. All parts but the last are
//! full. So a message changes, and the log has, the parts that it touches and not the whole.

use std::ops::RangeInclusive;

use crate::actor::Actor;
use crate::actor::entries::{EntryKind, KindEntries, Reached};
use crate::actor::kind::Kind;
use crate::actor::objects::Objects;
use crate::store::id_range::RangeEnd;

/// A kind of entries that are the parts of a blob.
///
/// A key says which blob a part is of, and the how manyth it is, from 0 on. The parts of a blob lie
/// one after the other in the order of their keys, and there are no others between them.
///
/// With `freehold::actor!`, of a file that has a number: `File(file: u64)` and `Part(file: u64,
/// part: u64) in File(file)`, and this for `Part`:
///
/// ```
/// use freehold_shard::{Actor, BlobPart, EntryKind, Kind};
/// # use freehold_shard::{AccessError, Addressees, CollectionOf, ObjectId, Objects};
/// # #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
/// # enum Id { File(u64), Part(u64, u64) }
/// # impl ObjectId for Id {
/// #     const COLLECTION: Option<CollectionOf<Id>> = Some(|id| match *id {
/// #         Id::File(_) => None,
/// #         Id::Part(file, _) => Some(Id::File(file)),
/// #     });
/// # }
/// # #[derive(Clone)]
/// # enum State { File(File), Part(Part) }
/// # #[derive(Clone)]
/// # struct File;
/// # struct Files;
/// # impl Actor for Files {
/// #     type Id = Id;
/// #     type State = State;
/// #     type Message = u64;
/// #     type Reply = ();
/// #     type Error = AccessError<Id>;
/// #     fn addressees(file: &u64, to: &mut Addressees<Id>) { to.write(Id::File(*file)) }
/// #     fn receive(file: &u64, objects: &mut Objects<'_, Self>) -> Result<(), AccessError<Id>> {
/// #         objects.blob::<Part>(*file)?.append(b"more")
/// #     }
/// # }
/// # impl Kind<Files> for File {
/// #     type Key = u64;
/// #     const NAME: &'static str = "File";
/// #     fn id(file: u64) -> Id { Id::File(file) }
/// #     fn key(id: Id) -> Option<u64> { if let Id::File(file) = id { Some(file) } else { None } }
/// #     fn into_state(self) -> State { State::File(self) }
/// #     fn from_state(state: State) -> Result<Self, State> { if let State::File(it) = state { Ok(it) } else { Err(state) } }
/// #     fn of(state: &State) -> Option<&Self> { if let State::File(it) = state { Some(it) } else { None } }
/// #     fn of_mut(state: &mut State) -> Option<&mut Self> { if let State::File(it) = state { Some(it) } else { None } }
/// # }
/// # impl Kind<Files> for Part {
/// #     type Key = (u64, u64);
/// #     const NAME: &'static str = "Part";
/// #     fn id(key: (u64, u64)) -> Id { Id::Part(key.0, key.1) }
/// #     fn key(id: Id) -> Option<(u64, u64)> { if let Id::Part(file, part) = id { Some((file, part)) } else { None } }
/// #     fn into_state(self) -> State { State::Part(self) }
/// #     fn from_state(state: State) -> Result<Self, State> { if let State::Part(it) = state { Ok(it) } else { Err(state) } }
/// #     fn of(state: &State) -> Option<&Self> { if let State::Part(it) = state { Some(it) } else { None } }
/// #     fn of_mut(state: &mut State) -> Option<&mut Self> { if let State::Part(it) = state { Some(it) } else { None } }
/// # }
/// # impl EntryKind<Files> for Part { type Header = File; }
///
/// #[derive(Clone)]
/// struct Part(Vec<u8>);
///
/// impl BlobPart<Files> for Part {
///     fn part_key(file: u64, part: u64) -> (u64, u64) {
///         (file, part)
///     }
///
///     fn part_number(key: (u64, u64)) -> u64 {
///         key.1
///     }
///
///     fn of_bytes(bytes: Vec<u8>) -> Self {
///         Part(bytes)
///     }
///
///     fn bytes(&self) -> &[u8] {
///         &self.0
///     }
///
///     fn bytes_mut(&mut self) -> &mut Vec<u8> {
///         &mut self.0
///     }
/// }
/// ```
pub trait BlobPart<A: Actor>: EntryKind<A> {
    /// Bytes of each part but the last: 4,096, if nothing else is said. A message that changes a
    /// part copies it once, and the log has all of it. It must never change while there are blobs.
    const PART_BYTES: usize = 4096;

    /// The key of the part with this number, of the blob whose header has this key.
    fn part_key(blob: <Self::Header as Kind<A>>::Key, part: u64) -> Self::Key;
    /// The number of the part with this key.
    fn part_number(key: Self::Key) -> u64;
    /// A part of these bytes.
    fn of_bytes(bytes: Vec<u8>) -> Self;
    /// Its bytes.
    fn bytes(&self) -> &[u8];
    /// The same to change them.
    fn bytes_mut(&mut self) -> &mut Vec<u8>;
}

/// A value in parts, while a message runs that has its header: see [`BlobPart`].
///
/// Everything that holds of entries holds of parts: undo, log, checkpoints and snapshots are by
/// part. A message changes at most [`Limits::entries_max`](crate::Limits::entries_max) of them. Of a
/// blob that lives on another shard it takes parts along, with their bytes, up to
/// [`Limits::carried_bytes_max`](crate::Limits::carried_bytes_max): 15 parts of 4,096 bytes, if
/// nothing else is said. (An actor that is not declared by `freehold::actor!` says so by
/// [`Actor::pointed_bytes`].) A snapshot reads a blob as the range of its parts.
///
/// ```
/// use freehold_shard::{AccessError, Actor, BlobPart, Kind, Objects};
///
/// /// Adds a line to the log number 7, and reads how it begins.
/// fn add<A: Actor, Log: Kind<A, Key = u64>, Part: BlobPart<A, Header = Log>>(
///     objects: &mut Objects<'_, A>,
///     line: &str,
/// ) -> Result<[u8; 4], AccessError<A::Id>> {
///     let mut log = objects.blob::<Part>(7)?;
///     log.append(line.as_bytes())?;
///     let mut begin = [0; 4];
///     log.read_at(0, &mut begin);
///     Ok(begin)
/// }
/// ```
pub struct Blob<'c, 'a, A: Actor, P: BlobPart<A>> {
    parts: KindEntries<'c, 'a, A, P>,
}

impl<'a, A: Actor> Objects<'a, A> {
    /// The blob whose header has this key, and whose parts are of the kind `P`: see [`Blob`].
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, BlobPart, Kind, Objects};
    /// # fn receive<A: Actor, File: Kind<A, Key = u64>, Part: BlobPart<A, Header = File>>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<A::Id>> {
    /// objects.blob::<Part>(7)?.append(b"to be continued")?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Objects::collection`].
    pub fn blob<P: BlobPart<A>>(
        &mut self,
        key: <P::Header as Kind<A>>::Key,
    ) -> Reached<A, Blob<'_, 'a, A, P>> {
        Ok(Blob { parts: self.entries::<P>(key)? })
    }
}

impl<A: Actor, P: BlobPart<A>> Blob<'_, '_, A, P> {
    /// Of which part, and where in it, is the byte at `offset`.
    fn place(offset: u64) -> (u64, usize) {
        const { assert!(P::PART_BYTES > 0, "a part of a blob has room for a byte at least") };
        (offset / P::PART_BYTES as u64, (offset % P::PART_BYTES as u64) as usize)
    }

    fn key_of(&self, part: u64) -> P::Key {
        P::part_key(self.parts.key(), part)
    }

    /// The parts from this one on.
    fn from(&self, part: u64) -> RangeInclusive<P::Key> {
        self.key_of(part)..=self.key_of(u64::MAX)
    }

    /// How many bytes it has.
    pub fn len(&self) -> u64 {
        let all = self.from(0);
        let last = self.parts.range(all.clone()).next_back();
        self.parts.wanted(&all, RangeEnd::Back, 1);
        last.map_or(0, |(key, last)| P::part_number(key) * P::PART_BYTES as u64 + last.bytes().len() as u64)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds these bytes to its end.
    ///
    /// # Errors
    /// As [`KindEntries::put`]; some of the bytes may be there then.
    pub fn append(&mut self, bytes: &[u8]) -> Reached<A, ()> {
        let (mut part, filled) = Self::place(self.len());
        let mut rest = bytes;
        if filled > 0 && !rest.is_empty() {
            let (here, behind) = rest.split_at(rest.len().min(P::PART_BYTES - filled));
            let last = self.parts.write(self.key_of(part))?;
            last.expect("a part that is not full is the last").bytes_mut().extend_from_slice(here);
            (part, rest) = (part + 1, behind);
        }
        for bytes in rest.chunks(P::PART_BYTES) {
            self.parts.put(self.key_of(part), P::of_bytes(bytes.to_vec()))?;
            part += 1;
        }
        Ok(())
    }

    /// Copies bytes from `offset` on into `to`, and says how many: fewer than there is room for if
    /// the blob ends there.
    pub fn read_at(&self, offset: u64, to: &mut [u8]) -> usize {
        let Some(more) = to.len().checked_sub(1) else { return 0 };
        let (first, mut within) = Self::place(offset);
        let mut read = 0;
        // As one range: of a blob at home elsewhere it is missed as a whole.
        let last = Self::place(offset.saturating_add(more as u64)).0;
        let parts = self.key_of(first)..=self.key_of(last);
        for (_, part) in self.parts.range(parts.clone()) {
            let bytes = part.bytes().get(within..).unwrap_or_default();
            let count = bytes.len().min(to.len() - read);
            to[read..read + count].copy_from_slice(&bytes[..count]);
            (read, within) = (read + count, 0);
        }
        // The blob may end before: then fewer come along.
        self.parts.wanted(
            &parts,
            RangeEnd::Front,
            usize::try_from(last - first).map_or(usize::MAX, |more| more + 1),
        );
        read
    }

    /// Lets it end after `len` bytes; nothing changes if it has no more.
    ///
    /// # Errors
    /// As [`KindEntries::retain`]; it may have become shorter then.
    pub fn truncate(&mut self, len: u64) -> Reached<A, ()> {
        if len >= self.len() {
            return Ok(());
        }
        let (part, filled) = Self::place(len);
        if len == 0 {
            return self.parts.clear();
        }
        let first_gone = part + u64::from(filled > 0);
        self.parts.retain(self.from(first_gone), usize::MAX, |_, _| false)?;
        if filled > 0 {
            let last = self.parts.write(self.key_of(part))?;
            last.expect("there are more bytes than are to stay").bytes_mut().truncate(filled);
        }
        Ok(())
    }
}
