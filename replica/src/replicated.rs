//! The node as a program sees it.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use freehold::{Actor, Config, Handle, LogConfig, Metric, Report, Runtime};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc as commands;
use tokio::sync::mpsc::error::TrySendError;

use crate::config::ReplicaConfig;
use crate::error::ReplicaError;
use crate::node::{Node, Setup};
use crate::objects::{Objects, StandbySnapshot};
use crate::status::{NodeStatus, Role, StreamCheckpoint};
use crate::stream::PAUSE;

/// How many requests may wait for the node's thread.
const COMMANDS_MAX: usize = 64;

/// What a program asks of the node's thread.
pub(crate) enum Command {
    Promote(mpsc::SyncSender<Result<(), ReplicaError>>),
    Checkpoint(mpsc::SyncSender<Result<StreamCheckpoint, ReplicaError>>),
    Stop(mpsc::SyncSender<Option<Report>>),
}

/// What the node's thread and the program share.
pub(crate) struct NodeShared<A: Actor> {
    status: Mutex<NodeStatus>,
    changed: Condvar,
    pub(crate) runtime: RwLock<Option<Runtime<A>>>,
    pub(crate) shows: Arc<Mutex<Objects<A>>>,
}

impl<A: Actor> NodeShared<A> {
    pub(crate) fn status(&self) -> MutexGuard<'_, NodeStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says something else of the node.
    pub(crate) fn say(&self, change: impl FnOnce(&mut NodeStatus)) {
        change(&mut self.status());
        self.changed.notify_all();
    }
}

/// A node of a replicated database: its owner, or a standby. Dropping it shuts it down.
pub struct Replicated<A: Actor> {
    shared: Arc<NodeShared<A>>,
    commands: commands::Sender<Command>,
    thread: Option<JoinHandle<()>>,
}

impl<A: Actor> Replicated<A>
where
    <A as Actor>::State: Serialize + DeserializeOwned,
    <A as Actor>::Message: Serialize + DeserializeOwned,
{
    /// Joins the database. The node becomes its owner if nobody owns it, or if it was the owner
    /// itself and nobody took over since. Otherwise it becomes a standby, and this returns when it
    /// has all that the stream had.
    ///
    /// `log` says where the node keeps its log and what it remembers: in [`LogConfig::directory`]
    /// are then a directory `log`, a file `node.json`, and what was set aside.
    /// [`LogConfig::leaving`] and [`LogConfig::ack`] are this package's to set:
    /// [`ReplicaConfig::ack`] counts. Give all nodes the same [`LogConfig::segment_bytes`]: the
    /// longest state is as long as a segment lets it be, and a standby with smaller segments than
    /// the owner's stops at the first record that it cannot hold
    /// ([`freehold::CommitLogError::TooLong`]).
    ///
    /// It blocks its thread. While a runtime starts it may wait for the stream: with messages that
    /// are owed, and with a checkpoint. If the servers are away then, it waits until they are back,
    /// for longer than [`ReplicaConfig::patience`].
    ///
    /// # Errors
    /// See [`ReplicaError`]; whatever was started is stopped again.
    pub fn open(config: Config, log: LogConfig, replica: ReplicaConfig) -> Result<Self, ReplicaError> {
        replica.check()?;
        let shared = Arc::new(NodeShared {
            status: Mutex::default(),
            changed: Condvar::new(),
            runtime: RwLock::new(None),
            shows: Arc::new(Mutex::new(Objects::new())),
        });
        let (sender, receiver) = commands::channel(COMMANDS_MAX);
        let (ready, is_ready) = mpsc::channel();
        let setup = Setup { config, log, replica, shared: shared.clone(), commands: receiver };
        let thread = std::thread::Builder::new().name("freehold-replica".into());
        let thread = thread
            .spawn(move || {
                let shared = setup.shared.clone();
                if let Err(why) = guarded(&shared, || live(setup, &ready)) {
                    // Nobody listens any more, unless it had just begun.
                    let _ = ready.send(Err(ReplicaError::Panicked { why }));
                }
            })
            .map_err(|source| ReplicaError::File { path: PathBuf::from("a thread of its own"), source })?;
        let node = Replicated { shared, commands: sender, thread: Some(thread) };
        match is_ready.recv() {
            Ok(Ok(())) => Ok(node),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ReplicaError::Stopped),
        }
    }
}

impl<A: Actor> Replicated<A> {
    /// What the node is to its database.
    pub fn role(&self) -> Role {
        self.shared.status().role
    }

    /// What the node says of itself.
    pub fn status(&self) -> NodeStatus {
        self.shared.status().clone()
    }

    /// Gives the node's numbers to what it is given, whenever it is called: for
    /// `freehold_metrics::Server::also`, and other tools that take [`NodeStatus::visit`]'s numbers.
    /// It does not keep the node alive.
    pub fn metrics(&self) -> impl Fn(&mut dyn FnMut(&Metric<'_>)) + Send + Sync + 'static {
        let shared = self.shared.clone();
        move |to| {
            let status = shared.status().clone();
            status.visit(to);
        }
    }

    /// Waits until the node's status is so, or for `at_most`. Says whether it is.
    pub fn wait_until(&self, is_so: impl Fn(&NodeStatus) -> bool, at_most: Duration) -> bool {
        let until = Instant::now() + at_most;
        let mut status = self.shared.status();
        loop {
            if is_so(&status) {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(status, left);
            status = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A handle of the owner's runtime; `None` if the node is not the owner.
    pub fn handle(&self) -> Option<Handle<A>> {
        self.with_runtime(Runtime::handle)
    }

    /// Calls `with` with the owner's runtime; `None` if the node is not the owner. The node does
    /// not stop before `with` returns.
    pub fn with_runtime<R>(&self, with: impl FnOnce(&Runtime<A>) -> R) -> Option<R> {
        self.shared.runtime.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(with)
    }

    /// What a standby has, at once: all objects as of the last epoch that it took over. It is as
    /// old as it says.
    ///
    /// # Errors
    /// [`ReplicaError::Role`] if the node is no standby, or what it has is of other types.
    pub fn snapshot(&self) -> Result<StandbySnapshot<A>, ReplicaError> {
        let (role, lag) = {
            let status = self.shared.status();
            (status.role, status.lag)
        };
        if role != Role::Standby {
            return Err(ReplicaError::Role { needed: "a standby: ask the owner's runtime for a snapshot" });
        }
        let shows = self.shared.shows.lock().unwrap_or_else(PoisonError::into_inner);
        shows.snapshot(lag).map_err(|needed| ReplicaError::Role { needed })
    }

    /// Has a standby take the database over, and waits until its runtime takes messages. The former
    /// owner, if it lives, answers nobody from its next append on. It blocks its thread, and waits
    /// for servers that are away as [`Replicated::open`] does while its runtime starts.
    ///
    /// # Errors
    /// [`ReplicaError::Role`] if it is no standby; otherwise why it cannot. It is a standby then,
    /// or [`Role::Failed`].
    pub fn promote(&self) -> Result<(), ReplicaError> {
        self.ask(Command::Promote).ok_or(ReplicaError::Stopped)?
    }

    /// Has the owner make a checkpoint, put it into the object store, name it in the stream, and
    /// trim the stream below it; waits until that is done. If one is being made, it waits for that
    /// one. The owner makes them by itself, too: see
    /// [`ReplicaConfig::checkpoint_bytes`](crate::ReplicaConfig::checkpoint_bytes).
    ///
    /// # Errors
    /// [`ReplicaError::Role`] if the node is not the owner; [`ReplicaError::NotCheckpointed`] and
    /// others say why there is none. The owner goes on, and nothing is lost.
    pub fn checkpoint(&self) -> Result<StreamCheckpoint, ReplicaError> {
        self.ask(Command::Checkpoint).ok_or(ReplicaError::Stopped)?
    }

    /// Shuts the node down. An owner stops its runtime, brings the last epochs to the stream and
    /// gives the database up, so that a standby may take it over at once. Returns how the runtime
    /// ended, if there was one.
    pub fn shutdown(mut self) -> Option<Report> {
        self.stop()
    }

    /// Asks the node's thread, and waits for its answer; `None` if it has ended. It may be called
    /// on a thread of an executor, whose other tasks wait then: nothing here is of one.
    fn ask<T>(&self, command: impl FnOnce(mpsc::SyncSender<T>) -> Command) -> Option<T> {
        let (answer, answered) = mpsc::sync_channel(1);
        let mut command = command(answer);
        loop {
            match self.commands.try_send(command) {
                Ok(()) => return answered.recv().ok(),
                Err(TrySendError::Closed(_)) => return None,
                Err(TrySendError::Full(again)) => {
                    command = again;
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    fn stop(&mut self) -> Option<Report> {
        let thread = self.thread.take()?;
        let report = self.ask(Command::Stop).flatten();
        let _ = thread.join();
        report
    }
}

impl<A: Actor> Drop for Replicated<A> {
    fn drop(&mut self) {
        self.stop();
    }
}

impl<A: Actor> fmt::Debug for Replicated<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replicated").field("status", &*self.shared.status()).finish()
    }
}

/// Lives a node's life. If that panics the node owns nothing any more: its runtime is stopped, so
/// that each caller has an answer. Returns what the panic said.
///
/// The story: an owner's thread had panicked. It still said that it was the owner, and its callers
/// waited for ever.
fn guarded<A: Actor>(shared: &NodeShared<A>, life: impl FnOnce()) -> Result<(), String> {
    // Of what it leaves only the status and the runtime are looked at, which have locks of their
    // own.
    let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(life)) else { return Ok(()) };
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let why = text.or_else(|| panic.downcast_ref::<String>().cloned());
    let why = why.unwrap_or_else(|| "it is no text".to_string());
    tracing::error!(%why, "this node's thread panicked: the node does not go on");
    shared.say(|status| {
        (status.role, status.failure) = (Role::Failed, Some(format!("its thread panicked: {why}")));
    });
    let runtime = shared.runtime.write().unwrap_or_else(PoisonError::into_inner).take();
    drop(runtime.map(Runtime::shutdown));
    Err(why)
}

/// The life of the node's thread.
fn live<A: Actor>(setup: Setup<A>, ready: &mpsc::Sender<Result<(), ReplicaError>>)
where
    <A as Actor>::State: Serialize + DeserializeOwned,
    <A as Actor>::Message: Serialize + DeserializeOwned,
{
    let executor = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(executor) => executor,
        Err(error) => return drop(ready.send(Err(ReplicaError::servers("making an executor", error)))),
    };
    executor.block_on(async {
        let shared = setup.shared.clone();
        match Node::join(setup).await {
            Ok(node) => {
                let _ = ready.send(Ok(()));
                node.live().await;
            }
            Err(error) => {
                shared.say(|status| status.role = Role::Failed);
                let _ = ready.send(Err(error));
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use freehold::{AccessError, Ack, Addressees, AskError, Shards, epoch_channel};

    use super::*;

    struct Counters;

    impl Actor for Counters {
        type Id = u64;
        type State = u64;
        type Message = u64;
        type Reply = u64;
        type Error = AccessError<u64>;

        fn addressees(counter: &u64, to: &mut Addressees<u64>) {
            to.write(*counter);
        }

        fn receive(
            counter: &u64,
            objects: &mut freehold::Objects<'_, Self>,
        ) -> Result<u64, AccessError<u64>> {
            let count = objects.get_or_insert_with(*counter, || 0)?;
            *count += 1;
            Ok(*count)
        }
    }

    // A runtime whose answers the stream has to have, and one that answers by its own disk alone.
    #[test]
    fn a_node_whose_thread_panics_owns_nothing_and_its_callers_are_answered() {
        for (ack, answer) in [(Ack::Replicated, Err(AskError::Unknown)), (Ack::Durable, Ok(1))] {
            let place = tempfile::tempdir().expect("a place");
            let (sender, receiver) = epoch_channel(1 << 20, || {});
            let config = Config { shards: Shards::Count(1), ..Config::default() };
            let leaving = Some(sender);
            let log = LogConfig { ack, leaving, segment_bytes: 64 << 10, ..LogConfig::at(place.path()) };
            let runtime = Runtime::<Counters>::open(config, log).expect("it opens");
            let handle = runtime.handle();
            let shared = NodeShared {
                status: Mutex::default(),
                changed: Condvar::new(),
                runtime: RwLock::new(Some(runtime)),
                shows: Arc::new(Mutex::new(Objects::new())),
            };
            shared.say(|status| status.role = Role::Owner);
            let asked = handle.ask(7);
            let died = guarded(&shared, move || {
                let _receiver = receiver;
                panic!("a test said so");
            });
            assert_eq!((died, asked.wait()), (Err("a test said so".to_string()), answer));
            assert_eq!(handle.ask(7).wait(), Err(AskError::Stopped));
            let status = shared.status().clone();
            assert!(status.role == Role::Failed && status.failure.is_some_and(|why| why.contains("a test")));
            assert!(shared.runtime.read().expect("nobody panicked with it").is_none());
        }
    }
}
