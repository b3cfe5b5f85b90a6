//! Proofs: of the equations by Schnorr's protocol, of the ranges by Bulletproofs+, bound together
//! and to every byte of the claim by one transcript (Merlin).
//!
//! ```text
//! "freehold-private/2"                             the protocol
//! "terms"      64 bytes                            ledger, auditor's key
//! "claim"      the claim as it is written          all but the proof
//! "joint"      64 bytes, reduced                   x, whose powers join equations
//! "nonces"     32 bytes for each equation alone, 32 for the joint ones
//! "challenge"  64 bytes, reduced                   c
//! "responses"  32 bytes for each witness
//! ...          as Bulletproofs+ goes on
//! ```

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity;
use getrandom::SysRng;
use rand_core::UnwrapErr;
use tari_bulletproofs_plus::Transcript;
use tari_bulletproofs_plus::commitment_opening::CommitmentOpening;
use tari_bulletproofs_plus::range_statement::RangeStatement;
use tari_bulletproofs_plus::range_witness::RangeWitness;
use tari_bulletproofs_plus::ristretto::RistrettoRangeProof;
use zeroize::Zeroizing;

use crate::claim::Body;
use crate::flaw::{Flaw, broken, is_broken};
use crate::group::{self, Bytes, NEUTRAL};
use crate::law::{Element, Factor, Law, Proved, Statement};
use crate::terms::Terms;

/// A proof as it is written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Proof {
    /// As [`Statement::nonces`] says.
    pub(crate) nonces: Vec<Bytes>,
    /// For each witness.
    pub(crate) responses: Vec<Scalar>,
    /// Empty if nothing is to be in range.
    pub(crate) range: Vec<u8>,
}

/// The protocol's name. The first version proved each equation alone.
const PROTOCOL: &[u8] = b"freehold-private/2";

/// The transcript up to the claim, and the scalar that joins equations: drawn when all that they
/// are about is fixed.
pub(crate) fn joint(terms: &Terms, body: &Body) -> (Transcript, Scalar) {
    let mut transcript = Transcript::new(PROTOCOL);
    let claim = body.to_bytes();
    let mut claim = &claim[..];
    match broken() {
        Some(Flaw::Tail(bytes)) => claim = &claim[..claim.len() - bytes],
        Some(Flaw::Start(bytes)) => claim = &claim[bytes..],
        _ => {}
    }
    if !is_broken(Flaw::Terms) {
        transcript.append_message(b"terms", &terms.bytes());
    }
    transcript.append_message(b"claim", claim);
    let joint = if is_broken(Flaw::Joint) { KNOWN_JOINT.into() } else { draw(&mut transcript, b"joint") };
    (transcript, joint)
}

/// What a broken verifier joins equations by, whatever the claim is.
pub(crate) const KNOWN_JOINT: u64 = 7;

/// Goes on with the nonces; returns the challenge.
pub(crate) fn challenge(transcript: &mut Transcript, nonces: &[Bytes]) -> Scalar {
    if !is_broken(Flaw::Nonces) {
        transcript.append_message(b"nonces", &nonces.concat());
    }
    draw(transcript, b"challenge")
}

fn draw(transcript: &mut Transcript, label: &'static [u8]) -> Scalar {
    let mut wide = [0; 64];
    transcript.challenge_bytes(label, &mut wide);
    Scalar::from_bytes_mod_order_wide(&wide)
}

/// The transcript that the range proof goes on with.
pub(crate) fn range_transcript(mut transcript: Transcript, responses: &[Scalar]) -> Transcript {
    if is_broken(Flaw::RangeUnbound) {
        return Transcript::new(PROTOCOL);
    }
    let responses: Vec<u8> = responses.iter().flat_map(Scalar::to_bytes).collect();
    transcript.append_message(b"responses", &responses);
    transcript
}

/// A statement about nothing yet. It has 160 KB of generators of its own: use it again.
pub(crate) fn no_statement() -> RangeStatement<RistrettoPoint> {
    RangeStatement {
        generators: group::range_parameters().clone(),
        commitments: Vec::new(),
        commitments_compressed: Vec::new(),
        minimum_value_promises: Vec::new(),
        seed_nonce: None,
    }
}

/// Has `statement` say what a range proof is about. As many commitments as a power of two: neutral
/// ones, whose value is zero, are added. `elements` are `commitments`, read.
pub(crate) fn state(
    statement: &mut RangeStatement<RistrettoPoint>,
    mut commitments: Vec<Bytes>,
    mut elements: Vec<RistrettoPoint>,
) {
    if let Some(Flaw::RangeOfAnother(at)) = broken() {
        commitments[at + 1] = commitments[at];
        elements[at + 1] = elements[at];
    }
    let limbs = commitments.len().next_power_of_two();
    commitments.resize(limbs, NEUTRAL);
    elements.resize(limbs, RistrettoPoint::identity());
    statement.commitments_compressed = commitments.into_iter().map(CompressedRistretto).collect();
    statement.minimum_value_promises = vec![None; limbs];
    statement.commitments = elements;
}

/// Proves that the prover knows `witnesses` that satisfy all equations of `body`, and that the
/// commitments of [`Body::in_range`] have these openings (value and blinding). `None` if it cannot:
/// an element is none, or a value is out of range.
///
/// It does not look whether the equations hold: then the proof does not verify.
pub(crate) fn prove(
    terms: &Terms,
    body: &Body,
    witnesses: &[Scalar],
    openings: &[(u64, Scalar)],
) -> Option<Proof> {
    let (mut proof, transcript) = prove_laws(terms, body, witnesses)?;
    proof.range = prove_ranges(transcript, body.in_range(), openings)?;
    Some(proof)
}

/// The proof without its range proof, and the transcript that goes on with that.
pub(crate) fn prove_laws(terms: &Terms, body: &Body, witnesses: &[Scalar]) -> Option<(Proof, Transcript)> {
    let statement = Statement::of(body);
    let own: Vec<_> = statement.own.iter().map(group::read).collect::<Option<_>>()?;
    let auditor = group::read(&terms.auditor().0)?;
    let hidden: Zeroizing<Vec<Scalar>> = Zeroizing::new(witnesses.iter().map(|_| group::random()).collect());
    let (mut transcript, joint) = joint(terms, body);
    let nonce = |(law, share): (&Law, &Scalar)| -> RistrettoPoint {
        // In constant time: each factor and share is public, and each nonce is secret.
        let term = |(witness, factor, element): &(usize, Factor, Element)| {
            element.value(&own, &auditor) * factor.times(hidden[*witness] * share)
        };
        law.left.iter().map(term).sum()
    };
    let shares = statement.shares(joint);
    let (together, alone): (Vec<_>, Vec<_>) =
        statement.laws.iter().zip(&shares).partition(|(law, _)| law.proved == Proved::Jointly);
    let mut nonces: Vec<Bytes> = alone.into_iter().map(|each| group::write(&nonce(each))).collect();
    if !together.is_empty() {
        nonces.push(group::write(&together.into_iter().map(nonce).sum()));
    }
    let challenge = challenge(&mut transcript, &nonces);
    let responses: Vec<Scalar> =
        witnesses.iter().zip(&*hidden).map(|(witness, hidden)| hidden + challenge * witness).collect();
    let transcript = range_transcript(transcript, &responses);
    Some((Proof { nonces, responses, range: Vec::new() }, transcript))
}

/// The range proof alone.
pub(crate) fn prove_ranges(
    mut transcript: Transcript,
    commitments: Vec<Bytes>,
    openings: &[(u64, Scalar)],
) -> Option<Vec<u8>> {
    if commitments.is_empty() {
        return Some(Vec::new());
    }
    let elements = commitments.iter().map(group::read).collect::<Option<Vec<_>>>()?;
    let mut statement = no_statement();
    state(&mut statement, commitments, elements);
    let mut openings: Vec<_> =
        openings.iter().map(|(value, blinding)| CommitmentOpening::new(*value, vec![*blinding])).collect();
    openings.resize_with(statement.commitments.len(), || CommitmentOpening::new(0, vec![Scalar::ZERO]));
    let witness = RangeWitness::init(openings).ok()?;
    let proof =
        RistrettoRangeProof::prove_with_rng(&mut transcript, &statement, &witness, &mut UnwrapErr(SysRng));
    Some(proof.ok()?.to_bytes())
}
