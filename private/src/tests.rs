//! Forgers and broken verifiers.
//!
//! Flipping bytes proves little: the challenge changes, and every equation fails. So there is a
//! *forger* for each equation: it breaks that one and keeps all others. Each rule can be broken
//! ([`Flaw`]), and a test says which forgery gets through then, and only then.

use std::cell::Cell;
use std::sync::OnceLock;

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;

use crate::claim::{Body, Credit, Folded, Head, Payee, Sealed};
use crate::flaw::{Flaw, with};
use crate::group::{self, Bytes, NEUTRAL, limb_base, limbs};
use crate::law::Statement;
use crate::proof::{Proof, challenge, joint, prove, prove_laws, prove_ranges, range_transcript};
use crate::{
    Account, AuditorSecret, Books, Checker, Claim, NotAClaim, NotApplied, NotMade, Refusal, Secret, Terms,
    Wallet,
};

mod accounts;
mod differential;
mod encodings;
#[cfg(feature = "ledger")]
mod gate;
mod joint;

/// Three wallets, and the first two's accounts.
struct World {
    auditor: AuditorSecret,
    terms: Terms,
    checker: Checker,
    alice: Wallet,
    bob: Wallet,
    carol: Wallet,
    /// Has a blinded balance of 100.
    of_alice: Account,
    /// Has a deposit of 50 folded: a balance without a blinding.
    of_bob: Account,
}

thread_local! {
    /// Another world for this thread: the accounts of a runtime.
    static OTHER: Cell<Option<&'static World>> = const { Cell::new(None) };
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    OTHER.get().unwrap_or_else(|| {
        WORLD.get_or_init(|| {
            let auditor = AuditorSecret::random();
            let terms = Terms::new([7; 32], auditor.public()).expect("a key");
            let checker = Checker::new(terms.clone());
            let [alice, bob, carol] = [1, 2, 3].map(|id| Wallet::new(terms.clone(), id, Secret::random()));
            let open = |wallet: &Wallet| opened(&checker, wallet);
            let (mut of_alice, mut of_bob) = (open(&alice), open(&bob));
            of_bob.deposit(150).expect("it fits");
            fold(&checker, &mut of_bob, &bob);
            let pays = bob.pay(&of_bob, &[(1, alice.public(), 100)]).expect("it is there");
            of_alice.apply(&checker.verify_one(&pays).expect("it is honest")).expect("it fits");
            fold(&checker, &mut of_alice, &alice);
            let mut of_bob = open(&bob);
            of_bob.deposit(50).expect("it fits");
            fold(&checker, &mut of_bob, &bob);
            World { auditor, terms, checker, alice, bob, carol, of_alice, of_bob }
        })
    })
}

fn opened(checker: &Checker, wallet: &Wallet) -> Account {
    Account::opened(&checker.verify_one(&wallet.open()).expect("it is honest")).expect("it opens")
}

fn fold(checker: &Checker, account: &mut Account, wallet: &Wallet) {
    let claim = wallet.fold(account).expect("it can be read");
    account.apply(&checker.verify_one(&claim).expect("it is honest")).expect("it fits");
}

fn refusal(claim: &Claim) -> Option<Refusal> {
    world().checker.verify_one(claim).err()
}

fn secret_of(wallet: &Wallet) -> Scalar {
    wallet.secret_scalar()
}

fn point(bytes: &Bytes) -> RistrettoPoint {
    group::read(bytes).expect("an element")
}

fn commit(value: Scalar, blinding: Scalar) -> Bytes {
    group::write(&(value * group::g() + blinding * group::h()))
}

/// A payment before it is proved: everything in it can be changed.
#[derive(Clone)]
struct Draft {
    body: Body,
    witnesses: Vec<Scalar>,
    openings: Vec<(u64, Scalar)>,
}

/// A payment of amounts (limbs) from an account, of which `left` (limbs) is said to be left.
fn draft(id: u64, account: &Account, secret: Scalar, to: &[(&Wallet, [Scalar; 2])], left: [u64; 2]) -> Draft {
    let world = world();
    let Account { key, available, version, .. } = *account;
    let head = Head { id, version, key, available, hint: [0; 8] };
    let auditor = point(&world.terms.auditor().0);
    let of_left = [group::random(), group::random()];
    let mut witnesses = vec![secret, of_left[0] + limb_base() * of_left[1]];
    let (mut openings, mut payees, mut together) = (Vec::new(), Vec::new(), Scalar::ZERO);
    let low = |scalar: Scalar| u64::from_le_bytes(*scalar.as_bytes().first_chunk().expect("32 bytes"));
    for (wallet, amounts) in to {
        let blindings = [group::random(), group::random()];
        let sealed = |limb: usize| Sealed {
            c: commit(amounts[limb], blindings[limb]),
            d: group::write(&(blindings[limb] * point(&wallet.public().0))),
        };
        payees.push(Payee {
            id: wallet.id(),
            key: wallet.public().0,
            credit: Credit { limbs: [sealed(0), sealed(1)] },
            auditor: [0, 1].map(|limb: usize| group::write(&(blindings[limb] * auditor))),
        });
        witnesses.extend([amounts[0], blindings[0], amounts[1], blindings[1]]);
        openings.extend([0, 1].map(|limb: usize| (low(amounts[limb]), blindings[limb])));
        together += blindings[0] + limb_base() * blindings[1];
    }
    openings.extend([(left[0], of_left[0]), (left[1], of_left[1])]);
    let handle = group::write(&(together * point(&key)));
    let left = [0, 1].map(|limb: usize| commit(Scalar::from(left[limb]), of_left[limb]));
    Draft { body: Body::Pay { head, payees, handle, left }, witnesses, openings }
}

/// Alice pays Carol 30 of 100, honestly but for what is changed.
fn honest() -> Draft {
    let world = world();
    let amounts = limbs(30).map(Scalar::from);
    draft(1, &world.of_alice, secret_of(&world.alice), &[(&world.carol, amounts)], limbs(70))
}

/// Alice pays Carol 30 and Bob 20, honestly but for what is changed.
fn honest_payroll() -> Draft {
    let world = world();
    let to = [(&world.carol, limbs(30).map(Scalar::from)), (&world.bob, limbs(20).map(Scalar::from))];
    draft(1, &world.of_alice, secret_of(&world.alice), &to, limbs(50))
}

impl Draft {
    fn claim(&self) -> Claim {
        let proof = prove(&world().terms, &self.body, &self.witnesses, &self.openings).expect("it can be");
        Claim { body: self.body.clone(), proof }
    }

    fn payment(&mut self) -> (&mut [Payee], &mut Bytes, &mut [Bytes; 2]) {
        match &mut self.body {
            Body::Pay { payees, handle, left, .. } => (payees, handle, left),
            _ => unreachable!("it is a payment"),
        }
    }
}

/// A forgery: its name, the equation that it breaks, and the claim before it is proved.
type Forgery = (&'static str, usize, Draft);

/// For each equation about a limb of a payee's amount a payment that breaks it and no other.
fn forged_amounts(honest: &Draft, payee: usize) -> Vec<Forgery> {
    let (delta, mut forged) = (group::random(), Vec::new());
    for limb in 0..2 {
        let (weight, first) = (if limb == 0 { Scalar::ONE } else { limb_base() }, 1 + 6 * payee + 3 * limb);
        let mut unreadable = honest.clone();
        let sealed = &mut unreadable.payment().0[payee].credit.limbs[limb];
        sealed.c = group::write(&(point(&sealed.c) + delta * group::h()));
        unreadable.openings[2 * payee + limb].1 += delta;
        unreadable.witnesses[1] += weight * delta;
        forged.push(("an amount that its payee cannot read", first, unreadable));
        let mut unreadable = honest.clone();
        let sealed = &mut unreadable.payment().0[payee].credit.limbs[limb];
        sealed.d = group::write(&(point(&sealed.d) + delta * group::h()));
        forged.push(("a handle that is not the payee's", first + 1, unreadable));
        let mut unreadable = honest.clone();
        unreadable.payment().0[payee].auditor[limb] = group::write(&(delta * group::h()));
        forged.push(("a handle that is not the auditor's", first + 2, unreadable));
    }
    forged
}

/// For each equation of a payment a claim that breaks it and no other.
fn forged_payments() -> Vec<Forgery> {
    let world = world();
    // A thief who does not know the key takes a balance without a blinding: with a secret of zero.
    let amounts = limbs(50).map(Scalar::from);
    let mut thief = draft(2, &world.of_bob, Scalar::ZERO, &[(&world.carol, amounts)], [0, 0]);
    let blinding = thief.witnesses[3] + limb_base() * thief.witnesses[5];
    thief.witnesses[1] += blinding;
    let mut forged = vec![("theft without the key", 0, thief)];
    forged.extend(forged_amounts(&honest(), 0));
    // Alice has 100 and pays 1,000: her handle is shifted so that 7 seem to be left.
    let (secret, minus) = (secret_of(&world.alice), Scalar::from(907_u64));
    let to = [(&world.carol, limbs(1000).map(Scalar::from))];
    let mut shifted = draft(1, &world.of_alice, secret, &to, limbs(7));
    let handle = shifted.payment().1;
    *handle = group::write(&(point(handle) + secret.invert() * minus * group::g()));
    forged.push(("theft by a shifted handle of the payer", 7, shifted));
    let overdraft = draft(1, &world.of_alice, secret, &to, limbs(7));
    forged.push(("an overdraft", 8, overdraft));
    forged
}

/// A claim of one of the other kinds, with witnesses.
fn other(body: Body, witnesses: Vec<Scalar>, openings: Vec<(u64, Scalar)>) -> Draft {
    Draft { body, witnesses, openings }
}

/// For each equation of the other claims a claim that breaks it and no other.
fn forged_others() -> Vec<Forgery> {
    let world = world();
    let head = |id, account: &Account| {
        let Account { key, available, version, .. } = *account;
        Head { id, version, key, available, hint: [0; 8] }
    };
    let (of_bob, of_alice) = (head(2, &world.of_bob), head(1, &world.of_alice));
    let (blindings, any) = ([group::random(), group::random()], group::random());
    let left =
        |amounts: [u64; 2]| [0, 1].map(|limb: usize| commit(Scalar::from(amounts[limb]), blindings[limb]));
    let together = blindings[0] + limb_base() * blindings[1];
    let openings = |amounts: [u64; 2]| vec![(amounts[0], blindings[0]), (amounts[1], blindings[1])];
    let secret = secret_of(&world.alice);
    let open = Head { id: 9, version: 0, available: Account::EMPTY, ..of_alice.clone() };
    let nothing = Folded { credits: Vec::new(), deposits: 0 };
    let takes = Body::Withdraw { head: of_bob.clone(), amount: 50, to: [0; 32], left: left([0, 0]) };
    let overdraws = Body::Withdraw { head: of_alice.clone(), amount: 1000, to: [0; 32], left: left([7, 0]) };
    let mut forged = vec![
        ("another's key in a new account", 0, other(Body::Open { head: open }, vec![any], vec![])),
        (
            "another's account folded",
            0,
            other(Body::Fold { head: of_alice.clone(), folded: nothing.clone() }, vec![any], vec![]),
        ),
        ("another's deposit withdrawn", 0, other(takes, vec![any, together], openings([0, 0]))),
        ("more withdrawn than is there", 1, other(overdraws, vec![secret, together], openings([7, 0]))),
    ];
    let new = group::random();
    let ratio = secret * new.invert();
    let (old, d) = (point(&of_alice.key), point(&of_alice.available.d));
    let rotate = |key: RistrettoPoint, handle, witnesses| {
        let (key, handle) = (group::write(&key), group::write(&handle));
        other(
            Body::Rotate { head: of_alice.clone(), folded: nothing.clone(), key, handle },
            witnesses,
            vec![],
        )
    };
    let key = ratio * old;
    forged.push(("another's key rotated", 0, rotate(key, ratio * d, vec![any, new, ratio])));
    forged.push(("a new key that nobody knows", 1, rotate(any * old, any * d, vec![secret, new, any])));
    forged.push((
        "a new key that is not so many times the old",
        2,
        rotate(key, any * d, vec![secret, new, any]),
    ));
    forged.push(("a handle that is not for the new key", 3, rotate(key, any * d, vec![secret, new, ratio])));
    forged
}

#[test]
fn each_equation_has_a_forger_that_breaks_it_alone() {
    let (forged, of_payment) = (forged_payments(), Statement::of(&honest().body).laws.len());
    let broken: Vec<_> = forged.iter().map(|(_, law, _)| *law).collect();
    assert_eq!(broken, (0..of_payment).collect::<Vec<_>>(), "of a payment");
    let payroll = honest_payroll();
    let of_payees: Vec<_> = (0..2).flat_map(|payee| forged_amounts(&payroll, payee)).collect();
    let broken: Vec<_> = of_payees.iter().map(|(_, law, _)| *law).collect();
    assert_eq!(broken, (1..13).collect::<Vec<_>>(), "of a payroll's amounts");
    let others = forged_others();
    assert_eq!(others.len(), 1 + 1 + 2 + 4, "of the other claims");
    let honest = honest().claim();
    assert_eq!((refusal(&honest), refusal(&payroll.claim())), (None, None));
    for (name, law, draft) in forged.iter().chain(&of_payees).chain(&others) {
        let claim = &draft.claim();
        assert_eq!(refusal(claim), Some(Refusal::Equation), "{name}");
        // All other equations hold, and the ranges. A joint one is in a sum, so it is to be none of
        // the forger's either; as one of his alone it makes no difference.
        let says = Statement::of(&claim.body).laws[*law].says;
        let without = with(Flaw::Law(*law), || draft.claim());
        let is_taken = with(Flaw::Law(*law), || refusal(&without).is_none());
        assert!(is_taken, "{name}: more is broken than \"{says}\"");
        assert_eq!(refusal(&without), Some(Refusal::Equation), "{name}");
        // Among honest ones it is noticed as well.
        assert!(world().checker.verify(&[&honest, claim, &honest]).is_err(), "{name}");
    }
}

/// The named theft: a thief who paid into an account knows the blinding of its balance.
#[test]
fn a_thief_who_reuses_the_blinding_he_sent_is_refused() {
    let world = world();
    let (sent, blinding) = (80_u64, group::random());
    let victim = world.carol.public().0;
    let mut account = opened(&world.checker, &world.carol);
    account.available =
        Sealed { c: commit(Scalar::from(sent), blinding), d: group::write(&(blinding * point(&victim))) };
    let mut theft = draft(3, &account, Scalar::ZERO, &[(&world.bob, limbs(80).map(Scalar::from))], [0, 0]);
    // What is left over of all blindings, with a secret of zero.
    let of_amounts = theft.witnesses[3] + limb_base() * theft.witnesses[5];
    theft.witnesses[1] += of_amounts - blinding;
    let claim = theft.claim();
    assert_eq!(refusal(&claim), Some(Refusal::Equation));
    assert!(with(Flaw::Law(0), || refusal(&claim).is_none()), "the key is all that is in his way");
    // Under his own key he knows all that is to be known of a balance without a blinding.
    let secret = secret_of(&world.alice);
    let mut his = world.of_bob.clone();
    his.key = world.alice.public().0;
    let claim = draft(2, &his, secret, &[(&world.carol, limbs(50).map(Scalar::from))], [0, 0]).claim();
    let proven = world.checker.verify_one(&claim).expect("any key proves about it");
    assert_eq!(world.of_bob.clone().spend(&proven), Err(NotApplied::WrongKey(2)));
    assert!(with(Flaw::Key, || world.of_bob.clone().spend(&proven).is_ok()), "comparing keys stops it");
}

/// The claim, with a range proof of these commitments in place of its own.
fn with_range_of(draft: &Draft, commitments: Vec<Bytes>, openings: &[(u64, Scalar)]) -> Claim {
    let proved = prove_laws(&world().terms, &draft.body, &draft.witnesses);
    let (mut proof, transcript) = proved.expect("all are elements");
    proof.range = prove_ranges(transcript, commitments, openings).expect("it is in range");
    Claim { body: draft.body.clone(), proof }
}

/// Alice pays -5, or 2^32 in a limb, and attaches a proof of another number; to Carol alone, or to
/// her behind Bob.
fn out_of_range() -> Vec<Claim> {
    let world = world();
    let secret = secret_of(&world.alice);
    let outs = [(0, -Scalar::from(5_u64)), (0, limb_base()), (1, -Scalar::ONE), (1, limb_base())];
    let theft = |(limb, out): (usize, Scalar), first: usize| {
        let mut amounts = [Scalar::ZERO; 2];
        amounts[limb] = out;
        let to = [(&world.bob, [Scalar::ZERO; 2]), (&world.carol, amounts)];
        let mut theft = draft(1, &world.of_alice, secret, &to[first..], limbs(100));
        theft.openings.iter_mut().for_each(|(value, _)| *value &= 0xFFFF);
        // What is left is to fit the amount, or the last equation breaks as well.
        let left = Scalar::from(100_u64) - amounts[0] - limb_base() * amounts[1];
        let blindings: Vec<_> = theft.openings.iter().rev().map(|(_, blinding)| *blinding).collect();
        *theft.payment().2 = [commit(left, blindings[1]), commit(Scalar::ZERO, blindings[0])];
        with_range_of_openings(&theft)
    };
    let thefts = [1, 0].into_iter().flat_map(|first| outs.map(|out| theft(out, first)));
    thefts.chain(overdrafts()).collect()
}

/// Of 100 Alice pays 1,000, or withdraws it, and -900 is left: each equation holds.
fn overdrafts() -> [Claim; 2] {
    let world = world();
    let (secret, minus) = (secret_of(&world.alice), -Scalar::from(900_u64));
    let to = [(&world.carol, limbs(1000).map(Scalar::from))];
    let mut pays = draft(1, &world.of_alice, secret, &to, [0, 0]);
    let of_left = pays.openings[2..].to_vec();
    pays.payment().2[0] = commit(minus, of_left[0].1);
    let Account { key, available, version, .. } = world.of_alice;
    let head = Head { id: 1, version, key, available, hint: [0; 8] };
    let left = [commit(minus, of_left[0].1), commit(Scalar::ZERO, of_left[1].1)];
    let body = Body::Withdraw { head, amount: 1000, to: [0; 32], left };
    let takes = other(body, pays.witnesses[..2].to_vec(), of_left);
    [with_range_of_openings(&pays), with_range_of_openings(&takes)]
}

/// The claim, with a range proof of what its openings say.
fn with_range_of_openings(draft: &Draft) -> Claim {
    let of = |(value, blinding): &(u64, Scalar)| commit(Scalar::from(*value), *blinding);
    with_range_of(draft, draft.openings.iter().map(of).collect(), &draft.openings)
}

#[test]
fn a_number_out_of_range_is_refused_with_whatever_range_proof() {
    for (at, claim) in out_of_range().iter().enumerate() {
        assert_eq!(refusal(claim), Some(Refusal::Range), "{at}");
        assert!(with(Flaw::Range, || refusal(claim).is_none()), "only the range is wrong");
    }
}

/// Each commitment is looked at: a proof that has one of them twice, in place of the next, is
/// refused.
#[test]
fn a_range_proof_of_another_number_is_refused() {
    for at in 0..3 {
        let mut draft = honest();
        draft.openings[at + 1] = draft.openings[at];
        let mut commitments = draft.body.in_range();
        commitments[at + 1] = commitments[at];
        let claim = with_range_of(&draft, commitments, &draft.openings);
        assert_eq!(refusal(&claim), Some(Refusal::Range));
        assert!(with(Flaw::RangeOfAnother(at), || refusal(&claim).is_none()), "all else is right");
    }
}

#[test]
fn a_range_proof_is_bound_to_its_claim() {
    let draft = honest();
    let mut claim = draft.claim();
    let fresh = with(Flaw::RangeUnbound, || draft.claim());
    claim.proof.range.clone_from(&fresh.proof.range);
    assert_eq!(refusal(&claim), Some(Refusal::Range));
    assert!(with(Flaw::RangeUnbound, || refusal(&claim).is_none()), "all else is right");
    // The transcript of the ranges depends on each response, too.
    let of = |responses: &[Scalar]| {
        let (mut transcript, _) = joint(&world().terms, &claim.body);
        challenge(&mut transcript, &claim.proof.nonces);
        let mut bytes = [0; 32];
        range_transcript(transcript, responses).challenge_bytes(b"test", &mut bytes);
        bytes
    };
    let whole = of(&claim.proof.responses);
    for at in 0..claim.proof.responses.len() {
        let mut other = claim.proof.responses.clone();
        other[at] += Scalar::ONE;
        assert_ne!(of(&other), whole, "response {at}");
    }
}

/// Whether the challenge is another whenever a byte of terms, claim or nonces is, and so is what
/// joins equations for a byte of terms or claim.
fn challenge_depends_on_every_byte(claim: &Claim) -> bool {
    let terms = &world().terms;
    let of = |terms: &Terms, body: &Body, nonces: &[Bytes]| {
        let (mut transcript, joint) = joint(terms, body);
        (joint, challenge(&mut transcript, nonces))
    };
    let Claim { body, proof: Proof { nonces, .. } } = claim;
    let whole = of(terms, body, nonces);
    let is_another = |other: (Scalar, Scalar)| other.0 != whole.0 && other.1 != whole.1;
    let mut depends = true;
    for at in 0..64 {
        let (mut ledger, mut auditor) = (terms.ledger(), terms.auditor());
        let byte = if at < 32 { &mut ledger[at] } else { &mut auditor.0[at - 32] };
        *byte ^= 1;
        depends &= is_another(of(&Terms::unchecked(ledger, auditor), body, nonces));
    }
    let bytes = claim.to_bytes();
    let length = body.to_bytes().len();
    let mut looked_at = 0;
    for at in 0..length {
        let mut other = bytes.clone();
        other[at] ^= 1;
        // A byte that says how much there is, or what.
        let Ok(other) = Claim::from_bytes(&other) else { continue };
        looked_at += 1;
        depends &= is_another(of(terms, &other.body, nonces));
    }
    for at in 0..32 * nonces.len() {
        let mut other = nonces.clone();
        other[at / 32][at % 32] ^= 1;
        depends &= of(terms, body, &other).1 != whole.1;
    }
    depends && looked_at >= length - 4
}

/// A claim of each kind, honest.
fn one_of_each() -> Vec<Claim> {
    let World { alice, bob, carol, of_alice, .. } = world();
    let mut fuller = of_alice.clone();
    fuller.deposit(5).expect("it fits");
    vec![
        carol.open(),
        alice
            .pay(of_alice, &[(3, carol.public(), 30), (2, bob.public(), 1 << 40)][..1])
            .expect("it is there"),
        alice.fold(&fuller).expect("it can be read"),
        alice.withdraw(of_alice, 1, [6; 32]).expect("it is there"),
        alice.rotate(&fuller, &Secret::random()).expect("it can be read"),
    ]
}

/// A withdrawal said how much and not to whom: whoever carried it to the operator could say that.
#[test]
fn a_withdrawal_is_bound_to_where_it_goes() {
    let World { checker, alice, of_alice, .. } = world();
    let claim = alice.withdraw(of_alice, 5, [6; 32]).expect("it is there");
    let proven = checker.verify_one(&claim).expect("it is honest");
    assert_eq!((proven.withdrawn(), proven.destination()), (5, [6; 32]));
    let mut stolen = claim.clone();
    let Body::Withdraw { to, .. } = &mut stolen.body else { panic!("it is a withdrawal") };
    to[31] ^= 1;
    assert_eq!(refusal(&stolen), Some(Refusal::Equation));
    assert_eq!(Claim::from_bytes(&claim.to_bytes()), Ok(claim));
}

/// A program with two ledgers had the claims of one pass to the accounts of the other.
#[test]
fn what_was_verified_under_other_terms_has_no_effect() {
    let World { auditor, alice, carol, checker, of_alice, .. } = world();
    let terms = Terms::new([8; 32], auditor.public()).expect("a key");
    let [of_other, at_other] =
        [(1, alice), (3, carol)].map(|(id, wallet)| Wallet::new(terms.clone(), id, wallet.secret()));
    let pays = of_other.pay(of_alice, &[(3, at_other.public(), 30)]).expect("it is there");
    let pays = Checker::new(terms).verify_one(&pays).expect("it is honest there");
    let mut account = of_alice.clone();
    assert_eq!(account.spend(&pays), Err(NotApplied::OtherTerms(1)));
    let mut of_carol = opened(checker, carol);
    let before = of_carol.clone();
    assert_eq!(of_carol.receive(&pays, 0), Err(NotApplied::OtherTerms(3)));
    assert_eq!((&account, &of_carol), (of_alice, &before));
    assert_eq!(with(Flaw::OtherTerms, || account.spend(&pays)), Ok(()), "the terms are all that differs");
    assert_eq!(with(Flaw::OtherTerms, || of_carol.receive(&pays, 0)), Ok(()));
}

/// An operator who changed a hint locked the balance: the wallet could not say what it was.
#[test]
fn a_wallet_with_records_needs_no_hint() {
    let World { alice, checker, of_alice, .. } = world();
    let account = Account { hint: [9; 8], ..of_alice.clone() };
    assert_eq!(alice.balance(&account), Err(NotMade::UnknownBalance));
    assert_eq!(alice.clone().recording(99).balance(&account), Err(NotMade::UnknownBalance));
    let recording = alice.clone().recording(100);
    assert_eq!(recording.balance(&account), Ok(100));
    let claim = recording.withdraw(&account, 1, [0; 32]).expect("it is there");
    let mut account = account;
    account.apply(&checker.verify_one(&claim).expect("it is honest")).expect("it fits");
    assert_eq!(alice.balance(&account), Ok(99), "the new hint is right");
    assert_eq!(recording.balance(&account), Ok(99), "and goes before what was recorded");
}

/// Both holes that were found in Solana's programme in 2025 were omissions from a transcript.
#[test]
fn the_challenge_depends_on_every_byte() {
    let claims = one_of_each();
    let depends = || claims.iter().all(challenge_depends_on_every_byte);
    assert!(depends());
    let flaws = [1, 8, 32, 64, 96].map(Flaw::Tail).into_iter().chain([3, 10, 18, 50].map(Flaw::Start));
    for flaw in flaws.chain([Flaw::Terms, Flaw::Nonces, Flaw::Joint]) {
        assert!(!with(flaw, depends), "{flaw:?} was not noticed");
    }
}

#[test]
fn every_byte_of_a_claim_matters() {
    for claim in one_of_each() {
        assert_eq!(refusal(&claim), None, "{claim:?}");
        let bytes = claim.to_bytes();
        assert_eq!(Claim::from_bytes(&bytes).as_ref(), Ok(&claim));
        // Every byte in turn would take ten seconds: all remainders come.
        let mut read = 0;
        for at in (0..bytes.len()).step_by(29) {
            let mut other = bytes.clone();
            other[at] ^= 1 << (at % 8);
            let Ok(changed) = Claim::from_bytes(&other) else { continue };
            assert_eq!(changed.to_bytes(), other, "what is read is written the same: byte {at}");
            assert!(refusal(&changed).is_some(), "{claim:?}: byte {at}");
            read += 1;
        }
        assert!(read > 0, "some bytes make another claim");
        assert!((0..bytes.len()).all(|end| Claim::from_bytes(&bytes[..end]).is_err()));
        let behind = Claim::from_bytes(&[&bytes[..], &[0]].concat());
        assert_eq!(behind, Err(NotAClaim::Long));
        // The longest range proof is of seven payees and what is left.
        let mut longer = claim;
        longer.proof.range.resize(1024, 0);
        assert_eq!(Claim::from_bytes(&longer.to_bytes()).as_ref(), Ok(&longer));
        longer.proof.range.push(0);
        let too_long = Claim::from_bytes(&longer.to_bytes());
        assert_eq!(too_long, Err(NotAClaim::Long));
        assert!(NotAClaim::Long.to_string().contains("in a range proof of over 1024"));
    }
}

/// Bytes that are no element: of ed25519, points of small order; and the neutral element written
/// otherwise.
fn no_elements() -> Vec<Bytes> {
    let mut none = vec![[255; 32], [1; 32]];
    for text in [
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    ] {
        let byte = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hexadecimal");
        none.push(std::array::from_fn(byte));
    }
    none
}

#[test]
fn what_is_no_element_or_no_key_is_refused() {
    let honest = honest().claim();
    for bytes in no_elements() {
        let mut claim = honest.clone();
        let Body::Pay { payees, .. } = &mut claim.body else { unreachable!("it is a payment") };
        payees[0].credit.limbs[1].c = bytes;
        assert_eq!(refusal(&claim), Some(Refusal::NotAnElement), "{bytes:?}");
        let mut claim = honest.clone();
        claim.proof.nonces[3] = bytes;
        assert_eq!(refusal(&claim), Some(Refusal::NotAnElement), "{bytes:?}");
        assert_eq!(crate::PublicKey::from_bytes(bytes), None);
    }
    let mut claim = honest.clone();
    claim.body.head_mut().key = NEUTRAL;
    assert_eq!(refusal(&claim), Some(Refusal::NotAKey));
    assert!(Terms::new([7; 32], crate::PublicKey(NEUTRAL)).is_none());
    let mut twice = honest.clone();
    let Body::Pay { payees, .. } = &mut twice.body else { unreachable!("it is a payment") };
    payees[0].id = 1;
    assert_eq!(refusal(&twice), Some(Refusal::Twice));
    assert_eq!(with(Flaw::Twice, || refusal(&twice)), Some(Refusal::Equation));
}

#[test]
fn a_claim_under_other_terms_is_refused() {
    let World { terms, auditor, alice, of_alice, carol, .. } = world();
    let claim = alice.pay(of_alice, &[(3, carol.public(), 30)]).expect("it is there");
    for other in
        [Terms::new([8; 32], auditor.public()), Terms::new(terms.ledger(), AuditorSecret::random().public())]
    {
        let checker = Checker::new(other.expect("a key"));
        assert_eq!(checker.verify_one(&claim), Err(Refusal::Equation));
    }
}

#[test]
fn a_payroll_has_one_proof_and_is_read_by_whom_it_is_for() {
    let World { auditor, terms, checker, alice, of_alice, bob, of_bob, .. } = world();
    for payees in [2, 3, 7] {
        let wallets: Vec<_> =
            (10..10 + payees).map(|id| Wallet::new(terms.clone(), id, Secret::random())).collect();
        let amount = |wallet: &Wallet| wallet.id() - 8;
        let listed: Vec<_> =
            wallets.iter().map(|wallet| (wallet.id(), wallet.public(), amount(wallet))).collect();
        let claim = bob.pay(of_bob, &listed).expect("it is there");
        let proven = checker.verify_one(&claim).expect("it is honest");
        let mut books = Books::new();
        let mut payer = of_bob.clone();
        payer.apply(&proven).expect("it fits");
        books.add(&payer);
        for (at, wallet) in wallets.iter().enumerate() {
            let mut account = opened(checker, wallet);
            account.receive(&proven, at).expect("it fits");
            assert_eq!(wallet.incoming(&account), Ok(vec![amount(wallet)]));
            books.add(&account);
        }
        assert_eq!(books.balance(), Ok(50));
        let read = auditor.amounts(&claim).expect("it is for this auditor");
        assert_eq!(read, wallets.iter().map(|wallet| (wallet.id(), amount(wallet))).collect::<Vec<_>>());
        assert!(AuditorSecret::random().amounts(&claim).is_err());
    }
    let list = [(4, Secret::random().public(), 0); 8];
    assert_eq!(alice.pay(of_alice, &list), Err(NotMade::Payees));
    assert_eq!(alice.pay(of_alice, &[(1, alice.public(), 1)]), Err(NotMade::Payees));
    assert_eq!(alice.pay(of_alice, &[(4, list[0].1, 101)]), Err(NotMade::Funds { balance: 100 }));
}

/// Payments of all kinds in one batch, and in pipelines.
#[test]
fn a_batch_is_as_good_as_its_claims_and_a_pipeline_needs_no_waiting() {
    let World { checker, alice, carol, of_alice, .. } = world();
    let (mut account, mut claims) = (of_alice.clone(), one_of_each());
    for amount in [1, 2, 3] {
        let claim = alice.pay(&account, &[(3, carol.public(), amount)]).expect("it is there");
        account = alice.after(&account, &claim).expect("it was made from it");
        claims.push(claim);
    }
    let all: Vec<_> = claims.iter().collect();
    let proven = checker.verify(&all).expect("all are honest");
    let mut made = of_alice.clone();
    proven[5..].iter().for_each(|proven| made.apply(proven).expect("they follow each other"));
    assert_eq!(made, account);
    assert_eq!(alice.balance(&made), Ok(94));
}

#[test]
fn the_books_show_money_that_was_made() {
    let mut account = world().of_bob.clone();
    let of = |account: &Account| {
        let mut books = Books::new();
        books.add(account);
        books.balance()
    };
    assert_eq!(of(&account), Ok(50));
    account.available.c = commit(Scalar::from(51_u64), Scalar::ZERO);
    assert_eq!(of(&account), Err(crate::NotBalanced::OtherSum { total: 50 }));
    account.available.c = [255; 32];
    assert_eq!(of(&account), Err(crate::NotBalanced::Unreadable(1)));
}

#[test]
fn no_secret_is_shown() {
    let secret = Secret::random();
    let wallet = Wallet::new(world().terms.clone(), 1, secret.clone());
    let bytes = format!("{:?}", *secret.to_bytes());
    for shown in [format!("{secret:?}"), format!("{wallet:?}"), format!("{:?}", world().auditor)] {
        assert!(shown.contains("Secret(..)") && !shown.contains(&bytes), "{shown}");
    }
}
