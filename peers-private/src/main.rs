//! Solana's verifier of a whole confidential transfer beside Freehold's of a payment, in one run.
//!
//! ```text
//! cargo run --release --manifest-path peers-private/Cargo.toml --target-dir target/peers-private
//! ```
//! A transfer there has three proofs: that the new balance's commitment is of the ciphertext, that
//! the amount's two limbs can be read by payer, payee and auditor, and the ranges. They are made
//! and verified as its token program has it: an amount of 16 and 32 bits, a balance of 64. A
//! payment here has the same parties, and an amount of 64 bits. All is thread CPU time, the least
//! of some rounds, in which the verifiers take turns. Solana's has no batches.

use std::time::Duration;

use freehold_private::{Account, AuditorSecret, Checker, Claim, Secret, Terms, Wallet};
use rustix::time::{ClockId, clock_gettime};
use solana_zk_sdk::encryption::elgamal::ElGamalKeypair;
use solana_zk_sdk::encryption::grouped_elgamal::GroupedElGamal;
use solana_zk_sdk::encryption::pedersen::{Pedersen, PedersenOpening};
use solana_zk_sdk::zk_elgamal_proof_program::{
    VerifyZkProof, build_batched_grouped_ciphertext_3_handles_validity_proof_data,
    build_batched_range_proof_u128_data, build_ciphertext_commitment_equality_proof_data,
};

const ROUNDS: usize = 20;
const BALANCE: u64 = 1_000_000;
const AMOUNT: u64 = 123_456;

/// This thread's CPU time for `work`.
fn cpu_time(work: impl FnOnce()) -> Duration {
    let now = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    };
    let begun = now();
    work();
    now() - begun
}

/// A transfer with its three proofs, and what verifies them all.
fn transfer() -> impl Fn() {
    let [payer, payee, auditor] = [(); 3].map(|()| ElGamalKeypair::new_rand());
    let parties = [payer.pubkey(), payee.pubkey(), auditor.pubkey()];
    let (low, high, left) = (AMOUNT & 0xFFFF, AMOUNT >> 16, BALANCE - AMOUNT);
    let openings = [(); 2].map(|()| PedersenOpening::new_rand());
    let sealed_low = GroupedElGamal::encrypt_with(parties, low, &openings[0]);
    let sealed_high = GroupedElGamal::encrypt_with(parties, high, &openings[1]);
    // What is left, as the ledger computes it.
    let of_payer = |sealed: &solana_zk_sdk::encryption::grouped_elgamal::GroupedElGamalCiphertext<3>| {
        sealed.to_elgamal_ciphertext(0).expect("there are three")
    };
    let taken = &of_payer(&sealed_low) + &(&of_payer(&sealed_high) * &65_536_u64);
    let remains = &payer.pubkey().encrypt(BALANCE) - &taken;
    let (of_left, opening_of_left) = Pedersen::new(left);
    let equality =
        build_ciphertext_commitment_equality_proof_data(&payer, &remains, &of_left, &opening_of_left, left)
            .expect("they agree");
    let [first, second, third] = parties;
    let validity = build_batched_grouped_ciphertext_3_handles_validity_proof_data(
        first,
        second,
        third,
        &sealed_low,
        &sealed_high,
        low,
        high,
        &openings[0],
        &openings[1],
    )
    .expect("they agree");
    let (padding, opening_of_padding) = Pedersen::new(0_u64);
    let range = build_batched_range_proof_u128_data(
        vec![&of_left, &sealed_low.commitment, &sealed_high.commitment, &padding],
        vec![left, low, high, 0],
        vec![64, 16, 32, 16],
        vec![&opening_of_left, &openings[0], &openings[1], &opening_of_padding],
    )
    .expect("they are in range");
    move || {
        equality.verify_proof().expect("it is honest");
        validity.verify_proof().expect("it is honest");
        range.verify_proof().expect("it is honest");
    }
}

/// Freehold's checker, and a payment.
fn payment() -> (Checker, Claim) {
    let terms = Terms::new([7; 32], AuditorSecret::random().public()).expect("a key");
    let checker = Checker::new(terms.clone());
    let [payer, payee] = [1, 2].map(|id| Wallet::new(terms.clone(), id, Secret::random()));
    let proven = |claim: &Claim| checker.verify_one(claim).expect("it is honest");
    let mut account = Account::opened(&proven(&payer.open())).expect("it opens");
    account.deposit(BALANCE).expect("it fits");
    account.apply(&proven(&payer.fold(&account).expect("it can be read"))).expect("it fits");
    let claim = payer.pay(&account, &[(2, payee.public(), AMOUNT)]).expect("it is there");
    (checker, claim)
}

fn main() {
    let (transfer, (checker, claim)) = (transfer(), payment());
    let batches = [1, 16, 256];
    let mut least = [Duration::MAX; 4];
    for _ in 0..ROUNDS {
        least[0] = least[0].min(cpu_time(&transfer));
        for (batch, least) in batches.iter().zip(&mut least[1..]) {
            let claims = vec![&claim; *batch];
            let time = cpu_time(|| drop(checker.verify(&claims).expect("they are honest")));
            *least = (*least).min(time / *batch as u32);
        }
    }
    let micros = least.map(|time| time.as_secs_f64() * 1e6);
    println!("solana-zk-sdk 8.1.0, a whole transfer: {:7.1} us", micros[0]);
    for (batch, micros_of) in batches.iter().zip(&micros[1..]) {
        let times = micros[0] / micros_of;
        println!(
            "freehold-private, {batch:3} at once:       {micros_of:7.1} us a payment, {times:.2} times as fast"
        );
    }
}
