//! The accounts of `survive`, and payments that leave evidence.
//!
//! A payment is a number: what it pays to whom follows from it, so that who checks knows what a
//! payment had to do without having been told. Each account notes the numbers of the payments it
//! took part in, once for each time, and never looks at them. So whatever was lost, torn or done
//! twice shows. What was checked before is not noted any longer: a payment says from which number
//! on there is something to check.

use freehold::{AccessError, Actor, Addressees, Objects};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Numbers of payments of one life: they begin with the life.
pub const LIFE_BITS: u32 = 32;
/// The longest that money is under way because it is to be.
const LATER_MAX_MS: u64 = 20;

/// The type of the objects.
pub struct Ledger;

/// What there is of an account. It is made by its first payment, with nothing on it: who pays owes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub balance: i64,
    /// Payments it made, and payments it got.
    pub paid: Vec<u64>,
    pub got: Vec<u64>,
}

/// What is sent.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Order {
    Pay(Payment),
    /// Tells the payee: money that was paid by a payment and has not arrived.
    Arrive(Payment),
}

/// How money goes from account to account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// At once: one message to both.
    Transfer,
    /// By a message that is told, and owed until it has run,
    Wire,
    /// or that is to run so many milliseconds later.
    WireAfter(u64),
}

/// A payment. Nothing but the number is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    pub number: u64,
    pub from: u64,
    pub to: u64,
    pub amount: i64,
    pub way: Way,
    /// Payments below were checked.
    pub checked: u64,
}

impl Payment {
    pub fn numbered(seed: u64, number: u64, accounts: u64, checked: u64) -> Self {
        let mut random = Pcg64::seed_from_u64(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut draw = |below: u64| random.next_u64() % below;
        let from = draw(accounts);
        let to = (from + 1 + draw(accounts - 1)) % accounts;
        let amount = 1 + draw(1000) as i64;
        let way = match draw(10) {
            0 => Way::Wire,
            1 => Way::WireAfter(draw(LATER_MAX_MS)),
            _ => Way::Transfer,
        };
        Payment { number, from, to, amount, way, checked }
    }
}

impl Actor for Ledger {
    type Id = u64;
    type State = Account;
    type Message = Order;
    type Reply = ();
    type Error = AccessError<u64>;

    fn addressees(order: &Order, to: &mut Addressees<u64>) {
        match order {
            Order::Pay(payment) => {
                to.write(payment.from);
                if payment.way == Way::Transfer {
                    to.write(payment.to);
                }
            }
            Order::Arrive(payment) => to.write(payment.to),
        }
    }

    fn receive(order: &Order, objects: &mut Objects<'_, Self>) -> Result<(), AccessError<u64>> {
        let account = |objects: &mut Objects<'_, Self>, id, payment: &Payment, side: Side| {
            let account = objects.get_or_insert_with(id, Account::default)?;
            account.paid.retain(|number| *number >= payment.checked);
            account.got.retain(|number| *number >= payment.checked);
            match side {
                Side::Payer => {
                    account.balance -= payment.amount;
                    account.paid.push(payment.number);
                }
                Side::Payee => {
                    account.balance += payment.amount;
                    account.got.push(payment.number);
                }
            }
            Ok(())
        };
        match order {
            Order::Pay(payment) => {
                account(objects, payment.from, payment, Side::Payer)?;
                match payment.way {
                    Way::Transfer => account(objects, payment.to, payment, Side::Payee),
                    Way::Wire => objects.tell(Order::Arrive(*payment)),
                    Way::WireAfter(milliseconds) => {
                        let delay = Duration::from_millis(milliseconds);
                        objects.tell_after(delay, Order::Arrive(*payment)).map(drop)
                    }
                }
            }
            Order::Arrive(payment) => account(objects, payment.to, payment, Side::Payee),
        }
    }
}

enum Side {
    Payer,
    Payee,
}
