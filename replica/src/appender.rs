//! Brings the owner's epochs to the stream, several at once and in order, and says which are there.
//!
//! An entry counts when the stream has acknowledged it. When that does not happen the appender stops
//! sending, and looks at the stream: an entry of its own that is there is not sent again, and counts
//! once an append behind it was acknowledged, because that proves that the database was still this
//! node's. Anything else that is there means that it is not.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use freehold::{Epoch, EpochBatch, EpochReceiver, WrittenSchema};
use freehold_shard::log::chain::{Body, Chain, read_entry};
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::time::sleep_until;

use crate::error::ReplicaError;
use crate::stream::{Appended, Appending, EntryStream, PAUSE};

/// Waits between looks at a stream that does not answer, at most.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// So often in a row the stream may have less than it acknowledged before that is believed.
const LOST_MAX: u32 = 10;

/// An entry that was sent, or is to be.
struct Sent {
    entry: Vec<u8>,
    /// What may be answered when it is there, and all before it.
    epoch: Option<Epoch>,
    since: Instant,
}

/// The owner's side of a stream.
pub(crate) struct Appender {
    stream: EntryStream,
    chain: Chain,
    /// The last message of the stream that is known to be ours, or that we took over behind.
    last: u64,
    /// What stands behind it, or is to: the oldest first.
    sent: VecDeque<Sent>,
    acknowledgements: FuturesOrdered<Appending>,
    in_flight_max: usize,
    /// What is in the stream, and is answered when an append behind it was acknowledged.
    found: Option<Epoch>,
    /// What was acknowledged last.
    acknowledged: Epoch,
    latency: Latency,
    /// When the stream is to be looked at; `None` if all that was sent is on its way.
    looks_at: Option<Instant>,
    pause: Duration,
    /// How often in a row the stream had less than it had acknowledged.
    lost: u32,
}

/// What there is to be done.
pub(crate) enum Came {
    /// Something has come of an entry.
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
    /// How long the last took.
    pub last: Duration,
    /// How often the stream had to be looked at, because an append was not acknowledged.
    pub looks: u64,
}

impl Appender {
    /// Goes on with the chain behind message `last` of the stream.
    pub(crate) fn new(stream: EntryStream, chain: Chain, last: u64, in_flight_max: usize) -> Self {
        let acknowledged = chain.place().epoch;
        Appender {
            stream,
            chain,
            last,
            sent: VecDeque::new(),
            acknowledgements: FuturesOrdered::new(),
            in_flight_max,
            found: None,
            acknowledged,
            latency: Latency::default(),
            looks_at: None,
            pause: PAUSE,
            lost: 0,
        }
    }

    pub(crate) fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The message that comes next, when nothing is under way.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.last + 1
    }

    pub(crate) fn acknowledged(&self) -> Epoch {
        self.acknowledged
    }

    pub(crate) fn latency(&self) -> Latency {
        self.latency
    }

    /// How many bytes are under way.
    pub(crate) fn bytes_under_way(&self) -> usize {
        self.sent.iter().map(|sent| sent.entry.len()).sum()
    }

    /// Whether nothing is under way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.sent.is_empty() && self.found.is_none()
    }

    /// Sends what is complete, as far as there is room for it.
    pub(crate) async fn send(&mut self, receiver: &mut EpochReceiver) {
        while self.sent.len() < self.in_flight_max && self.looks_at.is_none() {
            let Some(batch) = receiver.try_next(self.stream.entry_bytes_max) else { return };
            let (epoch, most) = (batch.epoch, self.stream.entry_bytes_max);
            let entries = self.chain.append(epoch, batch.time, &batch.records, most);
            let last = entries.len() - 1;
            for (part, entry) in entries.into_iter().enumerate() {
                self.put(entry, (part == last).then_some(epoch)).await;
            }
        }
    }

    /// Sends a batch that did not come from a runtime.
    pub(crate) async fn send_batch(&mut self, batch: &EpochBatch) {
        let entries = self.chain.append(batch.epoch, batch.time, &batch.records, self.stream.entry_bytes_max);
        for entry in entries {
            self.put(entry, None).await;
        }
    }

    /// Sends the entry by which `node` takes the database over.
    pub(crate) async fn take_over(&mut self, node: &str, schema: WrittenSchema, seen: Epoch) {
        let entry = self.chain.take_over(node, schema, seen);
        self.put(entry, None).await;
    }

    /// Sends the entry that lets go of a batch without an end.
    pub(crate) async fn still(&mut self) {
        let entry = self.chain.still();
        self.put(entry, None).await;
    }

    /// Sends the entry by which the owner gives the database up.
    pub(crate) async fn resign(&mut self) {
        let entry = self.chain.resign();
        self.put(entry, None).await;
    }

    /// Sends an entry that the chain has gone on by; later, if the stream is to be looked at first.
    async fn put(&mut self, entry: Vec<u8>, epoch: Option<Epoch>) {
        if self.looks_at.is_none() {
            let behind = self.last + self.sent.len() as u64;
            self.acknowledgements.push_back(self.stream.append(entry.clone(), behind).await);
        }
        self.sent.push_back(Sent { entry, epoch, since: Instant::now() });
    }

    /// Waits for something to do: what comes of the oldest entry under way, or that it is time to
    /// look at the stream. It waits for ever if there is nothing, and may be given up.
    pub(crate) async fn wait(&mut self) -> Came {
        match self.looks_at {
            Some(at) => {
                sleep_until(at.into()).await;
                Came::Look
            }
            None => match self.acknowledgements.next().await {
                Some(appended) => Came::Appended(appended),
                None => std::future::pending().await,
            },
        }
    }

    /// Does it. Returns the epoch that may be answered now, if that is more than before.
    ///
    /// # Errors
    /// The database is not this node's any more: [`ReplicaError::Fenced`], or something else was
    /// appended, or the stream has lost something. Nothing more is to be answered.
    pub(crate) async fn go_on(&mut self, came: Came) -> Result<Option<Epoch>, ReplicaError> {
        match came {
            Came::Look => {
                self.look().await?;
                return Ok(None);
            }
            Came::Appended(Appended::Done) => {}
            Came::Appended(appended) => {
                tracing::debug!(?appended, "an append was not acknowledged: the stream is looked at");
                // What is dropped here may still arrive. Then it stands just where it was to stand.
                self.acknowledgements = FuturesOrdered::new();
                (self.looks_at, self.pause) = (Some(Instant::now()), PAUSE);
                return Ok(None);
            }
        }
        let sent = self.sent.pop_front().expect("an acknowledgement is of something that was sent");
        self.last += 1;
        let took = sent.since.elapsed();
        self.latency.appends += 1;
        self.latency.total += took;
        self.latency.last = took;
        let epoch = self.found.take().max(sent.epoch);
        self.acknowledged = self.acknowledged.max(epoch.unwrap_or_default());
        Ok(epoch)
    }

    /// Finds out what of the entries under way is in the stream, and sends the rest again. If the
    /// stream does not answer it is looked at later.
    async fn look(&mut self) -> Result<(), ReplicaError> {
        self.latency.looks += 1;
        match self.settle().await {
            Ok(()) => self.looks_at = None,
            // A leader that was cut off may not know yet that it is none.
            Err(error) if error.is_passing() || matches!(error, ReplicaError::Lost { .. }) => {
                self.lost = if error.is_passing() { 0 } else { self.lost + 1 };
                if self.lost > LOST_MAX {
                    return Err(error);
                }
                tracing::debug!(%error, "the stream does not answer");
                self.looks_at = Some(Instant::now() + self.pause);
                self.pause = (self.pause * 2).min(PAUSE_MAX);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        self.lost = 0;
        if self.sent.is_empty() && self.found.is_some() {
            self.still().await;
            return Ok(());
        }
        for again in 0..self.sent.len() {
            let behind = self.last + again as u64;
            let entry = self.sent[again].entry.clone();
            self.acknowledgements.push_back(self.stream.append(entry, behind).await);
        }
        Ok(())
    }

    /// Takes from those under way what is in the stream.
    async fn settle(&mut self) -> Result<(), ReplicaError> {
        let ends = self.stream.ends().await?;
        if ends.last < self.last {
            return Err(ReplicaError::Lost { last: ends.last, seen: self.last });
        }
        while self.last < ends.last {
            let sequence = self.last + 1;
            let Some(there) = self.stream.get(sequence).await? else {
                return Err(ReplicaError::Missing { sequence });
            };
            if self.sent.front().is_none_or(|sent| sent.entry != there) {
                return Err(whose(sequence, &there));
            }
            let ours = self.sent.pop_front().expect("it was just looked at");
            self.found = self.found.max(ours.epoch);
            self.last = sequence;
        }
        Ok(())
    }
}

/// What it means that this stands where an entry of ours was to stand.
pub(crate) fn whose(sequence: u64, entry: &[u8]) -> ReplicaError {
    match read_entry(entry) {
        Ok((head, _)) => match head.body {
            Body::Takeover { node, .. } => ReplicaError::Fenced { owner: node, term: head.term },
            _ => ReplicaError::Fenced { owner: "another node".into(), term: head.term },
        },
        Err(_) => ReplicaError::Foreign { sequence },
    }
}
