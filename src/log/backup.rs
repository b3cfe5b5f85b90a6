//! Backups of a log's directory, taken while a runtime writes it or while none does, and brought
//! back into an empty directory.
//!
//! A backup is a directory like any other: a runtime can open it, and [`inspect`] can look at it.
//! It holds everything that was acknowledged before [`backup`] was called, and of every transaction
//! all or nothing.
//!
//! - Files are linked where they can be, which takes no time and no room: parts of checkpoints, and
//!   segments that are full. A runtime uses no segment again, and cuts none, that has a second
//!   name. The segments that are being written are copied.
//! - The logs are read twice, because one is copied before the other. What they said before the
//!   first copy was made decides which epoch is the last complete one
//!   ([`last_complete_in_copies`]). The manifest of the backup says that, and where each log ends,
//!   so what is behind it in any log counts for nothing.
//! - Everything is read back before the backup gets its manifest. Until then it has a file
//!   `unfinished-copy`, and cannot be opened.
//!
//! ```no_run
//! use std::path::Path;
//! use freehold::backup::{Files, backup, restore};
//!
//! let made = backup(Path::new("/var/lib/ledger"), Path::new("/var/lib/ledger.monday"), Files::Linked)?;
//! println!("everything up to epoch {}", made.epoch.0);
//! restore(Path::new("/var/lib/ledger.monday"), Path::new("/var/lib/ledger.new"))?;
//! # Ok::<(), freehold::backup::BackupError>(())
//! ```

use std::path::{Path, PathBuf};

pub use freehold_shard::Epoch;
use freehold_shard::manifest::{Manifest, RunEnd};
use freehold_shard::recovery::{Survey, last_complete_in_copies};
use thiserror::Error;

use super::contents::{
    Contents, Ended, Source, Surveyed, contents, cuts, damaged, floor, read, read_manifest, strangers, survey,
};
use super::{MANIFEST, inspect};
use crate::disk::directory::Directory;
use crate::disk::error::LogError;
use crate::disk::name::{PIN, UNFINISHED};

/// How often a backup begins again because a checkpoint removed files before they were copied.
const TRIES_MAX: usize = 16;

/// How often a log is copied again because it was written while it was copied.
const COPIES_MAX: usize = 16;

/// How many segments of a log may be written to: the one that is being filled, and the next.
const OPEN_SEGMENTS: usize = 2;

/// How a backup gets its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Files {
    /// By hard links, where the file system has them and the files are not written any more;
    /// otherwise by copies. It takes little time and room, and does not help against a disk that
    /// fails.
    Linked,
    /// By copies only.
    Copied,
}

/// A backup that was made, or brought back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backup {
    /// Everything that was committed up to this epoch is in it, and nothing that was committed
    /// later.
    pub epoch: Epoch,
    /// How many files it has, beside its manifest.
    pub files: usize,
    /// How many of them are hard links.
    pub linked: usize,
    /// How long they are.
    pub bytes: u64,
}

/// Why there is no backup. What was made of it is removed, and the directory it was taken from is
/// as it was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The directory that was to be filled has files of a database.
    #[error("{} has a file of a database ({file}): name an empty directory, or one that can be made", .directory.display())]
    NotEmpty {
        /// Which directory.
        directory: PathBuf,
        /// One of the files.
        file: String,
    },
    /// Checkpoints removed files faster than they could be copied.
    #[error(
        "{} changed {tries} times while it was copied: take the backup on the same file system, where files are linked, or raise \
         checkpoint_bytes", .directory.display()
    )]
    NeverStill {
        /// Which directory.
        directory: PathBuf,
        /// How often it was tried.
        tries: usize,
    },
    /// What is wrong with one of the directories.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Copies or links a database into an empty directory, or one that is made, also while a runtime
/// has it open.
///
/// # Errors
/// See [`BackupError`]: damage, above all, as [`inspect::verify`] finds it.
pub fn backup(from: &Path, to: &Path, files: Files) -> Result<Backup, BackupError> {
    let from = Directory::read_only(from)?;
    let to = Filling::begin(to)?;
    for _ in 0..TRIES_MAX {
        let filled = to.fill(&from, files).and_then(|filled| match filled {
            Some((manifest, backup)) => to.finish(&manifest).map(|()| Some(backup)),
            None => to.clear().map(|()| None),
        });
        match filled {
            Ok(Some(backup)) => return Ok(backup),
            Ok(None) => {}
            Err(error) => {
                to.give_up();
                return Err(error.into());
            }
        }
    }
    to.give_up();
    Err(BackupError::NeverStill { directory: from.path().to_path_buf(), tries: TRIES_MAX })
}

/// Copies a backup into an empty directory, or one that is made, for a runtime to open. The backup
/// stays as it is.
///
/// Never copy a backup over a directory that has a database in it: files would be left there that
/// are newer than the backup's manifest, and a start refuses that ([`LogError::NewerFiles`]).
///
/// # Errors
/// See [`BackupError`]: damage, above all, before anything is copied.
pub fn restore(from: &Path, to: &Path) -> Result<Backup, BackupError> {
    if let Some(damage) = inspect::verify(from)?.damages.into_iter().next() {
        return Err(damage.into());
    }
    backup(from, to, Files::Copied)
}

/// A directory that is being filled.
struct Filling {
    directory: Directory,
}

impl Filling {
    fn begin(path: &Path) -> Result<Filling, BackupError> {
        let directory = Directory::open(path)?;
        let filling = Filling { directory };
        let files = filling.directory.list()?;
        let is_unfinished = files.iter().any(|(name, _)| name == UNFINISHED);
        let has_manifest = files.iter().any(|(name, _)| name == MANIFEST);
        if is_unfinished && !has_manifest {
            // Of a copy that ended half-way. There was nothing of a database before it.
            filling.clear()?;
        } else if let Some((file, _)) = files.into_iter().find(|(name, _)| is_of_a_database(name)) {
            let directory = filling.directory.path().to_path_buf();
            return Err(BackupError::NotEmpty { directory, file });
        }
        filling.directory.write(UNFINISHED, &[])?;
        filling.directory.sync()?;
        Ok(filling)
    }

    /// Removes what was copied.
    fn clear(&self) -> Result<(), LogError> {
        let files = self.directory.list()?.into_iter().map(|(name, _)| name);
        files.filter(|name| name != UNFINISHED).try_for_each(|name| self.directory.remove(&name))
    }

    fn give_up(&self) {
        // The error that is told is another. What stays is known to be unfinished.
        if self.clear().is_ok() {
            let _ = self.directory.remove_if_there(UNFINISHED);
        }
    }

    fn finish(&self, manifest: &Manifest) -> Result<(), LogError> {
        self.directory.sync()?;
        self.directory.replace(MANIFEST, &manifest.to_bytes())?;
        self.directory.remove_if_there(UNFINISHED)?;
        self.directory.sync()
    }

    /// Takes all files, and says what the manifest is to be; or `None` if it has to begin again.
    fn fill(&self, from: &Directory, files: Files) -> Result<Option<(Manifest, Backup)>, LogError> {
        let Some(mut manifest) = read_manifest(from)? else {
            return Err(LogError::NoManifest { directory: from.path().to_path_buf() });
        };
        let is_as_it_was =
            || Ok::<_, LogError>(read_manifest(from)?.is_some_and(|now| is_same(&now, &manifest)));
        let found = contents(from, manifest.clone())?;
        if let Some(error) = strangers(from, &found)? {
            // Whoever makes files counts their numbers first, in a manifest that names the same
            // ones.
            let is_the_same = read_manifest(from)?.as_ref() == Some(&manifest);
            return if is_the_same { Err(error) } else { Ok(None) };
        }
        // What the logs say before the first of them is copied.
        let before: Vec<Survey> = found
            .sources
            .iter()
            .filter(|source| is_open(source))
            .map(|source| said(from, &found, source))
            .collect();
        // Of every log all that is on disk by now is copied: the files are listed again.
        let found = contents(from, manifest.clone())?;
        let mut taken = Taken { from, to: &self.directory, files, linked: 0, is_pinned: true };
        for source in &found.sources {
            if let Err(error) = taken.take(source) {
                return if is_as_it_was()? { Err(error) } else { Ok(None) };
            }
        }
        if !taken.is_pinned && !is_as_it_was()? {
            return Ok(None);
        }
        let mut linked = taken.linked;
        // From here on the directory that was copied is not looked at, but for what was written
        // while it was copied.
        let copied = contents(&self.directory, manifest.clone())?;
        let mut surveyed = Vec::new();
        for source in &copied.sources {
            match self.survey(&mut taken, &copied, source) {
                Ok(of_log) => surveyed.push(of_log),
                Err(error) => return if is_as_it_was()? { Err(error) } else { Ok(None) },
            }
        }
        if copied.sources.iter().any(is_open) {
            let end = self.end(&copied, &before, &surveyed)?;
            manifest.runs.last_mut().expect("a run is open").end = Some(end);
            linked -= self.cut_off(&copied, &manifest, &surveyed)?;
        }
        // As the next start will read it.
        let copied = contents(&self.directory, manifest.clone())?;
        let mut backup = Backup { linked, ..Backup::default() };
        let mut surveyed = Vec::new();
        for source in &copied.sources {
            surveyed.push(survey(&self.directory, &manifest, source, Err, |_| {})?);
            backup.files += source.files.len();
            backup.bytes += source.bytes();
        }
        let cuts = cuts(&self.directory, &copied, &surveyed)?;
        backup.epoch = cuts.into_iter().max().unwrap_or_default().max(floor(&manifest));
        Ok(Some((manifest, backup)))
    }

    /// Reads a log that was copied. One that was written meanwhile is copied again until nothing is
    /// missing in the middle.
    fn survey(
        &self,
        taken: &mut Taken<'_>,
        copied: &Contents,
        source: &Source,
    ) -> Result<Surveyed, LogError> {
        let mut last = String::new();
        for _ in 0..COPIES_MAX {
            match survey(&self.directory, &copied.manifest, source, Err, |_| {}) {
                Err(error) if is_open(source) && error.to_string() != last => {
                    last = error.to_string();
                    taken.take_again(source)?;
                }
                surveyed => return surveyed,
            }
        }
        survey(&self.directory, &copied.manifest, source, Err, |_| {})
    }

    /// How the run ends that is open, as far as it was copied.
    fn end(&self, copied: &Contents, before: &[Survey], surveyed: &[Surveyed]) -> Result<RunEnd, LogError> {
        let run = copied.manifest.runs.last().expect("a run is open");
        let logs: Vec<&Surveyed> = of_open(copied, surveyed).map(|(_, surveyed)| surveyed).collect();
        let copies: Vec<Survey> = logs.iter().map(|log| log.survey.clone()).collect();
        let after = run.after.max(floor(&copied.manifest));
        let durable = before.iter().map(|log| log.durable).max().unwrap_or_default();
        // What was durable before anything was copied is complete in the copies.
        if durable > last_complete_in_copies(after, &copies, &copies) {
            let behind = logs.iter().min_by_key(|log| log.survey.closed()).expect("a run has a log");
            let what = format!("it ends here, and another log knows of {durable} being durable");
            return Err(damaged(&self.directory, &behind.ended.at.0, behind.ended.at.1, what));
        }
        let cut = last_complete_in_copies(after, before, &copies);
        Ok(RunEnd { cut, logs: logs.iter().map(|log| log.ended.end).collect() })
    }

    /// Removes what is behind the ends. Returns how many links were removed.
    fn cut_off(
        &self,
        copied: &Contents,
        manifest: &Manifest,
        surveyed: &[Surveyed],
    ) -> Result<usize, LogError> {
        let run = manifest.runs.last().expect("a run is open");
        let mut links = 0;
        for (place, (source, Surveyed { ended, .. })) in of_open(copied, surveyed).enumerate() {
            let Ended { at: (last, end), .. } = ended;
            for file in &source.files {
                let needed =
                    run.segments(place).is_some_and(|(first, last)| (first..=last).contains(&file.segment));
                if !needed {
                    links += usize::from(self.directory.names_of(&file.name)? > 1);
                    self.directory.remove(&file.name)?;
                } else if file.name == *last {
                    self.directory.cut(last, *end)?;
                }
            }
        }
        Ok(links)
    }
}

/// Takes files from a directory to another.
struct Taken<'a> {
    from: &'a Directory,
    to: &'a Directory,
    files: Files,
    linked: usize,
    /// Whether every file has had a second name since before it was read.
    is_pinned: bool,
}

impl Taken<'_> {
    fn take(&mut self, source: &Source) -> Result<(), LogError> {
        let still = source.files.len().saturating_sub(if is_open(source) { OPEN_SEGMENTS } else { 0 });
        for (at, file) in source.files.iter().enumerate() {
            let name = &file.name;
            if at < still && self.files == Files::Linked && self.to.link_in(self.from, name, name)? {
                self.linked += 1;
            } else {
                self.copy(name)?;
            }
        }
        Ok(())
    }

    /// Copies the segments again that may have been written while they were copied.
    fn take_again(&mut self, source: &Source) -> Result<(), LogError> {
        for file in source.files.iter().rev().take(OPEN_SEGMENTS).rev() {
            self.to.remove_if_there(&file.name)?;
            self.copy(&file.name)?;
        }
        Ok(())
    }

    fn copy(&mut self, name: &str) -> Result<(), LogError> {
        // So that no runtime uses the file again meanwhile.
        if !self.to.link_in(self.from, name, PIN)? {
            self.is_pinned = false;
            self.to.copy_in(self.from, name, name)?;
            return Ok(());
        }
        let copied = self.to.copy_in(self.to, PIN, name);
        self.to.remove(PIN)?;
        copied.map(drop)
    }
}

/// Whether it is a log of a run whose end is not known: it may be written.
fn is_open(source: &Source) -> bool {
    source.run.is_some() && source.end.is_none()
}

fn of_open<'a>(
    contents: &'a Contents,
    surveyed: &'a [Surveyed],
) -> impl Iterator<Item = (&'a Source, &'a Surveyed)> {
    contents.sources.iter().zip(surveyed).filter(|(source, _)| is_open(source))
}

/// What a log says that may be written: what can be read of it. What is wrong with it the copy will
/// tell.
fn said(from: &Directory, found: &Contents, source: &Source) -> Survey {
    let mut survey = Survey::default();
    let note = |_: &super::contents::SegmentPlace<'_>, batch: &freehold_shard::log::LogBatch<'_>| {
        // The copy is judged by the same code, which reports it.
        let _ = survey.note(batch);
        Ok(())
    };
    let _ = read(from, &found.manifest, source, note, Err, |_| {});
    survey
}

/// Whether the files that one manifest names are those of the other.
fn is_same(now: &Manifest, before: &Manifest) -> bool {
    let logs = |manifest: &Manifest| manifest.runs.iter().map(|run| run.logs.clone()).collect::<Vec<_>>();
    now.checkpoint == before.checkpoint && logs(now) == logs(before)
}

/// Whether a file is one that a database has, of those that are ours.
fn is_of_a_database(name: &str) -> bool {
    ![UNFINISHED, PIN].contains(&name)
}
