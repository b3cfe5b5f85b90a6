//! Which of a bucket's eight hashes is the one that is looked for: all compared at once, without a
//! branch.
//!
//! The compiler alone makes three times the code of it. Every x86-64 has the instructions for it,
//! and `safe_arch` has them without `unsafe`. Elsewhere `wide` has the like. It is of the same
//! author, has far more in it, and was a thirtieth of the first build.

/// Hashes in a bucket.
pub(crate) const HASHES: usize = 8;

#[cfg(target_arch = "x86_64")]
mod arch {
    use safe_arch::{
        cast_to_m128_from_m128i, cmp_eq_mask_i32_m128i, m128i, move_mask_m128, set_splat_i32_m128i,
    };

    use super::HASHES;

    /// The hash that is looked for, once a lane.
    #[derive(Clone, Copy)]
    pub(crate) struct Wanted(m128i);

    impl Wanted {
        #[inline(always)]
        pub(crate) fn new(hash: u32) -> Self {
            Wanted(set_splat_i32_m128i(hash.cast_signed()))
        }

        /// A bit for each of the hashes that is equal, the first one's lowest.
        #[inline(always)]
        pub(crate) fn equal_to(self, hashes: [u32; HASHES]) -> u32 {
            let [a, b, c, d, e, f, g, h] = hashes;
            let bits = |four: [u32; 4]| {
                let equal = cmp_eq_mask_i32_m128i(m128i::from(four), self.0);
                move_mask_m128(cast_to_m128_from_m128i(equal)).cast_unsigned()
            };
            bits([a, b, c, d]) | bits([e, f, g, h]) << 4
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod arch {
    use wide::u32x8;

    use super::HASHES;

    /// The hash that is looked for, once a lane.
    #[derive(Clone, Copy)]
    pub(crate) struct Wanted(u32x8);

    impl Wanted {
        #[inline(always)]
        pub(crate) fn new(hash: u32) -> Self {
            Wanted(u32x8::splat(hash))
        }

        /// A bit for each of the hashes that is equal, the first one's lowest.
        #[inline(always)]
        pub(crate) fn equal_to(self, hashes: [u32; HASHES]) -> u32 {
            u32x8::new(hashes).simd_eq(self.0).to_bitmask()
        }
    }
}

pub(crate) use arch::Wanted;

#[cfg(test)]
mod tests {
    use super::{HASHES, Wanted};

    #[test]
    fn a_bit_for_each_hash_that_is_equal() {
        const WANTED: u32 = 0x8000_0001; // as a signed number it is negative
        for bits in 0..1u32 << HASHES {
            let hashes = std::array::from_fn(|at| if bits >> at & 1 == 1 { WANTED } else { at as u32 });
            assert_eq!(Wanted::new(WANTED).equal_to(hashes), bits);
        }
        assert_eq!(Wanted::new(WANTED).equal_to([WANTED - 1, WANTED + 1, 1, 0, !WANTED, 2, 3, u32::MAX]), 0);
    }
}
