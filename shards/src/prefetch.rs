//! The prefetch instruction, as the pure crate asks for it.

/// Asks the processor for memory that is needed soon. It is a trait because the instruction is
/// `unsafe` in Rust, and this crate has none of that: the runtime supplies it.
pub trait Prefetch {
    /// Fetches the first `bytes` bytes at `place` into the cache, sometime.
    fn prefetch<T>(place: &T, bytes: usize);

    /// The same for memory that is written soon, and that another core has written last: it comes
    /// to be this core's own at once, and not in a second trip at the first write.
    #[inline]
    fn prefetch_to_write<T>(place: &T, bytes: usize) {
        Self::prefetch(place, bytes);
    }
}

/// Fetches nothing: for tests, simulators and Miri.
#[derive(Clone, Copy, Debug)]
pub struct NoPrefetch;

impl Prefetch for NoPrefetch {
    #[inline]
    fn prefetch<T>(_: &T, _: usize) {}
}
