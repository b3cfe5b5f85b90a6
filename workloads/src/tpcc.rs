//! TPC-C: a wholesaler's warehouses, and of its five transactions the two that make 88 of a
//! hundred: NewOrder and Payment.
//!
//! Source: Transaction Processing Performance Council, "TPC Benchmark C, Standard Specification",
//! revision 5.11, 2010 (<https://www.tpc.org/tpcc/>), by whose clauses the comments go. Half of the
//! transactions are NewOrders, as is usual where only the two are run (X. Yu, G. Bezerra, A. Pavlo,
//! S. Devadas, M. Stonebraker, "Staring into the Abyss: An Evaluation of Concurrency Control with
//! One Thousand Cores", PVLDB 8(3), 2014); the specification has 45 of one for 43 of the other.
//! Terminals do not think or type, and the figures are no tpmC.
//!
//! A warehouse is one placement: all its rows share a shard, and a client works for the warehouses
//! on its own. Who supplies an order's lines and whose customer pays decides what spans shards.
//! With [`Cross::Natural`] these are other warehouses as often as `remote_items` and
//! `remote_payments` say, wherever they live. With [`Cross::Percent`] so many transactions have a
//! side on another shard: a payment its customer, an order one line at least and others by
//! `remote_items`; the rest of the transactions stay in their warehouse.
//!
//! What differs:
//! - Each warehouse has its own copy of the items, which nobody writes, as H-Store does.
//! - An order, its lines and its row of NEW-ORDER are one object. Its key, and that of a row of the
//!   history, are the client's, and the order's number is a column: a message names its objects
//!   before the district says which number is next.
//! - The client finds a customer by last name: it has the secondary index. The names are the same
//!   in all districts.
//! - An order for an unused item is rolled back before its first write, not after the others
//!   (clause 2.4.2.3).
//! - Texts that are only displayed (names, streets, what the data of items, stock and good
//!   customers hold beside "original") are not held, dates neither: the same message must do the
//!   same again. A stock has one text for all districts, not ten.
//! - The orders and the history of before the beginning are not there; neither transaction reads
//!   them. Orders' numbers begin as if they were.
//!
//! [`Cross::Natural`]: crate::Cross::Natural
//! [`Cross::Percent`]: crate::Cross::Percent

mod books;
mod draw;
mod rows;

use std::fmt::Write;
use std::sync::Arc;

use arrayvec::{ArrayString, ArrayVec};
use freehold_shard::{ADDRESSEES_MAX, Addressees};
use serde::{Deserialize, Serialize};

use self::books::{Acknowledged, Found};
use self::rows::{Credit, Customer, DATA_MAX, History, Item, Key, Order, OrderLine, Row, Serial};
use crate::stream::{Client, NoRow};
use crate::workload::{Refused, Rows, Workload};

/// Districts of a warehouse.
const DISTRICTS: u8 = 10;
/// Lines of an order at most.
const LINES_MAX: usize = 15;
/// What one order in a hundred asks for, in its last line. No item has this number.
const UNUSED_ITEM: u32 = 0;

const _: () = assert!(4 + 2 * LINES_MAX <= ADDRESSEES_MAX, "an order names items and stock for each line");

/// The workload. Shares are in a hundred, from 0 to 100, and there is one of everything at least.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tpcc {
    /// Warehouses. Each shard needs one at least; which shard one lives on is for a hash to say, so
    /// a few more than shards.
    pub warehouses: u16,
    /// Items, of each of which each warehouse has a stock.
    pub items: u32,
    /// Customers of each of a warehouse's ten districts.
    pub customers: u16,
    /// How many transactions are NewOrders; the others are Payments.
    pub new_orders: f64,
    /// How many lines of orders another warehouse supplies.
    pub remote_items: f64,
    /// How many payments come from another warehouse's customer.
    pub remote_payments: f64,
}

impl Tpcc {
    /// Of the specification's sizes: 230,000 rows a warehouse.
    pub fn new(warehouses: u16) -> Self {
        Tpcc { items: 100_000, customers: 3_000, ..Tpcc::small(warehouses) }
    }

    /// Small enough for tests: 500 rows a warehouse.
    pub fn small(warehouses: u16) -> Self {
        Tpcc {
            warehouses,
            items: 100,
            customers: 30,
            new_orders: 50.0,
            remote_items: 1.0,
            remote_payments: 15.0,
        }
    }
}

/// A line of an order.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    item: u32,
    supplier: u16,
    quantity: u8,
}

/// An order of a customer (clause 2.4).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewOrder {
    serial: Serial,
    warehouse: u16,
    district: u8,
    customer: u16,
    lines: ArrayVec<Line, LINES_MAX>,
}

/// A payment of a customer to a district (clause 2.5).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Payment {
    serial: Serial,
    warehouse: u16,
    district: u8,
    customer_warehouse: u16,
    customer_district: u8,
    customer: u16,
    /// By which last name the customer was found, if it was.
    name: Option<u16>,
    /// In cents.
    amount: i32,
}

/// Both transactions. The lines stand in the transaction itself: none allocates on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Transaction {
    NewOrder(NewOrder),
    Payment(Payment),
}

const _: () = assert!(size_of::<Transaction>() * Tpcc::STREAM <= 16 << 20, "a stream stays below 16 MB");

/// What is answered to a NewOrder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bill {
    /// The order's number in its district.
    number: u32,
    /// What the lines amount to, in cents.
    amount: i64,
    /// What is to be paid: less the discount, with taxes.
    total: i64,
    /// Lines that are marked as of a brand (clause 2.4.2.2).
    brands: u8,
}

/// What is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To a NewOrder.
    Billed(Bill),
    /// To a Payment: the customer's balance, in cents.
    Paid { balance: i64 },
}

const NO_ROW: Refused<Key> = Refused::Broken("a row of the beginning is not there");

impl NewOrder {
    #[inline]
    fn addressees(&self, to: &mut Addressees<Key>) {
        let warehouse = self.warehouse;
        to.read(Key::warehouse(warehouse));
        to.write(Key::district(warehouse, self.district));
        to.read(Key::customer(warehouse, self.district, self.customer));
        to.write(Key::order(warehouse, self.serial));
        for line in &self.lines {
            to.read(Key::item(warehouse, line.item));
            if line.item != UNUSED_ITEM {
                to.write(Key::stock(line.supplier, line.item));
            }
        }
    }

    #[inline]
    fn run(&self, rows: &mut impl Rows<Tpcc>) -> Result<Reply, Refused<Key>> {
        let warehouse = self.warehouse;
        // All that may refuse comes first.
        let mut items = ArrayVec::<Item, LINES_MAX>::new();
        for line in &self.lines {
            match rows.get(Key::item(warehouse, line.item))? {
                Some(Row::Item(item)) => items.push(*item),
                _ if line.item == UNUSED_ITEM => return Err(Refused::Aborted("an item nobody has")),
                _ => return Err(NO_ROW),
            }
        }
        let Some(Row::Warehouse(row)) = rows.get(Key::warehouse(warehouse))? else { return Err(NO_ROW) };
        let warehouse_tax = i64::from(row.tax);
        let customer = Key::customer(warehouse, self.district, self.customer);
        let Some(Row::Customer(row)) = rows.get(customer)? else { return Err(NO_ROW) };
        let discount = i64::from(row.discount);

        let district = Key::district(warehouse, self.district);
        let Some(Row::District(row)) = rows.get_mut(district)? else { return Err(NO_ROW) };
        let tax = warehouse_tax + i64::from(row.tax);
        let number = row.next_order;
        row.next_order += 1;

        let (mut amount, mut brands) = (0, 0);
        let mut lines = Vec::with_capacity(self.lines.len());
        for (line, item) in self.lines.iter().zip(&items) {
            let Line { item: of, supplier, quantity } = *line;
            let Some(Row::Stock(stock)) = rows.get_mut(Key::stock(supplier, of))? else {
                return Err(NO_ROW);
            };
            // Below 10 it is stocked up by 91.
            stock.quantity =
                if stock.quantity >= quantity + 10 { stock.quantity } else { stock.quantity + 91 } - quantity;
            stock.ytd += u32::from(quantity);
            stock.orders += 1;
            stock.remote += u32::from(supplier != warehouse);
            brands += u8::from(item.is_original && stock.is_original);
            let of_line = i32::from(quantity) * item.price;
            amount += i64::from(of_line);
            lines.push(OrderLine { item: of, supplier, quantity, amount: of_line, dist: stock.dist });
        }
        let order = Order {
            district: self.district,
            customer: self.customer,
            number,
            lines: lines.into_boxed_slice(),
        };
        rows.insert(Key::order(warehouse, self.serial), Row::Order(order))?;
        let total = amount * (10_000 - discount) * (10_000 + tax) / 100_000_000;
        Ok(Reply::Billed(Bill { number, amount, total, brands }))
    }
}

impl Payment {
    fn customer(&self) -> Key {
        Key::customer(self.customer_warehouse, self.customer_district, self.customer)
    }

    #[inline]
    fn addressees(&self, to: &mut Addressees<Key>) {
        to.write(Key::warehouse(self.warehouse));
        to.write(Key::district(self.warehouse, self.district));
        to.write(self.customer());
        to.write(Key::history(self.warehouse, self.serial));
    }

    #[inline]
    fn run(&self, rows: &mut impl Rows<Tpcc>) -> Result<Reply, Refused<Key>> {
        let amount = i64::from(self.amount);
        let Some(Row::Customer(customer)) = rows.get_mut(self.customer())? else { return Err(NO_ROW) };
        if self.name.is_some_and(|name| name != customer.last) {
            return Err(Refused::Broken("a last name leads to a customer of another"));
        }
        customer.balance -= amount;
        customer.ytd_payment += amount;
        customer.payments += 1;
        let balance = customer.balance;
        self.note(customer);
        let Some(Row::Warehouse(row)) = rows.get_mut(Key::warehouse(self.warehouse))? else {
            return Err(NO_ROW);
        };
        row.ytd += amount;
        let district = Key::district(self.warehouse, self.district);
        let Some(Row::District(row)) = rows.get_mut(district)? else { return Err(NO_ROW) };
        row.ytd += amount;
        let history = History {
            district: self.district,
            customer_district: self.customer_district,
            customer_warehouse: self.customer_warehouse,
            customer: self.customer,
            amount: self.amount,
        };
        rows.insert(Key::history(self.warehouse, self.serial), Row::History(history))?;
        Ok(Reply::Paid { balance })
    }

    /// Writes the payment before what the data of a customer of bad credit hold, and drops what has
    /// no room (clause 2.5.2.2).
    fn note(&self, customer: &mut Customer) {
        let Payment { customer: number, customer_district, customer_warehouse, .. } = self;
        let Payment { warehouse, district, amount, .. } = self;
        let Credit::Bad(data) = &mut customer.credit else { return };
        let mut new = ArrayString::<DATA_MAX>::new();
        write!(new, "{number} {customer_district} {customer_warehouse} {district} {warehouse} {amount}|")
            .expect("six numbers have room");
        let rest = data.len().min(new.remaining_capacity());
        new.push_str(&data[..rest]);
        *data = Arc::from(new.as_str());
    }
}

impl Workload for Tpcc {
    type Id = Key;
    type Row = Row;
    type Transaction = Transaction;
    type Reply = Reply;
    type Tally = Acknowledged;
    type Audit = Found;

    /// Orders are large: with these a stream takes 10 MB.
    const STREAM: usize = 1 << 16;
    /// What it inserts has another key in each lap.
    const RENEWS: bool = true;

    fn name(&self) -> &'static str {
        "tpcc"
    }

    fn load(&self, put: &mut dyn FnMut(Key, Row)) {
        self.rows(put);
    }

    fn draw(&self, client: &mut Client) -> Result<Vec<Transaction>, NoRow> {
        self.transactions(client, Self::STREAM)
    }

    #[inline]
    fn renew(transaction: &mut Transaction, lap: u64) {
        let serial = match transaction {
            Transaction::NewOrder(order) => &mut order.serial,
            Transaction::Payment(payment) => &mut payment.serial,
        };
        serial.lap = lap as u32;
    }

    #[inline]
    fn addressees(transaction: &Transaction, to: &mut Addressees<Key>) {
        match transaction {
            Transaction::NewOrder(order) => order.addressees(to),
            Transaction::Payment(payment) => payment.addressees(to),
        }
    }

    #[inline]
    fn run(transaction: &Transaction, rows: &mut impl Rows<Self>) -> Result<Reply, Refused<Key>> {
        match transaction {
            Transaction::NewOrder(order) => order.run(rows),
            Transaction::Payment(payment) => payment.run(rows),
        }
    }

    #[inline]
    fn tally(tally: &mut Acknowledged, transaction: &Transaction, reply: &Reply) {
        match (transaction, reply) {
            (Transaction::NewOrder(order), Reply::Billed(bill)) => tally.order(order, bill),
            (Transaction::Payment(payment), Reply::Paid { .. }) => tally.payment(payment.amount),
            // Counted nowhere, so the books do not balance.
            _ => {}
        }
    }

    fn audit(&self, audit: &mut Found, id: &Key, row: &Row) {
        audit.row(id, row);
    }

    fn verdict(&self, acknowledged: &Acknowledged, found: &Found) -> Result<(), String> {
        found.verdict(self, acknowledged)
    }
}
