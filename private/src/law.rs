//! Which equations a claim is to satisfy, and what the account holds afterwards.
//!
//! An equation is linear in what its prover knows (the *witnesses*): a sum of witness times element
//! on the left, a sum of public elements on the right. `docs/PRIVACY.md` writes them out.

use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity;

use crate::claim::{Body, Credit, Folded, Head, Sealed};
use crate::flaw::{Flaw, is_broken};
use crate::group::{self, Bytes};

/// An element of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    G,
    H,
    /// The auditor's key.
    Auditor,
    /// One of the claim's own, by number.
    Own(usize),
}

/// A small factor: `1`, `-1`, `2^32` or `-2^32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Factor {
    Plus,
    Minus,
    PlusHigh,
    MinusHigh,
}

use Factor::{Minus, Plus};

impl Factor {
    /// That of a limb which is added: the lower counts once, the upper `2^32` times.
    fn plus(limb: usize) -> Factor {
        if limb == 0 { Plus } else { Factor::PlusHigh }
    }

    /// That of a limb which is taken away.
    fn minus(limb: usize) -> Factor {
        if limb == 0 { Minus } else { Factor::MinusHigh }
    }

    /// The factor times `scalar`. A multiplication of scalars takes 1,000 instructions, so most
    /// factors are none.
    pub(crate) fn times(self, scalar: Scalar) -> Scalar {
        match self {
            Plus => scalar,
            Minus => -scalar,
            Factor::PlusHigh => scalar * group::limb_base(),
            Factor::MinusHigh => -(scalar * group::limb_base()),
        }
    }
}

/// A sum of elements, and of the basepoint so many times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sum {
    pub(crate) parts: Vec<(Factor, Element)>,
    /// A sum of a few 64-bit amounts, so that it cannot overflow.
    pub(crate) amount: i128,
}

impl Sum {
    fn of(parts: &[(Factor, Element)]) -> Sum {
        Sum { parts: parts.to_vec(), amount: 0 }
    }

    /// The sum, where `own` are the claim's own elements.
    pub(crate) fn value(&self, own: &[RistrettoPoint], auditor: &RistrettoPoint) -> RistrettoPoint {
        let (mut low, mut high) = (RistrettoPoint::identity(), RistrettoPoint::identity());
        for (factor, element) in &self.parts {
            let element = element.value(own, auditor);
            match factor {
                Plus => low += element,
                Minus => low -= element,
                Factor::PlusHigh => high += element,
                Factor::MinusHigh => high -= element,
            }
        }
        let amount = amount(self.amount);
        // Most sums have no upper limb, and need no doublings. All is public here.
        if self.parts.iter().any(|(factor, _)| matches!(factor, Factor::PlusHigh | Factor::MinusHigh)) {
            // It takes 31,000 instructions less than 32 additions of a point to itself.
            low += RistrettoPoint::vartime_double_scalar_mul_basepoint(&group::limb_base(), &high, &amount);
        } else if self.amount != 0 {
            low += RistrettoPoint::mul_base(&amount);
        }
        low
    }
}

/// A signed amount as a scalar.
pub(crate) fn amount(amount: i128) -> Scalar {
    let size = Scalar::from(amount.unsigned_abs());
    if amount < 0 { -size } else { size }
}

impl Element {
    pub(crate) fn value(self, own: &[RistrettoPoint], auditor: &RistrettoPoint) -> RistrettoPoint {
        match self {
            Element::G => group::g(),
            Element::H => group::h(),
            Element::Auditor => *auditor,
            Element::Own(at) => own[at],
        }
    }
}

/// One equation.
#[derive(Clone, Debug)]
pub(crate) struct Law {
    /// What it says, for tests and traces.
    #[cfg_attr(not(test), allow(dead_code, reason = "tests print it"))]
    pub(crate) says: &'static str,
    /// Witness, by number, times factor times element.
    pub(crate) left: Vec<(usize, Factor, Element)>,
    pub(crate) right: Sum,
    pub(crate) proved: Proved,
}

/// How an equation is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proved {
    /// With a nonce of its own.
    Alone,
    /// In one sum of all such, each times a power of the transcript's `joint` scalar. Only sound
    /// for witnesses that equations of the first kind leave no choice of: the scalar is known
    /// before the nonces are, and a free witness could make up for an error.
    Jointly,
}

/// All equations of a claim.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    /// The claim's own elements.
    pub(crate) own: Vec<Bytes>,
    pub(crate) laws: Vec<Law>,
    /// How many witnesses there are.
    pub(crate) witnesses: usize,
    /// What the account holds afterwards: `c` and `d`.
    pub(crate) after: [Sum; 2],
}

/// Numbers of witnesses.
pub(crate) const SECRET: usize = 0;
/// Of payments and withdrawals: the blinding of what is left.
pub(crate) const LEFT: usize = 1;
/// Of a rotation: the new secret.
pub(crate) const NEW_SECRET: usize = 1;
/// Of a rotation: the old secret by the new.
pub(crate) const RATIO: usize = 2;

/// Of a payment: an amount's limb, and then its blinding.
pub(crate) fn limb_witness(payee: usize, limb: usize) -> usize {
    2 + 2 * (2 * payee + limb)
}

impl Statement {
    fn new(witnesses: usize) -> Statement {
        Statement { own: Vec::new(), laws: Vec::new(), witnesses, after: [Sum::default(), Sum::default()] }
    }

    fn own(&mut self, bytes: Bytes) -> Element {
        self.own.push(bytes);
        Element::Own(self.own.len() - 1)
    }

    fn law(&mut self, says: &'static str, left: Vec<(usize, Factor, Element)>, right: Sum) {
        self.laws.push(Law { says, left, right, proved: Proved::Alone });
    }

    /// An equation about blindings of sealed amounts, which those equations say already.
    fn joint_law(&mut self, says: &'static str, left: Vec<(usize, Factor, Element)>, right: Sum) {
        self.laws.push(Law { says, left, right, proved: Proved::Jointly });
    }

    /// How many nonces a proof has: one for each equation that is proved alone, in order, and then
    /// one for all others together, if there are others.
    pub(crate) fn nonces(&self) -> usize {
        let alone = self.laws.iter().filter(|law| law.proved == Proved::Alone).count();
        alone + usize::from(alone < self.laws.len())
    }

    /// What each equation is multiplied by in the sum that it is proved in: an equation that is
    /// proved alone by one, others by powers of `joint` from one on.
    pub(crate) fn shares(&self, joint: Scalar) -> Vec<Scalar> {
        let mut power = Scalar::ONE;
        let share = |(number, law): (usize, &Law)| match law.proved {
            Proved::Alone => Scalar::ONE,
            Proved::Jointly => {
                let share = power;
                power *= joint;
                if is_broken(Flaw::Law(number)) { Scalar::ZERO } else { share }
            }
        };
        self.laws.iter().enumerate().map(share).collect()
    }

    /// The head's elements, and the law that its owner knows the key: `s P = H`.
    fn head(&mut self, head: &Head) -> (Element, Element, Element) {
        let (key, c, d) = (self.own(head.key), self.own(head.available.c), self.own(head.available.d));
        self.law("the owner knows the key", vec![(SECRET, Plus, key)], Sum::of(&[(Plus, Element::H)]));
        self.after = [Sum::of(&[(Plus, c)]), Sum::of(&[(Plus, d)])];
        (key, c, d)
    }

    /// What is left is what the account holds afterwards: `s d' - l H = c' - L`.
    fn left(&mut self, left: &[Bytes; 2]) {
        let [c, d] = self.after.clone();
        let mut right = c;
        for (limb, bytes) in left.iter().enumerate() {
            let element = self.own(*bytes);
            right.parts.push((Factor::minus(limb), element));
        }
        let mut side: Vec<_> = d.parts.iter().map(|(factor, element)| (SECRET, *factor, *element)).collect();
        side.push((LEFT, Minus, Element::H));
        self.law("what is left is what was there less the amounts", side, right);
    }

    /// What is folded is available afterwards.
    fn fold(&mut self, folded: &Folded) {
        self.after[0].amount = i128::from(folded.deposits);
        for Credit { limbs } in &folded.credits {
            for (limb, Sealed { c, d }) in limbs.iter().enumerate() {
                let (c, d) = (self.own(*c), self.own(*d));
                self.after[0].parts.push((Factor::plus(limb), c));
                self.after[1].parts.push((Factor::plus(limb), d));
            }
        }
    }

    pub(crate) fn of(body: &Body) -> Statement {
        match body {
            Body::Open { head } => {
                let mut this = Statement::new(1);
                this.head(head);
                this
            }
            Body::Pay { head, payees, handle, left } => Self::of_payment(head, payees, handle, left),
            Body::Fold { head, folded } => {
                let mut this = Statement::new(1);
                this.head(head);
                this.fold(folded);
                this
            }
            Body::Withdraw { head, amount, left, .. } => {
                let mut this = Statement::new(2);
                this.head(head);
                this.after[0].amount = -i128::from(*amount);
                this.left(left);
                this
            }
            Body::Rotate { head, folded, key, handle } => {
                let mut this = Statement::new(3);
                let (old, ..) = this.head(head);
                this.fold(folded);
                let (key, handle) = (this.own(*key), this.own(*handle));
                let knows = "the owner knows the new key";
                this.law(knows, vec![(NEW_SECRET, Plus, key)], Sum::of(&[(Plus, Element::H)]));
                this.law(
                    "the new key is so many times the old",
                    vec![(RATIO, Plus, old)],
                    Sum::of(&[(Plus, key)]),
                );
                let of_old = this.after[1].parts.iter().map(|(factor, d)| (RATIO, *factor, *d)).collect();
                this.law("and so is the handle", of_old, Sum::of(&[(Plus, handle)]));
                this.after[1] = Sum::of(&[(Plus, handle)]);
                this
            }
        }
    }

    fn of_payment(
        head: &Head,
        payees: &[crate::claim::Payee],
        handle: &Bytes,
        left: &[Bytes; 2],
    ) -> Statement {
        let mut this = Statement::new(limb_witness(payees.len(), 0));
        let (payer, ..) = this.head(head);
        let handle = this.own(*handle);
        let mut of_payer = Vec::new();
        for (at, payee) in payees.iter().enumerate() {
            let key = this.own(payee.key);
            for (limb, Sealed { c, d }) in payee.credit.limbs.iter().enumerate() {
                let (value, blinding) = (limb_witness(at, limb), limb_witness(at, limb) + 1);
                let (c, d, auditor) = (this.own(*c), this.own(*d), this.own(payee.auditor[limb]));
                let opens = vec![(value, Plus, Element::G), (blinding, Plus, Element::H)];
                this.law("the amount is sealed", opens, Sum::of(&[(Plus, c)]));
                this.joint_law("the payee can read it", vec![(blinding, Plus, key)], Sum::of(&[(Plus, d)]));
                let audited = vec![(blinding, Plus, Element::Auditor)];
                this.joint_law("the auditor can read it", audited, Sum::of(&[(Plus, auditor)]));
                of_payer.push((blinding, Factor::plus(limb), payer));
                this.after[0].parts.push((Factor::minus(limb), c));
            }
        }
        this.joint_law("the payer can read what is left", of_payer, Sum::of(&[(Plus, handle)]));
        this.after[1].parts.push((Minus, handle));
        this.left(left);
        this
    }
}
