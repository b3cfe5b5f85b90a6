use std::cell::Cell;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use glommio::{LocalExecutorBuilder, Placement};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use rustix::io::Errno;
use tempfile::TempDir;

use super::directory::{Absent, Directory, Options};
use super::error::LogError;
use super::faults::{WriteFault, WriteFaults};
use super::file::{BLOCK_BYTES, LogFile, NewFile};
use crate::core::stall_timer::StallTimer;

const BLOCK: u64 = BLOCK_BYTES as u64;

/// Runs on an executor of its own, on a thread of its own.
fn on_an_executor<T: Send>(run: impl AsyncFnOnce() -> T + Send) -> T {
    let run = || {
        let executor = LocalExecutorBuilder::new(Placement::Unbound).io_memory(64 << 10);
        // As on a shard: a busy executor looks no more often at what the disk has done.
        let executor = executor.preempt_timer(Duration::from_millis(1)).make();
        executor.expect("a test can make an executor").run(async {
            // As on a shard, too: beside busy loops an executor falls asleep with tasks that are
            // ready.
            let mut stall_timer = StallTimer::new();
            let keep = glommio::spawn_local(async move {
                loop {
                    stall_timer.keep(Instant::now());
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

fn faulty(path: &Path, fault: WriteFault, after: u64) -> (Directory, Arc<WriteFaults>) {
    let faults = Arc::new(WriteFaults::new(fault, after));
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

// `checkpoint-notes.txt`, `checkpoint-before-upgrade.tar.gz`, `checkpoint-00000001.bak` and
// `log-dead-beef` looked like files of the log, and the next start removed them.
#[test]
fn a_list_has_files_of_ours_only_and_their_lengths() {
    let place = temporary();
    let directory = open(place.path());
    let [segment, part] = ["log-00000002-0000000a", "checkpoint-00000003"];
    directory.replace(part, b"four").expect("it is ours");
    directory.replace(segment, b"").expect("it is ours");
    fs::create_dir(directory.file("lost+found")).expect("a test can make a directory");
    let others = [
        "checkpoint-00000001.bak",
        "checkpoint-before-upgrade.tar.gz",
        "checkpoint-notes.txt",
        "log-dead-beef",
    ];
    others.iter().for_each(|name| fs::write(directory.file(name), "mine").expect("a test can write a file"));
    assert_eq!(directory.list().expect("it is there"), [(part.to_string(), 4), (segment.to_string(), 0)]);
    let listed = directory.list_others().expect("it is there");
    assert_eq!(listed, others.map(|name| (name.to_string(), 4)), "directories are nobody's concern");

    directory.rename(part, "spare-1").expect("it is there");
    directory.remove(segment).expect("it is there");
    assert_eq!(names(&directory), ["spare-1"]);
    let removed = directory.remove(segment).expect_err("it is gone");
    assert!(removed.to_string().starts_with("removing /"), "{removed}");
}

// A directory of symbolic links to a database's files opened as an empty one: links were no files,
// so they were passed over.
#[test]
fn what_has_a_name_of_ours_and_is_no_plain_file_is_refused() {
    let place = temporary();
    let elsewhere = place.path().join("elsewhere");
    fs::write(&elsewhere, "far").expect("a test can write a file");
    type Make<'a> = &'a dyn Fn(&Path);
    let kinds: [(&str, Make<'_>); 4] = [
        ("a symbolic link", &|at| symlink(&elsewhere, at).expect("a test can make a link")),
        ("a symbolic link", &|at| symlink("nowhere", at).expect("a test can make a link")),
        ("a directory", &|at| fs::create_dir(at).expect("a test can make a directory")),
        ("no plain file", &|at| {
            mknodat(CWD, at, FileType::Fifo, Mode::RUSR, 0).expect("a test can make a fifo")
        }),
    ];
    for name in ["manifest", "manifest.old", "log-00000000-00000000", "checkpoint-00000001", "spare-1"] {
        for (number, (what, make)) in kinds.iter().enumerate() {
            let directory = open(&place.path().join(format!("{name}-{number}")));
            make(&directory.file(name));
            let reader = Directory::read_only(directory.path()).expect("it is there");
            for listed in [directory.list(), reader.list()] {
                let refused = listed.expect_err("it cannot be listed without it");
                let LogError::NotAFile { file, what: found } = &refused else { panic!("{refused}") };
                assert_eq!((file, found), (&directory.file(name), what));
            }
            if *what == "a symbolic link" {
                let read = reader.read(name);
                assert!(matches!(read, Err(LogError::NotAFile { .. })), "no link is followed: {read:?}");
            }
            fs::rename(directory.file(name), directory.file("mine")).expect("it is there");
            assert_eq!(names(&directory), [""; 0], "what has another name is left alone");
        }
    }
    symlink(&elsewhere, place.path().join("lock")).expect("a test can make a link");
    let refused = Directory::open(place.path());
    assert!(
        matches!(&refused, Err(LogError::NotAFile { file, .. }) if file.ends_with("lock")),
        "{refused:?}"
    );
}

// A child that another thread forked had copies of the descriptors until it ran its program. The
// directory was locked for as long, and a standby that took over could not open it.
#[test]
fn a_directory_that_was_left_can_be_opened_whoever_has_a_copy_of_its_descriptors() {
    let place = temporary();
    let first = open(place.path());
    let copies = first.copies();
    drop(first);
    drop(open(place.path()));
    drop(copies);
}

// The file `lock` was removed, by somebody who tidied up, and the next runtime made a new one and
// locked that: two wrote one directory.
#[test]
fn a_lock_that_was_removed_is_still_held() {
    let place = temporary();
    let first = open(place.path());
    for _ in 0..2 {
        fs::remove_file(first.file("lock")).expect("it is there");
        let refused = Directory::open(place.path());
        assert!(matches!(refused, Err(LogError::InUse { .. })), "{refused:?}");
        fs::write(first.file("lock"), "").expect("a test can write a file");
    }
    first.unlock();
    drop(open(place.path()));
    // As earlier versions lock a directory, and find it locked.
    let earlier = fs::File::options().write(true).open(first.file("lock")).expect("it is there");
    earlier.try_lock().expect("nobody has it");
    assert!(matches!(Directory::open(place.path()), Err(LogError::InUse { .. })));
    earlier.unlock().expect("it was locked");
    let ours = open(place.path());
    assert!(matches!(earlier.try_lock(), Err(fs::TryLockError::WouldBlock)));
    drop(ours);
}

// `mv data data.old` while a runtime had `data` open: another made a new `data`, and the first
// wrote its manifest over the other's. What the other had acknowledged was gone.
#[test]
fn a_directory_that_is_moved_is_still_the_one_that_is_written() {
    let place = temporary();
    let [before, after] = ["data", "data.old"].map(|name| place.path().join(name));
    let moved = open(&before);
    moved.replace("manifest", b"one").expect("it is ours");
    on_an_executor(async || {
        let file = LogFile::create(&moved, "log-00000000-00000000", BLOCK).await.expect("it can be made");
        fs::rename(&before, &after).expect("a test can move a directory");
        let other = open(&before);
        other.replace("manifest", b"theirs").expect("it is ours");
        other.create_zeroed("spare-1", BLOCK).expect("it is ours");

        assert_eq!(moved.read("manifest").expect("it is there"), b"one");
        moved.replace("manifest", b"two").expect("it is ours");
        moved.write("checkpoint-00000001", b"part").expect("it is ours");
        moved.create_zeroed("spare-2", BLOCK).expect("it is ours");
        moved.rename("spare-2", "log-00000000-00000001").expect("it is there");
        moved.remove("checkpoint-00000001").expect("it is there");
        moved.cut("manifest.old", 1).expect("it is there");
        file.write(&[1; BLOCK_BYTES], 0).await.expect("there is room");
        file.close().await.expect("it can be closed");
        for name in ["log-00000000-00000000", "log-00000000-00000001"] {
            LogFile::open(&moved, name).await.expect("it is there").close().await.expect("it can be closed");
        }
        let made = LogFile::create(&moved, "spare-3", BLOCK).await.expect("it can be made");
        made.close().await.expect("it can be closed");
        let mut part = NewFile::create(&moved, "checkpoint-00000002").await.expect("it can be made");
        part.append(&[2; BLOCK_BYTES]).await.expect("there is room");
        assert_eq!(part.finish().await.expect("it can be closed"), BLOCK);
        other.copy_in(&moved, "checkpoint-00000002", "checkpoint-00000009").expect("it is there");
        assert!(other.link_in(&moved, "spare-3", "spare-9").expect("it is there"));
        assert_eq!(moved.names_of("spare-3").expect("it is there"), 2);
        moved.sync().expect("it is there");

        let of_moved = [
            "checkpoint-00000002",
            "log-00000000-00000000",
            "log-00000000-00000001",
            "manifest",
            "manifest.old",
            "spare-3",
        ];
        assert_eq!(names(&moved), of_moved);
        assert_eq!(names(&Directory::read_only(&after).expect("it is there")), of_moved);
        assert_eq!(names(&other), ["checkpoint-00000009", "manifest", "spare-1", "spare-9"]);
        assert_eq!(fs::read(after.join("manifest.old")).expect("it is there"), b"o");
        assert_eq!(fs::read(before.join("manifest")).expect("it is there"), b"theirs");
        assert!(matches!(Directory::open(&after), Err(LogError::InUse { .. })), "the lock has moved with it");
    });
}

#[test]
fn without_proc_it_is_said_what_is_missing() {
    let place = temporary();
    let directory = open(place.path());
    let me = [std::process::id().to_string()];
    let path = directory.by_descriptor_in(Path::new("/proc"), &me, Some("x")).expect("it is mounted");
    assert!(path.starts_with("/proc") && path.ends_with("x"), "{}", path.display());
    // None there, and one of another name space, where the number is another's.
    let other = ["1".to_string(), "self".to_string()];
    for (proc, processes, is_found) in
        [("/proc.not", &me[..], false), ("/proc", &other[..1], false), ("/proc", &other, true)]
    {
        let found = directory.by_descriptor_in(Path::new(proc), processes, None);
        assert_eq!(found.is_ok(), is_found, "{proc}: {found:?}");
        if let Err(error) = found {
            assert!(matches!(&error, LogError::NoProc { .. }), "{error}");
            assert!(error.to_string().contains("mount /proc"), "{error}");
        }
    }
}

// Segments and manifests were made 0644 and directories 0755: every account of the machine could
// read the objects.
#[test]
fn new_files_and_directories_are_their_owners_alone() {
    let place = temporary();
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    let directory = open(&place.path().join("parent/data"));
    assert_eq!(
        [place.path().join("parent"), directory.path().to_path_buf()].map(|path| mode(&path)),
        [0o700; 2]
    );
    directory.replace("manifest", b"one").expect("it is ours");
    directory.replace("manifest", b"two").expect("it is ours");
    directory.create_zeroed("spare-1", BLOCK).expect("it is ours");
    directory.copy_in(&directory, "spare-1", "spare-4").expect("it is there");
    on_an_executor(async || {
        let file = LogFile::create(&directory, "spare-2", BLOCK).await.expect("it can be made");
        file.close().await.expect("it can be closed");
        let part = NewFile::create(&directory, "checkpoint-00000001").await.expect("it can be made");
        part.finish().await.expect("it can be closed");
    });
    let listed = names(&directory);
    assert_eq!(listed.len(), 6);
    for name in listed.iter().map(String::as_str).chain(["lock"]) {
        assert_eq!(mode(&directory.file(name)), 0o600, "{name}");
    }
    let theirs = place.path().join("theirs");
    fs::create_dir(&theirs).expect("a test can make a directory");
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o750)).expect("it is ours");
    open(&theirs);
    assert_eq!(mode(&theirs), 0o750, "what is there stays as it is");
}

#[test]
fn what_is_to_be_left_alone_is_left_as_it_was() {
    let place = temporary();
    let options = || Options { absent: Absent::LeftAlone, ..Options::default() };
    let missing = place.path().join("missing/data");
    let refused = Directory::open_with(&missing, options());
    assert!(
        matches!(&refused, Err(LogError::NoDatabase { directory }) if *directory == missing),
        "{refused:?}"
    );
    let count = || fs::read_dir(place.path()).expect("it is there").count();
    let empty = Directory::open_with(place.path(), options()).expect("it is there");
    assert_eq!((names(&empty).len(), count()), (0, 0), "nothing is made");
    drop(empty);
    open(place.path()).replace("manifest", b"one").expect("it is ours");
    fs::remove_file(place.path().join("lock")).expect("it is there");
    let ours = Directory::open_with(place.path(), options()).expect("it is there");
    assert!(
        count() == 2 && place.path().join("lock").exists(),
        "earlier versions are kept out of a database"
    );
    drop(ours);
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

/// A replacement that was cut off after any of its steps leaves the old content, and nothing in the
/// way of the next.
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
            // The next was cut off as well.
            &|| fs::hard_link(at("manifest"), at("manifest.old.new")),
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
fn write_and_read_back(place: &Path, options: Options) -> bool {
    let syncs = options.syncs;
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
    write_and_read_back(place.path(), Options::default());
    fs::remove_file(place.path().join("segment")).expect("it is there");
    write_and_read_back(place.path(), Options { syncs: false, ..Options::default() });
}

/// On tmpfs, where glommio opens a `DmaFile` that is none.
#[test]
fn a_file_in_memory_is_written_through_the_page_cache() {
    let place = tempfile::tempdir_in("/dev/shm").expect("Linux has it");
    assert!(!write_and_read_back(place.path(), Options::default()));
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
        (WriteFault::Error { errno: eio, written: 0 }, 0),
        (WriteFault::Error { errno: eio, written: BLOCK_BYTES }, 1),
        (WriteFault::Error { errno: enospc, written: 2 * BLOCK_BYTES }, 2),
        (WriteFault::Short { written: 0 }, 0),
        (WriteFault::Short { written: BLOCK_BYTES }, 1),
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
                (WriteFault::Error { errno, .. }, LogError::Io { action: "writing", source, .. }) => {
                    assert_eq!((errno, Errno::from_io_error(source)), (Errno::IO, Some(Errno::IO)));
                }
                (WriteFault::Error { errno, .. }, LogError::NoSpace { .. }) => {
                    assert_eq!(errno, Errno::NOSPC)
                }
                (
                    WriteFault::Short { written: reported },
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
