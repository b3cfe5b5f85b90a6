//! Blobs of files.

use freehold::testing::Bench;
use freehold::{AccessError, AskError, BlobPart, Limits, Objects, Receive, To};
use serde::{Deserialize, Serialize};

freehold::actor! {
    actor Files {
        id: Id, state: State, message: Message, reply: Reply, error: AccessError<Id>,
        kinds {
            File(file: u64),
            Part(file: u64, number: u64) in File(file),
        }
        messages { Append -> u64, Copy -> u64 }
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct File;

#[derive(Clone, Serialize, Deserialize)]
struct Part(Vec<u8>);

impl BlobPart<Files> for Part {
    fn part_key(file: u64, number: u64) -> (u64, u64) {
        (file, number)
    }

    fn part_number((_, number): (u64, u64)) -> u64 {
        number
    }

    fn of_bytes(bytes: Vec<u8>) -> Self {
        Part(bytes)
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

/// So many bytes to a file. Returns how many it has then.
#[derive(Clone, Serialize, Deserialize)]
struct Append(u64, u64);

/// The first bytes of a file to the end of another. Returns how many that has then.
#[derive(Clone, Serialize, Deserialize)]
struct Copy {
    from: u64,
    into: u64,
    bytes: u64,
}

impl Receive<Files> for Append {
    fn addressees(&self, to: &mut To<'_, Files>) {
        to.write::<File>(self.0);
    }

    fn receive(&self, objects: &mut Objects<'_, Files>) -> Result<u64, AccessError<Id>> {
        objects.write_or_insert_with(self.0, || File)?;
        let mut file = objects.blob::<Part>(self.0)?;
        let begin = file.len();
        file.append(&Vec::from_iter((begin..begin + self.1).map(byte)))?;
        Ok(file.len())
    }
}

impl Receive<Files> for Copy {
    fn addressees(&self, to: &mut To<'_, Files>) {
        to.read::<File>(self.from);
        to.write::<File>(self.into);
    }

    fn receive(&self, objects: &mut Objects<'_, Files>) -> Result<u64, AccessError<Id>> {
        let mut bytes = vec![0; self.bytes as usize];
        let read = objects.blob::<Part>(self.from)?.read_at(0, &mut bytes);
        let mut into = objects.blob::<Part>(self.into)?;
        into.append(&bytes[..read])?;
        Ok(into.len())
    }
}

fn byte(at: u64) -> u8 {
    (at % 251) as u8
}

fn whole(bench: &Bench<Files>, file: u64) -> Vec<u8> {
    let parts = (0..).map_while(|number| bench.read::<Part>((file, number)));
    parts.flat_map(|part| part.0.clone()).collect()
}

const PART: u64 = 4096;
const MEGABYTE: u64 = 1 << 20;

/// What a message takes along of a blob counts with its bytes, which are not in the state
/// itself: a part was taken for 24 bytes, and 4 MB came along where 64 KiB may.
#[test]
fn a_blob_of_another_shard_comes_along_up_to_the_limit() {
    let mut bench = Bench::<Files>::shards(2);
    for file in 0..8 {
        assert_eq!(bench.call(Append(file, MEGABYTE + 5)), Ok(MEGABYTE + 5));
    }
    let spans = |bench: &mut Bench<Files>, into| {
        let before = bench.counters().consensus;
        assert_eq!(bench.call(Copy { from: 0, into, bytes: 0 }), Ok(MEGABYTE + 5));
        bench.counters().consensus > before
    };
    let other = (1..8).find(|other| spans(&mut bench, *other)).expect("one is on the other shard");
    let mut refused = 0;
    for (from, into) in [(0, other), (other, 0)] {
        let before = whole(&bench, into);
        let mut copy = |bytes| bench.call(Copy { from, into, bytes });
        // The message runs on the higher shard. There the other file is one that comes along.
        let is_carried = match copy(16 * PART) {
            Ok(_) => false,
            Err(error) => {
                let max = Limits::default().carried_bytes_max;
                assert_eq!(error, AskError::Aborted(AccessError::TooMuchCarried { max }));
                true
            }
        };
        if is_carried {
            assert!(copy(MEGABYTE).is_err(), "a megabyte from elsewhere");
            assert_eq!(whole(&bench, into), before, "nothing has changed");
            assert_eq!(bench.call(Copy { from, into, bytes: 15 * PART }), Ok(MEGABYTE + 5 + 15 * PART));
            refused += 1;
        } else {
            assert_eq!(copy(MEGABYTE), Ok(MEGABYTE + 5 + 16 * PART + MEGABYTE));
        }
        let copied = whole(&bench, into).split_off(before.len());
        let lengths = if is_carried { vec![15 * PART] } else { vec![16 * PART, MEGABYTE] };
        assert!(copied == Vec::from_iter(lengths.into_iter().flat_map(|bytes| (0..bytes).map(byte))));
    }
    assert_eq!(refused, 1, "of the one that is at home elsewhere, and only of that");
}
