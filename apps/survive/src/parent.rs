//! The process that kills, listens, and checks.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use comfy_table::{Cell, CellAlignment, Table, presets};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use tempfile::TempDir;
use thiserror::Error;

use crate::arguments::{Arguments, ToldAck};
use crate::check::{Acknowledged, Books, Losses, Wrong};
use crate::ledger::{Account, LIFE_BITS};

/// A child that says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of so many lives one is ended while it starts, within so many milliseconds.
const EARLY_EVERY: u64 = 4;
const EARLY_MS: u64 = 60;
/// And the first so many: a directory is made once.
const EARLY_FIRST: u64 = 3;
/// What is wrong is shown up to so many times.
const WRONG_SHOWN_MAX: usize = 20;

/// Why the check could not go on.
#[derive(Debug, Error)]
pub enum SurviveError {
    #[error("there is no place for the log: {0}")]
    Place(#[source] io::Error),
    #[error("{0} is not empty: the payments in it are not known here")]
    NotEmpty(PathBuf),
    #[error("the process that is to be killed does not start: {0}")]
    Spawn(#[source] io::Error),
    #[error("life {life} ended by itself with {status}; its log is in {log}")]
    EndedItself { life: u64, status: String, log: PathBuf },
    #[error("life {life} says nothing for {PATIENCE:?}: it hangs; its log is in {log}")]
    Hangs { life: u64, log: PathBuf },
    #[error("life {life} says `{line}`, which nobody understands")]
    Strange { life: u64, line: String },
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

/// What happened to the lives with the same number of shards.
#[derive(Clone, Copy, Default)]
struct Row {
    lives: u64,
    /// Killed before they paid.
    early: u64,
    /// Killed while they paid.
    late: u64,
    checkpoints: u64,
    /// Payments they acknowledged.
    acknowledged: u64,
    /// What was owed when they started.
    owed: u64,
    /// The longest recovery.
    recovery: Duration,
}

/// A life as it is heard of.
struct Life {
    number: u64,
    shards: u64,
    /// The accounts it found; all of them once it is running.
    found: BTreeMap<u64, Account>,
    is_running: bool,
    acknowledged: Vec<Acknowledged>,
    row: Row,
}

impl Life {
    /// Takes a line in.
    fn hear(&mut self, line: &str) -> Option<()> {
        let mut words = line.split(' ');
        let kind = words.next()?;
        let mut number = || words.next()?.parse::<u64>().ok();
        match kind {
            "recovered" => {
                let (_, owed, microseconds) = (number()?, number()?, number()?);
                (self.row.owed, self.row.recovery) = (owed, Duration::from_micros(microseconds));
            }
            "account" => {
                let id = number()?;
                let balance = words.next()?.parse().ok()?;
                let mut list = || match words.next()? {
                    "-" => Some(Vec::new()),
                    numbers => numbers.split(',').map(|number| number.parse().ok()).collect(),
                };
                let (paid, got) = (list()?, list()?);
                self.found.insert(id, Account { balance, paid, got });
            }
            "running" => self.is_running = true,
            "ack" => {
                let (number, next) = (number()?, number()?);
                self.acknowledged.push(Acknowledged { number, next });
            }
            "checkpoint" => self.row.checkpoints += 1,
            _ => return None,
        }
        Some(())
    }
}

/// When a life ends.
enum End {
    /// So long after it began.
    Early(Duration),
    /// So long after it began to pay.
    Late(Duration),
    /// By itself, when it has said what it found.
    Itself,
}

struct Parent<'a> {
    told: &'a Arguments,
    log: PathBuf,
    books: Books,
    /// Payments below were checked.
    checked: u64,
    rows: BTreeMap<u64, Row>,
    wrong: Vec<(u64, Wrong)>,
    there: u64,
    kept: u64,
    lost: u64,
}

/// Kills as often as told, and checks; prints what came of it.
///
/// # Errors
/// See [`SurviveError`].
pub fn survive(told: &Arguments) -> Result<ExitCode, SurviveError> {
    let (place, log) = place(&told.data)?;
    let mut random = Pcg64::seed_from_u64(told.seed);
    let mut draw = |below: u64| random.next_u64() % below;
    let losses = if told.ack == ToldAck::Applied { Losses::TheLast } else { Losses::Nothing };
    let mut parent = Parent {
        told,
        log,
        books: Books::new(told.seed, told.accounts, losses),
        checked: 0,
        rows: BTreeMap::new(),
        wrong: Vec::new(),
        there: 0,
        kept: 0,
        lost: 0,
    };
    let begun = Instant::now();
    let bar = ProgressBar::new(told.kills);
    let template = "{bar:40} {pos} of {len} kills  {msg}  {eta} to go";
    bar.set_style(ProgressStyle::with_template(template).expect("the template above is right"));
    let mut result = Ok(());
    for life in 0..=told.kills {
        let shards = 1 + draw(told.shards_max);
        let end = match draw(EARLY_EVERY) {
            _ if life == told.kills => End::Itself,
            drawn if drawn == 0 || life < EARLY_FIRST => {
                End::Early(Duration::from_micros(draw(EARLY_MS * 1000)))
            }
            _ => End::Late(Duration::from_micros(draw(told.load_ms * 1000))),
        };
        result = parent.live(life, shards, &end);
        bar.inc(1);
        bar.set_message(format!("{} acknowledged and kept", HumanCount(parent.kept)));
        if result.is_err() || !parent.wrong.is_empty() {
            break;
        }
    }
    bar.finish_and_clear();
    let is_well = result.is_ok() && parent.wrong.is_empty();
    if let Some(place) = place.filter(|_| !is_well) {
        // What went wrong is to be looked into.
        let _ = place.keep();
    }
    result?;
    parent.report(&mut io::stdout().lock(), begun.elapsed())?;
    Ok(ExitCode::from(u8::from(!is_well)))
}

/// Where the log is: named, or beside the program, which is on a disk, and removed when the first
/// of these is dropped.
fn place(named: &Option<PathBuf>) -> Result<(Option<TempDir>, PathBuf), SurviveError> {
    if let Some(path) = named {
        std::fs::create_dir_all(path).map_err(SurviveError::Place)?;
        let mut files = std::fs::read_dir(path).map_err(SurviveError::Place)?;
        return if files.next().is_some() {
            Err(SurviveError::NotEmpty(path.clone()))
        } else {
            Ok((None, path.clone()))
        };
    }
    let program = std::env::current_exe().map_err(SurviveError::Place)?;
    let make = |parent: &Path| tempfile::Builder::new().prefix("survive-log-").tempdir_in(parent);
    let made = make(program.parent().unwrap_or(Path::new("."))).or_else(|_| make(Path::new(".")));
    let made = made.map_err(SurviveError::Place)?;
    let path = made.path().to_path_buf();
    Ok((Some(made), path))
}

impl Parent<'_> {
    /// A life from its start to its end, and what it found.
    fn live(&mut self, number: u64, shards: u64, end: &End) -> Result<(), SurviveError> {
        let begun = Instant::now();
        let mut command = Command::new(std::env::current_exe().map_err(SurviveError::Spawn)?);
        command.arg("child").arg("--data").arg(&self.log);
        for (name, value) in [
            ("--shards", shards),
            ("--life", number),
            ("--checked", self.checked),
            ("--seed", self.told.seed),
            ("--accounts", self.told.accounts),
        ] {
            command.arg(name).arg(value.to_string());
        }
        let ack = if self.told.ack == ToldAck::Durable { "durable" } else { "applied" };
        command.args(["--ack", ack]);
        command.args(self.told.pretend.then_some("--pretend"));
        command.args(matches!(end, End::Itself).then_some("--stops"));
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(SurviveError::Spawn)?;
        let said = lines(child.stdout.take().expect("it was piped"));
        let row = Row { lives: 1, ..Row::default() };
        let acknowledged = Vec::new();
        let mut life = Life { number, shards, found: BTreeMap::new(), is_running: false, acknowledged, row };
        let result = self.listen(&said, &mut life, begun, end);
        // Whatever it was: nothing outlives this.
        let _ = child.kill();
        let status = child.wait().map_err(SurviveError::Spawn)?;
        let ended_itself = result?;
        // What it had written before it died was acknowledged before it died.
        said.into_iter().try_for_each(|line| heard(&mut life, &line))?;
        if ended_itself && !(matches!(end, End::Itself) && status.success()) {
            let status = status.to_string();
            return Err(SurviveError::EndedItself { life: number, status, log: self.log.clone() });
        }
        self.take_in(life, end);
        Ok(())
    }

    /// Hears what a life says until its end. Says whether that was its own.
    fn listen(
        &self,
        said: &Receiver<String>,
        life: &mut Life,
        begun: Instant,
        end: &End,
    ) -> Result<bool, SurviveError> {
        let mut until = match end {
            End::Early(after) => Some(begun + *after),
            End::Late(_) | End::Itself => None,
        };
        loop {
            let patience = until.map_or(PATIENCE, |until| until.saturating_duration_since(Instant::now()));
            match said.recv_timeout(patience) {
                Ok(line) => heard(life, &line)?,
                Err(RecvTimeoutError::Disconnected) => return Ok(true),
                Err(RecvTimeoutError::Timeout) if until.is_some() => return Ok(false),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(SurviveError::Hangs { life: life.number, log: self.log.clone() });
                }
            }
            if let End::Late(after) = end
                && until.is_none()
                && life.is_running
            {
                until = Some(Instant::now() + *after);
            }
            if until.is_some_and(|until| until <= Instant::now()) {
                return Ok(false);
            }
        }
    }

    /// Checks what a life found, and remembers what it acknowledged.
    fn take_in(&mut self, mut life: Life, end: &End) {
        if life.is_running {
            let end = life.number << LIFE_BITS;
            let checked = self.books.check(&life.found, self.checked, end);
            self.checked = end;
            self.wrong.extend(checked.wrong.into_iter().map(|wrong| (life.number, wrong)));
            self.there += checked.there;
            self.kept += checked.kept;
            self.lost += checked.lost;
        }
        life.row.acknowledged = life.acknowledged.len() as u64;
        (life.row.early, life.row.late) = match (end, life.is_running) {
            (End::Itself, _) => (0, 0),
            (_, is_running) => (u64::from(!is_running), u64::from(is_running)),
        };
        self.books.acknowledge(life.acknowledged);
        let row = self.rows.entry(life.shards).or_default();
        row.lives += life.row.lives;
        row.early += life.row.early;
        row.late += life.row.late;
        row.checkpoints += life.row.checkpoints;
        row.acknowledged += life.row.acknowledged;
        row.owed += life.row.owed;
        row.recovery = row.recovery.max(life.row.recovery);
    }

    fn report(&self, to: &mut impl Write, took: Duration) -> io::Result<()> {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY);
        table.set_header([
            "shards",
            "lives",
            "killed starting",
            "killed paying",
            "acknowledged",
            "owed at start",
            "checkpoints asked for",
            "longest recovery",
        ]);
        for (shards, row) in &self.rows {
            let numbers =
                [*shards, row.lives, row.early, row.late, row.acknowledged, row.owed, row.checkpoints];
            let mut cells: Vec<Cell> = numbers.iter().map(|number| Cell::new(HumanCount(*number))).collect();
            cells.push(Cell::new(format!("{:.1} ms", row.recovery.as_secs_f64() * 1e3)));
            table.add_row(cells);
        }
        for column in table.column_iter_mut() {
            column.set_cell_alignment(CellAlignment::Right);
        }
        writeln!(to, "{table}")?;
        let kills: u64 = self.rows.values().map(|row| row.early + row.late).sum();
        let acknowledged: u64 = self.rows.values().map(|row| row.acknowledged).sum();
        writeln!(to, "kills         {} in {took:.1?}", HumanCount(kills))?;
        writeln!(to, "acknowledged  {}", HumanCount(acknowledged))?;
        writeln!(to, "  kept        {}", HumanCount(self.kept))?;
        writeln!(to, "  lost        {}", HumanCount(self.lost))?;
        writeln!(
            to,
            "found         {}: those kept, and some that nobody was told of",
            HumanCount(self.there)
        )?;
        if self.wrong.is_empty() {
            return match self.told.ack {
                ToldAck::Durable => writeln!(
                    to,
                    "survived: every acknowledged payment is there, none was torn or made twice, and the sum is exact"
                ),
                ToldAck::Applied => writeln!(
                    to,
                    "survived: {} acknowledged payments are lost, which answers that do not wait for the disk allow, and always the last; none was torn or made twice, and the sum is exact",
                    HumanCount(self.lost)
                ),
            };
        }
        for (life, wrong) in self.wrong.iter().take(WRONG_SHOWN_MAX) {
            writeln!(to, "life {life} finds: {wrong}")?;
        }
        if let Some(more) = self.wrong.len().checked_sub(WRONG_SHOWN_MAX + 1) {
            writeln!(to, "... and {} more", more + 1)?;
        }
        writeln!(
            to,
            "NOT SURVIVED: {} wrongs, seed {}; the log is kept in {}",
            self.wrong.len(),
            self.told.seed,
            self.log.display()
        )
    }
}

fn heard(life: &mut Life, line: &str) -> Result<(), SurviveError> {
    match life.hear(line) {
        Some(()) => Ok(()),
        None => Err(SurviveError::Strange { life: life.number, line: line.to_string() }),
    }
}

/// The lines of an output, each as soon as it is whole. What follows the last line end is none.
fn lines(output: impl io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = String::new();
        while output.read_line(&mut line).is_ok_and(|bytes| bytes > 0) && line.ends_with('\n') {
            line.pop();
            if sender.send(std::mem::take(&mut line)).is_err() {
                return;
            }
        }
    });
    lines
}
