//! An owner that hears of damage, and looks for itself.
//!
//! A reader that finds a gap, a fork or a change says so, and reads on for its patience. Nobody
//! believes it: the owner reads all of the stream and of its checkpoint itself. If it finds damage
//! too, it makes a checkpoint of its own log, which has everything, and the stream is trimmed below
//! it. The reader then finds its place trimmed, takes the checkpoint and goes on.

use std::time::{Duration, Instant};

use async_nats::Subscriber;
use futures_util::StreamExt;
use tokio::task::JoinHandle;

use super::checkpointing::Checkpointing;
use crate::appender::Appender;
use crate::config::Repair;
use crate::error::ReplicaError;
use crate::stream::EntryStream;
use crate::verify::{Verified, scan};

/// The least time between two looks. Between two is as long as the first took, too.
const LOOKS_APART: Duration = Duration::from_secs(1);

/// What an owner hears of its stream.
pub(super) struct Repairing {
    reports: Option<Subscriber>,
    /// It reads the stream, since then.
    scan: Option<(JoinHandle<Result<Verified, ReplicaError>>, Instant)>,
    not_before: Instant,
}

/// What has come of it.
pub(super) enum Found {
    /// A reader says that something is damaged.
    Report(String),
    /// It is.
    Damage(ReplicaError),
    /// All of it is as it was written.
    Whole,
    /// The stream could not be read.
    Nothing,
}

impl Repairing {
    /// Hears what readers say, if it is to repair something by itself.
    pub(super) async fn new(stream: &EntryStream, repair: Repair) -> Self {
        let reports = if repair == Repair::ByHand { None } else { stream.hear_of_damage().await };
        Repairing { reports, scan: None, not_before: Instant::now() }
    }

    /// Begins to read the stream up to message `until`, if it has not just done so.
    fn look(&mut self, stream: &EntryStream, until: u64) {
        if self.scan.is_none() && Instant::now() >= self.not_before {
            let stream = stream.clone();
            let scan = tokio::spawn(async move { scan(&stream, until).await });
            self.scan = Some((scan, Instant::now()));
        }
    }

    /// Takes note of what was heard or found.
    pub(super) fn take_note(
        &mut self,
        found: Found,
        stream: &EntryStream,
        appender: &mut Appender,
        checkpointing: &mut Checkpointing,
    ) {
        match found {
            Found::Report(why) => {
                tracing::debug!(why, "a reader has found damage");
                if !checkpointing.is_repairing() {
                    self.look(stream, appender.next_sequence() - 1);
                }
            }
            Found::Damage(error) => {
                tracing::warn!(%error, "the stream is damaged: a checkpoint of this node's log repairs it");
                checkpointing.repair();
            }
            // What the reader has found may be behind all that this owner has appended.
            Found::Whole if appender.is_quiet() => appender.still(),
            Found::Whole | Found::Nothing => {}
        }
    }

    /// Waits until something is heard, or was found. It may be given up.
    pub(super) async fn wait(&mut self) -> Found {
        if let Some((scan, begun)) = &mut self.scan {
            let found = scan.await;
            self.not_before = Instant::now() + begun.elapsed().max(LOOKS_APART);
            self.scan = None;
            return match found {
                Ok(Ok(_)) => Found::Whole,
                // The entry that named the checkpoint is not there.
                Ok(Err(error @ ReplicaError::Trimmed { .. })) => Found::Damage(error),
                Ok(Err(error)) if error.is_damage() => Found::Damage(error),
                _ => Found::Nothing,
            };
        }
        match &mut self.reports {
            Some(reports) => match reports.next().await {
                Some(report) => Found::Report(String::from_utf8_lossy(&report.payload).into_owned()),
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }
}

impl Drop for Repairing {
    fn drop(&mut self) {
        if let Some((scan, _)) = &self.scan {
            scan.abort();
        }
    }
}
