//! Reads all of a database's stream, and says what there is and what is wrong with it.

use freehold::Epoch;
use freehold_shard::log::chain::{Chain, ChainPlace, Followed, read_entry};

use crate::config::ReplicaConfig;
use crate::error::ReplicaError;
use crate::stream::EntryStream;

/// How many messages are read at once.
const READ_MAX: usize = 64;

/// What [`verify`] found in a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// The number of the database.
    pub database: u64,
    /// How many entries it has, and how long they are together.
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

/// Reads all of a database's stream, without joining it: each entry's checksum, that it follows the
/// one before, and that its records are records. It changes nothing, and an owner may go on
/// meanwhile.
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
/// [`ReplicaError::Missing`]; or why it cannot be read.
pub fn verify(config: &ReplicaConfig) -> Result<Verified, ReplicaError> {
    config.check()?;
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let executor = executor.map_err(|error| ReplicaError::servers("making an executor", error))?;
    executor.block_on(read_all(config))
}

async fn read_all(config: &ReplicaConfig) -> Result<Verified, ReplicaError> {
    let stream = EntryStream::open_existing(config).await?;
    let ends = stream.ends().await?;
    let mut verified = Verified::default();
    let mut chain: Option<Chain> = None;
    let mut sequence = ends.first;
    while sequence <= ends.last {
        for entry in stream.read(sequence, ends.last, READ_MAX).await? {
            let at = |error| ReplicaError::Chain { sequence, error };
            let chain = match &mut chain {
                Some(chain) => chain,
                None => {
                    let head = read_entry(&entry).map(|(head, _)| head);
                    // What cannot be read, `follow` says.
                    let database = head.map_or(0, |head| head.database);
                    chain.insert(Chain::at(ChainPlace::first(database)))
                }
            };
            if let Followed::Epochs(gathered) = chain.follow(&entry).map_err(at)? {
                verified.batches += 1;
                verified.records += gathered.records.len() as u64;
            }
            verified.entries += 1;
            verified.bytes += entry.len() as u64;
            sequence += 1;
        }
    }
    if let Some(place) = chain.as_ref().map(Chain::place) {
        (verified.database, verified.term, verified.epoch) = (place.database, place.term, place.epoch);
        verified.owner.clone_from(&place.owner);
    }
    Ok(verified)
}
