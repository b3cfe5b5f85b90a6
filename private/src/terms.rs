//! What all claims of a ledger are bound to.

use sha2::{Digest, Sha512};

use crate::key::PublicKey;

/// A hash of a ledger's terms.
pub(crate) type TermsHash = [u8; 16];

/// A ledger's terms. A claim that was made under other terms is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    ledger: [u8; 32],
    auditor: PublicKey,
}

impl Terms {
    /// The terms of the ledger with this id, whose amounts `auditor` can read. The id is to be
    /// unique among all ledgers that its users have keys in: draw it at random.
    ///
    /// `None` if the auditor's key is not one.
    ///
    /// ```
    /// use freehold_private::{AuditorSecret, Terms};
    ///
    /// assert!(Terms::new([7; 32], AuditorSecret::random().public()).is_some());
    /// ```
    pub fn new(ledger: [u8; 32], auditor: PublicKey) -> Option<Terms> {
        PublicKey::from_bytes(auditor.0).map(|auditor| Terms { ledger, auditor })
    }

    /// Of a key that may be none.
    #[cfg(test)]
    pub(crate) fn unchecked(ledger: [u8; 32], auditor: PublicKey) -> Terms {
        Terms { ledger, auditor }
    }

    /// The ledger's id.
    pub fn ledger(&self) -> [u8; 32] {
        self.ledger
    }

    /// The auditor's key.
    pub fn auditor(&self) -> PublicKey {
        self.auditor
    }

    /// What an account keeps of the terms that it was opened under.
    pub(crate) fn hash(&self) -> TermsHash {
        let hash = Sha512::new().chain_update(b"freehold-private/1 terms").chain_update(self.bytes());
        std::array::from_fn(|at| hash.clone().finalize()[at])
    }

    /// As they go into the transcript: the ledger's id, then the auditor's key.
    pub(crate) fn bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&self.ledger);
        bytes[32..].copy_from_slice(&self.auditor.0);
        bytes
    }
}
