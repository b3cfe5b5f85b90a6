//! Ranges of ids, and what they have of each other.

use std::ops::Bound;

/// The end of a range at which who walks it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RangeEnd {
    Front,
    Back,
}

/// A range of ids.
pub(crate) type IdBounds<I> = (Bound<I>, Bound<I>);

/// Whether a map may be asked for these ids: `BTreeMap` panics at a range that ends before it
/// begins.
#[inline]
pub(crate) fn is_range<I: Ord>((from, to): &IdBounds<I>) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => true,
        (Bound::Excluded(from), Bound::Excluded(to)) => from < to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => {
            from <= to
        }
    }
}

/// Whether a range that begins at `one` has all of one that begins at `other`.
#[inline]
pub(crate) fn begins_before<I: Ord>(one: &Bound<I>, other: &Bound<I>) -> bool {
    match (one, other) {
        (Bound::Unbounded, _) => true,
        (_, Bound::Unbounded) => false,
        (Bound::Excluded(one), Bound::Included(other)) => one < other,
        (Bound::Included(one) | Bound::Excluded(one), Bound::Included(other) | Bound::Excluded(other)) => {
            one <= other
        }
    }
}

/// Whether a range that ends at `one` has all of one that ends at `other`.
#[inline]
pub(crate) fn ends_behind<I: Ord>(one: &Bound<I>, other: &Bound<I>) -> bool {
    match (one, other) {
        (Bound::Unbounded, _) => true,
        (_, Bound::Unbounded) => false,
        (Bound::Excluded(one), Bound::Included(other)) => one > other,
        (Bound::Included(one) | Bound::Excluded(one), Bound::Included(other) | Bound::Excluded(other)) => {
            one >= other
        }
    }
}
