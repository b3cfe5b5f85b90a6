//! Banks over one stream: one pays, one stands by, and goes on where the first was stopped.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::servers::{LOGINS, Servers};
use super::{PATIENCE, balances_csv, expect_trouble, messy, read, refused, replay, verify_by_script};
use crate::support::Watchdog;

/// A bank that is a node, and what it says of that.
struct Node {
    child: Child,
    says: mpsc::Receiver<String>,
}

impl Node {
    fn start(servers: &Servers, directory: &Path, name: &str, arguments: &str) -> Node {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bank"))
            .current_dir(directory)
            .args(["--replicated", &servers.urls().join(","), "--allow-replicas", "1", "--node", name])
            .args([
                "--data",
                name,
                "--shards",
                "1",
                "--batch",
                "200",
                "--in-flight",
                "2",
                "--audit-every",
                "1",
            ])
            .args(arguments.split_whitespace())
            .envs(LOGINS)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the bank starts");
        let (say, says) = mpsc::channel();
        let complains = BufReader::new(child.stderr.take().expect("it was piped"));
        std::thread::spawn(move || {
            complains.lines().map_while(Result::ok).try_for_each(|line| say.send(line))
        });
        Node { child, says }
    }

    #[track_caller]
    fn hear(&self, words: &str) {
        let hears = || self.says.recv_timeout(PATIENCE).expect("it goes on");
        while !hears().contains(words) {}
    }

    /// What it has printed, and what it complained of, when it has ended with this status.
    #[track_caller]
    fn ends(self, status: i32) -> (String, String) {
        let output = self.child.wait_with_output().expect("it can be waited for");
        let complaints = self.says.iter().collect::<Vec<_>>().join("\n");
        assert_eq!(output.status.code(), Some(status), "{complaints}");
        (String::from_utf8(output.stdout).expect("it says text"), complaints)
    }
}

#[test]
fn a_bank_that_is_stopped_is_gone_on_with_by_another() {
    let _watchdog = Watchdog::new("a_bank_that_is_stopped_is_gone_on_with_by_another");
    let Some(mut servers) = Servers::start("a_bank_that_is_stopped_is_gone_on_with_by_another", 1) else {
        return;
    };
    let (directory, payments) = (TempDir::new().unwrap(), messy(9_000));
    fs::write(directory.path().join("payments.csv"), &payments.text).unwrap();
    let mut a = Node::start(&servers, directory.path(), "a", "--input -");
    a.hear("owns the bank in term 1");
    let listed = "--input payments.csv --balances balances.csv --refused refused.csv";
    let b = Node::start(&servers, directory.path(), "b", listed);
    b.hear("standby in term 1");
    // When it has taken this, it has paid what does not fit into a pipe.
    let most = &payments.text.as_bytes()[..payments.text.len() * 2 / 3];
    assert!(most.len() > 90_000, "{} bytes", most.len());
    a.child.stdin.as_mut().expect("it was piped").write_all(most).expect("it reads");
    kill_process(Pid::from_child(&a.child), Signal::STOP).expect("it is there");
    b.hear("owns the bank in term 2");
    let (said, _) = b.ends(0);
    let before = said.lines().find_map(|line| line.trim_start().strip_prefix("before "));
    println!("{before:?}");
    assert!(before.is_some(), "the first has paid nothing:\n{said}");
    let (held, wanted) = replay(&payments.good, 1000);
    assert_eq!(refused(&read(&directory, "refused.csv"), &payments.good), wanted);
    assert_eq!(read(&directory, "balances.csv"), balances_csv(&held));
    expect_trouble(&wanted);
    verify_by_script(&directory, "payments.csv", &["--in-order"]);
    // The first does not know that it slept. It pays nothing any more, and says why.
    kill_process(Pid::from_child(&a.child), Signal::CONT).expect("it is there");
    let (_, complained) = a.ends(2);
    assert!(complained.contains("does not own the bank any more (b/"), "{complained}");
    assert!(complained.contains("took the database over in term 2"), "{complained}");
    // It comes back, and finds that all was decided.
    let (said, _) = Node::start(&servers, directory.path(), "a", listed).ends(0);
    assert!(said.contains("9,000 only read"), "{said}");
    assert_eq!(read(&directory, "balances.csv"), balances_csv(&held));
    // The stream is gone with its disk. The bank says so, and its log founds it anew.
    servers.empty(0);
    let (_, complained) = Node::start(&servers, directory.path(), "a", listed).ends(2);
    assert!(complained.contains("Repair::FromThisLog"), "{complained}");
    let (said, _) = Node::start(&servers, directory.path(), "a", &format!("{listed} --repair")).ends(0);
    assert!(said.contains("9,000 only read"), "{said}");
    assert_eq!(read(&directory, "balances.csv"), balances_csv(&held));
}
