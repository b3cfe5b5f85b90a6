//! An errand in the hands of the program: it ends with an outcome, or goes back to its shard.

use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use freehold_shard::{Actor, BegunErrand, ErrandId, OwnerId};

use crate::error::panic_message;

/// Something that the program does outside for its objects: see
/// [`Objects::perform`](crate::Objects::perform).
///
/// It ends by [`Errand::done`]. One that is dropped before that, because its task panicked or was
/// cancelled, say, is performed once more after [a second](Errand::AGAIN_AFTER). An errand that ends
/// the process is performed once more in every run, until [`owed::drop_message`] gives it up.
///
/// [`owed::drop_message`]: crate::owed::drop_message
#[must_use = "an errand that is dropped is performed once more"]
pub struct Errand<A: Actor> {
    /// `None` once it has ended.
    begun: Option<BegunErrand<A>>,
    shard: Arc<dyn OwingShard<A>>,
}

/// The shard that owes an errand, for any thread.
pub(crate) trait OwingShard<A: Actor>: Send + Sync {
    /// It has ended.
    fn end(&self, id: ErrandId, sender: OwnerId, outcome: A::Message);

    /// It was let go of.
    fn put_back(&self, begun: BegunErrand<A>);
}

impl<A: Actor> Errand<A> {
    /// How long an errand waits that was dropped without an outcome: a second.
    pub const AGAIN_AFTER: std::time::Duration = std::time::Duration::from_secs(1);

    pub(crate) fn new(begun: BegunErrand<A>, shard: Arc<dyn OwingShard<A>>) -> Self {
        Errand { begun: Some(begun), shard }
    }

    fn begun(&self) -> &BegunErrand<A> {
        self.begun.as_ref().expect("`done` takes the errand itself")
    }

    /// Its name, the same whenever it is performed.
    ///
    /// ```
    /// # use freehold_example::*;
    /// # use freehold::Errand;
    /// fn idempotency_key(errand: &Errand<Bank>) -> String {
    ///     format!("bank-{}", errand.id().number())
    /// }
    /// ```
    pub fn id(&self) -> ErrandId {
        self.begun().id
    }

    /// Who sent the message that told it.
    ///
    /// ```
    /// # use freehold_example::*;
    /// # use freehold::{Errand, OwnerId};
    /// fn is_the_bank_s(errand: &Errand<Bank>) -> bool {
    ///     errand.sender() == OwnerId(0)
    /// }
    /// ```
    pub fn sender(&self) -> OwnerId {
        self.begun().sender
    }

    /// What is to be done.
    ///
    /// ```
    /// # use freehold_example::*;
    /// # use freehold::Errand;
    /// fn cents(errand: &Errand<Bank>) -> u64 {
    ///     let Message::Deposit(deposit) = errand.message();
    ///     deposit.cents
    /// }
    /// ```
    pub fn message(&self) -> &A::Message {
        &self.begun().message
    }

    /// It has ended, and this is its outcome: a message to objects, which is sent as
    /// [`Errand::sender`]. Should that fail, nothing of it takes effect, and the errand is paid all
    /// the same: [`Embedding::on_failed`](crate::Embedding::on_failed) hears of it.
    ///
    /// If the runtime has stopped, the outcome is dropped. With a log the errand is then owed
    /// still, and the next run performs it once more.
    ///
    /// ```
    /// # use freehold_example::*;
    /// # use freehold::Errand;
    /// fn perform(errand: Errand<Bank>) {
    ///     errand.done(Deposit { account: 7, cents: 5 });
    /// }
    /// ```
    pub fn done(mut self, outcome: impl Into<A::Message>) {
        // The program's code: if it panics, the errand is dropped as it is.
        let outcome = outcome.into();
        if let Some(BegunErrand { id, sender, .. }) = self.begun.take() {
            self.shard.end(id, sender, outcome);
        }
    }
}

impl<A: Actor> Drop for Errand<A> {
    fn drop(&mut self) {
        if let Some(begun) = self.begun.take() {
            self.shard.put_back(begun);
        }
    }
}

impl<A: Actor> fmt::Debug for Errand<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Errand").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// Performs errands, or sees to it.
type Perform<A> = Arc<dyn Fn(Errand<A>) + Send + Sync>;

/// Makes a task of an errand.
type Task<A> = Arc<dyn Fn(Errand<A>) -> Pin<Box<dyn Future<Output = ()>>> + Send + Sync>;

/// Where errands are performed.
pub(crate) enum Performer<A: Actor> {
    With(Perform<A>),
    OnShards(Task<A>),
    /// On so many, which are not spawned yet.
    OnThreads(usize, Perform<A>),
}

impl<A: Actor> Performer<A> {
    /// Spawns its threads, if it has any. They end when what is returned is dropped.
    pub(crate) fn begin(self) -> io::Result<Self> {
        let Performer::OnThreads(threads, perform) = self else { return Ok(self) };
        // At most as many wait in it as may be under way.
        let (sender, receiver) = mpsc::channel();
        let receiver = Arc::new(Mutex::new(receiver));
        for at in 0..threads {
            let (receiver, perform) = (receiver.clone(), perform.clone());
            let thread = thread::Builder::new().name(format!("freehold-errand-{at}"));
            thread.spawn(move || perform_all(&receiver, &perform))?;
        }
        Ok(Performer::With(Arc::new(move |errand| drop(sender.send(errand)))))
    }
}

fn perform_all<A: Actor>(errands: &Mutex<Receiver<Errand<A>>>, perform: &Perform<A>) {
    loop {
        let next = errands.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(errand) = next else { return };
        call(|| perform(errand));
    }
}

/// Calls what performs an errand. If it panics, it has let go of the errand.
pub(crate) fn call(perform: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(perform)) {
        tracing::error!(panic = panic_message(payload), "what performs errands panicked");
    }
}
