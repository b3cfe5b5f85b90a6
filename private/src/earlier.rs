//! Logs that earlier versions wrote. In the first, serde wrote an account field by field.

use freehold::{LogConfig, Migration, Schema, SchemaTypes};
use serde::{Deserialize, Serialize};

use crate::account::{Account, PENDING_MAX};
use crate::claim::{AccountId, Credit, Sealed};
use crate::group::Bytes;
use crate::ledger::{Ledger, Message};
use crate::terms::TermsHash;

impl Ledger {
    /// A log that this or an earlier version may have written.
    ///
    /// ```no_run
    /// use freehold::{Config, LogConfig, Runtime};
    /// use freehold_private::Ledger;
    ///
    /// let log = Ledger::log(LogConfig::at("/var/lib/accounts"));
    /// let runtime = Runtime::<Ledger>::open(Config::default(), log)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn log(config: LogConfig) -> LogConfig {
        config.migrate_from::<LedgerV1, Ledger>(Migration {
            id: Ok,
            state: |_, account: AccountV1| Account::try_from(account).map_err(Into::into),
            message: Ok,
        })
    }
}

/// The types of the first version.
struct LedgerV1;

impl SchemaTypes for LedgerV1 {
    const SCHEMA: Schema = Schema::new(1);
    type Id = AccountId;
    type State = AccountV1;
    type Message = Message;
}

#[derive(Serialize, Deserialize)]
#[serde(rename = "Account")]
struct AccountV1 {
    terms: TermsHash,
    key: Bytes,
    available: SealedV1,
    version: u64,
    hint: [u8; 8],
    pending: Vec<CreditV1>,
    pending_deposits: u64,
    deposited: u64,
    withdrawn: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename = "Credit")]
struct CreditV1 {
    limbs: [SealedV1; 2],
}

#[derive(Serialize, Deserialize)]
#[serde(rename = "Sealed")]
struct SealedV1 {
    c: Bytes,
    d: Bytes,
}

impl From<SealedV1> for Sealed {
    fn from(SealedV1 { c, d }: SealedV1) -> Sealed {
        Sealed { c, d }
    }
}

impl TryFrom<AccountV1> for Account {
    type Error = &'static str;

    fn try_from(account: AccountV1) -> Result<Account, &'static str> {
        let AccountV1 {
            terms,
            key,
            available,
            version,
            hint,
            pending,
            pending_deposits,
            deposited,
            withdrawn,
        } = account;
        if pending.len() > PENDING_MAX {
            return Err("an account has more pending credits than there may be");
        }
        let pending =
            pending.into_iter().map(|CreditV1 { limbs }| Credit { limbs: limbs.map(Sealed::from) }).collect();
        let available = available.into();
        Ok(Account { terms, key, available, version, hint, pending, pending_deposits, deposited, withdrawn })
    }
}
