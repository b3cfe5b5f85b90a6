//! The stream in NATS JetStream that keeps a database's chain: how it is reached, what is demanded
//! of it, and how entries are read and appended.
//!
//! All requests go to the stream's leader, and each entry is appended with the sequence that its
//! writer expects to be the last (`Nats-Expected-Last-Sequence`): the leader refuses it if another
//! came first. Reading is no proof that nothing else was appended; an append that was acknowledged
//! is.
//!
//! Entries that name a checkpoint have a subject of their own, so that the last of them is found
//! without reading the rest.

use std::future::IntoFuture;
use std::time::Duration;

use async_nats::header::{
    HeaderMap, HeaderValue, NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL, NATS_BATCH_ID, NATS_BATCH_SEQUENCE,
    NATS_EXPECTED_LAST_SEQUENCE,
};
use async_nats::jetstream::context::{
    ContextBuilder, GetStreamErrorKind, PublishAckFuture, PublishErrorKind,
};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{
    self, DiscardPolicy, LastRawMessageErrorKind, PersistenceMode, RawMessageErrorKind, RetentionPolicy,
    StorageType,
};
use async_nats::jetstream::{Context, ErrorCode};
use async_nats::{Client, ConnectOptions, Subscriber};
use freehold_shard::log::appends::Appended;
use freehold_shard::log::chain::{Body, ChainError, NamedCheckpoint, names_checkpoint, read_entry};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep, timeout};

use crate::config::{Login, ReplicaConfig, SyncCheck, Tls};
use crate::error::ReplicaError;

/// How long a step waits before it is tried again.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);
/// How many bytes of entries are asked for at once, at most.
const READ_BYTES_MAX: usize = 16 << 20;
/// For how long servers may say whether they sync, once the first has.
const SAY_WITHIN: Duration = Duration::from_millis(500);
/// What a message takes beside its entry: subject, headers, and room to spare.
const BESIDE_MAX: usize = 1024;

/// A stream that was found fit.
#[derive(Clone)]
pub(crate) struct EntryStream {
    client: Client,
    pub(crate) context: Context,
    name: String,
    subject: String,
    checkpoint_subject: String,
    beat_subject: String,
    damage_subject: String,
    pub(crate) answer_within: Duration,
    pub(crate) entry_bytes_max: usize,
}

/// The first and the last message there are. Of an empty stream the first is one behind the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// How many bytes the stream takes, on each of its servers.
    pub(crate) bytes: u64,
}

/// A checkpoint that the stream names.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) checkpoint: NamedCheckpoint,
    /// The message from which its reader goes on.
    pub(crate) sequence: u64,
    /// The database's time when it was named.
    pub(crate) time: freehold_shard::Time,
}

/// An append that is under way.
pub(crate) type Appending = BoxFuture<'static, Appended>;

fn servers(doing: &'static str) -> impl Fn(Box<dyn std::error::Error + Send + Sync>) -> ReplicaError {
    move |error| ReplicaError::servers(doing, error)
}

/// Reaches the servers as somebody.
async fn connect(config: &ReplicaConfig, login: &Login) -> Result<Client, ReplicaError> {
    let file = |path: &std::path::Path| {
        let path = path.to_path_buf();
        move |source| ReplicaError::File { path, source }
    };
    let mut options = ConnectOptions::new()
        .name(format!("freehold {} {}", config.database, config.node))
        .connection_timeout(config.answer_within)
        .request_timeout(Some(config.answer_within))
        .ping_interval(config.answer_within)
        .reconnect_delay_callback(|attempts| Duration::from_millis(20 * (attempts as u64).min(10)));
    options = match login {
        Login::None => options,
        Login::User { user, password } => options.user_and_password(user.clone(), password.clone()),
        Login::Token(token) => options.token(token.clone()),
        Login::Nkey(seed) => options.nkey(seed.clone()),
        Login::Credentials(path) => {
            let credentials = std::fs::read_to_string(path).map_err(file(path))?;
            options.credentials(&credentials).map_err(file(path))?
        }
    };
    let Tls { is_required, authorities, certificate } = &config.tls;
    if *is_required {
        options = options.require_tls(true);
    }
    if let Some(authorities) = authorities {
        options = options.add_root_certificates(authorities.clone());
    }
    if let Some((certificate, key)) = certificate {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    let connected = options.connect(&config.servers).await;
    connected.map_err(|error| ReplicaError::servers("connecting to the servers", error))
}

impl EntryStream {
    /// Reaches the servers, makes the stream if it is missing, and sees to it that it is fit. As
    /// long as the servers do not answer it tries again, for [`ReplicaConfig::patience`].
    pub(crate) async fn open(config: &ReplicaConfig) -> Result<EntryStream, ReplicaError> {
        let until = Instant::now() + config.patience;
        loop {
            match EntryStream::try_open(config).await {
                Err(error) if error.is_passing() && Instant::now() < until => sleep(PAUSE).await,
                opened => return opened,
            }
        }
    }

    /// Reaches a stream that is there, as it is.
    pub(crate) async fn open_existing(config: &ReplicaConfig) -> Result<EntryStream, ReplicaError> {
        let stream = EntryStream::connect(config).await?;
        match stream.context.get_stream(&stream.name).await {
            Ok(_) => Ok(stream),
            Err(error) if is_missing(&error.kind()) => Err(ReplicaError::NoStream { stream: stream.name }),
            Err(error) => Err(ReplicaError::servers("asking for the stream", error)),
        }
    }

    async fn connect(config: &ReplicaConfig) -> Result<EntryStream, ReplicaError> {
        let client = connect(config, &config.login).await?;
        let context = ContextBuilder::new()
            .timeout(config.answer_within)
            .ack_timeout(config.answer_within)
            // More than are ever under way: those that were given up count for a while.
            .max_ack_inflight(1024)
            .build(client.clone());
        let most = client.server_info().max_payload.saturating_sub(BESIDE_MAX);
        Ok(EntryStream {
            client,
            context,
            name: config.stream(),
            subject: config.subject(),
            checkpoint_subject: config.checkpoint_subject(),
            beat_subject: config.beat_subject(),
            damage_subject: config.damage_subject(),
            answer_within: config.answer_within,
            entry_bytes_max: config.entry_bytes_max.min(most).max(4 << 10),
        })
    }

    async fn try_open(config: &ReplicaConfig) -> Result<EntryStream, ReplicaError> {
        let opened = EntryStream::connect(config).await?;
        let wanted = stream::Config {
            name: config.stream(),
            subjects: vec![config.subject(), config.checkpoint_subject()],
            retention: RetentionPolicy::Limits,
            storage: StorageType::File,
            discard: DiscardPolicy::New,
            num_replicas: config.replicas,
            allow_atomic_publish: true,
            ..stream::Config::default()
        };
        let got = opened.context.get_or_create_stream(wanted).await;
        let got = got.map_err(|error| ReplicaError::servers("making the stream, or finding it", error))?;
        let mut found = got.cached_info().config.clone();
        if !found.allow_atomic_publish {
            // It was made before takeovers took room.
            found.allow_atomic_publish = true;
            let updated = opened.context.update_stream(&found).await;
            found = updated.map_err(|error| ReplicaError::servers("updating the stream", error))?.config;
        }
        check(config, opened.entry_bytes_max, &found)?;
        match &config.sync_check {
            SyncCheck::Missing => config.check()?,
            SyncCheck::Assumed => {
                tracing::warn!("nobody asks the servers whether they sync each write: it is assumed");
            }
            SyncCheck::By(login) => {
                let cluster = got.cached_info().cluster.as_ref();
                let replicas = cluster.into_iter().flat_map(|cluster| &cluster.replicas);
                let leader = cluster.and_then(|cluster| cluster.leader.clone());
                let keepers = replicas.map(|replica| replica.name.clone()).chain(leader).collect();
                check_syncs(config, login, found.num_replicas, keepers).await?;
            }
        }
        if found.num_replicas < 3 {
            tracing::warn!(
                replicas = found.num_replicas,
                "the stream is on fewer than three servers: the database does not survive the loss of one"
            );
        }
        Ok(opened)
    }

    /// The stream as its leader has it.
    async fn stream(&self) -> Result<stream::Stream, ReplicaError> {
        let got = self.context.get_stream(&self.name).await;
        got.map_err(|error| ReplicaError::servers("asking for the stream", error))
    }

    /// Where it begins and ends.
    pub(crate) async fn ends(&self) -> Result<Ends, ReplicaError> {
        let stream = self.stream().await?;
        let state = &stream.cached_info().state;
        Ok(Ends { first: state.first_sequence.max(1), last: state.last_sequence, bytes: state.bytes })
    }

    /// The checkpoint that was named last, if one was and its message was not let go of.
    pub(crate) async fn named(&self) -> Result<Option<Named>, ReplicaError> {
        let doing = "asking for the last checkpoint";
        let stream = self.context.get_stream_no_info(&self.name).await;
        let stream = stream.map_err(|error| ReplicaError::servers(doing, error))?;
        let got =
            timeout(self.answer_within, stream.get_last_raw_message_by_subject(&self.checkpoint_subject));
        let message = match got.await.map_err(|_| ReplicaError::servers(doing, "no answer in time"))? {
            Ok(message) => message,
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => return Ok(None),
            Err(error) => return Err(ReplicaError::servers(doing, error)),
        };
        let at = message.sequence;
        let (head, _) = read_entry(&message.payload).map_err(|error| {
            let error = ChainError::Damaged { number: 0, error };
            ReplicaError::Chain { sequence: at, error }
        })?;
        let time = head.time;
        match head.body {
            Body::Checkpoint(named) if named.place.next <= head.number && head.number < at => {
                let sequence = at - (head.number - named.place.next);
                Ok(Some(Named { checkpoint: *named, sequence, time }))
            }
            _ => Err(ReplicaError::Foreign { sequence: at }),
        }
    }

    /// Lets go of the messages before message `below`.
    pub(crate) async fn trim(&self, below: u64) -> Result<(), ReplicaError> {
        // Without a number, which 0 would be, a server lets go of everything.
        if below <= 1 {
            return Ok(());
        }
        let doing = "trimming the stream";
        let purged = async {
            let stream = self.context.get_stream_no_info(&self.name).await?;
            stream.purge().sequence(below).await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        };
        let purged = timeout(self.answer_within, purged).await;
        purged.map_err(|_| ReplicaError::servers(doing, "no answer in time"))?.map_err(servers(doing))
    }

    /// One message; `None` if there is none of this sequence.
    pub(crate) async fn get(&self, sequence: u64) -> Result<Option<Vec<u8>>, ReplicaError> {
        let stream = self.context.get_stream_no_info(&self.name).await;
        let stream = stream.map_err(|error| ReplicaError::servers("asking for the stream", error))?;
        let got = timeout(self.answer_within, stream.get_raw_message(sequence)).await;
        let got = got.map_err(|_| ReplicaError::servers("reading the stream", "no answer in time"))?;
        match got {
            Ok(message) => Ok(Some(message.payload.to_vec())),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(ReplicaError::servers("reading the stream", error)),
        }
    }

    /// The messages from `from` on, up to `until`, which are there: some, and no more than `max`.
    pub(crate) async fn read(&self, from: u64, until: u64, max: usize) -> Result<Vec<Vec<u8>>, ReplicaError> {
        let max = max.min((READ_BYTES_MAX / self.entry_bytes_max).max(1));
        let sequences = (from..=until).take(max);
        let mut reads: FuturesOrdered<_> = sequences.map(|sequence| self.get(sequence)).collect();
        let mut entries = Vec::new();
        while let Some(read) = reads.next().await {
            match read {
                Ok(Some(entry)) => entries.push(entry),
                // What has come is a step forward.
                Err(error) if entries.is_empty() => return Err(error),
                Ok(None) | Err(_) => break,
            }
        }
        if entries.is_empty() {
            return Err(ReplicaError::Missing { sequence: from });
        }
        Ok(entries)
    }

    /// Sends entries that are to stand behind message `last`, all of them or none. What comes of
    /// them is what is returned.
    pub(crate) async fn append(&self, entries: &[&[u8]], last: u64) -> Appending {
        let sent = timeout(self.answer_within, self.send(entries, last));
        let acknowledgement = match sent.await {
            Ok(Ok(acknowledgement)) => acknowledgement,
            Ok(Err(error)) => return std::future::ready(unknown(error)).boxed(),
            Err(error) => return std::future::ready(unknown(error)).boxed(),
        };
        let sequence = last + entries.len() as u64;
        async move {
            match acknowledgement.into_future().await {
                Ok(ack) if ack.sequence == sequence && !ack.duplicate => Appended::Done,
                Ok(ack) => unknown(format!("it became message {}", ack.sequence)),
                Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => Appended::Refused,
                Err(error) => unknown(error),
            }
        }
        .boxed()
    }

    /// Sends them. Several go as an *atomic batch*: the servers gather them until the last one,
    /// which says that it is the last, and is acknowledged for all.
    async fn send(
        &self,
        entries: &[&[u8]],
        last: u64,
    ) -> Result<PublishAckFuture, Box<dyn std::error::Error + Send + Sync>> {
        let count = entries.len();
        let batch = if count > 1 { format!("{:032x}", getrandom::u64()?) } else { String::new() };
        for (at, entry) in entries.iter().enumerate() {
            let subject = if names_checkpoint(entry) { &self.checkpoint_subject } else { &self.subject };
            let mut headers = HeaderMap::new();
            if at == 0 {
                headers.insert(NATS_EXPECTED_LAST_SEQUENCE, HeaderValue::from(last));
            }
            if count > 1 {
                headers.insert(NATS_BATCH_ID, batch.as_str());
                headers.insert(NATS_BATCH_SEQUENCE, HeaderValue::from(at + 1));
            }
            let (subject, payload) = (subject.clone(), entry.to_vec().into());
            if at + 1 < count {
                self.client.publish_with_headers(subject, headers, payload).await?;
                continue;
            }
            if count > 1 {
                headers.insert(NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL);
            }
            let message = PublishMessage::build().payload(payload).headers(headers);
            return Ok(self.context.send_publish(subject, message).await?);
        }
        Err("there is nothing to be sent".into())
    }

    /// Says that the owner is there. It may be lost.
    pub(crate) async fn beat(&self, says: Vec<u8>) {
        let sent = timeout(self.answer_within, self.client.publish(self.beat_subject.clone(), says.into()));
        let _ = sent.await;
    }

    /// Says that something of the stream is not as it was written. It may be lost, and is said
    /// again as long as it is so.
    pub(crate) async fn report(&self, error: &ReplicaError) {
        let says = error.to_string();
        let sent = timeout(self.answer_within, self.client.publish(self.damage_subject.clone(), says.into()));
        let _ = sent.await;
    }

    /// Waits until what was said has left, for a client that ends.
    pub(crate) async fn flush(&self) {
        let _ = timeout(self.answer_within, self.client.flush()).await;
    }

    /// Hears of damage that readers have found.
    pub(crate) async fn hear_of_damage(&self) -> Option<Subscriber> {
        self.client.subscribe(self.damage_subject.clone()).await.ok()
    }

    /// Hears of the owner's beats, and of appends that were tried: when to look.
    pub(crate) async fn hear(&self) -> Result<Hearing, ReplicaError> {
        let hears = |subject: &str| self.client.subscribe(subject.to_string());
        let doing = "subscribing to what the owner says";
        let beats = hears(&self.beat_subject).await.map_err(|error| ReplicaError::servers(doing, error))?;
        let appends = hears(&self.subject).await.map_err(|error| ReplicaError::servers(doing, error))?;
        Ok(Hearing { beats, appends })
    }
}

/// What is heard of an owner. It proves nothing.
pub(crate) struct Hearing {
    beats: Subscriber,
    appends: Subscriber,
}

/// Something that was heard.
#[derive(Debug)]
pub(crate) enum Heard {
    Beat(Vec<u8>),
    Append,
}

impl Hearing {
    /// The next thing that is heard; waits for ever if there is nothing.
    pub(crate) async fn next(&mut self) -> Heard {
        tokio::select! {
            Some(beat) = self.beats.next() => Heard::Beat(beat.payload.to_vec()),
            Some(_) = self.appends.next() => Heard::Append,
            else => std::future::pending().await,
        }
    }

    /// Forgets the appends that were heard: a look from now on sees them all.
    pub(crate) fn forget_appends(&mut self) {
        while self.appends.next().now_or_never().flatten().is_some() {}
    }
}

/// Nobody knows what came of an append, for this reason.
fn unknown(why: impl std::fmt::Display) -> Appended {
    tracing::debug!(%why, "what came of an append is not known");
    Appended::Unknown
}

/// Whether there is no such stream.
fn is_missing(kind: &GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// Whether a stream takes entries of so many bytes, and keeps what it acknowledged.
fn check(config: &ReplicaConfig, entry_bytes_max: usize, found: &stream::Config) -> Result<(), ReplicaError> {
    let must = |is_so: bool, field, found: String, must: &str| {
        let stream = config.stream();
        if is_so {
            Ok(())
        } else {
            Err(ReplicaError::Stream { stream, field, found, must: must.to_string() })
        }
    };
    let storage = format!("{:?}", found.storage);
    must(found.storage == StorageType::File, "storage", storage, "file")?;
    let replicas = found.num_replicas;
    let least = format!("{} at least (`replicas` of this node)", config.replicas);
    must(replicas >= config.replicas, "replicas", replicas.to_string(), &least)?;
    let retention = format!("{:?}", found.retention);
    must(found.retention == RetentionPolicy::Limits, "retention", retention, "limits")?;
    let age = found.max_age;
    must(age.is_zero(), "max age", format!("{age:?}"), "none: entries are let go of by their owner")?;
    must(found.max_messages <= 0, "max messages", found.max_messages.to_string(), "none")?;
    must(found.max_bytes <= 0, "max bytes", found.max_bytes.to_string(), "none")?;
    let each = found.max_messages_per_subject;
    must(each <= 0, "max messages per subject", each.to_string(), "none")?;
    let (longest, entry) = (found.max_message_size, entry_bytes_max + BESIDE_MAX);
    let is_enough = longest <= 0 || longest as usize >= entry;
    must(is_enough, "max message size", longest.to_string(), &format!("none, or {entry} at least"))?;
    must(found.allow_atomic_publish, "atomic batches", "denied".to_string(), "allowed")?;
    must(!found.no_ack, "acknowledgements", "none".to_string(), "given")?;
    must(!found.sealed, "sealed", "so".to_string(), "open to appends")?;
    must(!found.allow_rollup, "rollup", "allowed".to_string(), "denied")?;
    let is_alone = found.mirror.is_none() && found.sources.as_ref().is_none_or(Vec::is_empty);
    must(is_alone, "sources", "others".to_string(), "none")?;
    let (subjects, ours) = (format!("{:?}", found.subjects), [config.subject(), config.checkpoint_subject()]);
    must(found.subjects == ours, "subjects", subjects, &format!("{ours:?}"))?;
    let persists = !matches!(found.persist_mode, Some(PersistenceMode::Async));
    must(persists, "persist mode", "async".to_string(), "default")
}

/// Asks all servers whether they sync each write. Each of the `keepers`, which keep the stream, has
/// to say so; a server alone does not know its name, and it is one of `replicas`.
async fn check_syncs(
    config: &ReplicaConfig,
    login: &Login,
    replicas: usize,
    mut keepers: Vec<String>,
) -> Result<(), ReplicaError> {
    let doing = "asking the servers whether they sync";
    let client = connect(config, login).await?;
    let inbox = client.new_inbox();
    let failed = servers(doing);
    let mut answers = client.subscribe(inbox.clone()).await.map_err(|error| failed(error.into()))?;
    let asked = client.publish_with_reply("$SYS.REQ.SERVER.PING.JSZ", inbox, Default::default()).await;
    asked.map_err(|error| failed(error.into()))?;
    let mut said = 0;
    let mut wait = config.answer_within;
    while said < replicas || !keepers.is_empty() {
        let Ok(Some(answer)) = timeout(wait, answers.next()).await else { break };
        // Nobody listens there, for this login.
        if answer.status.is_some() {
            break;
        }
        wait = SAY_WITHIN;
        let answer: serde_json::Value =
            serde_json::from_slice(&answer.payload).map_err(|error| failed(error.into()))?;
        // A server without JetStream keeps no stream.
        let Some(jetstream) = answer.pointer("/data/config").filter(|config| config.is_object()) else {
            continue;
        };
        let says = jetstream.get("sync_always").and_then(serde_json::Value::as_bool);
        let server = answer.pointer("/server/name").and_then(serde_json::Value::as_str);
        let server = server.unwrap_or("without a name");
        if says != Some(true) {
            return Err(ReplicaError::NotSynced { server: server.to_string() });
        }
        keepers.retain(|keeper| keeper != server);
        said += 1;
    }
    if said < replicas || !keepers.is_empty() {
        Err(ReplicaError::SyncUnknown { said, needed: replicas })
    } else {
        Ok(())
    }
}
