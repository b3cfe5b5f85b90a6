//! A claim: what an owner wants done, and the proof that it may be.
//!
//! A claim says all that its proof is about, in elements as they are written; `law` says which
//! equations they are to satisfy.

use std::fmt;

use crate::group::Bytes;
use crate::proof::Proof;

/// What an account is called.
pub type AccountId = u64;

/// To whom a withdrawal is paid out: 32 bytes that the operator and the owner understand, such as
/// the hash of a payment order. The proof is bound to them.
pub type Destination = [u8; 32];

/// The most payees of one payment.
pub const PAYEES_MAX: usize = 7;

/// A sealed value `v` under the key `P`: `c = vG + rH` and `d = rP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) c: Bytes,
    pub(crate) d: Bytes,
}

/// A sealed amount in two limbs of 32 bits, the lower first, so that its owner can always read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Credit {
    pub(crate) limbs: [Sealed; 2],
}

/// Who claims, and from which state the claim was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) id: AccountId,
    pub(crate) version: u64,
    pub(crate) key: Bytes,
    pub(crate) available: Sealed,
    /// What the owner's balance will be, hidden for himself. Nobody verifies it.
    pub(crate) hint: [u8; 8],
}

/// One payee of a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Payee {
    pub(crate) id: AccountId,
    pub(crate) key: Bytes,
    /// `T`, and `t P` for the payee.
    pub(crate) credit: Credit,
    /// `t P` for the auditor, by limb.
    pub(crate) auditor: [Bytes; 2],
}

/// What of the pending credits a claim folds: the first so many, and of the deposits so much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Folded {
    pub(crate) credits: Vec<Credit>,
    pub(crate) deposits: u64,
}

/// What is claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// An account is opened. Its head is that of an account that is there.
    Open { head: Head },
    /// Amounts go to payees.
    Pay {
        head: Head,
        payees: Vec<Payee>,
        /// `t P` of all amounts together, for the payer.
        handle: Bytes,
        /// What is left, sealed anew, by limb.
        left: [Bytes; 2],
    },
    /// What is pending becomes available.
    Fold { head: Head, folded: Folded },
    /// An amount leaves the ledger, in the open, to somebody outside.
    Withdraw { head: Head, amount: u64, to: Destination, left: [Bytes; 2] },
    /// The account gets another key. All that is pending is folded.
    Rotate { head: Head, folded: Folded, key: Bytes, handle: Bytes },
}

impl Body {
    pub(crate) fn head(&self) -> &Head {
        match self {
            Body::Open { head }
            | Body::Pay { head, .. }
            | Body::Fold { head, .. }
            | Body::Withdraw { head, .. }
            | Body::Rotate { head, .. } => head,
        }
    }

    pub(crate) fn head_mut(&mut self) -> &mut Head {
        match self {
            Body::Open { head }
            | Body::Pay { head, .. }
            | Body::Fold { head, .. }
            | Body::Withdraw { head, .. }
            | Body::Rotate { head, .. } => head,
        }
    }

    /// The commitments whose values are to be in range.
    pub(crate) fn in_range(&self) -> Vec<Bytes> {
        match self {
            Body::Pay { payees, left, .. } => {
                let limbs = payees.iter().flat_map(|payee| payee.credit.limbs.map(|limb| limb.c));
                limbs.chain(*left).collect()
            }
            Body::Withdraw { left, .. } => left.to_vec(),
            Body::Open { .. } | Body::Fold { .. } | Body::Rotate { .. } => Vec::new(),
        }
    }
}

/// A claim with its proof, as a wallet makes it. It holds no secret.
#[derive(Clone, PartialEq)]
pub struct Claim {
    pub(crate) body: Body,
    pub(crate) proof: Proof,
}

impl Claim {
    /// The account that claims.
    pub fn account(&self) -> AccountId {
        self.body.head().id
    }

    /// The version of the account that the claim was made from.
    pub fn version(&self) -> u64 {
        self.body.head().version
    }

    /// Whether it opens the account.
    pub fn opens(&self) -> bool {
        matches!(self.body, Body::Open { .. })
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.body {
            Body::Open { .. } => "Open",
            Body::Pay { .. } => "Pay",
            Body::Fold { .. } => "Fold",
            Body::Withdraw { .. } => "Withdraw",
            Body::Rotate { .. } => "Rotate",
        };
        f.debug_struct(kind)
            .field("account", &self.account())
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}
