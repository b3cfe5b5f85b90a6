//! A runtime with logs, over several lives: it writes, crashes or stops, is recovered by the
//! crate's own code, perhaps with another number of shards, and goes on.
//!
//! What a crash leaves is judged in `checker`, by the cut that recovery finds: objects and pending
//! sends must be what the messages up to the cut have left, and all that was answered for good must
//! be explained by them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use freehold_shard::log::{Bounds, End, Tail};
use freehold_shard::manifest::{LogBegin, Manifest, Run, RunEnd};
use freehold_shard::recovery::{self, Home, LogReader, Over, Replay, Survey, last_complete};
use freehold_shard::*;

use super::checker::{History, Model, Owed};
use super::disks::{Disks, Files};
use super::script::{LONGEST, Script, Simulated, Value};
use super::world::{Begin, Shape, World};

mod backups;
mod checkpoints;

use backups::{Backup, Copying};
use checkpoints::Checkpointing;

/// What a world with disks has beside the shards.
pub(crate) struct Lives {
    disks: Disks,
    durability: Arc<Durability>,
    /// As this life knows it.
    manifest: Manifest,
    pub(super) ack: Ack,
    /// Shards that were told that more is durable, or have not released what they can after their
    /// last write.
    woken: Vec<bool>,
    /// Of those the latter.
    late: Vec<bool>,
    checkpoint: Option<Checkpointing>,
    copying: Option<Copying>,
    backup: Option<Backup>,
    /// Files that were newer than a backup which was brought back.
    aside: Files,
    /// What is wrong with a backup.
    wrong: Option<String>,
    /// How many of a hundred steps are the disks'.
    pace: usize,
    /// How many of a hundred steps in which a checkpoint could begin one does.
    checkpoints: usize,
    /// How many of a hundred messages tell another.
    pub(super) tells: usize,
    /// How many of a hundred steps in which a lane could move something it does.
    lanes: usize,
    /// How many of a hundred steps in which a message could be sent one is.
    traffic: usize,
    /// The step and the time at which this life began.
    began: (u64, Time),
}

impl Lives {
    pub(super) fn time(&self, step: u64) -> Time {
        Time(self.began.1.0 + step - self.began.0)
    }

    pub(super) fn durable(&self) -> Epoch {
        self.durability.durable()
    }

    fn store_manifest(&mut self) {
        self.disks.manifest = self.manifest.to_bytes();
    }

    /// Deletes the files that the manifest does not name.
    fn delete_the_rest(&mut self) {
        let manifest = &self.manifest;
        let is_part = |log| {
            manifest.checkpoint.iter().flat_map(|checkpoint| &checkpoint.parts).any(|part| part.log == log)
        };
        let logs = || manifest.runs.iter().flat_map(|run| &run.logs);
        let is_needed =
            |log, segment| is_part(log) || logs().any(|begin| begin.log == log && begin.segment <= segment);
        self.disks.keep(is_needed, manifest.next_log, manifest.segment_bytes as usize);
    }
}

/// How a life ended.
enum Ended {
    Crashed,
    Stopped,
}

/// What recovery found.
struct Recovered {
    homes: Vec<Home<Simulated>>,
    owed: BTreeMap<SendId, recovery::RecoveredSend>,
    cut: Epoch,
    /// How the last run ended.
    end: Option<RunEnd>,
    /// The largest epoch that occurs anywhere.
    latest: Epoch,
    time: Time,
    next_send: u64,
}

impl Recovered {
    fn objects(&self) -> Model {
        let objects = self.homes.iter().flat_map(Home::objects);
        objects.map(|(id, ownership, value)| (id.0, (ownership, *value))).collect()
    }
}

type Found<T> = Result<T, String>;

fn read_log(
    disks: &Disks,
    manifest: &Manifest,
    start: u64,
    begin: LogBegin,
    mut each: impl FnMut(&log::LogBatch<'_>) -> Found<()>,
) -> Found<(u64, Tail)> {
    let mut reader = LogReader::new(manifest.segment_id(start, begin), manifest.bounds(), begin.tail);
    while let Some(bytes) = disks.files.get(&(begin.log, reader.segment())) {
        let (segment, mut result) = (reader.segment(), Ok(()));
        reader
            .read(bytes, |batch| {
                if result.is_ok() {
                    result = each(&batch);
                }
            })
            .map_err(|damage| format!("log {}, segment {segment}: {damage}", begin.log))?;
        result?;
    }
    Ok(reader.end())
}

/// How far the disks are.
struct Reached {
    /// By run.
    cuts: Vec<Epoch>,
    /// Which messages are over.
    over: Over,
    end: Option<RunEnd>,
    latest: Epoch,
    time: Time,
    next_send: u64,
}

/// How far all runs are that the disks have.
fn survey(disks: &Disks, manifest: &Manifest) -> Found<Reached> {
    let from = manifest.checkpoint.as_ref().map_or(Epoch(0), |checkpoint| checkpoint.epoch);
    let mut reached = Reached {
        cuts: Vec::new(),
        over: Over::default(),
        end: None,
        latest: from,
        time: manifest.checkpoint.as_ref().map_or(Time(0), |checkpoint| checkpoint.time),
        next_send: manifest.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.next_send),
    };
    for Run { start, after, logs, end, .. } in &manifest.runs {
        let (mut surveys, mut ends) = (Vec::new(), Vec::new());
        for begin in logs {
            let mut survey = Survey::from(from);
            ends.push(read_log(disks, manifest, *start, *begin, |batch| {
                survey.note(batch).map_err(|record| format!("record {record} of {begin:?} is none"))
            })?);
            surveys.push(survey);
        }
        let Reached { latest, time, next_send, .. } = &mut reached;
        for survey in &surveys {
            *latest = (*latest).max(survey.latest).max(survey.closed().unwrap_or_default());
            *time = (*time).max(survey.time);
            *next_send = (*next_send).max(survey.next_send);
        }
        let cut = match end {
            Some(end) if end.logs != ends => {
                return Err(format!("logs end at {ends:?}, and once at {end:?}"));
            }
            Some(end) => end.cut,
            None => last_complete(Epoch(from.0.saturating_sub(1)).max(*after), &surveys),
        };
        let durable = surveys.iter().map(|survey| survey.durable).max().unwrap_or_default();
        // A backup ends before what its logs say of later times.
        if durable > cut && end.is_none() {
            return Err(format!(
                "a log knows of {durable} being durable, and {cut} is the last complete one"
            ));
        }
        *latest = (*latest).max(cut).max(*after);
        surveys.iter_mut().for_each(|survey| reached.over.extend(survey.take_over(cut)));
        reached.cuts.push(cut);
        reached.end = Some(RunEnd { cut, logs: ends });
    }
    Ok(reached)
}

/// What the disks hold, for so many shards.
fn recover(disks: &Disks, shards: usize) -> Found<Recovered> {
    let manifest = Manifest::from_bytes(&disks.manifest).map_err(|error| error.to_string())?;
    let router = Router::new(manifest.key(), shards);
    let Reached { cuts, over, end, latest, time, next_send } = survey(disks, &manifest)?;
    let over = Arc::new(over);
    let mut all = Replay::<Simulated>::new(router).knowing(over.clone());
    let mut homes: Vec<_> = (0..shards).map(|shard| Home::new(shard as u64)).collect();
    let mut put = |home: usize, changes: &mut Vec<_>| homes[home].apply(changes.drain(..));
    for part in manifest.checkpoint.iter().flat_map(|checkpoint| &checkpoint.parts) {
        let mut replay = Replay::new(router).knowing(over.clone());
        let bytes = disks.files.get(&(part.log, 0)).ok_or(format!("part {} is missing", part.log))?;
        let begin = LogBegin { log: part.log, segment: 0, tail: Tail::default() };
        let id = manifest.segment_id(part.start, begin);
        let mut reader = LogReader::new(id, manifest.bounds(), begin.tail);
        let mut result = Ok(());
        let end = reader.read(bytes, |batch| {
            result = result.and_then(|()| replay.apply(&batch, Epoch(0), Epoch(0), &mut put));
        });
        result.map_err(|error| format!("part {}: {error:?}", part.log))?;
        if (end, reader.end(), bytes.len() as u64) != (Ok(End::Full), (0, part.end), part.bytes) {
            return Err(format!("part {} ends at {:?}, {end:?}", part.log, reader.end()));
        }
        all.follow(replay);
    }
    let from = manifest.checkpoint.as_ref().map_or(Epoch(0), |checkpoint| checkpoint.epoch);
    for (Run { start, logs, .. }, cut) in manifest.runs.iter().zip(&cuts) {
        for begin in logs {
            let mut replay = Replay::new(router).knowing(over.clone());
            read_log(disks, &manifest, *start, *begin, |batch| {
                replay.apply(batch, from, *cut, &mut put).map_err(|error| format!("{begin:?}: {error:?}"))
            })?;
            all.follow(replay);
        }
    }
    let owed = all.finish();
    let of_checkpoint = manifest.checkpoint.as_ref().map(|checkpoint| Epoch(checkpoint.epoch.0 - 1));
    let cut = cuts.last().copied().or(of_checkpoint).unwrap_or_default();
    Ok(Recovered { homes, owed, cut, end, latest, time, next_send })
}

impl World {
    /// A runtime with logs, and nothing in them.
    pub(crate) fn with_disks(seed: u64, shape: Shape) -> Self {
        let shards = shape.shards;
        let router = Router::new(PlacementKey(seed), shards);
        let durability = Arc::new(Durability::new(shards, Epoch(0)));
        let mvcc = Arc::new(Mvcc::logged(shards, durability.clone()));
        let mut world = World::over(seed, shape, router, mvcc);
        let dice = &mut world.dice;
        let segment_bytes = [4 << 10, 8 << 10, 16 << 10, 128 << 10][dice.below(4)];
        let manifest = Manifest::new(dice.next(), PlacementKey(seed), segment_bytes);
        // In the largest segments not as long as they could be, for the sake of speed.
        LONGEST.set(Bounds::of_segments((segment_bytes as usize).min(16 << 10)).value());
        let mut lives = Lives {
            disks: Disks::default(),
            durability,
            manifest,
            ack: if dice.chance(80) { Ack::Durable } else { Ack::Applied },
            woken: Vec::new(),
            late: Vec::new(),
            checkpoint: None,
            copying: None,
            backup: None,
            aside: Files::new(),
            wrong: None,
            pace: [4, 10, 20, 50][dice.below(4)],
            checkpoints: [0, 5, 40, 80][dice.below(4)],
            tells: [5, 20, 60][dice.below(3)],
            lanes: [100, 100, 30, 8][dice.below(4)],
            traffic: [100, 100, 20, 5][dice.below(4)],
            began: (0, Time(0)),
        };
        lives.store_manifest();
        world.lives = Some(lives);
        world
    }

    /// Lives for a while, again and again.
    pub(crate) fn run_lives(mut self) -> Result<u64, String> {
        let lives = 1 + self.dice.below(4) as u32;
        self.recover(None)?;
        for _ in 0..lives {
            let ended = self.live(self.shape.messages / lives)?;
            self.recover(Some(ended))?;
        }
        // What the last life came back with is whole, and goes on.
        let ended = self.live(20)?;
        self.recover(Some(ended))?;
        Ok(self.steps)
    }

    fn live(&mut self, messages: u32) -> Result<Ended, String> {
        let crashes = self.dice.chance(80);
        let life = [20, 100, 400, 1_500][self.dice.below(4)];
        // Where less is sent, it takes longer.
        let all = self.sent + messages * self.lives().traffic.max(20) as u32 / 100;
        let life = life * 100 / self.lives().traffic.max(20);
        let end = if crashes { self.steps + self.dice.below(life) as u64 } else { u64::MAX };
        // Just when somebody was answered, or anywhen.
        let when_answered = self.dice.chance(50);
        let mut answered = usize::MAX;
        let mut crashes_now = |world: &World| {
            let before = std::mem::replace(&mut answered, world.history.answers.len());
            world.steps >= end && (!when_answered || world.history.answers.len() > before)
        };
        while self.sent < all {
            if crashes_now(self) {
                return Ok(Ended::Crashed);
            }
            self.step(Begin::More);
            if let Some(wrong) = self.lives().wrong.take() {
                return Err(wrong);
            }
        }
        // No more is sent: everything must come to its end, and nobody gets a turn who has no
        // reason for one.
        let stops_timers = self.dice.chance(50);
        if stops_timers {
            self.shards.iter_mut().for_each(Shard::stop_timers);
        }
        let patience = self.steps + 200_000;
        while !self.is_at_rest() {
            if crashes_now(self) {
                return Ok(Ended::Crashed);
            }
            self.drain_step();
            if self.steps > patience {
                let has_checkpoint = self.lives().checkpoint.is_some();
                let sent = self.history.sent.keys();
                let missing = sent.filter(|message| !self.history.answers.contains_key(message));
                return Err(format!(
                    "stuck: no answers to {:?}; checkpoint {has_checkpoint}, audits {}, quiet {}, work {:?}",
                    missing.collect::<Vec<_>>(),
                    self.audits.len(),
                    self.is_quiet(),
                    self.shards.iter().map(Shard::has_log_work).collect::<Vec<_>>()
                ));
            }
        }
        if crashes {
            return Ok(Ended::Crashed);
        }
        // When no snapshot is open, nothing is kept.
        for _ in 0..100 {
            (0..self.shape.shards).for_each(|shard| self.turn(shard));
        }
        (0..self.shape.shards).for_each(|shard| self.release_late(shard));
        if !self.is_at_rest() {
            return Err("turns without messages leave something to do".to_string());
        }
        let (_, owed) = self.judge()?;
        if !stops_timers && !owed.is_empty() {
            return Err(format!("told and never run: {owed:?}"));
        }
        Ok(Ended::Stopped)
    }

    fn lives(&mut self) -> &mut Lives {
        self.lives.as_mut().expect("a world with disks")
    }

    fn is_at_rest(&self) -> bool {
        let lives = self.lives.as_ref().expect("a world with disks");
        self.is_quiet()
            && self.audits.is_empty()
            && lives.checkpoint.is_none()
            && lives.disks.writing().is_empty()
            && !lives.woken.contains(&true)
            && !self.shards.iter().any(|shard| shard.has_log_work() || shard.has_garbage())
            && self.shards.iter().all(|shard| shard.under_way().next().is_none())
            && self.history.sent.keys().all(|message| self.history.answers.contains_key(message))
    }

    /// Everybody with a reason for a turn gets one in the end.
    fn drain_step(&mut self) {
        self.steps += 1;
        self.end_action();
        let shards = self.shape.shards;
        let (from, to) = (self.steps as usize % shards, self.steps as usize / shards % shards);
        let outbox = &mut self.effects[from].outboxes[to];
        self.lanes[from][to].extend(outbox.drain(..));
        let now = self.now();
        let shard = &self.shards[to];
        let has_messages = shard.own_messages() > 0
            || shard.next_timer().is_some_and(|due| due <= now)
            || shard.has_garbage()
            || !self.ingress[to].is_empty()
            || self.lanes.iter().any(|lanes| !lanes[to].is_empty());
        let has_log_work = shard.has_log_work() || self.lives().woken[to];
        if has_messages {
            self.turn(to);
        } else if has_log_work {
            self.write_and_release(to);
        }
        match self.dice.below(4) {
            0 => self.complete_one(),
            1 => self.audit(Begin::NoMore),
            2 => self.checkpoint(Begin::NoMore),
            _ => self.wake_one(),
        }
    }

    /// A step of the disks, if it is their turn.
    pub(super) fn disk_step(&mut self) -> bool {
        let pace = self.lives().pace;
        if !self.dice.chance(pace) {
            return false;
        }
        match self.dice.below(12) {
            0..=5 => self.complete_one(),
            6 | 7 => self.wake_one(),
            8 | 9 => self.checkpoint(Begin::More),
            _ => self.back_up(),
        }
        true
    }

    /// Whether a message may be sent now: some worlds are quieter.
    pub(super) fn is_busy(&mut self) -> bool {
        self.lives.as_ref().is_none_or(|lives| lives.traffic == 100 || self.dice.chance(lives.traffic))
    }

    /// Whether a lane may move something now: in some worlds they are slow.
    pub(super) fn is_fast(&mut self) -> bool {
        self.lives.as_ref().is_none_or(|lives| lives.lanes == 100 || self.dice.chance(lives.lanes))
    }

    fn complete_one(&mut self) {
        let World { dice, lives, .. } = self;
        let lives = lives.as_mut().expect("a world with disks");
        if dice.chance(10) {
            lives.disks.sync_some(dice);
        }
        let writing = lives.disks.writing();
        if !writing.is_empty() {
            let shard = writing[dice.below(writing.len())];
            let batch = lives.disks.complete(shard);
            self.shards[shard].written(batch);
            self.write_and_release(shard);
        }
    }

    fn wake_one(&mut self) {
        let shard = self.dice.below(self.shape.shards);
        if self.lives().late[shard] {
            self.release_late(shard);
        } else if self.lives().woken[shard] {
            self.write_and_release(shard);
        }
    }

    /// What comes after every turn, if there are logs.
    pub(super) fn write_and_release(&mut self, shard: usize) {
        self.release_late(shard);
        let now = self.now();
        let World { dice, lives: Some(lives), shards, .. } = self else { return };
        let run = lives.manifest.runs.last().expect("a run has begun");
        if let Some(write) = shards[shard].next_write(now) {
            let (log, segment_bytes) = (run.logs[shard].log, lives.manifest.segment_bytes as usize);
            lives.disks.begin(dice, shard, log, segment_bytes, write);
        }
        // A shard is a thread: others may come between.
        lives.late[shard] = dice.chance(20);
        lives.woken[shard] = lives.late[shard];
        if !lives.late[shard] {
            self.release(shard);
        }
    }

    /// The second half of it, if that is to come yet.
    pub(super) fn release_late(&mut self, shard: usize) {
        if self.lives.as_mut().is_some_and(|lives| std::mem::take(&mut lives.late[shard])) {
            self.release(shard);
        }
    }

    fn release(&mut self, shard: usize) {
        let lives = self.lives.as_mut().expect("a world with disks");
        self.shards[shard].release(&mut self.effects[shard]);
        lives.woken[shard] = false;
        for waiting in lives.durability.waiting(lives.durability.durable()) {
            lives.woken[waiting.index()] = true;
        }
        self.begin_actions(shard);
        self.show(shard);
        self.hand_out(shard);
    }

    /// Whether everything up to `epoch` is durable, as far as all shards know.
    pub(super) fn is_durable(&mut self, epoch: Epoch) -> bool {
        let waiting: Vec<usize> =
            (0..self.shape.shards).filter(|shard| !self.shards[*shard].want_durable(epoch)).collect();
        waiting.iter().for_each(|shard| self.write_and_release(*shard));
        waiting.is_empty()
    }

    /// The life has ended, or there was none yet: judges what is left of it, and begins the next.
    fn recover(&mut self, ended: Option<Ended>) -> Result<(), String> {
        let World { dice, lives: Some(lives), .. } = self else { unreachable!("a world with disks") };
        (lives.checkpoint, lives.copying) = (None, None);
        if let Some(Ended::Stopped) = ended {
            let cut = lives.durability.advance(self.mvcc.epochs());
            let end = |shard: &Shard<Simulated>| shard.log_end().expect("it has a log");
            let logs = self.shards.iter().map(end).collect();
            lives.manifest.runs.last_mut().expect("a run has begun").end = Some(RunEnd { cut, logs });
            lives.store_manifest();
        }
        lives.disks.crash(dice);
        // A crash during recovery changes nothing: it begins anew, perhaps for another number of
        // shards.
        let first = recover(&lives.disks, 1 + dice.below(5))?;
        let shards = 1 + dice.below(5);
        let mut found = recover(&lives.disks, shards)?;
        if (first.objects(), &first.owed, first.cut) != (found.objects(), &found.owed, found.cut) {
            return Err("recovery comes out differently the second time".to_string());
        }
        let mut owed = match ended {
            Some(ended) => self.judge_recovered(&ended, &found)?,
            None => Owed::new(),
        };
        self.confuse()?;
        if self.dice.chance(30)
            && let Some(restored) = self.restore()?
        {
            found = recover(&self.lives().disks, shards)?;
            owed = restored;
        }
        self.begin_after(found, shards, owed);
        Ok(())
    }

    /// Judges what was recovered. Returns what is owed.
    fn judge_recovered(&mut self, ended: &Ended, found: &Recovered) -> Result<Owed, String> {
        for auditor in self.audits.drain(..).filter(|auditor| auditor.audit.ended > 0) {
            self.history.audits.push(auditor.audit);
        }
        let cut = matches!(ended, Ended::Crashed).then_some(found.cut);
        self.judge_actions(found)?;
        self.judge_watched(found)?;
        judge_found(&self.history, &self.told, cut, found)
    }

    /// Whatever has begun outside was told by a message that no crash takes back: it is owed still,
    /// or its outcome has run.
    fn judge_actions(&self, found: &Recovered) -> Result<(), String> {
        let owed: BTreeSet<u32> = found.owed.values().filter_map(|(.., bytes)| message_of(bytes)).collect();
        let has_run = |message| {
            let mut runs = self.history.runs.iter();
            runs.any(|run| run.script.message == message && run.id.epoch <= found.cut)
        };
        match self.begun.iter().find(|message| !owed.contains(message) && !has_run(**message)) {
            None => Ok(()),
            Some(lost) => Err(format!("the action of message {lost} began, and nothing is left of it")),
        }
    }

    /// What was seen of objects that are watched no crash takes back.
    fn judge_watched(&self, found: &Recovered) -> Result<(), String> {
        if self.lives.as_ref().is_none_or(|lives| lives.ack == Ack::Applied) {
            return Ok(());
        }
        let is_left = |id: &u64, value: &Value| {
            let mut runs = self.history.runs.iter();
            self.history.start.get(id).is_some_and(|(_, start)| start == value)
                || runs.any(|run| run.script.message == value.writer && run.id.epoch <= found.cut)
        };
        let seen = |(id, seen): (&u64, &Vec<Option<Value>>)| {
            seen.iter().flatten().find(|value| !is_left(id, value)).copied()
        };
        match self.watched.iter().find_map(seen) {
            None => Ok(()),
            Some(lost) => Err(format!("{lost:?} was seen of an object, and is lost: cut {}", found.cut)),
        }
    }

    /// Begins a life with what was found.
    fn begin_after(&mut self, found: Recovered, shards: usize, owed: Owed) {
        let start = found.objects();
        let Recovered { homes, owed: sends, end, latest, time, next_send, .. } = found;
        let durability = Arc::new(Durability::new(shards, latest));
        let mvcc = Arc::new(Mvcc::logged(shards, durability.clone()));
        let steps = self.steps;
        let run = self.dice.next();
        let lives = self.lives();
        lives.manifest = Manifest::from_bytes(&lives.disks.manifest).expect("it was just read");
        lives.manifest.begin_run(end, latest, shards, run, WrittenSchema::UNSTATED);
        lives.store_manifest();
        lives.delete_the_rest();
        (lives.durability, lives.began) = (durability, (steps, time));
        (lives.woken, lives.late) = (vec![false; shards], vec![false; shards]);
        let router = Router::new(lives.manifest.key(), shards);
        self.begin(router, mvcc);
        (self.history.start, self.history.owed) = (start, owed);
        let lives = self.lives.as_ref().expect("a world with disks");
        let run = lives.manifest.runs.last().expect("a run has begun");
        let with_log = |(shard, begin): (Shard<Simulated>, &LogBegin)| {
            shard.with_log(LogStart {
                codec: Codec::new(),
                ack: lives.ack,
                first: lives.manifest.segment_id(run.start, *begin),
                segment_bytes: lives.manifest.segment_bytes as usize,
                first_send: next_send,
                durability: lives.durability.clone(),
            })
        };
        self.shards = std::mem::take(&mut self.shards).into_iter().zip(&run.logs).map(with_log).collect();
        let shards_alone = std::mem::take(&mut self.shards).into_iter().zip(homes);
        self.shards = shards_alone.map(|(shard, home)| shard.with_objects(home)).collect();
        for (send_id, (sender, due, bytes)) in sends {
            let at = (send_id.0 % shards as u64) as usize;
            let message = Codec::<Simulated>::new().decode(&bytes).expect("it was just read");
            self.shards[at].restore_send(send_id, sender, due, message, &bytes);
        }
        (0..shards).for_each(|shard| self.begin_actions(shard));
    }
}

/// The number of a message that is owed.
fn message_of(bytes: &[u8]) -> Option<u32> {
    Codec::<Simulated>::new().decode(bytes).map(|script| script.message)
}

/// Judges what was recovered of a history. Returns what is owed.
fn judge_found(
    history: &History,
    told: &BTreeSet<u32>,
    cut: Option<Epoch>,
    found: &Recovered,
) -> Found<Owed> {
    let (model, mut owed) = history.explain(|message| told.contains(&message), cut)?;
    if found.objects() != model {
        return Err(format!(
            "recovered up to {}\n found    {:?}\n expected {model:?}",
            found.cut,
            found.objects()
        ));
    }
    let mut still = Owed::new();
    for (send_id, (sender, due, message)) in &found.owed {
        let script: Script =
            Codec::<Simulated>::new().decode(message).ok_or(format!("{send_id:?} is no message"))?;
        let expected = owed.remove(&script.message);
        let is_right = expected.is_some_and(|expected| due.is_none_or(|due| due == expected));
        if !is_right || script.sender != *sender {
            return Err(format!(
                "message {} is owed, due {due:?}: expected {expected:?}, cut {}",
                script.message, found.cut
            ));
        }
        still.extend(expected.map(|due| (script.message, due)));
    }
    owed.retain(|message, _| !history.may_be_given_up(*message));
    if !owed.is_empty() {
        return Err(format!("nobody owes {owed:?}, cut {}", found.cut));
    }
    Ok(still)
}
