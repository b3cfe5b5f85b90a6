//! What is moved to where it stays, and not over the stack.
//!
//! A list that is full grows, and growing may unwind. So the compiler keeps an element that is to
//! be pushed in memory, all of it, until it knows that there is room. And an [`Option`] that is
//! taken is copied apart before its place says that there is nothing. Each of these functions says
//! the same in an order in which neither is needed; docs/BENCHMARKS.md has the instructions.

use std::collections::VecDeque;

/// Adds what `make` makes behind all others.
#[inline(always)]
pub(crate) fn push<T>(list: &mut Vec<T>, make: impl FnOnce() -> T) {
    if list.len() < list.capacity() { list.push(make()) } else { push_slowly(list, make) }
}

#[cold]
#[inline(never)]
fn push_slowly<T>(list: &mut Vec<T>, make: impl FnOnce() -> T) {
    list.push(make());
}

/// The same for a queue.
#[inline(always)]
pub(crate) fn push_back<T>(queue: &mut VecDeque<T>, make: impl FnOnce() -> T) {
    if queue.len() < queue.capacity() { queue.push_back(make()) } else { push_back_slowly(queue, make) }
}

#[cold]
#[inline(never)]
fn push_back_slowly<T>(queue: &mut VecDeque<T>, make: impl FnOnce() -> T) {
    queue.push_back(make());
}

/// Moves what is in one place to another, and leaves nothing.
#[inline(always)]
pub(crate) fn take_into<T>(from: &mut Option<T>, to: &mut Option<T>) {
    match from.take() {
        Some(value) => *to = Some(value),
        None => *to = None,
    }
}

/// Copies what is in one place to another.
#[inline(always)]
pub(crate) fn clone_into<T: Clone>(from: &Option<T>, to: &mut Option<T>) {
    match from {
        Some(value) => *to = Some(value.clone()),
        None => *to = None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_grow_and_keep_their_order() {
        let (mut list, mut queue) = (Vec::new(), VecDeque::new());
        for number in 0..100 {
            push(&mut list, || number);
            push_back(&mut queue, || number);
            if number % 3 == 0 {
                assert_eq!(queue.pop_front(), Some(number / 3));
            }
        }
        assert_eq!(list, Vec::from_iter(0..100));
        assert_eq!(queue, Vec::from_iter(34..100));
    }

    #[test]
    fn places_have_what_was_moved_or_copied() {
        let (mut from, mut to) = (Some("a".to_owned()), Some("b".to_owned()));
        clone_into(&from, &mut to);
        assert_eq!((from.as_deref(), to.as_deref()), (Some("a"), Some("a")));
        take_into(&mut from, &mut to);
        assert_eq!((from.as_deref(), to.as_deref()), (None, Some("a")));
        clone_into(&from, &mut to);
        assert_eq!(to, None);
        to = Some("c".to_owned());
        take_into(&mut from, &mut to);
        assert_eq!((from, to), (None, None));
    }
}
