//! What becomes of a panic in a user's code: its message is undone, the shard goes on, and what the
//! panic said is kept for a while.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt::{self, Debug};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

/// Of how many panics in actors it is kept what they said, in the whole process.
pub const PANICS_KEPT_MAX: usize = 1024;
/// How much of a panic's text is kept, and of an id, in bytes.
const TEXT_MAX: usize = 4096;

/// The panics that are kept, oldest first.
static KEPT: Mutex<Kept> = Mutex::new(Kept { count: 0, last: VecDeque::new() });

struct Kept {
    /// How many there have been.
    count: u64,
    last: VecDeque<Arc<Said>>,
}

struct Said {
    object: String,
    text: String,
}

/// A panic in an actor: in which object's message, and what it said.
///
/// It is a number: the words are kept apart, those of the last [`PANICS_KEPT_MAX`] panics of the
/// process. (Outcomes are moved a lot. With the words in them a transaction took 190 instructions
/// more of 3,500, and a message in a batch 11 of 340, because dropping an outcome was no small
/// thing any more.) Two are equal if they are the same panic.
///
/// ```
/// use freehold_shard::AskError;
///
/// fn explain(error: &AskError<String>) -> String {
///     match error {
///         AskError::Panicked(panic) => format!("object {} panicked: {}", panic.object(), panic.text()),
///         other => other.to_string(),
///     }
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ActorPanic(u64);

impl ActorPanic {
    /// A panic in a message to the object `id`, as a stand-in for an actor has it.
    ///
    /// ```
    /// let panic = freehold_shard::ActorPanic::new(&7, "out of cheese");
    /// assert_eq!(panic.to_string(), "object 7: out of cheese");
    /// ```
    pub fn new(id: &impl Debug, text: &str) -> Self {
        ActorPanic::keep(written(id), cut(text.to_string()))
    }

    /// A panic that was caught in a message to the object `id`.
    #[cold]
    pub(crate) fn caught(id: &impl Debug, payload: Box<dyn Any + Send>) -> Self {
        let (object, text) = (written(id), text(&*payload));
        drop_quietly(payload);
        ActorPanic::keep(object, text)
    }

    fn keep(object: String, text: String) -> Self {
        let said = Arc::new(Said { object, text });
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.last.len() == PANICS_KEPT_MAX {
            kept.last.pop_front();
        }
        kept.last.push_back(said);
        kept.count += 1;
        ActorPanic(kept.count - 1)
    }

    /// The object that the message named first, as `Debug` writes its id, at most 4 KiB of it.
    /// Empty if its words are not kept any more.
    pub fn object(&self) -> String {
        self.said().map_or_else(String::new, |said| said.object.clone())
    }

    /// What the panic said, at most 4 KiB of it. Empty if its words are not kept any more.
    pub fn text(&self) -> String {
        self.said().map_or_else(String::new, |said| said.text.clone())
    }

    fn said(&self) -> Option<Arc<Said>> {
        let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = usize::try_from(kept.count - self.0).ok()?;
        kept.last.len().checked_sub(behind).map(|at| kept.last[at].clone())
    }
}

impl Debug for ActorPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActorPanic").field("object", &self.object()).field("text", &self.text()).finish()
    }
}

impl fmt::Display for ActorPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.said() {
            Some(said) => write!(f, "object {}: {}", said.object, said.text),
            None => f.write_str("what it said is not kept any more"),
        }
    }
}

/// Drops a user's value, or what a panic carries, which may itself panic when dropped.
#[cold]
pub(crate) fn drop_quietly<T>(value: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(value)));
}

/// What a panic said.
pub(crate) fn text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&'static str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    cut(text.unwrap_or("it did not say why").to_string())
}

/// How a user's value writes itself, which may panic.
fn written(value: &impl Debug) -> String {
    let text = catch_unwind(AssertUnwindSafe(|| format!("{value:?}")));
    text.map(cut).unwrap_or_else(|payload| {
        drop_quietly(payload);
        "an id that panics when it is written".to_string()
    })
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_MAX));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Panics in other tests of this process come between.
    #[test]
    fn what_the_last_panics_said_is_kept_and_no_more() {
        let first = ActorPanic::caught(&7, Box::new("as a literal"));
        assert_eq!((&*first.object(), &*first.text()), ("7", "as a literal"));
        assert_eq!(first.to_string(), "object 7: as a literal");
        let long = ActorPanic::caught(&"x".repeat(5000), Box::new("ü".repeat(5000)));
        assert_eq!((long.object().len(), long.text().len()), (TEXT_MAX, TEXT_MAX));
        let wordless = ActorPanic::caught(&8, Box::new(5));
        assert_eq!((&*wordless.object(), &*wordless.text()), ("8", "it did not say why"));
        for at in 0..PANICS_KEPT_MAX {
            let _ = ActorPanic::new(&at, "again");
        }
        assert_eq!((first.text(), first.object()), (String::new(), String::new()));
        assert!(first.to_string().contains("not kept"), "{first}");
        assert_eq!(KEPT.lock().expect("nobody panics with it").last.len(), PANICS_KEPT_MAX);
    }
}
