//! What is drawn: a table of shards, and below it the log, hot objects, and traffic as far as there
//! is room.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Row, Table};

use super::Top;
use super::picture::{HotPicture, Picture, ShardPicture, Sort};
use super::slow::SlowPicture;

/// Lines of the blocks below the table of shards, with their titles.
const BLOCK_LINES: u16 = 9;
/// Columns of the block on the log.
const LOG_COLUMNS: u16 = 31;
/// A turn or a write is shown as a stall from here on, in seconds.
const STALL_SECONDS: f64 = 1.0;
/// From little traffic to the most.
const HEAT: [char; 5] = ['·', '░', '▒', '▓', '█'];

const ALARM: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const TITLE: Style = Style::new().add_modifier(Modifier::BOLD);

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, top: &Top) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(2), Constraint::Min(0), Constraint::Length(1)])
            .areas(frame.area());
    frame.render_widget(Paragraph::new(header(top)), head);
    frame.render_widget(Paragraph::new("q quit   p pause   s sort   l slow messages"), foot);
    let Some(picture) = &top.picture else { return };
    if top.shows_slow {
        let title = format!("slow messages, {} since the start", short(picture.slow_messages));
        frame.render_widget(titled(&title, slow_lines(picture)), body);
        return;
    }
    let shards = picture.shards.len() as u16 + 1;
    let is_wide = body.width >= 120;
    let traffic = if is_wide { shards + 2 } else { 0 };
    let table = shards.min(body.height.saturating_sub(BLOCK_LINES).max(3));
    let [table, blocks, map] = Layout::vertical([
        Constraint::Length(table + 1),
        Constraint::Length(BLOCK_LINES),
        Constraint::Length(traffic),
    ])
    .areas(body);
    frame.render_widget(shard_table(picture, top.sort), table);
    let [log, touched, waited] =
        Layout::horizontal([Constraint::Length(LOG_COLUMNS), Constraint::Fill(1), Constraint::Fill(1)])
            .areas(blocks);
    frame.render_widget(titled("log and snapshots", log_lines(picture)), log);
    frame.render_widget(titled("hottest, messages/s", hot_lines(&picture.touched, touched)), touched);
    frame.render_widget(titled("waited for, waits/s", hot_lines(&picture.waited, waited)), waited);
    if map.height > 3 {
        frame.render_widget(
            titled("traffic: from each shard (rows) to each, envelopes/s", traffic_lines(picture)),
            map,
        );
    }
}

fn titled<'a>(title: &'a str, lines: Vec<Line<'a>>) -> Paragraph<'a> {
    Paragraph::new(lines).block(Block::new().title(Span::styled(title, TITLE)))
}

fn header(top: &Top) -> Vec<Line<'static>> {
    let paused = if top.is_paused { "  PAUSED" } else { "" };
    let first = match &top.picture {
        None => format!("freehold top {}{paused}", top.addr),
        Some(picture) => format!(
            "{}  {}, up {}  {} messages/s  {} asks in flight{paused}",
            top.addr,
            picture.phase,
            span(picture.uptime_seconds),
            short(picture.messages_per_second),
            short(picture.asks_in_flight),
        ),
    };
    let second = match (&top.trouble, &top.picture) {
        (Some((trouble, _)), None) => Line::styled(trouble.to_string(), ALARM),
        (Some((trouble, since)), Some(_)) => {
            let ago = span(since.elapsed().as_secs_f64());
            Line::styled(format!("LAST NUMBERS, of {ago} ago: {trouble}"), ALARM)
        }
        (None, Some(picture)) => stalls(picture),
        (None, None) => Line::raw("looking"),
    };
    vec![Line::raw(first), second]
}

/// Turns and writes that do not end.
fn stalls(picture: &Picture) -> Line<'static> {
    let turn = |shard: &ShardPicture| {
        let of = shard.stuck_message.as_ref().map_or_else(|| "a turn".into(), |of| format!("a turn of {of}"));
        (shard.shard, of, shard.in_turn_seconds)
    };
    let write =
        |shard: &ShardPicture| (shard.shard, "a write of its log".to_owned(), shard.in_log_write_seconds);
    let all = picture.shards.iter().flat_map(|shard| [turn(shard), write(shard)]);
    let stalls: Vec<String> = all
        .filter(|(.., seconds)| *seconds >= STALL_SECONDS)
        .map(|(shard, of, seconds)| format!("shard {shard} is in {of} for {}", span(seconds)))
        .collect();
    if stalls.is_empty() { Line::raw("no stalls") } else { Line::styled(stalls.join(", "), ALARM) }
}

fn shard_table(picture: &Picture, sort: Sort) -> Table<'static> {
    let names = ["shard", "msgs/s", "busy", "ingress", "trans", "locks", "outbox", "p50", "p99", "objects"];
    let is_sorted = |name: &str| {
        name == match sort {
            Sort::Shard => "shard",
            Sort::Messages => "msgs/s",
            Sort::Busy => "busy",
            Sort::Ingress => "ingress",
            Sort::P99 => "p99",
        }
    };
    let title = |name: &str| if is_sorted(name) { format!("{name}▾") } else { name.to_owned() };
    let rows = picture.sorted(sort).into_iter().map(|shard| {
        let cells = [
            shard.shard.to_string(),
            short(shard.messages_per_second),
            format!("{:.0}%", shard.busy * 100.0),
            short(shard.ingress),
            short(shard.transactions_under_way),
            short(shard.lock_queue),
            short(shard.outbox_waiting),
            shard.p50_seconds.map_or_else(|| "-".into(), span),
            shard.p99_seconds.map_or_else(|| "-".into(), span),
            short(shard.objects),
        ];
        let is_stuck = shard.in_turn_seconds.max(shard.in_log_write_seconds) >= STALL_SECONDS;
        Row::new(cells).style(if is_stuck { ALARM } else { Style::new() })
    });
    let widths = [Constraint::Length(6), Constraint::Length(8), Constraint::Length(5)];
    let widths = widths.into_iter().chain([Constraint::Length(8); 7]);
    Table::new(rows, widths).header(Row::new(names.map(title)).style(TITLE)).column_spacing(0)
}

fn log_lines(picture: &Picture) -> Vec<Line<'static>> {
    let mut lines = vec![format!("epoch {:.0}, for {}", picture.epoch, span(picture.epoch_age_seconds))];
    match &picture.log {
        None => lines.push("no log".into()),
        Some(log) => {
            lines.push(format!("log {} of {}", bytes(log.bytes), bytes(log.bytes_max)));
            lines.push(format!("writes {}/s", bytes(log.written_bytes_per_second)));
            let sum = |of: fn(&ShardPicture) -> f64| picture.shards.iter().map(of).sum::<f64>();
            let p99 = picture.shards.iter().filter_map(|shard| shard.log_write_p99_seconds);
            let p99 = p99.reduce(f64::max).map_or_else(|| "-".into(), span);
            lines.push(format!("p99 {p99}, {} waits", bytes(sum(|shard| shard.log_backlog_bytes))));
            lines.push(format!("{:.0} epochs behind", log.durable_lag_epochs));
            let age =
                log.checkpoint_age_seconds.map_or_else(|| "none".into(), |age| format!("{} ago", span(age)));
            lines.push(format!("checkpoint {age}, {:.0} failed", log.checkpoints_failed));
        }
    }
    let versions: f64 = picture.shards.iter().map(|shard| shard.versions).sum();
    lines.push(match picture.snapshots_open {
        0.0 => "no snapshot open".into(),
        open => {
            format!("{open:.0} snapshots, {}, {} old", span(picture.oldest_snapshot_seconds), short(versions))
        }
    });
    lines.into_iter().map(Line::raw).collect()
}

fn hot_lines(hot: &[HotPicture], area: Rect) -> Vec<Line<'static>> {
    if hot.is_empty() {
        return vec![Line::raw("none")];
    }
    let room = usize::from(area.width).saturating_sub(9);
    let line = |hot: &HotPicture| {
        let id: String = hot.id.chars().take(room).collect();
        Line::raw(format!("{:>7} {id}", short(hot.per_second)))
    };
    hot.iter().take(usize::from(area.height).saturating_sub(1)).map(line).collect()
}

/// Two lines for each slow message: which, and where its time went.
fn slow_lines(picture: &Picture) -> Vec<Line<'static>> {
    if picture.slow.is_empty() {
        return vec![Line::raw("none")];
    }
    let lines = |slow: &SlowPicture| {
        let ago = span(picture.uptime_seconds - slow.answered_seconds);
        let least = if slow.is_exact { "" } else { "at least " };
        let message = match (&slow.message, slow.messages) {
            (_, batch @ 2..) => format!("a batch of {batch}"),
            (None, _) => "a message".into(),
            (Some(name), _) => last_name(name).to_owned(),
        };
        let object = slow.object.as_ref().map_or_else(String::new, |object| format!(" to {object}"));
        let took = span(slow.took_seconds);
        let which = format!("{ago} ago, shard {}: {message}{object} took {least}{took}", slow.shard);
        let stages = slow.stages.iter();
        let stages =
            stages.map(|stage| format!("{} {}", stage.name, span(stage.to_seconds - stage.from_seconds)));
        let waits = slow.waits.iter().map(|wait| {
            let took = span(wait.to_seconds - wait.from_seconds);
            let behind = wait.behind.as_deref().map(|kind| format!(", behind {}", last_name(kind)));
            let behind = behind.unwrap_or_default();
            format!(
                "of that {took} for {} on shard {}, {} ahead{behind}",
                wait.object, wait.shard, wait.ahead
            )
        });
        let parts: Vec<String> = stages.chain(waits).collect();
        [Line::raw(which), Line::raw(format!("    {}", parts.join(", ")))]
    };
    picture.slow.iter().flat_map(lines).collect()
}

/// Of a type its last name, which is enough.
fn last_name(kind: &str) -> &str {
    kind.rsplit("::").next().unwrap_or_default()
}

fn traffic_lines(picture: &Picture) -> Vec<Line<'static>> {
    let all = picture.shards.iter().flat_map(|shard| shard.sent_to_per_second.values());
    let most = all.copied().fold(0.0, f64::max);
    let mut lines = vec![Line::raw(format!("{} is {} or more", HEAT[4], short(most * 0.8)))];
    for from in &picture.shards {
        let cell = |to: &ShardPicture| match from.sent_to_per_second.get(&to.shard) {
            None => ' ',
            Some(_) if most == 0.0 => HEAT[0],
            Some(rate) => HEAT[((rate / most * 5.0) as usize).min(4)],
        };
        let cells: String = picture.shards.iter().flat_map(|to| [cell(to), cell(to)]).collect();
        lines.push(Line::raw(format!("{:>4} {cells}", from.shard)));
    }
    lines
}

/// A number in at most six characters: 999, 1.2k, 34.5M.
fn short(number: f64) -> String {
    let mut scaled = number;
    for suffix in ["", "k", "M", "G"] {
        if scaled < 999.5 {
            return match suffix {
                "" => format!("{scaled:.0}"),
                suffix => format!("{scaled:.1}{suffix}"),
            };
        }
        scaled /= 1000.0;
    }
    format!("{scaled:.1}T")
}

fn bytes(number: f64) -> String {
    let mut scaled = number;
    for suffix in ["B", "KiB", "MiB", "GiB"] {
        if scaled < 1024.0 {
            return match suffix {
                "B" => format!("{scaled:.0} B"),
                suffix => format!("{scaled:.1} {suffix}"),
            };
        }
        scaled /= 1024.0;
    }
    format!("{scaled:.1} TiB")
}

/// A span of time in at most six characters.
fn span(seconds: f64) -> String {
    match seconds {
        s if s <= 0.0 => "0s".into(),
        s if s < 1e-3 => format!("{:.0}µs", s * 1e6),
        s if s < 1.0 => format!("{:.1}ms", s * 1e3),
        s if s < 60.0 => format!("{s:.1}s"),
        s if s < 3600.0 => format!("{:.0}m{:.0}s", (s / 60.0).floor(), s % 60.0),
        s if s < 86_400.0 => format!("{:.0}h{:.0}m", (s / 3600.0).floor(), (s % 3600.0 / 60.0).floor()),
        s => format!("{:.0}d{:.0}h", (s / 86_400.0).floor(), (s % 86_400.0 / 3600.0).floor()),
    }
}

/// What was drawn, line by line.
pub(super) fn lines(buffer: &Buffer) -> Vec<String> {
    let width = usize::from(buffer.area.width).max(1);
    let text = |cells: &[ratatui::buffer::Cell]| {
        let line: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        line.trim_end().to_owned()
    };
    let mut lines: Vec<String> = buffer.content.chunks(width).map(text).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let numbers = [0.0, 7.4, 999.4, 999.6, 12_345.0, 7.1e6, 2.5e9, 1e13];
        assert_eq!(numbers.map(short), ["0", "7", "999", "1.0k", "12.3k", "7.1M", "2.5G", "10.0T"]);
        let spans = [0.0, 2.5e-5, 0.0123, 4.25, 75.0, 7_300.0, 200_000.0];
        assert_eq!(spans.map(span), ["0s", "25µs", "12.3ms", "4.2s", "1m15s", "2h1m", "2d7h"]);
        assert_eq!([10.0, 2048.0, 3.5 * (1 << 20) as f64].map(bytes), ["10 B", "2.0 KiB", "3.5 MiB"]);
    }
}
