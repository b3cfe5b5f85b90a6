//! What segments, parts of checkpoints and spare files are called.

use crate::disk::name::FileName;

pub(crate) fn segment_name(log: u64, segment: u64) -> String {
    FileName::Segment { log, segment }.to_string()
}

pub(crate) fn checkpoint_name(log: u64) -> String {
    FileName::Part { log }.to_string()
}

/// Which log and segment a name is of.
pub(crate) fn parse_segment_name(name: &str) -> Option<(u64, u64)> {
    match FileName::parse(name)? {
        FileName::Segment { log, segment } => Some((log, segment)),
        _ => None,
    }
}

/// Which part of a checkpoint a name is of.
pub(crate) fn parse_checkpoint_name(name: &str) -> Option<u64> {
    match FileName::parse(name)? {
        FileName::Part { log } => Some(log),
        _ => None,
    }
}

/// The number of a spare.
pub(super) fn parse_spare_name(name: &str) -> Option<u64> {
    match FileName::parse(name)? {
        FileName::Spare(number) => Some(number),
        _ => None,
    }
}
