//! Damage: a bit flips, or a file is cut, anywhere in a directory, and the next recovery says so or
//! is none the worse for it.
//!
//! Two small databases, made by real runtimes: one that was shut down, and a copy of it while it
//! ran, which is what a crash leaves. For each case one of their files is damaged, the state is
//! recovered, and the directory is verified. Then either
//! - nothing was hit that anybody reads (padding, blocks that were never written, spares, the
//!   manifest before), and the state is the same; or
//! - the error names the file, and the place where it cannot be read any further; or
//! - in the crashed database, a bit of the very last batch of a log was hit: that reads as a torn
//!   tail. Then the state is what it is when that batch had never been written, and only what it
//!   held is gone.
//!
//! `FREEHOLD_DAMAGES=100000 cargo test --release -p freehold --lib damage` runs more cases.

mod parts;
mod starts;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use freehold_shard::log::{BatchWriter, Bounds, HEADER, Marks, SegmentId, Tail};
use freehold_shard::manifest::{Manifest, Part};
use freehold_shard::part::PartEnd;
use freehold_shard::record::Record;
use freehold_shard::recovery::Home;
use freehold_shard::{
    AccessError, Actor, Addressees, Codec, Epoch, Migrations, NoPrefetch, Objects, Ownership, Reading, Router,
};
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use super::LogConfig;
use super::contents::{contents, read_manifest};
use super::inspect::{Entry, dump, verify};
use super::names::{checkpoint_name, parse_segment_name, segment_name};
use super::open::{Meter, recover};
use super::read_back::read_back;
use crate::disk::directory::Directory;
use crate::disk::error::LogError;
use crate::{Config, Idle, Runtime, Shards};

const SEGMENT: usize = 64 << 10;
const BLOCK: usize = 4096;

/// Texts by number.
struct Texts;

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Message {
    Put(u64, String),
    Both(u64, u64, String),
    Remove(u64),
    Later(u64, String),
}

impl Actor for Texts {
    type Id = u64;
    type State = String;
    type Message = Message;
    type Reply = ();
    type Error = AccessError<u64>;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        match *message {
            Message::Put(id, _) | Message::Remove(id) | Message::Later(id, _) => to.write(id),
            Message::Both(a, b, _) => {
                to.write(a);
                to.write(b);
            }
        }
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<(), AccessError<u64>> {
        match message.clone() {
            Message::Put(id, text) => objects.insert(id, text).map(drop),
            Message::Both(a, b, text) => {
                objects.insert(a, text.clone())?;
                objects.insert(b, text).map(drop)
            }
            Message::Remove(id) => objects.remove(id).map(drop),
            Message::Later(id, text) => {
                objects.tell_after(Duration::from_secs(1_000_000), Message::Put(id, text)).map(drop)
            }
        }
    }
}

fn open(directory: &Path, shards: usize) -> Runtime<Texts> {
    let config =
        Config { shards: Shards::Count(shards), idle: Idle::Spin(Duration::ZERO), ..Config::default() };
    let log = LogConfig { segment_bytes: SEGMENT, ..LogConfig::at(directory) };
    Runtime::open(config, log).expect("it opens")
}

/// Some messages of every kind, one after another, so that most are a batch each; and some at once.
fn work(runtime: &Runtime<Texts>, random: &mut Pcg64Mcg, asks: u64) {
    let handle = runtime.handle();
    for number in 0..asks {
        let id = random.next_u64() % 40;
        let text = |bytes| format!("{number} {}", "x".repeat(bytes as usize));
        let message = match random.next_u32() % 8 {
            0 => Message::Both(id, random.next_u64() % 40, text(10)),
            1 => Message::Remove(id),
            2 => Message::Later(id, text(3)),
            3 => Message::Put(id, text(random.next_u64() % 9000)),
            _ => Message::Put(id, text(20)),
        };
        handle.ask(message).wait().expect("it is done");
        if number % 16 == 0 {
            let many = (0..10).map(|of| Message::Put(100 + number + of, text(of)));
            handle.ask_all(many).wait().into_iter().for_each(|put| assert!(put.is_ok()));
        }
    }
}

fn copy(from: &Path, to: &Path) {
    for file in fs::read_dir(from).expect("it is there") {
        let file = file.expect("it can be listed");
        fs::copy(file.path(), to.join(file.file_name())).expect("it can be copied");
    }
}

/// The two databases: shut down, and crashed. Both have a checkpoint, a run of two shards that has
/// ended and one of two that is the last.
fn databases() -> [tempfile::TempDir; 2] {
    let [ended, crashed] = [(); 2].map(|()| tempfile::tempdir().expect("there is room"));
    let mut random = Pcg64Mcg::seed_from_u64(7);
    let runtime = open(ended.path(), 1);
    work(&runtime, &mut random, 40);
    assert!(runtime.shutdown().drained);
    let runtime = open(ended.path(), 2);
    work(&runtime, &mut random, 40);
    runtime.checkpoint().expect("there is one");
    work(&runtime, &mut random, 60);
    assert!(runtime.shutdown().drained);
    let runtime = open(ended.path(), 2);
    work(&runtime, &mut random, 100);
    // Nothing is under way; but segments may just be made.
    std::thread::sleep(Duration::from_millis(100));
    copy(ended.path(), crashed.path());
    assert!(runtime.shutdown().drained);
    [ended, crashed]
}

/// All that matters: objects, and messages that are owed.
type State = (BTreeMap<u64, (Ownership, String)>, BTreeMap<u64, Box<[u8]>>);

fn state(directory: &Path) -> Result<State, LogError> {
    let directory = Directory::read_only(directory)?;
    let manifest = read_manifest(&directory)?.expect("there is a manifest");
    let router = Router::new(manifest.key(), 3);
    let contents = contents(&directory, manifest)?;
    let reading = Reading::new::<Texts>(&Codec::new(), Migrations::default());
    let meter = Meter::new(None, &contents);
    let found = recover::<Texts, NoPrefetch>(&directory, &contents, router, &[1, 2, 3], &reading, &meter)?;
    let objects = found.homes.iter().flat_map(Home::objects);
    let owed = found.owed.into_iter().map(|(send_id, (_, _, message))| (send_id.0, message));
    Ok((objects.map(|(id, ownership, text)| (id, (ownership, text.clone()))).collect(), owed.collect()))
}

/// A batch as it stands in a file.
#[derive(Clone, Debug)]
struct Stands {
    file: String,
    log: u64,
    offset: usize,
    /// Where its records end; padding is behind.
    end: usize,
    /// No other follows in its log, and the log's end is not known otherwise.
    is_last: bool,
}

/// A directory to be damaged, and what is known of it.
struct Patient {
    directory: PathBuf,
    files: Vec<(String, Vec<u8>)>,
    batches: Vec<Stands>,
    state: State,
    /// By log: the state without its last batch, if its loss can go unnoticed.
    without_last: BTreeMap<u64, Option<State>>,
}

/// How a file is damaged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Cut,
    /// This bit of a byte is flipped.
    Flip(u32),
}

impl Patient {
    fn new(directory: &Path) -> Self {
        let listed = Directory::read_only(directory).expect("it is there").list().expect("it can be listed");
        let read = |name: String| {
            let bytes = fs::read(directory.join(&name)).expect("it can be read");
            (name, bytes)
        };
        let files: Vec<_> = listed.into_iter().map(|(name, _)| read(name)).collect();
        let manifest = manifest(directory);
        let batches = Patient::batches(&files);
        let open = manifest.runs.iter().filter(|run| run.end.is_none()).flat_map(|run| &run.logs);
        let mut patient = Patient {
            directory: directory.to_path_buf(),
            files,
            batches,
            state: state(directory).expect("it is whole"),
            without_last: BTreeMap::new(),
        };
        for begin in open {
            let last = patient.batches.iter_mut().rfind(|batch| batch.log == begin.log);
            let Some(last) = last else { continue };
            last.is_last = true;
            let last = last.clone();
            let lost = patient.hurt(&last.file, |bytes| bytes[last.offset..last.end].fill(0), state);
            let before =
                |entry: &Entry<'_>| format!("log-{:08x}-{:08x}", entry.log, entry.segment) != last.file;
            // It is gone, and nothing else is.
            if let Ok(lost) = &lost {
                let (mut held, mut first) = (BTreeSet::new(), None);
                dump(directory, |entry| {
                    let of_last = !before(&entry) && entry.offset as usize == last.offset;
                    if of_last {
                        first.get_or_insert(entry.epoch);
                    }
                    if let (true, Record::Put { id, .. } | Record::Remove { id }) = (of_last, entry.record) {
                        held.insert(id.decode::<u64>().expect("an id"));
                    }
                })
                .expect("it is whole");
                dump(directory, |entry| {
                    if let Record::Put { id, .. } | Record::Remove { id } = entry.record
                        && first.is_some_and(|first| entry.epoch >= first)
                    {
                        held.insert(id.decode::<u64>().expect("an id"));
                    }
                })
                .expect("it is whole");
                let ids: BTreeSet<_> = lost.0.keys().chain(patient.state.0.keys()).collect();
                for id in ids.into_iter().filter(|id| lost.0.get(id) != patient.state.0.get(id)) {
                    assert!(held.contains(id), "object {id} was not in the batch that was lost");
                }
            }
            patient.without_last.insert(begin.log, lost.ok());
        }
        patient
    }

    /// The batches of all logs and of the checkpoint, in the order of the files.
    fn batches(files: &[(String, Vec<u8>)]) -> Vec<Stands> {
        let mut batches = Vec::new();
        for (name, bytes) in files {
            let part = name.strip_prefix("checkpoint-").and_then(|log| u64::from_str_radix(log, 16).ok());
            let Some(of) = parse_segment_name(name).or(part.map(|log| (log, 0))) else { continue };
            let log = of.0;
            let mut offset = 0;
            // Without damage, of this log and of this segment: a file that was a segment before has
            // batches of that one behind its own. (They were taken for the log's, once in some
            // thirty runs: where a batch too long for the last block had gone to the next segment.)
            let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight"));
            while offset < bytes.len()
                && bytes[offset..].starts_with(b"FHLB")
                && (number(offset + 24), number(offset + 32)) == of
            {
                let length = u32::from_le_bytes(bytes[offset + 8..offset + 12].try_into().expect("four"));
                let end = offset + length as usize;
                batches.push(Stands { file: name.clone(), log, offset, end, is_last: false });
                offset = end.next_multiple_of(BLOCK);
            }
        }
        batches
    }

    fn bytes(&self, file: &str) -> &[u8] {
        &self.files.iter().find(|(name, _)| name == file).expect("it is there").1
    }

    /// Looks at the directory with one file changed, and puts it back.
    fn hurt<R>(&self, file: &str, change: impl FnOnce(&mut Vec<u8>), look: impl FnOnce(&Path) -> R) -> R {
        let mut bytes = self.bytes(file).to_vec();
        change(&mut bytes);
        fs::write(self.directory.join(file), &bytes).expect("it can be written");
        let found = look(&self.directory);
        fs::write(self.directory.join(file), self.bytes(file)).expect("it can be written");
        found
    }

    /// Damages a file at `at`, and judges what is said of it.
    fn judge(&self, file: &str, at: usize, by: By) {
        let before = self.bytes(file);
        let path = self.directory.join(file);
        let writable = fs::File::options().write(true).open(&path).expect("it can be opened");
        let (case, from) = match by {
            By::Cut => {
                writable.set_len(at as u64).expect("it can be cut");
                (format!("{file}: cut at {at}"), &before[at..])
            }
            By::Flip(bit) => {
                writable.write_all_at(&[before[at] ^ 1 << bit], at as u64).expect("it can be written");
                (format!("{file}: bit {bit} of byte {at} is flipped"), &before[at..=at])
            }
        };
        let (recovered, verified) = (state(&self.directory), verify(&self.directory));
        writable.write_all_at(from, at as u64).expect("it can be written");

        let is_hit = |batch: &&Stands| match by {
            By::Cut => batch.file == file && at < batch.end,
            By::Flip(_) => batch.file == file && (batch.offset..batch.end).contains(&at),
        };
        let hit = self.batches.iter().find(is_hit);
        let is_last = hit.is_some_and(|hit| hit.is_last);
        match &recovered {
            Ok(state) => {
                let verified = verified.as_ref().unwrap_or_else(|error| panic!("{case}: {error}"));
                assert!(verified.damages.is_empty(), "{case}: {:?}", verified.damages);
                match hit {
                    None => {
                        assert_ne!(file, "manifest", "{case}");
                        assert!(*state == self.state, "{case}: harmless, and the state is another");
                    }
                    Some(hit) => {
                        assert!(is_last, "{case}: nobody noticed");
                        let expected = self.without_last[&hit.log].as_ref();
                        let expected = expected.unwrap_or_else(|| panic!("{case}: it can be noticed"));
                        assert!(state == expected, "{case}: more is lost than the last batch");
                    }
                }
            }
            Err(error) => {
                let (named, offset) = match error {
                    LogError::Damaged { file, offset, .. } => (file, *offset as usize),
                    LogError::Version { file, .. } => (file, 0),
                    error => panic!("{case}: {error}"),
                };
                let name = named.file_name().and_then(|name| name.to_str()).expect("it names a file");
                match hit {
                    None if file == "manifest" => assert_eq!(name, file, "{case}: {error}"),
                    // A segment that is too short is not trusted, whatever it lacks.
                    None => assert!(by == By::Cut && name == file && offset == at, "{case}: {error}"),
                    Some(_) if is_last => {
                        // That it is missing is known by what another log says, and which is behind
                        // is all that can be told.
                        assert!(parse_segment_name(name).is_some(), "{case}: {error}");
                    }
                    Some(hit) if name == file => {
                        let expected = if by == By::Cut { offset <= at } else { offset == hit.offset };
                        assert!(expected, "{case}: {error}");
                    }
                    // Where the log could be read to, in the segment before.
                    Some(hit) => {
                        let before =
                            self.batches.iter().rfind(|batch| batch.log == hit.log && batch.file < hit.file);
                        let before = before.unwrap_or_else(|| panic!("{case}: {error}"));
                        let is_first =
                            self.batches.iter().find(|batch| batch.file == file).map(|it| it.offset);
                        assert_eq!(
                            (name, offset),
                            (&*before.file, before.end.next_multiple_of(BLOCK)),
                            "{case}"
                        );
                        assert_eq!(is_first, Some(hit.offset), "{case}: {error}");
                    }
                }
                match verified {
                    Err(verified) => assert_eq!(verified.to_string(), error.to_string(), "{case}"),
                    Ok(verified) => {
                        let said: Vec<String> = verified.damages.iter().map(LogError::to_string).collect();
                        assert!(said.contains(&error.to_string()), "{case}: {error}, and verified: {said:?}");
                    }
                }
            }
        }
    }

    /// So many cases, from a seed.
    fn judge_many(&self, cases: u64, seed: u64) {
        let mut random = Pcg64Mcg::seed_from_u64(seed);
        let mut below = |end: usize| (random.next_u64() % end as u64) as usize;
        for _ in 0..cases {
            let (file, bytes) = &self.files[below(self.files.len())];
            let (choice, bit) = (below(8), below(8) as u32);
            let of_file: Vec<_> = self.batches.iter().filter(|batch| batch.file == *file).collect();
            match choice {
                0 => self.judge(file, below(bytes.len()), By::Cut),
                // A header, or something else that is written: most of a file is zeros.
                1..=2 if !of_file.is_empty() => {
                    self.judge(file, of_file[below(of_file.len())].offset + below(128), By::Flip(bit));
                }
                3..=4 if !of_file.is_empty() => {
                    let batch = of_file[below(of_file.len())];
                    self.judge(file, batch.offset + below(batch.end - batch.offset), By::Flip(bit));
                }
                _ => self.judge(file, below(bytes.len()), By::Flip(bit)),
            }
        }
    }
}

fn manifest(directory: &Path) -> Manifest {
    read_manifest(&Directory::read_only(directory).expect("it is there"))
        .expect("it can be read")
        .expect("there is one")
}

fn cases() -> u64 {
    // What takes some 5 seconds on two cores.
    let few = if cfg!(debug_assertions) { 1_000 } else { 10_000 };
    std::env::var("FREEHOLD_DAMAGES").map_or(few, |cases| cases.parse().expect("a number"))
}

#[test]
fn damage_is_named_or_harmless() {
    let databases = databases();
    let [ended, crashed] = databases.each_ref().map(|directory| Patient::new(directory.path()));
    assert!(ended.without_last.is_empty() && crashed.without_last.len() == 2);
    for patient in [&ended, &crashed] {
        let verified = verify(&patient.directory).expect("it is whole");
        assert!(verified.damages.is_empty(), "{:?}", verified.damages);
        assert_eq!((verified.runs.len(), verified.checkpoint.is_some()), (2, true));
        assert!(verified.runs.iter().all(|run| run.segments >= 4), "{verified:?}");
    }
    std::thread::scope(|scope| {
        scope.spawn(|| ended.judge_many(cases() / 2, 1));
        crashed.judge_many(cases() / 2, 2);
    });
    [&ended, &crashed].into_iter().for_each(what_is_missing_is_named);
    [&ended, &crashed].into_iter().for_each(another_version_is_named);
    every_damage_is_found(&ended);
}

/// Each file in turn is not there, or the manifest is cut to any length.
fn what_is_missing_is_named(patient: &Patient) {
    let is_open = |log| patient.without_last.contains_key(&log);
    for (file, _) in &patient.files {
        let path = patient.directory.join(file);
        let aside = patient.directory.join("aside");
        fs::rename(&path, &aside).expect("it can be renamed");
        let (verified, is_whole) = (verify(&patient.directory), Directory::read_only(&patient.directory));
        let manifest = read_manifest(&is_whole.expect("it is there"));
        let recovered =
            manifest.and_then(|manifest| manifest.map_or(Ok(None), |_| state(&patient.directory).map(Some)));
        fs::rename(&aside, &path).expect("it can be renamed");
        let segment = parse_segment_name(file);
        let mut of_log = patient.files.iter().filter_map(|(name, _)| parse_segment_name(name));
        let is_last = segment
            .is_some_and(|(log, number)| is_open(log) && of_log.all(|it| it.0 != log || it.1 <= number));
        let batches = patient.batches.iter().filter(|batch| batch.file == *file).count();
        match (recovered, verified) {
            (Err(LogError::NoManifest { .. }), Err(LogError::NoManifest { .. })) => {
                assert_eq!(file, "manifest")
            }
            (Err(LogError::Damaged { file: named, offset: 0, .. }), Ok(verified)) => {
                assert_eq!(named, path);
                assert!(
                    verified.damages[0].to_string().contains("the file is missing"),
                    "{:?}",
                    verified.damages
                );
                assert_eq!(verified.damages.len(), 1, "{file}: {:?}", verified.damages);
            }
            // The last segment of a log whose end is not known: it might never have been made. This
            // is the one thing that cannot be told from a crash, unless another log knows better.
            (Err(LogError::Damaged { .. }), _) => assert!(is_last, "{file}"),
            (Ok(recovered), Ok(verified)) => {
                assert!(verified.damages.is_empty(), "{file}: {:?}", verified.damages);
                assert!(recovered == Some(patient.state.clone()) && batches == 0 || is_last, "{file}");
            }
            (recovered, verified) => panic!("{file}: {recovered:?}, {verified:?}"),
        }
    }
    let manifest = patient.bytes("manifest");
    for length in 0..manifest.len() {
        let error = patient.hurt("manifest", |bytes| bytes.truncate(length), state).unwrap_err();
        let LogError::Damaged { file, .. } = &error else { panic!("{error}") };
        assert!(file.ends_with("manifest"), "{error}");
    }
}

/// By the polynomial, a bit at a time: no code of the library's.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    };
    !bytes.iter().fold(!0, step)
}

/// A manifest, or any batch, that is whole and says that it is of another version.
fn another_version_is_named(patient: &Patient) {
    let error = patient.hurt("manifest", |bytes| bytes[8] += 1, state).unwrap_err();
    assert!(
        matches!(&error, LogError::Version { file, found: 5, known: 4 } if file.ends_with("manifest")),
        "{error}"
    );
    for batch in &patient.batches {
        let change = |bytes: &mut Vec<u8>| {
            bytes[batch.offset + 52] += 1;
            let crc = crc32c(&bytes[batch.offset + 8..batch.end]);
            bytes[batch.offset + 4..batch.offset + 8].copy_from_slice(&crc.to_le_bytes());
        };
        let (recovered, verified) =
            patient.hurt(&batch.file, change, |directory| (state(directory), verify(directory)));
        let error = recovered.unwrap_err();
        assert!(
            matches!(&error, LogError::Version { file, found: 4, known: 3 } if file.ends_with(&batch.file)),
            "{error}"
        );
        let damages = verified.expect("there is a manifest").damages;
        assert!(damages.iter().any(|damage| matches!(damage, LogError::Version { .. })), "{damages:?}");
    }
}

/// Three damages in one log and one in another: recovery stops at the first, verifying goes on.
fn every_damage_is_found(patient: &Patient) {
    let of_file =
        |file: &str| -> Vec<_> { patient.batches.iter().filter(|batch| batch.file == file).collect() };
    let logs: BTreeSet<&str> = patient.batches.iter().map(|batch| &*batch.file).collect();
    let mut files = logs.into_iter().filter(|file| of_file(file).len() > 6 && file.starts_with("log-"));
    let (one, other) = (files.next().expect("there is one"), files.next_back().expect("there is another"));
    let change = |at: &[usize], file: &str| {
        let offsets: Vec<_> = at.iter().map(|at| of_file(file)[*at].offset + 30).collect();
        move |bytes: &mut Vec<u8>| offsets.iter().for_each(|offset| bytes[*offset] ^= 1)
    };
    let damages = patient.hurt(one, change(&[1, 3, 4], one), |_| {
        patient.hurt(other, change(&[0], other), |directory| {
            verify(directory).expect("there is a manifest").damages
        })
    });
    let places: Vec<_> = damages
        .iter()
        .map(|damage| match damage {
            LogError::Damaged { file, offset, .. } => {
                (file.file_name().expect("a name").to_str().expect("text"), *offset)
            }
            damage => panic!("{damage}"),
        })
        .collect();
    // Two that lie side by side are one gap.
    assert_eq!(places.len(), 3, "{damages:?}");
    assert_eq!(places[0], (one, of_file(one)[1].offset as u64));
    assert_eq!(places[1], (one, of_file(one)[3].offset as u64));
    let (mut all, mut records) = (0, BTreeMap::new());
    dump(&patient.directory, |entry| {
        all += 1;
        if segment_name(entry.log, entry.segment) == one {
            *records.entry(entry.offset as usize).or_insert(0) += 1;
        }
    })
    .expect("it is whole");
    // Not each has records: some only say how far their shard is.
    let damaged = of_file(one).iter().enumerate().skip(1).find_map(|(at, batch)| {
        let lost = records.get(&batch.offset)?;
        Some((at, *lost))
    });
    let (at, lost) = damaged.expect("one has records");
    let mut dumped = 0;
    let error =
        patient.hurt(one, change(&[at], one), |directory| dump(directory, |_| dumped += 1)).unwrap_err();
    assert!(matches!(error, LogError::Damaged { .. }), "{error}");
    assert_eq!(dumped, all - lost, "of {all}: what is behind the damage is given too");
}
