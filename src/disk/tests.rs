use std::cell::Cell;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use glommio::{LocalExecutorBuilder, Placement};
use rustix::fs::OFlags;
use rustix::io::Errno;
use tempfile::TempDir;

use super::directory::{Directory, Options};
use super::error::LogError;
use super::faults::{Fault, Faults};
use super::file::{BLOCK_BYTES, LogFile};
use crate::guard::Guard;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Runs on an executor of its own, on a thread of its own.
fn on_an_executor<T: Send>(run: impl AsyncFnOnce() -> T + Send) -> T {
    let run = || {
        let executor = LocalExecutorBuilder::new(Placement::Unbound).io_memory(64 << 10);
        // As on a shard: a busy executor looks no more often at what the disk has done.
        let executor = executor.preempt_timer(Duration::from_millis(1)).make();
        executor.expect("a test can make an executor").run(async {
            // As on a shard, too: beside busy loops an executor falls asleep with tasks that are ready.
            let mut guard = Guard::new();
            let keep = glommio::spawn_local(async move {
                loop {
                    guard.keep(Instant::now());
                    glommio::timer::sleep(Duration::from_millis(2)).await;
                }
            });
            let done = run().await;
            keep.cancel().await;
            done
        })
    };
    std::thread::scope(|scope| scope.spawn(run).join()).expect("the test's part on the executor passes")
}

fn temporary() -> TempDir {
    tempfile::tempdir().expect("a test can make a directory")
}

fn open(path: &Path) -> Directory {
    Directory::open(path).expect("it can be opened")
}

fn faulty(path: &Path, fault: Fault, after: u64) -> (Directory, Arc<Faults>) {
    let faults = Arc::new(Faults::new(fault, after));
    let options = Options { faults: Some(faults.clone()), ..Options::default() };
    (Directory::open_with(path, options).expect("it can be opened"), faults)
}

fn names(directory: &Directory) -> Vec<String> {
    directory.list().expect("it can be listed").into_iter().map(|(name, _)| name).collect()
}

#[test]
fn a_directory_is_open_once_until_the_last_clone_is_dropped() {
    let place = temporary();
    let first = open(place.path());
    let refused = Directory::open(place.path());
    assert!(
        matches!(&refused, Err(LogError::InUse { directory }) if directory == first.path()),
        "{refused:?}"
    );
    let clone = first.clone();
    drop(first);
    assert!(matches!(Directory::open(place.path()), Err(LogError::InUse { .. })));
    drop(clone);
    open(place.path());
}

#[test]
fn who_only_reads_locks_nothing_and_makes_nothing() {
    let place = temporary();
    let reader = Directory::read_only(place.path()).expect("it is there");
    assert_eq!(fs::read_dir(place.path()).expect("it is there").count(), 0);
    let owner = open(place.path());
    owner.replace("manifest", b"one").expect("it is ours");
    assert_eq!(reader.read("manifest").expect("it is there"), b"one");
    Directory::read_only(place.path()).expect("a lock keeps no reader out");

    let missing = place.path().join("missing");
    let refused = Directory::read_only(&missing);
    assert!(
        matches!(&refused, Err(LogError::Io { source, .. }) if source.kind() == ErrorKind::NotFound),
        "{refused:?}"
    );
    assert!(!missing.exists());
    let plain = Directory::read_only(&place.path().join("manifest"));
    assert!(matches!(plain, Err(LogError::NotADirectory { .. })), "{plain:?}");
    let wrote = std::panic::catch_unwind(|| reader.replace("manifest", b"two"));
    assert!(wrote.is_err() && names(&owner) == ["manifest"], "who has no lock writes nothing");
    assert_eq!(owner.read("manifest").expect("it is there"), b"one");
}

#[test]
fn a_directory_is_made_with_its_parents_and_not_over_a_file() {
    let place = temporary();
    let directory = open(&place.path().join("a/./b/c"));
    let real = place.path().canonicalize().expect("it is there");
    assert_eq!(directory.path(), real.join("a/b/c"));
    assert_eq!(directory.file("x"), real.join("a/b/c/x"));

    fs::write(place.path().join("file"), "").expect("a test can write a file");
    for path in ["file", "file/below", "file/below/it"] {
        let refused = Directory::open(&place.path().join(path));
        assert!(matches!(refused, Err(LogError::NotADirectory { .. })), "{path}: {refused:?}");
    }
}

#[test]
fn a_list_has_files_only_and_their_lengths() {
    let place = temporary();
    let directory = open(place.path());
    directory.replace("b", b"four").expect("it is ours");
    directory.replace("a", b"").expect("it is ours");
    fs::create_dir(directory.file("c")).expect("a test can make a directory");
    assert_eq!(directory.list().expect("it is there"), [("a".to_string(), 0), ("b".to_string(), 4)]);
    directory.rename("b", "d").expect("it is there");
    directory.remove("a").expect("it is there");
    assert_eq!(names(&directory), ["d"]);
    let removed = directory.remove("a").expect_err("it is gone");
    assert!(removed.to_string().starts_with("removing /"), "{removed}");
}

#[test]
fn what_is_replaced_is_kept_as_old() {
    for syncs in [true, false] {
        let place = temporary();
        let options = Options { syncs, ..Options::default() };
        let directory = Directory::open_with(place.path(), options).expect("it can be opened");
        let read = |name| String::from_utf8(directory.read(name).expect("it is there")).expect("it is text");
        directory.replace("manifest", b"one").expect("it is ours");
        assert_eq!(names(&directory), ["manifest"]);
        for (new, old) in [("two, longer", "one"), ("3", "two, longer")] {
            directory.replace("manifest", new.as_bytes()).expect("it is ours");
            assert_eq!((read("manifest"), read("manifest.old")), (new.to_string(), old.to_string()));
            assert_eq!(names(&directory), ["manifest", "manifest.old"]);
        }
    }
}

/// A replacement that was cut off after any of its steps leaves the old content, and nothing in the way of the next.
#[test]
fn a_replacement_goes_on_from_wherever_the_last_one_was_cut_off() {
    for steps in 0..=4 {
        let place = temporary();
        let directory = open(place.path());
        directory.replace("manifest", b"zero").expect("it is ours");
        directory.replace("manifest", b"one").expect("it is ours");
        let at = |name: &str| directory.file(name);
        let cut_off: [&dyn Fn() -> std::io::Result<()>; 4] = [
            &|| fs::write(at("manifest.new"), b"tw"),
            &|| fs::hard_link(at("manifest"), at("manifest.old.new")),
            &|| fs::rename(at("manifest.old.new"), at("manifest.old")),
            &|| fs::hard_link(at("manifest"), at("manifest.old.new")), // the next was cut off as well
        ];
        cut_off[..steps].iter().for_each(|step| step().expect("a test can do what we do"));
        assert_eq!(directory.read("manifest").expect("it is there"), b"one");
        let inode = |name| fs::metadata(at(name)).expect("it is there").ino();
        let one = inode("manifest");
        directory.replace("manifest", b"three").expect("it is ours");
        assert_eq!(directory.read("manifest").expect("it is there"), b"three");
        assert_eq!(directory.read("manifest.old").expect("it is there"), b"one", "after {steps} steps");
        assert_eq!(names(&directory), ["manifest", "manifest.old"], "after {steps} steps");
        assert!(inode("manifest.old") == one && inode("manifest") != one, "no file is written over");
    }
}

/// The flags of the one descriptor this process has open for a file.
fn open_flags(path: &Path) -> OFlags {
    let is_it = |descriptor: &fs::DirEntry| fs::read_link(descriptor.path()).is_ok_and(|file| file == path);
    let descriptors = fs::read_dir("/proc/self/fd").expect("it is there").flatten();
    let found: Vec<_> = descriptors.filter(is_it).map(|descriptor| descriptor.file_name()).collect();
    let [descriptor] = &found[..] else { panic!("{} is open {} times", path.display(), found.len()) };
    let about = fs::read_to_string(Path::new("/proc/self/fdinfo").join(descriptor)).expect("it is open");
    let flags = about.lines().find_map(|line| line.strip_prefix("flags:")).expect("it has flags");
    OFlags::from_bits_retain(u32::from_str_radix(flags.trim(), 8).expect("they are octal"))
}

/// Makes a file, writes to it, opens it again and writes, and reads all of it.
fn write_and_read_back(place: &Path, syncs: bool) -> bool {
    let options = Options { syncs, ..Options::default() };
    let directory = Directory::open_with(place, options).expect("it can be opened");
    // Two pieces of zeros, and one that is smaller.
    let bytes = (2 << 20) + 3 * BLOCK;
    let block = |fill: u8| vec![fill; BLOCK_BYTES];
    let is_direct = on_an_executor(async || {
        let file = LogFile::create(&directory, "segment", bytes).await.expect("it can be made");
        assert_eq!(file.bytes(), bytes);
        let on_disk = fs::read(directory.file("segment")).expect("it is there");
        assert!(on_disk.len() as u64 == bytes && on_disk.iter().all(|&byte| byte == 0));
        let blocks = fs::metadata(directory.file("segment")).expect("it is there").blocks();
        assert!(blocks * 512 >= bytes, "all of it was written, and not only made so long");

        file.write(&[block(1), block(2)].concat(), 0).await.expect("there is room");
        file.write(&[], BLOCK).await.expect("nothing can be written anywhere");
        file.write(&block(3), bytes - BLOCK).await.expect("there is room");
        file.close().await.expect("it can be closed");

        let file = LogFile::open(&directory, "segment").await.expect("it can be opened");
        assert_eq!(file.bytes(), bytes);
        let flags = open_flags(&directory.file("segment"));
        assert_eq!(flags.contains(OFlags::DSYNC), syncs, "{flags:?}");
        assert_eq!(flags.contains(OFlags::DIRECT), file.is_direct(), "{flags:?}");
        file.write(&vec![4; 50 * BLOCK_BYTES], 2 * BLOCK).await.expect("more than the executor's memory");
        file.write(&block(5), BLOCK).await.expect("there is room");
        let is_direct = file.is_direct();
        file.close().await.expect("it can be closed");
        is_direct
    });
    let on_disk = fs::read(directory.file("segment")).expect("it is there");
    assert_eq!(on_disk.len() as u64, bytes);
    for (number, block) in on_disk.chunks(BLOCK_BYTES).enumerate() {
        let expected = match number {
            0 => 1,
            1 => 5,
            2..52 => 4,
            _ if (number + 1) * BLOCK_BYTES == on_disk.len() => 3,
            _ => 0,
        };
        assert!(block.iter().all(|&byte| byte == expected), "block {number} is of {}", block[0]);
    }
    is_direct
}

#[test]
fn a_file_holds_what_was_written() {
    let place = temporary();
    write_and_read_back(place.path(), true);
    fs::remove_file(place.path().join("segment")).expect("it is there");
    write_and_read_back(place.path(), false);
}

/// On tmpfs, where glommio opens a `DmaFile` that is none.
#[test]
fn a_file_in_memory_is_written_through_the_page_cache() {
    let place = tempfile::tempdir_in("/dev/shm").expect("Linux has it");
    assert!(!write_and_read_back(place.path(), true));
}

#[test]
fn a_file_is_made_once_and_must_be_there_to_be_opened() {
    let place = temporary();
    let directory = open(place.path());
    on_an_executor(async || {
        let missing = LogFile::open(&directory, "segment").await;
        assert!(
            matches!(&missing, Err(LogError::Io { source, .. }) if source.kind() == ErrorKind::NotFound),
            "{missing:?}"
        );
        let file = LogFile::create(&directory, "segment", BLOCK).await.expect("it can be made");
        file.write(&[7; BLOCK_BYTES], 0).await.expect("there is room");
        let again = LogFile::create(&directory, "segment", BLOCK).await;
        assert!(
            matches!(&again, Err(LogError::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists),
            "{again:?}"
        );
    });
    assert_eq!(directory.read("segment").expect("it is there"), [7; BLOCK_BYTES]);
}

#[test]
fn a_file_that_is_open_keeps_the_directory_locked() {
    let place = temporary();
    let directory = open(place.path());
    on_an_executor(async || {
        let file = LogFile::create(&directory, "segment", BLOCK).await.expect("it can be made");
        drop(directory);
        assert!(matches!(Directory::open(place.path()), Err(LogError::InUse { .. })));
        file.close().await.expect("it can be closed");
        open(place.path());
    });
}

#[test]
fn other_tasks_run_while_a_file_is_made() {
    let place = temporary();
    let directory = open(place.path());
    on_an_executor(async || {
        let turns = Rc::new(Cell::new(0));
        let counting = turns.clone();
        let other = glommio::spawn_local(async move {
            loop {
                counting.set(counting.get() + 1);
                glommio::executor().yield_task_queue_now().await;
            }
        });
        LogFile::create(&directory, "segment", 8 << 20).await.expect("it can be made");
        assert!(turns.get() >= 8, "{} turns beside 8 writes", turns.get());
        other.cancel().await;
    });
}

#[test]
fn a_write_fails_as_the_disk_would_fail_it() {
    let [eio, enospc] = [Errno::IO, Errno::NOSPC];
    for (fault, on_disk) in [
        (Fault::Error { errno: eio, written: 0 }, 0),
        (Fault::Error { errno: eio, written: BLOCK_BYTES }, 1),
        (Fault::Error { errno: enospc, written: 2 * BLOCK_BYTES }, 2),
        (Fault::Short { written: 0 }, 0),
        (Fault::Short { written: BLOCK_BYTES }, 1),
    ] {
        let place = temporary();
        let (directory, faults) = faulty(place.path(), fault, 1);
        on_an_executor(async || {
            let file = LogFile::create(&directory, "segment", 8 * BLOCK).await.expect("it can be made");
            assert_eq!(faults.writes(), 0);
            let two = vec![1; 2 * BLOCK_BYTES];
            file.write(&two, 0).await.expect("the first write passes");
            let error = file.write(&two, 2 * BLOCK).await.expect_err("the second write fails");
            match (fault, &error) {
                (Fault::Error { errno, .. }, LogError::Io { action: "writing", source, .. }) => {
                    assert_eq!((errno, Errno::from_io_error(source)), (Errno::IO, Some(Errno::IO)));
                }
                (Fault::Error { errno, .. }, LogError::NoSpace { .. }) => assert_eq!(errno, Errno::NOSPC),
                (
                    Fault::Short { written: reported },
                    &LogError::ShortWrite { offset, written, wanted, .. },
                ) => {
                    assert_eq!((offset, written, wanted), (2 * BLOCK, reported, 2 * BLOCK_BYTES));
                }
                _ => panic!("{fault:?} came as {error:?}"),
            }
            assert!(error.to_string().contains(&*directory.file("segment").to_string_lossy()), "{error}");
            file.write(&two, 4 * BLOCK).await.expect("the third write passes");
            assert_eq!(faults.writes(), 3);
        });
        let segment = fs::File::open(directory.file("segment")).expect("it is there");
        let first_of = |block: u64| {
            let mut byte = [0];
            segment.read_exact_at(&mut byte, block * BLOCK).expect("it is so long");
            byte[0]
        };
        let blocks: Vec<u8> = (0..8).map(first_of).collect();
        let second = match on_disk {
            0 => [0, 0],
            1 => [1, 0],
            _ => [1, 1],
        };
        assert_eq!(blocks, [1, 1, second[0], second[1], 1, 1, 0, 0], "{fault:?}");
    }
}

#[test]
fn a_full_disk_and_a_used_up_quota_are_told_apart_from_other_errors() {
    let error = |errno: Errno| LogError::io("writing", Path::new("/srv/log/segment"), errno.into());
    for errno in [Errno::NOSPC, Errno::DQUOT, Errno::FBIG] {
        assert!(matches!(error(errno), LogError::NoSpace { .. }), "{errno}");
    }
    let failing = error(Errno::IO);
    assert!(matches!(failing, LogError::Io { .. }));
    let said = failing.to_string();
    assert!(said.starts_with("writing /srv/log/segment failed: Input/output error"), "{said}");
}
