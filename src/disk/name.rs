//! The names that files of a log's directory have. Everything else in the directory is somebody
//! else's, and is left alone.
//!
//! A name is ours only if it is what we would write: making it again from what was read in it gives
//! the same name. So `log-dead-beef` is nobody's segment, because the numbers of ours have eight
//! digits, and `checkpoint-00000001.bak` is nobody's part.

use std::fmt;

/// The file that is locked, beside the directory itself, for the versions of Freehold that lock
/// nothing else.
pub(crate) const LOCK: &str = "lock";
/// What belongs to the database.
pub(crate) const MANIFEST: &str = "manifest";
/// The one before.
pub(crate) const MANIFEST_OLD: &str = "manifest.old";
/// What a file's replacement is called until it takes the file's place.
pub(crate) const NEW: &str = ".new";
/// What a file is called when another has taken its place.
pub(super) const OLD: &str = ".old";
/// What a file is called that is about to be the old one.
pub(super) const OLD_NEW: &str = ".old.new";
/// Is in a directory that a backup or a restore is filling, as long as it is not whole.
pub(crate) const UNFINISHED: &str = "unfinished-copy";
/// A second name of a file that is being copied.
pub(crate) const PIN: &str = "unfinished-pin";
/// Says which owed messages are under way: see `log::under_way`.
pub(crate) const UNDER_WAY: &str = "under-way";

/// A name of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileName {
    /// One that never has another, or is one of the steps from one manifest to the next.
    Fixed(&'static str),
    /// A segment of a log.
    Segment { log: u64, segment: u64 },
    /// A part of a checkpoint.
    Part { log: u64 },
    /// A segment that is not needed, or one that is being made.
    Spare(u64),
}

/// All names that hold no number.
const FIXED: [&str; 8] =
    [LOCK, MANIFEST, MANIFEST_OLD, "manifest.new", "manifest.old.new", UNFINISHED, PIN, UNDER_WAY];

impl FileName {
    /// What a name says, if it is ours.
    pub(crate) fn parse(name: &str) -> Option<FileName> {
        if let Some(fixed) = FIXED.into_iter().find(|fixed| *fixed == name) {
            return Some(FileName::Fixed(fixed));
        }
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        let (kind, numbers) = name.split_once('-')?;
        let parsed = match kind {
            "log" => {
                let (log, segment) = numbers.split_once('-')?;
                FileName::Segment { log: number(log)?, segment: number(segment)? }
            }
            "checkpoint" => FileName::Part { log: number(numbers)? },
            "spare" => FileName::Spare(number(numbers)?),
            _ => return None,
        };
        (parsed.to_string() == name).then_some(parsed)
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileName::Fixed(name) => f.write_str(name),
            FileName::Segment { log, segment } => write!(f, "log-{log:08x}-{segment:08x}"),
            FileName::Part { log } => write!(f, "checkpoint-{log:08x}"),
            FileName::Spare(number) => write!(f, "spare-{number:x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_would_be_written_otherwise_is_somebody_elses() {
        for name in [
            "checkpoint-notes.txt",
            "checkpoint-before-upgrade.tar.gz",
            "checkpoint-00000001.bak",
            "checkpoint-1",
            "checkpoint-0000000A",
            "checkpoint-+0000001",
            "checkpoint-",
            "log-dead-beef",
            "log-00000000-00000000-00000000",
            "log-000000000-00000000",
            "log-00000000",
            "logs-00000000-00000000",
            "spare-01",
            "spare-A",
            "spare-x",
            "spare",
            "Manifest",
            "manifest.bak",
            "manifest.old.old",
            " manifest",
            "lock.old",
            "",
        ] {
            assert_eq!(FileName::parse(name), None, "{name}");
        }
    }

    #[test]
    fn the_steps_of_a_replacement_are_ours() {
        for end in ["", NEW, OLD, OLD_NEW] {
            let name = format!("{MANIFEST}{end}");
            assert_eq!(FileName::parse(&name).map(|name| name.to_string()), Some(name));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(log: u64, segment: u64, is_small: bool) {
            let [log, segment] = [log, segment].map(|number| if is_small { number & 0xffff } else { number });
            for name in [FileName::Segment { log, segment }, FileName::Part { log }, FileName::Spare(log)] {
                prop_assert_eq!(FileName::parse(&name.to_string()), Some(name));
            }
        }

        #[test]
        fn no_two_names_are_the_same_file(name in "(log|checkpoint|spare)-[0-9a-fA-F+.-]{1,20}") {
            if let Some(parsed) = FileName::parse(&name) {
                prop_assert_eq!(parsed.to_string(), name);
            }
        }
    }
}
