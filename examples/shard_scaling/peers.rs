//! Other systems, measured by a process of their own: the package `peers`, which is built when it is first asked for.
//!
//! The process reads a trial a line and answers with what came of it, a line each.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use freehold_workloads::{Answer, Engine, Trial};

/// Why peers cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    /// Cargo could not be run, or the process.
    #[error("the peers' process: {0}")]
    Process(#[from] io::Error),
    /// They do not build.
    #[error("the package `peers` does not build: see above")]
    Build,
    /// What it said makes no sense.
    #[error("the peers' process said what makes no sense: {0}")]
    Nonsense(#[from] serde_json::Error),
    /// It is gone.
    #[error("the peers' process ended in the middle of a trial: see above")]
    Ended,
    /// Nobody is called so.
    #[error("there is no peer `{name}`; there are {known}")]
    Unknown { name: String, known: String },
}

/// The peers' process.
pub struct Peers {
    child: Child,
    trials: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

fn cargo(command: &str) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    cargo.args([command, "--release", "--package", "freehold-peers", "--manifest-path"]).arg(manifest);
    cargo
}

/// Builds the peers and says which there are.
///
/// # Errors
/// If that fails.
pub fn known() -> Result<BTreeMap<String, Engine>, PeersError> {
    if !cargo("build").status()?.success() {
        return Err(PeersError::Build);
    }
    let listed = cargo("run").args(["--quiet", "--", "--list"]).stderr(Stdio::inherit()).output()?;
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

impl Peers {
    /// Starts the process.
    ///
    /// # Errors
    /// If that fails.
    pub fn start() -> Result<Self, PeersError> {
        let mut child = cargo("run").arg("--quiet").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let trials = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        Ok(Peers { child, trials, answers })
    }

    /// Has one trial measured.
    ///
    /// # Errors
    /// If the process ended, or what it says makes no sense.
    pub fn measure(&mut self, trial: &Trial) -> Result<Answer, PeersError> {
        let trials = self.trials.as_mut().expect("it is open until this is dropped");
        writeln!(trials, "{}", serde_json::to_string(trial)?)?;
        trials.flush()?;
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err(PeersError::Ended);
        }
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        // The end of its input is its end.
        drop(self.trials.take());
        if let Err(error) = self.child.wait() {
            eprintln!("shard_scaling: the peers' process: {error}");
        }
    }
}
