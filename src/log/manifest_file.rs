//! The manifest on disk, as the runtime that has the directory open has written it last.
//!
//! A runtime goes on from the manifest that it wrote itself. Should another be there (a backup was
//! copied over the directory, a program without the lock has written, the file was removed), then
//! what is written from now on belongs to nothing, and writing our manifest over the other would
//! take away what that one vouches for. So before every replacement, and before every new segment,
//! the file is compared with what was written last; if it differs, the log is at its end:
//! [`LogError::Replaced`].

use freehold_shard::PlacementKey;
use freehold_shard::manifest::Manifest;

use super::contents::read_manifest;
use super::{Create, MANIFEST};
use crate::disk::directory::Directory;
use crate::disk::error::LogError;

/// The manifest of a directory that is ours. Nothing else replaces it; a backup gets its only one
/// otherwise.
#[derive(Debug)]
pub(crate) struct ManifestFile {
    directory: Directory,
    /// What the file may hold: what was written last, and, after a replacement that failed, what
    /// was to be written.
    may_hold: Vec<Vec<u8>>,
    /// The number of the start it is of, for what is said.
    start: Option<u64>,
}

impl ManifestFile {
    /// The manifest of a directory. Where there is none it makes one of a new database, as `create`
    /// says, with segments of so many bytes.
    ///
    /// # Errors
    /// [`LogError::NoDatabase`], [`LogError::NotNew`], or as [`read_manifest`]: then nothing was
    /// changed.
    pub(crate) fn open(
        directory: &Directory,
        create: Create,
        segment_bytes: u64,
        key: Option<PlacementKey>,
        random: impl Fn() -> u64,
    ) -> Result<(ManifestFile, Manifest), LogError> {
        let path = || directory.path().to_path_buf();
        let mut file = ManifestFile { directory: directory.clone(), may_hold: Vec::new(), start: None };
        let manifest = match (read_manifest(directory)?, create) {
            (Some(_), Create::New) => return Err(LogError::NotNew { directory: path() }),
            (Some(manifest), _) => {
                // By its bytes: what an earlier version wrote reads as if this one had written it
                // otherwise.
                file.may_hold.push(directory.read(MANIFEST)?);
                file.start = start(&manifest);
                manifest
            }
            (None, Create::Never) => return Err(LogError::NoDatabase { directory: path() }),
            (None, Create::IfMissing | Create::New) => {
                let manifest =
                    Manifest::new(random(), key.unwrap_or_else(|| PlacementKey(random())), segment_bytes);
                // Before any other file: a crash while the first logs are made must not leave files
                // that nobody vouches for.
                file.put(&manifest)?;
                tracing::info!(directory = %path().display(), "a new database was made");
                manifest
            }
        };
        Ok((file, manifest))
    }

    /// Replaces it.
    ///
    /// # Errors
    /// [`LogError::Replaced`]; after any other the file holds the old manifest or the new.
    pub(crate) fn replace(&mut self, manifest: &Manifest) -> Result<(), LogError> {
        self.directory.note_moved();
        self.check()?;
        self.put(manifest)
    }

    /// Refuses to go on if it is another's.
    ///
    /// # Errors
    /// [`LogError::Replaced`]; or it cannot be read.
    pub(crate) fn check(&self) -> Result<(), LogError> {
        let found = match self.directory.read(MANIFEST) {
            Ok(found) => Some(found),
            Err(LogError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if found.as_ref().is_some_and(|found| self.may_hold.contains(found)) {
            return Ok(());
        }
        let found = match found.as_deref().map(Manifest::from_bytes) {
            None => "nothing".to_string(),
            Some(Err(error)) => format!("one that cannot be read: {error}"),
            Some(Ok(manifest)) => said(start(&manifest)),
        };
        let (file, expected) = (self.directory.file(MANIFEST), said(self.start));
        Err(LogError::Replaced { file, found, expected })
    }

    fn put(&mut self, manifest: &Manifest) -> Result<(), LogError> {
        let bytes = manifest.to_bytes();
        self.may_hold.push(bytes.clone());
        self.directory.replace(MANIFEST, &bytes)?;
        self.may_hold = vec![bytes];
        self.start = start(manifest);
        Ok(())
    }
}

/// The number of the last start a manifest names.
fn start(manifest: &Manifest) -> Option<u64> {
    manifest.runs.last().map(|run| run.start)
}

fn said(start: Option<u64>) -> String {
    start.map_or("one of no start".to_string(), |start| format!("one of start {start:016x}"))
}
