//! Many elements moved at once: from a queue into a ring, and from a ring into a list.
//!
//! Moved one by one by iterators, an element takes 35 to 40 instructions, since each step asks how
//! far either side goes. Here the bytes of all elements are copied at once, and then the elements
//! are forgotten where they were. Each function does so in an order in which a panic would leak
//! elements, and never leave one in two places.
//!
//! Both functions are cold: a round of a shard that looks at empty lanes then passes by their calls
//! without a jump. With many shards most lanes are empty.
#![allow(unsafe_code, reason = "moved by iterators, envelopes take a tenth of a pair's instructions")]

use std::collections::VecDeque;
use std::iter;
use std::mem::{MaybeUninit, forget, replace, take};

use rtrb::{Consumer, Producer};

/// Moves as much of the front of `queue` into `ring` as that takes. Returns how much that was.
#[cold]
#[inline(never)]
pub(crate) fn push<T>(ring: &mut Producer<T>, queue: &mut VecDeque<T>) -> usize {
    if queue.len() > 1 {
        return push_many(ring, queue);
    }
    // One is not worth a copy of many.
    if ring.is_full() {
        return 0;
    }
    let Some(one) = queue.pop_front() else { return 0 };
    ring.push(one).expect("there is room");
    1
}

#[inline(never)]
fn push_many<T>(ring: &mut Producer<T>, queue: &mut VecDeque<T>) -> usize {
    let count = ring.slots().min(queue.len());
    let mut chunk = ring.write_chunk_uninit(count).expect("there is as much room as there is");
    if count < queue.len() {
        // What a full ring leaves may be much, and is not to be moved within its memory.
        return chunk.fill_from_iter(iter::from_fn(|| queue.pop_front()));
    }
    let mut list = Vec::from(take(queue));
    let (first, second) = chunk.as_mut_slices();
    let (to_first, to_second) = list.split_at(first.len());
    copy(to_first, first);
    copy(to_second, second);
    // SAFETY: 0 is within the capacity, and there is nothing below it to be initialized. What the
    // list held is in the chunk now.
    unsafe { list.set_len(0) };
    // An empty queue without memory was left there, and need not be dropped.
    forget(replace(queue, VecDeque::from(list)));
    // SAFETY: `copy` has written all slots of the chunk, with elements that the list lost.
    unsafe { chunk.commit_all() };
    count
}

/// Moves the first elements of `ring` behind those of `list`, and no more than `max`. Returns how
/// many that were.
#[cold]
#[inline(never)]
pub(crate) fn pop<T>(ring: &mut Consumer<T>, list: &mut Vec<T>, max: usize) -> usize {
    let count = ring.slots().min(max);
    if count > 1 {
        pop_many(ring, list, count);
    } else if count == 1
        && let Ok(one) = ring.pop()
    {
        list.push(one);
    }
    count
}

#[inline(never)]
fn pop_many<T>(ring: &mut Consumer<T>, list: &mut Vec<T>, count: usize) {
    let chunk = ring.read_chunk(count).expect("as much as there is can be read");
    list.reserve(count);
    let (first, second) = chunk.as_slices();
    let (to_first, to_others) = list.spare_capacity_mut().split_at_mut(first.len());
    copy(first, to_first);
    copy(second, &mut to_others[..second.len()]);
    let mut moved = chunk.into_iter();
    // Counted, and not until it says that there is no more: for that it would look at each.
    (0..count).for_each(|_| forget(moved.next()));
    drop(moved);
    // SAFETY: `reserve` made room for these elements, `copy` has written them there, and the ring
    // has let go of them without a drop.
    unsafe { list.set_len(list.len() + count) };
}

/// Copies the bytes of these elements to as many places. Of the two the caller keeps one.
#[inline]
fn copy<T>(from: &[T], to: &mut [MaybeUninit<T>]) {
    assert_eq!(from.len(), to.len(), "all elements are copied");
    if !from.is_empty() {
        // SAFETY: both have this length, and what is borrowed mutably overlaps nothing. A place for
        // an element takes any bytes; each caller forgets the elements of `from`.
        unsafe { from.as_ptr().copy_to_nonoverlapping(to.as_mut_ptr().cast(), from.len()) };
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use rtrb::RingBuffer;

    use super::*;

    /// Elements go from a queue through a ring of `room` into a list, by turns.
    fn move_by_turns(room: usize) {
        let witness = Rc::new(());
        let (mut writer, mut reader) = RingBuffer::new(room);
        let (mut queue, mut list) = (VecDeque::new(), Vec::new());
        let (mut made, mut pushed, mut popped) = (0, 0, 0);
        for step in 0..60 {
            // Too many for a while, and then too few.
            let more = if step / 8 % 2 == 0 { step * 7 % 11 } else { 1 };
            queue.extend((made..made + more).map(|number| (number, Rc::clone(&witness))));
            made += more;
            let room_left = room - (pushed - popped);
            assert_eq!(push(&mut writer, &mut queue), room_left.min(made - pushed), "what there is room for");
            pushed = made - queue.len();
            let max = step * 5 % 9;
            assert_eq!(pop(&mut reader, &mut list, max), max.min(pushed - popped), "what there is");
            popped = list.len();
        }
        assert!(list.iter().map(|(number, _)| *number).eq(0..popped), "in order, each once");
        assert_eq!(Rc::strong_count(&witness), 1 + made, "each is in one place");
        // Some stay in the queue, and some in the ring.
        queue.extend((0..2 * room).map(|number| (number, Rc::clone(&witness))));
        assert_eq!(push(&mut writer, &mut queue), room - (pushed - popped), "until the ring is full");
        drop((queue, list, writer, reader));
        assert_eq!(Rc::strong_count(&witness), 1, "what is in the ring is dropped with it");
    }

    #[test]
    fn all_arrives_in_order_and_once() {
        [1, 2, 7, 16, 40].into_iter().for_each(move_by_turns);
    }

    #[test]
    fn a_queue_in_two_parts_is_moved_in_order() {
        let mut queue = VecDeque::with_capacity(8);
        let capacity = queue.capacity();
        queue.extend((0..capacity).map(Box::new));
        queue.drain(..5);
        queue.extend((capacity..capacity + 5).map(Box::new));
        assert!(!queue.as_slices().1.is_empty(), "it goes on at the beginning of its memory");
        let (mut writer, mut reader) = RingBuffer::new(capacity);
        let mut list = vec![Box::new(4)];
        assert_eq!(push(&mut writer, &mut queue), capacity);
        assert_eq!((queue.len(), queue.capacity()), (0, capacity), "its memory is kept");
        assert_eq!(pop(&mut reader, &mut list, usize::MAX), capacity);
        assert!(list.into_iter().map(|number| *number).eq(4..capacity + 5));
    }
}
