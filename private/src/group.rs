//! The group: ristretto255, whose elements have one encoding each and no small-order parts.
//!
//! `G` is its basepoint and `H` the masking basepoint of the range proofs: the hash of a text, so
//! that nobody knows its logarithm.

use curve25519_dalek::constants::RISTRETTO_BASEPOINT_POINT;
use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use getrandom::SysRng;
use rand_core::UnwrapErr;
use std::sync::OnceLock;
use tari_bulletproofs_plus::PedersenGens;
use tari_bulletproofs_plus::generators::pedersen_gens::ExtensionDegree;
use tari_bulletproofs_plus::range_parameters::RangeParameters;
use tari_bulletproofs_plus::ristretto::create_pedersen_gens_with_extension_degree;

/// An element as it is written.
pub(crate) type Bytes = [u8; 32];

/// The encoding of the neutral element.
pub(crate) const NEUTRAL: Bytes = [0; 32];

/// Bits of one limb of an amount.
pub(crate) const LIMB_BITS: usize = 32;
/// The most limbs that one range proof is about: of seven payees, and of what is left.
pub(crate) const LIMBS_MAX: usize = 16;

/// What range proofs are made with; made once.
pub(crate) fn range_parameters() -> &'static RangeParameters<RistrettoPoint> {
    static PARAMETERS: OnceLock<RangeParameters<RistrettoPoint>> = OnceLock::new();
    PARAMETERS.get_or_init(|| {
        let bases: PedersenGens<RistrettoPoint> =
            create_pedersen_gens_with_extension_degree(ExtensionDegree::DefaultPedersen);
        RangeParameters::init(LIMB_BITS, LIMBS_MAX, bases).expect("the sizes are powers of two")
    })
}

/// The base of values.
pub(crate) fn g() -> RistrettoPoint {
    RISTRETTO_BASEPOINT_POINT
}

/// The base of blindings, and of keys.
pub(crate) fn h() -> RistrettoPoint {
    range_parameters().g_bases()[0]
}

/// Reads an element; `None` if these bytes are not the encoding of one.
pub(crate) fn read(bytes: &Bytes) -> Option<RistrettoPoint> {
    CompressedRistretto(*bytes).decompress()
}

/// Writes an element.
pub(crate) fn write(point: &RistrettoPoint) -> Bytes {
    point.compress().0
}

/// A scalar that nobody can guess, from the system's generator.
pub(crate) fn random() -> Scalar {
    Scalar::random(&mut UnwrapErr(SysRng))
}

/// What the second limb counts.
pub(crate) fn limb_base() -> Scalar {
    Scalar::from(1_u64 << LIMB_BITS)
}

/// The two limbs of an amount, the lower first.
pub(crate) fn limbs(amount: u64) -> [u64; 2] {
    [amount & u64::from(u32::MAX), amount >> LIMB_BITS]
}
