//! Keys: a secret `s`, and `P = s^-1 H` for all to see.

use std::fmt;

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::group::{self, Bytes, NEUTRAL};

/// A secret key. It is overwritten when it is dropped, and `Debug` does not show it. A lost key is
/// a lost balance.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret(Scalar);

impl Secret {
    /// A new one, from the system's random generator.
    pub fn random() -> Secret {
        loop {
            let secret = group::random();
            if secret != Scalar::ZERO {
                return Secret(secret);
            }
        }
    }

    /// The key that [`Secret::to_bytes`] gave; `None` if the bytes are not a scalar in its one
    /// encoding, or zero.
    ///
    /// ```
    /// use freehold_private::Secret;
    ///
    /// let secret = Secret::random();
    /// let again = Secret::from_bytes(*secret.to_bytes()).unwrap();
    /// assert_eq!(again.public(), secret.public());
    /// assert!(Secret::from_bytes([0; 32]).is_none() && Secret::from_bytes([255; 32]).is_none());
    /// ```
    pub fn from_bytes(mut bytes: [u8; 32]) -> Option<Secret> {
        let secret = Option::<Scalar>::from(Scalar::from_canonical_bytes(bytes));
        bytes.zeroize();
        secret.filter(|secret| *secret != Scalar::ZERO).map(Secret)
    }

    /// Its 32 bytes, to be kept where only its owner reads. They are overwritten when dropped.
    pub fn to_bytes(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.0.to_bytes())
    }

    /// The key that others see.
    pub fn public(&self) -> PublicKey {
        PublicKey(group::write(&self.point()))
    }

    pub(crate) fn point(&self) -> RistrettoPoint {
        self.0.invert() * group::h()
    }

    pub(crate) fn scalar(&self) -> &Scalar {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A public key, in its one encoding.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "Bytes", try_from = "Bytes")]
pub struct PublicKey(pub(crate) Bytes);

impl From<PublicKey> for Bytes {
    fn from(key: PublicKey) -> Bytes {
        key.0
    }
}

/// Bytes are no public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the bytes are no public key: no element of the group, or the neutral one")]
pub struct NotAPublicKey;

impl TryFrom<Bytes> for PublicKey {
    type Error = NotAPublicKey;

    fn try_from(bytes: Bytes) -> Result<PublicKey, NotAPublicKey> {
        PublicKey::from_bytes(bytes).ok_or(NotAPublicKey)
    }
}

impl PublicKey {
    /// The key with this encoding; `None` if it is no element of the group, or the neutral one.
    ///
    /// ```
    /// use freehold_private::{PublicKey, Secret};
    ///
    /// let key = Secret::random().public();
    /// assert_eq!(PublicKey::from_bytes(key.to_bytes()), Some(key));
    /// assert_eq!(PublicKey::from_bytes([0; 32]), None);
    /// ```
    pub fn from_bytes(bytes: [u8; 32]) -> Option<PublicKey> {
        (bytes != NEUTRAL && group::read(&bytes).is_some()).then_some(PublicKey(bytes))
    }

    /// Its encoding.
    pub fn to_bytes(self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:02x}{:02x}..)", self.0[0], self.0[1])
    }
}
