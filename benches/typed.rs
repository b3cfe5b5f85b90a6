//! What does an order of a small exchange cost on the layer of `actor!`, beside the same actor
//! written by hand?
//!
//! ```text
//! cargo bench --bench typed
//! ```
//! Both run in one process, on one shard each, by `call_now` and `ask_now` in a task. They take
//! turns: a round of one, then of the other, and the other way round. An order touches a book, an
//! account and a position. A query reads an account. Times are of the clock on the wall,
//! nanoseconds each, median and range over rounds.
//!
//! The work is checked: in the end both have traded the same.

#[path = "exchange/mod.rs"]
mod exchange;
#[path = "workload/mod.rs"]
mod workload;

use std::time::{Duration, Instant};

use exchange::{Way, by_hand, typed};
use freehold::{Config, Local, Runtime, Shards};
use workload::report::{Conditions, Spread};

struct Side<W: Way>(Runtime<W>);

impl<W: Way> Side<W> {
    fn start() -> Self {
        let config = Config { shards: Shards::Count(1), ..Config::default() };
        let side = Side(Runtime::start(config).expect("it starts"));
        side.on_shard(|local| W::open(|message| local.ask_now(message)));
        side
    }

    fn on_shard<T: Send + 'static>(&self, work: impl Fn(&Local<W>) -> T + Clone + Send + 'static) -> T {
        let done = self.0.on_each_shard(move |local| {
            let work = work.clone();
            async move { work(&local) }
        });
        done.wait().pop().expect("there is a shard").expect("it ends")
    }

    /// Nanoseconds of one of so many orders.
    fn orders(&self, orders: u32) -> f64 {
        let trade =
            move |local: &Local<W>| timed(orders, || (0..orders / 2).for_each(|_| W::trade_now(local)));
        self.on_shard(trade)
    }

    fn traded(&self) -> exchange::Traded {
        self.on_shard(|local| W::traded(|message| local.ask_now(message)))
    }

    /// Nanoseconds of one of so many queries.
    fn queries(&self, queries: u32) -> f64 {
        let query = move |local: &Local<W>| {
            let mut sum = 0;
            let time = timed(queries, || (0..queries).for_each(|_| sum ^= W::query_now(local)));
            std::hint::black_box(sum);
            time
        };
        self.on_shard(query)
    }
}

fn timed(times: u32, work: impl FnOnce()) -> f64 {
    let begin = Instant::now();
    work();
    let time: Duration = begin.elapsed();
    time.as_nanos() as f64 / f64::from(times)
}

fn main() {
    let (rounds, orders) = if workload::is_a_test() { (2, 100) } else { (31, 200_000) };
    println!(
        "{}\nsettings    one shard, {rounds} rounds of {orders} orders and queries\n",
        Conditions::now()
    );
    // The two take turns on one CPU.
    let (hand, typed) = (Side::<by_hand::Exchange>::start(), Side::<typed::Exchange>::start());
    let mut times: [Vec<f64>; 4] = Default::default();
    for round in 0..rounds {
        let [hand_order, typed_order, hand_query, typed_query] = &mut times;
        let mut by_hand = || {
            hand_order.push(hand.orders(orders));
            hand_query.push(hand.queries(orders));
        };
        let mut by_type = || {
            typed_order.push(typed.orders(orders));
            typed_query.push(typed.queries(orders));
        };
        if round % 2 == 0 {
            by_hand();
            by_type();
        } else {
            by_type();
            by_hand();
        }
    }
    let names = ["an order by hand", "an order typed", "a query by hand", "a query typed"];
    for (name, times) in names.into_iter().zip(times) {
        let Spread { median, lowest, highest } = Spread::of(times);
        println!("{name:<18}{median:>8.1} ns  ({lowest:.1} to {highest:.1})");
    }
    let traded = (hand.traded(), typed.traded());
    assert_eq!(traded.0, traded.1, "both have traded the same");
    assert_eq!(traded.0.0, 5 * u64::from(orders) / 2 * rounds as u64);
    println!("\nchecked: {} shares traded by each", traded.0.0);
}
