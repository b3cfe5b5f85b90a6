//! The equations by another implementation of the protocol (`sigma-proofs`): they are written anew
//! here, as `docs/PRIVACY.md` has them, and share no code with `law`.

use sigma_proofs::linear_relation::LinearCombination;
use sigma_proofs::{LinearRelation, prove_batchable, verify_batchable};

use super::*;

/// Whether the draft's witnesses satisfy the equations of its claim, by the other crate.
fn is_satisfied_by_another(draft: &Draft) -> bool {
    let relation = match &draft.body {
        Body::Pay { head, payees, handle, left } => payment(head, payees, handle, left),
        Body::Rotate { head, folded, key, handle } => rotation(head, folded, key, handle),
        _ => unreachable!("it is a payment or a rotation"),
    };
    let statement = relation.compile().expect("no element is neutral");
    const TAG: &[u8] = b"freehold-private-differential-test";
    let proof = prove_batchable(TAG, &statement, &draft.witnesses);
    proof.is_ok_and(|proof| verify_batchable(TAG, &statement, &proof).is_ok())
}

/// Witnesses: `s`, `l`, and for each payee `a0`, `t0`, `a1`, `t1`.
fn payment(
    head: &Head,
    payees: &[Payee],
    handle: &Bytes,
    left: &[Bytes; 2],
) -> LinearRelation<RistrettoPoint> {
    let mut relation = LinearRelation::<RistrettoPoint>::new();
    let [s, l] = relation.allocate_scalars();
    let amounts: Vec<[_; 4]> = payees.iter().map(|_| relation.allocate_scalars()).collect();
    let [g, h, minus_h] =
        [group::g(), group::h(), -group::h()].map(|point| relation.allocate_element_with(point));
    let p = relation.allocate_element_with(point(&head.key));
    let high_p = relation.allocate_element_with(limb_base() * point(&head.key));
    let auditor = relation.allocate_element_with(point(&world().terms.auditor().0));
    let d = relation.allocate_element_with(point(&head.available.d) - point(handle));
    relation.allocate_eq_with(group::h(), s * p);
    let mut remains = point(&head.available.c) - point(&left[0]) - limb_base() * point(&left[1]);
    for (payee, [a0, t0, a1, t1]) in payees.iter().zip(&amounts) {
        let of_payee = relation.allocate_element_with(point(&payee.key));
        let [low, high] = payee.credit.limbs;
        for (a, t, sealed, for_auditor) in
            [(*a0, *t0, low, payee.auditor[0]), (*a1, *t1, high, payee.auditor[1])]
        {
            relation.allocate_eq_with(point(&sealed.c), a * g + t * h);
            relation.allocate_eq_with(point(&sealed.d), t * of_payee);
            relation.allocate_eq_with(point(&for_auditor), t * auditor);
        }
        remains -= point(&low.c) + limb_base() * point(&high.c);
    }
    let of_payer = amounts.iter().flat_map(|[_, t0, _, t1]| [*t0 * p, *t1 * high_p]);
    let of_payer = of_payer.sum::<LinearCombination<RistrettoPoint>>();
    relation.allocate_eq_with(point(handle), of_payer);
    relation.allocate_eq_with(remains, s * d + l * minus_h);
    relation
}

/// Witnesses: the old secret, the new, and the old by the new.
fn rotation(head: &Head, folded: &Folded, key: &Bytes, handle: &Bytes) -> LinearRelation<RistrettoPoint> {
    let mut relation = LinearRelation::<RistrettoPoint>::new();
    let [s, s2, x] = relation.allocate_scalars();
    let pending = folded.credits.iter().map(|credit| {
        let [low, high] = credit.limbs;
        point(&low.d) + limb_base() * point(&high.d)
    });
    let all = point(&head.available.d) + pending.sum::<RistrettoPoint>();
    let [p, p2, d] = [point(&head.key), point(key), all].map(|point| relation.allocate_element_with(point));
    relation.allocate_eq_with(group::h(), s * p);
    relation.allocate_eq_with(group::h(), s2 * p2);
    relation.allocate_eq_with(point(key), x * p);
    relation.allocate_eq_with(point(handle), x * d);
    relation
}

/// Alice takes another key, with a payment of Bob's and a deposit pending.
fn honest_rotation() -> Draft {
    let World { checker, alice, bob, of_alice, of_bob, .. } = world();
    let mut account = of_alice.clone();
    account.deposit(5).expect("it fits");
    let pays = bob.pay(of_bob, &[(1, alice.public(), 50)]).expect("it is there");
    account.apply(&checker.verify_one(&pays).expect("it is honest")).expect("it fits");
    let new = Secret::random();
    let claim = alice.rotate(&account, &new).expect("it can be read");
    let (old, new) = (secret_of(alice), *new.scalar());
    Draft { body: claim.body, witnesses: vec![old, new, old * new.invert()], openings: Vec::new() }
}

#[test]
fn another_crate_agrees_about_payments() {
    for _ in 0..8 {
        let draft = honest();
        assert!(refusal(&draft.claim()).is_none() && is_satisfied_by_another(&draft));
    }
    for (name, _, draft) in forged_payments() {
        assert!(!is_satisfied_by_another(&draft), "{name}");
    }
}

#[test]
fn another_crate_agrees_about_payrolls() {
    let draft = honest_payroll();
    assert!(refusal(&draft.claim()).is_none() && is_satisfied_by_another(&draft));
    for (name, law, draft) in (0..2).flat_map(|payee| forged_amounts(&draft, payee)) {
        assert!(!is_satisfied_by_another(&draft), "{name}, equation {law}");
    }
    // The last two equations, of both amounts together.
    let (mut handle, mut left) = (honest_payroll(), honest_payroll());
    let shifted = handle.payment().1;
    *shifted = group::write(&(point(shifted) + group::g()));
    left.witnesses[1] += Scalar::ONE;
    assert!(!is_satisfied_by_another(&handle) && !is_satisfied_by_another(&left));
    assert!(refusal(&handle.claim()).is_some() && refusal(&left.claim()).is_some());
}

#[test]
fn another_crate_agrees_about_rotations() {
    let draft = honest_rotation();
    assert!(refusal(&draft.claim()).is_none() && is_satisfied_by_another(&draft));
    let mut other = draft.clone();
    let Body::Rotate { folded, .. } = &mut other.body else { unreachable!("it is a rotation") };
    folded.credits.clear();
    assert!(!is_satisfied_by_another(&other), "what is pending is in the handle");
    assert_eq!(refusal(&other.claim()), Some(Refusal::Equation));
    let forged = forged_others().into_iter().filter(|it| matches!(it.2.body, Body::Rotate { .. }));
    let forged: Vec<_> = forged.collect();
    assert_eq!(forged.len(), 4, "one for each equation");
    for (name, _, draft) in forged {
        assert!(!is_satisfied_by_another(&draft), "{name}");
    }
}
