//! How a node joins a replicated database: where its servers are, who it is, and what it asks of
//! them.

use std::env::var;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use freehold::Ack;

use crate::error::ReplicaError;

/// How a node joins a database. Start from [`ReplicaConfig::new`] and change what matters:
///
/// ```
/// use freehold_replica::{Login, ReplicaConfig, SyncCheck};
///
/// let config = ReplicaConfig {
///     login: Login::User { user: "ledger".into(), password: "secret".into() },
///     sync_check: SyncCheck::By(Login::User { user: "admin".into(), password: "secret".into() }),
///     ..ReplicaConfig::new("ledger", "host-a", ["nats://10.0.0.1:4222", "nats://10.0.0.2:4222"])
/// };
/// assert!(config.check().is_ok());
/// assert!(!format!("{config:?}").contains("secret"));
/// ```
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// The database's name, which all its nodes give: 1 to 64 letters, digits, `-` and `_`.
    pub database: String,
    /// This node's name, for people: 1 to 64 letters, digits, `-`, `_` and `.`.
    pub node: String,
    /// The servers, `nats://host:port` or `tls://host:port`; one is enough to find the others.
    /// Names and passwords do not belong in here.
    pub servers: Vec<String>,
    /// When messages are answered. [`Ack::Durable`] waits for the owner's own disk alone, and a
    /// takeover then loses what the stream did not have. Default: [`Ack::Replicated`].
    pub ack: Ack,
    /// Who the node is to the servers. Default: [`Login::None`].
    pub login: Login,
    /// How the connection is kept from others. Default: as the servers ask.
    pub tls: Tls,
    /// How the node finds out whether the servers sync each write. Without an answer it does not
    /// start. Default: [`SyncCheck::Missing`], which is refused.
    pub sync_check: SyncCheck,
    /// On how many servers the stream has to be, 1 to 5. Fewer than three survive no server's loss,
    /// and are for tests and laptops: they are mentioned by a warning. Default: 3.
    pub replicas: usize,
    /// A standby takes over when nothing was heard of the owner for so long; at least 100 ms. Two
    /// standbys that try at once do no harm. Default: `None`, only by
    /// [`Replicated::promote`](crate::Replicated::promote).
    pub takeover_after: Option<Duration>,
    /// How often the owner says that it is there. 10 ms to a minute. Default: 250 ms.
    pub beat_every: Duration,
    /// How long an entry may be: 4 KiB to 8 MiB, and no more than the servers take
    /// (`max_payload`, by default 1 MiB). One is on its way at a time, so this bounds how much
    /// leaves in a second. Default: 8 MiB.
    pub entry_bytes_max: usize,
    /// When the stream has grown by so many bytes, the owner makes a checkpoint and trims the
    /// stream: 64 KiB to 1 TiB. A node that joins reads the checkpoint and at most about twice as
    /// much of the stream. Default: 1 GiB.
    pub checkpoint_bytes: u64,
    /// How many bytes of batches may wait for the stream before messages wait. 64 KiB to 1 GiB.
    /// Default: 32 MiB.
    pub backlog_bytes: usize,
    /// After so long without an answer a request counts as lost, and is looked after. 10 ms to a
    /// minute. Default: 2 s.
    pub answer_within: Duration,
    /// For how long a start tries to reach the servers and their stream, a stop to bring the last
    /// epochs to it, and a reader that has found damage to read it again. Default: 10 s.
    pub patience: Duration,
    /// Who repairs a stream that is damaged. Default: [`Repair::ByOwner`].
    pub repair: Repair,
}

impl ReplicaConfig {
    /// A node of a database whose servers are these, otherwise as by default.
    pub fn new<S: Into<String>>(
        database: impl Into<String>,
        node: impl Into<String>,
        servers: impl IntoIterator<Item = S>,
    ) -> Self {
        ReplicaConfig {
            database: database.into(),
            node: node.into(),
            servers: servers.into_iter().map(Into::into).collect(),
            ack: Ack::Replicated,
            login: Login::None,
            tls: Tls::default(),
            sync_check: SyncCheck::Missing,
            replicas: 3,
            takeover_after: None,
            beat_every: Duration::from_millis(250),
            entry_bytes_max: 8 << 20,
            checkpoint_bytes: 1 << 30,
            backlog_bytes: 32 << 20,
            answer_within: Duration::from_secs(2),
            patience: Duration::from_secs(10),
            repair: Repair::ByOwner,
        }
    }

    /// Checks every field against the range its description gives.
    ///
    /// # Errors
    /// [`ReplicaError::Config`]: the first field that cannot be, and what it must be.
    pub fn check(&self) -> Result<(), ReplicaError> {
        let must = |is_so: bool, field, must| {
            if is_so { Ok(()) } else { Err(ReplicaError::Config { field, must }) }
        };
        let is_name = |name: &str, more: &str| {
            let fits = |letter: char| letter.is_ascii_alphanumeric() || more.contains(letter);
            (1..=64).contains(&name.len()) && name.chars().all(fits)
        };
        let within = |time: Duration, least, most| {
            (Duration::from_millis(least)..=Duration::from_millis(most)).contains(&time)
        };
        must(is_name(&self.database, "-_"), "database", "1 to 64 letters, digits, `-` and `_`")?;
        must(is_name(&self.node, "-_."), "node", "1 to 64 letters, digits, `-`, `_` and `.`")?;
        must(!self.servers.is_empty(), "servers", "at least one `nats://host:port`")?;
        let has_secret = self.servers.iter().any(|server| server.contains('@'));
        must(!has_secret, "servers", "addresses alone: names and passwords go into `login`")?;
        must((1..=5).contains(&self.replicas), "replicas", "1 to 5")?;
        let silence = self.takeover_after.unwrap_or(Duration::from_secs(1));
        must(within(silence, 100, 86_400_000), "takeover_after", "100 ms to a day")?;
        must(within(self.beat_every, 10, 60_000), "beat_every", "10 ms to a minute")?;
        let entry = 4 << 10..=8 << 20;
        must(entry.contains(&self.entry_bytes_max), "entry_bytes_max", "4 KiB to 8 MiB")?;
        let between = 64 << 10..=1 << 40;
        must(between.contains(&self.checkpoint_bytes), "checkpoint_bytes", "64 KiB to 1 TiB")?;
        let backlog = 64 << 10..=1 << 30;
        must(backlog.contains(&self.backlog_bytes), "backlog_bytes", "64 KiB to 1 GiB")?;
        must(within(self.answer_within, 10, 60_000), "answer_within", "10 ms to a minute")?;
        must(within(self.patience, 10, 3_600_000), "patience", "10 ms to an hour")?;
        let asks = !matches!(self.sync_check, SyncCheck::Missing);
        must(asks, "sync_check", "`SyncCheck::By` a login of the servers' system account")
    }

    /// The name of its stream.
    pub(crate) fn stream(&self) -> String {
        format!("FREEHOLD_{}", self.database)
    }

    /// The subject of its entries.
    pub(crate) fn subject(&self) -> String {
        format!("freehold.{}.log", self.database)
    }

    /// The subject of the entries that name a checkpoint.
    pub(crate) fn checkpoint_subject(&self) -> String {
        format!("freehold.{}.checkpoint", self.database)
    }

    /// How the names of the database's checkpoints begin.
    pub(crate) fn checkpoint_prefix(&self, database: u64) -> String {
        format!("FREEHOLD_{}_checkpoint_{database:016x}_", self.database)
    }

    /// The subject on which a reader says that something is damaged.
    pub(crate) fn damage_subject(&self) -> String {
        format!("freehold.{}.damage", self.database)
    }

    /// The subject on which the owner says that it is there.
    pub(crate) fn beat_subject(&self) -> String {
        format!("freehold.{}.beat", self.database)
    }
}

/// Who repairs a stream of which something is missing, or is not what was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Repair {
    /// The owner, if it lives: a node that finds damage says so, and goes on reading for its
    /// patience. The owner reads all of the stream itself. If it finds damage, it makes a
    /// checkpoint of its own log, and trims what was damaged.
    #[default]
    ByOwner,
    /// Nobody by itself: [`Replicated::checkpoint`](crate::Replicated::checkpoint) of an owner
    /// does, when somebody has seen what there is.
    ByHand,
    /// This node, from its own log, when it is opened and cannot join because of damage: it founds
    /// the stream anew behind a checkpoint of that log. The decision is an operator's, after all
    /// other nodes were stopped, because this log then *is* the database. It is refused
    /// ([`ReplicaError::LogIsBehind`]) if the stream shows that this log lacks something. For the
    /// log of the last owner, or of the node with the most epochs.
    FromThisLog,
}

/// Who a node is to the servers. `Debug` shows no secret.
#[derive(Clone, Default)]
pub enum Login {
    /// Nobody in particular.
    #[default]
    None,
    /// A user with a password.
    User {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// The holder of this token.
    Token(String),
    /// The owner of the key with this seed.
    Nkey(String),
    /// As a file of credentials says: a JWT and the seed of a key. It is read at each start.
    Credentials(PathBuf),
}

impl Login {
    /// The login of the environment: `NATS_USER` and `NATS_PASSWORD`, `NATS_TOKEN`, `NATS_NKEY` (a
    /// seed), or `NATS_CREDS` (a file). `None` if it has none of them.
    pub fn of_environment() -> Login {
        if let Some(user) = Login::user_of_environment("NATS_USER", "NATS_PASSWORD") {
            return user;
        }
        let token = var("NATS_TOKEN").ok().map(Login::Token);
        let key = var("NATS_NKEY").ok().map(Login::Nkey);
        let credentials = var("NATS_CREDS").ok().map(|path| Login::Credentials(path.into()));
        token.or(key).or(credentials).unwrap_or_default()
    }

    fn user_of_environment(user: &str, password: &str) -> Option<Login> {
        let user = var(user).ok()?;
        Some(Login::User { user, password: var(password).unwrap_or_default() })
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Login::None => f.write_str("None"),
            Login::User { user, .. } => write!(f, "User {{ user: {user:?}, .. }}"),
            Login::Token(_) => f.write_str("Token(..)"),
            Login::Nkey(_) => f.write_str("Nkey(..)"),
            Login::Credentials(path) => write!(f, "Credentials({path:?})"),
        }
    }
}

/// How a connection is kept from others.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// Whether a server that offers no TLS is refused.
    pub is_required: bool,
    /// Certificates of authorities to trust, beside those that the system trusts: a PEM file.
    pub authorities: Option<PathBuf>,
    /// This node's own certificate and its key: PEM files.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// How a node finds out whether each server syncs each write before it acknowledges it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum SyncCheck {
    /// It does not know how. That is refused.
    #[default]
    Missing,
    /// It asks the servers, by this login of their system account.
    By(Login),
    /// Somebody has made sure of it by other means. A warning mentions that: if it is not so, a
    /// power cut of several servers loses what was acknowledged.
    Assumed,
}

impl SyncCheck {
    /// By the login of the environment, if it has one of the servers' system account:
    /// `NATS_SYS_USER` and `NATS_SYS_PASSWORD`. Otherwise it is [`Assumed`](SyncCheck::Assumed).
    pub fn of_environment() -> SyncCheck {
        let login = Login::user_of_environment("NATS_SYS_USER", "NATS_SYS_PASSWORD");
        login.map_or(SyncCheck::Assumed, SyncCheck::By)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ReplicaConfig {
        ReplicaConfig { sync_check: SyncCheck::Assumed, ..ReplicaConfig::new("ledger", "a", ["nats://h"]) }
    }

    fn refused(config: &ReplicaConfig) -> &'static str {
        match config.check() {
            Err(ReplicaError::Config { field, .. }) => field,
            other => panic!("it is not refused: {other:?}"),
        }
    }

    #[test]
    fn each_field_is_checked() {
        assert!(config().check().is_ok());
        let long = Duration::from_secs(4000);
        for (field, wrong) in [
            ("database", ReplicaConfig { database: "a.b".into(), ..config() }),
            ("node", ReplicaConfig { node: "a/b".into(), ..config() }),
            ("servers", ReplicaConfig { servers: Vec::new(), ..config() }),
            ("servers", ReplicaConfig { servers: vec!["nats://user:word@host".into()], ..config() }),
            ("replicas", ReplicaConfig { replicas: 0, ..config() }),
            ("takeover_after", ReplicaConfig { takeover_after: Some(Duration::ZERO), ..config() }),
            ("beat_every", ReplicaConfig { beat_every: long, ..config() }),
            ("entry_bytes_max", ReplicaConfig { entry_bytes_max: 4095, ..config() }),
            ("checkpoint_bytes", ReplicaConfig { checkpoint_bytes: 1, ..config() }),
            ("backlog_bytes", ReplicaConfig { backlog_bytes: 1, ..config() }),
            ("answer_within", ReplicaConfig { answer_within: long, ..config() }),
            ("patience", ReplicaConfig { patience: long, ..config() }),
            ("sync_check", ReplicaConfig { sync_check: SyncCheck::Missing, ..config() }),
        ] {
            assert_eq!(refused(&wrong), field);
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let logins = [
            Login::User { user: "u".into(), password: "hush".into() },
            Login::Token("hush".into()),
            Login::Nkey("hush".into()),
        ];
        for login in logins {
            let sync_check = SyncCheck::By(login.clone());
            let shown = format!("{:?}", ReplicaConfig { login, sync_check, ..config() });
            assert!(!shown.contains("hush"), "{shown}");
        }
    }
}
