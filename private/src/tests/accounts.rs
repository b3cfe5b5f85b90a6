//! What an account refuses though it was proven, and that it is then as it was.

use super::{World, opened, refusal, world};
use crate::flaw::{Flaw, with};
use crate::{Account, Claim, NotApplied, NotMade, Secret, Wallet};

/// What is proven, and does not fit the account: the account is as it was.
#[test]
fn an_account_refuses_what_does_not_fit() {
    let World { checker, alice, bob, carol, of_alice, .. } = world();
    let prove = |claim: &Claim| checker.verify_one(claim).expect("it is honest");
    let pays = prove(&alice.pay(of_alice, &[(3, carol.public(), 30)]).expect("it is there"));
    let changed = |change: &dyn Fn(&mut Account)| {
        let mut account = of_alice.clone();
        change(&mut account);
        account
    };
    type Change<'a> = &'a dyn Fn(&mut Account);
    let (stale, other): (Change<'_>, Change<'_>) =
        (&|account| account.version += 1, &|account| account.available.c[0] ^= 1);
    let rotated: Change<'_> = &|account| account.key = bob.public().0;
    let is_stale = NotApplied::Stale { claimed: of_alice.version, version: of_alice.version + 1 };
    for (change, error, flaw) in [
        (stale, is_stale, Flaw::Version),
        (other, NotApplied::OtherBalance, Flaw::Balance),
        (rotated, NotApplied::WrongKey(1), Flaw::Key),
    ] {
        let before = changed(change);
        let mut account = before.clone();
        assert_eq!(account.spend(&pays), Err(error));
        assert_eq!(account, before);
        assert_eq!(with(flaw, || account.spend(&pays)), Ok(()), "{flaw:?} is not all that is in the way");
    }
    // As a payee.
    let mut of_carol = opened(checker, carol);
    of_carol.key = bob.public().0;
    let before = of_carol.clone();
    assert_eq!(of_carol.receive(&pays, 0), Err(NotApplied::WrongKey(3)));
    assert_eq!(of_carol, before);
    assert_eq!(with(Flaw::PayeeKey, || of_carol.receive(&pays, 0)), Ok(()));
    let mut of_carol = opened(checker, carol);
    (0..crate::PENDING_MAX).for_each(|_| of_carol.receive(&pays, 0).expect("there is room"));
    let before = of_carol.clone();
    assert_eq!(of_carol.receive(&pays, 0), Err(NotApplied::Full(3)));
    assert_eq!(of_carol, before);
    let bytes = before.to_bytes();
    assert_eq!(Account::from_bytes(&bytes), Ok(before.clone()), "and it can be written");
    let is_read = |at: &usize| {
        let mut other = bytes.clone();
        other[*at] ^= 1 << (at % 8);
        Account::from_bytes(&other).is_ok_and(|changed| changed.to_bytes() == other)
    };
    // All but the format's version and how many credits there are, of which there can be no more.
    let not_read: Vec<usize> = (0..bytes.len()).filter(|at| !is_read(at)).collect();
    assert!(not_read.len() < bytes.len() / 8, "{not_read:?}");
    assert!((0..bytes.len()).all(|end| Account::from_bytes(&bytes[..end]).is_err()));
    assert!(Account::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
    // A log has the same bytes, as one string, and the same bound. By field it took eleven times as
    // many instructions: serde takes arrays byte by byte.
    let logged = |account: &Account| postcard::to_allocvec(account).expect("it is written");
    let sent = before.to_bytes();
    let length = postcard::to_allocvec(&sent.len()).expect("it is written");
    assert_eq!(logged(&before), [length, sent].concat());
    assert_eq!(postcard::from_bytes(&logged(&before)), Ok(before.clone()));
    assert_eq!(with(Flaw::Full, || of_carol.receive(&pays, 0)), Ok(()));
    assert!(postcard::from_bytes::<Account>(&logged(&of_carol)).is_err(), "one credit too many");
    // A replay.
    let mut account = of_alice.clone();
    assert_eq!((account.spend(&pays), account.spend(&pays)), (Ok(()), Err(is_stale)));
}

#[test]
fn a_fold_and_a_new_key_are_for_what_is_pending() {
    let World { checker, alice, bob, of_alice, of_bob, .. } = world();
    let prove = |claim: &Claim| checker.verify_one(claim).expect("it is honest");
    let mut account = of_alice.clone();
    account.deposit(5).expect("it fits");
    account
        .apply(&prove(&bob.pay(of_bob, &[(1, alice.public(), 50)]).expect("it is there")))
        .expect("it fits");
    let fold = prove(&alice.fold(&account).expect("it can be read"));
    // A deposit that came in meanwhile stays pending.
    let mut later = account.clone();
    later.deposit(7).expect("it fits");
    assert_eq!(later.apply(&fold), Ok(()));
    assert_eq!((alice.balance(&later), later.pending_deposits, later.pending()), (Ok(155), 7, 0));
    // Other credits, or fewer.
    let mut before = of_alice.clone();
    before.deposit(5).expect("it fits");
    let mut other = before.clone();
    assert_eq!(other.apply(&fold), Err(NotApplied::OtherPending));
    assert_eq!(other, before);
    assert_eq!(with(Flaw::Folded, || other.apply(&fold)), Ok(()), "money is made");
    let new = Secret::random();
    let rotates = prove(&alice.rotate(&account, &new).expect("it can be read"));
    let mut later = account.clone();
    later.deposit(7).expect("it fits");
    let before = later.clone();
    assert_eq!(later.apply(&rotates), Err(NotApplied::StillPending));
    assert_eq!(later, before);
    assert_eq!(with(Flaw::Rotation, || later.apply(&rotates)), Ok(()));
    assert_eq!(account.apply(&rotates), Ok(()));
    assert_eq!(alice.balance(&account), Err(NotMade::OtherKey));
    let again = Wallet::new(world().terms.clone(), 1, new);
    assert_eq!(again.balance(&account), Ok(155));
    let pays = again.pay(&account, &[(2, bob.public(), 155)]).expect("it is there");
    assert_eq!(refusal(&pays), None, "the balance is sealed for the new key");
}

/// What is deposited or withdrawn in all stays a number that the public books can go by.
#[test]
fn sums_of_deposits_and_withdrawals_do_not_overflow() {
    let World { checker, alice, of_alice, .. } = world();
    let mut account = Account { deposited: u64::MAX - 1, ..of_alice.clone() };
    assert_eq!(account.deposit(1), Ok(()));
    let before = account.clone();
    assert_eq!(account.deposit(1), Err(NotApplied::TooMuch));
    assert_eq!(account, before);
    let takes = alice.withdraw(of_alice, 2, [0; 32]).expect("it is there");
    let takes = checker.verify_one(&takes).expect("it is honest");
    let mut account = Account { withdrawn: u64::MAX - 1, ..of_alice.clone() };
    let before = account.clone();
    assert_eq!(account.apply(&takes), Err(NotApplied::TooMuch));
    assert_eq!(account, before);
    account.withdrawn -= 1;
    assert_eq!((account.apply(&takes), account.public().1), (Ok(()), u64::MAX));
    // It opens nothing, and what opens an account does nothing to one that is open.
    assert_eq!(Account::opened(&takes), Err(NotApplied::NotOpen(1)));
    let opens = checker.verify_one(&alice.open()).expect("it is honest");
    let before = account.clone();
    assert_eq!(account.apply(&opens), Err(NotApplied::AlreadyOpen(1)));
    assert_eq!(account, before);
}
