//! Writes one shard's batches, one at a time, to the segments of its log, and sees to it that there
//! is a next segment before it is needed.
//!
//! A write that fails is not tried again: what of it is on disk nobody knows. The runtime goes down
//! with that error, and whoever waits is answered `Unknown`.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use freehold_shard::{Actor, Write};

use super::LocalShard;
use crate::disk::error::LogError;
use crate::disk::file::LogFile;
use crate::error::{Death, DeathCause};
use crate::log::SharedLogs;
use crate::log::leaving::{Stand, hand_over};
use crate::log::names::segment_name;
use crate::spawn::{LocalFuture, spawn_task};
use crate::stats::Phase;

/// How often a batch that has no room on its way to another log tries again.
const ROOM_EVERY: Duration = Duration::from_micros(200);

/// The next segment, being made.
type Next = Rc<RefCell<Option<Result<LogFile, LogError>>>>;

/// Opens the first segment of a log.
pub(crate) async fn first(logs: &SharedLogs, log: u64) -> Result<LogFile, LogError> {
    LogFile::open(&logs.directory, &segment_name(log, 0)).await
}

/// Writes what the shard gives, until it stops or a write fails.
pub(crate) async fn write<A: Actor>(here: Rc<LocalShard<A>>, logs: Arc<SharedLogs>, log: u64, file: LogFile) {
    let mut writing = Writing { here: here.clone(), logs, log, file, segment: 0, end: 0, next: None };
    loop {
        let handoff = &here.handoff;
        let write = poll_fn(|cx| handoff.borrow_mut().poll_take(cx));
        let Some(write) = write.await else { break };
        let (writes, started) = (&here.shared.published[here.index.index()].log_writes, here.shared.started);
        writes.begin(started.elapsed());
        let written = writing.write(&write).await;
        writes.end(started.elapsed());
        match written {
            Ok(()) => here.written(write.batch),
            Err(error) => {
                let cause = DeathCause::Log(error.to_string());
                here.shared.die(Death { shard: here.index, cause });
                break;
            }
        }
    }
    writing.end().await;
    here.handoff.borrow_mut().unman();
}

struct Writing<A: Actor> {
    here: Rc<LocalShard<A>>,
    logs: Arc<SharedLogs>,
    log: u64,
    file: LogFile,
    segment: u64,
    /// Where what was written of it ends.
    end: u64,
    next: Option<Next>,
}

impl<A: Actor> Writing<A> {
    async fn write(&mut self, write: &Write) -> Result<(), LogError> {
        if write.segment != self.segment {
            let next = self.next().await?;
            self.logs.count_written(self.file.bytes().saturating_sub(self.end));
            std::mem::replace(&mut self.file, next).close().await?;
            self.segment = write.segment;
        }
        let bytes = write.batch.sealed();
        self.logs.count_written(bytes.len() as u64);
        self.end = write.offset + bytes.len() as u64;
        self.hand_over(write).await;
        self.file.write(bytes, write.offset).await?;
        if self.next.is_none() && write.offset + bytes.len() as u64 > self.file.bytes() / 2 {
            self.prepare();
        }
        Ok(())
    }

    /// If epochs leave for another log, puts the batch on its way there. While there is no room for
    /// it the disk waits.
    async fn hand_over(&self, write: &Write) {
        let Some(sender) = &self.logs.config.leaving else { return };
        let shared = &self.here.shared;
        let stand = || {
            let handed = self.logs.durability.handed(shared.mvcc.epochs());
            Stand { handed, is_last: self.logs.durability.handed_by(self.here.index) <= handed }
        };
        let pause = || glommio::timer::sleep(ROOM_EVERY);
        let is_over = || shared.phase() >= Phase::Stopping;
        hand_over(sender, write.batch.sealed(), stand, pause, is_over, || {
            self.logs.durability.hand(self.here.index, write.closed);
            shared.tell_leaving(&self.logs, sender);
        })
        .await;
    }

    /// Closes what is open. An executor that ends does not: the files would stay open, and their
    /// file system busy, until the process ends.
    async fn end(mut self) {
        if self.next.is_some()
            && let Ok(next) = self.next().await
        {
            let _ = next.close().await;
        }
        // Of what was written nothing depends on it.
        let _ = self.file.close().await;
    }

    /// Begins to make the next segment, beside what is written.
    fn prepare(&mut self) {
        let next = Next::default();
        self.next = Some(next.clone());
        let (here, logs, log, segment) = (self.here.clone(), self.logs.clone(), self.log, self.segment + 1);
        here.segments_being_made.update(|segments| segments + 1);
        spawn_task(Box::pin(async move {
            let made = make(&logs, log, segment).await;
            *next.borrow_mut() = Some(made);
            here.segments_being_made.update(|segments| segments - 1);
        }));
    }

    /// The next segment, when it is there.
    async fn next(&mut self) -> Result<LogFile, LogError> {
        let Some(next) = self.next.take() else { return make(&self.logs, self.log, self.segment + 1).await };
        loop {
            if let Some(next) = next.take() {
                return next;
            }
            // The log has filled half a segment while the other was being made: it waits for the
            // disk anyway.
            glommio::timer::sleep(Duration::from_micros(200)).await;
        }
    }
}

/// Makes a segment: of one that is not needed, if there is one. A `dyn`, as what a file does is.
fn make(logs: &Arc<SharedLogs>, log: u64, segment: u64) -> LocalFuture<'_, Result<LogFile, LogError>> {
    Box::pin(async move {
        let name = segment_name(log, segment);
        let spare = match logs.take_spare() {
            Some(spare) => spare,
            // It gets its name when it has its full size: then a segment that is shorter is known
            // to be damaged.
            None => {
                let spare = logs.name_spare();
                let made = LogFile::create(&logs.directory, &spare, logs.config.segment_bytes as u64).await?;
                made.close().await?;
                spare
            }
        };
        let (shared, to) = (logs.clone(), name.clone());
        let renamed = glommio::executor().spawn_blocking(move || {
            // A segment of a log that no manifest names would take what is lost with it.
            shared.check()?;
            shared.directory.rename(&spare, &to)?;
            // Before anything is in it: its name is where recovery looks for it.
            shared.directory.sync()
        });
        renamed.await?;
        LogFile::open(&logs.directory, &name).await
    })
}
