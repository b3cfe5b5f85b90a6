//! A client's transactions, drawn before the clock starts.
//!
//! There is one client for each shard. The first row of its transactions lives on that shard, as
//! with a client that knows the placement and sends there; an engine without shards gets the same
//! transactions from as many threads.
//!
//! So every shard gets as many transactions as any other, whatever the skew. That first row is
//! drawn by the workload's law among the rows of the client's shard: a hot row is hot within its
//! shard's equal share of the work, and makes no shard busier than the others. What is measured of
//! skew is conflict and caching. Skew across shards, one of them busier than the rest, is not
//! measured.

use freehold_shard::{Addressees, ObjectId, PlacementKey, Router, ShardIndex};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

use crate::workload::Workload;

/// What all draws and the placement begin from, if nobody says otherwise.
pub const SEED: u64 = 0x0F2E_E401_D000_0005;

/// Draws for one row after which it is said that none fits.
const DRAWS_MAX: usize = 1_000_000;
/// Draws of one client for all its transactions. With 256 shards and twelve keys a transaction some
/// 10^8 are needed, if all rows are alike; who needs ten times as many draws rows that are all but
/// never drawn.
const DRAWS_OF_CLIENT_MAX: u64 = 1 << 30;

/// A workload is too small, or too uneven, for its transactions to be drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRow {
    /// No row fits, or so few that drawing them has no end.
    #[error(
        "too few rows, or too uneven a skew: of a million draws for the client of shard {shard} of {shards} hardly any or none lives \
         where it has to and differs from the transaction's others; load more rows, or take a lower skew"
    )]
    Fits {
        /// The client's shard.
        shard: usize,
        /// Of so many.
        shards: usize,
    },
    /// There is nothing to draw from.
    #[error("no rows: there are no {0}; load one at least")]
    Loaded(&'static str),
    /// Everything is hot, or more than there is.
    #[error("a hotspot of {hot} rows needs more than the {rows} there are; lower it, or load more rows")]
    Cold {
        /// Rows that are to be hot.
        hot: u64,
        /// Rows there are.
        rows: u64,
    },
}

/// How often a transaction that has a choice spans shards.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cross {
    /// As the workload draws it, whoever lives where; but for a transaction's first row, which
    /// lives on its client's shard ([`Client::draw_here`]). With `n` shards a second row that is
    /// drawn evenly lives elsewhere `n - 1` times in `n`.
    Natural,
    /// So many in a hundred of those that can, from 0 to 100; the others stay on one shard. With
    /// one shard none can.
    Percent(f64),
}

impl std::fmt::Display for Cross {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cross::Natural => write!(f, "natural"),
            Cross::Percent(percent) => write!(f, "{percent}"),
        }
    }
}

/// Whose transactions are drawn.
pub struct Client {
    shard: usize,
    router: Router,
    cross: Cross,
    /// Draws until it is said that there is no end to them.
    draws_left: u64,
    /// The client's own random numbers.
    pub random: Pcg64,
}

impl Client {
    /// The client of shard `shard` of `shards`.
    pub fn new(seed: u64, shard: usize, shards: usize, cross: Cross) -> Self {
        assert!(shard < shards, "client {shard} of {shards}");
        let random = Pcg64::seed_from_u64(seed ^ (shard as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let router = Router::new(PlacementKey(seed), shards);
        Client { shard, router, cross, draws_left: DRAWS_OF_CLIENT_MAX, random }
    }

    /// The number of this client's shard.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// How many shards there are, and clients.
    pub fn shards(&self) -> usize {
        self.router.shards()
    }

    /// How often transactions span shards.
    pub fn cross(&self) -> Cross {
        self.cross
    }

    /// The shard a row lives on.
    pub fn home(&self, id: &impl ObjectId) -> usize {
        self.router.home(id).index()
    }

    /// Whether a transaction that has the choice is to span shards; `None` if that is left to the
    /// draw.
    pub fn spans(&mut self) -> Option<bool> {
        match self.cross {
            Cross::Natural => None,
            Cross::Percent(_) if self.shards() == 1 => Some(false),
            Cross::Percent(percent) => Some(self.random.random_bool(percent / 100.0)),
        }
    }

    /// A draw that fits. The number of draws is bounded, of one call and of all calls together.
    ///
    /// # Errors
    /// If there seems to be none.
    pub fn draw_fitting<T>(
        &mut self,
        mut draw: impl FnMut(&mut Pcg64) -> T,
        fits: impl Fn(&Self, &T) -> bool,
    ) -> Result<T, NoRow> {
        for _ in 0..DRAWS_MAX {
            let Some(left) = self.draws_left.checked_sub(1) else { break };
            self.draws_left = left;
            let drawn = draw(&mut self.random);
            if fits(self, &drawn) {
                return Ok(drawn);
            }
        }
        Err(NoRow::Fits { shard: self.shard, shards: self.shards() })
    }

    /// A draw that lives on any other shard.
    ///
    /// # Errors
    /// If there seems to be none.
    pub fn draw_elsewhere<I: ObjectId>(&mut self, draw: impl FnMut(&mut Pcg64) -> I) -> Result<I, NoRow> {
        self.draw_fitting(draw, |client, id| client.home(id) != client.shard)
    }

    /// A draw that lives here: by the same law, among the rows of the client's own shard. As every
    /// client draws so, each shard gets as many transactions as any other, and how uneven the law
    /// is changes nothing in that: a hot row takes its part of the work of its own shard only.
    ///
    /// # Errors
    /// If there seems to be none.
    pub fn draw_here<I: ObjectId>(&mut self, draw: impl FnMut(&mut Pcg64) -> I) -> Result<I, NoRow> {
        self.draw_fitting(draw, |client, id| client.home(id) == client.shard)
    }

    /// A draw for a transaction's other side: anywhere, elsewhere or here as `spans` (of
    /// [`Client::spans`]) says.
    ///
    /// # Errors
    /// If there seems to be none.
    pub fn draw_other<I: ObjectId>(
        &mut self,
        spans: Option<bool>,
        mut draw: impl FnMut(&mut Pcg64) -> I,
    ) -> Result<I, NoRow> {
        match spans {
            None => Ok(draw(&mut self.random)),
            Some(true) => self.draw_elsewhere(draw),
            Some(false) => self.draw_here(draw),
        }
    }

    /// Different ids for one transaction. If it is to span shards they are dealt evenly over so
    /// many of them, this client's first and then others at random, or over all if there are not so
    /// many; if not, they live here. If that is left to the draw ([`Cross::Natural`]), the first
    /// lives here and the others anywhere.
    ///
    /// # Errors
    /// If there seem to be too few.
    pub fn draw_dealt<I: ObjectId, const N: usize>(
        &mut self,
        shards: usize,
        mut draw: impl FnMut(&mut Pcg64) -> I,
    ) -> Result<[I; N], NoRow> {
        let homes = self.spans().map(|spans| self.shards_of_one(if spans { shards } else { 1 }));
        let mut ids = [self.draw_here(&mut draw)?; N];
        for place in 1..N {
            let home = homes.as_ref().map(|homes| homes[place * homes.len() / N]);
            let (before, rest) = ids.split_at_mut(place);
            rest[0] = self.draw_fitting(&mut draw, |client, id| {
                !before.contains(id) && home.is_none_or(|home| client.home(id) == home)
            })?;
        }
        Ok(ids)
    }

    /// So many shards, or all, this client's first and then others at random.
    fn shards_of_one(&mut self, count: usize) -> Vec<usize> {
        let mut others: Vec<_> = (0..self.shards()).filter(|shard| *shard != self.shard).collect();
        let chosen = count.saturating_sub(1).min(others.len());
        let (chosen, _) = others.partial_shuffle(&mut self.random, chosen);
        std::iter::once(self.shard).chain(chosen.iter().copied()).collect()
    }
}

/// Where a transaction's rows live, seen from its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// All on the client's shard.
    Here,
    /// All on one other.
    There,
    /// On several.
    Across,
}

/// One transaction of a stream.
#[derive(Clone, Debug)]
pub struct Drawn<T> {
    /// What it does.
    pub transaction: T,
    /// Where.
    pub way: Way,
}

/// The transactions of one client, over and over.
#[derive(Clone, Debug)]
pub struct Stream<W: Workload> {
    drawn: Vec<Drawn<W::Transaction>>,
}

impl<W: Workload> Stream<W> {
    /// Draws the transactions of `client`.
    ///
    /// # Errors
    /// If no row lives where one has to.
    pub fn draw(workload: &W, client: &mut Client) -> Result<Self, NoRow> {
        let transactions = workload.draw(client)?;
        assert!(!transactions.is_empty(), "a client has transactions");
        let here = ShardIndex(client.shard as u16);
        let mut to = Addressees::new();
        let way = |transaction: &W::Transaction| {
            to.clear();
            W::addressees(transaction, &mut to);
            let first =
                to.iter().next().map(|(id, _)| client.router.home(&id)).expect("a transaction names a row");
            let spans = to.iter().any(|(id, _)| client.router.home(&id) != first);
            match (spans, first == here) {
                (true, _) => Way::Across,
                (false, true) => Way::Here,
                (false, false) => Way::There,
            }
        };
        let ways: Vec<_> = transactions.iter().map(way).collect();
        let drawn = transactions.into_iter().zip(ways).map(|(transaction, way)| Drawn { transaction, way });
        Ok(Stream { drawn: drawn.collect() })
    }

    /// All of them, in order.
    pub fn drawn(&self) -> &[Drawn<W::Transaction>] {
        &self.drawn
    }

    /// How much of it spans shards, from 0 to 1.
    pub fn spanning(&self) -> f64 {
        self.drawn.iter().filter(|drawn| drawn.way == Way::Across).count() as f64 / self.drawn.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hardly_ever_drawn_is_given_up() {
        let mut client = Client::new(SEED, 0, 1, Cross::Natural);
        client.draws_left = 1_000;
        let mut rare = || client.draw_fitting(|random| random.random_range(0..100), |_, row| *row == 0);
        let found = (0..1_000).map_while(|_| rare().ok()).count();
        assert!((1..100).contains(&found), "one of a hundred fits, and of a thousand draws {found} did");
        assert_eq!(rare(), Err(NoRow::Fits { shard: 0, shards: 1 }));
    }
}
