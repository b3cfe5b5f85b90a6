//! The counts that are checked in, `instructions.csv`, and what is made of new ones.
//!
//! A line is a path, its instructions for each operation, by how many percent it may need more, and
//! the compiler it was counted with. Another compiler makes other code, so its counts are compared
//! roughly: a path may need [`OTHER_COMPILER_PERCENT`] more. They were not compared at all, and the
//! check switched itself off with each new compiler. A path that needs less passes, with a hint to
//! write the file anew, or what was won could be lost again unseen.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

const HEAD: &str = "path,instructions,tolerance_percent,compiler";

/// By how much a path may need more. It is not for noise: three runs of one binary needed the same
/// number to the last instruction, since tables are keyed from the seed. It is for changes next to
/// a path, which move the compiler's choices in it by a percent or two.
pub const TOLERANCE_PERCENT: f64 = 3.0;

/// By how much a path may need more with another compiler. Of the counts of 1.95.0, a compiler two
/// versions later needed 0.4 % less to 2.3 % more (1.97.0-nightly, all seven paths).
pub const OTHER_COMPILER_PERCENT: f64 = 8.0;

/// A path's count as it was checked in.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub path: String,
    pub instructions: f64,
    pub tolerance_percent: f64,
    pub compiler: String,
}

/// What is made of a new count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Within the tolerance.
    Same,
    /// It needs more.
    Worse,
    /// It needs less, by more than the tolerance.
    Better,
    /// It was counted with another compiler, and needs about as much.
    OtherCompiler,
    /// It was never counted.
    New,
}

impl Verdict {
    /// Whether the change is not to land as it is.
    pub fn fails(self) -> bool {
        matches!(self, Verdict::Worse | Verdict::New)
    }

    pub fn said(self) -> &'static str {
        match self {
            Verdict::Same => "",
            Verdict::Worse => "MORE than the tolerance",
            Verdict::Better => "less: write the file anew with --update",
            Verdict::OtherCompiler => "another compiler: compared roughly",
            Verdict::New => "NOT IN THE FILE: add it with --update",
        }
    }
}

fn place() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.csv")
}

/// The file, as it is checked in.
///
/// # Errors
/// It cannot be read, or is not what this writes: in words.
pub fn read() -> Result<Vec<Line>, String> {
    let place = place();
    let text = fs::read_to_string(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    parse(&text).map_err(|error| format!("{}: {error}", place.display()))
}

fn parse(text: &str) -> Result<Vec<Line>, String> {
    let mut lines = text.lines();
    if lines.next() != Some(HEAD) {
        return Err(format!("it does not begin with `{HEAD}`"));
    }
    let line = |text: &str| {
        let [path, instructions, tolerance, compiler] = *text.split(',').collect::<Vec<_>>() else {
            return None;
        };
        let number =
            |text: &str| text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0);
        Some(Line {
            path: path.to_owned(),
            instructions: number(instructions)?,
            tolerance_percent: number(tolerance)?,
            compiler: compiler.to_owned(),
        })
    };
    lines.map(|text| line(text).ok_or_else(|| format!("this is no line of it: {text}"))).collect()
}

/// Writes the file anew. Tolerances that were set by hand stay.
///
/// # Errors
/// It cannot be written.
pub fn write(counted: &[(&str, f64)], compiler: &str) -> Result<(), String> {
    let before = read().unwrap_or_default();
    let place = place();
    fs::write(&place, rendered(counted, compiler, &before))
        .map_err(|error| format!("{}: {error}", place.display()))
}

fn rendered(counted: &[(&str, f64)], compiler: &str, before: &[Line]) -> String {
    let mut text = format!("{HEAD}\n");
    for (path, instructions) in counted {
        let tolerance = line_of(before, path).map_or(TOLERANCE_PERCENT, |line| line.tolerance_percent);
        writeln!(text, "{path},{instructions:.1},{tolerance},{compiler}").expect("a string takes all");
    }
    text
}

/// A path's line, if it has one.
pub fn line_of<'a>(lines: &'a [Line], path: &str) -> Option<&'a Line> {
    lines.iter().find(|line| line.path == path)
}

/// How a count is compared with one of another compiler.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// By a tolerance of their own.
    Roughly,
    /// By the tolerance of the line, as if they were of one compiler.
    Strictly,
}

/// What is to be made of a count.
pub fn judge(line: Option<&Line>, instructions: f64, compiler: &str, others: Others) -> Verdict {
    let Some(line) = line else { return Verdict::New };
    let is_rough = line.compiler != compiler && others == Others::Roughly;
    let percent = if is_rough { OTHER_COMPILER_PERCENT } else { line.tolerance_percent };
    let tolerance = line.instructions * percent / 100.0;
    match instructions - line.instructions {
        more if more > tolerance => Verdict::Worse,
        _ if is_rough => Verdict::OtherCompiler,
        less if less < -tolerance => Verdict::Better,
        _ => Verdict::Same,
    }
}

/// The file reads as it was written, names the paths there are, and counts are judged as is said
/// above.
pub fn check(paths: &[&str]) {
    let lines = read().unwrap_or_else(|error| panic!("{error}"));
    let named: Vec<_> = lines.iter().map(|line| line.path.as_str()).collect();
    assert_eq!(named, paths, "the paths of the file are those that are counted");
    let counted: Vec<_> = lines.iter().map(|line| (line.path.as_str(), line.instructions)).collect();
    let again = parse(&rendered(&counted, &lines[0].compiler, &lines));
    assert_eq!(again.as_ref(), Ok(&lines), "what is written is what is read");
    let broken = ["", "path", &format!("{HEAD}\nask_now,1,3"), &format!("{HEAD}\nask_now,much,3,rustc")];
    assert!(broken.iter().all(|text| parse(text).is_err()), "what is no table is refused");

    let line =
        Line { path: "a".into(), instructions: 200.0, tolerance_percent: 3.0, compiler: "rustc 1".into() };
    let judged = |count, compiler, others| judge(Some(&line), count, compiler, others);
    assert_eq!(judged(206.0, "rustc 1", Others::Roughly), Verdict::Same);
    assert_eq!(judged(206.1, "rustc 1", Others::Roughly), Verdict::Worse);
    assert_eq!(judged(193.9, "rustc 1", Others::Roughly), Verdict::Better);
    assert_eq!(judged(215.9, "rustc 2", Others::Roughly), Verdict::OtherCompiler);
    assert_eq!(judged(9.0, "rustc 2", Others::Roughly), Verdict::OtherCompiler);
    assert_eq!(judged(216.1, "rustc 2", Others::Roughly), Verdict::Worse);
    assert_eq!(judged(900.0, "rustc 2", Others::Strictly), Verdict::Worse);
    assert_eq!(judge(None, 1.0, "rustc 1", Others::Roughly), Verdict::New);
    assert!(Verdict::Worse.fails() && Verdict::New.fails());
    assert!(![Verdict::Same, Verdict::Better, Verdict::OtherCompiler].into_iter().any(Verdict::fails));
}
