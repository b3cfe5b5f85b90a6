//! Any bytes are read without harm: what the fuzzer runs for as long as one likes
//! (`fuzz/README.md`), for a moment in every run of the tests.

use proptest::prelude::*;

/// Like a log: blocks, most of whose headers are as they may be, with records in them.
fn like_a_log() -> impl Strategy<Value = Vec<u8>> {
    // Many are puts, so that there is something to clear.
    let kind = prop_oneof![2 => 0_u8..13, 2 => Just(2_u8), 1 => Just(11_u8)];
    let record = (kind, proptest::collection::vec(any::<u8>(), 0..40)).prop_map(|(kind, rest)| {
        let mut record = (rest.len() as u32 + 1).to_le_bytes().to_vec();
        record.push(kind);
        record.extend(rest);
        record
    });
    let batch = (proptest::collection::vec(record, 0..6), 0_u8..8, any::<[u8; 40]>(), 0_usize..2);
    let batch = batch.prop_map(|(records, spoil, marks, more)| {
        let mut batch = vec![0; 128];
        let count = (records.len() + more) as u32;
        let records = records.concat();
        batch[8..12].copy_from_slice(&(records.len() as u32).to_le_bytes());
        batch[12..16].copy_from_slice(&count.to_le_bytes());
        batch[40..80].copy_from_slice(&marks);
        batch[127] = spoil;
        batch.extend(records);
        batch.resize(batch.len().next_multiple_of(4096), 0);
        batch
    });
    proptest::collection::vec(batch, 0..5).prop_map(|batches| batches.concat())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 8 } else { 1024 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_bytes_are_decoded_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..2 * 4096)) {
        crate::decoding::decode(&bytes);
    }

    #[test]
    fn what_looks_like_a_log_is_decoded_without_harm(bytes in like_a_log()) {
        crate::decoding::decode(&bytes);
    }
}
