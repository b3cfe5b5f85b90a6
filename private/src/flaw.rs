//! Rules that tests break, to see that each break is noticed. Without `cfg(test)` none is broken.

/// A rule of verifier or account that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(test), allow(dead_code, reason = "tests name them"))]
pub(crate) enum Flaw {
    /// The n-th equation of a claim is not looked at. Of a joint one neither prover nor verifier
    /// knows anything.
    Law(usize),
    /// Equations are joined by a number that is known before the claim is.
    Joint,
    /// Range proofs are not looked at.
    Range,
    /// The range proof is not bound to the claim.
    RangeUnbound,
    /// The range proof is about this commitment twice, in place of the next.
    RangeOfAnother(usize),
    /// The challenge does not depend on the terms.
    Terms,
    /// The challenge does not depend on the last so many bytes of the claim.
    Tail(usize),
    /// The challenge does not depend on the first so many bytes of the claim.
    Start(usize),
    /// The challenge does not depend on the nonces.
    Nonces,
    /// The account's version is not compared.
    Version,
    /// The account's balance is not compared.
    Balance,
    /// The claimant's key is not compared.
    Key,
    /// A payee's key is not compared.
    PayeeKey,
    /// The terms that an account was opened under are not compared.
    OtherTerms,
    /// The bound of pending credits is not kept.
    Full,
    /// The credits that a claim folds are not compared.
    Folded,
    /// A new key is taken though credits of the old one are pending.
    Rotation,
    /// A payee may be named twice.
    Twice,
}

#[cfg(test)]
thread_local! {
    static BROKEN: std::cell::Cell<Option<Flaw>> = const { std::cell::Cell::new(None) };
}

/// Whether this rule is broken.
#[inline]
#[cfg(not(test))]
pub(crate) fn is_broken(_rule: Flaw) -> bool {
    false
}

/// Whether this rule is broken on this thread.
#[cfg(test)]
pub(crate) fn is_broken(rule: Flaw) -> bool {
    BROKEN.get() == Some(rule)
}

/// The rule that is broken on this thread.
#[cfg(test)]
pub(crate) fn broken() -> Option<Flaw> {
    BROKEN.get()
}

/// The rule that is broken.
#[inline]
#[cfg(not(test))]
pub(crate) fn broken() -> Option<Flaw> {
    None
}

/// Runs `what` with this rule broken on this thread.
#[cfg(test)]
pub(crate) fn with<T>(flaw: Flaw, what: impl FnOnce() -> T) -> T {
    BROKEN.set(Some(flaw));
    let result = what();
    BROKEN.set(None);
    result
}
