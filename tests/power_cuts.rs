//! The power is cut while a runtime with a log is at work: nothing that was acknowledged is lost,
//! nothing is torn, nothing is there twice.
//!
//! A life is a process of its own. It opens the log, says what is in it, and pays; the test hears
//! what is acknowledged, cuts the power of the file system, and kills the process. The next life
//! finds what is left. Only what was heard before the cut began counts. Some lives are cut off
//! while they open.
//!
//! Two ways to cut: an ext4 is shut down without its journal being written (what reached the disk
//! stays, nothing else does), and a file system that forgets what was not synced, and tears it
//! (`support/forgetful.rs`). Each has its control: without syncs the same test must find something
//! lost.
//!
//! By hand, for longer: `FREEHOLD_POWER_CUTS=100 cargo test --test power_cuts`, and a FREEHOLD_SEED
//! to see other cuts than usual.

mod support;

#[path = "support/forgetful.rs"]
mod forgetful;
#[path = "support/mounts.rs"]
mod mounts;
#[path = "support/payments.rs"]
mod payments;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use forgetful::Forgetful;
use freehold::{DiskOptions, LogConfig, Runtime};
use mounts::{Mount, again, in_own_mounts, make_image, skip};
use payments::{Books, Heard, Payments, Windows, config, pay};
use rand_pcg::Pcg32;
use rand_pcg::rand_core::{Rng, SeedableRng};
use support::Watchdog;
use support::patience::Patience;
use tempfile::TempDir;

/// What a life is told: its directory, its seed, and whether it syncs.
const DIRECTORY: &str = "FREEHOLD_LIFE_DIRECTORY";
const SEED: &str = "FREEHOLD_LIFE_SEED";
const WITHOUT_SYNCS: &str = "FREEHOLD_LIFE_WITHOUT_SYNCS";

/// How many cuts one disk lives through before it is made anew.
const CUTS_PER_DISK: u64 = 8;

/// How long a life may take to open its log.
const OPENING_MAX: Duration = Duration::from_secs(25);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// Small segments and checkpoints, so that all of it happens all the time.
fn log(directory: &Path) -> LogConfig {
    LogConfig {
        segment_bytes: 128 << 10,
        checkpoint_bytes: 512 << 10,
        disk: DiskOptions {
            without_syncs: std::env::var_os(WITHOUT_SYNCS).is_some(),
            ..DiskOptions::default()
        },
        ..LogConfig::at(directory)
    }
}

/// Says something to the test. If that is gone, so is this.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "={line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

#[test]
#[ignore = "a part of the others, in a process of its own"]
fn a_life() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let (directory, seed) = (PathBuf::from(directory), number(SEED).expect("it has a seed"));
    let open = |shards: u64| {
        let opened = Runtime::<Payments>::open(config(shards as usize), log(&directory));
        opened.unwrap_or_else(|error| {
            say(&format!("wrong {error}"));
            std::process::exit(1)
        })
    };
    println!(); // the harness has begun a line
    // What was owed has run before anybody looks.
    let report = open(1 + seed % 3).shutdown();
    if !report.drained {
        say(&format!("wrong what is left does not come to rest: {report}"));
    }
    let runtime = open(1 + seed / 3 % 3);
    let books = Books::read(&runtime.handle()).expect("nobody stops it");
    books.to_lines().iter().for_each(|line| say(&format!("account {line}")));
    say("ready");
    pay(&runtime.handle(), books.next(), u32::MAX, |client, window, told| {
        match told.iter().find(|told| told.is_err()) {
            None => say(&format!("acknowledged {client} {window}")),
            Some(failed) => say(&format!("failed {failed:?}")),
        }
    });
    say(&format!("wrong it stopped: {}", runtime.shutdown()));
    std::thread::sleep(Duration::from_secs(60));
}

/// What a life has said so far.
#[derive(Clone, Debug, Default)]
struct Said {
    books: Books,
    is_ready: bool,
    acknowledged: Windows,
    /// A payment was not answered `Ok`. Why, is `wrong` a little later.
    has_failed: bool,
    wrong: Option<String>,
    has_ended: bool,
}

impl Said {
    fn take(&mut self, line: &str) {
        let Some(line) = line.strip_prefix('=') else { return };
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        match what {
            "account" => self.books.add_line(rest),
            "ready" => self.is_ready = true,
            "acknowledged" => {
                let (client, window) = rest.split_once(' ').expect("two numbers");
                let client: usize = client.parse().expect("a number");
                self.acknowledged[client] = window.parse().expect("a number");
            }
            "failed" => self.has_failed = true,
            "wrong" => drop(self.wrong.get_or_insert(rest.to_string())),
            _ => panic!("nobody says {line}"),
        }
    }
}

/// Whether what is acknowledged was synced.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Syncs {
    Always,
    Never,
}

struct Life {
    process: Child,
    said: Arc<Mutex<Said>>,
}

impl Life {
    fn begin(directory: &Path, seed: u64, syncs: Syncs) -> Life {
        let mut command = again(&[], "a_life");
        command.env(DIRECTORY, directory).env(SEED, seed.to_string());
        if syncs == Syncs::Never {
            command.env(WITHOUT_SYNCS, "1");
        }
        let process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut process = process.expect("a test can run itself");
        let lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let said = Arc::new(Mutex::new(Said::default()));
        let hears = said.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                hears.lock().expect("nobody panics").take(&line);
            }
            hears.lock().expect("nobody panics").has_ended = true;
        });
        Life { process, said }
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().expect("nobody panics")
    }

    /// Waits until it has said so, or has ended, or for so long.
    fn wait_until(&self, at_most: Duration, has_said: impl Fn(&Said) -> bool) {
        let mut patience = Patience::of(at_most);
        let is_there = || has_said(&self.said()) || self.said().has_ended;
        let mut looks = 0_u32;
        while !is_there() {
            std::thread::sleep(Duration::from_millis(1));
            looks += 1;
            if looks.is_multiple_of(250) && patience.is_over() {
                return;
            }
        }
    }

    /// Kills it, and returns all it has said.
    fn end(mut self) -> Said {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // Its pipe has an end now.
        self.wait_until(OPENING_MAX, |_| false);
        self.said().clone()
    }

    /// Waits until it pays, or something is wrong, or for so long.
    fn wait_until_ready(&self, at_most: Duration) {
        self.wait_until(at_most, |said| said.is_ready || said.wrong.is_some());
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a log's directory is on.
trait Disk {
    /// Makes it anew, empty.
    fn renew(&mut self);
    /// Makes it usable, and says where the log is to be.
    fn mount(&mut self) -> PathBuf;
    fn cut(&mut self);
    fn unmount(&mut self);
}

/// An ext4 in a file.
struct Ext4 {
    place: TempDir,
    mount: Option<(Mount, Cutter)>,
}

/// A program that waits, with the file system open, to shut it down. (The system call would need
/// `unsafe` here.)
struct Cutter {
    process: Child,
    begin: ChildStdin,
    says: ChildStdout,
}

impl Cutter {
    /// `EXT4_IOC_SHUTDOWN`, with `EXT4_GOING_FLAGS_NOLOGFLUSH`.
    const PROGRAM: &str = "
import fcntl, os, struct, sys
place = os.open(sys.argv[1], os.O_RDONLY)
os.write(1, b'r')
if os.read(0, 1):
    fcntl.ioctl(place, 0x8004587d, struct.pack('I', 2))
    os.write(1, b'c')
";

    fn wait_at(place: &Path) -> Result<Cutter, String> {
        let mut python = Command::new("python3");
        let process = python
            .args(["-c", Self::PROGRAM])
            .arg(place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut process = process.map_err(|error| format!("python3: {error}"))?;
        let (begin, says) = (process.stdin.take(), process.stdout.take());
        let (begin, says) = (begin.expect("it is piped"), says.expect("it is piped"));
        let mut cutter = Cutter { process, begin, says };
        cutter.expect(b'r').map(|()| cutter)
    }

    fn expect(&mut self, what: u8) -> Result<(), String> {
        let mut said = [0];
        match self.says.read_exact(&mut said) {
            Ok(()) if said == [what] => Ok(()),
            _ => {
                let mut why = String::new();
                let _ = self.process.stderr.take().map(|mut stderr| stderr.read_to_string(&mut why));
                Err(format!("the file system cannot be shut down: {why}"))
            }
        }
    }

    fn cut(&mut self) -> Result<(), String> {
        self.begin.write_all(b"c").map_err(|error| error.to_string())?;
        self.expect(b'c')
    }
}

impl Ext4 {
    fn new() -> Result<Ext4, String> {
        // In memory, if that is to be had: it is the file system that is to be tested, and not the
        // disk.
        let place = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let mut disk = Ext4 { place: place.map_err(|error| error.to_string())?, mount: None };
        std::fs::create_dir(disk.at()).map_err(|error| error.to_string())?;
        make_image(&disk.image(), 48)?;
        disk.try_mount()?;
        let tried = disk.mount.as_mut().map_or(Ok(()), |(_, cutter)| cutter.cut());
        disk.unmount();
        tried.map(|()| disk)
    }

    fn at(&self) -> PathBuf {
        self.place.path().join("mount")
    }

    fn image(&self) -> PathBuf {
        self.place.path().join("image")
    }

    fn try_mount(&mut self) -> Result<(), String> {
        let mount = Mount::image(&self.image(), &self.at())?;
        let cutter = Cutter::wait_at(&self.at())?;
        self.mount = Some((mount, cutter));
        Ok(())
    }
}

impl Disk for Ext4 {
    fn renew(&mut self) {
        make_image(&self.image(), 48).expect("it could be made before");
    }

    fn mount(&mut self) -> PathBuf {
        self.try_mount().expect("it could be mounted before");
        self.at().join("log")
    }

    fn cut(&mut self) {
        let (_, cutter) = self.mount.as_mut().expect("it is mounted");
        cutter.cut().expect("it could be shut down before");
    }

    fn unmount(&mut self) {
        let Some((mount, Cutter { mut process, begin, .. })) = self.mount.take() else { return };
        drop(begin);
        process.wait().expect("it ends when it is told");
        mount.end();
    }
}

/// A forgetful file system.
struct Forgets {
    at: TempDir,
    seed: u64,
    disk: Forgetful,
    mount: Option<fuser::BackgroundSession>,
    /// Sectors forgotten, and files torn.
    damage: (u64, u64),
}

impl Forgets {
    fn new(seed: u64) -> Result<Forgets, String> {
        let at = tempfile::tempdir().map_err(|error| error.to_string())?;
        let mut disk = Forgets { at, seed, disk: Forgetful::new(seed), mount: None, damage: (0, 0) };
        disk.mount = Some(disk.disk.mount(disk.at.path()).map_err(|error| format!("no FUSE: {error}"))?);
        disk.unmount();
        Ok(disk)
    }
}

impl Disk for Forgets {
    fn renew(&mut self) {
        self.seed += 1;
        self.disk = Forgetful::new(self.seed);
    }

    fn mount(&mut self) -> PathBuf {
        self.mount = Some(self.disk.mount(self.at.path()).expect("it could be mounted before"));
        self.at.path().to_path_buf()
    }

    fn cut(&mut self) {
        let before = self.disk.damage();
        self.disk.cut();
        let (forgotten, torn) = self.disk.damage();
        self.damage.0 += forgotten - before.0;
        self.damage.1 += torn - before.1;
    }

    fn unmount(&mut self) {
        let Some(mount) = self.mount.take() else { return };
        Forgetful::unmount(mount, self.at.path());
    }
}

/// What came of it.
#[derive(Debug, Default)]
struct Outcome {
    cuts: u64,
    /// Of these, before it was open.
    while_opening: u64,
    /// Payments that were acknowledged before a cut, and looked for afterwards.
    acknowledged: u64,
    wrong: Vec<String>,
}

/// Begins lives and cuts them off, so many.
fn cut_off(disk: &mut dyn Disk, cuts: u64, syncs: Syncs, watchdog: &Watchdog) -> Outcome {
    let seed = number("FREEHOLD_SEED").unwrap_or(0x00F2_EE70);
    let mut random = Pcg32::seed_from_u64(seed);
    let mut draw = move |below: u64| random.next_u64() % below;
    let mut outcome = Outcome::default();
    while outcome.cuts < cuts {
        disk.renew();
        let (mut before, mut heard) = (Books::default(), Heard::default());
        let here = CUTS_PER_DISK.min(cuts - outcome.cuts);
        for cut in 0..=here {
            watchdog.feed();
            let directory = disk.mount();
            let life = Life::begin(&directory, draw(9), syncs);
            let is_last = cut == here;
            match draw(4) {
                0 if syncs == Syncs::Always && !is_last => {
                    std::thread::sleep(Duration::from_millis(draw(80)))
                }
                _ => life.wait_until_ready(OPENING_MAX),
            }
            if life.said().is_ready && !is_last {
                std::thread::sleep(Duration::from_micros(draw(200_000)));
            }
            // What is acknowledged from here on may be lost.
            let mut said = life.said().clone();
            if said.has_failed {
                life.wait_until(OPENING_MAX, |said| said.wrong.is_some());
                said = life.said().clone();
            }
            if !is_last {
                disk.cut();
                outcome.cuts += 1;
                outcome.while_opening += u64::from(!said.is_ready);
            }
            // It may have opened and paid between that look and the cut. Nothing of it was
            // acknowledged then, but the next life goes on from its windows: without its books a
            // window that the cut before it tore would be taken for a whole one.
            let in_the_end = life.end();
            if in_the_end.is_ready && !said.is_ready {
                said = Said { acknowledged: Windows::default(), wrong: said.wrong, ..in_the_end };
            }
            disk.unmount();
            let mut wrong = said.wrong.map(|wrong| format!("it went wrong: {wrong}"));
            if said.is_ready {
                outcome.acknowledged += heard.payments(before.windows());
                wrong = wrong.or(said.books.judge(&before, &heard).err());
                before = said.books;
                heard = Heard { windows: said.acknowledged, ..Heard::default() };
                let begun = before.windows();
                heard.windows.iter_mut().zip(begun).for_each(|(heard, begun)| *heard = begun.max(*heard));
            } else if is_last || said.has_ended {
                wrong = wrong.or(Some("it does not open".to_string()));
            }
            if let Some(wrong) = wrong {
                outcome.wrong.push(format!("seed {seed}, cut {}: {wrong}", outcome.cuts));
                break;
            }
        }
        if syncs == Syncs::Always && !outcome.wrong.is_empty() {
            break;
        }
    }
    outcome
}

fn cuts(usually: u64) -> u64 {
    number("FREEHOLD_POWER_CUTS").unwrap_or(usually)
}

/// Says past the harness what was done, because how much that is depends on the machine.
fn tell(test: &str, begun: Instant, outcome: &Outcome) {
    let Outcome { cuts, while_opening, acknowledged, wrong } = outcome;
    let took = begun.elapsed().as_secs_f32();
    let _ = writeln!(
        std::io::stderr(),
        "\n{test}: {cuts} cuts, {while_opening} of them while it opened; {acknowledged} payments acknowledged; {} wrong; {took:.1} s",
        wrong.len(),
    );
}

fn nothing_is_lost(test: &'static str, disk: Result<impl Disk, String>, usually: u64) {
    let (watchdog, begun) = (Watchdog::new(test), Instant::now());
    let mut disk = match disk {
        Ok(disk) => disk,
        Err(why) => return skip(test, &why),
    };
    let outcome = cut_off(&mut disk, cuts(usually), Syncs::Always, &watchdog);
    tell(test, begun, &outcome);
    assert!(outcome.wrong.is_empty(), "{outcome:#?}");
    assert!(outcome.acknowledged > 0, "nothing was acknowledged, so nothing was tested: {outcome:?}");
}

fn something_is_lost(test: &'static str, disk: Result<impl Disk, String>) {
    let (watchdog, begun) = (Watchdog::new(test), Instant::now());
    let mut disk = match disk {
        Ok(disk) => disk,
        Err(why) => return skip(test, &why),
    };
    let outcome = cut_off(&mut disk, 3, Syncs::Never, &watchdog);
    tell(test, begun, &outcome);
    assert!(!outcome.wrong.is_empty(), "nothing was synced, and nothing lost: the test cannot fail");
}

#[test]
fn ext4_loses_nothing_that_was_acknowledged() {
    let test = "ext4_loses_nothing_that_was_acknowledged";
    in_own_mounts(test, || nothing_is_lost(test, Ext4::new(), 16));
}

#[test]
fn ext4_without_syncs_loses_something() {
    let test = "ext4_without_syncs_loses_something";
    in_own_mounts(test, || something_is_lost(test, Ext4::new()));
}

#[test]
fn a_forgetful_file_system_loses_nothing_that_was_acknowledged() {
    let test = "a_forgetful_file_system_loses_nothing_that_was_acknowledged";
    in_own_mounts(test, || nothing_is_lost(test, Forgets::new(1), 24));
}

#[test]
fn a_forgetful_file_system_without_syncs_loses_something() {
    let test = "a_forgetful_file_system_without_syncs_loses_something";
    in_own_mounts(test, || something_is_lost(test, Forgets::new(1)));
}
