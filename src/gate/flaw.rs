//! The rule of a gate that a test breaks, to see that the break is noticed. Without `cfg(test)` it
//! is kept.

#[cfg(test)]
thread_local! {
    static IS_UNORDERED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Whether a gate that this thread opens sends the messages of a line at once, without waiting for
/// the answer of the one before.
#[cfg(test)]
pub(super) fn is_unordered() -> bool {
    IS_UNORDERED.get()
}

/// A gate keeps the order of its lines.
#[cfg(not(test))]
pub(super) const fn is_unordered() -> bool {
    false
}

/// Runs `what`, while gates that this thread opens do not keep the order of their lines.
#[cfg(test)]
pub(super) fn without_order<T>(what: impl FnOnce() -> T) -> T {
    IS_UNORDERED.set(true);
    let result = what();
    IS_UNORDERED.set(false);
    result
}
