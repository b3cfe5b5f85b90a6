//! Reads all of a database's stream, and says what there is and what is wrong with it.

use std::fmt;

use freehold::Epoch;
use freehold_shard::log::chain::{Chain, ChainError, ChainPlace, Followed, hash_entry, read_entry};

use crate::checkpoint_store;
use crate::config::ReplicaConfig;
use crate::error::ReplicaError;
use crate::stream::{Ends, EntryStream, Named};

/// How many messages are read at once.
const READ_MAX: usize = 64;
/// How often it begins anew because the stream was trimmed meanwhile.
const TRIES_MAX: usize = 8;

/// What [`verify`] found in a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// The number of the database.
    pub database: u64,
    /// The first message of the stream; a later one than 1 if it was trimmed.
    pub first: u64,
    /// The checkpoint that the stream names: the bucket that has it, and its length in bytes. All
    /// of it was read, and is what was named.
    pub checkpoint: Option<(String, u64)>,
    /// How many entries it has.
    pub entries: u64,
    /// Bytes of all entries.
    pub bytes: u64,
    /// How many batches are whole, and how many records these have.
    pub batches: u64,
    /// Records of all batches.
    pub records: u64,
    /// How often it was taken over.
    pub term: u64,
    /// Whose it is; `None` if its owner has resigned.
    pub owner: Option<String>,
    /// The last complete epoch.
    pub epoch: Epoch,
}

impl fmt::Display for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verified { database, first, entries, bytes, batches, records, term, epoch, .. } = self;
        writeln!(f, "database {database:#x}, term {term}, up to {epoch}")?;
        match &self.owner {
            Some(owner) => writeln!(f, "owned by {owner}")?,
            None => writeln!(f, "its owner has given it up")?,
        }
        match &self.checkpoint {
            Some((object, bytes)) => writeln!(f, "checkpoint {object}: {bytes} bytes, whole")?,
            None => writeln!(f, "no checkpoint")?,
        }
        write!(
            f,
            "{entries} entries from message {first} on, {bytes} bytes; {batches} batches, {records} records"
        )
    }
}

/// Reads all of a database's stream, without joining it: each entry's checksum, that it follows the
/// one before, and that its records are records; and all of the checkpoint that it names. It
/// changes nothing, and an owner may go on meanwhile. An owner hears of damage that it finds, and
/// repairs it unless that is to be done by hand ([`Repair`](crate::Repair)).
///
/// ```no_run
/// use freehold_replica::{ReplicaConfig, SyncCheck, verify};
///
/// let servers = ["nats://10.0.0.1:4222"];
/// let config = ReplicaConfig { sync_check: SyncCheck::Assumed, ..ReplicaConfig::new("ledger", "me", servers) };
/// println!("{:?}", verify(&config)?);
/// # Ok::<(), freehold_replica::ReplicaError>(())
/// ```
///
/// # Errors
/// [`ReplicaError::NoStream`]; the first message that is wrong, as [`ReplicaError::Chain`] or
/// [`ReplicaError::Missing`]; [`ReplicaError::Checkpoint`]; or why it cannot be read.
pub fn verify(config: &ReplicaConfig) -> Result<Verified, ReplicaError> {
    config.check()?;
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let executor = executor.map_err(|error| ReplicaError::servers("making an executor", error))?;
    executor.block_on(read_all(config))
}

async fn read_all(config: &ReplicaConfig) -> Result<Verified, ReplicaError> {
    let stream = EntryStream::open_existing(config).await?;
    let found = scan(&stream, u64::MAX).await;
    if let Err(error) = &found
        && error.is_damage()
    {
        stream.report(error).await;
        stream.flush().await;
    }
    found
}

/// Reads all of a stream up to message `until`, as [`verify`] does.
pub(crate) async fn scan(stream: &EntryStream, until: u64) -> Result<Verified, ReplicaError> {
    use ReplicaError::{Checkpoint, Missing, Trimmed};
    let mut tries = 0;
    loop {
        let ends = stream.ends().await?;
        let read = read_between(stream, Ends { last: ends.last.min(until), ..ends }).await;
        tries += 1;
        match read {
            Err(Missing { .. } | Checkpoint { .. } | Trimmed { .. })
                if tries < TRIES_MAX && stream.ends().await?.first != ends.first => {}
            read => return read,
        }
    }
}

async fn read_between(stream: &EntryStream, ends: Ends) -> Result<Verified, ReplicaError> {
    let mut verified = Verified { first: ends.first, ..Verified::default() };
    let named = stream.named().await?;
    if let Some(Named { checkpoint, .. }) = &named {
        checkpoint_store::verify(stream, checkpoint).await?;
        verified.checkpoint = Some((checkpoint.object.clone(), checkpoint.bytes));
    }
    let mut reads = Reads { verified, chain: None, before: None, sequence: ends.first };
    while reads.sequence <= ends.last {
        for entry in stream.read(reads.sequence, ends.last, READ_MAX).await? {
            reads.read(&entry, named.as_ref(), ends)?;
        }
    }
    let mut verified = reads.verified;
    if let Some(place) = reads.chain.as_ref().map(Chain::place) {
        (verified.database, verified.term, verified.epoch) = (place.database, place.term, place.epoch);
        verified.owner.clone_from(&place.owner);
    }
    Ok(verified)
}

/// What was read so far.
struct Reads {
    verified: Verified,
    /// The chain, from where it can be read: from its begin, or from a checkpoint.
    chain: Option<Chain>,
    /// Before that, the last entry's number and hash.
    before: Option<(u64, [u8; 32])>,
    sequence: u64,
}

impl Reads {
    /// Takes the entry that comes next.
    fn read(&mut self, entry: &[u8], named: Option<&Named>, ends: Ends) -> Result<(), ReplicaError> {
        let sequence = self.sequence;
        let at = |error| ReplicaError::Chain { sequence, error };
        (self.sequence, self.verified.entries) = (sequence + 1, self.verified.entries + 1);
        self.verified.bytes += entry.len() as u64;
        if self.chain.is_none() {
            let head = read_entry(entry).map(|(head, _)| head);
            let (database, number) = head.as_ref().map_or((0, 0), |head| (head.database, head.number));
            match named {
                Some(Named { checkpoint, sequence: goes_on, .. }) if number > 0 && *goes_on == sequence => {
                    let place = &checkpoint.place;
                    if self
                        .before
                        .is_some_and(|before| before != (place.next.wrapping_sub(1), place.previous))
                    {
                        return Err(at(ChainError::Fork { number }));
                    }
                    self.chain = Some(Chain::at(checkpoint.place.clone()));
                }
                // The last entries before the checkpoint: each follows the one before.
                Some(named) if number > 0 && sequence < named.sequence => {
                    let head = head.map_err(|error| at(ChainError::Damaged { number, error }))?;
                    if self.before.is_some_and(|before| before != (number.wrapping_sub(1), head.previous)) {
                        return Err(at(ChainError::Fork { number }));
                    }
                    self.before = Some((number, hash_entry(entry)));
                    return Ok(());
                }
                _ if number > 0 => return Err(ReplicaError::Trimmed { first: ends.first, needed: 1 }),
                // What cannot be read, `follow` says.
                _ => self.chain = Some(Chain::at(ChainPlace::first(database))),
            }
        }
        let chain = self.chain.as_mut().expect("it was just begun");
        if let Followed::Epochs(gathered) = chain.follow(entry).map_err(at)? {
            self.verified.batches += 1;
            self.verified.records += gathered.records.len() as u64;
        }
        Ok(())
    }
}
