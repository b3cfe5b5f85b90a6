//! Every workload over a plain map: its transactions name what they touch, decide before they
//! write, and its invariant holds; and the invariant is worth something: an engine that loses one
//! write in a hundred is found out.

use std::collections::{BTreeMap, BTreeSet};

use freehold_shard::{Access, Addressees};
use freehold_workloads::{
    Client, Cross, Growth, HStoreMicro, Mix, Refused, Rows, SEED, Skew, SmallBank, Stream, Tatp, Tpcc, Way,
    Workload, Ycsb, YcsbGrowing, YcsbTransactional,
};

/// A map of rows that checks every access against what was named.
struct Plain<W: Workload> {
    rows: BTreeMap<W::Id, W::Row>,
    named: BTreeMap<W::Id, Access>,
    written: BTreeSet<W::Id>,
}

impl<W: Workload> Rows<W> for Plain<W> {
    fn get(&mut self, id: W::Id) -> Result<Option<&W::Row>, Refused<W::Id>> {
        assert!(self.named.contains_key(&id), "{id:?} was read and not named");
        Ok(self.rows.get(&id))
    }

    fn get_mut(&mut self, id: W::Id) -> Result<Option<&mut W::Row>, Refused<W::Id>> {
        assert_eq!(self.named.get(&id), Some(&Access::Write), "{id:?} was written and not named so");
        self.written.insert(id);
        Ok(self.rows.get_mut(&id))
    }

    fn insert(&mut self, id: W::Id, row: W::Row) -> Result<(), Refused<W::Id>> {
        assert_eq!(self.named.get(&id), Some(&Access::Write), "{id:?} was put in and not named so");
        self.written.insert(id);
        self.rows.insert(id, row);
        Ok(())
    }

    fn remove(&mut self, id: W::Id) -> Result<bool, Refused<W::Id>> {
        assert_eq!(self.named.get(&id), Some(&Access::Write), "{id:?} was taken out and not named so");
        self.written.insert(id);
        Ok(self.rows.remove(&id).is_some())
    }
}

/// Transactions of each client in a lap, the beginning of its stream.
const LAP: usize = 4_000;

/// Whether a transaction that wrote is lost, by the rows it names.
type Loses<'a, W> = &'a mut dyn FnMut(&BTreeMap<<W as Workload>::Id, Access>) -> bool;

/// Runs two laps of the streams of all clients, one transaction of each in turn. What `loses` says
/// of those that wrote is undone, and acknowledged. Says what does not hold: a transaction that met
/// what cannot be, or the verdict.
fn run<W: Workload>(workload: &W, shards: usize, cross: Cross, loses: Loses<'_, W>) -> Result<(), String> {
    let mut plain = Plain::<W> { rows: BTreeMap::new(), named: BTreeMap::new(), written: BTreeSet::new() };
    workload.load(&mut |id, row| assert!(plain.rows.insert(id, row).is_none(), "{id:?} is loaded twice"));
    let streams: Vec<_> = (0..shards)
        .map(|shard| {
            Stream::draw(workload, &mut Client::new(SEED, shard, shards, cross)).expect("enough rows")
        })
        .collect();
    let (mut tally, mut committed, mut to) = (W::Tally::default(), 0, Addressees::new());
    for lap in 0..2 {
        for number in 0..LAP.min(streams[0].drawn().len()) {
            for stream in &streams {
                let mut transaction = stream.drawn()[number].transaction.clone();
                if lap > 0 && W::RENEWS {
                    W::renew(&mut transaction, lap);
                }
                to.clear();
                W::addressees(&transaction, &mut to);
                plain.named = to.iter().collect();
                plain.written.clear();
                let before: Vec<_> =
                    plain.named.keys().map(|id| (*id, plain.rows.get(id).cloned())).collect();
                match W::run(&transaction, &mut plain) {
                    Ok(reply) => {
                        W::tally(&mut tally, &transaction, &reply);
                        committed += 1;
                        if !plain.written.is_empty() && loses(&plain.named) {
                            for (id, row) in before {
                                match row {
                                    Some(row) => drop(plain.rows.insert(id, row)),
                                    None => drop(plain.rows.remove(&id)),
                                }
                            }
                        }
                    }
                    Err(Refused::Aborted(_)) => {
                        assert!(plain.written.is_empty(), "{transaction:?} wrote and then aborted");
                    }
                    Err(error) => return Err(format!("{transaction:?}: {error}")),
                }
            }
        }
    }
    assert!(committed > 0, "transactions commit");
    let mut audit = W::Audit::default();
    plain.rows.iter().for_each(|(id, row)| workload.audit(&mut audit, id, row));
    workload.verdict(&tally, &audit)
}

/// The homes of a transaction's rows, in the order named.
fn homes<W: Workload>(client: &Client, transaction: &W::Transaction) -> Vec<usize> {
    let mut to = Addressees::new();
    W::addressees(transaction, &mut to);
    to.iter().map(|(id, _)| client.home(&id)).collect()
}

/// A transaction of a later lap has its rows where that of the first has them.
fn renewed_keep_their_homes<W: Workload>(workload: &W) {
    let mut client = Client::new(SEED, 2, 3, Cross::Percent(50.0));
    let stream = Stream::draw(workload, &mut client).expect("enough rows");
    for drawn in stream.drawn() {
        let first = homes::<W>(&client, &drawn.transaction);
        for lap in [1, 1000] {
            let mut transaction = drawn.transaction.clone();
            W::renew(&mut transaction, lap);
            assert_eq!(homes::<W>(&client, &transaction), first, "{transaction:?} of lap {lap}");
        }
    }
}

/// What holds of every workload.
fn check_reads<W: Workload>(workload: &W) {
    for (shards, cross) in [(1, Cross::Natural), (3, Cross::Natural), (3, Cross::Percent(50.0))] {
        run(workload, shards, cross, &mut |_| false).expect("the invariant holds");
    }
    if W::RENEWS {
        renewed_keep_their_homes(workload);
    }
}

/// What holds of every workload that writes.
fn check<W: Workload>(workload: &W) {
    check_reads(workload);
    let mut written = 0;
    let found = run(workload, 1, Cross::Natural, &mut |_| {
        written += 1;
        written % 100 == 0
    });
    println!("{workload:?} said of lost writes: {found:?}");
    assert!(found.is_err(), "{workload:?} did not see that writes were lost");
}

/// How much of the streams spans shards.
fn spanning<W: Workload>(workload: &W, shards: usize, cross: Cross) -> f64 {
    let of =
        |shard| Stream::draw(workload, &mut Client::new(SEED, shard, shards, cross)).expect("enough rows");
    let stream = of(shards - 1);
    assert!(stream.drawn().iter().all(|drawn| drawn.way != Way::There), "a client begins on its own shard");
    stream.spanning()
}

fn near(found: f64, wanted: f64) {
    assert!((found - wanted).abs() < 0.01, "{found} is not {wanted}");
}

#[test]
fn smallbank_balances_and_spans_as_told() {
    let bank = |skew| SmallBank { customers: 1_000, skew };
    check(&bank(Skew::Uniform));
    check(&bank(Skew::Hotspot { rows: 10, share: 0.9 }));
    let uniform = bank(Skew::Uniform);
    // Four in ten have two customers.
    near(spanning(&uniform, 2, Cross::Natural), 0.2);
    near(spanning(&uniform, 2, Cross::Percent(0.0)), 0.0);
    near(spanning(&uniform, 4, Cross::Percent(100.0)), 0.4);
    near(spanning(&uniform, 1, Cross::Percent(100.0)), 0.0);
}

/// Payments between customers leave the sum of all cents as it was: an engine that loses every one
/// of them, and only them, once held all that was checked.
#[test]
fn lost_payments_between_customers_are_found_out() {
    for skew in [Skew::Uniform, Skew::Hotspot { rows: 10, share: 0.9 }] {
        let bank = SmallBank { customers: 1_000, skew };
        let mut lost = 0;
        // Only transactions of two customers write two accounts or more.
        let found = run(&bank, 2, Cross::Natural, &mut |named| {
            let has_two = named.values().filter(|access| **access == Access::Write).count() > 1;
            lost += usize::from(has_two);
            has_two
        });
        assert!(found.is_err(), "{lost} payments were lost, and nobody saw it");
        let mut is_first = true;
        let found = run(&bank, 2, Cross::Natural, &mut |named| {
            let has_two = named.values().filter(|access| **access == Access::Write).count() > 1;
            has_two && std::mem::take(&mut is_first)
        });
        assert!(found.is_err(), "one payment was lost, and nobody saw it");
    }
}

/// What is too small for its transactions is told so: nothing hangs or panics. SmallBank looked for
/// a second customer without end where there was none.
#[test]
fn what_is_too_small_is_told_so() {
    fn told<W: Workload>(workload: &W, shards: usize, cross: Cross) {
        let drawn: Result<Vec<_>, _> = (0..shards)
            .map(|shard| Stream::draw(workload, &mut Client::new(SEED, shard, shards, cross)))
            .collect();
        let error = drawn.map(|_| ()).expect_err("there are too few rows");
        let says = error.to_string();
        assert!(says.contains("load"), "{workload:?}: {says} does not say what to do");
    }
    let (here, both) = (Cross::Percent(0.0), Cross::Percent(100.0));
    let bank = |customers, skew| SmallBank { customers, skew };
    let hot = |share| Skew::Hotspot { rows: 1, share };
    told(&bank(0, Skew::Uniform), 1, Cross::Natural);
    told(&bank(1, Skew::Uniform), 1, Cross::Natural);
    told(&bank(1, hot(1.0)), 1, Cross::Natural);
    told(&bank(100, hot(1.0)), 1, Cross::Natural);
    told(&bank(100, hot(1.0)), 2, both);
    // Each shard has one customer, or one of them none.
    told(&bank(2, Skew::Uniform), 2, here);
    for rows in [0, 1, 11] {
        told(&HStoreMicro { rows, skew: Skew::Uniform, aborts: 0.0 }, 1, Cross::Natural);
    }
    told(&HStoreMicro { rows: 12, skew: Skew::Uniform, aborts: 0.0 }, 2, here);
    told(&Ycsb { mix: Mix::A, records: 0, skew: Skew::Uniform }, 1, Cross::Natural);
    for records in [0, 1, 63] {
        // They are one group, and live on one shard.
        told(&Ycsb { mix: Mix::A, records, skew: Skew::Uniform }, 2, Cross::Natural);
        told(&YcsbGrowing { growth: Growth::D, records, skew: Skew::Uniform }, 2, Cross::Natural);
        told(&YcsbGrowing { growth: Growth::E, records, skew: Skew::Uniform }, 2, both);
        let writes = 0.5;
        told(&YcsbTransactional { records, skew: Skew::Uniform, writes, spread: 2 }, 2, both);
    }
    told(&YcsbTransactional { records: 15, skew: Skew::Uniform, writes: 0.5, spread: 1 }, 1, here);
    told(&Tpcc::small(0), 1, Cross::Natural);
    told(&Tpcc::small(1), 2, Cross::Natural);
    told(&Tpcc::small(2), 3, both);
    told(&Tpcc { items: 0, ..Tpcc::small(2) }, 1, Cross::Natural);
    told(&Tpcc { customers: 0, ..Tpcc::small(2) }, 1, Cross::Natural);
    told(&Tatp { subscribers: 0 }, 1, Cross::Natural);
    told(&Tatp { subscribers: 1 }, 2, Cross::Natural);
    // The smallest that are large enough.
    let draws = |drawn: bool| assert!(drawn);
    let one = || Client::new(SEED, 0, 1, Cross::Natural);
    draws(bank(2, Skew::Uniform).draw(&mut one()).is_ok());
    draws(HStoreMicro { rows: 12, skew: Skew::Uniform, aborts: 0.0 }.draw(&mut one()).is_ok());
    for growth in [Growth::D, Growth::E] {
        draws(YcsbGrowing { growth, records: 1, skew: Skew::Uniform }.draw(&mut one()).is_ok());
    }
    draws(Tpcc { items: 1, customers: 1, ..Tpcc::small(1) }.draw(&mut one()).is_ok());
    draws(Tatp { subscribers: 1 }.draw(&mut one()).is_ok());
}

#[test]
fn the_micro_of_hstore_counts_and_spans_as_told() {
    let micro = |skew, aborts| HStoreMicro { rows: 10_000, skew, aborts };
    check(&micro(Skew::Uniform, 0.1));
    check(&micro(Skew::Zipf(0.9), 0.0));
    let uniform = micro(Skew::Uniform, 0.1);
    near(spanning(&uniform, 2, Cross::Natural), 1.0);
    near(spanning(&uniform, 2, Cross::Percent(0.0)), 0.0);
    near(spanning(&uniform, 4, Cross::Percent(10.0)), 0.1);
    near(spanning(&uniform, 4, Cross::Percent(100.0)), 1.0);
    near(spanning(&uniform, 1, Cross::Percent(100.0)), 0.0);
}

#[test]
fn ycsb_of_single_rows_counts_and_never_spans() {
    let ycsb = |mix| Ycsb { mix, records: 1_000, skew: Skew::Zipf(0.99) };
    for mix in [Mix::A, Mix::B, Mix::F] {
        check(&ycsb(mix));
    }
    check_reads(&ycsb(Mix::C));
    let latest = YcsbGrowing { growth: Growth::D, records: 1_000, skew: Skew::Zipf(0.99) };
    check(&latest);
    near(spanning(&ycsb(Mix::A), 4, Cross::Percent(100.0)), 0.0);
    near(spanning(&latest, 4, Cross::Percent(100.0)), 0.0);
    assert!(ycsb(Mix::A).is_of_single_rows() && latest.is_of_single_rows());
}

#[test]
fn scans_of_ycsb_count_and_span_as_told() {
    let scans = YcsbGrowing { growth: Growth::E, records: 10_000, skew: Skew::Zipf(0.99) };
    assert!(!scans.is_of_single_rows());
    check(&scans);
    // Of a hundred transactions 95 scan, and one in fifty of these has one record.
    near(spanning(&scans, 2, Cross::Percent(0.0)), 0.0);
    near(spanning(&scans, 4, Cross::Percent(100.0)), 0.95 * 0.98);
    near(spanning(&scans, 1, Cross::Percent(100.0)), 0.0);
}

#[test]
fn transactional_ycsb_counts_and_spans_as_told() {
    let ycsb = |theta, spread| {
        let skew = if theta == 0.0 { Skew::Uniform } else { Skew::Zipf(theta) };
        YcsbTransactional { records: 10_000, skew, writes: 0.5, spread }
    };
    check(&ycsb(0.0, 16));
    check(&ycsb(0.99, 2));
    near(spanning(&ycsb(0.99, 2), 2, Cross::Percent(0.0)), 0.0);
    near(spanning(&ycsb(0.6, 16), 4, Cross::Percent(10.0)), 0.1);
    near(spanning(&ycsb(0.6, 1), 4, Cross::Percent(100.0)), 0.0);
    near(spanning(&ycsb(0.6, 4), 4, Cross::Natural), 1.0);
}

/// Transactions of later laps live where those of the first do, and each inserts one row, another
/// in every lap.
fn renews_in_place<W: Workload>(workload: &W) {
    let mut client = Client::new(SEED, 0, 3, Cross::Natural);
    let stream = Stream::draw(workload, &mut client).expect("enough rows");
    let named = |transaction: &W::Transaction| {
        let mut to = Addressees::new();
        W::addressees(transaction, &mut to);
        to.iter().collect::<Vec<_>>()
    };
    let mut seen = BTreeSet::new();
    for drawn in &stream.drawn()[..LAP] {
        let first = named(&drawn.transaction);
        let mut renewed = drawn.transaction.clone();
        let mut other = BTreeSet::from_iter(first.iter().copied());
        for lap in [1, 2, 1 << 20] {
            W::renew(&mut renewed, lap);
            let later = named(&renewed);
            assert_eq!(first.len(), later.len());
            for ((id, access), (of_later, later_access)) in first.iter().zip(&later) {
                assert_eq!(
                    (client.home(id), access),
                    (client.home(of_later), later_access),
                    "{id:?}, {of_later:?}"
                );
                other.insert((*of_later, *later_access));
            }
        }
        assert_eq!(other.len(), first.len() + 3, "{:?} inserts one row in each lap", drawn.transaction);
        other.iter().filter(|named| !first.contains(named)).for_each(|(id, _)| assert!(seen.insert(*id)));
    }
}

/// How much of the natural draw of `shards - 1` spans, by where the warehouses live.
fn remote_share(tpcc: &Tpcc, shards: usize) -> f64 {
    let client = Client::new(SEED, shards - 1, shards, Cross::Natural);
    let (mut elsewhere, mut rows) = (0.0, 0.0);
    tpcc.load(&mut |id, _| {
        elsewhere += f64::from(u8::from(client.home(&id) != client.shard()));
        rows += 1.0;
    });
    // Another warehouse than one's own, on another shard.
    let others = f64::from(tpcc.warehouses);
    let elsewhere = elsewhere / rows * others / (others - 1.0);
    let of_lines = |lines| 1.0 - (1.0 - elsewhere * tpcc.remote_items / 100.0).powi(lines);
    // The last line of one order in a hundred has no stock.
    let orders =
        (5..=15).map(|lines| 0.99 * of_lines(lines) + 0.01 * of_lines(lines - 1)).sum::<f64>() / 11.0;
    let share = tpcc.new_orders / 100.0;
    share * orders + (1.0 - share) * elsewhere * tpcc.remote_payments / 100.0
}

#[test]
fn tpcc_balances() {
    check(&Tpcc::small(8));
    renews_in_place(&Tpcc::small(8));
}

#[test]
fn tpcc_spans_as_its_remote_shares_say() {
    let tpcc = |remote_items| Tpcc { remote_items, ..Tpcc::small(16) };
    for (remote_items, shards) in [(1.0, 2), (10.0, 2), (10.0, 4)] {
        let tpcc = tpcc(remote_items);
        near(spanning(&tpcc, shards, Cross::Natural), remote_share(&tpcc, shards));
    }
    near(spanning(&Tpcc { new_orders: 100.0, ..tpcc(0.0) }, 4, Cross::Natural), 0.0);
    near(spanning(&tpcc(10.0), 2, Cross::Percent(0.0)), 0.0);
    near(spanning(&tpcc(1.0), 4, Cross::Percent(30.0)), 0.3);
    near(spanning(&tpcc(0.0), 2, Cross::Percent(100.0)), 1.0);
    near(spanning(&tpcc(1.0), 1, Cross::Percent(100.0)), 0.0);
}

#[test]
fn tatp_balances_and_never_spans() {
    let tatp = Tatp { subscribers: 1_000 };
    check(&tatp);
    near(spanning(&tatp, 4, Cross::Natural), 0.0);
    near(spanning(&tatp, 2, Cross::Percent(100.0)), 0.0);
}
