//! A shard's log in bytes, checkpoints and the manifest beside it, and what recovery makes of them.
//! `batch` has the format.

pub mod appends;
pub(crate) mod batch;
pub(crate) mod bounds;
pub mod chain;
pub(crate) mod dated;
pub(crate) mod encoder;
pub(crate) mod fixed;
pub mod founding;
pub(crate) mod gathering;
pub mod manifest;
pub(crate) mod migration;
pub mod part;
pub mod record;
pub(crate) mod recovery;
pub(crate) mod refused;
pub(crate) mod schema;
pub(crate) mod shape;
pub(crate) mod trust;
pub(crate) mod under_way;
pub(crate) mod writer;

pub use batch::{
    Damage, End, Invalid, LogBatch, Marks, Pieces, SegmentId, Tail, VERSION, VERSION_MIN, batch_bytes,
    claimed_identity, identity, scan, scan_pieces, sealed,
};
pub use bounds::{BATCH_MAX, BLOCK, Bounds, HEADER, TooLong};
pub use dated::DatedRecord;
pub use gathering::{Gathered, Gathering};
pub use writer::{BatchWriter, Records};
