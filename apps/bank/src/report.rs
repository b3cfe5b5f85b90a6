//! What the bank prints when it is done.

use std::fmt;
use std::time::Duration;

use comfy_table::{Cell, CellAlignment, Table, presets};
use freehold::{Recovery, ShardStats, Stats};
use hdrhistogram::Histogram;
use indicatif::{HumanBytes, HumanCount};

use crate::audit::{Audit, AuditError, Audits};
use crate::books::Books;
use crate::ledger::Reason;
use crate::place::Place;
use crate::run::{Plan, Tally};

/// The log that was kept.
pub struct Kept<'a> {
    pub place: &'a Place,
    /// What was in it at the start.
    pub recovery: Recovery,
}

/// All that is to be told of a run.
pub struct Report<'a> {
    pub kept: &'a Option<Kept<'a>>,
    pub tally: &'a Tally,
    /// Those made during the run,
    pub audits: &'a Audits,
    /// and the one after it.
    pub last_audit: &'a Result<Audit, AuditError>,
    pub books: &'a Books,
    /// As of the end of the payments, before the books were checked.
    pub stats: &'a Stats,
    pub plan: &'a Plan,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.payments(f)?;
        self.log(f)?;
        self.speed(f)?;
        writeln!(f, "{}", self.shards())?;
        self.audits(f)?;
        self.books(f)
    }
}

impl Report<'_> {
    fn payments(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { read, bad_lines, done, refused, unhandled, .. } = self.tally;
        writeln!(f, "payments    {}", HumanCount(*read))?;
        writeln!(f, "  done      {}", HumanCount(*done))?;
        write!(f, "  refused   {}", HumanCount(refused.iter().sum()))?;
        let met = Reason::ALL.into_iter().filter(|reason| refused[reason.index()] > 0);
        for (nth, reason) in met.enumerate() {
            let before = if nth == 0 { ": " } else { ", " };
            write!(f, "{before}{} {}", HumanCount(refused[reason.index()]), reason.label())?;
        }
        writeln!(f)?;
        if *unhandled > 0 {
            writeln!(f, "  unhandled {}", HumanCount(*unhandled))?;
        }
        if *bad_lines > 0 {
            writeln!(f, "bad lines   {}", HumanCount(*bad_lines))?;
        }
        Ok(())
    }

    fn log(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Kept { place, recovery }) = self.kept else {
            return writeln!(f, "log         none: it was all in memory only");
        };
        let Tally { skipped, before, orders, .. } = self.tally;
        match place {
            Place::Named(path) => writeln!(f, "log         in {}", path.display())?,
            Place::Temporary(_) => writeln!(f, "log         on disk, and removed now: `--data` keeps it")?,
        }
        match recovery.records {
            0 => writeln!(f, "  found     nothing: it is new")?,
            _ => writeln!(f, "  found     {recovery}")?,
        }
        if skipped + before > 0 {
            write!(f, "  before    {} payments were decided in runs before", HumanCount(skipped + before))?;
            writeln!(f, ": {} only read, {} handed over again", HumanCount(*skipped), HumanCount(*before))?;
        }
        writeln!(
            f,
            "  durable   {} orders: {} payments, and openings and bookmarks, all on disk before they were answered",
            HumanCount(*orders),
            HumanCount(self.tally.paid()),
        )?;
        let sum = |of: fn(&ShardStats) -> u64| self.stats.shards.iter().map(of).sum::<u64>();
        let (bytes, writes) = (sum(|shard| shard.activity.log_bytes), sum(|shard| shard.activity.log_writes));
        write!(f, "  written   {} in {} writes", HumanBytes(bytes), HumanCount(writes))?;
        match self.tally.paid() {
            0 => writeln!(f),
            paid => writeln!(f, ": {} bytes a payment", bytes / paid),
        }
    }

    fn speed(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { read, skipped, elapsed, reading, latency, .. } = self.tally;
        let handed_over = read - skipped;
        if handed_over == 0 {
            return Ok(());
        }
        let seconds = elapsed.as_secs_f64();
        let rate = handed_over as f64 / seconds.max(f64::EPSILON);
        let share = 100.0 * reading.as_secs_f64() / seconds.max(f64::EPSILON);
        writeln!(
            f,
            "throughput  {} payments a second: {seconds:.3} s by the clock, {share:.0} % of it reading or making payments; {} paid",
            HumanCount(rate as u64),
            tellers(self.plan.tellers),
        )?;
        let quantile = |quantile| nanoseconds(latency.value_at_quantile(quantile));
        writeln!(
            f,
            "latency     p50 {}, p99 {}, p99.9 {}: of each payment, from handing its batch of {} over to having all the batch's outcomes",
            quantile(0.5),
            quantile(0.99),
            quantile(0.999),
            HumanCount(self.plan.batch as u64),
        )
    }

    fn shards(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY);
        table.set_header([
            "shard",
            "CPU",
            "objects",
            "messages",
            "done",
            "consensus",
            "refused",
            "batches",
            "turns",
            "busy",
            "parks",
        ]);
        for shard in &self.stats.shards {
            table.add_row(row(shard));
        }
        for column in table.column_iter_mut() {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    fn audits(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Audits { exact, revoked, accounts, opening, folding, failed } = self.audits;
        write!(f, "audits      {} during the run", HumanCount(*exact))?;
        match failed {
            None if *exact == 0 => writeln!(f)?,
            None => writeln!(f, ", of up to {accounts} accounts: all exact")?,
            Some(_) => writeln!(f, " were exact, AND THE NEXT WAS NOT")?,
        }
        if *revoked > 0 {
            writeln!(f, "  revoked   {} more, for what had to be kept for them", HumanCount(*revoked))?;
        }
        if *exact > 0 {
            let times = |of: &Histogram<u64>| (nanoseconds(of.value_at_quantile(0.5)), nanoseconds(of.max()));
            let ((opening, longest_opening), (folding, longest_folding)) = (times(opening), times(folding));
            writeln!(
                f,
                "  opening   median {opening}, longest {longest_opening}: until the snapshot was there"
            )?;
            writeln!(f, "  folding   median {folding}, longest {longest_folding}: until it was added up")?;
        }
        match self.last_audit {
            Ok(Audit { accounts, held, opening, folding }) => writeln!(
                f,
                "last audit  {accounts} accounts hold {held}: exact; opened in {}, folded in {}",
                microseconds(*opening),
                microseconds(*folding),
            ),
            Err(_) => writeln!(f, "last audit  NOT EXACT"),
        }
    }

    fn books(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Books { accounts, opened, held, unread, .. } = self.books;
        if *unread > 0 {
            return writeln!(f, "books       {} of {accounts} accounts cannot be read", HumanCount(*unread));
        }
        let opening = self.plan.opening;
        let verdict = if self.books.balance() { "they balance" } else { "THEY DO NOT BALANCE" };
        writeln!(
            f,
            "books       {accounts} accounts opened with {opening} make {opened}, and they hold {held}: {verdict}"
        )
    }
}

/// What a shard did. A message is a payment, or the opening of an account. Those done on the
/// consensus path are counted among those done as well, and on the last shard they went to.
fn row(shard: &ShardStats) -> Vec<Cell> {
    let ShardStats { shard, cpu, counters, activity, .. } = shard;
    let mut cells =
        vec![Cell::new(shard.0), Cell::new(cpu.map_or_else(|| "any".to_string(), |cpu| cpu.to_string()))];
    let numbers = [
        counters.objects,
        counters.handled(),
        counters.fast + counters.consensus,
        counters.consensus,
        counters.aborted,
        activity.batches,
        activity.turns,
    ];
    cells.extend(numbers.map(|number| Cell::new(HumanCount(number))));
    cells.push(Cell::new(format!("{:.3} s", Duration::from_nanos(activity.busy_ns).as_secs_f64())));
    cells.push(Cell::new(HumanCount(activity.parks)));
    cells
}

fn tellers(tellers: usize) -> String {
    if tellers == 1 { "one thread".into() } else { format!("{tellers} threads") }
}

fn nanoseconds(time: u64) -> String {
    microseconds(Duration::from_nanos(time))
}

/// A time to three digits or so, in microseconds or milliseconds.
fn microseconds(time: Duration) -> String {
    let microseconds = time.as_secs_f64() * 1e6;
    if microseconds < 1000.0 {
        format!("{microseconds:.1} us")
    } else {
        format!("{:.2} ms", microseconds / 1000.0)
    }
}
