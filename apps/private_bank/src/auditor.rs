//! The auditor's process: it reads the amounts of the claims that wallets have made.
//!
//! It says `key K`, hears the terms, and in the end the files of claims. Then it says what each
//! account paid and got, and what it sees of balances.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;

use freehold_private::{AuditorSecret, Claim, Secret};

use crate::socket::Client;
use crate::wallet::sees;
use crate::{Failed, hex, terms};

/// The claims in a wallet's file.
fn claims(path: &str) -> Result<Vec<Claim>, Failed> {
    let bytes = std::fs::read(path)?;
    let (mut left, mut claims) = (&bytes[..], Vec::new());
    while let Some((length, rest)) = left.split_first_chunk() {
        let length = u32::from_le_bytes(*length) as usize;
        let (claim, rest) = rest.split_at_checked(length).ok_or("a file of claims ends early")?;
        claims.push(Claim::from_bytes(claim)?);
        left = rest;
    }
    Ok(claims)
}

pub fn audit(wallets: u64, socket: &Path) -> Result<bool, Failed> {
    let secret = Secret::random();
    let auditor = AuditorSecret::from_secret(secret.clone());
    println!("key {}", hex(&auditor.public().to_bytes()));
    let mut lines = std::io::stdin().lock().lines();
    let terms = terms(&lines.next().ok_or("no terms came")??)?;
    let (mut payments, mut total, mut net) = (0, 0, BTreeMap::<u64, i64>::new());
    for path in lines {
        for claim in claims(&path?)? {
            for (payee, amount) in auditor.amounts(&claim)? {
                payments += 1;
                total += amount;
                *net.entry(claim.account()).or_default() -= amount as i64;
                *net.entry(payee).or_default() += amount as i64;
            }
        }
    }
    let net: Vec<_> = (1..=wallets).map(|id| net.get(&id).copied().unwrap_or(0).to_string()).collect();
    println!("amounts {payments} {total} {}", net.join(" "));
    println!("sees {}", sees(&mut Client::new(socket), &terms, wallets, &secret)?);
    Ok(true)
}
