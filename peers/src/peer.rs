//! Who is measured, and what an engine says when it cannot go on.

use freehold_workloads::{Durability, Engine, Refused, Workload};

/// The engine cannot go on, or did what it should not. The cell has no figures.
pub type Fault = Box<dyn std::error::Error + Send + Sync>;

/// How a transaction ended: with its answer, or refused.
pub type Settled<W> = Result<<W as Workload>::Reply, Refused<<W as Workload>::Id>>;

/// One engine, as the tables name it.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its name in a cell.
    pub name: &'static str,
    /// Its version, from Cargo.lock.
    pub version: &'static str,
    /// What it is and how it is used.
    pub about: &'static str,
    /// What it can keep.
    pub durabilities: &'static [Durability],
    /// Whether it has no transactions over several rows.
    pub is_of_single_rows: bool,
}

/// What engines in memory can keep.
pub const IN_MEMORY: &[Durability] = &[Durability::None];
/// What stores can keep.
pub const ON_DISK: &[Durability] = &[Durability::None, Durability::Applied, Durability::Durable];

impl Peer {
    /// Why the peer cannot do it, if it cannot.
    pub fn cannot<W: Workload>(&self, workload: &W, durability: Durability) -> Option<String> {
        if !self.durabilities.contains(&durability) {
            return Some(format!("{} is in memory: it has no log", self.name));
        }
        (self.is_of_single_rows && !workload.is_of_single_rows()).then(|| {
            format!("an actor for each object has no transaction over several: {} has some", workload.name())
        })
    }
}

impl From<&Peer> for Engine {
    fn from(peer: &Peer) -> Self {
        Engine { version: peer.version.to_owned(), about: peer.about.to_owned() }
    }
}
