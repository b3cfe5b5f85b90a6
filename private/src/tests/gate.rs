//! All that is to be refused, through a gate and among honest claims: what each is refused for,
//! that all accounts are as before, byte for byte, and that the public books are exact.

use std::collections::BTreeMap;

use freehold::{Config, Gate, GateAsk, GateConfig, GateError, PlacementKey, Runtime, Shards};

use super::*;
use crate::{Guard, Ledger, Message, Submission};

/// A runtime with the accounts of a [`World`], and with two of honest owners.
struct Bank {
    runtime: Runtime<Ledger>,
    gate: Gate<Ledger, Guard>,
}

/// The ids of those who pay beside the forgers: one put the money into Alice's account.
const DAVE: u64 = 4;
const ERIN: u64 = 5;

impl Bank {
    /// With Alice and Carol on one shard, or on two.
    fn start(terms: &Terms, shards: usize) -> Bank {
        let start = |key| {
            let (shards, placement_key) = (Shards::Count(shards), Some(PlacementKey(key)));
            Runtime::start(Config { shards, placement_key, ..Config::default() }).expect("it starts")
        };
        let is_parted = |runtime: &Runtime<Ledger>| runtime.handle().home(&1) != runtime.handle().home(&3);
        let runtime = (0..).map(start).find(|runtime| shards == 1 || is_parted(runtime));
        let (runtime, terms) = (runtime.expect("half of all keys part them"), terms.clone());
        let gate = runtime.gate(GateConfig::default(), move || Guard::new(terms.clone())).expect("it opens");
        Bank { runtime, gate }
    }

    fn ask(&self, claim: Claim, sender: u64) -> GateAsk<Ledger, Refusal> {
        self.gate.ask(Submission { claim, sender })
    }

    fn make(&self, claim: Claim) {
        let sender = claim.account();
        self.ask(claim, sender).wait().expect("it is honest");
    }

    fn account(&self, id: u64) -> Account {
        self.accounts().remove(&id).expect("it is open")
    }

    fn accounts(&self) -> BTreeMap<u64, Account> {
        Ledger::accounts(&self.runtime.handle()).expect("they are read")
    }

    fn deposit(&self, wallet: &Wallet, amount: u64) {
        let message = Message::Deposit { account: wallet.id(), key: wallet.public(), amount };
        self.runtime.handle().ask(message).wait().expect("it is open");
        self.make(wallet.fold(&self.account(wallet.id())).expect("it can be read"));
    }
}

/// A world whose accounts are of a runtime, and the wallets of Dave and Erin. It is never freed, as
/// that of all other tests.
fn world_of_runtime(shards: usize) -> (Bank, &'static World, [Wallet; 2]) {
    let auditor = AuditorSecret::random();
    let terms = Terms::new([7; 32], auditor.public()).expect("a key");
    let bank = Bank::start(&terms, shards);
    let wallets = [1, 2, 3, DAVE, ERIN].map(|id| Wallet::new(terms.clone(), id, Secret::random()));
    wallets.iter().for_each(|wallet| bank.make(wallet.open()));
    let [alice, bob, carol, dave, erin] = wallets;
    bank.deposit(&dave, 200);
    bank.deposit(&bob, 50);
    bank.make(dave.pay(&bank.account(DAVE), &[(1, alice.public(), 100)]).expect("it is there"));
    bank.make(alice.fold(&bank.account(1)).expect("it can be read"));
    let (of_alice, of_bob) = (bank.account(1), bank.account(2));
    let checker = Checker::new(terms.clone());
    let world = World { auditor, terms, checker, alice, bob, carol, of_alice, of_bob };
    (bank, Box::leak(Box::new(world)), [dave, erin])
}

/// Alice's honest payment with something changed, and what it is refused for.
fn changed(change: impl FnOnce(&mut Claim, &mut Payee), refusal: Refusal) -> (&'static str, Claim, Refusal) {
    let mut claim = honest().claim();
    let Body::Pay { payees, .. } = &mut claim.body else { unreachable!("it is a payment") };
    let mut payee = payees.remove(0);
    change(&mut claim, &mut payee);
    let Body::Pay { payees, .. } = &mut claim.body else { unreachable!("it is a payment") };
    payees.push(payee);
    ("a changed payment", claim, refusal)
}

/// Each claim that is to be refused, by name, and for what.
fn bad_claims() -> Vec<(&'static str, Claim, Refusal)> {
    let World { auditor, terms, alice, of_alice, bob, carol, .. } = world();
    let forged = forged_payments().into_iter().chain(forged_amounts(&honest_payroll(), 1));
    let forged =
        forged.chain(forged_others()).map(|(name, _, draft)| (name, draft.claim(), Refusal::Equation));
    let mut bad: Vec<_> = forged.collect();
    bad.extend(out_of_range().into_iter().map(|claim| ("out of range", claim, Refusal::Range)));
    let others = [
        ("another ledger", Terms::new([8; 32], auditor.public())),
        ("another auditor", Terms::new(terms.ledger(), AuditorSecret::random().public())),
    ];
    for (name, terms) in others {
        let alice = Wallet::new(terms.expect("a key"), 1, alice.secret());
        let claim = alice.pay(of_alice, &[(3, carol.public(), 30)]).expect("it is there");
        bad.push((name, claim, Refusal::Equation));
    }
    let (for_bob, other_credit) = (bob.public().0, honest().payment().0[0].credit);
    bad.push(changed(|_, payee| (payee.id, payee.key) = (2, for_bob), Refusal::Equation));
    bad.push(changed(|_, payee| payee.id = 2, Refusal::Equation));
    bad.push(changed(|_, payee| payee.credit = other_credit, Refusal::Equation));
    bad.push(changed(|_, payee| payee.key = NEUTRAL, Refusal::NotAKey));
    bad.push(changed(|_, payee| payee.id = 1, Refusal::Twice));
    bad.push(changed(|claim, _| claim.proof.range.truncate(33), Refusal::Range));
    bad.push(changed(|claim, _| claim.body.head_mut().hint[0] ^= 1, Refusal::Equation));
    for bytes in no_elements() {
        bad.push(changed(|_, payee| payee.credit.limbs[0].c = bytes, Refusal::NotAnElement));
        bad.push(changed(|claim, _| claim.proof.nonces[0] = bytes, Refusal::NotAnElement));
    }
    let mut folds = alice.fold(of_alice).expect("it can be read");
    folds.proof.range.push(0);
    bad.push(("a fold with a range proof", folds, Refusal::Shape));
    bad.extend(not_new());
    bad.extend(twice());
    bad
}

/// Accounts that are opened with money in them, or as if they were old.
fn not_new() -> impl Iterator<Item = (&'static str, Claim, Refusal)> {
    let money = Sealed { c: commit(Scalar::from(1000_u64), Scalar::ZERO), d: NEUTRAL };
    [(money, 0), (Account::EMPTY, 1)].into_iter().map(|(available, version)| {
        let (id, secret) = (9, group::random());
        let key = group::write(&(secret.invert() * group::h()));
        let head = Head { id, version, key, available, hint: [0; 8] };
        let opens = other(Body::Open { head }, vec![secret], Vec::new());
        ("an account that is not new", opens.claim(), Refusal::Shape)
    })
}

/// A key that is there twice: the payer's as a payee's, two payees', and the old one as the new.
fn twice() -> [(&'static str, Claim, Refusal); 3] {
    let World { alice, of_alice, .. } = world();
    let of_payer = changed(|claim, payee| payee.key = claim.body.head().key, Refusal::Twice);
    let mut of_both = honest_payroll().claim();
    let Body::Pay { payees, .. } = &mut of_both.body else { unreachable!("it is a payment") };
    payees[1].key = payees[0].key;
    let rotates = alice.rotate(of_alice, &alice.secret()).expect("it can be read");
    let names = ("two payees with one key", "a new key that is the old");
    [of_payer, (names.0, of_both, Refusal::Twice), (names.1, rotates, Refusal::Twice)]
}

/// So many shards refuse it all, and make each honest payment between.
fn all_is_refused(shards: usize) {
    let (bank, world, [dave, erin]) = world_of_runtime(shards);
    OTHER.set(Some(world));
    let bad = bad_claims();
    OTHER.set(None);
    let before = bank.accounts();
    let (mut of_dave, mut honest) = (before[&DAVE].clone(), Vec::new());
    for _ in 0..bad.len() / 4 {
        let claim = dave.pay(&of_dave, &[(ERIN, erin.public(), 1)]).expect("it is there");
        of_dave = dave.after(&of_dave, &claim).expect("it was made from it");
        honest.push(claim);
    }
    // Each from another sender, so that none is verified apart.
    let mut asks = Vec::new();
    for (number, (name, claim, refusal)) in bad.into_iter().enumerate() {
        asks.push((name, Some(refusal), bank.ask(claim, 1000 + number as u64)));
        if let Some(claim) = honest.get(number / 4).filter(|_| number % 4 == 3) {
            asks.push(("an honest payment", None, bank.ask(claim.clone(), DAVE)));
        }
    }
    for (name, refusal, ask) in asks {
        match (ask.wait(), refusal) {
            (Ok(_), None) => {}
            (Err(GateError::Refused(refused)), Some(refusal)) => assert_eq!(refused, refusal, "{name}"),
            (outcome, refusal) => panic!("{name}: {outcome:?} and not {refusal:?}"),
        }
    }
    let mut after = bank.accounts();
    let mut books = Books::new();
    after.values().for_each(|account| books.add(account));
    assert_eq!(books.balance(), Ok(250));
    let of_erin = after.remove(&ERIN).expect("it is open");
    assert_eq!(erin.incoming(&of_erin), Ok(vec![1; honest.len()]), "honest claims are not harmed");
    let mut expected = before;
    expected.remove(&ERIN);
    expected.insert(DAVE, of_dave);
    let written = |accounts: &BTreeMap<u64, Account>| -> Vec<_> {
        accounts.iter().map(|(id, account)| (*id, account.to_bytes())).collect()
    };
    assert_eq!(written(&after), written(&expected), "all others are as before");
}

#[test]
fn what_is_bad_is_refused_among_honest_claims_on_one_shard() {
    all_is_refused(1);
}

#[test]
fn what_is_bad_is_refused_among_honest_claims_across_two_shards() {
    all_is_refused(2);
}
