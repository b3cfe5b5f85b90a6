//! Kinds: the types of objects that one actor has, each with keys of its own.
//!
//! An actor has one type of id and one type of state. A kind is a part of both: its keys are some
//! of the ids, and its states are some of the states. `freehold::actor!` writes both types as enums
//! with a variant for each kind, and says here which variant is whose.
//!
//! The methods below are those of [`Objects`] by kind. A key of a kind gives an id that no other
//! kind has. So an object of another kind behind it was put there past the kinds, by
//! [`Objects::insert`] or by a migration: [`AccessError::WrongKind`] says so, and nothing changes.

use std::ops::Deref;
use std::time::{Duration, SystemTime};

use crate::actor::objects::Objects;
use crate::actor::receive::MessageOf;
use crate::actor::told::TimerId;
use crate::actor::{AccessError, Actor};
use crate::key::{Key, Named};
use crate::object::ObjectId;

/// A kind of object of the actor `A`, implemented by `freehold::actor!`. The type that implements
/// it is what an object of this kind holds. One type may be a kind of several actors.
///
/// ```
/// use freehold_shard::{AccessError, Actor, Kind, Objects};
///
/// /// Empties an object of any kind, and says of which it was.
/// fn reset<A: Actor, K: Kind<A> + Default>(
///     objects: &mut Objects<'_, A>,
///     key: K::Key,
/// ) -> Result<&'static str, AccessError<A::Id>> {
///     objects.put(key, K::default())?;
///     Ok(K::NAME)
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no kind of object of `{A}`",
    label = "not a kind of `{A}`",
    note = "list it in `kinds {{ .. }}` of the `actor!` that declares `{A}`, with its key: `{Self}(key: u64)`"
)]
pub trait Kind<A: Actor>: Sized + 'static {
    /// What identifies an object among those of its kind.
    type Key: ObjectId;
    /// What the kind is called.
    const NAME: &'static str;

    /// The id of the object with this key.
    fn id(key: Self::Key) -> A::Id;
    /// The key of the object `id`; `None` if it is of another kind.
    fn key(id: A::Id) -> Option<Self::Key>;
    /// The state of an object that holds this.
    fn into_state(self) -> A::State;
    /// What an object of this kind holds; the state again if it is of another kind.
    fn from_state(state: A::State) -> Result<Self, A::State>;
    /// The same by reference.
    fn of(state: &A::State) -> Option<&Self>;
    /// The same to change it.
    fn of_mut(state: &mut A::State) -> Option<&mut Self>;
}

/// Two objects, each of its own kind.
pub type KindPair<'a, K, L> = (Option<&'a mut K>, Option<&'a mut L>);

impl<A: Actor> Objects<'_, A> {
    /// The object of the kind `K` with this key; `None` if it does not exist.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Kind, Objects};
    /// # fn receive<A: Actor, Account: Kind<A, Key = u64> + std::fmt::Debug>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<A::Id>> {
    /// println!("{:?}", objects.read::<Account>(7)?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`AccessError::WrongKind`] if an object of another kind was put there past the kinds;
    /// otherwise as [`Objects::get`].
    #[inline]
    pub fn read<K: Kind<A>>(&self, key: K::Key) -> Result<Option<&K>, AccessError<A::Id>> {
        let id = K::id(key);
        self.get(id)?.map(|state| K::of(state).ok_or_else(|| wrong_kind::<A, K>(id))).transpose()
    }

    /// The object of the kind `K` with this key, to change it; `None` if it does not exist.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Kind, Objects};
    /// # fn receive<A: Actor, Account: Kind<A, Key = u64> + Default>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<A::Id>> {
    /// if let Some(account) = objects.write::<Account>(7)? {
    ///     *account = Account::default();
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`AccessError::WrongKind`] as [`Objects::read`]; otherwise as [`Objects::get_mut`].
    #[inline]
    pub fn write<K: Kind<A>>(&mut self, key: K::Key) -> Result<Option<&mut K>, AccessError<A::Id>> {
        let id = K::id(key);
        as_kind_mut::<A, K>(id, self.get_mut(id)?)
    }

    /// The object of the kind `K` with this key, to change it; if there is none, it is first
    /// inserted as `make` returns it, owned by the sender.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Kind, Objects};
    /// # fn receive<A: Actor, Account: Kind<A, Key = u64> + Default>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<A::Id>> {
    /// let account: &mut Account = objects.write_or_insert_with(7, Account::default)?;
    /// # let _ = account;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`AccessError::WrongKind`] as [`Objects::read`]; otherwise as
    /// [`Objects::get_or_insert_with`].
    #[inline]
    pub fn write_or_insert_with<K: Kind<A>>(
        &mut self,
        key: K::Key,
        make: impl FnOnce() -> K,
    ) -> Result<&mut K, AccessError<A::Id>> {
        let id = K::id(key);
        let state = self.get_or_insert_with(id, || make().into_state())?;
        K::of_mut(state).ok_or_else(|| wrong_kind::<A, K>(id))
    }

    /// Gives the object of the kind `K` with this key a new value, and returns the one it had. A
    /// new object is owned by the sender.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Kind, Objects};
    /// # fn receive<A: Actor, Account: Kind<A, Key = u64> + Default>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<A::Id>> {
    /// let before: Option<Account> = objects.put(7, Account::default())?;
    /// # let _ = before;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`AccessError::WrongKind`] as [`Objects::read`]; otherwise as [`Objects::insert`].
    pub fn put<K: Kind<A>>(&mut self, key: K::Key, value: K) -> Result<Option<K>, AccessError<A::Id>> {
        let id = K::id(key);
        match self.insert(id, value.into_state())?.map(K::from_state) {
            None => Ok(None),
            Some(Ok(before)) => Ok(Some(before)),
            Some(Err(before)) => {
                self.insert(id, before)?;
                Err(wrong_kind::<A, K>(id))
            }
        }
    }

    /// Removes the object of the kind `K` with this key and returns it; `None` if there is none.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Kind, Objects};
    /// # fn receive<A: Actor, Account: Kind<A, Key = u64>>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<A::Id>> {
    /// let closed: Option<Account> = objects.take(7)?;
    /// # let _ = closed;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`AccessError::WrongKind`] as [`Objects::read`]; otherwise as [`Objects::remove`].
    pub fn take<K: Kind<A>>(&mut self, key: K::Key) -> Result<Option<K>, AccessError<A::Id>> {
        if self.write::<K>(key)?.is_none() {
            return Ok(None);
        }
        Ok(self.remove(K::id(key))?.and_then(|state| K::from_state(state).ok()))
    }

    /// Whether the object of the kind `K` with this key exists.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Kind, Objects};
    /// # fn receive<A: Actor, Account: Kind<A, Key = u64>>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<A::Id>> {
    /// if !objects.exists::<Account>(7)? {
    ///     println!("there is no account 7");
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Objects::read`].
    pub fn exists<K: Kind<A>>(&self, key: K::Key) -> Result<bool, AccessError<A::Id>> {
        Ok(self.read::<K>(key)?.is_some())
    }

    /// Two different objects, of one kind or of two, to change both; `None` for one that does not
    /// exist.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Kind, Objects};
    /// # fn receive<A: Actor, Account: Kind<A, Key = u64>, Card: Kind<A, Key = (u64, u8)>>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<A::Id>> {
    /// if let (Some(account), Some(card)) = objects.pair::<Account, Card>(7, (7, 0))? {
    ///     // Both may be changed here.
    ///     # let _: (&mut Account, &mut Card) = (account, card);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`AccessError::WrongKind`] as [`Objects::read`]; otherwise as [`Objects::get_pair_mut`].
    #[inline]
    pub fn pair<K: Kind<A>, L: Kind<A>>(
        &mut self,
        first: K::Key,
        second: L::Key,
    ) -> Result<KindPair<'_, K, L>, AccessError<A::Id>> {
        let (first, second) = (K::id(first), L::id(second));
        let (one, other) = self.get_pair_mut(first, second)?;
        Ok((as_kind_mut::<A, K>(first, one)?, as_kind_mut::<A, L>(second, other)?))
    }

    /// `N` different objects of the kind `K`, to change all of them, in the order of `keys`; `None`
    /// for one that does not exist.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Kind, Objects};
    /// # fn receive<A: Actor, Account: Kind<A, Key = u64>>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<A::Id>> {
    /// let [payer, payee, bank] = objects.many_mut::<Account, 3>([7, 8, 0])?;
    /// # let _: [Option<&mut Account>; 3] = [payer, payee, bank];
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`AccessError::WrongKind`] as [`Objects::read`]; otherwise as [`Objects::get_many_mut`].
    pub fn many_mut<K: Kind<A>, const N: usize>(
        &mut self,
        keys: [K::Key; N],
    ) -> Result<[Option<&mut K>; N], AccessError<A::Id>> {
        let ids = keys.map(K::id);
        let mut found = [const { None }; N];
        for ((found, state), id) in found.iter_mut().zip(self.get_many_mut(ids)?).zip(ids) {
            *found = as_kind_mut::<A, K>(id, state)?;
        }
        Ok(found)
    }

    /// Sends a message as [`Objects::tell`] does, if this message succeeds.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, MessageOf, Objects};
    /// # fn receive<A: Actor, Notify: MessageOf<A> + From<u64>>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<A::Id>> {
    /// objects.send(Notify::from(7))?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Objects::tell`].
    #[inline]
    pub fn send<M: MessageOf<A>>(&self, message: M) -> Result<(), AccessError<A::Id>> {
        self.tell(message.into_message())
    }

    /// Sends a message as [`Objects::tell_after`] does, once `delay` has passed.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, MessageOf, Objects};
    /// # fn receive<A: Actor, Expire: MessageOf<A> + From<u64>>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<A::Id>> {
    /// use std::time::Duration;
    ///
    /// objects.send_after(Duration::from_secs(60), Expire::from(7))?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Objects::tell_after`].
    #[inline]
    pub fn send_after<M: MessageOf<A>>(
        &self,
        delay: Duration,
        message: M,
    ) -> Result<TimerId, AccessError<A::Id>> {
        self.tell_after(delay, message.into_message())
    }

    /// Sends a message as [`Objects::tell_at`] does, when the wall clock shows `at`.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, MessageOf, Objects};
    /// # use std::time::SystemTime;
    /// # fn receive<A: Actor, Close: MessageOf<A> + From<u64>>(ends: SystemTime, objects: &mut Objects<'_, A>) -> Result<(), AccessError<A::Id>> {
    /// objects.send_at(ends, Close::from(7))?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Objects::tell_at`].
    #[inline]
    pub fn send_at<M: MessageOf<A>>(
        &self,
        at: SystemTime,
        message: M,
    ) -> Result<TimerId, AccessError<A::Id>> {
        self.tell_at(at, message.into_message())
    }

    /// The object of the kind `K` with this name; `None` if it does not exist.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Key, Kind, Named, Objects};
    /// # fn receive<A: Actor, User: Kind<A, Key = Key> + Named>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<A::Id>> {
    /// if let Some(user) = objects.read_named::<User>("user:42")? {
    ///     assert_eq!(user.name(), "user:42");
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`AccessError::OtherName`] if the object behind the name's [`Key`] has another name;
    /// otherwise as [`Objects::read`].
    pub fn read_named<K>(&self, name: &str) -> Result<Option<&K>, AccessError<A::Id>>
    where
        K: Kind<A, Key = Key> + Named,
    {
        let key = Key::new(name);
        self.read::<K>(key)?.map(|object| named(K::id(key), name, object)).transpose()
    }

    /// The object of the kind `K` with this name, to change it; `None` if it does not exist.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Key, Kind, Named, Objects};
    /// # fn receive<A: Actor, User: Kind<A, Key = Key> + Named>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<A::Id>> {
    /// if let Some(user) = objects.write_named::<User>("user:42")? {
    ///     # let user: &mut User = user;
    ///     assert_eq!(user.name(), "user:42");
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Objects::read_named`] and [`Objects::write`].
    pub fn write_named<K>(&mut self, name: &str) -> Result<Option<&mut K>, AccessError<A::Id>>
    where
        K: Kind<A, Key = Key> + Named,
    {
        let key = Key::new(name);
        self.write::<K>(key)?.map(|object| named(K::id(key), name, object)).transpose()
    }

    /// The object of the kind `K` with this name, to change it; if there is none, it is first
    /// inserted as `make` returns it, owned by the sender. `make` gives the object this name.
    ///
    /// ```
    /// # use freehold_shard::{AccessError, Actor, Key, Kind, Named, Objects};
    /// # fn receive<A: Actor, User: Kind<A, Key = Key> + Named + From<String>>(objects: &mut Objects<'_, A>) -> Result<(), AccessError<A::Id>> {
    /// let name = "user:42";
    /// let user = objects.write_named_or_insert_with(name, || User::from(name.to_owned()))?;
    /// # let _: &mut User = user;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Objects::read_named`] and [`Objects::write_or_insert_with`].
    pub fn write_named_or_insert_with<K>(
        &mut self,
        name: &str,
        make: impl FnOnce() -> K,
    ) -> Result<&mut K, AccessError<A::Id>>
    where
        K: Kind<A, Key = Key> + Named,
    {
        let key = Key::new(name);
        if self.write_named::<K>(name)?.is_none() {
            // Looked at before it is there: a message may go on after an error.
            let object = make();
            named(K::id(key), name, &object)?;
            self.put(key, object)?;
        }
        Ok(self.write::<K>(key)?.expect("it was there, or was just put there"))
    }
}

/// What an object is, if it is of the kind it is to be of.
#[inline]
fn as_kind_mut<A: Actor, K: Kind<A>>(
    id: A::Id,
    state: Option<&mut A::State>,
) -> Result<Option<&mut K>, AccessError<A::Id>> {
    state.map(|state| K::of_mut(state).ok_or_else(|| wrong_kind::<A, K>(id))).transpose()
}

/// `object`, if it has this name.
fn named<Id: ObjectId, T>(id: Id, name: &str, object: T) -> Result<T, AccessError<Id>>
where
    T: Deref<Target: Named>,
{
    if object.name() == name { Ok(object) } else { Err(AccessError::OtherName { id }) }
}

#[cold]
pub(super) fn wrong_kind<A: Actor, K: Kind<A>>(id: A::Id) -> AccessError<A::Id> {
    AccessError::WrongKind { id, kind: K::NAME }
}
