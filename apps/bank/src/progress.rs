//! The progress bar on standard error, shown only if that is a terminal, and messages that leave it
//! whole.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use freehold::Recovery;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A recovery that takes less is over before anybody could read of it.
const RECOVERY_SHOWN_AFTER: Duration = Duration::from_millis(300);

/// What a bar counts.
#[derive(PartialEq, Eq)]
enum Unit {
    Payments,
    /// Bytes of a file, or nothing.
    Input,
}

/// How far the run is.
pub struct Progress {
    bar: ProgressBar,
    unit: Unit,
    paid: AtomicU64,
}

impl Progress {
    /// For a known number of payments.
    pub fn of_payments(payments: u64) -> Self {
        Progress::new(ProgressBar::new(payments), Unit::Payments, "{bar:40} {percent} %  {msg}  {eta} to go")
    }

    /// For a file of a known size, read through what is returned with it.
    pub fn of_file(file: File, bytes: u64) -> (Self, impl Read) {
        let progress =
            Progress::new(ProgressBar::new(bytes), Unit::Input, "{bar:40} {percent} %  {msg}  {eta} to go");
        let file = progress.bar.wrap_read(file);
        (progress, file)
    }

    /// For an input whose end is not known.
    pub fn of_stream() -> Self {
        Progress::new(ProgressBar::new_spinner(), Unit::Input, "{spinner} {elapsed}  {msg}")
    }

    fn new(bar: ProgressBar, unit: Unit, template: &str) -> Self {
        bar.set_style(ProgressStyle::with_template(template).expect("the templates above are right"));
        Progress { bar, unit, paid: AtomicU64::new(0) }
    }

    /// A bar for a recovery: what it is told by, and itself, to be taken away when the recovery is
    /// done.
    pub fn of_recovery() -> (freehold::Progress, ProgressBar) {
        let bar = ProgressBar::hidden();
        let template = "{bar:40} {percent} %  {msg}  {eta} to go";
        bar.set_style(ProgressStyle::with_template(template).expect("the template above is right"));
        let shown = bar.clone();
        let progress = move |Recovery { bytes, bytes_read, took, .. }: Recovery| {
            // All is read twice.
            bar.set_length(2 * bytes);
            bar.set_position(bytes_read);
            if took >= RECOVERY_SHOWN_AFTER && bar.is_hidden() {
                bar.set_message(format!("reading the log, {}", HumanBytes(bytes)));
                bar.set_draw_target(ProgressDrawTarget::stderr());
            }
        };
        (Arc::new(progress), shown)
    }

    /// So many payments need not be made any more.
    pub fn skipped(&self, payments: u64) {
        if self.unit == Unit::Payments {
            self.bar.inc(payments);
        }
    }

    /// So many more payments have been answered.
    pub fn paid(&self, payments: u64) {
        let paid = self.paid.fetch_add(payments, Ordering::Relaxed) + payments;
        if self.unit == Unit::Payments {
            self.bar.inc(payments);
        }
        if !self.bar.is_hidden() {
            self.bar.set_message(format!("{} payments", HumanCount(paid)));
        }
    }

    /// Says something on standard error.
    pub fn say(&self, message: &str) {
        self.bar.suspend(|| eprintln!("{message}"));
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
