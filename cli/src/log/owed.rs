//! `freehold log owed`: a line of JSON for each message that was told and has not run.
//!
//! A message that is set aside, because it was under way in several crashes, can be released: it
//! runs again at the next start. Any can be dropped: it never runs.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use freehold::inspect::SendId;
use freehold::{LogError, owed};
use serde::Serialize;

use super::hex;

/// A message that is owed as it is printed.
#[derive(Serialize)]
struct OwedLine {
    send_id: u64,
    sender: u64,
    /// Nanoseconds of the database's own time.
    #[serde(skip_serializing_if = "Option::is_none")]
    due: Option<u64>,
    /// How many runs it was under way in when they crashed.
    lives: u32,
    set_aside: bool,
    message: String,
}

pub fn owed(directory: &Path, release: Option<u64>, drop: Option<u64>) -> Result<ExitCode, LogError> {
    if let Some(send_id) = release {
        owed::release(directory, SendId(send_id))?;
        println!("message {send_id} runs again at the next start");
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(send_id) = drop {
        owed::drop_message(directory, SendId(send_id))?;
        println!("message {send_id} is owed no more");
        return Ok(ExitCode::SUCCESS);
    }
    let mut to = BufWriter::new(std::io::stdout().lock());
    let written = owed::list(directory)?.into_iter().try_for_each(|message| {
        let line = OwedLine {
            send_id: message.send_id.0,
            sender: message.sender.0,
            due: message.due.map(|due| due.0),
            lives: message.lives,
            set_aside: message.is_set_aside,
            message: hex(&message.message),
        };
        writeln!(to, "{}", serde_json::to_string(&line).expect("numbers and text are JSON"))
    });
    // Whoever reads it may have read enough.
    Ok(if written.and_then(|()| to.flush()).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
