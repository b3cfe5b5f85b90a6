//! What a terminal of TPC-C draws (clauses 2.1.6, 2.4.1, 2.5.1).

use std::ops::RangeInclusive;

use arrayvec::ArrayVec;
use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64;

use super::rows::{Key, Serial};
use super::{DISTRICTS, LINES_MAX, Line, NewOrder, Payment, Tpcc, Transaction, UNUSED_ITEM};
use crate::stream::{Client, NoRow};

/// A non-uniform law of clause 2.1.6: `A`, and the `C` of this benchmark.
#[derive(Clone, Copy)]
pub struct Nurand {
    a: u32,
    c: u32,
}

/// Of customers.
const CUSTOMERS: Nurand = Nurand { a: 1023, c: 259 };
/// Of items.
const ITEMS: Nurand = Nurand { a: 8191, c: 7911 };
/// Of last names, of the rows of the beginning.
const NAMES_LOADED: Nurand = Nurand { a: 255, c: 100 };
/// Of last names, of payments. The two `C` differ by 65 to 119, and not by 96 or 112 (clause
/// 2.1.6.1).
const NAMES: Nurand = Nurand { a: 255, c: 187 };
const _: () = {
    let delta = NAMES.c - NAMES_LOADED.c;
    assert!(delta >= 65 && delta <= 119 && delta != 96 && delta != 112);
};

/// Last names there are at most.
const NAMES_MAX: u16 = 1_000;

impl Nurand {
    pub fn draw(self, random: &mut impl Rng, of: RangeInclusive<u32>) -> u32 {
        let either = random.random_range(0..=self.a) | random.random_range(of.clone());
        (either + self.c) % (of.end() - of.start() + 1) + of.start()
    }
}

/// The customers of a district by last name: the secondary index of a client. It is the same for
/// all districts.
pub struct Names {
    /// Of each customer, in order of their numbers.
    last: Vec<u16>,
    /// Of those with one last name the customer in the middle, in order of first names (clause
    /// 2.5.2.2), for each name there is.
    middle: Vec<u16>,
}

impl Names {
    /// Of a district with so many customers. The first 1,000 have all names in turn (clause
    /// 4.3.3.1).
    pub fn new(customers: u16) -> Self {
        let mut random = Pcg64::seed_from_u64(u64::from(customers));
        let mut last = Vec::with_capacity(customers.into());
        let mut namesakes: Vec<Vec<(u64, u16)>> = vec![Vec::new(); customers.min(NAMES_MAX).into()];
        for number in 1..=customers {
            let name = match number {
                1..=NAMES_MAX => number - 1,
                _ => NAMES_LOADED.draw(&mut random, 0..=u32::from(NAMES_MAX) - 1) as u16,
            };
            let first: u64 = random.random();
            namesakes[usize::from(name)].push((first, number));
            last.push(name);
        }
        let middle = |mut namesakes: Vec<(u64, u16)>| {
            namesakes.sort_unstable();
            namesakes[(namesakes.len() - 1) / 2].1
        };
        Names { last, middle: namesakes.into_iter().map(middle).collect() }
    }

    /// The last name of a customer.
    pub fn of(&self, customer: u16) -> u16 {
        self.last[usize::from(customer) - 1]
    }

    /// A last name, and the customer it leads to.
    fn draw(&self, random: &mut impl Rng) -> (u16, u16) {
        let name = NAMES.draw(random, 0..=self.middle.len() as u32 - 1) as u16;
        (name, self.middle[usize::from(name)])
    }
}

/// The terminals of one client: those of the warehouses on its shard.
struct Terminals<'a> {
    workload: &'a Tpcc,
    client: &'a mut Client,
    /// The warehouses that live here; there is one.
    warehouses: Vec<u16>,
    names: Names,
}

impl Tpcc {
    /// Draws a client's transactions.
    pub(super) fn transactions(&self, client: &mut Client, count: usize) -> Result<Vec<Transaction>, NoRow> {
        for (count, what) in [
            (u32::from(self.warehouses), "warehouses"),
            (self.items, "items"),
            (u32::from(self.customers), "customers"),
        ] {
            if count == 0 {
                return Err(NoRow::Loaded(what));
            }
        }
        // Without a warehouse here, this says so.
        client.draw_here(|random| Key::warehouse(random.random_range(1..=self.warehouses)))?;
        let warehouses = (1..=self.warehouses)
            .filter(|warehouse| client.home(&Key::warehouse(*warehouse)) == client.shard())
            .collect();
        let names = Names::new(self.customers);
        let mut terminals = Terminals { workload: self, client, warehouses, names };
        (0..count as u32).map(|number| terminals.draw(number)).collect()
    }
}

impl Terminals<'_> {
    fn draw(&mut self, number: u32) -> Result<Transaction, NoRow> {
        let serial = Serial { client: self.client.shard() as u16, lap: 0, number };
        let here = self.client.random.random_range(0..self.warehouses.len());
        let warehouse = self.warehouses[here];
        let district = self.client.random.random_range(1..=DISTRICTS);
        let spans = self.client.spans();
        Ok(if self.client.random.random_bool(self.workload.new_orders / 100.0) {
            Transaction::NewOrder(self.new_order(warehouse, district, spans, serial)?)
        } else {
            Transaction::Payment(self.payment(warehouse, district, spans, serial)?)
        })
    }

    fn new_order(
        &mut self,
        warehouse: u16,
        district: u8,
        spans: Option<bool>,
        serial: Serial,
    ) -> Result<NewOrder, NoRow> {
        let random = &mut self.client.random;
        let customer = CUSTOMERS.draw(random, 1..=u32::from(self.workload.customers)) as u16;
        let count = random.random_range(5..=LINES_MAX);
        let is_rolled_back = random.random_range(0..100) == 0;
        // Not the last one: that of an unused item has no stock.
        let far = (spans == Some(true)).then(|| random.random_range(0..count - 1));
        let mut lines = ArrayVec::new();
        for number in 0..count {
            let random = &mut self.client.random;
            let item = ITEMS.draw(random, 1..=self.workload.items);
            let quantity = random.random_range(1..=10);
            let is_remote = random.random_bool(self.workload.remote_items / 100.0);
            let supplier = match spans {
                Some(false) => warehouse,
                _ if is_remote || far == Some(number) => self.other(warehouse, spans)?,
                _ => warehouse,
            };
            let item = if is_rolled_back && number + 1 == count { UNUSED_ITEM } else { item };
            lines.push(Line { item, supplier, quantity });
        }
        Ok(NewOrder { serial, warehouse, district, customer, lines })
    }

    fn payment(
        &mut self,
        warehouse: u16,
        district: u8,
        spans: Option<bool>,
        serial: Serial,
    ) -> Result<Payment, NoRow> {
        let random = &mut self.client.random;
        let amount = random.random_range(100..=500_000);
        let (name, customer) = if random.random_range(0..100) < 60 {
            let (name, customer) = self.names.draw(random);
            (Some(name), customer)
        } else {
            (None, CUSTOMERS.draw(random, 1..=u32::from(self.workload.customers)) as u16)
        };
        let is_remote = random.random_bool(self.workload.remote_payments / 100.0);
        let (customer_warehouse, customer_district) = if spans.unwrap_or(is_remote) {
            let district = random.random_range(1..=DISTRICTS);
            (self.other(warehouse, spans)?, district)
        } else {
            (warehouse, district)
        };
        Ok(Payment {
            serial,
            warehouse,
            district,
            customer_warehouse,
            customer_district,
            customer,
            name,
            amount,
        })
    }

    /// Another warehouse, on another shard if the transaction is to span. A warehouse alone is its
    /// own other.
    fn other(&mut self, warehouse: u16, spans: Option<bool>) -> Result<u16, NoRow> {
        let warehouses = self.workload.warehouses;
        let other = |random: &mut Pcg64| {
            if warehouses == 1 {
                return Key::warehouse(warehouse);
            }
            let number = random.random_range(1..warehouses);
            Key::warehouse(number + u16::from(number >= warehouse))
        };
        Ok(self.client.draw_other(spans, other)?.number_of_warehouse())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{Cross, SEED};

    const DRAWS: usize = 50_000;

    fn near(found: usize, of: usize, wanted: f64) {
        let share = found as f64 / of as f64;
        assert!((share - wanted).abs() < 0.01, "{share} is not {wanted}");
    }

    #[test]
    fn non_uniform_numbers_stay_within_their_bounds_and_are_uneven() {
        let mut random = Pcg64::seed_from_u64(7);
        for (law, of) in [(CUSTOMERS, 1..=3_000), (ITEMS, 1..=100_000), (NAMES, 0..=999)] {
            let mut seen = vec![0_usize; *of.end() as usize + 1];
            for _ in 0..DRAWS {
                let number = law.draw(&mut random, of.clone());
                assert!(of.contains(&number), "{number} of {of:?}");
                seen[number as usize] += 1;
            }
            let even = DRAWS as f64 / f64::from(of.end() - of.start() + 1);
            let most = *seen.iter().max().expect("some") as f64;
            // Drawn evenly it would be four or five standard deviations above.
            assert!(most > even + 8.0 * even.sqrt(), "{most} of the most popular, {even} evenly");
        }
        // The ranges of a small workload are below `A`.
        assert!((0..DRAWS).all(|_| (1..=7).contains(&ITEMS.draw(&mut random, 1..=7))));
    }

    #[test]
    fn a_name_leads_to_the_customer_in_the_middle_of_its_own() {
        for customers in [1, 30, 1_000, 3_000] {
            let names = Names::new(customers);
            assert_eq!(names.middle.len(), usize::from(customers.min(NAMES_MAX)));
            for (name, customer) in (0..).zip(&names.middle) {
                assert_eq!(names.of(*customer), name);
            }
        }
    }

    #[test]
    fn terminals_draw_the_published_shares() {
        let mut client = Client::new(SEED, 0, 1, Cross::Natural);
        let drawn = Tpcc::new(4).transactions(&mut client, DRAWS).expect("four warehouses on one shard");
        let (mut orders, mut payments) = (Vec::new(), Vec::new());
        drawn.into_iter().for_each(|transaction| match transaction {
            Transaction::NewOrder(order) => orders.push(order),
            Transaction::Payment(payment) => payments.push(payment),
        });
        near(orders.len(), DRAWS, 0.5);
        let unused = |order: &&NewOrder| order.lines.iter().any(|line| line.item == UNUSED_ITEM);
        let rolled_back = orders.iter().filter(unused).count() as f64 / orders.len() as f64;
        assert!((rolled_back - 0.01).abs() < 0.003, "{rolled_back} of the orders have an unused item");
        assert!(orders.iter().all(|order| (5..=LINES_MAX).contains(&order.lines.len())));
        let lines: Vec<_> =
            orders.iter().flat_map(|order| order.lines.iter().map(move |line| (order, line))).collect();
        near(lines.len(), 10 * orders.len(), 1.0);
        let remote = lines.iter().filter(|(order, line)| line.supplier != order.warehouse).count();
        assert!((remote as f64 / lines.len() as f64 - 0.01).abs() < 0.001, "{remote} of {}", lines.len());
        let count = |is: &dyn Fn(&Payment) -> bool| payments.iter().filter(|payment| is(payment)).count();
        near(count(&|payment| payment.name.is_some()), payments.len(), 0.6);
        near(count(&|payment| payment.customer_warehouse != payment.warehouse), payments.len(), 0.15);
        near(count(&|payment| payment.amount < 250_050), payments.len(), 0.5);
    }

    #[test]
    fn what_is_not_to_span_stays_in_its_warehouse() {
        let tpcc = Tpcc { remote_items: 100.0, remote_payments: 100.0, ..Tpcc::small(8) };
        let drawn = tpcc.transactions(&mut Client::new(SEED, 0, 2, Cross::Percent(0.0)), 1_000);
        for transaction in drawn.expect("eight warehouses on two shards") {
            let is_local = match &transaction {
                Transaction::NewOrder(order) => {
                    order.lines.iter().all(|line| line.supplier == order.warehouse)
                }
                Transaction::Payment(payment) => payment.customer_warehouse == payment.warehouse,
            };
            assert!(is_local, "{transaction:?}");
        }
    }

    #[test]
    fn a_shard_without_a_warehouse_is_told_so() {
        let drawn = |shard| {
            Tpcc::small(1)
                .transactions(&mut Client::new(SEED, shard, 2, Cross::Natural), 10)
                .map(|drawn| drawn.len())
        };
        let mut found = [drawn(0), drawn(1)].map(|drawn| drawn.is_ok());
        found.sort_unstable();
        assert_eq!(found, [false, true], "one warehouse lives on one of two shards");
    }
}
