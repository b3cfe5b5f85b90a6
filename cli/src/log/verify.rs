//! `freehold log verify`: reads everything, and prints what there is and everything that is wrong.
//!
//! The exit status is 1 if anything is wrong.

use std::path::Path;
use std::process::ExitCode;

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, Table};
use freehold::LogError;
use freehold::inspect::{self, Verified, VerifiedRun};

pub fn verify(directory: &Path) -> Result<ExitCode, LogError> {
    let verified = inspect::verify(directory)?;
    println!("{}", summary(&verified));
    for damage in &verified.damages {
        println!("{damage}");
    }
    match verified.damages.len() {
        0 => println!("no damage"),
        damages => println!("{damages} damaged"),
    }
    Ok(if verified.damages.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn summary(verified: &Verified) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    let mut row = |what: String, value: String| {
        table.add_row([what, value]);
    };
    row("database".into(), format!("{:016x}", verified.database));
    row("segment bytes".into(), verified.segment_bytes.to_string());
    if let Some(checkpoint) = &verified.checkpoint {
        row("checkpoint before epoch".into(), checkpoint.epoch.0.to_string());
        row("  version of types".into(), checkpoint.schema_version.to_string());
        row("  parts, bytes".into(), format!("{}, {}", checkpoint.parts, checkpoint.bytes));
        row("  objects, messages owed".into(), format!("{}, {}", checkpoint.objects, checkpoint.owed));
    }
    for (number, run) in verified.runs.iter().enumerate() {
        let VerifiedRun { after, logs, segments, bytes, batches, records, closed, cut, has_ended, .. } = run;
        let epoch =
            |epoch: Option<inspect::Epoch>| epoch.map_or("unknown".into(), |epoch| epoch.0.to_string());
        let how = if *has_ended { "shut down" } else { "running or crashed" };
        row(format!("run {}", number + 1), format!("after epoch {}, {how}", after.0));
        row("  version of types".into(), run.schema_version.to_string());
        row("  logs, segments, bytes".into(), format!("{logs}, {segments}, {bytes}"));
        row("  batches, records".into(), format!("{batches}, {records}"));
        row("  closed, complete through epoch".into(), format!("{}, {}", epoch(*closed), epoch(*cut)));
    }
    row("spare segments".into(), verified.spares.to_string());
    row("messages set aside".into(), verified.set_aside.len().to_string());
    for (name, bytes) in &verified.strays {
        row("belongs to nothing".into(), format!("{name}, {bytes} bytes"));
    }
    for (name, bytes) in &verified.others {
        row("not the log's".into(), format!("{name}, {bytes} bytes"));
    }
    table.column_mut(1).expect("it has two columns").set_cell_alignment(CellAlignment::Right);
    table
}
