//! One actor in three versions of its types: a bank.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::time::Duration;

use freehold::{
    AccessError, Actor, Addressees, LogConfig, Migration, ObjectId, Objects, Schema, SchemaTypes,
};
use serde::{Deserialize, Serialize};

/// What a message does.
pub(super) enum Does<V: Version> {
    Put(V::Id, V::State),
    Add(V::Id, i64),
    Remove(V::Id),
    Read(V::Id),
    /// Tells itself the message after so many milliseconds.
    Later(V::Id, u64, V::Message),
}

/// One version of the actor's types.
pub(super) trait Version:
    SchemaTypes<Id: ObjectId, State: Clone + Send + Sync + Debug, Message: Clone + Send>
{
    fn does(message: &Self::Message) -> Does<Self>
    where
        Self: Sized;
    fn add(state: &mut Self::State, coins: i64);
}

pub(super) struct Bank<V>(PhantomData<V>);

impl<V: Version> Actor for Bank<V> {
    const SCHEMA: Schema = V::SCHEMA;
    type Id = V::Id;
    type State = V::State;
    type Message = V::Message;
    type Reply = Option<V::State>;
    type Error = AccessError<V::Id>;

    fn addressees(message: &V::Message, to: &mut Addressees<V::Id>) {
        match V::does(message) {
            Does::Put(id, _) | Does::Add(id, _) | Does::Remove(id) | Does::Later(id, ..) => to.write(id),
            Does::Read(id) => to.read(id),
        }
    }

    fn receive(
        message: &V::Message,
        objects: &mut Objects<'_, Self>,
    ) -> Result<Option<V::State>, AccessError<V::Id>> {
        match V::does(message) {
            Does::Put(id, state) => objects.insert(id, state),
            Does::Add(id, coins) => {
                if let Some(state) = objects.get_mut(id)? {
                    V::add(state, coins);
                }
                Ok(None)
            }
            Does::Remove(id) => objects.remove(id),
            Does::Read(id) => Ok(objects.get(id)?.cloned()),
            Does::Later(_, milliseconds, message) => {
                objects.tell_after(Duration::from_millis(milliseconds), message)?;
                Ok(None)
            }
        }
    }
}

/// Whole coins by a small number.
pub(super) struct V1;

#[derive(Clone, Serialize, Deserialize)]
pub(super) enum MessageV1 {
    Put(u32, i64),
    Add(u32, i64),
    Remove(u32),
    Read(u32),
    Later(u32, u64, Box<MessageV1>),
}

impl SchemaTypes for V1 {
    const SCHEMA: Schema = Schema::new(1);
    type Id = u32;
    type State = i64;
    type Message = MessageV1;
}

impl Version for V1 {
    fn does(message: &MessageV1) -> Does<V1> {
        match message.clone() {
            MessageV1::Put(id, coins) => Does::Put(id, coins),
            MessageV1::Add(id, coins) => Does::Add(id, coins),
            MessageV1::Remove(id) => Does::Remove(id),
            MessageV1::Read(id) => Does::Read(id),
            MessageV1::Later(id, milliseconds, message) => Does::Later(id, milliseconds, *message),
        }
    }

    fn add(state: &mut i64, coins: i64) {
        *state += coins;
    }
}

/// With names, by a larger number; `Add` has another place.
pub(super) struct V2;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct AccountV2 {
    pub(super) name: String,
    pub(super) coins: i64,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) enum MessageV2 {
    Read(u64),
    Add { coins: i64, to: u64 },
    Put(u64, AccountV2),
    Remove(u64),
    Later(u64, u64, Box<MessageV2>),
}

impl SchemaTypes for V2 {
    const SCHEMA: Schema = Schema::new(2);
    type Id = u64;
    type State = AccountV2;
    type Message = MessageV2;
}

impl Version for V2 {
    fn does(message: &MessageV2) -> Does<V2> {
        match message.clone() {
            MessageV2::Put(id, account) => Does::Put(id, account),
            MessageV2::Add { coins, to } => Does::Add(to, coins),
            MessageV2::Remove(id) => Does::Remove(id),
            MessageV2::Read(id) => Does::Read(id),
            MessageV2::Later(id, milliseconds, message) => Does::Later(id, milliseconds, *message),
        }
    }

    fn add(state: &mut AccountV2, coins: i64) {
        state.coins += coins;
    }
}

/// In cents, by branch and number. A message adds and nothing else.
pub(super) struct V3;

pub(super) type IdV3 = (u8, u64);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct AccountV3 {
    pub(super) cents: i128,
    pub(super) name: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct MessageV3 {
    pub(super) cents: i128,
    pub(super) to: IdV3,
}

impl SchemaTypes for V3 {
    const SCHEMA: Schema = Schema::new(3);
    type Id = IdV3;
    type State = AccountV3;
    type Message = MessageV3;
}

impl Version for V3 {
    fn does(message: &MessageV3) -> Does<V3> {
        match message.cents {
            0 => Does::Read(message.to),
            cents => Does::Add(message.to, (cents / 100) as i64),
        }
    }

    fn add(state: &mut AccountV3, coins: i64) {
        state.cents += i128::from(coins) * 100;
    }
}

pub(super) fn to_v2(message: MessageV1) -> MessageV2 {
    match message {
        MessageV1::Put(id, coins) => MessageV2::Put(u64::from(id) + 1000, account_v2(id, coins)),
        MessageV1::Add(id, coins) => MessageV2::Add { coins, to: u64::from(id) + 1000 },
        MessageV1::Remove(id) => MessageV2::Remove(u64::from(id) + 1000),
        MessageV1::Read(id) => MessageV2::Read(u64::from(id) + 1000),
        MessageV1::Later(id, milliseconds, message) => {
            MessageV2::Later(u64::from(id) + 1000, milliseconds, Box::new(to_v2(*message)))
        }
    }
}

pub(super) fn account_v2(id: u32, coins: i64) -> AccountV2 {
    AccountV2 { name: format!("account {id}"), coins }
}

pub(super) fn id_v3(id: u64) -> IdV3 {
    ((id % 3) as u8, id)
}

pub(super) fn with_1_to_2<New: SchemaTypes<Id = u64, State = AccountV2, Message = MessageV2>>(
    log: LogConfig,
) -> LogConfig {
    log.migrate_from::<V1, New>(Migration {
        id: |id| Ok(u64::from(id) + 1000),
        state: |id, coins| Ok(account_v2(id, coins)),
        message: |message| Ok(to_v2(message)),
    })
}

pub(super) fn with_2_to_3(log: LogConfig) -> LogConfig {
    log.migrate_from::<V2, Bank<V3>>(Migration {
        id: |id| Ok(id_v3(id)),
        state: |_, AccountV2 { name, coins }| Ok(AccountV3 { cents: i128::from(coins) * 100, name }),
        message: |message| match message {
            MessageV2::Add { coins, to } => Ok(MessageV3 { cents: i128::from(coins) * 100, to: id_v3(to) }),
            _ => Err("only additions are told".into()),
        },
    })
}
