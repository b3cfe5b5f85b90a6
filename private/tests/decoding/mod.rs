//! Everything of this package that reads bytes from outside, on any bytes at all: nothing panics,
//! and what was read is written the same again.
//!
//! Bytes at random are hardly ever as long as a claim, so they are used twice: as they are, and
//! laid over claims and accounts that were written.

use std::sync::OnceLock;

use freehold_private::{Account, AuditorSecret, Books, Checker, Claim, PublicKey, Secret, Terms, Wallet};

/// The terms of all that was written, and of one checker.
struct Written {
    checker: Checker,
    wallet: Wallet,
    claims: Vec<Vec<u8>>,
    account: Account,
}

fn written() -> &'static Written {
    static WRITTEN: OnceLock<Written> = OnceLock::new();
    WRITTEN.get_or_init(|| {
        // Always the same, so that what is found can be found again; proofs have other nonces.
        let secret = |number| {
            let mut bytes = [number; 32];
            bytes[31] = 0;
            Secret::from_bytes(bytes).expect("it is small")
        };
        let auditor = AuditorSecret::from_secret(secret(9));
        let terms = Terms::new([7; 32], auditor.public()).expect("a key");
        let checker = Checker::new(terms.clone());
        let [payer, payee] = [1, 2].map(|id| Wallet::new(terms.clone(), id, secret(id as u8)));
        let prove = |claim: &Claim| checker.verify_one(claim).expect("it is honest");
        let open = |wallet: &Wallet| Account::opened(&prove(&wallet.open())).expect("it opens");
        let (mut of_payer, mut account) = (open(&payer), open(&payee));
        of_payer.deposit(100).expect("it fits");
        of_payer.apply(&prove(&payer.fold(&of_payer).expect("it can be read"))).expect("it fits");
        let pay = |payees: &[_]| payer.pay(&of_payer, payees).expect("it is there");
        let pays = pay(&[(2, payee.public(), 30)]);
        account.deposit(5).expect("it fits");
        account.apply(&prove(&pays)).expect("it fits");
        let payroll = pay(&[(2, payee.public(), 1), (3, secret(3).public(), 2)]);
        let folds = payee.fold(&account).expect("it can be read");
        let withdraws = payer.withdraw(&of_payer, 7, [6; 32]).expect("it is there");
        let rotates = payee.rotate(&account, &secret(4)).expect("it can be read");
        let claims = [payee.open(), pays, payroll, folds, withdraws, rotates];
        let claims = claims.iter().map(Claim::to_bytes).collect();
        Written { checker, wallet: payee, claims, account }
    })
}

pub fn decode(bytes: &[u8]) {
    let Written { claims, account, .. } = written();
    claim(bytes);
    self::account(bytes);
    logged(bytes);
    keys(bytes);
    if let [which, low, high, over @ ..] = bytes {
        let at = usize::from(u16::from_le_bytes([*low, *high]));
        claim(&laid_over(&claims[usize::from(*which) % claims.len()], at, over));
        self::account(&laid_over(&account.to_bytes(), at, over));
        logged(&laid_over(&postcard::to_allocvec(account).expect("it is written"), at, over));
    }
}

/// What was written, with these bytes in it or behind it.
fn laid_over(written: &[u8], at: usize, over: &[u8]) -> Vec<u8> {
    let mut bytes = written.to_vec();
    let at = at % (bytes.len() + 1);
    bytes.resize(bytes.len().max(at + over.len()), 0);
    bytes[at..at + over.len()].copy_from_slice(over);
    bytes
}

/// A claim, and the range proof in it, which the checker reads.
fn claim(bytes: &[u8]) {
    let Ok(claim) = Claim::from_bytes(bytes) else { return };
    assert_eq!(claim.to_bytes(), bytes);
    let Written { checker, wallet, claims, account } = written();
    let is_one_of_ours = claims.iter().any(|written| written == bytes);
    assert_eq!(checker.verify_one(&claim).is_ok(), is_one_of_ours, "{claim:?}");
    let _ = wallet.after(account, &claim);
}

/// An account as it is sent, and what is done with one.
fn account(bytes: &[u8]) {
    let Ok(account) = Account::from_bytes(bytes) else { return };
    assert_eq!(account.to_bytes(), bytes);
    used(&account);
}

/// An account as it stands in a log.
fn logged(bytes: &[u8]) {
    let Ok(account) = postcard::from_bytes::<Account>(bytes) else { return };
    let again = postcard::to_allocvec(&account).expect("it is written");
    assert_eq!(postcard::from_bytes(&again), Ok(account.clone()));
    assert_eq!(Account::from_bytes(&account.to_bytes()).as_ref(), Ok(&account), "it can be sent");
    used(&account);
}

fn used(account: &Account) {
    let mut books = Books::new();
    books.add(account);
    let _ = books.balance();
    let _ = written().wallet.balance(account);
    let _ = account.clone().deposit(u64::MAX);
}

fn keys(bytes: &[u8]) {
    let Some(first) = bytes.first_chunk() else { return };
    if let Some(key) = PublicKey::from_bytes(*first) {
        assert_eq!(key.to_bytes(), *first);
        assert!(Terms::new([7; 32], key).is_some());
        assert_eq!(postcard::from_bytes(first), Ok(key));
    } else {
        assert!(postcard::from_bytes::<PublicKey>(first).is_err());
    }
    if let Some(secret) = Secret::from_bytes(*first) {
        assert_eq!(*secret.to_bytes(), *first);
    }
}
