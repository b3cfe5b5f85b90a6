//! How many claims each sender has in a gate: none takes all of its room.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The senders that have claims in a gate.
pub(super) struct Senders {
    claims: Mutex<HashMap<u64, usize>>,
    /// Claims that one of them may have there.
    max: usize,
}

impl Senders {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Senders { claims: Mutex::new(HashMap::new()), max })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, usize>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more claim of this sender; `None` if it has as many as it may have.
    pub(super) fn enter(self: &Arc<Self>, sender: u64) -> Option<SenderShare> {
        let mut claims = self.lock();
        let of_sender = claims.entry(sender).or_default();
        if *of_sender >= self.max {
            return None;
        }
        *of_sender += 1;
        Some(SenderShare { senders: self.clone(), sender })
    }
}

/// One claim's part of its sender's share, until it is dropped.
pub(super) struct SenderShare {
    senders: Arc<Senders>,
    sender: u64,
}

impl SenderShare {
    pub(super) fn sender(&self) -> u64 {
        self.sender
    }
}

impl Drop for SenderShare {
    fn drop(&mut self) {
        let mut claims = self.senders.lock();
        if let Some(of_sender) = claims.get_mut(&self.sender) {
            *of_sender -= 1;
            if *of_sender == 0 {
                claims.remove(&self.sender);
            }
        }
    }
}
