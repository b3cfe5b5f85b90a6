//! Confidential accounts: the operator keeps them and cannot read them.
//!
//! Balances and amounts are sealed under keys that only their owners have. A payment is a *claim*
//! with proofs, made by a [`Wallet`] wherever its owner trusts; [`Checker`] verifies it, and what
//! comes of that is [`Proven`], which nothing else can make. With the feature `ledger` (the
//! default) there is an actor of these accounts, and the verifier of its gate. A wallet is built
//! without, and needs no runtime.
//!
//! `docs/PRIVACY.md` has the protocol, the threats and what is not hidden. The protocol was not
//! audited: **do not keep money in it that you cannot lose.**
//!
//! ```
//! use freehold_private::{Account, AuditorSecret, Checker, Secret, Terms, Wallet};
//!
//! let auditor = AuditorSecret::random();
//! let terms = Terms::new([7; 32], auditor.public()).unwrap();
//! let checker = Checker::new(terms.clone());
//! let (alice, bob) = (Wallet::new(terms.clone(), 1, Secret::random()), Wallet::new(terms, 2, Secret::random()));
//!
//! // What a ledger does with a claim that was verified.
//! let mut a = Account::opened(&checker.verify_one(&alice.open()).unwrap()).unwrap();
//! let mut b = Account::opened(&checker.verify_one(&bob.open()).unwrap()).unwrap();
//! a.deposit(100).unwrap();
//! a.apply(&checker.verify_one(&alice.fold(&a).unwrap()).unwrap()).unwrap();
//! let payment = alice.pay(&a, &[(2, bob.public(), 30)]).unwrap();
//! let proven = checker.verify_one(&payment).unwrap();
//! a.apply(&proven).unwrap();
//! b.apply(&proven).unwrap();
//! assert_eq!(alice.balance(&a), Ok(70));
//! assert_eq!(bob.incoming(&b), Ok(vec![30]));
//! assert_eq!(auditor.amounts(&payment), Ok(vec![(2, 30)]));
//! ```
#![forbid(unsafe_code)]

mod account;
mod auditor;
mod books;
mod check;
mod claim;
#[cfg(feature = "ledger")]
mod earlier;
mod flaw;
mod group;
mod key;
mod law;
#[cfg(feature = "ledger")]
mod ledger;
mod limbs;
mod proof;
mod terms;
#[cfg(test)]
mod tests;
mod wallet;
mod wire;

pub use account::{Account, NotApplied, PENDING_MAX};
pub use auditor::AuditorSecret;
pub use books::{Books, NotBalanced};
pub use check::{Checker, Proven, Refusal};
pub use claim::{AccountId, Claim, Destination, PAYEES_MAX};
pub use key::{NotAPublicKey, PublicKey, Secret};
#[cfg(feature = "ledger")]
pub use ledger::{Guard, Ledger, Look, Message, Receipt, Refused, Submission};
pub use limbs::NotFound;
pub use terms::Terms;
pub use wallet::{NotMade, Wallet};
pub use wire::NotAClaim;
