//! The actor: the type that says what objects hold and how they answer messages.

pub(crate) mod addressees;
pub(crate) mod blob;
pub(crate) mod collection;
pub(crate) mod destination;
pub(crate) mod entries;
pub(crate) mod indexed;
pub(crate) mod kind;
pub(crate) mod limits;
pub(crate) mod needs;
pub(crate) mod objects;
pub(crate) mod outcome;
pub(crate) mod receive;
pub(crate) mod run;
mod sending;
pub(crate) mod told;

use std::any::type_name;
use std::fmt::Debug;

use thiserror::Error;

use crate::actor::addressees::Addressees;
use crate::actor::needs::Needs;
use crate::actor::objects::Objects;
use crate::log::schema::Schema;
use crate::object::{ObjectId, OwnerId, Stored};

/// What a user writes: the type of the objects and what a message does to them.
///
/// An actor has no fields. Its state is the objects; the runtime owns those and hands `receive` the
/// ones a message is for. `freehold::actor!` writes all of this but `receive`.
///
/// ```
/// use freehold_shard::{AccessError, Actor, Addressees, Objects};
///
/// struct Counters;
///
/// enum Message {
///     Add { to: u64, amount: u64 },
///     /// Both or neither.
///     AddToBoth { one: u64, other: u64 },
/// }
///
/// impl Actor for Counters {
///     type Id = u64;
///     type State = u64;
///     type Message = Message;
///     type Reply = u64;
///     type Error = AccessError<u64>;
///
///     // Counted apart in statistics, and named where a message is stuck.
///     const MESSAGE_NAMES: &'static [&'static str] = &["Add", "AddToBoth"];
///
///     fn message_index(message: &Message) -> usize {
///         usize::from(matches!(message, Message::AddToBoth { .. }))
///     }
///
///     // In warnings and in the slow log.
///     fn message_name(message: &Message) -> &'static str {
///         Self::MESSAGE_NAMES[Self::message_index(message)]
///     }
///
///     fn addressees(message: &Message, to: &mut Addressees<u64>) {
///         match *message {
///             Message::Add { to: counter, .. } => to.write(counter),
///             Message::AddToBoth { one, other } => [one, other].iter().for_each(|id| to.write(*id)),
///         }
///     }
///
///     fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<u64, AccessError<u64>> {
///         let mut add = |counter, amount| {
///             let value = objects.get_or_insert_with(counter, || 0)?;
///             *value += amount;
///             Ok(*value)
///         };
///         match *message {
///             Message::Add { to, amount } => add(to, amount),
///             Message::AddToBoth { one, other } => Ok(add(one, 1)? + add(other, 1)?),
///         }
///     }
/// }
///
/// let mut bench = freehold_shard::testing::Bench::<Counters>::shards(2);
/// assert_eq!(bench.ask(Message::Add { to: 7, amount: 5 }), Ok(5));
/// assert_eq!(bench.ask(Message::AddToBoth { one: 7, other: 8 }), Ok(6 + 1));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no actor",
    label = "not an actor",
    note = "declare it by `freehold::actor!`, or write `impl Actor for {Self}` for a type without fields"
)]
pub trait Actor: Sized + 'static {
    /// The version of `Id`, `State` and `Message`, which are in a log's directory. Raise it when
    /// you change one of them, and give a migration: a start compares it, and the shapes of the
    /// three, with what the directory says.
    ///
    /// ```
    /// # use freehold_shard::Schema;
    /// // The second version: `LogConfig::migrate_from` leads from the first to it.
    /// const SCHEMA: Schema = Schema::new(2);
    /// # assert_ne!(SCHEMA, Schema::new(1));
    /// ```
    const SCHEMA: Schema = Schema::new(1);
    /// What identifies an object.
    type Id: ObjectId;
    /// What one object holds. It is cloned before its first write in a message, to undo the message
    /// if it fails. A runtime with a log writes and reads it by `serde`; one without asks for none,
    /// so a state may hold channels or sockets.
    type State: Clone + Send + Sync + 'static;
    /// What is sent to objects.
    type Message: Send + 'static;
    /// What comes back.
    type Reply: Send + 'static;
    /// Why a message was refused. An `Err` undoes everything the message did. With `thiserror` a
    /// variant `Access(#[from] AccessError<Id>)` makes an enum fit.
    // The compiler shows the next line where a type does not fit, and so what to do.
    type Error: From<AccessError<Self::Id>> + Send + 'static; // a variant `#[from] AccessError<_>`

    /// The objects the message is addressed to, at least one. It must be a pure function of the
    /// message: it is called by the sender to find the home and again by the shard.
    fn addressees(message: &Self::Message, to: &mut Addressees<Self::Id>);

    /// What the message needs of collections among its addressees if it runs on another shard than
    /// they live on. By default nothing is said: then such a message runs once more for each range
    /// that it turns out to need. It must be a pure function of the message. It is asked only when
    /// a message becomes a transaction; if it panics, it has said what it came to say.
    ///
    /// ```
    /// # use freehold_shard::{Actor, Needs};
    /// /// A message that buys from a book, whose orders are `(book, 1)` and so on.
    /// fn needs<A: Actor<Id = (u64, u64)>>(&book: &u64, to: &mut Needs<A>) {
    ///     to.range((book, 0), (book, 1)..(book + 1, 0), 10);
    /// }
    /// ```
    fn needs(message: &Self::Message, to: &mut Needs<Self>) {
        let _ = (message, to);
    }

    /// How many bytes a state points to, beside its own size. Entries of collections that a message
    /// takes along to another shard count with both
    /// ([`Limits::carried_bytes_max`](crate::Limits::carried_bytes_max)). By default they count
    /// with their size alone; `freehold::actor!` counts the bytes of a [`BlobPart`](crate::BlobPart).
    ///
    /// ```
    /// fn pointed_bytes(state: &Vec<u8>) -> usize {
    ///     state.len()
    /// }
    /// # assert_eq!(pointed_bytes(&vec![1, 2]), 2);
    /// ```
    fn pointed_bytes(state: &Self::State) -> usize {
        let _ = state;
        0
    }

    /// What kind of message it is, for logs and metrics: the name of its type, if nothing else is
    /// said. `freehold::actor!` gives each type of message its own.
    fn message_name(message: &Self::Message) -> &'static str {
        let _ = message;
        type_name::<Self::Message>()
    }

    /// The types of messages that are counted apart. By default none is, and nothing is counted;
    /// `freehold::actor!` has all of its actor's.
    const MESSAGE_NAMES: &'static [&'static str] = &[];

    /// Which of [`MESSAGE_NAMES`](Self::MESSAGE_NAMES) the message is of. It must be a pure function
    /// of the message. It is asked only if there are names; a number beyond them is not counted.
    fn message_index(message: &Self::Message) -> usize {
        let _ = message;
        0
    }

    /// Whether the message is an *action*: it goes to the program, which does something outside for
    /// its objects, and not to `receive`. A message hands it over by
    /// [`Objects::perform`](crate::Objects::perform), which says more.
    ///
    /// It must be a pure function of the message. An action has no addressees, so one that is asked
    /// or told is refused.
    ///
    /// ```
    /// enum Message {
    ///     Pay { cents: u64 },
    ///     Notify { cents: u64 },
    /// }
    ///
    /// fn is_action(message: &Message) -> bool {
    ///     matches!(message, Message::Notify { .. })
    /// }
    /// # assert!(is_action(&Message::Notify { cents: 5 }) && !is_action(&Message::Pay { cents: 5 }));
    /// ```
    fn is_action(message: &Self::Message) -> bool {
        let _ = message;
        false
    }

    /// Applies the message to its objects, all or nothing: an `Err` or a panic leaves every object
    /// as it was.
    ///
    /// It runs to completion on the core that owns the objects and it may be run again, so it must
    /// have no side effect but through `objects`.
    ///
    /// It is no `async fn`: nothing else runs on the core until it has returned. (The compiler says
    /// `expected Result, found future`.) A task awaits first, and sends what came as a message.
    fn receive(message: &Self::Message, objects: &mut Objects<'_, Self>) -> Result<Self::Reply, Self::Error>;
}

impl<A: Actor> Stored for A {
    type Id = <A as Actor>::Id;
    type State = <A as Actor>::State;
}

/// Why an object could not be reached as asked. Nothing was changed by the refused call; return it
/// with `?` to abort the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AccessError<Id: Debug> {
    /// A write to an object that another owner owns.
    #[error(
        "object {id:?} belongs to {owner} and was written as {sender}: send as its owner, or have the owner transfer or share it"
    )]
    NotOwner {
        /// The object.
        id: Id,
        /// Who owns it.
        owner: OwnerId,
        /// Who sent the message.
        sender: OwnerId,
    },
    /// A write to an object that was frozen.
    #[error("object {id:?} is immutable: it can be read but never written again")]
    Immutable {
        /// The object.
        id: Id,
    },
    /// `get_pair_mut` or `get_many_mut` was given the same id twice.
    #[error("objects that are changed at once must be different, not {id:?} twice")]
    SameObject {
        /// The object.
        id: Id,
    },
    /// An object that is not of the kind its id says. It was put there past the kinds: by
    /// `Objects::insert`, or by a migration.
    #[error(
        "object {id:?} is not of the kind `{kind}`: insert objects by `Objects::put`, and mend the migration if there was one"
    )]
    WrongKind {
        /// The object.
        id: Id,
        /// The kind it is to be of.
        kind: &'static str,
    },
    /// An object behind the [`Key`](crate::Key) of a name that says it has another name. Two long
    /// names have one key, or the object was given a wrong name.
    #[error("object {id:?} has another name, and its key is taken: choose a name that differs")]
    OtherName {
        /// The object.
        id: Id,
    },
    /// An entry of a collection, where an object of its own is wanted.
    #[error("object {id:?} is an entry of a collection: reach it by `Objects::collection`")]
    Entry {
        /// The entry.
        id: Id,
    },
    /// An id that is no entry of the collection it was looked for in.
    #[error("object {id:?} is no entry of this collection: give the id of one")]
    NotAnEntry {
        /// What was looked for.
        id: Id,
    },
    /// More entries of collections changed in one message than `Limits::entries_max`.
    #[error("a message may change at most {max} entries: go on in another, or raise the limit")]
    TooManyEntries {
        /// The limit.
        max: usize,
    },
    /// A message to several shards that needs more entries of collections than it may take along:
    /// `Limits::carried_bytes_max`.
    #[error(
        "a message to several shards takes at most {max} bytes of entries along: look at fewer, give what is changed together one placement, or raise the limit"
    )]
    TooMuchCarried {
        /// The limit.
        max: usize,
    },
    /// Ownership of an object that does not exist.
    #[error("object {id:?} does not exist: insert it first")]
    Absent {
        /// The object.
        id: Id,
    },
    /// More objects in one message than [`ADDRESSEES_MAX`](crate::ADDRESSEES_MAX).
    #[error("a message may touch at most {max} objects: split it")]
    TooManyObjects {
        /// The limit.
        max: usize,
    },
    /// An object that was not declared, or not to be written, and cannot be had at once. Return
    /// this error: the message is undone and runs again with the object among its addressees.
    /// Whatever it returns, it does.
    #[error(
        "object {id:?} was not declared and is not free here: return this error, and the message runs again with it"
    )]
    Undeclared {
        /// The object.
        id: Id,
    },
    /// A message to tell that names no object.
    #[error("the message to send has no addressee: `addressees` must name at least one object")]
    Unaddressed,
    /// [`Objects::context`](crate::Objects::context) of a type that the runtime was not started
    /// with.
    #[error("the runtime was started without a `{wanted}`: give it to `Runtime::start_with`")]
    NoContext {
        /// The type that was asked for.
        wanted: &'static str,
    },
    /// A message for [`Objects::perform`](crate::Objects::perform) that is no action.
    #[error("the message is no action: `Actor::is_action` must say so, or `impl ActionOf` for its type")]
    NotAnAction,
    /// An action in a runtime that has nobody to perform it.
    #[error("the runtime has nobody to perform actions: give it one by `Embedding::perform_with`")]
    NoPerformer,
    /// A `tell`, `tell_after`, `cancel` or `perform` that found its queue, the timers or the
    /// actions full.
    #[error("no room to send: {waiting} messages already wait; try again later, or raise the limit")]
    NoRoom {
        /// How many wait.
        waiting: usize,
    },
}
