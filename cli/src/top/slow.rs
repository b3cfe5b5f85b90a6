//! The last slow messages of a process, as its page `/slow` has them.
//!
//! A program that serves `/metrics` by itself, or an earlier version, has no such page: then there
//! is no list, and that is no trouble.

use serde::{Deserialize, Serialize};

/// A part of the time that a message took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct StagePicture {
    pub(super) name: String,
    pub(super) from_seconds: f64,
    pub(super) to_seconds: f64,
}

/// A wait for a lock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct WaitPicture {
    pub(super) shard: u32,
    pub(super) object: String,
    pub(super) ahead: u32,
    /// What kind of message waited just before it, if one did; earlier versions do not say.
    #[serde(default)]
    pub(super) behind: Option<String>,
    pub(super) from_seconds: f64,
    pub(super) to_seconds: f64,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SlowPicture {
    pub(super) number: u64,
    pub(super) shard: u32,
    pub(super) message: Option<String>,
    pub(super) object: Option<String>,
    pub(super) route: Option<String>,
    pub(super) messages: u32,
    pub(super) answered_seconds: f64,
    pub(super) took_seconds: f64,
    pub(super) is_exact: bool,
    pub(super) stages: Vec<StagePicture>,
    pub(super) waits: Vec<WaitPicture>,
}

#[derive(Deserialize)]
struct SlowPage {
    slow: Vec<SlowPicture>,
}

/// The messages on this page, the latest first; none if it is no such page.
pub(super) fn slow_of(text: &str) -> Vec<SlowPicture> {
    let page: Option<SlowPage> = serde_json::from_str(text).ok();
    page.map_or_else(Vec::new, |page| page.slow.into_iter().rev().collect())
}
