//! Backups of a simulated runtime: taken log by log while it goes on, and brought back over what is
//! newer.

use std::collections::{BTreeMap, BTreeSet};

use freehold_shard::log::Invalid;
use freehold_shard::manifest::{Manifest, RunEnd};
use freehold_shard::recovery::{self, Survey, last_complete_in_copies};
use freehold_shard::*;

use super::super::checker::{Model, Owed};
use super::super::disks::{Disks, Files};
use super::super::world::World;
use super::{judge_found, read_log, recover};

/// A backup that is being taken, one log after another.
pub(super) struct Copying {
    begun: u64,
    /// The messages that had been answered then.
    answered: BTreeSet<u32>,
    manifest: Manifest,
    /// By place in the last run: what the log said before any was copied.
    before: Vec<Option<Survey>>,
    is_copied: Vec<bool>,
    files: Files,
}

/// A backup, and what is in it.
pub(super) struct Backup {
    files: Files,
    manifest: Manifest,
    objects: Model,
    sends: BTreeMap<SendId, recovery::RecoveredSend>,
    owed: Owed,
}

impl World {
    /// Begins a backup, or goes on with it: a log is surveyed, or copied, and others are written
    /// meanwhile.
    pub(super) fn back_up(&mut self) {
        let World { dice, lives: Some(lives), history, steps, .. } = self else { return };
        let Some(mut copying) = lives.copying.take() else {
            let manifest = Manifest::from_bytes(&lives.disks.manifest).expect("it was just written");
            let logs = manifest.runs.last().expect("a run has begun").logs.len();
            lives.copying = Some(Copying {
                begun: *steps,
                answered: history.answers.keys().copied().collect(),
                manifest,
                before: vec![None; logs],
                is_copied: vec![false; logs],
                files: Files::new(),
            });
            return;
        };
        let manifest = Manifest::from_bytes(&lives.disks.manifest).expect("it was just written");
        if (&manifest.checkpoint, &manifest.runs) != (&copying.manifest.checkpoint, &copying.manifest.runs) {
            // A checkpoint was made. It has to begin again.
            return;
        }
        let run = manifest.runs.last().expect("a run has begun");
        let left: Vec<usize> = (0..run.logs.len()).filter(|place| copying.before[*place].is_none()).collect();
        if !left.is_empty() {
            let place = left[dice.below(left.len())];
            let mut survey = Survey::default();
            let read = read_log(&lives.disks, &manifest, run.start, run.logs[place], |batch| {
                survey.note(batch).map_err(|record| format!("record {record} is none"))
            });
            read.expect("what was written can be read");
            copying.before[place] = Some(survey);
        } else {
            let left: Vec<usize> = (0..run.logs.len()).filter(|place| !copying.is_copied[*place]).collect();
            let place = left[dice.below(left.len())];
            let is_open = |log: u64| run.logs.iter().any(|begin| begin.log == log);
            // What is not written any more comes with the first.
            let is_taken =
                |log: u64| log == run.logs[place].log || left.len() == run.logs.len() && !is_open(log);
            let files = lives.disks.files.iter().filter(|((log, _), _)| is_taken(*log));
            copying.files.extend(files.map(|(name, bytes)| (*name, bytes.clone())));
            copying.is_copied[place] = true;
        }
        if !copying.is_copied.contains(&false) {
            let judged = self.finish_copy(copying);
            self.lives().wrong = judged.err();
        } else {
            self.lives().copying = Some(copying);
        }
    }

    /// All logs are copied: what is in the copies?
    fn finish_copy(&mut self, copying: Copying) -> Result<(), String> {
        let Copying { begun, answered, mut manifest, before, files, .. } = copying;
        let mut disks = Disks::default();
        disks.files = files;
        let floor = manifest.checkpoint.as_ref().map_or(Epoch(0), |checkpoint| Epoch(checkpoint.epoch.0 - 1));
        let run = manifest.runs.last().expect("a run has begun");
        let (mut copies, mut ends) = (Vec::new(), Vec::new());
        for begin in &run.logs {
            let mut survey = Survey::default();
            ends.push(read_log(&disks, &manifest, run.start, *begin, |batch| {
                survey.note(batch).map_err(|record| format!("record {record} of {begin:?} is none"))
            })?);
            copies.push(survey);
        }
        let before: Vec<Survey> = before.into_iter().flatten().collect();
        let cut = last_complete_in_copies(run.after.max(floor), &before, &copies);
        manifest.runs.last_mut().expect("a run has begun").end = Some(RunEnd { cut, logs: ends });
        disks.manifest = manifest.to_bytes();
        let found = recover(&disks, 1 + self.dice.below(5)).map_err(|wrong| format!("a backup: {wrong}"))?;
        let history = self.history.as_copied(begun, &answered);
        let owed = judge_found(&history, &self.told, Some(cut), &found)
            .map_err(|wrong| format!("a backup begun at step {begun}: {wrong}"))?;
        let (objects, sends) = (found.objects(), found.owed);
        self.lives().backup = Some(Backup { files: disks.files, manifest, objects, sends, owed });
        Ok(())
    }

    /// The backup is copied over the directory. What is newer is refused, and set aside; then
    /// everything is as it was in the backup.
    pub(super) fn restore(&mut self) -> Result<Option<Owed>, String> {
        let World { lives: Some(lives), .. } = self else { unreachable!("a world with disks") };
        let Some(Backup { files, manifest, objects, sends, owed }) = lives.backup.take() else {
            return Ok(None);
        };
        let newer = lives.disks.copy_over(&files, &manifest);
        let files = &mut lives.disks.files;
        lives.aside = newer.into_iter().filter_map(|name| Some((name, files.remove(&name)?))).collect();
        // As a start does with what nobody names.
        lives.manifest = manifest;
        lives.delete_the_rest();
        let found =
            recover(&lives.disks, 1 + self.dice.below(5)).map_err(|wrong| format!("restored: {wrong}"))?;
        if (found.objects(), &found.owed) != (objects, &sends) {
            return Err(format!("restored, and not as it was: {:?}, {:?}", found.objects(), found.owed));
        }
        Ok(Some(owed))
    }

    /// Files that were set aside are put in the place of those that have their names now: recovery
    /// must not take them for them.
    pub(super) fn confuse(&mut self) -> Result<(), String> {
        let lives = self.lives();
        let manifest = Manifest::from_bytes(&lives.disks.manifest).expect("it was written");
        let is_needed = |log: u64, segment: u64| {
            manifest.runs.iter().any(|run| {
                let place = run.logs.iter().position(|begin| begin.log == log);
                let segments = place.and_then(|place| run.segments(place));
                segments.is_some_and(|(first, last)| (first..=last).contains(&segment))
            })
        };
        for (name, strange) in std::mem::take(&mut lives.aside) {
            if !is_needed(name.0, name.1) || !lives.disks.files.contains_key(&name) {
                continue;
            }
            let own = lives.disks.files.insert(name, strange).expect("it is there");
            let read = recover(&lives.disks, 2);
            lives.disks.files.insert(name, own);
            let wrong = Invalid::OtherStart.to_string();
            if !read.as_ref().is_err_and(|error| error.contains(&wrong)) {
                let found = read.map(|found| found.cut);
                return Err(format!("{name:?} is of another copy of the directory, and was read: {found:?}"));
            }
        }
        Ok(())
    }
}
