//! Blobs.

use freehold::testing::Bench;
use freehold::{AccessError, BlobPart, Objects, Receive, To};

use super::{Deserialize, Serialize};

freehold::actor! {
    pub actor Drive {
        id: Id, state: State, message: Message, reply: Reply, error: AccessError<Id>,
        kinds { File(file: u64), Part(file: u64, part: u64) in File(file) }
        messages { Upload -> u64 }
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub struct File;
#[derive(Clone, Serialize, Deserialize)]
pub struct Part(Vec<u8>);

pub struct Upload {
    file: u64,
    bytes: Vec<u8>,
}

impl BlobPart<Drive> for Part {
    fn part_key(file: u64, part: u64) -> (u64, u64) {
        (file, part)
    }

    fn part_number((_, part): (u64, u64)) -> u64 {
        part
    }

    fn of_bytes(bytes: Vec<u8>) -> Part {
        Part(bytes)
    }

    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl Receive<Drive> for Upload {
    fn addressees(&self, to: &mut To<'_, Drive>) {
        to.write::<File>(self.file);
    }

    fn receive(&self, objects: &mut Objects<'_, Drive>) -> Result<u64, AccessError<Id>> {
        let mut file = objects.blob::<Part>(self.file)?;
        file.append(&self.bytes)?;
        Ok(file.len())
    }
}

#[test]
fn a_file_is_in_parts() {
    let mut bench = Bench::<Drive>::shards(2);
    for (bytes, len) in [(5000, 5000), (3192, 8192), (1, 8193)] {
        assert_eq!(bench.call(Upload { file: 7, bytes: vec![1; bytes] }), Ok(len));
    }
    let parts = [0, 1, 2, 3].map(|part| bench.read::<Part>((7, part)).map_or(0, |part| part.0.len()));
    assert_eq!(parts, [4096, 4096, 1, 0]);
}
