//! `freehold top ADDR`: what a running process does, as its page `/metrics` says it.
//!
//! It reads the page now and then, so it needs no more than the address, and the process pays for a
//! scrape only. Rates are those between the last two pages. When the process ends, the last numbers
//! stay on the screen below the reason, and `top` goes on looking: a process that is started again
//! is picked up.
//!
//! Keys: `q` quits, `p` pauses, `s` sorts the shards by the next column, `l` shows the list of slow
//! messages and where their time went, or hides it. `--once` looks twice, prints and ends, with
//! `--json` for programs. The exit status is 0, or 1 if the page could not be read.

mod page;
mod picture;
mod screen;
mod slow;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use page::{Page, Trouble};
use picture::{Picture, Sort};

/// What `--once` prints on, in columns and lines.
const PAPER: (u16, u16) = (100, 44);

/// Watches a running process: rates, queues and latency of each shard, its log, hot objects.
#[derive(Args)]
pub struct Arguments {
    /// Where its metrics are: `127.0.0.1:9100`, or `http://host:port/path` if the page is not
    /// `/metrics`.
    addr: String,

    /// Seconds from one look to the next.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    every: f64,

    /// Looks twice, prints what it saw, and ends.
    #[arg(long)]
    once: bool,

    /// With `--once`: prints JSON.
    #[arg(long, requires = "once")]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "it must be a number of seconds from 0.1 to 3600".into())
}

pub fn run(arguments: &Arguments) -> ExitCode {
    let every = Duration::from_secs_f64(arguments.every);
    let done = if arguments.once { once(arguments, every) } else { watch(arguments, every) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(said) => {
            eprintln!("freehold top: {said}");
            ExitCode::FAILURE
        }
    }
}

/// Looks twice and prints.
fn once(arguments: &Arguments, every: Duration) -> Result<(), String> {
    let mut top = Top::new(&arguments.addr);
    top.look();
    std::thread::sleep(every);
    top.look();
    if let Some((trouble, _)) = &top.trouble {
        return Err(trouble.to_string());
    }
    if arguments.json {
        let picture = top.picture.as_ref().expect("there was no trouble");
        say(&serde_json::to_string_pretty(picture).expect("it is made of plain values"));
        return Ok(());
    }
    let (width, height) = PAPER;
    let mut paper = Terminal::new(TestBackend::new(width, height)).expect("paper takes anything");
    paper.draw(|frame| screen::draw(frame, &top)).expect("paper takes anything");
    say(&screen::lines(paper.backend().buffer()).join("\n"));
    Ok(())
}

/// Prints, and is content with a reader that has read enough.
fn say(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Looks until it is told to quit.
fn watch(arguments: &Arguments, every: Duration) -> Result<(), String> {
    let no_terminal = |error: io::Error| format!("no terminal to draw on ({error}): use `--once`");
    let mut terminal = ratatui::try_init().map_err(no_terminal)?;
    let mut top = Top::new(&arguments.addr);
    let drawn = (|| {
        let mut next = Instant::now();
        loop {
            if Instant::now() >= next {
                next = Instant::now() + every;
                if !top.is_paused {
                    top.look();
                }
            }
            terminal.draw(|frame| screen::draw(frame, &top))?;
            if event::poll(next.saturating_duration_since(Instant::now()))?
                && let Event::Key(key) = event::read()?
                && key.kind != KeyEventKind::Release
            {
                let is_interrupt =
                    key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
                if is_interrupt || top.press(key.code) == Press::Quits {
                    return Ok(());
                }
            }
        }
    })();
    ratatui::restore();
    drawn.map_err(no_terminal)
}

/// What a key does to the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Press {
    GoesOn,
    Quits,
}

/// What is watched, and what was seen of it.
struct Top {
    addr: String,
    sort: Sort,
    is_paused: bool,
    /// The list of slow messages is shown.
    shows_slow: bool,
    last: Option<Page>,
    picture: Option<Picture>,
    /// Why the last look failed, and since when looks fail.
    trouble: Option<(Trouble, Instant)>,
}

impl Top {
    fn new(addr: &str) -> Self {
        Top {
            addr: addr.to_owned(),
            sort: Sort::default(),
            is_paused: false,
            shows_slow: false,
            last: None,
            picture: None,
            trouble: None,
        }
    }

    /// Reads the page once more.
    fn look(&mut self) {
        match Page::fetch(&self.addr) {
            Ok(page) => self.see(page),
            Err(trouble) => {
                let since = self.trouble.as_ref().map_or_else(Instant::now, |(_, since)| *since);
                self.trouble = Some((trouble, since));
            }
        }
    }

    fn see(&mut self, page: Page) {
        self.trouble = None;
        let epoch_seen = self.picture.as_ref().map(|picture| (picture.epoch, picture.epoch_since));
        self.picture = Some(Picture::of(self.last.as_ref(), &page, epoch_seen));
        self.last = Some(page);
    }

    fn press(&mut self, key: KeyCode) -> Press {
        match key {
            KeyCode::Char('q') | KeyCode::Esc => return Press::Quits,
            KeyCode::Char('p') => self.is_paused = !self.is_paused,
            KeyCode::Char('l') => self.shows_slow = !self.shows_slow,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            _ => {}
        }
        Press::GoesOn
    }
}

#[cfg(test)]
mod tests;
