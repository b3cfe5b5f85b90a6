//! Bytes that are no claim and no account, and what is said of each.

use zeroize::ZeroizeOnDrop;

use super::*;

/// The bytes with this one in place of another.
fn with_byte(bytes: &[u8], at: usize, byte: u8) -> Vec<u8> {
    let mut other = bytes.to_vec();
    other[at] = byte;
    other
}

#[test]
fn bytes_that_are_no_claim_say_why() {
    let World { alice, of_alice, .. } = world();
    let (pays, folds) =
        (honest().claim().to_bytes(), alice.fold(of_alice).expect("it can be read").to_bytes());
    let head = 2 + 8 + 8 + 3 * 32 + 8;
    assert_eq!((pays[head], folds[head + 8]), (1, 0), "payees, and credits behind the deposits");
    // Wallets of the first version are told so.
    for version in [0, 1, 3] {
        assert_eq!(Claim::from_bytes(&with_byte(&pays, 0, version)), Err(NotAClaim::Version(version)));
    }
    assert_eq!(Claim::from_bytes(&with_byte(&pays, 1, 5)), Err(NotAClaim::Kind(5)));
    for (bytes, at, count) in [(&pays, head, 0), (&pays, head, 8), (&folds, head + 8, 33)] {
        assert_eq!(Claim::from_bytes(&with_byte(bytes, at, count)), Err(NotAClaim::Count), "{count}");
    }
    // A fold ends with its one response and the length of no range proof. The order of the group
    // begins with 0xed and ends with 0x10.
    let response = folds.len() - 2 - 32;
    let mut order = folds.clone();
    order[response..response + 32].copy_from_slice(&(-Scalar::ONE).to_bytes());
    assert!(Claim::from_bytes(&order).is_ok(), "the largest scalar");
    order[response] += 1;
    assert_eq!(Claim::from_bytes(&order), Err(NotAClaim::Scalar));
    assert_eq!(Claim::from_bytes(&folds[..folds.len() - 1]), Err(NotAClaim::Short));
    assert_eq!(Claim::from_bytes(&with_byte(&folds, folds.len() - 1, 1)), Err(NotAClaim::Short));
}

#[test]
fn bytes_that_are_no_account_say_why() {
    let bytes = world().of_alice.to_bytes();
    // Those of the first version of claims are those of now.
    assert_eq!((bytes[0], bytes.len()), (1, 154));
    assert_eq!(Account::from_bytes(&with_byte(&bytes, 0, 2)), Err(NotAClaim::Version(2)));
    assert_eq!(Account::from_bytes(&with_byte(&bytes, 137, 33)), Err(NotAClaim::Count));
    assert_eq!(Account::from_bytes(&with_byte(&bytes, 137, 32)), Err(NotAClaim::Short));
}

/// Does not compile if a type of secrets is not overwritten.
#[test]
fn secrets_are_overwritten_when_they_are_dropped() {
    fn is_overwritten<T: ZeroizeOnDrop>() {}
    is_overwritten::<Secret>();
}
