//! Which messages of earlier runs are under way, in bytes: the file that tells the next start whom
//! to suspect.

use crate::log::record::SendId;

/// Owed messages of one shard that are under way at once.
pub const UNDER_WAY_MAX: usize = 64;

/// The bytes that name the messages of one shard that are under way. They are written in place, in
/// one piece, and never synced: they are for a process that ends, and the system keeps what that
/// has written.
///
/// ```text
/// 0 crc32c of what follows    4 how many u32    8 start u64    16 the numbers, u64 each, and zeros
/// ```
pub const UNDER_WAY_BYTES: usize = 1024;

const _: () = assert!(16 + 8 * UNDER_WAY_MAX <= UNDER_WAY_BYTES);

/// Names these messages of the run that `start` began.
pub fn name_under_way(start: u64, sends: impl Iterator<Item = SendId>) -> [u8; UNDER_WAY_BYTES] {
    let mut bytes = [0; UNDER_WAY_BYTES];
    let mut many = 0_u32;
    for (SendId(send_id), place) in sends.zip(bytes[16..].chunks_exact_mut(8)) {
        place.copy_from_slice(&send_id.to_le_bytes());
        many += 1;
    }
    bytes[4..8].copy_from_slice(&many.to_le_bytes());
    bytes[8..16].copy_from_slice(&start.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The messages that [`name_under_way`] named in the run that `start` began. Bytes of another run,
/// and bytes that are none, name nobody.
pub fn named_under_way(start: u64, bytes: &[u8]) -> Vec<SendId> {
    let (numbers, _) = bytes.as_chunks::<8>();
    let [head, of, sends @ ..] = numbers else { return Vec::new() };
    let (crc, many) = (u64::from_le_bytes(*head) as u32, (u64::from_le_bytes(*head) >> 32) as usize);
    let is_whole =
        bytes.len() == UNDER_WAY_BYTES && many <= UNDER_WAY_MAX && crc32c::crc32c(&bytes[4..]) == crc;
    if !is_whole || u64::from_le_bytes(*of) != start {
        return Vec::new();
    }
    sends[..many].iter().map(|send_id| SendId(u64::from_le_bytes(*send_id))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_were_written_and_only_in_their_run() {
        for many in [0, 1, UNDER_WAY_MAX as u64] {
            let sends: Vec<SendId> = (0..many).map(|send_id| SendId(send_id * 7 + 1)).collect();
            let bytes = name_under_way(5, sends.iter().copied());
            assert_eq!(named_under_way(5, &bytes), sends);
            assert_eq!(named_under_way(6, &bytes), []);
            let mut torn = bytes;
            torn[20] ^= 1;
            assert_eq!(named_under_way(5, &torn), []);
            assert_eq!(named_under_way(5, &bytes[..512]), []);
        }
        assert_eq!(named_under_way(0, &[0; UNDER_WAY_BYTES]), [], "a hole in the file names nobody");
    }
}
