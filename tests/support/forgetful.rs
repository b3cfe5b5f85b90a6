//! A file system in memory that forgets, when its power is cut, what was not synced; and what it
//! keeps of that all the same is as bad as can be: any part of the blocks that were written, sector
//! by sector, and of the names that were changed any number of the first.
//!
//! One directory with files, for one process. It is honest about what was synced: fsync of a file
//! keeps its content and its length and says nothing of names; fsync of the directory keeps names
//! and says nothing of content.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};
use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::Rng;
use tempfile::TempDir;

/// What a disk writes as a whole.
const SECTOR: usize = 512;
/// Nothing is cached by the kernel that this does not say.
const TTL: Duration = Duration::ZERO;

#[derive(Debug, Default, Clone)]
struct File {
    now: Vec<u8>,
    /// As it was last synced.
    kept: Vec<u8>,
    /// Sectors written since.
    dirty: BTreeSet<usize>,
}

type Names = BTreeMap<String, u64>;

#[derive(Debug)]
struct Disk {
    files: BTreeMap<u64, File>,
    names: Names,
    /// The names as they were synced, and after each change since but the last.
    names_before: Vec<Names>,
    next: u64,
    random: Pcg64Mcg,
    has_power: bool,
    /// After so many more syncs of names, one fails.
    fails_after: Option<u64>,
    /// Sectors that were written and not synced, and what became of them.
    forgotten: u64,
    torn: u64,
}

impl File {
    fn write(&mut self, offset: usize, data: &[u8]) {
        let end = offset + data.len();
        if self.now.len() < end {
            self.now.resize(end, 0);
        }
        self.now[offset..end].copy_from_slice(data);
        self.dirty.extend(offset / SECTOR..end.div_ceil(SECTOR));
    }

    fn keep_sector(&mut self, sector: usize) {
        let begin = sector * SECTOR;
        let end = (begin + SECTOR).min(self.now.len());
        if begin >= end {
            return;
        }
        if self.kept.len() < end {
            self.kept.resize(end, 0);
        }
        self.kept[begin..end].copy_from_slice(&self.now[begin..end]);
    }

    fn sync(&mut self) {
        for sector in std::mem::take(&mut self.dirty) {
            self.keep_sector(sector);
        }
        self.kept.resize(self.now.len(), 0);
    }
}

impl Disk {
    fn change_names(&mut self, change: impl FnOnce(&mut Names)) {
        self.names_before.push(self.names.clone());
        change(&mut self.names);
    }

    fn inode(&self, name: &OsStr) -> Result<u64, Errno> {
        name.to_str().and_then(|name| self.names.get(name)).copied().ok_or(Errno::ENOENT)
    }

    fn file(&mut self, ino: INodeNo) -> Result<&mut File, Errno> {
        self.files.get_mut(&ino.0).ok_or(Errno::ENOENT)
    }

    fn attributes(&self, ino: u64) -> Result<FileAttr, Errno> {
        let (kind, size, nlink) = match self.files.get(&ino) {
            _ if ino == INodeNo::ROOT.0 => (FileType::Directory, 0, 2),
            Some(file) => {
                let names = self.names.values().filter(|named| **named == ino).count();
                (FileType::RegularFile, file.now.len() as u64, names as u32)
            }
            None => return Err(Errno::ENOENT),
        };
        Ok(FileAttr {
            ino: INodeNo(ino),
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: if kind == FileType::Directory { 0o755 } else { 0o644 },
            nlink,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    /// A number below `below`.
    fn draw(&mut self, below: u64) -> u64 {
        self.random.next_u64() % below
    }

    /// Forgets.
    fn cut(&mut self) {
        self.has_power = false;
        let inodes: Vec<u64> = self.files.keys().copied().collect();
        for inode in inodes {
            // Of a hundred: none of it, some of it, nearly all, all.
            let keeps = [0, 50, 95, 100][self.draw(4) as usize];
            let Some(mut file) = self.files.remove(&inode) else { continue };
            let sectors = std::mem::take(&mut file.dirty);
            let written = sectors.len() as u64;
            let kept = sectors.into_iter().filter(|_| self.draw(100) < keeps).collect::<Vec<_>>();
            self.forgotten += written - kept.len() as u64;
            self.torn += u64::from(!kept.is_empty() && written > kept.len() as u64);
            kept.into_iter().for_each(|sector| file.keep_sector(sector));
            file.now = file.kept.clone();
            self.files.insert(inode, file);
        }
        let changes = self.names_before.len() as u64;
        let kept = self.draw(changes + 1) as usize;
        if let Some(names) = self.names_before.get(kept) {
            self.names = names.clone();
        }
        self.names_before.clear();
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        self.files.retain(|inode, _| named.contains(inode));
    }
}

/// The disk, whose power can be cut. Clones are the same.
#[derive(Clone, Debug)]
pub struct Forgetful {
    disk: Arc<Mutex<Disk>>,
    /// Whether syncs of files wait.
    hangs: Arc<(Mutex<bool>, Condvar)>,
    /// How many milliseconds each takes.
    sync_ms: Arc<AtomicU64>,
}

impl Forgetful {
    /// An empty one, which forgets as `seed` says.
    pub fn new(seed: u64) -> Forgetful {
        let disk = Disk {
            files: BTreeMap::new(),
            names: Names::new(),
            names_before: Vec::new(),
            next: INodeNo::ROOT.0 + 1,
            random: Pcg64Mcg::new(u128::from(seed) << 1 | 1),
            has_power: true,
            fails_after: None,
            forgotten: 0,
            torn: 0,
        };
        Forgetful { disk: Arc::new(Mutex::new(disk)), hangs: Arc::default(), sync_ms: Arc::default() }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().expect("nobody panics with it")
    }

    /// The disk, if there is power.
    fn powered(&self) -> Result<MutexGuard<'_, Disk>, Errno> {
        let disk = self.disk();
        if disk.has_power { Ok(disk) } else { Err(Errno::EIO) }
    }

    /// Gives it power and mounts it, until what is returned is dropped.
    pub fn mount(&self, at: &Path) -> std::io::Result<BackgroundSession> {
        self.disk().has_power = true;
        fuser::spawn_mount(self.clone(), at, &fuser::Config::default())
    }

    /// Unmounts it, as soon as whoever used it has let go of it.
    pub fn unmount(session: BackgroundSession, at: &Path) {
        crate::mounts::unmount(at, Duration::from_secs(2));
        // It may find itself mounted still, and then that it is not.
        let _ = session.umount_and_join();
    }

    /// Whatever was not synced is forgotten, and nothing is written or read from now on.
    pub fn cut(&self) {
        self.disk().cut();
    }

    /// After so many more syncs of the directory, one fails: what it should have kept may be kept
    /// or not.
    pub fn fail_after(&self, syncs: u64) {
        self.disk().fails_after = Some(syncs);
    }

    /// Has syncs of files wait from now on, or no longer. As long as one waits, so does all else.
    pub fn hang(&self, hangs: bool) {
        *self.hangs.0.lock().expect("nobody panics with it") = hangs;
        self.hangs.1.notify_all();
    }

    /// Has syncs of files take so many milliseconds from now on, and all else wait meanwhile.
    pub fn slow(&self, sync_ms: u64) {
        self.sync_ms.store(sync_ms, Ordering::SeqCst);
    }

    /// Whether that has happened since it was last asked; if not, it does not happen any more.
    pub fn has_failed(&self) -> bool {
        self.disk().fails_after.take().is_none()
    }

    /// How many sectors were ever forgotten, and how many files were left torn.
    pub fn damage(&self) -> (u64, u64) {
        let disk = self.disk();
        (disk.forgotten, disk.torn)
    }

    fn entry(&self, find: impl FnOnce(&mut Disk) -> Result<u64, Errno>, reply: ReplyEntry) {
        let found = self.powered().and_then(|mut disk| {
            let inode = find(&mut disk)?;
            disk.attributes(inode)
        });
        match found {
            Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn done(&self, does: impl FnOnce(&mut Disk) -> Result<(), Errno>, reply: ReplyEmpty) {
        match self.powered().and_then(|mut disk| does(&mut disk)) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }
}

fn text(name: &OsStr) -> String {
    name.to_str().expect("a log's names are text").to_string()
}

impl Filesystem for Forgetful {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.entry(|disk| disk.inode(name), reply);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.powered().and_then(|disk| disk.attributes(ino.0)) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = self.powered().and_then(|mut disk| {
            if let Some(size) = size {
                let file = disk.file(ino)?;
                let (from, to) = (file.now.len().min(size as usize), file.now.len().max(size as usize));
                file.now.resize(size as usize, 0);
                file.dirty.extend(from / SECTOR..to.div_ceil(SECTOR));
            }
            disk.attributes(ino.0)
        });
        match set {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn create(&self, _: &Request, _: INodeNo, name: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        let made = self.powered().and_then(|mut disk| {
            let inode = disk.next;
            disk.next += 1;
            disk.files.insert(inode, File::default());
            disk.change_names(|names| {
                names.insert(text(name), inode);
            });
            disk.attributes(inode)
        });
        match made {
            Ok(attributes) => {
                reply.created(&TTL, &attributes, Generation(0), FileHandle(0), FopenFlags::empty());
            }
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.powered() {
            Ok(_) => reply.opened(FileHandle(0), FopenFlags::empty()),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut disk = match self.powered() {
            Ok(disk) => disk,
            Err(error) => return reply.error(error),
        };
        match disk.file(ino) {
            Ok(file) => {
                let begin = (offset as usize).min(file.now.len());
                let end = (begin + size as usize).min(file.now.len());
                reply.data(&file.now[begin..end]);
            }
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let written =
            self.powered().and_then(|mut disk| disk.file(ino).map(|file| file.write(offset as usize, data)));
        match written {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let hangs = self.hangs.0.lock().expect("nobody panics with it");
        drop(self.hangs.1.wait_while(hangs, |hangs| *hangs).expect("nobody panics with it"));
        std::thread::sleep(Duration::from_millis(self.sync_ms.load(Ordering::SeqCst)));
        self.done(|disk| disk.file(ino).map(File::sync), reply);
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let sync = |disk: &mut Disk| {
            disk.fails_after = match disk.fails_after {
                Some(0) => {
                    disk.fails_after = None;
                    return Err(Errno::EIO);
                }
                syncs => syncs.map(|syncs| syncs - 1),
            };
            disk.names_before.clear();
            Ok(())
        };
        self.done(sync, reply);
    }

    fn unlink(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let remove = |disk: &mut Disk| {
            disk.inode(name)?;
            disk.change_names(|names| {
                names.remove(&text(name));
            });
            Ok(())
        };
        self.done(remove, reply);
    }

    fn rename(
        &self,
        _: &Request,
        _: INodeNo,
        name: &OsStr,
        _: INodeNo,
        to: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let rename = |disk: &mut Disk| {
            let inode = disk.inode(name)?;
            disk.change_names(|names| {
                names.remove(&text(name));
                names.insert(text(to), inode);
            });
            Ok(())
        };
        self.done(rename, reply);
    }

    fn link(&self, _: &Request, ino: INodeNo, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let link = |disk: &mut Disk| {
            disk.change_names(|names| {
                names.insert(text(name), ino.0);
            });
            Ok(ino.0)
        };
        self.entry(link, reply);
    }

    fn readdir(&self, _: &Request, _: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let disk = match self.powered() {
            Ok(disk) => disk,
            Err(error) => return reply.error(error),
        };
        let own = [".", ".."].map(|name| (INodeNo::ROOT.0, FileType::Directory, name.to_string()));
        let files = disk.names.iter().map(|(name, inode)| (*inode, FileType::RegularFile, name.clone()));
        for (at, (inode, kind, name)) in own.into_iter().chain(files).enumerate().skip(offset as usize) {
            if reply.add(INodeNo(inode), at as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 4096, 255, 4096);
    }
}

/// A forgetful file system that another process serves: one that has files open there itself must
/// not, because when it ends, however it ends, it has to close them, and nobody is left to answer
/// that.
pub struct Served {
    process: Child,
    asks: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    at: TempDir,
}

impl Served {
    /// To be the body of an ignored test of this name, which is that process.
    pub const TEST: &str = "a_disk";
    const AT: &str = "FREEHOLD_DISK_AT";
    const SEED: &str = "FREEHOLD_DISK_SEED";

    /// Serves, in that process, what the other asks.
    pub fn serve() {
        let (Some(at), Ok(seed)) = (std::env::var_os(Self::AT), std::env::var(Self::SEED)) else { return };
        let (at, disk) = (Path::new(&at), Forgetful::new(seed.parse().expect("a number")));
        let mut session = None;
        println!(); // the harness has begun a line
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let answer = match line.split_once(' ').unwrap_or((&line, "")) {
                ("mount", _) => match disk.mount(at) {
                    Ok(mounted) => {
                        session = Some(mounted);
                        "yes".to_string()
                    }
                    Err(error) => error.to_string(),
                },
                ("unmount", _) => {
                    session.take().into_iter().for_each(|session| Forgetful::unmount(session, at));
                    "yes".to_string()
                }
                ("fail", after) => {
                    disk.fail_after(after.parse().expect("a number"));
                    "yes".to_string()
                }
                ("hang", hangs) => {
                    disk.hang(hangs == "on");
                    "yes".to_string()
                }
                ("slow", sync_ms) => {
                    disk.slow(sync_ms.parse().expect("a number"));
                    "yes".to_string()
                }
                ("failed", _) => if disk.has_failed() { "yes" } else { "no" }.to_string(),
                ("cut", _) => {
                    disk.cut();
                    "yes".to_string()
                }
                _ => panic!("nobody asks {line}"),
            };
            println!("={answer}");
        }
        session.into_iter().for_each(|session| Forgetful::unmount(session, at));
    }

    /// An empty one, mounted.
    pub fn mounted(seed: u64) -> Result<Served, String> {
        let at = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut command = crate::mounts::again(&[], Self::TEST);
        command.env(Self::AT, at.path()).env(Self::SEED, seed.to_string());
        let process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = process.expect("a test can run itself");
        let asks = process.stdin.take().expect("it is piped");
        let answers = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let mut served = Served { process, asks, answers, at };
        match served.ask("mount") {
            answer if answer == "yes" => Ok(served),
            why => Err(format!("no FUSE: {why}")),
        }
    }

    /// Where.
    pub fn at(&self) -> &Path {
        self.at.path()
    }

    fn ask(&mut self, what: &str) -> String {
        writeln!(self.asks, "{what}").expect("it listens");
        let answer = self
            .answers
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix('=').map(String::from));
        answer.expect("it answers")
    }

    /// As [`Forgetful::fail_after`].
    pub fn fail_after(&mut self, syncs: u64) {
        self.ask(&format!("fail {syncs}"));
    }

    /// As [`Forgetful::has_failed`].
    pub fn has_failed(&mut self) -> bool {
        self.ask("failed") == "yes"
    }

    /// Has syncs of files wait,
    pub fn hang(&mut self) {
        self.ask("hang on");
    }

    /// and no longer.
    pub fn go_on(&mut self) {
        self.ask("hang off");
    }

    /// As [`Forgetful::slow`].
    pub fn slow(&mut self, sync_ms: u64) {
        self.ask(&format!("slow {sync_ms}"));
    }

    /// Cuts its power.
    pub fn cut(&mut self) {
        self.ask("cut");
    }

    /// Unmounts what is left and mounts it anew, with power.
    pub fn mount_again(&mut self) {
        self.ask("unmount");
        assert_eq!(self.ask("mount"), "yes");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = writeln!(self.asks, "unmount");
        let _ = self.answers.find(|line| line.as_ref().map_or(true, |line| line.starts_with('=')));
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
