//! Where an object lives: a pure function of its id, the database's key and the number of shards.
//!
//! The placement hash is XXH3-64 (<https://github.com/Cyan4973/xxHash>, specified in
//! `doc/xxhash_spec.md`) over the little-endian bytes of the placement, seeded with the database's
//! key; a placement made of several fields chains: the hash of one field seeds the next. Any
//! implementation of XXH3 can check the golden values in the tests. The home is `(hash * shards) >>
//! 64`, which uses the hash's high bits; a partition's table uses another hash altogether (`ahash`,
//! keyed at random), so the two never alias.

use std::hash::{Hash, Hasher};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::object::ObjectId;

/// The number of a shard, 0 to `shards - 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardIndex(pub u16);

impl ShardIndex {
    /// As an index into a slice with one element a shard.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl std::fmt::Display for ShardIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "shard {}", self.0)
    }
}

/// The most shards a runtime has.
pub const SHARDS_MAX: usize = 256;

/// Some of the shards of a run, or their logs, by their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSet([u64; SHARDS_MAX / 64]);

impl ShardSet {
    /// The set that these words have a bit for each of.
    pub(crate) fn from_words(words: [u64; SHARDS_MAX / 64]) -> Self {
        ShardSet(words)
    }

    /// A bit for each, the first in the lowest.
    pub(crate) fn words(self) -> [u64; SHARDS_MAX / 64] {
        self.0
    }

    /// Adds a shard.
    #[inline]
    pub fn insert(&mut self, shard: ShardIndex) {
        self.0[shard.index() / 64] |= 1 << (shard.index() % 64);
    }

    /// Whether a shard is in it.
    #[inline]
    pub fn contains(&self, shard: ShardIndex) -> bool {
        self.0[shard.index() / 64] & 1 << (shard.index() % 64) != 0
    }

    /// All of them, the lowest first.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = ShardIndex> + use<> {
        let word = |(at, word): (usize, u64)| {
            std::iter::successors((word != 0).then_some(word), |word| {
                Some(word & (word - 1)).filter(|&word| word != 0)
            })
            .map(move |word| ShardIndex((at * 64) as u16 + word.trailing_zeros() as u16))
        };
        self.0.into_iter().enumerate().flat_map(word)
    }
}

/// The key of the placement hash: drawn at random for a database and kept with it, so that nobody
/// who chooses ids can aim them all at one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlacementKey(pub u64);

/// Finds the home of an id.
#[derive(Clone, Copy, Debug)]
pub struct Router {
    key: PlacementKey,
    shards: u16,
}

impl Router {
    /// A router over `shards` shards.
    ///
    /// # Panics
    /// If `shards` is 0 or above [`SHARDS_MAX`]; the runtime's configuration is checked before.
    pub fn new(key: PlacementKey, shards: usize) -> Self {
        assert!((1..=SHARDS_MAX).contains(&shards), "a router has 1 to {SHARDS_MAX} shards, not {shards}");
        Router { key, shards: shards as u16 }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        usize::from(self.shards)
    }

    /// The placement hash of the object `id`, under this router's key.
    pub fn placement_hash<I: ObjectId>(&self, id: &I) -> u64 {
        placement_hash(self.key, id)
    }

    /// The shard that owns the object `id`.
    #[inline]
    pub fn home<I: ObjectId>(&self, id: &I) -> ShardIndex {
        if self.shards == 1 {
            return ShardIndex(0);
        }
        let hash = placement_hash(self.key, id);
        ShardIndex(((u128::from(hash) * u128::from(self.shards)) >> 64) as u16)
    }
}

/// The placement hash of `id` under `key`, as the head of this file specifies it.
#[inline]
pub fn placement_hash<I: ObjectId>(key: PlacementKey, id: &I) -> u64 {
    let mut hasher = PlacementHasher { hash: key.0 };
    // An entry lives with its collection, so that nobody can have it elsewhere.
    id.collection().unwrap_or(*id).placement().hash(&mut hasher);
    hasher.hash
}

/// Feeds the fields of a placement to XXH3-64, each seeded by the hash of those before it.
struct PlacementHasher {
    hash: u64,
}

macro_rules! write_little_endian {
    ($($write:ident $int:ty),* $(,)?) => {
        $(#[inline] fn $write(&mut self, value: $int) {
            self.hash = xxh3_64_with_seed(&value.to_le_bytes(), self.hash);
        })*
    };
}

impl Hasher for PlacementHasher {
    fn finish(&self) -> u64 {
        self.hash
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.hash = xxh3_64_with_seed(bytes, self.hash);
    }

    write_little_endian!(
        write_u8 u8, write_u16 u16, write_u32 u32, write_u64 u64, write_u128 u128,
        write_i8 i8, write_i16 i16, write_i32 i32, write_i64 i64, write_i128 i128,
    );

    // A length or a `usize` is hashed as 8 bytes on every machine.
    #[inline]
    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    #[inline]
    fn write_isize(&mut self, value: isize) {
        self.write_i64(value as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: PlacementKey = PlacementKey(0x0123_4567_89ab_cdef);

    // Computed with the reference implementation (python's `xxhash`), chained as the head of this
    // file says. They may never change: a database's objects would change their homes under it.
    #[test]
    fn golden_values() {
        let golden: [(u64, u64); 8] = [
            (placement_hash(KEY, &0_u64), 0x84c4_077b_5ba8_8a78),
            (placement_hash(KEY, &1_u64), 0x62da_9b4e_cf9e_94bc),
            (placement_hash(KEY, &42_u64), 0xbcea_5640_f79d_5702),
            (placement_hash(KEY, &u64::MAX), 0x1c90_f36d_5470_02f0),
            (placement_hash(KEY, &7_u32), 0x05c2_37a7_c5d2_ea47),
            (placement_hash(KEY, &((1_u128 << 100) + 5)), 0xa511_1ccd_2b87_18bd),
            (placement_hash(KEY, &std::array::from_fn::<u8, 32, _>(|at| at as u8)), 0x0e3a_df06_c52e_e21a),
            (placement_hash(KEY, &(8_u64, 9_u32)), 0x933c_5636_6044_684d),
        ];
        for (at, (computed, reference)) in golden.into_iter().enumerate() {
            assert_eq!(computed, reference, "golden value {at}");
        }
    }

    #[test]
    fn placement_decides_alone() {
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
        )]
        struct Seat {
            tenant: u32,
            number: u64,
        }
        impl ObjectId for Seat {
            fn placement(&self) -> impl Hash {
                self.tenant
            }
        }
        let router = Router::new(KEY, 16);
        for tenant in 0..100 {
            let home = router.home(&Seat { tenant, number: 0 });
            assert!((0..100).all(|number| router.home(&Seat { tenant, number }) == home));
            assert_eq!(home, router.home(&tenant), "a placement of one field is that field");
        }
    }

    // Ids people use: counted up, counted in steps, random. None may leave a shard with much more
    // than its share.
    #[test]
    fn ids_spread_evenly() {
        const IDS: u64 = if cfg!(miri) { 1_000 } else { 100_000 };
        let steps = (0..=40).step_by(4).map(|bits| 1_u64 << bits).chain([3, 10, 1_000, 1_000_003]);
        for step in steps {
            for key in [0, 1, KEY.0, u64::MAX] {
                for shards in [1, 2, 3, 7, 8, 16, 100, 256] {
                    let router = Router::new(PlacementKey(key), shards);
                    let mut homes = vec![0_u64; shards];
                    for n in 0..IDS {
                        homes[router.home(&n.wrapping_mul(step)).index()] += 1;
                    }
                    // Six standard deviations of a fair draw.
                    let share = IDS as f64 / shards as f64;
                    let worst = homes.iter().map(|&ids| (ids as f64 - share).abs()).fold(0.0, f64::max);
                    assert!(
                        worst <= 6.0 * share.sqrt(),
                        "step {step}, key {key}, {shards} shards: {homes:?}"
                    );
                    if cfg!(miri) {
                        return;
                    }
                }
            }
        }
    }

    #[test]
    fn a_set_of_shards_holds_what_was_put_in() {
        let mut set = ShardSet::default();
        assert_eq!(set.iter().count(), 0);
        let shards = [0, 1, 63, 64, 200, 255].map(ShardIndex);
        shards.iter().rev().for_each(|shard| set.insert(*shard));
        assert_eq!(set.iter().collect::<Vec<_>>(), shards);
        assert!(shards.iter().all(|shard| set.contains(*shard)) && !set.contains(ShardIndex(65)));
    }

    #[test]
    #[should_panic(expected = "1 to 256 shards")]
    fn no_router_over_nothing() {
        Router::new(KEY, 0);
    }
}
