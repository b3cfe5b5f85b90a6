//! The same exchange by hand: enums for ids, states, messages and replies, an accessor for each
//! kind, and one `match` for what a message does.

use std::hash::Hash;

use freehold::{AccessError, Actor, Addressees, Local, ObjectId, Objects, Outcome};
use serde::{Deserialize, Serialize};

use super::{Traded, Way};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Id {
    Book(u32),
    Account(u64),
    Position(u64, u32),
}

impl ObjectId for Id {
    fn placement(&self) -> impl Hash {
        match *self {
            Id::Book(symbol) => (0, u64::from(symbol)),
            Id::Account(user) | Id::Position(user, _) => (1, user),
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum State {
    Book(Book),
    Account(Account),
    Position(Position),
}

pub enum Message {
    Open { user: u64 },
    Place { symbol: u32, user: u64, is_buy: bool, price: u64, quantity: u64 },
    Depth { symbol: u32 },
    Cash { user: u64 },
}

pub enum Reply {
    Opened,
    Placed { left: u64, fills: Vec<Order> },
    Depth(u64),
    Cash(Account),
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Book {
    bids: Vec<Order>,
    asks: Vec<Order>,
    traded: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    user: u64,
    price: u64,
    left: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Account {
    cash: u64,
    held: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Position {
    shares: u64,
    held: u64,
}

#[derive(Debug, PartialEq)]
pub enum Refused {
    Unknown,
    Kind,
    Funds,
    Access,
}

impl From<AccessError<Id>> for Refused {
    fn from(_: AccessError<Id>) -> Self {
        Refused::Access
    }
}

fn book<'o>(objects: &'o mut Objects<'_, Exchange>, symbol: u32) -> Result<&'o mut Book, Refused> {
    match objects.get_mut(Id::Book(symbol))? {
        Some(State::Book(book)) => Ok(book),
        Some(_) => Err(Refused::Kind),
        None => Err(Refused::Unknown),
    }
}

fn account<'o>(objects: &'o mut Objects<'_, Exchange>, user: u64) -> Result<&'o mut Account, Refused> {
    match objects.get_mut(Id::Account(user))? {
        Some(State::Account(account)) => Ok(account),
        Some(_) => Err(Refused::Kind),
        None => Err(Refused::Unknown),
    }
}

fn position<'o>(
    objects: &'o mut Objects<'_, Exchange>,
    user: u64,
    symbol: u32,
) -> Result<&'o mut Position, Refused> {
    match objects.get_mut(Id::Position(user, symbol))? {
        Some(State::Position(position)) => Ok(position),
        Some(_) => Err(Refused::Kind),
        None => Err(Refused::Unknown),
    }
}

pub struct Exchange;

impl Actor for Exchange {
    type Id = Id;
    type State = State;
    type Message = Message;
    type Reply = Reply;
    type Error = Refused;

    fn addressees(message: &Message, to: &mut Addressees<Id>) {
        match *message {
            Message::Open { user } => {
                to.write(Id::Account(user));
                to.write(Id::Position(user, 0));
                to.write(Id::Book(0));
            }
            Message::Place { symbol, user, .. } => {
                to.write(Id::Book(symbol));
                to.write(Id::Account(user));
                to.write(Id::Position(user, symbol));
            }
            Message::Depth { symbol } => to.read(Id::Book(symbol)),
            Message::Cash { user } => to.read(Id::Account(user)),
        }
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<Reply, Refused> {
        match *message {
            Message::Open { user } => {
                objects.insert(Id::Account(user), State::Account(Account { cash: 1 << 60, held: 0 }))?;
                let position = State::Position(Position { shares: 1 << 60, held: 0 });
                objects.insert(Id::Position(user, 0), position)?;
                objects.get_or_insert_with(Id::Book(0), || State::Book(Book::default()))?;
                Ok(Reply::Opened)
            }
            Message::Place { symbol, user, is_buy, price, quantity } => {
                place(objects, symbol, user, is_buy, price, quantity)
            }
            Message::Depth { symbol } => match objects.get(Id::Book(symbol))? {
                Some(State::Book(book)) => Ok(Reply::Depth(book.traded)),
                Some(_) => Err(Refused::Kind),
                None => Err(Refused::Unknown),
            },
            Message::Cash { user } => match objects.get(Id::Account(user))? {
                Some(State::Account(account)) => Ok(Reply::Cash(account.clone())),
                Some(_) => Err(Refused::Kind),
                None => Err(Refused::Unknown),
            },
        }
    }
}

fn place(
    objects: &mut Objects<'_, Exchange>,
    symbol: u32,
    user: u64,
    is_buy: bool,
    price: u64,
    quantity: u64,
) -> Result<Reply, Refused> {
    if is_buy {
        let account = account(objects, user)?;
        account.cash = account.cash.checked_sub(price * quantity).ok_or(Refused::Funds)?;
        account.held += price * quantity;
    } else {
        let position = position(objects, user, symbol)?;
        position.shares = position.shares.checked_sub(quantity).ok_or(Refused::Funds)?;
        position.held += quantity;
    }
    let book = book(objects, symbol)?;
    let (mut left, mut fills) = (quantity, Vec::new());
    let others = if is_buy { &mut book.asks } else { &mut book.bids };
    while left > 0
        && let Some(best) = others.last_mut()
    {
        if if is_buy { best.price > price } else { best.price < price } {
            break;
        }
        let traded = best.left.min(left);
        fills.push(Order { user: best.user, price: best.price, left: traded });
        best.left -= traded;
        left -= traded;
        if best.left == 0 {
            others.pop();
        }
    }
    book.traded += quantity - left;
    if left > 0 {
        let orders = if is_buy { &mut book.bids } else { &mut book.asks };
        let at =
            orders.partition_point(|order| if is_buy { order.price < price } else { order.price > price });
        orders.insert(at, Order { user, price, left });
    }
    for fill in &fills {
        let (buyer, seller, held_at) =
            if is_buy { (user, fill.user, price) } else { (fill.user, user, fill.price) };
        let payer = account(objects, buyer)?;
        payer.held -= held_at * fill.left;
        payer.cash += (held_at - fill.price) * fill.left;
        position(objects, buyer, symbol)?.shares += fill.left;
        account(objects, seller)?.cash += fill.price * fill.left;
        position(objects, seller, symbol)?.held -= fill.left;
    }
    Ok(Reply::Placed { left, fills })
}

impl Way for Exchange {
    fn open(mut ask: impl FnMut(&Message) -> Outcome<Self>) {
        for user in [1, 2] {
            assert!(matches!(ask(&Message::Open { user }), Ok(Reply::Opened)));
        }
    }

    #[inline]
    fn trade(mut ask: impl FnMut(&Message) -> Outcome<Self>) {
        let sell = Message::Place { symbol: 0, user: 1, is_buy: false, price: 100, quantity: 5 };
        let Ok(Reply::Placed { left: 5, .. }) = ask(&sell) else { panic!("it is placed") };
        let buy = Message::Place { symbol: 0, user: 2, is_buy: true, price: 100, quantity: 5 };
        let Ok(Reply::Placed { left: 0, fills }) = ask(&buy) else { panic!("it is placed") };
        assert_eq!(fills.len(), 1);
    }

    fn trade_now(local: &Local<Self>) {
        Self::trade(|message| local.ask_now(message));
    }

    fn query_now(local: &Local<Self>) -> u64 {
        let Ok(Reply::Cash(account)) = local.ask_now(&Message::Cash { user: 2 }) else {
            panic!("it is there")
        };
        account.cash
    }

    fn traded(mut ask: impl FnMut(&Message) -> Outcome<Self>) -> Traded {
        let cash = [1, 2].map(|user| match ask(&Message::Cash { user }) {
            Ok(Reply::Cash(account)) => account.cash,
            _ => panic!("it is there"),
        });
        let Ok(Reply::Depth(traded)) = ask(&Message::Depth { symbol: 0 }) else { panic!("it is there") };
        (traded, cash)
    }
}
