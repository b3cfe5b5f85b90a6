//! How a runtime ended.

use std::fmt;
use std::time::Duration;

use freehold_shard::ShardIndex;

use crate::error::Death;
use crate::stats::Stats;

/// A shard that did not come back when the runtime stopped. Its thread was left behind, and ends
/// when what keeps it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// Which shard.
    pub shard: ShardIndex,
    /// For how long it had not moved.
    pub still_for: Duration,
    /// How long the turn had been going on that it was in. `None`: a task kept it.
    pub in_turn_for: Option<Duration>,
    /// The type of the message that this turn runs: one of
    /// [`Actor::MESSAGE_NAMES`](freehold_shard::Actor::MESSAGE_NAMES), if the actor has names.
    pub message: Option<&'static str>,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stuck { shard, still_for, in_turn_for, message } = self;
        match in_turn_for {
            Some(turn) => {
                let message = message.unwrap_or("a message");
                write!(f, "{shard} was left behind: {message} has not come back for {turn:?}")
            }
            None => write!(f, "{shard} was left behind: a task has not given way for {still_for:?}"),
        }
    }
}

/// How a runtime ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// What it had done.
    pub stats: Stats,
    /// Whether everything that was accepted ran to its end.
    pub drained: bool,
    /// Messages that were accepted and never ran. If anyone waited for one, it was answered
    /// `Stopped`.
    pub messages_unrun: u64,
    /// Messages whose time had not come.
    pub timers_unfinished: u64,
    /// Actions that had not ended. With a log the next run performs them once more.
    pub actions_unfinished: u64,
    /// Tasks that had not finished and were cancelled.
    pub tasks_cancelled: u64,
    /// Transactions that had begun and have not ended. If anyone waited for one, it was answered
    /// `Unknown`.
    pub transactions_unfinished: u64,
    /// Shards that did not come back from a message or a task, and were left behind. An `ask_all`
    /// with a message in such a turn, and a task of such a shard, end when what keeps the shard
    /// ends, if ever.
    pub stuck: Vec<Stuck>,
    /// The shards that had died, and of what; empty for a runtime that was stopped.
    pub deaths: Vec<Death>,
    /// How long stopping took.
    pub took: Duration,
}

impl Report {
    /// Whether everything that was under way has ended, or, with a log, waits in it.
    pub(crate) fn has_lost_nothing(&self, is_logged: bool) -> bool {
        self.drained
            && self.messages_unrun == 0
            && self.tasks_cancelled == 0
            && self.deaths.is_empty()
            && self.stuck.is_empty()
            && self.transactions_unfinished == 0
            && (is_logged || self.timers_unfinished + self.actions_unfinished == 0)
    }
}

impl Default for Report {
    fn default() -> Self {
        Report {
            stats: Stats::default(),
            drained: false,
            messages_unrun: 0,
            transactions_unfinished: 0,
            stuck: Vec::new(),
            timers_unfinished: 0,
            actions_unfinished: 0,
            tasks_cancelled: 0,
            deaths: Vec::new(),
            took: Duration::ZERO,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report {
            stats, drained, messages_unrun, timers_unfinished, tasks_cancelled, deaths, took, ..
        } = self;
        let drained = if *drained { "all of them to their end" } else { "not all of them to their end" };
        write!(f, "{} messages on {} shards, {drained}", stats.handled(), stats.shards.len())?;
        write!(f, "; {messages_unrun} accepted but never run, {timers_unfinished} before their time")?;
        write!(f, ", {tasks_cancelled} tasks cancelled; stopped in {took:?}")?;
        if self.actions_unfinished > 0 {
            write!(f, "; {} actions did not end", self.actions_unfinished)?;
        }
        if self.transactions_unfinished > 0 {
            write!(f, "; {} transactions did not end", self.transactions_unfinished)?;
        }
        self.stuck.iter().try_for_each(|stuck| write!(f, "; {stuck}"))?;
        deaths.iter().try_for_each(|death| write!(f, "; {death}"))
    }
}
