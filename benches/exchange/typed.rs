//! The exchange on the layer of `actor!`.

use freehold::{AccessError, Local, MessageOf, Objects, Outcome, Receive, To};
use serde::{Deserialize, Serialize};

use super::{Traded, Way};

freehold::actor! {
    pub actor Exchange {
        id: Id, state: State, message: Message, reply: Reply, error: Refused,
        kinds {
            Book(symbol: u32) at (0, symbol),
            Account(user: u64) at (1, user),
            Position(user: u64, symbol: u32) at (1, user),
        }
        messages { Open -> (), Place -> Placed, Depth -> u64, Cash -> Account }
    }
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
    Funds,
    Access,
}

impl From<AccessError<Id>> for Refused {
    fn from(_: AccessError<Id>) -> Self {
        Refused::Access
    }
}

pub struct Open {
    user: u64,
}

impl Receive<Exchange> for Open {
    fn addressees(&self, to: &mut To<'_, Exchange>) {
        to.write::<Account>(self.user);
        to.write::<Position>((self.user, 0));
        to.write::<Book>(0);
    }

    fn receive(&self, objects: &mut Objects<'_, Exchange>) -> Result<(), Refused> {
        objects.put(self.user, Account { cash: 1 << 60, held: 0 })?;
        objects.put((self.user, 0), Position { shares: 1 << 60, held: 0 })?;
        objects.write_or_insert_with(0, Book::default)?;
        Ok(())
    }
}

pub struct Place {
    symbol: u32,
    user: u64,
    is_buy: bool,
    price: u64,
    quantity: u64,
}

pub struct Placed {
    pub left: u64,
    pub fills: Vec<Order>,
}

impl Receive<Exchange> for Place {
    fn addressees(&self, to: &mut To<'_, Exchange>) {
        to.write::<Book>(self.symbol);
        to.write::<Account>(self.user);
        to.write::<Position>((self.user, self.symbol));
    }

    fn receive(&self, objects: &mut Objects<'_, Exchange>) -> Result<Placed, Refused> {
        let &Place { symbol, user, is_buy, price, quantity } = self;
        if is_buy {
            let account = objects.write::<Account>(user)?.ok_or(Refused::Unknown)?;
            account.cash = account.cash.checked_sub(price * quantity).ok_or(Refused::Funds)?;
            account.held += price * quantity;
        } else {
            let position = objects.write::<Position>((user, symbol))?.ok_or(Refused::Unknown)?;
            position.shares = position.shares.checked_sub(quantity).ok_or(Refused::Funds)?;
            position.held += quantity;
        }
        let book = objects.write::<Book>(symbol)?.ok_or(Refused::Unknown)?;
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
            let at = orders
                .partition_point(|order| if is_buy { order.price < price } else { order.price > price });
            orders.insert(at, Order { user, price, left });
        }
        for fill in &fills {
            let (buyer, seller, held_at) =
                if is_buy { (user, fill.user, price) } else { (fill.user, user, fill.price) };
            let account = objects.write::<Account>(buyer)?.ok_or(Refused::Unknown)?;
            account.held -= held_at * fill.left;
            account.cash += (held_at - fill.price) * fill.left;
            objects.write::<Position>((buyer, symbol))?.ok_or(Refused::Unknown)?.shares += fill.left;
            objects.write::<Account>(seller)?.ok_or(Refused::Unknown)?.cash += fill.price * fill.left;
            objects.write::<Position>((seller, symbol))?.ok_or(Refused::Unknown)?.held -= fill.left;
        }
        Ok(Placed { left, fills })
    }
}

pub struct Depth {
    symbol: u32,
}

impl Receive<Exchange> for Depth {
    fn addressees(&self, to: &mut To<'_, Exchange>) {
        to.read::<Book>(self.symbol);
    }

    fn receive(&self, objects: &mut Objects<'_, Exchange>) -> Result<u64, Refused> {
        Ok(objects.read::<Book>(self.symbol)?.ok_or(Refused::Unknown)?.traded)
    }
}

pub struct Cash {
    user: u64,
}

impl Receive<Exchange> for Cash {
    fn addressees(&self, to: &mut To<'_, Exchange>) {
        to.read::<Account>(self.user);
    }

    fn receive(&self, objects: &mut Objects<'_, Exchange>) -> Result<Account, Refused> {
        objects.read::<Account>(self.user)?.cloned().ok_or(Refused::Unknown)
    }
}

/// As a call of the typed layer does it.
#[inline]
fn call<M: MessageOf<Exchange>>(ask: &mut impl FnMut(&Message) -> Outcome<Exchange>, message: M) -> M::Reply {
    let Ok(reply) = ask(&message.into_message()) else { panic!("it is answered") };
    M::from_reply(reply).expect("it is its own reply")
}

const SELL: Place = Place { symbol: 0, user: 1, is_buy: false, price: 100, quantity: 5 };
const BUY: Place = Place { symbol: 0, user: 2, is_buy: true, price: 100, quantity: 5 };

impl Way for Exchange {
    fn open(mut ask: impl FnMut(&Message) -> Outcome<Self>) {
        [1, 2].into_iter().for_each(|user| call(&mut ask, Open { user }));
    }

    #[inline]
    fn trade(mut ask: impl FnMut(&Message) -> Outcome<Self>) {
        assert_eq!(call(&mut ask, SELL).left, 5);
        let bought = call(&mut ask, BUY);
        assert!(bought.left == 0 && bought.fills.len() == 1);
    }

    fn trade_now(local: &Local<Self>) {
        assert_eq!(local.call_now(SELL).expect("it is placed").left, 5);
        let bought = local.call_now(BUY).expect("it is placed");
        assert!(bought.left == 0 && bought.fills.len() == 1);
    }

    fn query_now(local: &Local<Self>) -> u64 {
        local.call_now(Cash { user: 2 }).expect("it is there").cash
    }

    fn traded(mut ask: impl FnMut(&Message) -> Outcome<Self>) -> Traded {
        let cash = [1, 2].map(|user| call(&mut ask, Cash { user }).cash);
        (call(&mut ask, Depth { symbol: 0 }), cash)
    }
}
