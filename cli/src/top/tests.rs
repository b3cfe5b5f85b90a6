//! Pictures of made-up pages on screens of two sizes, and a real runtime that ends while it is
//! watched.

use freehold::{AccessError, Actor, Addressees, Config, Objects, Runtime, Shards};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;

/// The page of a process with so many shards that has made `messages` messages on each.
fn page(shards: u32, messages: u32, read: Instant) -> Page {
    let mut text = String::from(
        "freehold_phase{phase=\"running\"} 1\nfreehold_phase{phase=\"dead\"} 0\nfreehold_uptime_seconds 3725\n\
         freehold_asks_in_flight 12\nfreehold_epoch 77\nfreehold_durable_lag 1\nfreehold_snapshots_open 2\n\
         freehold_oldest_snapshot_seconds 1.5\nfreehold_log_bytes 1048576\nfreehold_log_max_bytes 2097152\n\
         freehold_checkpoints_total{outcome=\"made\"} 3\nfreehold_checkpoints_total{outcome=\"failed\"} 1\n\
         freehold_checkpoint_age_seconds 61\nfreehold_hot_touches{shard=\"0\",id=\"Account(7)\"} 1500\n\
         freehold_hot_touches{shard=\"1\",id=\"Account(9)\"} 2500\nfreehold_hot_waits{shard=\"0\",id=\"Account(7)\"} 40\n\
         freehold_stuck_message{shard=\"1\",message=\"Pay\"} 1\n",
    );
    for shard in 0..shards {
        let busy = f64::from(messages) * 1e-6 * f64::from(shard + 1);
        let (sixty, ninety) = (messages / 1000 * 60 / 100, messages / 1000 * 9 / 10);
        let all = messages / 1000;
        text += &format!(
            "freehold_messages_total{{shard=\"{shard}\",outcome=\"fast\"}} {messages}\n\
             freehold_turns_total{{shard=\"{shard}\"}} 10\n\
             freehold_busy_seconds_total{{shard=\"{shard}\"}} {busy}\n\
             freehold_ingress{{shard=\"{shard}\"}} {}\nfreehold_lock_queue{{shard=\"{shard}\"}} 3\n\
             freehold_objects{{shard=\"{shard}\"}} 500000\nfreehold_versions{{shard=\"{shard}\"}} 600\n\
             freehold_in_turn_seconds{{shard=\"{shard}\"}} {}\n\
             freehold_answer_seconds_bucket{{shard=\"{shard}\",path=\"fast\",le=\"0.0001\"}} {sixty}\n\
             freehold_answer_seconds_bucket{{shard=\"{shard}\",path=\"fast\",le=\"0.001\"}} {ninety}\n\
             freehold_answer_seconds_bucket{{shard=\"{shard}\",path=\"fast\",le=\"0.01\"}} {all}\n\
             freehold_answer_seconds_bucket{{shard=\"{shard}\",path=\"fast\",le=\"+Inf\"}} {all}\n",
            shard * 10,
            if shard == 1 { 12.5 } else { 0.0 },
        );
        for to in (0..shards).filter(|to| *to != shard) {
            let sent = messages * (to + 1);
            text += &format!("freehold_lane_sent_to_total{{shard=\"{shard}\",to=\"{to}\"}} {sent}\n");
        }
    }
    Page::of(&text, read).expect("it is a page")
}

/// After two pages that are a second apart.
fn seen(shards: u32) -> Top {
    let mut top = Top::new("127.0.0.1:9100");
    let begun = Instant::now();
    top.see(page(shards, 100_000, begun));
    top.see(page(shards, 300_000, begun + Duration::from_secs(1)));
    top
}

fn drawn(top: &Top, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("it takes anything");
    terminal.draw(|frame| screen::draw(frame, top)).expect("it takes anything");
    screen::lines(terminal.backend().buffer())
}

/// The words of the line that begins with this word.
fn words<'a>(lines: &'a [String], first: &str) -> Vec<&'a str> {
    let line = lines.iter().find(|line| line.split_whitespace().next() == Some(first));
    line.unwrap_or_else(|| panic!("no {first}: {lines:#?}")).split_whitespace().collect()
}

#[test]
fn rates_are_those_between_two_pages() {
    let picture = seen(2).picture.expect("two pages were seen");
    let shard = &picture.shards[1];
    assert_eq!((picture.messages_per_second, shard.messages_per_second), (400_000.0, 200_000.0));
    assert!((shard.busy - 0.4).abs() < 1e-9 && shard.sent_to_per_second[&0] == 200_000.0, "{shard:?}");
    // Of 200 answers 120 took at most 100 µs, 60 at most 1 ms and 20 at most 10 ms.
    let (p50, p99) = (shard.p50_seconds.expect("some"), shard.p99_seconds.expect("some"));
    assert!((p50 - 1e-4 * 100.0 / 120.0).abs() < 1e-9, "{p50}");
    assert!((p99 - (1e-3 + 9e-3 * 18.0 / 20.0)).abs() < 1e-9, "{p99}");
    assert_eq!(shard.log_write_p99_seconds, None);
    assert_eq!(picture.epoch_age_seconds, 1.0);
}

#[test]
fn a_process_that_was_started_again_has_its_rate_since_then() {
    let begun = Instant::now();
    let (before, after) = (page(1, 300_000, begun), page(1, 50_000, begun + Duration::from_secs(1)));
    assert_eq!(Picture::of(Some(&before), &after, None).messages_per_second, 50_000.0);
}

#[test]
fn a_small_screen_has_shards_queues_latency_log_snapshots_hot_objects_and_stalls() {
    let lines = drawn(&seen(8), 80, 24);
    assert!(lines.len() <= 24);
    assert_eq!(words(&lines, "7"), ["7", "200.0k", "100%", "70", "0", "3", "0", "83µs", "9.1ms", "500.0k"]);
    let all = lines.join("\n");
    let wanted = [
        "127.0.0.1:9100  running, up 1h2m  1.6M messages/s  12 asks in flight",
        "shard 1 is in a turn of Pay for 12.5s",
        "log 1.0 MiB of 2.0 MiB",
        "1 epochs behind",
        "checkpoint 1m1s ago, 1 failed",
        "2 snapshots, 1.5s, 4.8k old",
        "2.5k Account(9)",
        "40 Account(7)",
        "q quit   p pause   s sort   l slow messages",
    ];
    wanted.iter().for_each(|words| assert!(all.contains(words), "{words}: {all}"));
    assert!(!all.contains("traffic"), "there is no room for it");
}

#[test]
fn a_large_screen_has_traffic_as_well() {
    let lines = drawn(&seen(16), 200, 50);
    let all = lines.join("\n");
    assert!(all.contains("traffic: from each shard (rows) to each"), "{all}");
    let row = lines.iter().rposition(|line| line.trim_start().starts_with("15 ")).expect("the last row");
    // To shard 0 little, to shard 14 most, and to itself nothing.
    let cells: Vec<char> = lines[row].trim_start().chars().skip(3).collect();
    assert_eq!((cells[0], cells[28], cells.get(30)), ('·', '█', None), "{}", lines[row]);
    assert_eq!(words(&lines, "15")[1], "200.0k");
}

#[test]
fn a_screen_of_any_size_can_be_drawn_on() {
    for (width, height) in [(1, 1), (10, 3), (20, 200), (300, 8)] {
        drawn(&seen(16), width, height);
        drawn(&Top::new("nowhere"), width, height);
    }
}

#[test]
fn keys_pause_sort_and_quit() {
    let mut top = seen(3);
    let first = |top: &Top| top.picture.as_ref().expect("it was seen").sorted(top.sort)[0].shard;
    assert_eq!(first(&top), 0);
    for (sort, shard) in [("msgs/s▾", 0), ("busy▾", 2), ("ingress▾", 2), ("p99▾", 0), ("shard▾", 0)]
    {
        assert_eq!(top.press(KeyCode::Char('s')), Press::GoesOn);
        assert!(drawn(&top, 80, 24).join("\n").contains(sort), "{sort}");
        assert_eq!(first(&top), shard, "{sort}");
    }
    top.press(KeyCode::Char('p'));
    assert!(top.is_paused && drawn(&top, 100, 24)[0].ends_with("PAUSED"));
    top.press(KeyCode::Char('p'));
    assert!(!top.is_paused);
    assert_eq!(top.press(KeyCode::Char('q')), Press::Quits);
}

#[test]
fn a_key_shows_the_slow_messages_and_where_their_time_went() {
    let mut top = seen(2);
    let trace = |number: u64, more: &str| {
        format!(
            r#"{{"number":{number},"shard":1,"route":"consensus","messages":1,"answered_seconds":3700,
            "took_seconds":0.5,"stages":[{{"name":"queued","from_seconds":0,"to_seconds":0.1}},
            {{"name":"durable","from_seconds":0.1,"to_seconds":0.5}}],{more}}}"#
        )
    };
    let known = trace(
        1,
        r#""message":"bank::Pay","object":"Account(7)","is_exact":true,
        "waits":[{"shard":0,"object":"Account(9)","ahead":3,"behind":"bank::Fold","from_seconds":0.01,"to_seconds":0.05}]"#,
    );
    let unknown = trace(2, r#""message":null,"object":null,"is_exact":false,"waits":[]"#);
    let mut page = page(2, 400_000, Instant::now());
    page.slow = slow::slow_of(&format!(r#"{{"slow_messages":2,"slow":[{known},{unknown}],"sampled":[]}}"#));
    assert!(!drawn(&top, 80, 24).join("\n").contains("Account(9) on shard"), "it is hidden at first");
    top.see(page);
    top.press(KeyCode::Char('l'));
    let lines = drawn(&top, 120, 24);
    let wanted = [
        "slow messages, 0 since the start",
        "25.0s ago, shard 1: a message took at least 500.0ms",
        "    queued 100.0ms, durable 400.0ms",
        "25.0s ago, shard 1: Pay to Account(7) took 500.0ms",
        "    queued 100.0ms, durable 400.0ms, of that 40.0ms for Account(9) on shard 0, 3 ahead, behind Fold",
    ];
    assert_eq!(lines[2..7], wanted, "the latest first");
    top.press(KeyCode::Char('l'));
    assert!(drawn(&top, 100, 24).join("\n").contains("hottest"));
    assert!(slow::slow_of("/metrics is here").is_empty(), "an earlier version has no such page");
}

struct Visits;

impl Actor for Visits {
    type Id = u64;
    type State = u64;
    type Message = u64;
    type Reply = u64;
    type Error = AccessError<u64>;

    fn addressees(page: &u64, to: &mut Addressees<u64>) {
        to.write(*page);
    }

    fn receive(page: &u64, objects: &mut Objects<'_, Self>) -> Result<u64, AccessError<u64>> {
        let visits = objects.get_or_insert_with(*page, || 0)?;
        *visits += 1;
        Ok(*visits)
    }
}

#[test]
fn a_process_that_ends_leaves_its_last_numbers_and_is_found_again() {
    let start = || {
        let config = Config { shards: Shards::Count(1), ..Config::default() };
        Runtime::<Visits>::start(config).expect("it starts on this machine")
    };
    let runtime = start();
    let server = freehold_metrics::serve(runtime.handle(), "127.0.0.1:0").expect("a port is free");
    let addr = server.addr();
    let mut top = Top::new(&addr.to_string());
    top.look();
    (0..200).for_each(|page| assert!(runtime.handle().ask(page).wait().is_ok()));
    top.look();
    let picture = top.picture.as_ref().expect("it was seen");
    assert!(picture.messages_per_second > 0.0 && picture.phase == "running", "{picture:?}");

    runtime.shutdown();
    top.look();
    assert!(drawn(&top, 80, 24)[0].contains("stopping"), "it is still there to say so");
    drop(server);
    top.look();
    let lines = drawn(&top, 100, 24);
    assert!(lines[1].starts_with("LAST NUMBERS, of "), "{lines:#?}");
    assert!(lines[1].contains(" ago: the process does not answer: "), "{lines:#?}");
    assert_eq!(words(&lines, "0").last(), Some(&"200"), "its objects");

    // Started again at the same address.
    let runtime = start();
    let _server = freehold_metrics::serve(runtime.handle(), addr).expect("the port is free again");
    top.look();
    assert!(drawn(&top, 100, 24)[0].contains("running"));
}
