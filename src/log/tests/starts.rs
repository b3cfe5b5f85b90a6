//! A start that ends half-way leaves a directory that can be opened.

use freehold_shard::log::LogBatch;
use freehold_shard::recovery::LogReader;

use super::*;
use crate::error::StartError;

/// A start that fails where it makes the first segment of this log; and what it leaves behind.
fn fail_to_start(directory: &Path, shards: usize, log: u64) {
    let in_the_way = directory.join(segment_name(log, 0));
    fs::create_dir_all(&in_the_way).expect("it can be made");
    let log = LogConfig { segment_bytes: SEGMENT, ..LogConfig::at(directory) };
    let config = Config { shards: Shards::Count(shards), ..Config::default() };
    assert!(Runtime::<Texts>::open(config, log).is_err());
    fs::remove_dir(&in_the_way).expect("it is there");
}

// The first start of all made its segments before there was a manifest. If it ended between the
// two, the next found logs that nobody vouched for, and refused.
#[test]
fn a_first_start_that_ends_half_way_can_be_repeated() {
    let directory = tempfile::tempdir().expect("there is room");
    fail_to_start(directory.path(), 2, 0);
    fs::write(directory.path().join("manifest.new"), "half of").expect("it can be written");
    open(directory.path(), 2).shutdown();
}

// A start let go of the logs of a run that had left nothing before the manifest on disk forgot that
// run. If it ended between the two, the next missed the files.
#[test]
fn a_start_that_ends_half_way_leaves_what_the_manifest_names() {
    let [directory, crashed] = [(); 2].map(|()| tempfile::tempdir().expect("there is room"));
    let mut random = Pcg64Mcg::seed_from_u64(3);
    let runtime = open(directory.path(), 1);
    work(&runtime, &mut random, 5);
    runtime.shutdown();
    let runtime = open(directory.path(), 2);
    // It runs and has not done anything.
    copy(directory.path(), crashed.path());
    runtime.shutdown();
    let before = state(crashed.path()).expect("it is whole");
    fail_to_start(crashed.path(), 1, manifest(crashed.path()).next_log);
    assert!(state(crashed.path()).expect("it still is") == before);
    open(crashed.path(), 1).shutdown();
    assert!(state(crashed.path()).expect("it still is") == before);
}

// A write of a process that was killed may come to the disk after the next start has written down
// where the log ends. It is a whole batch that goes on where the log ended, and nobody was told of
// it; it was once taken for damage.
#[test]
fn a_batch_that_comes_late_is_nothing() {
    let place = tempfile::tempdir().expect("there is room");
    let runtime = open(place.path(), 1);
    runtime.handle().ask(Message::Put(1, "there".to_string())).wait().expect("it is put");
    runtime.shutdown();
    let before = state(place.path()).expect("nothing is wrong");
    let manifest = manifest(place.path());
    let run = manifest.runs.last().expect("there was a run");
    let (log, (segment, mut tail)) = (run.logs[0].log, run.end.as_ref().expect("it was shut down").logs[0]);
    let mut late = BatchWriter::new(manifest.bounds());
    assert!(late.push(Epoch(0xffff), &[6, 1]), "it fits");
    let marks = Marks { closed: Epoch(0xfffe), ..Marks::default() };
    late.seal(SegmentId { database: manifest.database, log, segment, start: run.start }, &mut tail, &marks);
    let file = fs::File::options().write(true).open(place.path().join(segment_name(log, segment)));
    let end = BLOCK as u64 * (tail.sequence - 1);
    file.expect("it is there").write_all_at(late.sealed(), end).expect("there is room");
    assert_eq!(state(place.path()).expect("nothing is wrong"), before);
    let mut given = 0;
    dump(place.path(), |entry| given += usize::from(entry.epoch == Epoch(0xffff))).expect("it can be read");
    assert_eq!(given, 0, "its records are nobody's");
    assert!(verify(place.path()).expect("it can be read").damages.is_empty());
}

/// A log that was written by a later version, which has kinds of records that this one does not
/// know, is refused whole. Nothing in the directory changes, so that the later version can open it.
#[test]
fn a_record_of_a_later_version_is_refused_and_nothing_is_lost() {
    let [place, crashed] = [(); 2].map(|()| tempfile::tempdir().expect("there is room"));
    let runtime = open(place.path(), 1);
    runtime.handle().ask(Message::Put(1, "there".to_string())).wait().expect("it is put");
    // As it is after a crash.
    copy(place.path(), crashed.path());
    runtime.shutdown();
    let before = state(crashed.path()).expect("nothing is wrong");
    let manifest = manifest(crashed.path());
    let run = manifest.runs.last().expect("there was a run");
    let name = segment_name(run.logs[0].log, 0);
    let of = SegmentId { database: manifest.database, log: run.logs[0].log, segment: 0, start: run.start };
    let bytes = fs::read(crashed.path().join(&name)).expect("it is there");
    let (mut reader, mut last) = (LogReader::new(of, manifest.bounds(), Tail::default()), 0);
    reader.read(&bytes, |batch: LogBatch<'_>| last = batch.offset as u64).expect("it is whole");
    let (end, mut tail) = (last + BLOCK as u64, reader.end().1);
    // It says how it goes on: what was durable may be missing nowhere.
    let mut later = BatchWriter::new(manifest.bounds());
    let epoch = Epoch(1 << 40);
    for record in [[6, 1], [12, 1], [6, 1]] {
        assert!(later.push(epoch, &record), "it fits");
    }
    later.seal(of, &mut tail, &Marks { closed: epoch, ..Marks::default() });
    let file = fs::File::options().write(true).open(crashed.path().join(&name)).expect("it is there");
    file.write_all_at(later.sealed(), end).expect("there is room");

    let files = || {
        let files = fs::read_dir(crashed.path()).expect("it is there");
        let files = files.map(|file| file.expect("it is listed").path());
        BTreeMap::from_iter(files.map(|file| (file.clone(), fs::read(file).expect("it can be read"))))
    };
    let written = files();
    for _ in 0..2 {
        let config = Config { shards: Shards::Count(1), ..Config::default() };
        let log = LogConfig { segment_bytes: SEGMENT, ..LogConfig::at(crashed.path()) };
        match Runtime::<Texts>::open(config, log).err() {
            Some(StartError::Log(LogError::Damaged { file, offset, what, advice, .. })) => {
                assert_eq!((file, offset), (crashed.path().join(&name), end));
                assert!(what.starts_with("record 2 of batch"), "{what}");
                assert!(advice.starts_with("open the directory with the latest version"), "{advice}");
            }
            other => panic!("it is refused: {other:?}"),
        }
        assert!(files() == written, "nothing is touched");
    }
    // What a later version did is there still. Without it all is as it was.
    file.write_all_at(&vec![0; later.sealed().len()], end).expect("there is room");
    assert!(state(crashed.path()).expect("nothing is wrong") == before);
}
