//! Checkpoints: all objects and pending sends as of one epoch, written down while the runtime goes
//! on, so that logs before it are not needed.
//!
//! 1. A checkpoint is begun, as of the start of an epoch. When it is ready and everything before it
//!    is durable, every shard tells every other that it has told of all the pending sends it
//!    delivered before (*marks*), so that each knows which of its own are open.
//! 2. Each shard writes a part: its objects and its pending sends, by slices between turns.
//! 3. When all parts are on disk, they are [read back](crate::log::read_back): what the next start
//!    could not read is given up here.
//! 4. The manifest is replaced by one that names them, and the logs from where they are still
//!    needed: that is the switch. Only then segments and the checkpoint before are let go of.
//!
//! A crash before the switch leaves files that nobody names, and the next start removes them. A
//! checkpoint that fails is given up, and the runtime goes on with its logs.

use std::collections::HashSet;
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use freehold_shard::manifest::{CheckpointParts, LogBegin, Manifest, Part};
use freehold_shard::part::{PartEnd, PartError, PartWriter};
use freehold_shard::{Actor, Begun, Epoch, SendId, Time};

use crate::api::snapshot;
use crate::core::LocalShard;
use crate::core::command::Command;
use crate::core::shared::Shared;
use crate::core::slice::Slice;
use crate::disk::error::LogError;
use crate::disk::file::NewFile;
use crate::error::{CheckpointError, SnapshotError};
use crate::log::SharedLogs;
use crate::log::demands::Checkpoint;
use crate::log::names::{checkpoint_name, parse_segment_name};
use crate::log::read_back::read_back;
use crate::transport::each_shard::EachShard;

/// The most slots that are looked at between two turns; see [`Slice`] for how long it takes.
const SLOTS: usize = 512;
/// A walk that makes every effort visits so many times as many at once, for so many times as long.
const STRETCH: f64 = 8.0;
/// After each slice the shard works on messages for so many times as long, if the walk makes no
/// effort.
const REST: f64 = 8.0;
/// What is written at once.
const BATCH_BYTES: usize = 1 << 20;
/// How often it is looked whether there is enough log for a checkpoint.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// With more runs than this in its manifest, a start has a checkpoint made soon.
const RUNS_SOON: usize = 16;
/// With more runs than this in its manifest, a start has a checkpoint made before the runtime takes
/// messages: it was no use to have one made soon, because each life was shorter than that.
const RUNS_MAX: usize = 256;

/// Asks for a checkpoint, if the runs before have left so much that one comes before the messages
/// of this run. Otherwise a program that crashes again and again would read ever more at each
/// start.
pub(crate) fn demand_first(logs: &SharedLogs) -> Option<u64> {
    let comes_first =
        logs.growth.bytes() >= logs.config.checkpoint_bytes || logs.manifest().runs.len() > RUNS_MAX;
    comes_first.then(|| logs.checkpoints.demand())
}

/// The life of the thread that sees to checkpoints.
pub(crate) fn keep<A: Actor>(shared: &Arc<Shared<A>>, logs: &SharedLogs) {
    let mut last = Instant::now();
    let mut has_many_runs = logs.manifest().runs.len() > RUNS_SOON;
    loop {
        let Some((asked, is_asked)) = logs.checkpoints.wait_until_due(LOOK_EVERY) else { return };
        let has_log = logs.growth.bytes() > 0;
        let is_old = logs.config.checkpoint_age.is_some_and(|age| has_log && last.elapsed() >= age);
        if !is_asked && !is_old && !has_many_runs && !logs.growth.is_due() {
            continue;
        }
        has_many_runs = false;
        let made = make(shared, logs).map_err(Arc::new);
        if let Err(error) = &made
            && let CheckpointError::Log(replaced @ LogError::Replaced { .. }) = &**error
        {
            // What is acknowledged from now on would belong to nothing.
            shared.log_was_replaced(replaced);
        }
        last = Instant::now();
        match &made {
            Ok(made) => {
                tracing::info!(epoch = made.epoch.0, bytes = made.bytes, took = ?made.took, "a checkpoint")
            }
            Err(error) => {
                if logs.growth.gave_up() {
                    let bytes = logs.growth.bytes();
                    tracing::warn!(%error, bytes, "a checkpoint was given up; the logs stay");
                }
            }
        }
        // Messages may have waited for it.
        shared.tell_epochs();
        logs.checkpoints.answer(asked, made);
    }
}

/// What a shard has to say of its part: its end, from where on its log is needed, and the number of
/// the next number of a pending send.
type PartWritten = (PartEnd, Begun, u64);

fn make<A: Actor>(shared: &Arc<Shared<A>>, logs: &SharedLogs) -> Result<Checkpoint, CheckpointError> {
    let began = Instant::now();
    let shards = shared.mailboxes.len();
    let before = logs.growth.begin(shards);
    let snapshot = snapshot::open_for_checkpoint(shared).wait()?;
    let epoch = snapshot.epoch();
    let time = shared.time();
    // What another log never gets is to be told from what it has, so it stays out of checkpoints.
    if let Some(sender) = &logs.config.leaving {
        sender.wait_for(Epoch(epoch.0 - 1), || !logs.checkpoints.is_over())?;
    }
    let first = reserve(logs, shards)?;
    let given_up = |error| {
        (first..).take(shards).for_each(|log| drop(logs.directory.remove(&checkpoint_name(log))));
        Err(error)
    };
    let parts = match write_parts(shared, first, epoch) {
        Ok(parts) => parts,
        Err(error) => return given_up(error),
    };
    // All it saw is written.
    drop(snapshot);
    if let Err(error) = read_parts_back(logs, first, &parts) {
        return given_up(error);
    }
    let old = logs.manifest().clone();
    let (begins, bytes) = switch(logs, &old, first, &parts, epoch, time)?;
    // From here on nothing of the old is needed. What cannot be removed now is removed at the next
    // start.
    for part in old.checkpoint.iter().flat_map(|checkpoint| &checkpoint.parts) {
        let _ = logs.directory.remove(&checkpoint_name(part.log));
    }
    let made = Checkpoint { epoch, bytes, took: began.elapsed() };
    logs.growth.made(before, made);
    sweep(logs, &old, &begins, shards);
    Ok(made)
}

/// Takes numbers for the parts, and returns the first. They are taken before files get them: no
/// number is used twice, whatever becomes of the checkpoint.
fn reserve(logs: &SharedLogs, shards: usize) -> Result<u64, LogError> {
    let mut first = 0;
    logs.store(|manifest| {
        first = manifest.next_log;
        manifest.next_log += shards as u64;
    })?;
    Ok(first)
}

/// Has each shard write its part.
fn write_parts<A: Actor>(
    shared: &Shared<A>,
    first: u64,
    epoch: Epoch,
) -> Result<Vec<PartWritten>, CheckpointError> {
    let (each, reporters) = EachShard::new(shared.mailboxes.len());
    for ((mailbox, reporter), log) in shared.mailboxes.iter().zip(reporters).zip(first..) {
        let write = move |here: &Rc<LocalShard<A>>| {
            here.spawn_watched(Location::caller(), write_part(here.clone(), log, epoch), |result| {
                reporter.report(result)
            });
        };
        mailbox.command(Command::Call(Box::new(write)), &shared.replies);
    }
    each.wait().into_iter().map(|written| written.map_err(SnapshotError::of)?).collect()
}

/// Makes sure that the next start can read the parts.
fn read_parts_back(logs: &SharedLogs, first: u64, parts: &[PartWritten]) -> Result<(), CheckpointError> {
    for ((end, ..), log) in parts.iter().zip(first..) {
        let goes_on = || !logs.checkpoints.is_over();
        match read_back(&logs.directory, logs.part_id(log), logs.bounds(), *end, goes_on) {
            Ok(true) => {}
            Ok(false) => return Err(SnapshotError::Stopped.into()),
            Err(error) => return Err(CheckpointError::NotReadBack(error)),
        }
    }
    Ok(())
}

/// Replaces the manifest by one that names the parts. Returns from where on each log is still
/// needed, and how large the checkpoint is.
fn switch(
    logs: &SharedLogs,
    old: &Manifest,
    first: u64,
    parts: &[PartWritten],
    epoch: Epoch,
    time: Time,
) -> Result<(Vec<LogBegin>, u64), LogError> {
    let numbers = old.runs.last().map(|run| run.logs.clone()).unwrap_or_default();
    let begins: Vec<LogBegin> = numbers
        .iter()
        .zip(parts)
        .map(|(begin, (_, begun, _))| LogBegin { log: begin.log, segment: begun.segment, tail: begun.tail })
        .collect();
    let next_send = parts.iter().map(|(.., next_send)| *next_send).max().unwrap_or_default();
    let start = logs.part_id(first).start;
    let part =
        |(log, (end, ..)): (u64, &(PartEnd, _, _))| Part { log, start, end: end.tail, bytes: end.bytes };
    let parts: Vec<Part> = (first..).zip(parts).map(part).collect();
    let bytes = parts.iter().map(|part| part.bytes).sum();
    let written = CheckpointParts { epoch, time, next_send, parts };
    // If this fails, the manifest on disk may be the old or the new: the files of both stay. The
    // next start removes what it does not need.
    logs.store(|manifest| manifest.switch(written, begins.clone()))?;
    Ok((begins, bytes))
}

/// Lets go of the segments that the logs of the old manifest do not need any more.
fn sweep(logs: &SharedLogs, old: &Manifest, begins: &[LogBegin], shards: usize) {
    let needed = |log: u64| begins.iter().find(|begin| begin.log == log).map(|begin| begin.segment);
    let of_old: HashSet<u64> = old.runs.iter().flat_map(|run| &run.logs).map(|begin| begin.log).collect();
    for (name, bytes) in logs.directory.list().unwrap_or_default() {
        let Some((log, segment)) = parse_segment_name(&name) else { continue };
        if of_old.contains(&log) && needed(log).is_none_or(|first| segment < first) {
            // A crash while it was being made may have left one that is shorter, with nothing in
            // it.
            let is_whole = bytes == logs.config.segment_bytes as u64;
            let _ = if is_whole { logs.discard(&name, shards) } else { logs.directory.remove(&name) };
        }
    }
}

/// Writes one shard's part.
async fn write_part<A: Actor>(
    here: Rc<LocalShard<A>>,
    log: u64,
    epoch: Epoch,
) -> Result<PartWritten, CheckpointError> {
    let logs = here.shared.logs.clone().ok_or(CheckpointError::NoLog)?;
    here.with_core(|shard, effects| shard.send_marks(epoch, effects));
    let mut file = NewFile::create(&logs.directory, &checkpoint_name(log)).await?;
    let mut part = PartWriter::new(logs.part_id(log), logs.bounds(), BATCH_BYTES);
    let not_written = |error| match error {
        PartError::NotRecorded(error) => CheckpointError::NotRecorded { shard: here.index, error },
        PartError::Expired => SnapshotError::Expired.into(),
        _ => unreachable!("all kinds are above"),
    };
    let codec = here.with_core(|shard, _| shard.codec()).ok_or(CheckpointError::NoLog)?;
    let mut from = Some(0);
    let mut effort = effort(&here, &logs, epoch);
    while let Some(at) = from {
        let stretch = 1.0 + effort * (STRETCH - 1.0);
        let most = (SLOTS as f64 * stretch) as usize;
        let mut slice = Slice::stretched(stretch);
        let walked = here.with_core(|shard, _| {
            shard.checkpoint_objects(&codec, epoch, at, most, &mut part, || slice.goes_on())
        });
        from = walked.map_err(not_written)?;
        effort = end_slice(&here, &logs, epoch, slice, &mut file, &mut part).await?;
    }
    while !here.with_core(|shard, _| shard.has_marks(epoch)) {
        glommio::timer::sleep(Duration::from_micros(200)).await;
    }
    let mut from = Some(SendId(0));
    while let Some(at) = from {
        let mut slice = Slice::begin();
        let written =
            here.with_core(|shard, _| shard.checkpoint_sends(epoch, at, &mut part, || slice.goes_on()));
        from = written.map_err(not_written)?;
        end_slice(&here, &logs, epoch, slice, &mut file, &mut part).await?;
    }
    while let Some(batch) = part.last_batch() {
        file.append(batch).await?;
    }
    let bytes = file.finish().await?;
    let end = part.end();
    assert_eq!(bytes, end.bytes, "the file of a part is as long as its batches");
    let (begun, next_send) = here.with_core(|shard, _| (shard.trim_log(epoch), shard.next_send()));
    Ok((end, begun.ok_or(CheckpointError::NoLog)?, next_send))
}

/// Says how far a shard's part is, and hears how much effort it is to make.
fn effort<A: Actor>(here: &LocalShard<A>, logs: &SharedLogs, epoch: Epoch) -> f64 {
    let ((passed, slots), aside) =
        here.with_core(|shard, _| (shard.checkpoint_progress(epoch), shard.checkpoint_backlog()));
    let part = if slots == 0 { 1.0 } else { passed as f64 / slots as f64 };
    let aside_max = here.shared.config.limits.versions_max.max(1);
    logs.growth.passed(here.index.index(), part, aside as f64 / aside_max as f64)
}

/// Writes what is enough for a batch, and lets the messages that have come meanwhile go first, and
/// go on for some time. Returns how much effort the next slice is to make.
async fn end_slice<A: Actor>(
    here: &LocalShard<A>,
    logs: &SharedLogs,
    epoch: Epoch,
    slice: Slice,
    file: &mut NewFile,
    part: &mut PartWriter,
) -> Result<f64, LogError> {
    let took = slice.took();
    while let Some(batch) = part.next_batch() {
        file.append(batch).await?;
    }
    let effort = effort(here, logs, epoch);
    if effort >= 1.0 {
        // Messages may wait for it, on other shards too.
        here.shared.tell_epochs();
    }
    let pause = took.mul_f64(REST * (1.0 - effort));
    if pause.is_zero() {
        glommio::executor().yield_now().await;
    } else {
        glommio::timer::sleep(pause).await;
    }
    Ok(effort)
}
