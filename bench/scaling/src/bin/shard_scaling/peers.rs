//! Other systems, measured by a process of their own: the package `peers`, which is built when it
//! is first asked for.
//!
//! The process reads a trial a line and answers with what came of it, a line each. It is started as
//! it was built and not by `cargo run`: who kills cargo does not kill what it runs. It is in a
//! process group of its own, so that a Ctrl-C in a terminal reaches this program alone, which then
//! ends it. If this program dies first, its input ends, and it ends after the trial it is at.
//!
//! A process that dies, hangs or says what makes no sense costs one cell: the next trial has a new
//! one.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use freehold_workloads::{Answer, Engine, Trial};
use serde_json::Value;
use tempfile::TempDir;

/// Why peers cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    /// Cargo could not be run, or the process.
    #[error("the peers' process: {0}")]
    Process(#[from] io::Error),
    /// They do not build.
    #[error("the package `peers` does not build: see above")]
    Build,
    /// It does not say which there are.
    #[error("the peers' process does not list them ({0}): see above")]
    List(ExitStatus),
    /// What it said makes no sense, or a trial cannot be said.
    #[error("the peers' process said what makes no sense: {0}")]
    Nonsense(#[from] serde_json::Error),
    /// Nobody is called so.
    #[error("there is no peer `{name}`; there are {known}")]
    Unknown { name: String, known: String },
}

const PACKAGE: &str = "freehold-peers";

/// Builds the peers. Where the program is, is cargo's to say.
fn build() -> Result<PathBuf, PeersError> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
    cargo.args(["build", "--release", "--message-format", "json-render-diagnostics", "--package", PACKAGE]);
    let built = cargo.arg("--manifest-path").arg(manifest).stderr(Stdio::inherit()).output()?;
    if !built.status.success() {
        return Err(PeersError::Build);
    }
    let lines = built.stdout.split(|byte| *byte == b'\n');
    lines.filter_map(|line| executable(&serde_json::from_slice(line).ok()?)).next().ok_or(PeersError::Build)
}

/// The program, if that is the message of it.
fn executable(message: &Value) -> Option<PathBuf> {
    let is_it = message["reason"] == "compiler-artifact" && message["target"]["name"] == PACKAGE;
    message["executable"].as_str().filter(|_| is_it).map(PathBuf::from)
}

/// Builds the peers and says which there are.
///
/// # Errors
/// If that fails.
pub fn known() -> Result<BTreeMap<String, Engine>, PeersError> {
    list(&build()?)
}

fn list(program: &Path) -> Result<BTreeMap<String, Engine>, PeersError> {
    let listed = Command::new(program).arg("--list").stderr(Stdio::inherit()).output()?;
    if !listed.status.success() {
        return Err(PeersError::List(listed.status));
    }
    Ok(serde_json::from_slice(&listed.stdout)?)
}

/// Those of `known` that are wanted; all if none is named.
///
/// # Errors
/// If one is not known.
pub fn chosen(
    mut known: BTreeMap<String, Engine>,
    wanted: &[String],
) -> Result<BTreeMap<String, Engine>, PeersError> {
    if let Some(name) = wanted.iter().find(|name| !known.contains_key(*name)) {
        let known = known.keys().cloned().collect::<Vec<_>>().join(", ");
        return Err(PeersError::Unknown { name: name.clone(), known });
    }
    known.retain(|name, _| wanted.is_empty() || wanted.contains(name));
    Ok(known)
}

/// Answers are waited for so long before it is looked whether somebody wants an end.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A trial that takes longer hangs: rows are loaded and read within the first part, whatever the
/// workload.
fn deadline(trial: &Trial) -> Duration {
    Duration::from_secs(60) + Duration::from_secs_f64(20.0 * (trial.warm_up + trial.measure))
}

/// The peers' program, and its process while there is one.
pub struct Peers {
    program: PathBuf,
    process: Option<Process>,
}

struct Process {
    child: Child,
    /// `None` when it is to end.
    trials: Option<ChildStdin>,
    /// Its lines; ends with its output.
    answers: Receiver<io::Result<String>>,
    /// Of its stores: it may be killed before it removes them.
    directory: TempDir,
}

/// What came of waiting for a line.
enum Heard {
    Line(String),
    /// It is to be killed, if it still lives, and that is why.
    Lost(String),
    Interrupted,
}

impl Peers {
    /// Builds the program, if that was not done yet.
    ///
    /// # Errors
    /// If that fails.
    pub fn new() -> Result<Self, PeersError> {
        Ok(Peers { program: build()?, process: None })
    }

    /// Has one trial measured; `None` if it was interrupted.
    ///
    /// # Errors
    /// If no process can be started. One that dies is an answer.
    pub fn measure(&mut self, trial: &Trial, interrupted: &AtomicBool) -> Result<Option<Answer>, PeersError> {
        self.measure_until(trial, interrupted, deadline(trial))
    }

    fn measure_until(
        &mut self,
        trial: &Trial,
        interrupted: &AtomicBool,
        patience: Duration,
    ) -> Result<Option<Answer>, PeersError> {
        let mut process = match self.process.take() {
            Some(process) => process,
            None => Process::start(&self.program, &trial.directory)?,
        };
        let trial = Trial { directory: process.directory.path().to_owned(), ..trial.clone() };
        let why = match process.ask(&serde_json::to_string(&trial)?, interrupted, patience) {
            Heard::Interrupted => {
                process.kill();
                return Ok(None);
            }
            Heard::Line(line) => match serde_json::from_str(&line) {
                Ok(answer) => {
                    self.process = Some(process);
                    return Ok(Some(answer));
                }
                Err(error) => format!("said what makes no sense: {error}"),
            },
            Heard::Lost(why) => why,
        };
        let how = process.kill();
        Ok(Some(Answer::Failed(format!("the process {why} ({how})"))))
    }
}

impl Process {
    fn start(program: &Path, within: &Path) -> Result<Self, PeersError> {
        let directory = tempfile::Builder::new().prefix("freehold-peers-").tempdir_in(within)?;
        let mut command = Command::new(program);
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let trials = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let (said, answers) = mpsc::channel();
        // It ends with the output, or when nobody listens any more.
        thread::spawn(move || output.lines().try_for_each(|line| said.send(line)));
        Ok(Process { child, trials, answers, directory })
    }

    fn ask(&mut self, trial: &str, interrupted: &AtomicBool, patience: Duration) -> Heard {
        let until = Instant::now() + patience;
        let trials = self.trials.as_mut().expect("it is open until this is dropped");
        // One that is dead takes nothing. A trial fits into the pipe of one that hangs.
        if let Err(error) = writeln!(trials, "{trial}").and_then(|()| trials.flush()) {
            return Heard::Lost(format!("died before the trial: {error}"));
        }
        loop {
            if interrupted.load(Ordering::Relaxed) {
                return Heard::Interrupted;
            }
            match self.answers.recv_timeout(LOOK_EVERY) {
                Ok(Ok(line)) => return Heard::Line(line),
                Ok(Err(error)) => return Heard::Lost(format!("cannot be read: {error}")),
                Err(RecvTimeoutError::Disconnected) => {
                    return Heard::Lost("died in the middle of the trial".to_owned());
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() > until => {
                    return Heard::Lost(format!("did not answer within {patience:?}"));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Ends it now, and says how it ended: by itself, if it had.
    fn kill(mut self) -> String {
        // A child that ended by itself and was not waited for can be killed: it is nothing then,
        // and its own status is found.
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.map_or_else(|error| error.to_string(), |status| status.to_string())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The end of its input is its end.
        drop(self.trials.take());
        if let Err(error) = self.child.wait() {
            eprintln!("shard_scaling: the peers' process: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use freehold_workloads::{Cell, Cross, Durability, Load, SEED, Skew, SmallBank, Spec};

    use super::*;

    /// Longer than any of these takes.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// A program that does what a shell is told. Another process writes it: a file that this
    /// process held open to write could not be run ("text file busy") as long as a child that
    /// another test's thread has just forked still has a copy of its descriptor.
    fn peers(directory: &Path, script: &str) -> Peers {
        let program = directory.join("peers.sh");
        let mut writer = Command::new("sh")
            .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
            .arg(&program)
            .stdin(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let mut input = writer.stdin.take().expect("it is piped");
        write!(input, "#!/bin/sh\n{script}\n").expect("it is read");
        drop(input);
        assert!(writer.wait().expect("it is a child").success(), "it is written");
        Peers { program, process: None }
    }

    fn trial(directory: &Path) -> Trial {
        Trial {
            cell: Cell {
                engine: "somebody".to_owned(),
                spec: Spec::SmallBank(SmallBank { customers: 100, skew: Skew::Uniform }),
                shards: 1,
                cross: Cross::Natural,
                durability: Durability::None,
                load: Load::Closed { in_flight: 1 },
            },
            seed: SEED,
            warm_up: 0.0,
            measure: 0.1,
            per_second: None,
            directory: directory.to_owned(),
        }
    }

    fn measure(peers: &mut Peers, directory: &Path, patience: Duration) -> Option<Answer> {
        let never = AtomicBool::new(false);
        peers.measure_until(&trial(directory), &never, patience).expect("there is a process")
    }

    fn failed(answer: Option<Answer>) -> String {
        match answer {
            Some(Answer::Failed(why)) => why,
            other => panic!("it has failed, and {other:?} was said"),
        }
    }

    #[test]
    fn a_process_that_dies_costs_one_trial() {
        let directory = tempfile::tempdir().expect("a directory");
        // The first one leaves a file, and dies of its first trial.
        let script = "if [ -e $0.was ]; then while read line; do echo '{\"cannot\":\"I\"}'; done; fi
            touch $0.was; read line; exit 3";
        let mut peers = peers(directory.path(), script);
        let why = failed(measure(&mut peers, directory.path(), PATIENCE));
        assert!(why.contains("died in the middle") && why.contains("exit status: 3"), "{why}");
        for _ in 0..2 {
            let answer = measure(&mut peers, directory.path(), PATIENCE);
            assert!(matches!(&answer, Some(Answer::Cannot(why)) if why == "I"), "{answer:?}");
        }
    }

    #[test]
    fn a_process_that_hangs_or_babbles_is_killed() {
        let directory = tempfile::tempdir().expect("a directory");
        let why = failed(measure(
            &mut peers(directory.path(), "exec sleep 600"),
            directory.path(),
            Duration::from_millis(100),
        ));
        assert!(why.contains("did not answer within 100ms") && why.contains("signal: 9"), "{why}");
        let mut babbles = peers(directory.path(), "read line; echo what; exec sleep 600");
        assert!(failed(measure(&mut babbles, directory.path(), PATIENCE)).contains("makes no sense"));
        assert!(babbles.process.is_none());
    }

    #[test]
    fn who_interrupts_does_not_wait_for_an_answer_and_what_was_stored_is_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut peers = peers(directory.path(), "exec sleep 600");
        let (interrupted, begun) = (AtomicBool::new(false), Instant::now());
        let answer = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(200));
                interrupted.store(true, Ordering::Relaxed);
            });
            peers.measure(&trial(directory.path()), &interrupted).expect("there is a process")
        });
        assert!(answer.is_none() && begun.elapsed() < PATIENCE, "{answer:?}");
        assert_eq!(directory.path().read_dir().expect("it reads").count(), 1, "the program, and no stores");
    }

    #[test]
    fn a_process_is_in_a_group_of_its_own() {
        let directory = tempfile::tempdir().expect("a directory");
        // The fifth field of its status is its group.
        let script =
            "read line; read all < /proc/$$/stat; set -- $all; echo \"{\\\"cannot\\\":\\\"$1 $5\\\"}\"";
        let answer = measure(&mut peers(directory.path(), script), directory.path(), PATIENCE);
        let Some(Answer::Cannot(said)) = answer else { panic!("{answer:?}") };
        let (process, group) = said.split_once(' ').expect("two");
        assert_eq!(process, group);
    }

    #[test]
    fn a_list_that_ends_badly_is_none() {
        let directory = tempfile::tempdir().expect("a directory");
        let Peers { program, .. } = peers(directory.path(), "echo {}; exit 3");
        assert!(matches!(list(&program), Err(PeersError::List(status)) if status.code() == Some(3)));
    }
}
