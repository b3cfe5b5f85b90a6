//! Messages that failed and that nobody waits for: the program hears of each by its hook, and the
//! log now and then by an event.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use freehold_shard::{Actor, AskError, Effects, Failure, ShardIndex};

use crate::embedding::Embedding;
use crate::error::panic_message;

/// How often a shard says at most that messages fail.
const EVENT_EVERY: Duration = Duration::from_secs(1);

/// What a shard has to say of its failures.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    /// When it may say something again.
    next: Option<Instant>,
    /// How many there were since it did last.
    unsaid: u64,
}

impl Failures {
    /// Takes the failures of a turn, and passes them on.
    #[cold]
    pub(crate) fn take<A: Actor>(
        &mut self,
        shard: ShardIndex,
        now: Instant,
        effects: &mut Effects<A>,
        embedding: &Embedding<A>,
    ) {
        self.unsaid += effects.failures.len() as u64 + std::mem::take(&mut effects.failures_unseen);
        if let Some(last) = effects.failures.last()
            && self.next.is_none_or(|next| now >= next)
        {
            tracing::warn!(
                shard = shard.0,
                message = last.message,
                why = %why(&last.error),
                failures = self.unsaid,
                "messages failed that nobody waits for, and this was the last of them"
            );
            (self.next, self.unsaid) = (Some(now + EVENT_EVERY), 0);
        }
        for failure in effects.failures.drain(..) {
            call(shard, embedding, &failure);
        }
    }
}

/// Calls the program's hook. Its panics are its own.
fn call<A: Actor>(shard: ShardIndex, embedding: &Embedding<A>, failure: &Failure<A>) {
    let Some(on_failed) = &embedding.on_failed else { return };
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| on_failed(failure))) {
        tracing::error!(shard = shard.0, panic = panic_message(payload), "the hook `on_failed` panicked");
    }
}

/// Why a message failed, in words. The actor's own error may have none.
fn why<A>(error: &AskError<A>) -> String {
    match error {
        AskError::Aborted(_) => "the actor refused it".to_string(),
        AskError::Panicked(panic) => format!("the actor panicked: {panic}"),
        AskError::AddresseesUnstable => AskError::<&str>::AddresseesUnstable.to_string(),
        AskError::Unaddressed => AskError::<&str>::Unaddressed.to_string(),
        AskError::NotRecorded(error) => format!("the log cannot hold it: {error}"),
        _ => "it was not run".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::test_actor::Accounts;

    #[test]
    fn the_hook_hears_of_each_failure_and_the_log_of_one_a_second() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hook = {
            let heard = heard.clone();
            move |failure: &Failure<Accounts>| {
                heard.lock().expect("nobody panics with it").push(failure.message);
                assert_ne!(failure.message, "worst", "on purpose");
            }
        };
        let embedding = Embedding::new().on_failed(hook);
        let (mut failures, mut effects, begin) = (Failures::default(), Effects::new(1), Instant::now());
        let mut fail = |failures: &mut Failures, message, now| {
            effects.failures.push(Failure { message, error: AskError::AddresseesUnstable });
            effects.failures_unseen = 2;
            failures.take(ShardIndex(0), now, &mut effects, &embedding);
            assert!(effects.failures.is_empty() && effects.failures_unseen == 0);
        };
        fail(&mut failures, "one", begin);
        assert_eq!((failures.unsaid, failures.next), (0, Some(begin + EVENT_EVERY)));
        fail(&mut failures, "worst", begin);
        fail(&mut failures, "other", begin + EVENT_EVERY / 2);
        assert_eq!((failures.unsaid, failures.next), (6, Some(begin + EVENT_EVERY)));
        fail(&mut failures, "last", begin + EVENT_EVERY);
        assert_eq!((failures.unsaid, failures.next), (0, Some(begin + 2 * EVENT_EVERY)));
        assert_eq!(*heard.lock().expect("nobody panics with it"), ["one", "worst", "other", "last"]);
    }
}
