//! How a runtime stops: it drains, waits for the shards' threads, leaves behind what does not come
//! back, and ends the logs.

use std::sync::PoisonError;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use freehold_shard::manifest::RunEnd;
use freehold_shard::{Actor, ShardIndex};

use super::drain::wait_until_quiet;
use crate::core::ShardExit;
use crate::core::pulse::Standstill;
use crate::core::shared::Shared;
use crate::disk::error::LogError;
use crate::gate::start::GateThreads;
use crate::log::SharedLogs;
use crate::runtime::report::{Report, Stuck};
use crate::stats::Phase;
use crate::transport::mailbox::unknown;

/// A shard that has not moved for so long is left behind when the runtime stops and has waited long
/// enough.
const STUCK_AFTER: Duration = Duration::from_secs(1);

pub(super) fn stop<A: Actor>(
    shared: &Shared<A>,
    threads: Vec<JoinHandle<ShardExit<A>>>,
    gates: Vec<GateThreads>,
    checkpoints: Option<JoinHandle<()>>,
    watch: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
) -> Report {
    let begun = Instant::now();
    let mut standstills: Vec<_> = shared.pulses.iter().map(|_| Standstill::new(begun)).collect();
    for (standstill, pulse) in standstills.iter_mut().zip(&shared.pulses) {
        standstill.look(pulse, begun);
    }
    tracing::info!("the runtime stops");
    // What has passed is let run to its end, with all else that was accepted.
    gates.iter().for_each(GateThreads::close);
    shared.advance(Phase::Draining);
    let deadline = begun + shared.config.drain_max;
    let mut drained = wait_until_quiet(shared, deadline);
    let grace = Instant::now() + shared.config.tasks_grace;
    if shared.live_tasks() > 0 {
        while shared.live_tasks() > 0 && Instant::now() < grace && shared.phase() != Phase::Dead {
            std::thread::sleep(Duration::from_millis(1));
        }
        // They may have sent messages to the last.
        drained = wait_until_quiet(shared, deadline.max(grace));
    }
    if drained {
        shared.shut_ingresses();
        drained = wait_until_quiet(shared, deadline.max(grace));
    }
    shared.advance(Phase::Stopping);
    let gives_up = begun + shared.config.drain_max + shared.config.tasks_grace;
    let (mut exits, stuck) = join(shared, threads, standstills, gives_up);
    shared.seats.leave();
    gates.into_iter().for_each(|gate| gate.join(gives_up + STUCK_AFTER));
    if let Some((stop, watch)) = watch {
        drop(stop);
        let _ = watch.join();
    }
    if let Some(checkpoints) = checkpoints
        && stuck.is_empty()
    {
        // One that was being made has been given up; but not while it waits for a shard that does
        // not come back.
        let _ = checkpoints.join();
    }
    end_logs(shared, &exits, &stuck);
    // What a shard has put into the lanes of one that had left.
    let in_lanes: u64 = exits.iter_mut().map(ShardExit::in_lanes).sum();
    let transactions_unfinished = exits.iter().map(|shard| shard.transactions_unfinished).sum();
    let report = Report {
        stats: shared.stats(),
        drained: drained && shared.phase() != Phase::Dead && stuck.is_empty() && transactions_unfinished == 0,
        transactions_unfinished,
        stuck,
        messages_unrun: in_lanes + exits.iter().map(|shard| shard.messages_unrun).sum::<u64>(),
        actions_unfinished: exits.iter().map(|shard| shard.actions).sum(),
        timers_unfinished: exits.iter().map(|shard| shard.timers).sum(),
        tasks_cancelled: exits.iter().map(|shard| shard.tasks_cancelled).sum(),
        deaths: shared.deaths.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        took: begun.elapsed(),
    };
    tracing::info!(%report, "the runtime has stopped");
    report
}

/// Waits for the shards' threads. From `gives_up` on, one whose shard has not moved for a while is
/// left behind.
fn join<A: Actor>(
    shared: &Shared<A>,
    threads: Vec<JoinHandle<ShardExit<A>>>,
    standstills: Vec<Standstill>,
    gives_up: Instant,
) -> (Vec<ShardExit<A>>, Vec<Stuck>) {
    let (mut exits, mut stuck) = (Vec::new(), Vec::new());
    for ((shard, thread), mut standstill) in threads.into_iter().enumerate().zip(standstills) {
        let mut pause = Duration::from_micros(50);
        let still = loop {
            if thread.is_finished() {
                break None;
            }
            let now = Instant::now();
            let still = standstill.look(&shared.pulses[shard], now);
            if now >= gives_up && still >= STUCK_AFTER {
                break Some(still);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(1));
        };
        match still {
            // A shard's thread catches what the shard dies of.
            None => exits.extend(thread.join().ok()),
            Some(still_for) => {
                let in_turn_for = shared.in_turn_for(shard);
                let message = shared.running(shard);
                let behind = Stuck { shard: ShardIndex(shard as u16), still_for, in_turn_for, message };
                tracing::error!(shard, "{behind}");
                // What waits in front of it never runs, and nobody is to wait for the rest.
                shared.mailboxes[shard].close(&shared.replies);
                stuck.push(behind);
            }
        }
    }
    if !stuck.is_empty() {
        let unanswered = shared.replies.answer_all(unknown::<A>);
        tracing::warn!(unanswered, "asks were answered `Unknown`");
    }
    (exits, stuck)
}

/// Writes down where the logs end, if all is on disk: whatever is missing of them later is then
/// known to be.
fn end_logs<A: Actor>(shared: &Shared<A>, exits: &[ShardExit<A>], stuck: &[Stuck]) {
    let Some(logs) = &shared.logs else { return };
    write_ends(shared, logs, exits);
    // Handles may live on. So may a shard that was left behind, and it may still write.
    if stuck.is_empty() {
        logs.directory.unlock();
    }
}

fn write_ends<A: Actor>(shared: &Shared<A>, logs: &SharedLogs, exits: &[ShardExit<A>]) {
    let ends: Option<Vec<_>> = exits.iter().map(|exit| exit.log_end).collect();
    let Some(ends) =
        ends.filter(|ends| ends.len() == shared.mailboxes.len() && shared.phase() != Phase::Dead)
    else {
        return tracing::warn!(
            "the logs were not brought to an end: the next start recovers as from a crash"
        );
    };
    let cut = logs.durability.on_disk(shared.mvcc.epochs());
    let ended = logs.store(|manifest| {
        if let Some(run) = manifest.runs.last_mut() {
            run.end = Some(RunEnd { cut, logs: ends });
        }
    });
    if let Err(error @ LogError::Replaced { .. }) = &ended {
        shared.log_was_replaced(error);
    } else if let Err(error) = ended {
        tracing::warn!(%error, "the end of the logs could not be written: the next start recovers as from a crash");
    }
}
