//! An action in the hands of the program: it ends with an outcome, or goes back to its shard.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use freehold_shard::{ActionId, Actor, BegunAction, OwnerId};

use crate::error::panic_message;
use crate::spawn::spawn_thread;

/// Something that the program does outside for its objects: see
/// [`Objects::perform`](crate::Objects::perform).
///
/// It ends by [`Action::done`]. One that is dropped before that, because its task panicked or was
/// cancelled, say, is performed once more after [a second](Action::AGAIN_AFTER). An action that ends
/// the process is performed once more in every run, until [`owed::drop_message`] gives it up.
///
/// [`owed::drop_message`]: crate::owed::drop_message
#[must_use = "an action that is dropped is performed once more"]
pub struct Action<A: Actor> {
    /// `None` once it has ended.
    begun: Option<BegunAction<A>>,
    shard: Arc<dyn OwingShard<A>>,
}

/// The shard that owes an action, for any thread.
pub(crate) trait OwingShard<A: Actor>: Send + Sync {
    /// It has ended.
    fn end(&self, id: ActionId, sender: OwnerId, outcome: A::Message);

    /// It was let go of.
    fn put_back(&self, begun: BegunAction<A>);
}

impl<A: Actor> Action<A> {
    /// How long an action waits that was dropped without an outcome: a second.
    pub const AGAIN_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

    pub(crate) fn new(begun: BegunAction<A>, shard: Arc<dyn OwingShard<A>>) -> Self {
        Action { begun: Some(begun), shard }
    }

    fn begun(&self) -> &BegunAction<A> {
        self.begun.as_ref().expect("`done` takes the action itself")
    }

    /// Its name, the same whenever it is performed.
    ///
    /// ```
    /// # use freehold_example::*;
    /// # use freehold::Action;
    /// fn idempotency_key(action: &Action<Bank>) -> String {
    ///     format!("bank-{}", action.id().number())
    /// }
    /// ```
    pub fn id(&self) -> ActionId {
        self.begun().id
    }

    /// Who sent the message that told it.
    ///
    /// ```
    /// # use freehold_example::*;
    /// # use freehold::{Action, OwnerId};
    /// fn is_the_bank_s(action: &Action<Bank>) -> bool {
    ///     action.sender() == OwnerId(0)
    /// }
    /// ```
    pub fn sender(&self) -> OwnerId {
        self.begun().sender
    }

    /// What is to be done.
    ///
    /// ```
    /// # use freehold_example::*;
    /// # use freehold::Action;
    /// fn cents(action: &Action<Bank>) -> u64 {
    ///     let Message::Deposit(deposit) = action.message();
    ///     deposit.cents
    /// }
    /// ```
    pub fn message(&self) -> &A::Message {
        &self.begun().message
    }

    /// It has ended, and this is its outcome: a message to objects, which is sent as
    /// [`Action::sender`]. Should that fail, nothing of it takes effect, and the action is
    /// delivered all the same: [`Embedding::on_failed`](crate::Embedding::on_failed) hears of it.
    ///
    /// If the runtime has stopped, the outcome is dropped. With a log the action is then owed
    /// still, and the next run performs it once more.
    ///
    /// ```
    /// # use freehold_example::*;
    /// # use freehold::Action;
    /// fn perform(action: Action<Bank>) {
    ///     action.done(Deposit { account: 7, cents: 5 });
    /// }
    /// ```
    pub fn done(mut self, outcome: impl Into<A::Message>) {
        // The program's code: if it panics, the action is dropped as it is.
        let outcome = outcome.into();
        if let Some(BegunAction { id, sender, .. }) = self.begun.take() {
            self.shard.end(id, sender, outcome);
        }
    }
}

impl<A: Actor> Drop for Action<A> {
    fn drop(&mut self) {
        if let Some(begun) = self.begun.take() {
            self.shard.put_back(begun);
        }
    }
}

impl<A: Actor> fmt::Debug for Action<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Action").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// Performs actions, or sees to it.
type Perform<A> = Arc<dyn Fn(Action<A>) + Send + Sync>;

/// Makes a task of an action.
type Task<A> = Arc<dyn Fn(Action<A>) -> Pin<Box<dyn Future<Output = ()>>> + Send + Sync>;

/// Where actions are performed.
pub(crate) enum Performer<A: Actor> {
    With(Perform<A>),
    /// With where in the program that was said.
    OnShards(Task<A>, &'static Location<'static>),
    /// On so many, which are not spawned yet.
    OnThreads(usize, Perform<A>),
}

impl<A: Actor> Performer<A> {
    /// Spawns its threads, if it has any. They end when what is returned is dropped.
    pub(crate) fn begin(self) -> io::Result<Self> {
        let Performer::OnThreads(threads, perform) = self else { return Ok(self) };
        let ahead = Arc::new(Ahead { actions: Mutex::new((VecDeque::new(), true)), changed: Condvar::new() });
        let shuts = Shuts(ahead.clone());
        for at in 0..threads {
            let (ahead, perform) = (ahead.clone(), perform.clone());
            let perform = move || ahead.perform_all(&perform);
            spawn_thread(format!("freehold-action-{at}"), Box::new(perform))?;
        }
        Ok(Performer::With(Arc::new(move |action| shuts.0.push(action))))
    }
}

/// The actions in front of the threads that perform them: at most as many as may be under way. (A
/// channel of the standard library is of three kinds inside, and each actor brought all three.)
struct Ahead<A: Actor> {
    /// And whether more may come.
    actions: Mutex<(VecDeque<Action<A>>, bool)>,
    changed: Condvar,
}

impl<A: Actor> Ahead<A> {
    fn lock(&self) -> MutexGuard<'_, (VecDeque<Action<A>>, bool)> {
        self.actions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, action: Action<A>) {
        self.lock().0.push_back(action);
        self.changed.notify_one();
    }

    /// The next; `None` if none will come.
    fn next(&self) -> Option<Action<A>> {
        let mut actions = self.lock();
        loop {
            match actions.0.pop_front() {
                Some(action) => return Some(action),
                None if !actions.1 => return None,
                None => actions = self.changed.wait(actions).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn perform_all(&self, perform: &Perform<A>) {
        while let Some(action) = self.next() {
            call(|| perform(action));
        }
    }
}

/// When it is dropped, no more actions come.
struct Shuts<A: Actor>(Arc<Ahead<A>>);

impl<A: Actor> Drop for Shuts<A> {
    fn drop(&mut self) {
        self.0.lock().1 = false;
        self.0.changed.notify_all();
    }
}

/// Calls what performs an action. If it panics, it has let go of the action.
pub(crate) fn call(perform: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(perform)) {
        tracing::error!(panic = panic_message(payload), "what performs actions panicked");
    }
}
