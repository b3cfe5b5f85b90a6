//! The rows of TPC-C, their keys, and what is there in the beginning (clause 4.3.3.1).
//!
//! Numbers of warehouses, districts, customers and items count from 1, as in the specification.
//! Money is whole cents, taxes and discounts are parts in ten thousand. An engine copies a row
//! before its first write, so rows that are written often hold nothing on the heap, and what a
//! customer of bad credit has there is shared.

use std::sync::Arc;

use freehold_shard::ObjectId;
use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

use super::draw::Names;
use super::{DISTRICTS, Tpcc};

/// What the rows of the beginning are drawn from. They are the same in every cell of every run.
const LOADED: u64 = 0x79CC_0511;

/// What a warehouse took in before the beginning, in cents: as much as its districts together.
pub const WAREHOUSE_YTD: i64 = DISTRICTS as i64 * DISTRICT_YTD;
/// What a district did: 30,000.00.
pub const DISTRICT_YTD: i64 = 3_000_000;
/// The first number of an order: as if each district had 3,000.
pub const FIRST_ORDER: u32 = 3_001;
/// What each customer has paid in the beginning, once, in cents; its balance is as much below 0.
pub const FIRST_PAYMENT: i64 = 1_000;
/// Bytes of a customer's data at most (clause 2.5.2.2).
pub const DATA_MAX: usize = 500;

/// What tells the rows one client inserts from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serial {
    /// Whose it is.
    pub client: u16,
    /// How often the client went through its stream before.
    pub lap: u32,
    /// Its place in the stream.
    pub number: u32,
}

/// What identifies a row. Its placement is the warehouse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    warehouse: u16,
    table: Table,
}

/// Which row of a warehouse. The fields of a [`Serial`] stand in the variants: there the tag costs
/// no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Table {
    Warehouse,
    District(u8),
    Customer { district: u8, number: u16 },
    Item(u32),
    Stock(u32),
    Order { client: u16, lap: u32, number: u32 },
    History { client: u16, lap: u32, number: u32 },
}

const _: () = assert!(size_of::<Key>() == 16, "an id is hashed and compared for every access");

impl ObjectId for Key {
    fn placement(&self) -> impl std::hash::Hash {
        self.warehouse
    }
}

impl Key {
    pub fn warehouse(warehouse: u16) -> Self {
        Key { warehouse, table: Table::Warehouse }
    }

    pub fn district(warehouse: u16, district: u8) -> Self {
        Key { warehouse, table: Table::District(district) }
    }

    pub fn customer(warehouse: u16, district: u8, number: u16) -> Self {
        Key { warehouse, table: Table::Customer { district, number } }
    }

    pub fn item(warehouse: u16, item: u32) -> Self {
        Key { warehouse, table: Table::Item(item) }
    }

    pub fn stock(warehouse: u16, item: u32) -> Self {
        Key { warehouse, table: Table::Stock(item) }
    }

    pub fn order(warehouse: u16, serial: Serial) -> Self {
        let Serial { client, lap, number } = serial;
        Key { warehouse, table: Table::Order { client, lap, number } }
    }

    pub fn history(warehouse: u16, serial: Serial) -> Self {
        let Serial { client, lap, number } = serial;
        Key { warehouse, table: Table::History { client, lap, number } }
    }

    /// The number of the row's warehouse.
    pub fn number_of_warehouse(&self) -> u16 {
        self.warehouse
    }

    /// The number of the district, if it is one's own row.
    pub fn number_of_district(&self) -> Option<u8> {
        match self.table {
            Table::District(district) => Some(district),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Warehouse {
    /// In ten thousandths.
    pub tax: u16,
    /// Taken in, in cents.
    pub ytd: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct District {
    /// In ten thousandths.
    pub tax: u16,
    /// The number of the next order.
    pub next_order: u32,
    /// Taken in, in cents.
    pub ytd: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Customer {
    /// The number of the last name, from 0 to 999 (clause 4.3.2.3).
    pub last: u16,
    /// In ten thousandths.
    pub discount: u16,
    pub credit: Credit,
    /// In cents.
    pub balance: i64,
    /// Paid, in cents.
    pub ytd_payment: i64,
    pub payments: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Credit {
    /// `GC`. Neither transaction reads or writes such a customer's data, and there is none.
    Good,
    /// `BC`, one customer in ten: the data, [`DATA_MAX`] bytes at most, into which every payment is
    /// written. It is replaced and never changed in place, so copies of the row share it.
    Bad(Arc<str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// In cents.
    pub price: i32,
    /// Whether its data say so.
    pub is_original: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stock {
    /// In ordered numbers from 10 to 100.
    pub quantity: u8,
    /// Whether its data say so.
    pub is_original: bool,
    /// What is copied into the lines of orders.
    pub dist: [u8; 24],
    /// Pieces ordered.
    pub ytd: u32,
    /// Lines of orders.
    pub orders: u32,
    /// Those of them that came from other warehouses.
    pub remote: u32,
}

/// An order with its lines, which nobody of these two transactions has delivered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    pub district: u8,
    pub customer: u16,
    /// From the district: without gaps, and no two are the same.
    pub number: u32,
    pub lines: Box<[OrderLine]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderLine {
    pub item: u32,
    pub supplier: u16,
    pub quantity: u8,
    /// In cents.
    pub amount: i32,
    pub dist: [u8; 24],
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Where it was paid; the warehouse is the key's.
    pub district: u8,
    /// Whose customer paid.
    pub customer_district: u8,
    pub customer_warehouse: u16,
    pub customer: u16,
    /// In cents.
    pub amount: i32,
}

/// Any row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Row {
    Warehouse(Warehouse),
    District(District),
    Customer(Customer),
    Item(Item),
    Stock(Stock),
    Order(Order),
    History(History),
}

const _: () = assert!(size_of::<Row>() <= 48, "rows of all tables take the room of the largest");

/// Letters and digits.
fn text<const LENGTH: usize>(random: &mut Pcg64) -> [u8; LENGTH] {
    const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-";
    let mut text = [0; LENGTH];
    random.fill_bytes(&mut text);
    text.map(|byte| CHARACTERS[usize::from(byte % 64)])
}

/// One in ten.
fn one_in_ten(random: &mut Pcg64) -> bool {
    random.random_range(0..10) == 0
}

impl Tpcc {
    /// Gives every row there is in the beginning.
    pub(super) fn rows(&self, put: &mut dyn FnMut(Key, Row)) {
        let mut random = Pcg64::seed_from_u64(LOADED);
        let names = Names::new(self.customers);
        let items: Vec<_> = (0..self.items)
            .map(|_| Item { price: random.random_range(100..=10_000), is_original: one_in_ten(&mut random) })
            .collect();
        for warehouse in 1..=self.warehouses {
            let tax = random.random_range(0..=2_000);
            put(Key::warehouse(warehouse), Row::Warehouse(Warehouse { tax, ytd: WAREHOUSE_YTD }));
            for (number, item) in (1..).zip(&items) {
                put(Key::item(warehouse, number), Row::Item(*item));
                let stock = Stock {
                    quantity: random.random_range(10..=100),
                    is_original: one_in_ten(&mut random),
                    dist: text(&mut random),
                    ytd: 0,
                    orders: 0,
                    remote: 0,
                };
                put(Key::stock(warehouse, number), Row::Stock(stock));
            }
            for district in 1..=DISTRICTS {
                let tax = random.random_range(0..=2_000);
                let row = District { tax, next_order: FIRST_ORDER, ytd: DISTRICT_YTD };
                put(Key::district(warehouse, district), Row::District(row));
                for number in 1..=self.customers {
                    let customer = customer(names.of(number), &mut random);
                    put(Key::customer(warehouse, district, number), Row::Customer(customer));
                }
            }
        }
    }
}

fn customer(last: u16, random: &mut Pcg64) -> Customer {
    let credit = if one_in_ten(random) {
        let data: [u8; DATA_MAX] = text(random);
        let length = random.random_range(300..=DATA_MAX);
        Credit::Bad(str::from_utf8(&data[..length]).expect("letters and digits are UTF-8").into())
    } else {
        Credit::Good
    };
    let discount = random.random_range(0..=5_000);
    Customer { last, discount, credit, balance: -FIRST_PAYMENT, ytd_payment: FIRST_PAYMENT, payments: 1 }
}
