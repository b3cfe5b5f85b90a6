//! Messages of one actor as types of their own, each with its own reply.
//!
//! An actor has one type of message and one type of reply. `freehold::actor!` writes both as enums
//! with a variant for each message, and [`MessageOf`] says which variant is whose. What a message
//! does is written by hand, as [`Receive`].

use crate::actor::addressees::Addressees;
use crate::actor::kind::Kind;
use crate::actor::needs::Needs;
use crate::actor::objects::Objects;
use crate::actor::{AccessError, Actor};

/// A message of the actor `A`, with the type of its reply. Implemented by `freehold::actor!`.
///
/// ```
/// use freehold_shard::{AccessError, Actor, MessageOf, Objects};
///
/// /// Sends a message of any type, so many times.
/// fn repeat<A: Actor, M: MessageOf<A> + Clone>(
///     objects: &mut Objects<'_, A>,
///     message: M,
///     times: usize,
/// ) -> Result<(), AccessError<A::Id>> {
///     (0..times).try_for_each(|_| objects.send(message.clone()))
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no message of `{A}`",
    label = "not a message of `{A}`",
    note = "list it in `messages {{ .. }}` of the `actor!` that declares `{A}`, with its reply: `{Self} -> ()`"
)]
pub trait MessageOf<A: Actor>: Sized {
    /// What comes back.
    type Reply;

    /// As the actor's message.
    fn into_message(self) -> A::Message;
    /// From the actor's message; `None` if that is another.
    fn from_message(message: A::Message) -> Option<Self>;
    /// From the actor's reply; `None` if that is to another message.
    fn from_reply(reply: A::Reply) -> Option<Self::Reply>;
}

/// What a message of the actor `A` is addressed to, and what it does. Written for each message in
/// `messages` of `freehold::actor!`, which has an example.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is listed as a message of `{A}`, and nothing says what it does",
    label = "`impl Receive<{A}> for {Self}` is missing",
    note = "write `impl Receive<{A}> for {Self}`, with `addressees` and `receive`"
)]
pub trait Receive<A: Actor>: MessageOf<A> {
    /// Whether it is an action: see [`ActionOf`].
    #[doc(hidden)]
    const IS_ACTION: bool = false;

    /// The objects the message is addressed to, at least one: see [`Actor::addressees`].
    fn addressees(&self, to: &mut To<'_, A>);

    /// What the message needs of collections that live on another shard than it runs on: see
    /// [`Actor::needs`].
    ///
    /// ```
    /// # use freehold_shard::{Actor, EntryKind, Kind, Needs};
    /// # fn needs<A: Actor, Book: Kind<A, Key = u64>, Order: EntryKind<A, Header = Book, Key = (u64, u64)>>(to: &mut Needs<A>) {
    /// // The ten cheapest orders of the book 7.
    /// to.range_of::<Order>(7, .., 10);
    /// # }
    /// ```
    fn needs(&self, to: &mut Needs<A>) {
        let _ = to;
    }

    /// Applies the message to its objects, all or nothing: see [`Actor::receive`].
    fn receive(&self, objects: &mut Objects<'_, A>) -> Result<Self::Reply, A::Error>;
}

/// An action of the actor `A`: a message that goes to the program, which does something outside for
/// the objects, and not to the objects. It is listed in `messages` of `freehold::actor!`, with the
/// reply `()`, and needs no `impl Receive`. [`Objects::perform`] hands it over, and says more.
///
/// ```
/// use freehold_shard::{AccessError, Actor, ActionId, ActionOf, Objects};
///
/// /// Hands the same action over, so many times.
/// fn repeat<A: Actor, E: ActionOf<A> + Into<A::Message> + Clone>(
///     objects: &mut Objects<'_, A>,
///     action: E,
///     times: usize,
/// ) -> Result<Vec<ActionId>, AccessError<A::Id>> {
///     (0..times).map(|_| objects.perform(action.clone())).collect()
/// }
/// ```
pub trait ActionOf<A: Actor>: MessageOf<A> {}

impl<A: Actor, E: ActionOf<A>> Receive<A> for E {
    const IS_ACTION: bool = true;

    fn addressees(&self, _: &mut To<'_, A>) {}

    fn receive(&self, _: &mut Objects<'_, A>) -> Result<Self::Reply, A::Error> {
        Err(AccessError::Unaddressed.into())
    }
}

/// The objects that a message is addressed to, named by kind and key.
///
/// The list beneath is [`Addressees`]: at most [`ADDRESSEES_MAX`](crate::ADDRESSEES_MAX) objects.
/// One that is named twice counts once, with the stronger access.
///
/// ```
/// # use freehold_shard::{Actor, Kind, To};
/// # fn addressees<Bank: Actor, Account: Kind<Bank, Key = u64>, Rate: Kind<Bank, Key = u8>>(to: &mut To<'_, Bank>) {
/// to.write::<Account>(7).read::<Rate>(1);
/// assert_eq!(to.addressees().len(), 2);
/// # }
/// ```
#[derive(Debug)]
pub struct To<'a, A: Actor>(&'a mut Addressees<A::Id>);

impl<'a, A: Actor> To<'a, A> {
    /// Names objects in this list.
    #[inline]
    pub fn new(addressees: &'a mut Addressees<A::Id>) -> Self {
        To(addressees)
    }

    /// The message reads the object of the kind `K` with this key. What is only read may belong to
    /// anyone.
    #[inline]
    pub fn read<K: Kind<A>>(&mut self, key: K::Key) -> &mut Self {
        self.0.read(K::id(key));
        self
    }

    /// The message may write the object of the kind `K` with this key, which need not exist yet.
    #[inline]
    pub fn write<K: Kind<A>>(&mut self, key: K::Key) -> &mut Self {
        self.0.write(K::id(key));
        self
    }

    /// The list of ids beneath.
    #[inline]
    pub fn addressees(&mut self) -> &mut Addressees<A::Id> {
        self.0
    }
}
