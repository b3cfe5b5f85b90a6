//! Equations that are proved as one.

use super::*;
use crate::law::Proved;
use crate::proof::KNOWN_JOINT;

/// Two errors in joint equations, which cancel where the scalar that joins them is known before
/// they are: so it is drawn after all that they are about.
#[test]
fn errors_in_joint_equations_do_not_cancel() {
    let joined = Scalar::from(KNOWN_JOINT);
    let of_honest = Statement::of(&honest_payroll().body);
    let jointly: Vec<_> = of_honest
        .laws
        .iter()
        .enumerate()
        .filter_map(|(number, law)| (law.proved == Proved::Jointly).then_some(number))
        .collect();
    assert_eq!(jointly, [2, 3, 5, 6, 8, 9, 11, 12, 13], "all handles");
    for (name, _, draft) in forged_others() {
        let laws = Statement::of(&draft.body).laws;
        assert!(laws.iter().all(|law| law.proved == Proved::Alone), "{name}");
    }
    assert_eq!((of_honest.nonces(), Statement::of(&honest().body).nonces()), (1 + 4 + 1 + 1, 5));
    let element = |draft: &mut Draft, place: usize, shift: RistrettoPoint| {
        let (payees, handle, _) = draft.payment();
        let handle = match place {
            8 => handle,
            _ if place.is_multiple_of(2) => &mut payees[place / 4].credit.limbs[place / 2 % 2].d,
            _ => &mut payees[place / 4].auditor[place / 2 % 2],
        };
        *handle = group::write(&(point(handle) + shift));
    };
    // The n-th joint equation is wrong by `-x delta` and the next by `delta`. The last is the
    // payer's own handle, and shows in what is left: the thief knows how to make up for it.
    for first in 0..8 {
        let (mut theft, delta) = (honest_payroll(), group::random());
        let secret = theft.witnesses[0];
        let shift = |by: Scalar| by * delta * group::h();
        element(&mut theft, first, shift(-joined));
        element(&mut theft, first + 1, shift(Scalar::ONE));
        if first == 7 {
            theft.witnesses[1] -= secret * delta;
        }
        assert_eq!(refusal(&theft.claim()), Some(Refusal::Equation), "{first}");
        let claim = with(Flaw::Joint, || theft.claim());
        assert_eq!(refusal(&claim), Some(Refusal::Equation), "{first}");
        assert!(with(Flaw::Joint, || refusal(&claim).is_none()), "{first}: they cancel");
    }
}
