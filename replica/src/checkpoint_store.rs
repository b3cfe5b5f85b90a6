//! The checkpoints of a database in JetStream's object store: one bucket for each, which has one
//! object.
//!
//! A bucket's name says which database it is of, in which term it was made, and a random number. So
//! an owner removes what is of its own term or an earlier one, and never what a later owner is
//! putting there. Removing a bucket removes all of it, also of a checkpoint that is there in part.
//!
//! The object is as `nats object get` reads it. Its chunks are published here, because the client's
//! own way waits for each before it sends the next, and makes them small.

use std::io;
use std::path::{Path, PathBuf};

use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::object_store::{self, ObjectInfo, ObjectOptions};
use async_nats::jetstream::stream::StorageType;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use freehold::backup::{self, Files};
use freehold::{CommitLog, Create, Epoch, EpochBatch, LocalLog};
use freehold_shard::log::chain::{ChainPlace, EntryHash, NamedCheckpoint};
use futures_util::stream::FuturesOrdered;
use futures_util::{StreamExt, TryStreamExt};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::archive::{Unpacking, pack};
use crate::error::ReplicaError;
use crate::stream::{Ends, EntryStream, PAUSE};

/// The name of the object in its bucket, and the nuid of its chunks.
const OBJECT: &str = "checkpoint";
/// How often the log is copied anew, because it does not have yet what the stream has acknowledged.
const COPIES_MAX: usize = 100;
/// After so many copies the runtime is asked to bring its log on.
const BRING_ON_AFTER: usize = 2;
/// How long a chunk is, at most.
const CHUNK_BYTES_MAX: usize = 512 << 10;
/// How many chunks are on their way at once, and as many wait in memory.
const CHUNKS_MAX: usize = 8;
/// How many bytes are read at once.
const READ_BYTES: usize = 64 << 10;

/// What a checkpoint is made of.
pub(crate) struct Making {
    /// The log's directory, which a runtime has open.
    pub(crate) log: PathBuf,
    /// Where it is copied to meanwhile; nobody else uses it.
    pub(crate) copy: PathBuf,
    /// How names of the database's checkpoints begin.
    pub(crate) prefix: String,
    /// On how many servers it is kept.
    pub(crate) replicas: usize,
    /// The place in the chain up to which everything was acknowledged when it began.
    pub(crate) place: ChainPlace,
    /// A random number.
    pub(crate) number: u64,
    /// Has the log come to where the stream is. Reads end epochs in which nothing is committed: the
    /// stream has them, and a log of which nobody writes anything does not.
    pub(crate) bring_on: Box<dyn FnOnce() + Send>,
    /// What the copy has behind all of the log, if that is more.
    pub(crate) behind: Option<Behind>,
}

/// An epoch behind a log.
pub(crate) struct Behind {
    /// The last epoch of the log.
    pub(crate) tail: Epoch,
    /// The epoch.
    pub(crate) batch: EpochBatch,
    /// Where it is put behind a copy meanwhile; nobody else uses it.
    pub(crate) longer: PathBuf,
}

impl Behind {
    /// Puts the epoch behind a copy.
    fn put(&self, copy: &Path) -> Result<Epoch, ReplicaError> {
        let Behind { tail, batch, longer } = self;
        remove(longer)?;
        std::fs::rename(copy, longer)
            .map_err(|source| ReplicaError::File { path: copy.to_path_buf(), source })?;
        LocalLog::open_as(longer, Create::Never)?.append(*tail, batch)?;
        // A log has room for more, and a copy of it does not.
        let made = backup::backup(longer, copy, Files::Linked).map_err(no)?;
        remove(longer)?;
        Ok(made.epoch)
    }
}

/// No checkpoint, for this reason.
fn no(why: impl ToString) -> ReplicaError {
    ReplicaError::NotCheckpointed { why: why.to_string() }
}

/// Removes a directory, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), ReplicaError> {
    match std::fs::remove_dir_all(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(ReplicaError::File { path: path.to_path_buf(), source })
        }
        _ => Ok(()),
    }
}

/// Copies the log, puts the copy into the object store, and says how it is to be named.
///
/// # Errors
/// What there is of it stays, and is removed with the next.
pub(crate) async fn make(stream: EntryStream, making: Making) -> Result<NamedCheckpoint, ReplicaError> {
    let Making { log, copy, prefix, replicas, place, number, bring_on, behind } = making;
    let least = behind.as_ref().map_or(place.epoch, |behind| behind.tail);
    let to = copy.clone();
    let copied = tokio::task::spawn_blocking(move || {
        let mut bring_on = Some(bring_on);
        for copies in 0..COPIES_MAX {
            if copies == BRING_ON_AFTER
                && let Some(bring_on) = bring_on.take()
            {
                bring_on();
            }
            remove(&to)?;
            let made = backup::backup(&log, &to, Files::Linked).map_err(no)?;
            // What the stream has acknowledged is on this disk, or will be at once.
            if made.epoch >= least {
                return behind.map_or(Ok(made.epoch), |behind| behind.put(&to));
            }
            std::thread::sleep(PAUSE);
        }
        Err(no(format!("this node's log does not come to {least}, which the stream has")))
    });
    let epoch = copied.await.map_err(no)??;
    let object = format!("{prefix}{}_{number:016x}", place.term);
    let (bytes, hash) = put(&stream, &copy, &object, replicas).await?;
    remove(&copy)?;
    Ok(NamedCheckpoint { object, epoch, bytes, hash, place })
}

/// Puts what a directory has into a bucket of its own. Returns how many bytes it is, and their
/// hash.
async fn put(
    stream: &EntryStream,
    directory: &Path,
    bucket: &str,
    replicas: usize,
) -> Result<(u64, EntryHash), ReplicaError> {
    let config = object_store::Config {
        bucket: bucket.to_string(),
        description: Some("a checkpoint of a Freehold database, kept by its owner".to_string()),
        storage: StorageType::File,
        num_replicas: replicas,
        ..object_store::Config::default()
    };
    stream.context.create_object_store(config).await.map_err(no)?;
    let chunk_bytes = stream.entry_bytes_max.min(CHUNK_BYTES_MAX);
    let (sender, mut chunks) = mpsc::channel(CHUNKS_MAX);
    let directory = directory.to_path_buf();
    let packing = tokio::task::spawn_blocking(move || {
        pack(&directory, chunk_bytes, |chunk| sender.blocking_send(chunk).is_ok())
    });
    let subject = format!("$O.{bucket}.C.{OBJECT}");
    let (mut under_way, mut count) = (FuturesOrdered::new(), 0);
    while let Some(chunk) = chunks.recv().await {
        if under_way.len() == CHUNKS_MAX {
            acknowledged(under_way.next().await)?;
        }
        let message = PublishMessage::build().payload(chunk.into());
        let sent = stream.context.send_publish(subject.clone(), message).await.map_err(no)?;
        under_way.push_back(IntoFuture::into_future(sent));
        count += 1;
    }
    while let Some(came) = under_way.next().await {
        acknowledged(Some(came))?;
    }
    let (bytes, hash) = packing.await.map_err(no)?.map_err(no)?;
    let info = ObjectInfo {
        name: OBJECT.to_string(),
        description: None,
        metadata: Default::default(),
        headers: None,
        options: Some(ObjectOptions { link: None, max_chunk_size: Some(chunk_bytes) }),
        bucket: bucket.to_string(),
        nuid: OBJECT.to_string(),
        size: usize::try_from(bytes).unwrap_or(usize::MAX),
        chunks: count,
        modified: None,
        digest: Some(format!("SHA-256={}", URL_SAFE.encode(hash))),
        deleted: false,
    };
    let subject = format!("$O.{bucket}.M.{}", URL_SAFE.encode(OBJECT));
    let message = PublishMessage::build().payload(serde_json::to_vec(&info).map_err(no)?.into());
    let sent = stream.context.send_publish(subject, message).await.map_err(no)?;
    acknowledged(Some(sent.await))?;
    Ok((bytes, hash))
}

fn acknowledged<T, E: ToString>(came: Option<Result<T, E>>) -> Result<(), ReplicaError> {
    came.map_or(Ok(()), |came| came.map(drop).map_err(no))
}

/// The checkpoint is named, for ever: lets go of what comes before it in the stream, and of the
/// checkpoints before it. It has to be whole; otherwise nothing is let go of.
pub(crate) async fn replace_others(
    stream: &EntryStream,
    named: &NamedCheckpoint,
    prefix: &str,
    below: u64,
) -> Result<Ends, ReplicaError> {
    check_whole(stream, named).await?;
    stream.trim(below).await?;
    for other in made_until(stream, prefix, named.place.term).await? {
        // What is not removed now is removed with the next.
        if other != named.object
            && let Err(error) = stream.context.delete_object_store(&other).await
        {
            tracing::warn!(%error, checkpoint = other, "a checkpoint that was replaced was not removed");
        }
    }
    stream.ends().await
}

/// Whether all of a checkpoint is there, as far as the servers say.
///
/// # Errors
/// [`ReplicaError::NotCheckpointed`]: nothing is to be let go of.
pub(crate) async fn check_whole(stream: &EntryStream, named: &NamedCheckpoint) -> Result<(), ReplicaError> {
    let store = stream.context.get_object_store(&named.object).await.map_err(no)?;
    let info = store.info(OBJECT).await.map_err(no)?;
    if info.size as u64 != named.bytes
        || info.digest != Some(format!("SHA-256={}", URL_SAFE.encode(named.hash)))
    {
        return Err(no(format!("{} is not as it was put there", named.object)));
    }
    let kept = stream.context.get_stream(bucket_stream(&named.object)).await.map_err(no)?;
    let messages = kept.cached_info().state.messages;
    if messages != info.chunks as u64 + 1 {
        return Err(no(format!("{} has {messages} messages, and was of {}", named.object, info.chunks + 1)));
    }
    Ok(())
}

/// The name of the stream that keeps a bucket.
fn bucket_stream(bucket: &str) -> String {
    format!("OBJ_{bucket}")
}

/// The buckets of checkpoints that were made in this term or before.
async fn made_until(stream: &EntryStream, prefix: &str, term: u64) -> Result<Vec<String>, ReplicaError> {
    let all: Vec<String> = stream.context.stream_names().try_collect().await.map_err(no)?;
    let of_ours = |name: &String| {
        let bucket = name.strip_prefix("OBJ_")?;
        let (of_term, number) = bucket.strip_prefix(prefix)?.split_once('_')?;
        let is_number = number.len() == 16 && number.chars().all(|digit| digit.is_ascii_hexdigit());
        (is_number && of_term.parse::<u64>().ok()? <= term).then(|| bucket.to_string())
    };
    Ok(all.iter().filter_map(of_ours).collect())
}

/// What is wrong with a checkpoint, or why it does not come.
fn of(named: &NamedCheckpoint, why: impl ToString) -> ReplicaError {
    ReplicaError::Checkpoint { object: named.object.clone(), why: why.to_string() }
}

/// Gives the bytes of a checkpoint to `each`. Whether they are the right ones is the caller's to
/// find out.
async fn read(
    stream: &EntryStream,
    named: &NamedCheckpoint,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), ReplicaError> {
    let wait = stream.answer_within * 4;
    let got = async {
        let store = stream.context.get_object_store(&named.object).await.map_err(|error| of(named, error))?;
        store.get(OBJECT).await.map_err(|error| of(named, error))
    };
    let got = timeout(wait, got).await.map_err(|_| of(named, "no answer in time"))?;
    let (mut object, mut bytes) = (got?, vec![0; READ_BYTES]);
    loop {
        let read = timeout(wait, object.read(&mut bytes)).await;
        let read =
            read.map_err(|_| of(named, "some of it does not come"))?.map_err(|error| of(named, error))?;
        if read == 0 {
            return Ok(());
        }
        each(&bytes[..read]).map_err(|error| of(named, error))?;
    }
}

/// Writes a checkpoint's files into a directory that it makes, and checks that they are what was
/// named.
///
/// # Errors
/// [`ReplicaError::Checkpoint`]; the directory has something of it.
pub(crate) async fn fetch(
    stream: &EntryStream,
    named: &NamedCheckpoint,
    directory: &Path,
) -> Result<(), ReplicaError> {
    let at = |source| ReplicaError::File { path: directory.to_path_buf(), source };
    let mut unpacking = Unpacking::into(directory).map_err(at)?;
    read(stream, named, |bytes| {
        if unpacking.bytes() + bytes.len() as u64 > named.bytes {
            return Err(io::Error::other("it is longer than was named"));
        }
        unpacking.take(bytes)
    })
    .await?;
    let (bytes, hash) = unpacking.finish().map_err(|error| of(named, error))?;
    is_as_named(named, bytes, hash)
}

/// Reads all of a checkpoint, and checks that it is what was named.
///
/// # Errors
/// [`ReplicaError::Checkpoint`].
pub(crate) async fn verify(stream: &EntryStream, named: &NamedCheckpoint) -> Result<(), ReplicaError> {
    use sha2::{Digest, Sha256};
    let (mut count, mut hash) = (0, Sha256::new());
    read(stream, named, |bytes| {
        count += bytes.len() as u64;
        hash.update(bytes);
        Ok(())
    })
    .await?;
    is_as_named(named, count, hash.finalize().into())
}

fn is_as_named(named: &NamedCheckpoint, bytes: u64, hash: EntryHash) -> Result<(), ReplicaError> {
    if bytes != named.bytes {
        return Err(of(named, format!("it has {bytes} bytes, and {} were named", named.bytes)));
    }
    if hash != named.hash {
        return Err(of(named, "its SHA-256 is not the one that was named"));
    }
    Ok(())
}
