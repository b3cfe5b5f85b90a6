//! Checkpoints: all objects and debts as of one epoch, written down while the runtime goes on, so that logs before it are not needed.
//!
//! 1. A snapshot is opened. When it is ready and everything before it is durable, every shard tells every other that it has told of all the
//!    debts it paid before (*marks*), so that each knows which of its own are open.
//! 2. Each shard writes a part: its objects and its debts, by slices between turns.
//! 3. When all parts are on disk, they are [read back](super::read_back): what the next start could not read is given up here.
//! 4. The manifest is replaced by one that names them, and the logs from where they are still needed: that is the switch. Only then
//!    segments and the checkpoint before are let go of.
//!
//! A crash before the switch leaves files that nobody names, and the next start removes them. A checkpoint that fails is given up, and the
//! runtime goes on with its logs.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use freehold_shard::manifest::{Checkpoint as Written, LogBegin, Part};
use freehold_shard::part::{PartEnd, PartWriter};
use freehold_shard::{Actor, Begun, Debt, Epoch};

use super::read_back::read_back;
use super::{Logs, checkpoint_name, segment_name};
use crate::disk::error::LogError;
use crate::disk::file::NewFile;
use crate::each_shard::EachShard;
use crate::error::{CheckpointError, SnapshotError};
use crate::executor::LocalShard;
use crate::runtime::Shared;
use crate::slice::Slice;
use crate::snapshot;

/// The most slots that are looked at between two turns; see [`Slice`] for how long it takes.
const SLOTS: usize = 512;
/// After each slice the shard works on messages for so many times as long.
const REST: u32 = 8;
/// What is written at once.
const BATCH_BYTES: usize = 1 << 20;
/// How often it is looked whether there is enough log for a checkpoint.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A checkpoint that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checkpoint {
    /// It contains everything that was committed before this epoch.
    pub epoch: Epoch,
    /// How large it is.
    pub bytes: u64,
    /// How long it took.
    pub took: Duration,
}

/// Whoever wants a checkpoint asks here.
pub(crate) struct Demands {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    asked: u64,
    is_over: bool,
    done: u64,
    last: Option<Result<Checkpoint, Arc<CheckpointError>>>,
}

impl Demands {
    pub(crate) fn new() -> Self {
        Demands { state: Mutex::default(), changed: Condvar::new() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there are to be no more checkpoints.
    fn is_over(&self) -> bool {
        self.lock().is_over
    }

    /// The runtime stops: no more checkpoints.
    pub(crate) fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }

    /// Waits for a checkpoint that begins from now on.
    pub(crate) fn ask(&self) -> Result<Checkpoint, Arc<CheckpointError>> {
        let mut state = self.lock();
        state.asked += 1;
        let mine = state.asked;
        self.changed.notify_all();
        while state.done < mine && !state.is_over {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        match &state.last {
            Some(last) if state.done >= mine => last.clone(),
            _ => Err(Arc::new(SnapshotError::Stopped.into())),
        }
    }
}

/// The life of the thread that sees to checkpoints.
pub(crate) fn keep<A: Actor>(shared: &Arc<Shared<A>>, logs: &Logs) {
    let mut last = Instant::now();
    loop {
        let asked = {
            let state = logs.checkpoints.lock();
            let (state, _) = logs
                .checkpoints
                .changed
                .wait_timeout_while(state, LOOK_EVERY, |state| !state.is_over && state.asked == state.done)
                .unwrap_or_else(PoisonError::into_inner);
            if state.is_over {
                return;
            }
            state.asked
        };
        let bytes = logs.since_checkpoint.load(Ordering::Relaxed);
        let is_asked = asked > logs.checkpoints.lock().done;
        let is_old = logs.config.checkpoint_age.is_some_and(|age| bytes > 0 && last.elapsed() >= age);
        if !is_asked && !is_old && bytes < logs.config.checkpoint_bytes {
            continue;
        }
        let made = make(shared, logs).map_err(Arc::new);
        last = Instant::now();
        match &made {
            Ok(made) => {
                tracing::info!(epoch = made.epoch.0, bytes = made.bytes, took = ?made.took, "a checkpoint")
            }
            Err(error) => {
                tracing::warn!(%error, "a checkpoint was given up; the logs stay");
                // Not again at once, if it is not asked for.
                logs.since_checkpoint.fetch_sub(bytes / 2, Ordering::Relaxed);
            }
        }
        let mut state = logs.checkpoints.lock();
        state.done = asked;
        state.last = Some(made);
        logs.checkpoints.changed.notify_all();
    }
}

/// What a shard has to say of its part.
type Wrote = Result<(PartEnd, Begun, u64), CheckpointError>;

fn make<A: Actor>(shared: &Arc<Shared<A>>, logs: &Logs) -> Result<Checkpoint, CheckpointError> {
    let began = Instant::now();
    let before = logs.since_checkpoint.load(Ordering::Relaxed);
    let shards = shared.mailboxes.len();
    let snapshot = snapshot::open_durable(shared).wait()?;
    let epoch = snapshot.epoch();
    let time = shared.time();
    // The numbers are taken before files get them: no number is used twice, whatever becomes of this.
    let mut first = 0;
    logs.store(|manifest| {
        first = manifest.next_log;
        manifest.next_log += shards as u64;
    })?;
    let (each, reporters) = EachShard::new(shards);
    for ((mailbox, reporter), log) in shared.mailboxes.iter().zip(reporters).zip(first..) {
        let write = move |local: &crate::local::Local<A>| {
            let here = local.shard_itself();
            local.spawn_watched(write_part(here, log, epoch), |result| reporter.report(result));
        };
        mailbox.command(Box::new(write), &shared.replies);
    }
    let wrote: Vec<Wrote> = each.wait().into_iter().map(|wrote| wrote.map_err(SnapshotError::of)?).collect();
    let given_up = |error| {
        (first..).take(shards).for_each(|log| drop(logs.directory.remove(&checkpoint_name(log))));
        Err(error)
    };
    let wrote: Vec<_> = match wrote.into_iter().collect::<Result<_, _>>() {
        Ok(wrote) => wrote,
        Err(error) => return given_up(error),
    };
    // Debts, unlike objects, do not say so by themselves if what the snapshot saw of them is gone.
    if !shared.mvcc.epochs().is_open(epoch) {
        return given_up(SnapshotError::Expired.into());
    }
    // All it saw is written.
    drop(snapshot);
    for ((end, ..), log) in wrote.iter().zip(first..) {
        let goes_on = || !logs.checkpoints.is_over();
        match read_back(&logs.directory, logs.part_id(log), logs.bounds(), *end, goes_on) {
            Ok(true) => {}
            Ok(false) => return given_up(SnapshotError::Stopped.into()),
            Err(error) => return given_up(CheckpointError::NotReadBack(error)),
        }
    }
    let old = logs.manifest().clone();
    let numbers = old.runs.last().map(|run| run.logs.clone()).unwrap_or_default();
    let begins: Vec<LogBegin> = numbers
        .iter()
        .zip(&wrote)
        .map(|(begin, (_, begun, _))| LogBegin { log: begin.log, segment: begun.segment, tail: begun.tail })
        .collect();
    let next_debt = wrote.iter().map(|(.., next_debt)| *next_debt).max().unwrap_or_default();
    let start = logs.part_id(first).start;
    let part =
        |(log, (end, ..)): (u64, &(PartEnd, _, _))| Part { log, start, end: end.tail, bytes: end.bytes };
    let parts: Vec<Part> = (first..).zip(&wrote).map(part).collect();
    let bytes = parts.iter().map(|part| part.bytes).sum();
    let written = Written { epoch, time, next_debt, parts };
    // If this fails, the manifest on disk may be the old or the new: the files of both stay. The next start removes what it does not need.
    logs.store(|manifest| manifest.switch(written, begins.clone()))?;
    logs.since_checkpoint.fetch_sub(before, Ordering::Relaxed);
    // From here on nothing of the old is needed. What cannot be removed now is removed at the next start.
    for part in old.checkpoint.iter().flat_map(|checkpoint| &checkpoint.parts) {
        let _ = logs.directory.remove(&checkpoint_name(part.log));
    }
    let needed = |log: u64| begins.iter().find(|begin| begin.log == log).map(|begin| begin.segment);
    for begin in old.runs.iter().flat_map(|run| &run.logs) {
        for (name, bytes) in logs.directory.list().unwrap_or_default() {
            if let Some((log, segment)) = super::parse_segment_name(&name)
                && log == begin.log
                && needed(log).is_none_or(|first| segment < first)
            {
                // A crash while it was being made may have left one that is shorter, with nothing in it.
                let is_whole = bytes == logs.config.segment_bytes as u64;
                let name = segment_name(log, segment);
                let _ = if is_whole { logs.discard(&name, shards) } else { logs.directory.remove(&name) };
            }
        }
    }
    Ok(Checkpoint { epoch, bytes, took: began.elapsed() })
}

/// Writes one shard's part.
async fn write_part<A: Actor>(here: Rc<LocalShard<A>>, log: u64, epoch: Epoch) -> Wrote {
    let logs = here.shared.logs.clone().ok_or(CheckpointError::NoLog)?;
    here.with_core(|shard, effects| shard.send_marks(epoch, effects));
    let mut file = NewFile::create(&logs.directory, &checkpoint_name(log)).await?;
    let mut part = PartWriter::new(logs.part_id(log), logs.bounds(), BATCH_BYTES);
    let mut from = Some(0);
    while let Some(at) = from {
        let mut slice = Slice::begin();
        from = here.with_core(|shard, _| {
            shard.checkpoint_objects(epoch, at, SLOTS, &mut part, || slice.goes_on())
        })?;
        end_slice(slice, &mut file, &mut part).await?;
    }
    while !here.with_core(|shard, _| shard.has_marks(epoch)) {
        glommio::timer::sleep(Duration::from_micros(200)).await;
    }
    let mut from = Some(Debt(0));
    while let Some(at) = from {
        let mut slice = Slice::begin();
        from = here.with_core(|shard, _| shard.checkpoint_debts(epoch, at, &mut part, || slice.goes_on()))?;
        end_slice(slice, &mut file, &mut part).await?;
    }
    while let Some(batch) = part.last_batch() {
        file.append(batch).await?;
    }
    let bytes = file.finish().await?;
    let end = part.end();
    assert_eq!(bytes, end.bytes, "the file of a part is as long as its batches");
    let (begun, next_debt) = here.with_core(|shard, _| (shard.trim_log(epoch), shard.next_debt()));
    Ok((end, begun.ok_or(CheckpointError::NoLog)?, next_debt))
}

/// Writes what is enough for a batch, and lets the messages that have come meanwhile go first, and go on for some time.
async fn end_slice(slice: Slice, file: &mut NewFile, part: &mut PartWriter) -> Result<(), LogError> {
    let took = slice.took();
    while let Some(batch) = part.next_batch() {
        file.append(batch).await?;
    }
    glommio::timer::sleep(took * REST).await;
    Ok(())
}
