//! A wallet's process. It makes its secret, pays the others in turn, and outlives the ledger.
//!
//! It says `key K`, hears the terms and everybody's keys, and says `ready` when its account is
//! open, `paid` for each payment, and `done`. When its input ends, it says what it sees.

use std::fs::File;
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use freehold_private::{Account, Claim, PublicKey, Secret, Terms, Wallet};

use crate::socket::{CLAIM, Client, SHOW};
use crate::{Failed, hex, key, terms};

/// Whom a wallet pays by one of its payments, and how much.
pub fn planned(id: u64, payment: u64, wallets: u64) -> (u64, u64) {
    ((id + payment % (wallets - 1)) % wallets + 1, id + payment % 7)
}

/// With so many credits pending a wallet folds them.
const PENDING: usize = 8;

struct Owner {
    wallet: Wallet,
    client: Client,
    /// Claims that were made.
    claims: File,
}

impl Owner {
    fn account(&mut self) -> Result<Account, Failed> {
        show(&mut self.client, self.wallet.id())
    }

    /// Makes a claim, once, whatever becomes of the ledger. `Err` of text if it is refused.
    fn make(&mut self, claim: &Claim) -> Result<Result<(), String>, Failed> {
        let bytes = claim.to_bytes();
        let is_unsure = loop {
            match self.client.try_ask(CLAIM, &bytes) {
                Ok(Ok(_)) => break false,
                // It may have been made by a ledger that was killed before it said so.
                Ok(Err(refused)) => match self.account() {
                    Ok(account) if account.version() > claim.version() => break true,
                    _ => return Ok(Err(refused)),
                },
                Err(_) => {}
            }
        };
        if is_unsure {
            println!("unsure");
        }
        self.claims.write_all(&(bytes.len() as u32).to_le_bytes())?;
        self.claims.write_all(&bytes)?;
        Ok(Ok(()))
    }

    fn must_make(&mut self, claim: &Claim) -> Result<(), Failed> {
        self.make(claim)?.map_err(Into::into)
    }

    /// Makes what is pending available, if it is enough.
    fn fold(&mut self, at_least: usize) -> Result<(), Failed> {
        let account = self.account()?;
        if account.pending() >= at_least {
            let claim = self.wallet.fold(&account)?;
            self.must_make(&claim)?;
        }
        Ok(())
    }

    fn pay(&mut self, to: (u64, PublicKey), amount: u64) -> Result<(), Failed> {
        loop {
            let account = self.account()?;
            let claim = self.wallet.pay(&account, &[(to.0, to.1, amount)])?;
            match self.make(&claim)? {
                Ok(()) => return Ok(()),
                // Its owner folds soon.
                Err(refused) if refused.contains("must fold them") => {
                    self.fold(1)?;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(refused) => return Err(refused.into()),
            }
        }
    }
}

pub fn show(client: &mut Client, account: u64) -> Result<Account, Failed> {
    Ok(Account::from_bytes(&client.ask(SHOW, &account.to_le_bytes())??)?)
}

/// What one sees of each account who has this secret: its balance, or nothing.
pub fn sees(client: &mut Client, terms: &Terms, wallets: u64, secret: &Secret) -> Result<String, Failed> {
    let mut seen = Vec::new();
    for id in 1..=wallets {
        let account = show(client, id)?;
        let wallet = Wallet::new(terms.clone(), id, secret.clone());
        // Even if the account's key were theirs: the balance is decrypted, or it is not.
        let balance = wallet.balance(&account).ok();
        let pending = wallet.incoming(&account).ok().map(|amounts| amounts.iter().sum::<u64>());
        seen.push(
            balance
                .zip(pending)
                .map_or("-".to_string(), |(balance, pending)| format!("{}", balance + pending)),
        );
    }
    Ok(seen.join(" "))
}

pub fn live(id: u64, wallets: u64, payments: u64, socket: &Path, claims: &Path) -> Result<bool, Failed> {
    let secret = Secret::random();
    println!("key {}", hex(&secret.public().to_bytes()));
    let mut lines = std::io::stdin().lock().lines();
    let terms = terms(&lines.next().ok_or("no terms came")??)?;
    let keys = (1..=wallets).map(|_| key(&lines.next().ok_or("a key is missing")??));
    let keys: Vec<PublicKey> = keys.collect::<Result<_, Failed>>()?;
    let wallet = Wallet::new(terms.clone(), id, secret.clone());
    let mut owner = Owner { wallet, client: Client::new(socket), claims: File::create(claims)? };
    let open = owner.wallet.open();
    owner.must_make(&open)?;
    println!("ready");
    // The operator has deposited, and all accounts are open.
    lines.next().ok_or("no word to begin came")??;
    drop(lines);
    let account = owner.account()?;
    let fold = owner.wallet.fold(&account)?;
    owner.must_make(&fold)?;
    for payment in 0..payments {
        let (to, amount) = planned(id, payment, wallets);
        owner.pay((to, keys[to as usize - 1]), amount)?;
        println!("paid");
        owner.fold(PENDING)?;
    }
    println!("done");
    let is_over = Arc::new(AtomicBool::new(false));
    let over = is_over.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().lock().lines().count();
        over.store(true, Ordering::Release);
    });
    while !is_over.load(Ordering::Acquire) {
        owner.fold(PENDING)?;
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("sees {}", sees(&mut owner.client, &terms, wallets, &secret)?);
    Ok(true)
}
