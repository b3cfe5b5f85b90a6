//! Several threads that pay, the *tellers*, where no log is kept.
//!
//! One thread alone hands over less than a dozen shards can pay. This thread reads the payments,
//! and gives each to the teller of its payer's shard. So a teller has all payments of its accounts,
//! and *in-order* holds as with one: see [`run`](crate::run). An account that several tellers name
//! is opened by each, of which one changes something.
//!
//! With a log there is one teller: the bookmark says how far *one* row of payments is.

use std::mem;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use ahash::AHashMap;
use freehold::Handle;

use crate::audit::Census;
use crate::input::{InputError, Payment};
use crate::ledger::{Key, Ledger};
use crate::progress::Progress;
use crate::run::{Plan, Run, RunError, Tally};

/// Batches that wait for a teller, at most.
const WAITING_MAX: usize = 2;

/// A line of the input.
type Line = Result<Payment, InputError>;

/// Makes all payments, by [`Plan::tellers`] threads. Returns what came of them, and the accounts
/// they named, with how many payments each was to make.
///
/// # Errors
/// See [`RunError`].
pub fn pay(
    handle: &Handle<Ledger>,
    plan: &Plan,
    progress: &Progress,
    census: &Census,
    payments: impl Iterator<Item = Line>,
) -> Result<(Tally, AHashMap<u64, u64>), RunError> {
    let begun = Instant::now();
    thread::scope(|scope| {
        let start = |_| {
            let (lines, own): (_, Receiver<Vec<Line>>) = sync_channel(WAITING_MAX);
            let teller =
                move || Run::new(handle, plan, progress, census, None).pay(own.into_iter().flatten());
            (lines, scope.spawn(teller))
        };
        let (lines, tellers): (Vec<_>, Vec<_>) = (0..plan.tellers).map(start).unzip();
        let reading = hand_out(handle, plan, payments, lines);
        let (mut tally, mut accounts) = (Tally { reading, ..Tally::default() }, AHashMap::new());
        for teller in tellers {
            let (paid, named) = teller.join().expect("a teller that goes wrong returns an error")?;
            tally.add(paid);
            for (account, payments) in named {
                *accounts.entry(account).or_default() += payments;
            }
        }
        tally.elapsed = begun.elapsed();
        Ok((tally, accounts))
    })
}

/// Gives each payment to the teller of its payer's shard, and what is none to the first. Returns
/// how long reading took, and not handing over.
fn hand_out(
    handle: &Handle<Ledger>,
    plan: &Plan,
    payments: impl Iterator<Item = Line>,
    tellers: Vec<SyncSender<Vec<Line>>>,
) -> Duration {
    let begun = Instant::now();
    let mut handing_over = Duration::ZERO;
    let mut batches: Vec<_> = tellers.iter().map(|_| Vec::with_capacity(plan.batch)).collect();
    for line in payments {
        let teller = match &line {
            Ok(payment) => {
                let shard = handle.home(&Key::Account(payment.from)).index();
                shard * tellers.len() / handle.shards()
            }
            Err(_) => 0,
        };
        let is_last = matches!(&line, Err(error) if plan.on_bad_line.stops_at(error));
        batches[teller].push(line);
        if is_last {
            break;
        }
        if batches[teller].len() == plan.batch {
            let full = mem::replace(&mut batches[teller], Vec::with_capacity(plan.batch));
            let waits = Instant::now();
            // A teller that is gone has its reason, which it returns.
            let _ = tellers[teller].send(full);
            handing_over += waits.elapsed();
        }
    }
    let read = begun.elapsed() - handing_over;
    for (teller, rest) in tellers.into_iter().zip(batches) {
        let _ = teller.send(rest);
    }
    read
}
