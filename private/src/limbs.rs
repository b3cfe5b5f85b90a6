//! Reads sealed limbs: finds `v` below 2^32 from `vG`.
//!
//! Baby steps and giant steps (D. Shanks, 1971): a table of 2^16 steps, made once a process, and
//! then at most 2^16 giant steps. Small amounts are found at once.
//! How long it takes tells how large the limb is: it is for wallets, and not for a server that
//! strangers ask.

use std::collections::HashMap;
use std::sync::OnceLock;

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity;
use thiserror::Error;

use crate::claim::{Credit, Sealed};
use crate::group::{self, Bytes};

/// A sealed amount could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the amount is sealed for another key")]
pub struct NotFound;

/// Steps of either kind.
const STEPS: u32 = 1 << 16;
/// Giant steps that are encoded together, which is faster than one by one.
const CHUNK: usize = 64;

/// From the encoding of `2iG` to `i`.
fn table() -> &'static HashMap<Bytes, u32> {
    static TABLE: OnceLock<HashMap<Bytes, u32>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let steps: Vec<_> =
            std::iter::successors(Some(RistrettoPoint::identity()), |step| Some(step + group::g()))
                .take(STEPS as usize)
                .collect();
        let doubled = RistrettoPoint::double_and_compress_batch(&steps);
        doubled.into_iter().map(|bytes| bytes.0).zip(0..).collect()
    })
}

/// Finds `v` below 2^32 with `vG = point`.
fn find(point: RistrettoPoint) -> Option<u32> {
    let giant = group::g() * Scalar::from(STEPS);
    let mut next = point;
    for first in (0..STEPS).step_by(CHUNK) {
        let steps: Vec<_> = (0..CHUNK)
            .map(|_| {
                let step = next;
                next -= giant;
                step
            })
            .collect();
        for (at, bytes) in (first..).zip(RistrettoPoint::double_and_compress_batch(&steps)) {
            if let Some(baby) = table().get(&bytes.0) {
                return Some(at * STEPS + baby);
            }
        }
    }
    None
}

/// The value that is sealed in `c` with the handle `d` for the key of `secret`.
fn open(sealed: &Sealed, secret: &Scalar) -> Option<u32> {
    find(group::read(&sealed.c)? - secret * group::read(&sealed.d)?)
}

impl Credit {
    /// The amount.
    pub(crate) fn amount(&self, secret: &Scalar) -> Result<u64, NotFound> {
        let [low, high] = self.limbs.each_ref().map(|limb| open(limb, secret).ok_or(NotFound));
        Ok(u64::from(low?) | u64::from(high?) << 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limbs_are_found_and_no_more() {
        for value in [0, 1, 65_535, 65_536, 1_000_000, u64::from(u32::MAX)] {
            let point = group::g() * Scalar::from(value);
            assert_eq!(find(point).map(u64::from), Some(value));
        }
        assert_eq!(find(group::g() * Scalar::from(1_u64 << 32)), None);
        assert_eq!(find(-group::g()), None);
    }
}
