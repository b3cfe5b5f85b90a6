//! Has this process been forked since a runtime was started.
//!
//! A fork copies the memory and one thread, and no shard's. In the child an ask waits for ever, a
//! tell is lost though it said `Ok`, and a mutex may be held by a thread that is not there. So a
//! runtime notes where it [was born](Birth::now), and whoever calls it in a child hears that it has
//! stopped.
//!
//! That is looked at for each message, and `getpid` is a system call (some 50 ns, as much as the
//! ask). So libc is asked to call back in the child, and what is looked at is one word that nearly
//! nobody writes.
#![allow(unsafe_code, reason = "libc calls back in a forked child; `getpid` cost 50 ns a message")]

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// How often this process, or one that it descends from since the first runtime, was forked.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// In which process something was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Birth(u32);

impl Birth {
    /// In this one.
    pub(crate) fn now() -> Birth {
        static ONCE: Once = Once::new();
        ONCE.call_once(watch);
        Birth(FORKS.load(Ordering::Relaxed))
    }

    /// Whether this is a child of that process.
    #[inline]
    pub(crate) fn is_elsewhere(self) -> bool {
        self.0 != FORKS.load(Ordering::Relaxed)
    }
}

extern "C" fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

fn watch() {
    // SAFETY: `forked` is an `extern "C"` function of the signature that is asked for, lives as
    // long as the program, and does nothing in the child but an atomic addition, which any state of
    // memory and locks allows.
    let refused = unsafe { libc::pthread_atfork(None, None, Some(forked)) };
    if refused != 0 {
        tracing::warn!("no memory to hear of forks: a runtime must not be used in a child that was forked");
    }
}
