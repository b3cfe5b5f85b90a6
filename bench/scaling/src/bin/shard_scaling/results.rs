//! A run's directory: `run.json`, written while it is measured, and what follows from it in the
//! end: `cells.csv`, `latency/*.hgrm` and `report.html`. Each is written beside the old one and
//! then put in its place, so that whatever happens a whole one is there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use freehold_workloads::{RUN_FORMAT, Run};

use freehold_scaling::report;

/// What a run's directory can say.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// A file.
    #[error("{path}: {source}")]
    File { path: PathBuf, source: io::Error },
    /// There is a run.
    #[error("{directory} has a run already: choose another --out, or go on with it by --resume {directory}")]
    Taken { directory: PathBuf },
    /// It is no run.
    #[error("{path} is not a run of this benchmark: {source}")]
    NoRun { path: PathBuf, source: serde_json::Error },
    /// It is from another version.
    #[error(
        "{path} has format {found}, and this benchmark reads {RUN_FORMAT}: use the version that wrote it"
    )]
    Format { path: PathBuf, found: u32 },
}

/// A run's directory.
pub struct Results {
    directory: PathBuf,
}

impl Results {
    /// A directory for a new run.
    ///
    /// # Errors
    /// If it has one already, or cannot be made.
    pub fn begin(directory: PathBuf) -> Result<Self, ResultsError> {
        if directory.join("run.json").exists() {
            return Err(ResultsError::Taken { directory });
        }
        Results::open(directory)
    }

    /// The directory of a run, made if it is not there.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn open(directory: PathBuf) -> Result<Self, ResultsError> {
        let at = |path: &Path, source| ResultsError::File { path: path.to_owned(), source };
        fs::create_dir_all(directory.join("latency")).map_err(|source| at(&directory, source))?;
        Ok(Results { directory })
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What is in it.
    ///
    /// # Errors
    /// If there is no run in it, or not one of this version.
    pub fn read(directory: &Path) -> Result<Run, ResultsError> {
        let path = directory.join("run.json");
        let text = fs::read(&path).map_err(|source| ResultsError::File { path: path.clone(), source })?;
        let run: Run = serde_json::from_slice(&text)
            .map_err(|source| ResultsError::NoRun { path: path.clone(), source })?;
        if run.format != RUN_FORMAT {
            return Err(ResultsError::Format { path, found: run.format });
        }
        Ok(run)
    }

    /// Writes `run.json`.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn keep(&self, run: &Run) -> Result<(), ResultsError> {
        let text = serde_json::to_vec(run).expect("a run has only what JSON has");
        self.write("run.json", &text)
    }

    /// Writes everything else, which follows from `run.json`.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn publish(&self, run: &Run) -> Result<(), ResultsError> {
        self.keep(run)?;
        self.write("cells.csv", report::csv(run).as_bytes())?;
        self.write("report.html", report::html(run).as_bytes())?;
        for (number, measured) in run.cells.iter().enumerate() {
            let repetitions = measured.repetitions();
            if !repetitions.is_empty() {
                let all = report::merged(repetitions.iter().map(|repetition| &repetition.latency));
                let text = report::percentiles(&report::heading(measured), &all);
                self.write(&report::histogram(number), text.as_bytes())?;
            }
        }
        Ok(())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), ResultsError> {
        let path = self.directory.join(name);
        let new = path.with_extension("new");
        fs::write(&new, bytes)
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|source| ResultsError::File { path, source })
    }
}
