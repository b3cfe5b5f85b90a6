//! What must hold of TPC-C in the end: consistency conditions 1 to 4, 8 and 9 of clause 3.3.2, as
//! far as these two transactions touch them, and that everything acknowledged is there, once.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use super::rows::{DISTRICT_YTD, FIRST_ORDER, FIRST_PAYMENT, Key, Row, WAREHOUSE_YTD};
use super::{Bill, DISTRICTS, NewOrder, Tpcc};

/// Lines of orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Supply {
    lines: u64,
    pieces: u64,
    /// Lines that another warehouse than the order's supplied.
    remote: u64,
}

impl AddAssign for Supply {
    fn add_assign(&mut self, other: Self) {
        self.lines += other.lines;
        self.pieces += other.pieces;
        self.remote += other.remote;
    }
}

/// Orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    orders: u64,
    /// The sum of their numbers.
    numbers: u64,
    supply: Supply,
    /// What their lines amount to.
    cents: i64,
}

impl AddAssign for Orders {
    fn add_assign(&mut self, other: Self) {
        self.orders += other.orders;
        self.numbers += other.numbers;
        self.supply += other.supply;
        self.cents += other.cents;
    }
}

/// Payments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Payments {
    payments: u64,
    cents: i64,
}

impl AddAssign for Payments {
    fn add_assign(&mut self, other: Self) {
        self.payments += other.payments;
        self.cents += other.cents;
    }
}

/// What a client was told.
#[derive(Clone, Debug, Default)]
pub struct Acknowledged {
    orders: Orders,
    payments: Payments,
}

impl Acknowledged {
    #[inline]
    pub(super) fn order(&mut self, order: &NewOrder, bill: &Bill) {
        let remote = order.lines.iter().filter(|line| line.supplier != order.warehouse).count();
        let pieces = order.lines.iter().map(|line| u64::from(line.quantity)).sum();
        let supply = Supply { lines: order.lines.len() as u64, pieces, remote: remote as u64 };
        self.orders += Orders { orders: 1, numbers: u64::from(bill.number), supply, cents: bill.amount };
    }

    #[inline]
    pub(super) fn payment(&mut self, amount: i32) {
        self.payments += Payments { payments: 1, cents: i64::from(amount) };
    }
}

impl AddAssign for Acknowledged {
    fn add_assign(&mut self, other: Self) {
        self.orders += other.orders;
        self.payments += other.payments;
    }
}

/// What a district holds.
#[derive(Clone, Debug, Default)]
struct DistrictBooks {
    /// Taken in since the beginning, by its own row.
    cents: i64,
    /// The number of the next order, by its own row.
    next_order: u32,
    /// The numbers of the orders that are there, in no order.
    numbers: Vec<u32>,
    /// The same by what was paid in it.
    payments: Payments,
}

/// What is there.
#[derive(Debug, Default)]
pub struct Found {
    /// Rows that were there in the beginning.
    loaded: u64,
    /// Taken in by each warehouse since the beginning, by its own row.
    warehouses: BTreeMap<u16, i64>,
    districts: BTreeMap<(u16, u8), DistrictBooks>,
    orders: Orders,
    /// By the stock.
    supply: Supply,
    /// By the customers.
    payments: Payments,
    /// A row that cannot be as it is, the first one met.
    broken: Option<String>,
}

impl AddAssign for Found {
    fn add_assign(&mut self, other: Self) {
        self.loaded += other.loaded;
        for (warehouse, cents) in other.warehouses {
            *self.warehouses.entry(warehouse).or_default() += cents;
        }
        for (key, books) in other.districts {
            let district = self.districts.entry(key).or_default();
            district.cents += books.cents;
            district.next_order = district.next_order.max(books.next_order);
            district.numbers.extend(books.numbers);
            district.payments += books.payments;
        }
        self.orders += other.orders;
        self.supply += other.supply;
        self.payments += other.payments;
        self.broken = self.broken.take().or(other.broken);
    }
}

impl Found {
    pub(super) fn row(&mut self, key: &Key, row: &Row) {
        let warehouse = key.number_of_warehouse();
        self.loaded += u64::from(!matches!(row, Row::Order(_) | Row::History(_)));
        let mut is_sound = true;
        match row {
            Row::Warehouse(row) => *self.warehouses.entry(warehouse).or_default() += row.ytd - WAREHOUSE_YTD,
            Row::District(row) => match key.number_of_district() {
                Some(district) => {
                    let books = self.districts.entry((warehouse, district)).or_default();
                    books.cents += row.ytd - DISTRICT_YTD;
                    books.next_order = row.next_order;
                }
                None => is_sound = false,
            },
            Row::Customer(row) => {
                // Nobody delivers, so all a customer paid is in the balance.
                is_sound = row.balance == -row.ytd_payment && row.payments > 0;
                let payments = u64::from(row.payments.saturating_sub(1));
                self.payments += Payments { payments, cents: row.ytd_payment - FIRST_PAYMENT };
            }
            Row::Item(_) => {}
            Row::Stock(row) => {
                is_sound = (10..=100).contains(&row.quantity);
                self.supply += Supply {
                    lines: u64::from(row.orders),
                    pieces: u64::from(row.ytd),
                    remote: u64::from(row.remote),
                };
            }
            Row::Order(row) => {
                self.districts.entry((warehouse, row.district)).or_default().numbers.push(row.number);
                let lines = row.lines.iter();
                let supply = Supply {
                    lines: row.lines.len() as u64,
                    pieces: lines.clone().map(|line| u64::from(line.quantity)).sum(),
                    remote: lines.clone().filter(|line| line.supplier != warehouse).count() as u64,
                };
                let cents = lines.map(|line| i64::from(line.amount)).sum();
                self.orders += Orders { orders: 1, numbers: u64::from(row.number), supply, cents };
            }
            Row::History(row) => {
                let books = self.districts.entry((warehouse, row.district)).or_default();
                books.payments += Payments { payments: 1, cents: i64::from(row.amount) };
            }
        }
        if !is_sound {
            self.broken.get_or_insert_with(|| format!("{key:?} holds {row:?}"));
        }
    }

    /// Says what does not hold.
    pub(super) fn verdict(&self, workload: &Tpcc, acknowledged: &Acknowledged) -> Result<(), String> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        let of_warehouse =
            1 + 2 * u64::from(workload.items) + u64::from(DISTRICTS) * (1 + u64::from(workload.customers));
        same("rows of the beginning", "there", self.loaded, u64::from(workload.warehouses) * of_warehouse)?;
        let mut history = Payments::default();
        for warehouse in 1..=workload.warehouses {
            let mut cents = 0;
            for district in 1..=DISTRICTS {
                let what = || format!("warehouse {warehouse}, district {district}");
                let Some(books) = self.districts.get(&(warehouse, district)) else {
                    return Err(format!("{}: is not there", what()));
                };
                // Conditions 2 and 3, and no number twice.
                let mut numbers = books.numbers.clone();
                numbers.sort_unstable();
                let is_gapless = (FIRST_ORDER..).zip(&numbers).all(|(wanted, number)| wanted == *number);
                if !is_gapless || FIRST_ORDER as usize + numbers.len() != books.next_order as usize {
                    let (there, next) = (numbers.len(), books.next_order);
                    let last = numbers.last();
                    return Err(format!(
                        "{}: {there} orders up to {last:?} where the next is {next} and the first was {FIRST_ORDER}",
                        what()
                    ));
                }
                // Condition 9.
                same(&what(), "cents, and the history", books.cents, books.payments.cents)?;
                cents += books.cents;
                history += books.payments;
            }
            // Conditions 1 and 8.
            let found = self.warehouses.get(&warehouse).copied();
            same(&format!("warehouse {warehouse}"), "cents, and its districts", found, Some(cents))?;
        }
        same("orders", "there, and acknowledged", self.orders, acknowledged.orders)?;
        // Condition 4, over all districts.
        same("stock", "taken, and acknowledged", self.supply, acknowledged.orders.supply)?;
        same("history", "there, and acknowledged", history, acknowledged.payments)?;
        same("customers' payments", "there, and acknowledged", self.payments, acknowledged.payments)
    }
}

fn same<T: PartialEq + std::fmt::Debug>(whose: &str, what: &str, found: T, wanted: T) -> Result<(), String> {
    if found == wanted { Ok(()) } else { Err(format!("{whose}: {found:?} {what}: {wanted:?}")) }
}
