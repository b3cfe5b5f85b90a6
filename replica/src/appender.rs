//! Brings the owner's epochs to the stream. What is sent, and what of it counts, `freehold_shard`'s
//! `appends` decides; here it is sent and read.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use freehold::{Distribution, Epoch, EpochBatch, EpochReceiver, WrittenSchema};
use freehold_shard::log::appends::{Appended, Appends, NotOurs};
use freehold_shard::log::chain::{Chain, ChainPlace, NamedCheckpoint};
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::time::sleep_until;

use crate::error::ReplicaError;
use crate::stream::{Appending, EntryStream, PAUSE};

/// Waits between looks at a stream that does not answer, at most.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// So often in a row the stream may have less than it acknowledged before that is believed: some 25
/// seconds. A leader that was cut off may not know yet that it is none; NATS takes ten seconds to
/// notice. With 10 looks, seven seconds, an owner gave up when nothing was lost.
const LOST_MAX: u32 = 30;

/// The owner's side of a stream.
pub(crate) struct Appender {
    stream: EntryStream,
    appends: Appends,
    /// What is on its way, and since when, the oldest first.
    under_way: FuturesOrdered<Appending>,
    since: VecDeque<Instant>,
    /// What was acknowledged last.
    acknowledged: Epoch,
    latency: Latency,
    /// Bytes of entries that were acknowledged.
    appended_bytes: u64,
    /// When the stream is to be looked at, if it is.
    looks_at: Instant,
    pause: Duration,
    /// How often in a row the stream had less than it had acknowledged.
    lost: u32,
}

/// What there is to be done.
pub(crate) enum Came {
    /// Something has come of the oldest that was under way.
    Appended(Appended),
    /// The stream is to be looked at.
    Look,
}

/// How long appends took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Latency {
    /// Entries that were acknowledged.
    pub appends: u64,
    /// How long they took together.
    pub total: Duration,
    /// How many took how long.
    pub times: Distribution,
    /// How long the last took.
    pub last: Duration,
    /// How often the stream had to be looked at, because an append was not acknowledged.
    pub looks: u64,
}

impl Appender {
    /// Goes on with the chain behind message `last` of the stream.
    pub(crate) fn new(stream: EntryStream, chain: Chain, last: u64) -> Self {
        let acknowledged = chain.place().epoch;
        Appender {
            stream,
            appends: Appends::new(chain, last),
            under_way: FuturesOrdered::new(),
            since: VecDeque::new(),
            acknowledged,
            latency: Latency::default(),
            appended_bytes: 0,
            looks_at: Instant::now(),
            pause: PAUSE,
            lost: 0,
        }
    }

    pub(crate) fn chain(&self) -> &Chain {
        self.appends.chain()
    }

    /// The message that comes next, when nothing is under way.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.appends.last() + 1
    }

    pub(crate) fn acknowledged(&self) -> Epoch {
        self.acknowledged
    }

    pub(crate) fn latency(&self) -> Latency {
        self.latency
    }

    /// How many bytes were appended.
    pub(crate) fn appended_bytes(&self) -> u64 {
        self.appended_bytes
    }

    /// How many bytes are under way, or are to be sent.
    pub(crate) fn bytes_under_way(&self) -> usize {
        self.appends.bytes()
    }

    /// Whether nothing is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.appends.is_empty()
    }

    /// Sends what is complete, as long as not all is under way that may be.
    pub(crate) async fn send(&mut self, receiver: &mut EpochReceiver) {
        let most = self.stream.entry_bytes_max;
        self.send_next().await;
        while self.appends.has_room()
            && let Some(batch) = receiver.try_next(most)
        {
            self.appends.append(batch.epoch, batch.time, &batch.records, most);
            self.send_next().await;
        }
    }

    /// Sends what was put down, as long as not all is under way that may be.
    pub(crate) async fn send_next(&mut self) {
        while let Some((entries, behind)) = self.appends.next_to_send() {
            let appending = self.stream.append(&entries, behind).await;
            self.under_way.push_back(appending);
            self.since.push_back(Instant::now());
        }
    }

    /// Sends a batch that did not come from a runtime.
    pub(crate) fn put_batch(&mut self, batch: &EpochBatch) {
        self.appends.append(batch.epoch, batch.time, &batch.records, self.stream.entry_bytes_max);
    }

    /// Puts down the entry by which `node` takes the database over.
    pub(crate) fn take_over(&mut self, node: &str, schema: WrittenSchema, seen: Epoch) {
        self.appends.take_over(node, schema, seen);
    }

    /// The place behind the takeover of a founding: see [`Appends::founded`].
    pub(crate) fn founded(&self, node: &str, schema: WrittenSchema, seen: Epoch) -> ChainPlace {
        self.appends.founded(node, schema, seen)
    }

    /// Puts down a takeover behind a checkpoint of all: see [`Appends::found`].
    pub(crate) fn found(&mut self, node: &str, schema: WrittenSchema, seen: Epoch, named: NamedCheckpoint) {
        self.appends.found(node, schema, seen, named);
    }

    /// Goes on in the term that this node has had: see [`Appends::resume`].
    pub(crate) fn resume(&mut self) {
        self.appends.resume();
    }

    /// Puts down an entry that says nothing: it counts if the database is this owner's still.
    pub(crate) fn still(&mut self) {
        self.appends.still();
    }

    /// Puts down the entry by which the owner gives the database up.
    pub(crate) fn resign(&mut self) {
        self.appends.resign();
    }

    /// Puts down the entry that names a checkpoint.
    pub(crate) fn name_checkpoint(&mut self, named: NamedCheckpoint) {
        self.appends.name_checkpoint(named);
    }

    /// The message below which the stream may be trimmed, once: the checkpoint is named for ever.
    pub(crate) fn trims_below(&mut self) -> Option<u64> {
        self.appends.trims_below()
    }

    /// Waits for something to do: what comes of the oldest under way, or that it is time to look at
    /// the stream. It waits for ever if there is nothing, and may be given up.
    pub(crate) async fn wait(&mut self) -> Came {
        if self.appends.must_look() {
            sleep_until(self.looks_at.into()).await;
            return Came::Look;
        }
        match self.under_way.next().await {
            Some(appended) => Came::Appended(appended),
            None => std::future::pending().await,
        }
    }

    /// Does it, and sends what comes next. Returns the epoch that may be answered now, if that is
    /// more than before.
    ///
    /// # Errors
    /// The database is not this node's any more: [`ReplicaError::Fenced`], or something else was
    /// appended, or the stream has lost something. Nothing more is to be answered.
    pub(crate) async fn go_on(&mut self, came: Came) -> Result<Option<Epoch>, ReplicaError> {
        let counts = match came {
            Came::Look => {
                self.look().await?;
                None
            }
            Came::Appended(appended) => {
                let since = self.since.pop_front();
                if appended == Appended::Done {
                    self.appended_bytes += self.appends.bytes_of_first() as u64;
                    let took = since.map_or(Duration::ZERO, |since| since.elapsed());
                    self.latency.appends += 1;
                    self.latency.total += took;
                    self.latency.times.note(took);
                    self.latency.last = took;
                } else {
                    tracing::debug!(?appended, "an append was not acknowledged: the stream is looked at");
                    (self.looks_at, self.pause) = (Instant::now(), PAUSE);
                    // What was sent after it counts no more than this one: the look finds it.
                    self.under_way = FuturesOrdered::new();
                    self.since.clear();
                }
                self.appends.came(appended)
            }
        };
        self.acknowledged = self.acknowledged.max(counts.unwrap_or_default());
        self.send_next().await;
        Ok(counts)
    }

    /// Finds out what of the entries is in the stream. If it does not answer it is looked at later.
    async fn look(&mut self) -> Result<(), ReplicaError> {
        self.latency.looks += 1;
        match self.settle().await {
            Ok(()) => {
                self.lost = 0;
                Ok(())
            }
            Err(error) if error.is_passing() || error.is_short() => {
                self.lost = if error.is_passing() { 0 } else { self.lost + 1 };
                if self.lost > LOST_MAX {
                    return Err(error);
                }
                tracing::debug!(%error, "the stream does not answer");
                self.looks_at = Instant::now() + self.pause;
                self.pause = (self.pause * 2).min(PAUSE_MAX);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn settle(&mut self) -> Result<(), ReplicaError> {
        let ends = self.stream.ends().await?;
        self.appends.look(ends.last).map_err(not_ours)?;
        while let Some(sequence) = self.appends.unread() {
            let there = match self.stream.get(sequence).await? {
                // Only another owner has let go of what this one had not read.
                None if sequence < ends.first => self.stream.get(ends.first).await?,
                there => there,
            };
            let there = there.ok_or(ReplicaError::Missing { sequence })?;
            self.appends.read(&there).map_err(not_ours)?;
        }
        Ok(())
    }
}

/// What that means for a node.
pub(crate) fn not_ours(why: NotOurs) -> ReplicaError {
    match why {
        NotOurs::Fenced { owner, term } => ReplicaError::Fenced { owner, term },
        NotOurs::Lost { last, seen } => ReplicaError::Lost { last, seen },
        NotOurs::Foreign { sequence } => ReplicaError::Foreign { sequence },
        other => ReplicaError::servers("reading the stream", other),
    }
}
