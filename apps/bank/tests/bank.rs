//! `bank`, run as a user runs it and checked by code of its own: against a replay of the same
//! payments where they are made in the order they stand in, and where payments between shards may
//! overtake each other, against what was refused: all else must have moved exactly.

#[path = "../src/audit.rs"]
#[allow(dead_code, reason = "one audit is tested here by itself, and all of it as the bank runs it")]
mod audit;
#[path = "../src/decided.rs"]
mod decided;
#[path = "../src/ledger.rs"]
#[allow(dead_code, reason = "of the actor only what an audit needs")]
mod ledger;
#[path = "bank/replay.rs"]
mod replay;
#[cfg(feature = "replicated")]
#[path = "bank/replicated.rs"]
mod replicated;
#[cfg(feature = "replicated")]
#[path = "../../../replica/tests/nodes/servers.rs"]
#[allow(dead_code, reason = "nodes are tested there, and here one bank after another")]
mod servers;
#[path = "../../../tests/support/mod.rs"]
mod support;
#[path = "bank/tellers.rs"]
mod tellers;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use freehold::Config;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::audit::{Auditor, Census};
use crate::decided::Decided;
use crate::ledger::{Key, Ledger, Order};
use crate::replay::{Payments, accounted, balances_csv, count_of, messy, parsed, refused, replay};
use crate::support::skip::skip;

/// Nothing here takes five seconds. Whatever takes this long hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A bank that has ended.
struct Ended {
    status: i32,
    said: String,
    complained: String,
}

impl Ended {
    #[track_caller]
    fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{}{}", self.said, self.complained);
        self
    }

    /// The number behind a word of the report.
    fn number(&self, word: &str) -> u64 {
        let line = self.said.lines().find(|line| line.trim_start().starts_with(word));
        let line = line.unwrap_or_else(|| panic!("no line begins with {word}:\n{}", self.said));
        let number = line.split_whitespace().nth(word.split_whitespace().count()).expect("a number follows");
        number.replace([',', ':'], "").parse().expect("it is a number")
    }

    /// The sum of a column of the table of shards.
    fn column(&self, name: &str) -> u64 {
        let cells = |row: &str| -> Vec<String> {
            row.trim_matches('│').split_whitespace().map(|cell| cell.replace(',', "")).collect()
        };
        let mut rows = self.said.lines().filter(|line| line.starts_with('│')).map(cells);
        let header = rows.next().expect("the table has a header");
        let at = header.iter().position(|cell| cell == name).unwrap_or_else(|| panic!("no column {name}"));
        rows.map(|row| row[at].parse::<u64>().expect("it is a number")).sum()
    }

    /// That the shards handled each of `payments` and the opening of each of `accounts` once, and
    /// did what the report says came of them.
    #[track_caller]
    fn expect_each_handled_once(&self, payments: usize, accounts: usize) {
        let orders = (payments + accounts) as u64;
        assert_eq!(self.column("objects"), accounts as u64, "{}", self.said);
        assert_eq!(self.column("messages"), orders, "{}", self.said);
        assert_eq!(self.column("done"), self.number("done") + accounts as u64, "{}", self.said);
        assert_eq!(self.column("refused"), self.number("refused"), "{}", self.said);
        assert_eq!(self.number("payments"), payments as u64);
        assert_eq!(self.number("done") + self.number("refused"), payments as u64, "{}", self.said);
        assert!(self.said.contains("they balance"), "{}", self.said);
        self.expect_exact_audits(accounts);
    }

    /// That there were audits during the run, and that they and the last one were exact.
    #[track_caller]
    fn expect_exact_audits(&self, accounts: usize) {
        assert!(self.number("audits") > 0 && self.said.contains("accounts: all exact\n"), "{}", self.said);
        assert_eq!(self.number("last audit"), accounts as u64, "{}", self.said);
        assert!(self.said.contains(&format!("last audit  {accounts} accounts hold ")), "{}", self.said);
        assert!(self.said.contains(": exact; opened in "), "{}", self.said);
    }
}

/// Starts the bank in `directory`, as it is told and no more.
fn start(directory: &Path, arguments: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_bank"))
        .current_dir(directory)
        .args(arguments.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the bank starts")
}

/// Runs the bank in `directory`, with `input` on its standard input; in memory only, if it is not
/// told where its log is.
fn bank(directory: &Path, arguments: &str, input: &str) -> Ended {
    let no_log = if arguments.contains("--data") { "" } else { "--no-log" };
    let mut child = start(directory, &format!("{arguments} {no_log}"));
    let pid = Pid::from_child(&child);
    let mut stdin = child.stdin.take().expect("it was piped");
    let input = input.to_string();
    std::thread::spawn(move || {
        // It may end without having read all.
        let _ = stdin.write_all(input.as_bytes());
    });
    let (sender, ended) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let output = support::patience::receive(&ended, PATIENCE).unwrap_or_else(|| {
        let _ = kill_process(pid, Signal::KILL);
        panic!("`bank {arguments}` hangs");
    });
    let output = output.expect("it can be waited for");
    let text = |bytes| String::from_utf8(bytes).expect("the bank says text");
    Ended {
        status: output.status.code().expect("it was not killed"),
        said: text(output.stdout),
        complained: text(output.stderr),
    }
}

fn read(directory: &TempDir, name: &str) -> String {
    fs::read_to_string(directory.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Has the script that users are given check the same files, and files that are wrong.
fn verify_by_script(directory: &TempDir, payments: &str, more: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("verify.py");
    let check = |balances: &str, refused: &str| {
        let arguments = [payments, balances, refused];
        Command::new("python3").current_dir(directory.path()).arg(&script).args(arguments).args(more).output()
    };
    let Ok(output) = check("balances.csv", "refused.csv") else {
        return skip("verify.py", "there is no python3");
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let finds = |balances, refused| !check(balances, refused).expect("it ran just now").status.success();

    // One coin from the last account to the last but one: the sum stays the same.
    let mut rows: Vec<String> = read(directory, "balances.csv").lines().map(str::to_string).collect();
    for (row, more) in [(rows.len() - 1, -1), (rows.len() - 2, 1)] {
        let (account, balance) = rows[row].split_once(',').expect("a row has two columns");
        rows[row] = format!("{account},{}", balance.parse::<i128>().expect("a balance") + more);
    }
    fs::write(directory.path().join("wrong.csv"), rows.join("\n")).unwrap();
    assert!(finds("wrong.csv", "refused.csv"), "the script finds two wrong balances");

    let refused = read(directory, "refused.csv");
    for reason in ["to oneself", "of zero", "no funds"] {
        // Made, says the list, and was not.
        let Some(row) = refused.lines().find(|row| row.ends_with(reason)) else { continue };
        fs::write(directory.path().join("wrong.csv"), refused.replacen(&format!("{row}\n"), "", 1)).unwrap();
        assert!(finds("balances.csv", "wrong.csv"), "the script misses {row}");
    }
}

/// Has the bank pay `payments` and compares refusals and balances with a replay.
fn pay_as_by_a_replay(payments: &Payments, how: &str) {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("payments.csv"), &payments.text).unwrap();
    let arguments = format!("{how} --input payments.csv --balances balances.csv --refused refused.csv");
    let ended = bank(directory.path(), &arguments, "").expect(0);

    let refused = refused(&read(&directory, "refused.csv"), &payments.good);
    let (held, wanted) = replay(&payments.good, 1000);
    assert_eq!(refused, wanted, "with {how}");
    assert_eq!(read(&directory, "balances.csv"), balances_csv(&held), "with {how}");
    expect_trouble(&refused);
    expect_report_of(&ended, payments, held.len(), refused.len());
    verify_by_script(&directory, "payments.csv", &["--in-order"]);
    verify_by_script(&directory, "payments.csv", &[]);
}

/// That there was something to refuse for each reason.
fn expect_trouble(refused: &BTreeMap<u64, String>) {
    for reason in ["to oneself", "of zero", "no funds"] {
        assert!(count_of(refused, reason) > 0, "nothing is refused as {reason}: the test tests little");
    }
}

fn expect_report_of(ended: &Ended, payments: &Payments, accounts: usize, refused: usize) {
    ended.expect_each_handled_once(payments.good.len(), accounts);
    assert_eq!(ended.number("refused"), refused as u64);
    assert_eq!(ended.number("bad lines"), payments.bad);
    assert!(ended.complained.contains(&format!("... and {} more bad lines", payments.bad - 20)));
}

#[test]
fn a_messy_file_is_paid_as_by_a_replay() {
    pay_as_by_a_replay(&messy(30_000), "--shards 1 --batch 500");
}

/// What was answered is there for all that is sent after, on whichever shard.
#[test]
fn one_payment_at_a_time_is_paid_as_by_a_replay_on_several_shards() {
    for shards in [2, 3] {
        pay_as_by_a_replay(&messy(3000), &format!("--shards {shards} --batch 1 --in-flight 1"));
    }
}

#[test]
fn a_messy_file_is_accounted_for_on_several_shards() {
    let payments = messy(30_000);
    for shards in [2, 3] {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("payments.csv"), &payments.text).unwrap();
        let arguments = format!(
            "--shards {shards} --batch 500 --input payments.csv --balances balances.csv --refused refused.csv"
        );
        let ended = bank(directory.path(), &arguments, "").expect(0);

        let refused = refused(&read(&directory, "refused.csv"), &payments.good);
        let held = accounted(&payments.good, 1000, &refused);
        assert_eq!(read(&directory, "balances.csv"), balances_csv(&held), "with {shards} shards");
        expect_trouble(&refused);
        expect_report_of(&ended, &payments, held.len(), refused.len());
        // Of payments between any two accounts, all but one in so many span shards.
        let spanning = (payments.good.len() - refused.len()) * (shards - 1) / shards;
        assert!(ended.column("consensus") > spanning as u64 * 3 / 4, "{}", ended.said);
        verify_by_script(&directory, "payments.csv", &[]);
    }
}

#[test]
fn a_few_busy_accounts_are_accounted_for() {
    for (shards, cross) in [(2, 20), (2, 100), (3, 50), (3, 100)] {
        let directory = TempDir::new().unwrap();
        let arguments = format!(
            "--shards {shards} --cross {cross} --accounts 20 --skew 1.2 --generate 20000 --write-payments payments.csv --balances balances.csv --refused refused.csv"
        );
        let ended = bank(directory.path(), &arguments, "").expect(0);

        let payments = parsed(&read(&directory, "payments.csv"));
        let refused = refused(&read(&directory, "refused.csv"), &payments);
        let held = accounted(&payments, 1000, &refused);
        assert_eq!(read(&directory, "balances.csv"), balances_csv(&held), "{arguments}");
        assert_eq!(count_of(&refused, "no funds"), refused.len(), "the generator makes no others");
        assert!(refused.len() > 1000, "only {} lack funds: the test tests little", refused.len());
        ended.expect_each_handled_once(payments.len(), held.len());
        assert!(ended.column("consensus") > 1000, "{}", ended.said);
        verify_by_script(&directory, "payments.csv", &[]);
    }
}

// Half a payment, on one of two shards, would be missing in the sum, or too much.
#[test]
fn audits_in_the_midst_of_payments_are_exact() {
    let directory = TempDir::new().unwrap();
    for (shards, cross) in [(1, 0), (2, 100), (3, 50)] {
        let arguments = format!(
            "--shards {shards} --cross {cross} --accounts 5000 --generate 100000 --batch 500 --audit-every 0.0002"
        );
        let ended = bank(directory.path(), &arguments, "").expect(0);
        let accounts = ended.column("objects") as usize;
        ended.expect_each_handled_once(100_000, accounts);
        assert!(ended.number("audits") >= 3, "too few to mean much: {}", ended.said);
        let line = ended.said.lines().find(|line| line.starts_with("audits")).expect("it was just read");
        let (_, most) = line.split_once("of up to ").expect("it says how many accounts were audited");
        let most: usize = most.split_whitespace().next().unwrap().parse().expect("a number of accounts");
        assert!(accounts / 2 < most && most <= accounts, "{line}");
        for times in ["opening   median ", "folding   median "] {
            assert!(ended.said.contains(times), "{}", ended.said);
        }
    }
    // No audit during the run: the one in the end is still made.
    let ended = bank(directory.path(), "--generate 1000 --audit-every 0", "").expect(0);
    assert_eq!(ended.number("audits"), 0);
    assert!(ended.number("last audit") > 0 && !ended.said.contains("median"), "{}", ended.said);
}

// An audit that cannot fail says nothing.
#[test]
fn an_audit_finds_a_coin_or_an_account_too_many_or_too_few() {
    let runtime = support::start::<Ledger>(2, Config::default());
    let handle = runtime.handle();
    let home = |account| handle.home(&Key::Account(account)).index();
    let on_each = [0, 1].map(|shard| (1..).filter(|&id| home(id) == shard).take(2).collect::<Vec<_>>());
    let census = Census::default();
    let auditor = Auditor { handle: &handle, opening: 100, census: &census };
    let open = |account, opening| {
        census.named.fetch_add(1, Ordering::Release);
        handle.ask(Order::Open { account, opening }).wait().expect("an account opens");
        census.open.fetch_add(1, Ordering::Release);
    };
    let complaint = || auditor.audit().map(drop).expect_err("it is found").to_string();
    assert!(auditor.audit().is_ok_and(|audit| audit.held == 0), "nothing is as much as there must be");
    open(on_each[0][0], 100);
    assert!(auditor.audit().is_ok_and(|audit| (audit.accounts, audit.held) == (1, 100)));
    open(on_each[1][0], 99);
    assert_eq!(complaint(), "2 accounts opened with 200 together hold 199");
    open(on_each[0][1], 101);
    assert!(auditor.audit().is_ok());
    census.open.store(4, Ordering::Release);
    assert_eq!(complaint(), "found 3 accounts, where at least 4 are open and at most 3");
    census.open.store(0, Ordering::Release);
    census.named.store(2, Ordering::Release);
    assert_eq!(complaint(), "found 3 accounts, where at least 0 are open and at most 2");
    runtime.shutdown();
    assert_eq!(complaint(), "cannot read the accounts");
}

#[test]
fn standard_input_is_paid_as_a_file_is() {
    let payments = messy(20_000);
    let directory = TempDir::new().unwrap();
    let arguments = "--shards 1 --input - --balances balances.csv --opening 77";
    let ended = bank(directory.path(), arguments, &payments.text).expect(0);
    assert_eq!(ended.number("payments"), 20_000);
    assert_eq!(read(&directory, "balances.csv"), balances_csv(&replay(&payments.good, 77).0));
}

const SOME_BAD: &str = "\u{feff}amount,to,note,from\n5,2,rent,1\n\n5,2\n5,two,x,1\n,2,x,1\n5,2,x,-1\r\n5,2,\"a, b\",1\n5,2,\"a,1\n7,1,,2";

#[test]
fn bad_lines_are_told_by_number_and_reason() {
    let directory = TempDir::new().unwrap();
    let long = format!("{SOME_BAD}\n5,2,{},1\n1,2,,1\n", "x".repeat(20_000));
    let ended = bank(directory.path(), "--shards 1 --input - --balances balances.csv", &long).expect(0);
    let range = "not a whole number from 0 to 18446744073709551615";
    let wanted = [
        "line 4: 2 fields, where the header has 4".to_string(),
        format!("line 5: to is `two`, {range}"),
        format!("line 6: amount is ``, {range}"),
        format!("line 7: from is `-1`, {range}"),
        "line 9: a quote is not closed".to_string(),
        "line 11: longer than 16384 bytes".to_string(),
    ];
    assert_eq!(ended.complained.lines().collect::<Vec<_>>(), wanted);
    assert_eq!((ended.number("payments"), ended.number("bad lines")), (4, 6));
    assert_eq!(read(&directory, "balances.csv"), "account,balance\n1,996\n2,1004\n");
}

#[test]
fn strict_pays_what_comes_before_the_first_bad_line() {
    let directory = TempDir::new().unwrap();
    let ended =
        bank(directory.path(), "--shards 1 --input - --strict --balances balances.csv", SOME_BAD).expect(3);
    assert!(ended.complained.ends_with("line 4: 2 fields, where the header has 4\n"), "{}", ended.complained);
    assert_eq!((ended.number("payments"), ended.number("bad lines")), (1, 1));
    assert_eq!(read(&directory, "balances.csv"), "account,balance\n1,995\n2,1005\n");
}

#[test]
fn accounts_overflow_into_a_refusal_and_not_into_each_other() {
    let directory = TempDir::new().unwrap();
    let (max, input) = (u64::MAX, format!("from,to,amount\n1,2,1\n3,2,{}\n2,3,{0}\n", u64::MAX));
    let arguments =
        format!("--shards 1 --input - --opening {max} --balances balances.csv --refused refused.csv");
    let ended = bank(directory.path(), &arguments, &input).expect(0);
    assert_eq!(read(&directory, "balances.csv"), format!("account,balance\n1,{max}\n2,{max}\n3,{max}\n"));
    assert_eq!(read(&directory, "refused.csv").matches("balance too large").count(), 3);
    assert!(
        ended.said.contains(&format!("they hold {}: they balance", 3 * u128::from(max))),
        "{}",
        ended.said
    );
}

#[test]
fn generated_payments_are_the_same_again_and_can_be_read_back() {
    // Nobody can run out of what they are opened with: then the order of payments does not matter.
    for (same, cross, opening) in [("in any order", 25, 2_000_000), ("in their order", 0, 1000)] {
        let directory = TempDir::new().unwrap();
        let generate = format!(
            "--generate 20000 --accounts 300 --skew 1.1 --cross {cross} --opening {opening} --shards 2 --refused refused.csv"
        );
        let run = |more: &str| bank(directory.path(), &format!("{generate} {more}"), "").expect(0);
        run("--seed 8 --write-payments c.csv");
        run("--seed 7 --write-payments b.csv --balances b-balances.csv");
        let ended = run("--seed 7 --write-payments a.csv --balances balances.csv");
        let a = read(&directory, "a.csv");
        assert_eq!(a, read(&directory, "b.csv"));
        assert_ne!(a, read(&directory, "c.csv"));
        assert!(a.starts_with("from,to,amount\n") && a.lines().count() == 20_001);
        let payer = |line: &str| line.split(',').next().map(str::to_string);
        let busiest = a.lines().filter(|line| payer(line).as_deref() == Some("1")).count();
        assert!(busiest > 20_000 / 300 * 10, "account 1 pays {busiest} times, with much skew");

        let payments = parsed(&a);
        let (held, wanted) = replay(&payments, opening);
        assert_eq!(wanted.is_empty(), cross > 0, "whether the order matters is as this test assumes");
        assert_eq!(refused(&read(&directory, "refused.csv"), &payments), wanted, "the same {same}");
        assert_eq!(read(&directory, "balances.csv"), balances_csv(&held), "the same {same}");
        ended.expect_each_handled_once(payments.len(), held.len());
        verify_by_script(&directory, "a.csv", &[&opening.to_string(), "--in-order"]);

        let again = format!("--input a.csv --seed 7 --shards 2 --opening {opening} --balances again.csv");
        bank(directory.path(), &again, "").expect(0);
        assert_eq!(read(&directory, "balances.csv"), read(&directory, "again.csv"));
        assert_eq!(read(&directory, "balances.csv"), read(&directory, "b-balances.csv"));
    }
}

#[test]
fn as_many_payments_span_shards_as_asked_for() {
    let directory = TempDir::new().unwrap();
    let all = 20_000;
    for (cross, shards, range) in [
        ("--cross 0", 3, 0..=0),
        // So many accounts seldom meet, and so few of the others wait for a transaction and become
        // one.
        ("--cross 20", 3, 3600..=4400),
        ("", 3, 3600..=4400),
        ("", 1, 0..=0),
        ("--cross 100", 3, all..=all),
    ] {
        let arguments = format!(
            "--generate {all} --accounts 1000000 --skew 0 --opening 2000000 {cross} --shards {shards}"
        );
        let ended = bank(directory.path(), &arguments, "").expect(0);
        assert_eq!((ended.number("done"), ended.number("refused")), (all, 0));
        let spanning = ended.column("consensus");
        assert!(range.contains(&spanning), "{spanning} of {all} for `{cross}` on {shards} shards");
    }
}

#[cfg(not(feature = "replicated"))]
#[test]
fn a_bank_without_a_client_of_nats_says_how_it_is_built_with_one() {
    let directory = TempDir::new().unwrap();
    let ended = bank(directory.path(), "--data d --replicated nats://127.0.0.1:4222", "").expect(2);
    assert!(ended.complained.contains("-p bank --features replicated"), "{}", ended.complained);
}

#[test]
fn what_cannot_be_done_is_said_and_ends_in_2() {
    let directory = TempDir::new().unwrap();
    for (arguments, input, said) in [
        ("--input -", "", "there is nothing to read"),
        ("--input -", "1,2,3\n4,5,6\n", "it is `1,2,3`, without `from`"),
        ("--input -", "from,to\n1,2\n", "without `amount`"),
        ("--input nowhere.csv", "", "cannot read nowhere.csv: No such file"),
        ("--input .", "", "no payments in .: cannot be read: Is a directory"),
        ("--input - --balances no/such/place", "from,to,amount\n", "cannot write no/such/place"),
        ("--input - --cross 5", "", "cannot be used with"),
        ("--data d --no-log", "", "cannot be used with"),
        ("--replicated nats://h", "", "--data <DIR>"),
        ("--data /proc/nowhere", "", "the runtime does not start: the log: "),
        ("--cross 101", "", "a number from 0 to 100"),
        ("--accounts 1", "", "1 is not in 2.."),
        ("--audit-every soon", "", "a number from 0 to 86400"),
        ("--audit-every=-1", "", "a number from 0 to 86400"),
        ("--audit-every NaN", "", "a number from 0 to 86400"),
        ("--audit-every 86401", "", "a number from 0 to 86400"),
        ("--data d --tellers 2", "", "cannot be used with"),
        ("--tellers 2 --refused refused.csv", "", "cannot be used with"),
        ("--tellers 0", "", "0 is not in 1..=256"),
        ("--shards 0", "", "`shards` is 0, and it must be 1 to 256"),
        ("--shards 1 --cross 5", "", "no two of 100000 accounts live on different shards"),
        ("--shards 200 --accounts 2 --generate 10", "", "no two of 2 accounts live on the same shard"),
    ] {
        let ended = bank(directory.path(), arguments, input).expect(2);
        assert!(ended.complained.contains(said), "`bank {arguments}` says {}", ended.complained);
    }
    let ended = bank(directory.path(), "--shards 1 --input -", "from,to,amount\n").expect(0);
    assert_eq!(ended.number("payments"), 0, "no payments are payments that balance");
    ended.expect_exact_audits(0);
}

/// A small log, of which a run fills many segments and makes many checkpoints.
const SMALL_LOG: &str = "--segment-bytes 65536 --checkpoint-bytes 1000000";

/// Kills the bank so long after it was started, unless it has ended well: says whether.
fn kill(directory: &Path, arguments: &str, after: Duration) -> bool {
    let mut child = start(directory, arguments);
    std::thread::sleep(after);
    child.kill().expect("it is there until it was waited for");
    let output = child.wait_with_output().expect("it can be waited for");
    assert!(matches!(output.status.code(), None | Some(0)), "{}", String::from_utf8_lossy(&output.stderr));
    output.status.code().is_none()
}

/// Kills the bank again and again and has it pay to the end then, with another number of shards
/// each time, and what it said in the end.
fn pay_in_spite_of_kills(directory: &TempDir, arguments: &str, shards: &[usize]) -> Ended {
    // Later and later, so that it gets somewhere on a machine however slow, and is killed on one
    // however fast.
    let mut after = Duration::from_millis(20);
    let mut kills = 0;
    let shards_of = |life: usize| shards[life % shards.len()];
    while kill(
        directory.path(),
        &format!("--data d {SMALL_LOG} --shards {} {arguments}", shards_of(kills)),
        after,
    ) {
        kills += 1;
        after = after * 3 / 2;
    }
    assert!(kills >= 3, "it was killed {kills} times only: the test tests little");
    let last = format!("--data d {SMALL_LOG} --shards {} {arguments}", shards[0]);
    let ended = bank(directory.path(), &last, "").expect(0);
    assert!(ended.number("before") > 0, "{}", ended.said);
    assert!(ended.said.contains("they balance"), "{}", ended.said);
    ended
}

const LISTED: &str = "--input payments.csv --balances balances.csv --refused refused.csv";

// On one shard the order is kept, over a crash too: so even what is refused is the same.
#[test]
fn a_bank_that_is_killed_goes_on_and_ends_as_by_a_replay() {
    let (directory, payments) = (TempDir::new().unwrap(), messy(20_000));
    fs::write(directory.path().join("payments.csv"), &payments.text).unwrap();
    let arguments = format!("--batch 50 --in-flight 1 {LISTED}");
    let ended = pay_in_spite_of_kills(&directory, &arguments, &[1]);
    let (held, wanted) = replay(&payments.good, 1000);
    assert_eq!(refused(&read(&directory, "refused.csv"), &payments.good), wanted);
    assert_eq!(read(&directory, "balances.csv"), balances_csv(&held));
    assert_eq!((ended.number("payments"), ended.number("refused")), (20_000, wanted.len() as u64));
    assert_eq!(ended.number("done"), 20_000 - wanted.len() as u64);
    expect_trouble(&wanted);
    verify_by_script(&directory, "payments.csv", &["--in-order"]);

    // Once more changes nothing.
    let balances = read(&directory, "balances.csv");
    let ended = bank(directory.path(), &format!("--data d {arguments} --shards 2"), "").expect(0);
    assert_eq!(read(&directory, "balances.csv"), balances);
    assert_eq!(refused(&read(&directory, "refused.csv"), &payments.good), wanted);
    assert_eq!((ended.number("before"), ended.number("payments")), (20_000, 20_000));
    assert_eq!(
        (ended.number("done"), ended.number("last audit")),
        (20_000 - wanted.len() as u64, held.len() as u64)
    );
}

// Where some payments overtake others it depends on them which lack funds. With enough of them
// nothing does.
#[test]
fn a_bank_that_is_killed_on_several_shards_decides_everything_once() {
    for opening in [100_000_000, 1000] {
        let (directory, payments) = (TempDir::new().unwrap(), messy(20_000));
        fs::write(directory.path().join("payments.csv"), &payments.text).unwrap();
        let arguments = format!("--batch 50 --in-flight 2 --opening {opening} {LISTED}");
        pay_in_spite_of_kills(&directory, &arguments, &[2, 3, 1]);
        let refused = refused(&read(&directory, "refused.csv"), &payments.good);
        let held = accounted(&payments.good, opening, &refused);
        assert_eq!(read(&directory, "balances.csv"), balances_csv(&held));
        if opening > 1000 {
            assert_eq!((held, refused), replay(&payments.good, opening), "as an uninterrupted run");
        } else {
            expect_trouble(&refused);
        }
        verify_by_script(&directory, "payments.csv", &[&opening.to_string()]);
    }
}

#[test]
fn a_log_goes_with_its_input() {
    let directory = TempDir::new().unwrap();
    let write =
        |lines: &str| fs::write(directory.path().join("payments.csv"), format!("from,to,amount\n{lines}"));
    let pay = |more: &str| {
        let arguments = format!("--data d {SMALL_LOG} --input payments.csv --balances balances.csv {more}");
        bank(directory.path(), &arguments, "")
    };
    write("1,2,5\n2,3,7\n").unwrap();
    pay("").expect(0);
    let balances = "account,balance\n1,995\n2,998\n3,1007\n";
    assert_eq!(read(&directory, "balances.csv"), balances);
    for (lines, more, said) in [
        ("1,2,5\n", "", "2 payments were handed over before, and this input has 1 and is over"),
        ("1,2,5\n2,3,8\n", "", "of the 2 payments handed over before, at least one is not what it was"),
        ("2,3,7\n1,2,5\n", "", "at least one is not what it was"),
        ("\n1,2,5\n2,3,7\n", "", "at least one is not what it was"),
        ("1,2,5\n2,3,7\n", "--opening 999", "accounts opened with 1000, not with 999"),
    ] {
        write(lines).unwrap();
        let ended = pay(more).expect(2);
        assert!(
            ended.complained.contains("nothing was paid: ") && ended.complained.contains(said),
            "{}",
            ended.complained
        );
    }
    // It may have grown.
    write("1,2,5\n2,3,7\n3,1,2\n").unwrap();
    let ended = pay("").expect(0);
    assert_eq!((ended.number("payments"), ended.number("before")), (3, 2));
    assert_eq!(read(&directory, "balances.csv"), "account,balance\n1,997\n2,998\n3,1005\n");
    // Strict stops where it stopped before, or would have.
    write("1,2,5\noops\n").unwrap();
    let ended = pay("--strict").expect(3);
    assert!(ended.complained.contains("line 3: 1 fields"), "{}", ended.complained);
}

fn temporary_logs() -> Vec<std::path::PathBuf> {
    let beside = Path::new(env!("CARGO_BIN_EXE_bank")).parent().expect("it is in a directory").to_path_buf();
    let files = fs::read_dir(beside).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("bank-log-")).collect()
}

#[test]
fn a_log_that_nobody_named_is_removed() {
    let (directory, before) = (TempDir::new().unwrap(), temporary_logs());
    let output = start(directory.path(), "--generate 5000 --segment-bytes 65536").wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("log         on disk, and removed now"), "{output:?}");
    assert_eq!(temporary_logs(), before);

    // Also if it is told to end.
    let mut child = start(directory.path(), "--generate 100000000 --segment-bytes 65536");
    support::until(|| temporary_logs().len() > before.len());
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
    assert_eq!(temporary_logs(), before);
}

/// A newcomer watches the bank by `freehold top` while it runs.
#[test]
fn its_pages_tell_what_it_does_as_long_as_it_runs() {
    let _watchdog = support::Watchdog::new("its_pages_tell_what_it_does_as_long_as_it_runs");
    let directory = TempDir::new().unwrap();
    let mut child = start(directory.path(), "--no-log --input - --batch 1 --metrics 127.0.0.1:0");
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"from,to,amount\n1,2,5\n1,1,0\n").unwrap();
    let mut complaints = std::io::BufReader::new(child.stderr.take().unwrap()).lines();
    let said = complaints.find(|line| line.as_ref().unwrap().contains("metrics at http://"));
    let said = said.expect("it says where").unwrap();
    let (addr, _) = said.split_once("http://").unwrap().1.split_once('/').unwrap();
    let page = || {
        let mut stream = std::net::TcpStream::connect(addr).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page
    };
    support::until(|| page().contains("freehold_uptime_seconds"));
    drop(input);
    child.wait().unwrap();
    assert!(std::net::TcpStream::connect(addr).is_err(), "nobody listens any more");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let command = format!("--no-log --generate 10 --metrics {}", taken.local_addr().unwrap());
    let output = start(directory.path(), &command).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("no metrics can be served at"), "{output:?}");
}

#[test]
fn what_is_decided_is_kept_in_short() {
    // Payments overtake each other by up to 200; each is decided twice.
    let mut decided = Decided::default();
    let mut known = std::collections::BTreeSet::new();
    for step in 0..5000_u64 {
        let nth = if step % 200 < 100 { step + 100 } else { step - 100 };
        assert_eq!(decided.insert(nth), known.insert(nth), "{nth}");
        assert!(!decided.insert(nth), "{nth}");
    }
    assert_eq!(known.len(), 5000);
    assert!(known.iter().all(|nth| !decided.insert(*nth)));
    assert!(decided.insert(5000) && !decided.insert(5000));
}
