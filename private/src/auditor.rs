//! The auditor: reads the amount of every payment, and can spend nothing.

use crate::claim::{AccountId, Body, Claim, Credit, Sealed};
use crate::key::{PublicKey, Secret};
use crate::limbs::NotFound;

/// The auditor's secret. It is kept like an account's, and better: it reads everything.
#[derive(Clone, Debug)]
pub struct AuditorSecret(Secret);

impl AuditorSecret {
    /// A new one, from the system's random generator.
    pub fn random() -> AuditorSecret {
        AuditorSecret(Secret::random())
    }

    /// With this secret.
    pub fn from_secret(secret: Secret) -> AuditorSecret {
        AuditorSecret(secret)
    }

    /// The key for the ledger's terms.
    pub fn public(&self) -> PublicKey {
        self.0.public()
    }

    /// What each payee of a payment gets, in order; nothing of another claim. The claim is to be
    /// one that was verified: then this cannot fail.
    ///
    /// # Errors
    /// [`NotFound`] if the claim was made for another auditor, or does not prove what it says.
    pub fn amounts(&self, claim: &Claim) -> Result<Vec<(AccountId, u64)>, NotFound> {
        let Body::Pay { payees, .. } = &claim.body else { return Ok(Vec::new()) };
        let amount = |payee: &crate::claim::Payee| {
            let limb = |at: usize| Sealed { c: payee.credit.limbs[at].c, d: payee.auditor[at] };
            let credit = Credit { limbs: [limb(0), limb(1)] };
            Ok((payee.id, credit.amount(self.0.scalar())?))
        };
        payees.iter().map(amount).collect()
    }
}
