//! Any bytes are read without harm: what the fuzzer runs for as long as one likes
//! (`fuzz/README.md`), for a moment in every run of the tests.

mod decoding;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_decoded_without_harm(kind in 0_u8..6, mut bytes in proptest::collection::vec(any::<u8>(), 0..900)) {
        if let [version, of, ..] = &mut bytes[..] {
            (*version, *of) = (1, kind);
        }
        decoding::decode(&bytes);
    }

    /// A few bytes anywhere in a claim or an account that was written.
    #[test]
    fn what_was_written_and_changed_is_decoded_without_harm(bytes in proptest::collection::vec(any::<u8>(), 3..8)) {
        decoding::decode(&bytes);
    }
}
