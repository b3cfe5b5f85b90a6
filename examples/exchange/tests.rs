//! The exchange under test: no runtime, no threads, no clock, and every order from a seed.

use std::time::Duration;

use freehold::testing::Bench;

use super::*;

fn order(user: User, side: Side, price: u64, shares: u64) -> Place {
    Place(0, Order { user, side, price, shares })
}

/// Nothing may be made or lost.
fn check(bench: &Bench<Exchange>) {
    judge(&bench.tally(count));
}

fn waiting_orders(bench: &Bench<Exchange>) -> usize {
    bench.objects().filter(|(id, ..)| matches!(id, Id::Waiting(_))).count()
}

#[test]
fn two_orders_that_cross_trade_at_the_price_of_the_first() {
    let mut bench = Bench::<Exchange>::shards(3);
    assert_eq!(bench.call(order(0, Side::Sell, 100, 10)), Ok((1, vec![])));
    let (_, fills) = bench.call(order(1, Side::Buy, 105, 4)).expect("it is taken");
    assert_eq!(fills, [Order { user: 0, side: Side::Sell, price: 100, shares: 4 }]);
    let cash = |user| bench.read::<Account>(user).map(|account| account.0);
    assert_eq!((cash(0), cash(1)), (Some(CASH + 400), Some(CASH - 400)));
    check(&bench);
}

#[test]
fn an_order_ends_at_its_time_and_a_filled_one_needs_no_timer() {
    let mut bench = Bench::<Exchange>::shards(2);
    bench.call(order(0, Side::Sell, 100, 10)).expect("it is taken");
    bench.call(order(0, Side::Sell, 110, 10)).expect("it is taken");
    assert_eq!(bench.timers(), 2);
    bench.call(order(1, Side::Buy, 100, 10)).expect("it is taken");
    assert_eq!(bench.timers(), 1, "the timer of what was filled was taken back");
    bench.pass(WAIT - Duration::from_nanos(1));
    assert_eq!(waiting_orders(&bench), 1);
    bench.pass(Duration::from_nanos(1));
    assert_eq!(waiting_orders(&bench), 0);
    assert_eq!(bench.read::<Position>((0, 0)).map(|position| position.0), Some(SHARES - 10));
    check(&bench);
}

/// Each rerun added one account, and this order was given up.
#[test]
fn an_order_that_finds_twenty_others_begins_anew_once() {
    let mut bench = Bench::<Exchange>::shards(4);
    assert!(bench.call_all((0..20).map(|user| order(user, Side::Sell, 100, 1))).iter().all(Result::is_ok));
    let before = bench.counters().reruns;
    let (_, fills) = bench.call(order(20, Side::Buy, 100, 20)).expect("it is taken");
    assert_eq!((fills.len(), bench.counters().reruns - before), (20, 1));
    check(&bench);
}

#[test]
fn the_books_balance_in_whatever_order_orders_meet() {
    Bench::<Exchange>::explore(0..50, |bench| {
        let mut random = Pcg64Mcg::seed_from_u64(bench.seed());
        for _ in 0..5 {
            let orders: Vec<_> = (0..20).map(|_| any_order(&mut random, 2, 10)).collect();
            bench.overload(usize::from(bench.seed() % 3 == 0));
            bench.call_all(orders);
            check(bench);
            bench.pass(WAIT / 3);
            check(bench);
        }
        bench.pass(WAIT);
        assert_eq!(bench.timers(), 0);
        check(bench);
    });
}

#[test]
fn the_books_balance_after_crashes() {
    for seed in 0..10 {
        let mut bench = Bench::<Exchange>::shards(2).with_seed(seed).with_log();
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        for _ in 0..5 {
            let orders: Vec<_> = (0..20).map(|_| any_order(&mut random, 2, 10).into()).collect();
            let outcomes = bench.crash_while(orders);
            let taken = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
            let placed: OrderNo =
                (0..2).map(|symbol| bench.read::<Book>(symbol).map_or(0, |book| book.placed)).sum();
            assert!(placed as usize >= taken, "what was answered outlives a crash");
            check(&bench);
        }
        bench.pass(WAIT);
        assert_eq!(bench.timers(), 0, "what waits goes on after a crash");
        check(&bench);
    }
}
