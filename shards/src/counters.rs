//! What a shard counts: plain integers it owns, published by the runtime once a turn.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What one shard has done since it started. Messages are counted once, by how they ended.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// How many counters there are.
            pub const COUNT: usize = [$(stringify!($name)),*].len();
            /// Their names, in the order of [`Counters::values`].
            pub const NAMES: [&'static str; Self::COUNT] = [$(stringify!($name)),*];

            /// All values, in the order of [`Counters::NAMES`].
            pub fn values(&self) -> [u64; Self::COUNT] {
                [$(self.$name),*]
            }

            /// The counters with these values, in the order of [`Counters::NAMES`].
            pub fn from_values(values: [u64; Self::COUNT]) -> Self {
                let [$($name),*] = values;
                Counters { $($name),* }
            }
        }
    };
}

counters! {
    /// Messages applied on the fast path.
    fast,
    /// Messages applied on the consensus path, counted where they ran.
    consensus,
    /// Of those, pairs on the shortest way: two objects on two shards, both free.
    pairs,
    /// Messages that began as transactions because their objects live on several shards.
    spanning,
    /// Messages that began as transactions because an object was locked.
    blocked,
    /// Messages that began as transactions because an object is shared.
    shared,
    /// Messages that began as transactions because they touched an object that they had not
    /// declared and could not have at once.
    undeclared,
    /// Transactions that began anew with an object they had not declared.
    reruns,
    /// Transactions given up that kept touching undeclared objects; nothing changed.
    unstable,
    /// Messages refused by their actor; nothing changed.
    aborted,
    /// Messages whose actor panicked; nothing changed.
    panicked,
    /// Messages without an addressee, never run.
    unaddressed,
    /// Messages for objects of another shard, never run.
    elsewhere,
    /// Messages told by messages and sent, those to the shard itself included, and timers that
    /// messages cancelled.
    told,
    /// Delayed messages that came due and were run.
    timers_fired,
    /// Objects the shard owns now.
    objects,
    /// Old versions the shard keeps now, for snapshots that are open.
    versions,
    /// Snapshots the shard revoked, because they were open for too long or too much was kept for
    /// them.
    revoked,
}

impl Counters {
    /// Messages that were handled, whatever came of them.
    pub fn handled(&self) -> u64 {
        self.fast
            + self.consensus
            + self.unstable
            + self.aborted
            + self.panicked
            + self.unaddressed
            + self.elsewhere
    }
}
