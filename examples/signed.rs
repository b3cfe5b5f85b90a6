//! Signed messages: a gate verifies their signatures in batches, on a thread of its own, before
//! they reach their objects.
//!
//! `cargo run --release --example signed -- [NOTES]` has two users write notes, and a thief who
//! signs with a key of his own.
use std::time::Instant;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey, verify_batch};
use freehold::{AccessError, Actor, Addressees, Config, GateConfig, GateError, Objects, Runtime, Verifier};

/// The notes of users: an object is how many there are, and the last.
struct Notes;

/// A note whose signature was verified.
struct Verified {
    user: u64,
    number: u64,
    text: String,
}

/// A note as it comes.
struct Signed {
    user: u64,
    /// Counts up, so that no note is written twice.
    number: u64,
    text: String,
    signature: Signature,
}

/// What is signed.
fn bytes(user: u64, number: u64, text: &str) -> Vec<u8> {
    [b"note/1".as_slice(), &user.to_le_bytes(), &number.to_le_bytes(), text.as_bytes()].concat()
}

#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("the user's next note is number {0}")]
    Number(u64),
    #[error(transparent)]
    Access(#[from] AccessError<u64>),
}

impl Actor for Notes {
    type Id = u64;
    type State = (u64, String);
    type Message = Verified;
    type Reply = u64;
    type Error = Refused;

    fn addressees(note: &Verified, to: &mut Addressees<u64>) {
        to.write(note.user);
    }

    fn receive(note: &Verified, objects: &mut Objects<'_, Self>) -> Result<u64, Refused> {
        let (notes, last) = objects.get_or_insert_with(note.user, || (0, String::new()))?;
        if note.number != *notes {
            return Err(Refused::Number(*notes));
        }
        *notes += 1;
        last.clone_from(&note.text);
        Ok(*notes)
    }
}

/// Verifies signatures under its users' keys.
struct Keys(Vec<VerifyingKey>);

#[derive(Debug, thiserror::Error)]
#[error("the signature is not this user's")]
struct NotTheirs;

impl Verifier<Notes> for Keys {
    type Claim = Signed;
    type Refusal = NotTheirs;

    // A user's notes are written in the order they were sent.
    fn line(note: &Signed) -> u64 {
        note.user
    }

    fn verify(&mut self, notes: &[&Signed]) -> Result<Vec<Verified>, NotTheirs> {
        let texts: Vec<_> = notes.iter().map(|note| bytes(note.user, note.number, &note.text)).collect();
        let texts: Vec<_> = texts.iter().map(Vec::as_slice).collect();
        let signatures: Vec<_> = notes.iter().map(|note| note.signature).collect();
        let key = |note: &&Signed| self.0.get(note.user as usize).copied().ok_or(NotTheirs);
        let keys = notes.iter().map(key).collect::<Result<Vec<_>, _>>()?;
        verify_batch(&texts, &signatures, &keys).map_err(|_| NotTheirs)?;
        let verified =
            |note: &&Signed| Verified { user: note.user, number: note.number, text: note.text.clone() };
        Ok(notes.iter().map(verified).collect())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let notes: u64 = std::env::args().nth(1).map_or(Ok(1000), |notes| notes.parse())?;
    let users = [1, 2].map(|seed| SigningKey::from_bytes(&[seed; 32]));
    let keys: Vec<_> = users.iter().map(SigningKey::verifying_key).collect();
    let runtime = Runtime::<Notes>::start(Config::default())?;
    // A gate has room for 4,096 claims by default, and says so when it is full.
    let config = GateConfig { claims_max: 1 << 20, ..GateConfig::default() };
    let gate = runtime.gate(config, move || Keys(keys.clone()))?;
    let sign = |user: u64, number: u64, key: &SigningKey| {
        let text = format!("note {number}");
        let signature = key.sign(&bytes(user, number, &text));
        Signed { user, number, text, signature }
    };
    let signed: Vec<_> =
        (0..notes).flat_map(|number| [0, 1].map(|user| sign(user, number, &users[user as usize]))).collect();
    let begun = Instant::now();
    let asks: Vec<_> = signed.into_iter().map(|note| gate.ask(note)).collect();
    let thief = gate.ask(sign(0, notes, &users[1]));
    for ask in asks {
        ask.wait()?;
    }
    match thief.wait() {
        Err(GateError::Refused(reason)) => println!("a note of another: {reason}"),
        outcome => panic!("it was let in: {outcome:?}"),
    }
    let again = gate.ask(sign(0, 0, &users[0])).wait();
    println!("a note sent twice: {}", again.expect_err("it has its number"));
    let stats = gate.stats();
    println!("{} notes in {} batches, {:?}", stats.passed - 1, stats.batches, begun.elapsed());
    runtime.shutdown();
    Ok(())
}
