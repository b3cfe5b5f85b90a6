//! Threads and tasks, spawned as a `dyn`.
//!
//! What spawns is generic over what is spawned, and brings some thirty functions for each kind. A
//! runtime spawns a dozen kinds, and each holds types of the actor. So each actor of a program had
//! a fifth of its compile time for nothing but spawning. Here it is compiled once.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::thread::{Builder, JoinHandle};

/// A future that stays on its thread.
pub(crate) type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Spawns a thread with this name.
pub(crate) fn spawn_thread(name: String, life: Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name).spawn(life)
}

/// Spawns a task on this thread's executor. Nobody watches it.
pub(crate) fn spawn_task(task: LocalFuture<'static, ()>) {
    glommio::spawn_local(task).detach();
}
