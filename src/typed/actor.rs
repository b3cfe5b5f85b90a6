//! The macro that declares an actor of several kinds of objects and of messages.

/// Declares an actor of several kinds of objects, and of messages that each have a reply of their
/// own.
///
/// ```
/// use freehold::{AccessError, Config, Objects, Receive, Runtime, Shards, To};
/// use serde::{Deserialize, Serialize};
///
/// freehold::actor! {
///     /// A bank.
///     pub actor Bank {
///         id: Id, state: State, message: Message, reply: Reply, error: Refused,
///         kinds {
///             Account(number: u64) at number,
///             Card(account: u64, card: u8) at account,
///         }
///         messages {
///             Pay -> u64,
///             Open -> (),
///         }
///     }
/// }
///
/// #[derive(Clone, Serialize, Deserialize)]
/// pub struct Account { cents: u64 }
/// #[derive(Clone, Serialize, Deserialize)]
/// pub struct Card { left_today: u64 }
///
/// #[derive(Debug, thiserror::Error)]
/// pub enum Refused {
///     #[error("no such account or card")]
///     Unknown,
///     #[error("not enough")]
///     Funds,
///     #[error(transparent)]
///     Access(#[from] AccessError<Id>),
/// }
///
/// pub struct Open { account: u64 }
/// pub struct Pay { account: u64, card: u8, cents: u64 }
///
/// impl Receive<Bank> for Open {
///     fn addressees(&self, to: &mut To<'_, Bank>) {
///         to.write::<Account>(self.account);
///         to.write::<Card>((self.account, 0));
///     }
///
///     fn receive(&self, objects: &mut Objects<'_, Bank>) -> Result<(), Refused> {
///         objects.put(self.account, Account { cents: 100 })?;
///         objects.put((self.account, 0), Card { left_today: 50 })?;
///         Ok(())
///     }
/// }
///
/// impl Receive<Bank> for Pay {
///     fn addressees(&self, to: &mut To<'_, Bank>) {
///         to.write::<Account>(self.account);
///         to.write::<Card>((self.account, self.card));
///     }
///
///     // What is returned is the account's new balance: the reply that `messages` states.
///     fn receive(&self, objects: &mut Objects<'_, Bank>) -> Result<u64, Refused> {
///         let (account, card) =
///             objects.pair::<Account, Card>(self.account, (self.account, self.card))?;
///         let (account, card) = (account.ok_or(Refused::Unknown)?, card.ok_or(Refused::Unknown)?);
///         card.left_today = card.left_today.checked_sub(self.cents).ok_or(Refused::Funds)?;
///         account.cents = account.cents.checked_sub(self.cents).ok_or(Refused::Funds)?;
///         Ok(account.cents)
///     }
/// }
///
/// # let config = Config { shards: Shards::Count(1), ..Config::default() };
/// let runtime = Runtime::<Bank>::start(config)?;
/// let bank = runtime.handle();
/// bank.call(Open { account: 7 }).wait()?;
/// let cents: u64 = bank.call(Pay { account: 7, card: 0, cents: 30 }).wait()?;
/// assert_eq!(cents, 70);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// **Names.** `id`, `state`, `message` and `reply` name the enums that the macro writes. They are
/// the actor's types in the layer beneath, with a variant for each kind or message: `Id::Card((7,
/// 0))`. Attributes before a name go to its enum: `#[derive(Debug)] message: Message`.
///
/// **Kinds.** `Card(account: u64, card: u8)` is a type that holds the state, and the fields of its
/// key: here `(u64, u8)`. A key is an [`ObjectId`](crate::ObjectId) or a tuple of two or three.
/// `at` says which part of the key decides where the object lives. Objects of any kinds that have
/// equal places live on one shard, so `at` is how an account and its cards come together. Places
/// are equal if their values and their types are: `7_u64` is not where `7_u32` is. Without `at`
/// objects are spread by kind and by what their key says
/// ([`placement`](crate::ObjectId::placement)).
///
/// **Entries.** `Line(account: u64, number: u64) in Account(account)` is a kind of entries: the
/// collection that they belong to has the object `Account(account)` as its header. They live where
/// it lives, and are reached by [`Objects::entries`](crate::Objects::entries). `in Account(account)
/// by Day` gives them a second order, of the kind of entries `Day`: see
/// [`Indexed`](crate::Indexed). They are changed by [`Objects::indexed`](crate::Objects::indexed);
/// to change them past it does not compile:
///
/// ```compile_fail,E0080
/// # use freehold::{AccessError, Indexed, Objects, Receive, To};
/// # freehold::actor! {
/// #     actor Host {
/// #         id: Id, state: State, message: Message, reply: Reply, error: AccessError<Id>,
/// #         kinds {
/// #             Tenant(tenant: u64),
/// #             Session(tenant: u64, user: u64) in Tenant(tenant) by Expiry,
/// #             Expiry(tenant: u64, ends: u64, user: u64) in Tenant(tenant),
/// #         }
/// #         messages { Login -> () }
/// #     }
/// # }
/// # #[derive(Clone)]
/// # struct Tenant;
/// # #[derive(Clone)]
/// # struct Session { ends: u64 }
/// # #[derive(Clone, Default)]
/// # struct Expiry;
/// # impl Indexed<Host> for Session {
/// #     type Index = Expiry;
/// #     fn place_of((tenant, user): (u64, u64), session: &Session) -> Option<(u64, u64, u64)> {
/// #         Some((tenant, session.ends, user))
/// #     }
/// #     fn key_at((tenant, _, user): (u64, u64, u64)) -> (u64, u64) {
/// #         (tenant, user)
/// #     }
/// # }
/// # struct Login;
/// # impl Receive<Host> for Login {
/// #     fn addressees(&self, to: &mut To<'_, Host>) {
/// #         to.write::<Tenant>(7);
/// #     }
/// #     fn receive(&self, objects: &mut Objects<'_, Host>) -> Result<(), AccessError<Id>> {
/// // Not `objects.entries`: with `objects.indexed` it compiles.
/// objects.entries::<Session>(7)?.put((7, 8), Session { ends: 9 })?;
/// #         Ok(())
/// #     }
/// # }
/// # fn main() { freehold::testing::Bench::<Host>::shards(1).call(Login).unwrap(); }
/// ```
///
/// Nor does it to change the places by themselves:
///
/// ```compile_fail,E0080
/// # use freehold::{AccessError, Indexed, Objects, Receive, To};
/// # freehold::actor! {
/// #     actor Host {
/// #         id: Id, state: State, message: Message, reply: Reply, error: AccessError<Id>,
/// #         kinds {
/// #             Tenant(tenant: u64),
/// #             Session(tenant: u64, user: u64) in Tenant(tenant) by Expiry,
/// #             Expiry(tenant: u64, ends: u64, user: u64) in Tenant(tenant),
/// #         }
/// #         messages { Login -> () }
/// #     }
/// # }
/// # #[derive(Clone)]
/// # struct Tenant;
/// # #[derive(Clone)]
/// # struct Session { ends: u64 }
/// # #[derive(Clone, Default)]
/// # struct Expiry;
/// # impl Indexed<Host> for Session {
/// #     type Index = Expiry;
/// #     fn place_of((tenant, user): (u64, u64), session: &Session) -> Option<(u64, u64, u64)> {
/// #         Some((tenant, session.ends, user))
/// #     }
/// #     fn key_at((tenant, _, user): (u64, u64, u64)) -> (u64, u64) {
/// #         (tenant, user)
/// #     }
/// # }
/// # struct Login;
/// # impl Receive<Host> for Login {
/// #     fn addressees(&self, to: &mut To<'_, Host>) {
/// #         to.write::<Tenant>(7);
/// #     }
/// #     fn receive(&self, objects: &mut Objects<'_, Host>) -> Result<(), AccessError<Id>> {
/// objects.entries::<Expiry>(7)?.take((7, 9, 8))?;
/// #         Ok(())
/// #     }
/// # }
/// # fn main() { freehold::testing::Bench::<Host>::shards(1).call(Login).unwrap(); }
/// ```
///
/// **Messages.** `Pay -> u64` is a type of message and what it is answered. Each needs an
/// `impl `[`Receive`](crate::Receive).
///
/// **Error.** One type for all messages; it is `From<AccessError<Id>>`.
///
/// **Memory.** Only [`Runtime::open`](crate::Runtime::open), which has a log, asks that kinds and
/// messages are `Serialize`. In a runtime without one they may hold channels, sockets, an
/// `Instant`.
///
/// ```
/// use std::sync::mpsc::Sender;
/// use std::time::Instant;
/// # use freehold::{AccessError, Config, Objects, Receive, Runtime, Shards, To};
///
/// freehold::actor! {
///     actor Sessions {
///         id: Id, state: State, message: Message, reply: Reply, error: AccessError<Id>,
///         kinds { Session(user: u64) }
///         messages { Connect -> () }
///     }
/// }
///
/// #[derive(Clone)]
/// struct Session { since: Instant, out: Sender<String> }
///
/// struct Connect { user: u64, out: Sender<String> }
/// # impl Receive<Sessions> for Connect {
/// #     fn addressees(&self, to: &mut To<'_, Sessions>) {
/// #         to.write::<Session>(self.user);
/// #     }
/// #     fn receive(&self, objects: &mut Objects<'_, Sessions>) -> Result<(), AccessError<Id>> {
/// #         let session = Session { since: Instant::now(), out: self.out.clone() };
/// #         session.out.send(format!("{:?}", session.since.elapsed())).expect("it listens");
/// #         objects.put(self.user, session).map(|_| ())
/// #     }
/// # }
/// # let (out, listens) = std::sync::mpsc::channel();
/// # let config = Config { shards: Shards::Count(1), ..Config::default() };
/// # let runtime = Runtime::<Sessions>::start(config).expect("it starts");
/// # assert_eq!(runtime.handle().call(Connect { user: 7, out }).wait(), Ok(()));
/// # assert!(listens.recv().is_ok());
/// ```
///
/// **Logs.** With a log ([`Runtime::open`](crate::Runtime::open)) messages must be `Serialize` and
/// `Deserialize`; without one they need not be. Add kinds and messages behind the others, and state
/// a new version when the types in a log change: `schema: Schema::new(2),` behind `error`.
#[macro_export]
macro_rules! actor {
    (
        $(#[$attribute:meta])*
        $vis:vis actor $Actor:ident {
            $(#[$id_attribute:meta])* id: $Id:ident,
            $(#[$state_attribute:meta])* state: $State:ident,
            $(#[$message_attribute:meta])* message: $Message:ident,
            $(#[$reply_attribute:meta])* reply: $Reply:ident,
            error: $Error:ty,
            $(schema: $schema:expr,)?
            kinds {
                $($Kind:ident($($field:ident: $Key:ty),+ $(,)?)
                    $(in $Header:ident($($of:expr),+ $(,)?) $(by $Index:ident)?)?
                    $(at $place:expr)?),+
                $(,)?
            }
            messages { $($Sent:ident -> $Answer:ty),+ $(,)? }
        }
    ) => {
        $(#[$attribute])*
        $vis struct $Actor;

        #[doc = concat!("What identifies an object of [`", stringify!($Actor), "`]: its kind and its key.")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $(#[$id_attribute])*
        #[allow(unused_parens, reason = "a key of one field is that field")]
        $vis enum $Id {
            $(
                #[doc = concat!("Of the kind [`", stringify!($Kind), "`].")]
                $Kind(($($Key),+)),
            )+
        }

        #[doc = concat!("What an object of [`", stringify!($Actor), "`] holds.")]
        #[derive(Clone)]
        $(#[$state_attribute])*
        #[allow(clippy::large_enum_variant, reason = "kinds are as large as they are")]
        $vis enum $State {
            $(
                #[doc = concat!("Of the kind [`", stringify!($Kind), "`].")]
                $Kind($Kind),
            )+
        }

        #[doc = concat!("What is sent to [`", stringify!($Actor), "`].")]
        $(#[$message_attribute])*
        #[allow(clippy::large_enum_variant, reason = "messages are as large as they are")]
        $vis enum $Message {
            $(
                #[doc = concat!("[`", stringify!($Sent), "`], answered by `", stringify!($Answer), "`.")]
                $Sent($Sent),
            )+
        }

        #[doc = concat!("What [`", stringify!($Actor), "`] answers.")]
        $(#[$reply_attribute])*
        #[allow(clippy::large_enum_variant, reason = "replies are as large as they are")]
        $vis enum $Reply {
            $(
                #[doc = concat!("To [`", stringify!($Sent), "`].")]
                $Sent($Answer),
            )+
        }

        $crate::__actor_codec! { $Id { $($Kind(($($Key),+))),+ } }
        $crate::__actor_codec! { $State { $($Kind($Kind)),+ } }
        $crate::__actor_codec! { $Message { $($Sent($Sent)),+ } }
        $crate::__actor_kinds! {
            $Actor $Id $State
            { $($Kind(($($field),+) ($($Key),+)) $(in $Header($($of),+) $(by $Index)?)? $(at $place)?),+ }
        }
        $crate::__actor_messages! { $Actor $Message $Reply { $($Sent -> $Answer),+ } }

        impl $crate::Actor for $Actor {
            $(const SCHEMA: $crate::Schema = $schema;)?
            type Id = $Id;
            type State = $State;
            type Message = $Message;
            type Reply = $Reply;
            type Error = $Error;

            #[inline]
            fn addressees(message: &$Message, to: &mut $crate::Addressees<$Id>) {
                let mut to = $crate::To::<$Actor>::new(to);
                match message {
                    $($Message::$Sent(message) => {
                        <$Sent as $crate::Receive<$Actor>>::addressees(message, &mut to)
                    })+
                }
            }

            fn needs(message: &$Message, to: &mut $crate::Needs<$Actor>) {
                match message {
                    $($Message::$Sent(message) => <$Sent as $crate::Receive<$Actor>>::needs(message, to),)+
                }
            }

            fn pointed_bytes(state: &$State) -> usize {
                // Which of the two is meant, the compiler finds out.
                #[allow(unused_imports, reason = "there may be blobs only, or none")]
                use $crate::__typed::{PointsToNothing as _, PointsToParts as _};
                match state {
                    $($State::$Kind(object) => {
                        (&$crate::__typed::Pointing::<$Actor, $Kind>::new(object)).pointed_bytes()
                    })+
                }
            }

            const MESSAGE_NAMES: &'static [&'static str] = &[$(stringify!($Sent)),+];

            #[inline]
            fn message_index(message: &$Message) -> usize {
                match message {
                    $($Message::$Sent(_) => const {
                        $crate::__typed::number_of(<$Actor as $crate::Actor>::MESSAGE_NAMES, stringify!($Sent))
                    },)+
                }
            }

            fn message_name(message: &$Message) -> &'static str {
                match message {
                    $($Message::$Sent(_) => stringify!($Sent),)+
                }
            }

            #[inline]
            fn is_action(message: &$Message) -> bool {
                match message {
                    $($Message::$Sent(_) => <$Sent as $crate::Receive<$Actor>>::IS_ACTION,)+
                }
            }

            #[inline]
            fn receive(
                message: &$Message,
                objects: &mut $crate::Objects<'_, $Actor>,
            ) -> ::core::result::Result<$Reply, $Error> {
                match message {
                    $($Message::$Sent(message) => {
                        <$Sent as $crate::Receive<$Actor>>::receive(message, objects).map($Reply::$Sent)
                    })+
                }
            }
        }
    };
}

/// How an enum of `actor!` is written and read: see `codec`.
#[doc(hidden)]
#[macro_export]
macro_rules! __actor_codec {
    ($Enum:ident { $($Variant:ident($Value:ty)),+ }) => {
        #[allow(unused_parens, reason = "a key of one field is that field")]
        impl $crate::__typed::serde::Serialize for $Enum
        where
            $(for<'any> $crate::__typed::Ref<'any, $Value>: $crate::__typed::serde::Serialize,)+
        {
            fn serialize<__Serializer: $crate::__typed::serde::Serializer>(
                &self,
                serializer: __Serializer,
            ) -> ::core::result::Result<__Serializer::Ok, __Serializer::Error> {
                const __VARIANTS: &[&str] = &[$(stringify!($Variant)),+];
                match self {
                    $($Enum::$Variant(value) => {
                        const __NUMBER: u32 = $crate::__typed::number_of(__VARIANTS, stringify!($Variant)) as u32;
                        serializer.serialize_newtype_variant(
                            stringify!($Enum),
                            __NUMBER,
                            stringify!($Variant),
                            &$crate::__typed::Ref(value),
                        )
                    })+
                }
            }
        }

        #[allow(unused_parens, reason = "a key of one field is that field")]
        impl<'de> $crate::__typed::OfVariants<'de> for $Enum
        where
            $(for<'any> $crate::__typed::Own<'any, $Value>: $crate::__typed::serde::Deserialize<'de>,)+
        {
            const NAME: &'static str = stringify!($Enum);
            const VARIANTS: &'static [&'static str] = &[$(stringify!($Variant)),+];

            fn read<__Variant: $crate::__typed::serde::de::VariantAccess<'de>>(
                number: usize,
                variant: __Variant,
            ) -> ::core::result::Result<Self, __Variant::Error> {
                const __VARIANTS: &[&str] = &[$(stringify!($Variant)),+];
                $(
                    if number == const { $crate::__typed::number_of(__VARIANTS, stringify!($Variant)) } {
                        let value = variant.newtype_variant::<$crate::__typed::Own<'_, $Value>>()?;
                        return ::core::result::Result::Ok($Enum::$Variant(value.0));
                    }
                )+
                unreachable!("a variant's number is below how many there are")
            }
        }

        #[allow(unused_parens, reason = "a key of one field is that field")]
        impl<'de> $crate::__typed::serde::Deserialize<'de> for $Enum
        where
            $(for<'any> $crate::__typed::Own<'any, $Value>: $crate::__typed::serde::Deserialize<'de>,)+
        {
            fn deserialize<__Deserializer: $crate::__typed::serde::Deserializer<'de>>(
                deserializer: __Deserializer,
            ) -> ::core::result::Result<Self, __Deserializer::Error> {
                $crate::__typed::read(deserializer)
            }
        }
    };
}

/// Which ids and states of an actor are of which kind, and where the ids are at home.
#[doc(hidden)]
#[macro_export]
macro_rules! __actor_kinds {
    (
        $Actor:ident $Id:ident $State:ident
        {
            $(
                $Kind:ident($fields:tt ($($Key:ty),+))
                $(in $Header:ident($($of:expr),+) $(by $Index:ident)?)? $(at $place:expr)?
            ),+
        }
    ) => {
        impl $crate::ObjectId for $Id {
            const COLLECTION: ::core::option::Option<$crate::CollectionOf<$Id>> =
                $crate::__actor_collections! { $Id { $($Kind $fields $(in $Header($($of),+))?),+ } };

            #[inline]
            fn placement(&self) -> impl ::core::hash::Hash {
                $crate::__typed::PlaceOf(*self)
            }
        }

        impl $crate::__typed::SecondOrders for $Actor {
            const PLACES: &'static [&'static str] = &[$($($(stringify!($Index),)?)?)+];
        }

        impl $crate::__typed::HashPlace for $Id {
            #[inline]
            fn hash_place<__Hasher: ::core::hash::Hasher>(&self, hasher: &mut __Hasher) {
                const __KINDS: &[&str] = &[$(stringify!($Kind)),+];
                match self {
                    $($Id::$Kind(key) => {
                        const __NUMBER: usize = $crate::__typed::number_of(__KINDS, stringify!($Kind));
                        $crate::__actor_place!(
                            $Id, __NUMBER, key, hasher, $fields $(, in $Header($($of),+))? $(, at $place)?
                        )
                    })+
                }
            }
        }

        $(
            #[allow(unused_parens, reason = "a key of one field is that field")]
            #[allow(unreachable_patterns, reason = "there may be one kind only")]
            impl $crate::Kind<$Actor> for $Kind {
                type Key = ($($Key),+);
                const NAME: &'static str = stringify!($Kind);

                #[inline]
                fn id(key: Self::Key) -> $Id {
                    $Id::$Kind(key)
                }

                #[inline]
                fn key(id: $Id) -> ::core::option::Option<Self::Key> {
                    match id {
                        $Id::$Kind(key) => ::core::option::Option::Some(key),
                        _ => ::core::option::Option::None,
                    }
                }

                #[inline]
                fn into_state(self) -> $State {
                    $State::$Kind(self)
                }

                #[inline]
                fn from_state(state: $State) -> ::core::result::Result<Self, $State> {
                    match state {
                        $State::$Kind(object) => ::core::result::Result::Ok(object),
                        other => ::core::result::Result::Err(other),
                    }
                }

                #[inline]
                fn of(state: &$State) -> ::core::option::Option<&Self> {
                    match state {
                        $State::$Kind(object) => ::core::option::Option::Some(object),
                        _ => ::core::option::Option::None,
                    }
                }

                #[inline]
                fn of_mut(state: &mut $State) -> ::core::option::Option<&mut Self> {
                    match state {
                        $State::$Kind(object) => ::core::option::Option::Some(object),
                        _ => ::core::option::Option::None,
                    }
                }
            }
            $(
                impl $crate::EntryKind<$Actor> for $Kind {
                    type Header = $Header;
                    $(const IS_INDEXED: bool = $crate::__typed::is_indexed::<$Actor, $Kind, $Index>();)?
                    const IS_PLACE: bool = $crate::__typed::is_place::<$Actor>(stringify!($Kind));
                }
            )?
        )+
    };
}

/// Says which ids are entries, and of which collection: nothing, if no kind is declared by `in`.
#[doc(hidden)]
#[macro_export]
macro_rules! __actor_collections {
    ($Id:ident { $($Kind:ident $fields:tt),+ }) => { ::core::option::Option::None };
    ($Id:ident { $($Kind:ident $fields:tt $(in $Header:ident($($of:expr),+))?),+ }) => {
        ::core::option::Option::Some(|id| match *id {
            $(
                #[allow(unused_parens, unused_variables, reason = "`in` names the fields that it needs")]
                $Id::$Kind($fields) => {
                    let header: [$Id; 0] = [];
                    $(let header = [$Id::$Header(($($of),+))];)?
                    ::core::iter::IntoIterator::into_iter(header).next()
                }
            )+
        })
    };
}

/// Hashes where an object is at home: where its collection is, by `at`, or by its kind and what its
/// key says.
#[doc(hidden)]
#[macro_export]
macro_rules! __actor_place {
    ($Id:ident, $number:ident, $key:ident, $hasher:ident, $fields:tt) => {
        ::core::hash::Hash::hash(&($number, $crate::ObjectId::placement($key)), $hasher)
    };
    (
        $Id:ident, $number:ident, $key:ident, $hasher:ident, $fields:tt, in $Header:ident($($of:expr),+)
    ) => {{
        #[allow(unused_parens, unused_variables, reason = "`in` names the fields that it needs")]
        let $fields = *$key;
        $crate::__typed::HashPlace::hash_place(&$Id::$Header(($($of),+)), $hasher)
    }};
    ($Id:ident, $number:ident, $key:ident, $hasher:ident, $fields:tt, at $place:expr) => {{
        #[allow(unused_parens, unused_variables, reason = "`at` names the fields that it needs")]
        let $fields = *$key;
        ::core::hash::Hash::hash(&$place, $hasher)
    }};
}

/// Which messages and replies of an actor belong to which type.
#[doc(hidden)]
#[macro_export]
macro_rules! __actor_messages {
    ($Actor:ident $Message:ident $Reply:ident { $($Sent:ident -> $Answer:ty),+ }) => {
        $(
            #[allow(unreachable_patterns, reason = "there may be one message only")]
            impl $crate::MessageOf<$Actor> for $Sent {
                type Reply = $Answer;

                #[inline]
                fn into_message(self) -> $Message {
                    $Message::$Sent(self)
                }

                #[inline]
                fn from_message(message: $Message) -> ::core::option::Option<Self> {
                    match message {
                        $Message::$Sent(message) => ::core::option::Option::Some(message),
                        _ => ::core::option::Option::None,
                    }
                }

                #[inline]
                fn from_reply(reply: $Reply) -> ::core::option::Option<$Answer> {
                    match reply {
                        $Reply::$Sent(reply) => ::core::option::Option::Some(reply),
                        _ => ::core::option::Option::None,
                    }
                }
            }

            impl ::core::convert::From<$Sent> for $Message {
                #[inline]
                fn from(message: $Sent) -> $Message {
                    $Message::$Sent(message)
                }
            }
        )+
    };
}
