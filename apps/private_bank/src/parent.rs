//! The process that starts the others, kills the ledger, and checks.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use comfy_table::{Table, presets};
use freehold_private::{Account, Books, Secret};

use crate::ledger::Teller;
use crate::socket::{ALL, Client, DEPOSIT};
use crate::wallet::{planned, sees};
use crate::{Arguments, Failed, hex, key, kills, terms};

/// What each wallet begins with.
const DEPOSIT_EACH: u64 = 10_000;
/// What is heard of a process that has ended.
const ENDED: &str = "ended";
/// A process that says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// A process that is killed when this is dropped.
struct Process {
    child: Child,
    input: Option<ChildStdin>,
}

impl Process {
    /// Starts this program in another role. What it says is heard with its number.
    fn start(
        arguments: &[String],
        number: usize,
        heard: &Sender<(usize, String)>,
    ) -> Result<Process, Failed> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (output, heard) = (child.stdout.take().ok_or("there is no output")?, heard.clone());
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                drop(heard.send((number, line)));
            }
            drop(heard.send((number, ENDED.to_string())));
        });
        let input = child.stdin.take();
        Ok(Process { child, input })
    }

    fn tell(&mut self, line: &str) -> Result<(), Failed> {
        Ok(writeln!(self.input.as_mut().ok_or("its input is closed")?, "{line}")?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL: it says and does nothing more.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// All processes.
struct Bank {
    directory: tempfile::TempDir,
    terms: String,
    teller: Teller,
    ledger: Option<Process>,
    /// The wallets, and behind them the auditor.
    others: Vec<Process>,
    heard: Receiver<(usize, String)>,
    says: Sender<(usize, String)>,
    client: Client,
    books: u64,
}

impl Bank {
    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// Starts the ledger, after the one before was killed.
    fn start_ledger(&mut self, shards: usize) -> Result<(), Failed> {
        self.ledger = None;
        let text = |path: &Path| path.display().to_string();
        let directory = text(&self.directory.path().join("log"));
        let (socket, terms, shards) = (text(&self.socket()), self.terms.clone(), shards.to_string());
        let arguments = ["ledger".to_string(), directory, socket, terms, shards];
        // Nobody listens to it.
        let mut ledger = Process::start(&arguments, usize::MAX, &self.says)?;
        ledger.tell(&hex(&self.teller))?;
        self.ledger = Some(ledger);
        Ok(())
    }

    /// The next line of wallets and auditor.
    fn hear(&self) -> Result<(usize, String), Failed> {
        loop {
            let (number, line) = self.heard.recv_timeout(PATIENCE).map_err(|_| "a process hangs")?;
            // The ledger's end is made here.
            if number != usize::MAX {
                return Ok((number, line));
            }
        }
    }

    /// Waits until each of these processes has said a line that begins so, and gives the rest.
    fn each_says(&self, processes: std::ops::Range<usize>, word: &str) -> Result<Vec<String>, Failed> {
        let mut said = vec![None; processes.end];
        while said[processes.clone()].contains(&None) {
            let (number, line) = self.hear()?;
            if let Some(rest) = line.strip_prefix(word) {
                said[number] = Some(rest.trim().to_string());
            } else if line == ENDED && processes.contains(&number) && said[number].is_none() {
                return Err(format!("process {number} ended early").into());
            }
        }
        Ok(said.into_iter().flatten().collect())
    }

    /// Checks the public books, as of one instant.
    fn check_books(&mut self) -> Result<i128, Failed> {
        let all = self.client.ask(ALL, &[])??;
        let (mut left, mut books) = (&all[..], Books::new());
        while let Some((length, rest)) = left.split_first_chunk() {
            let (account, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
            books.add(&Account::from_bytes(account)?);
            left = rest;
        }
        self.books += 1;
        Ok(books.balance()?)
    }
}

fn begin(wallets: u64, payments: u64) -> Result<Bank, Failed> {
    let directory = tempfile::tempdir()?;
    let socket = directory.path().join("socket");
    let (says, heard) = mpsc::channel();
    let at = |path: &Path| path.display().to_string();
    let mut others = Vec::new();
    for id in 1..=wallets {
        let claims = at(&directory.path().join(format!("claims-{id}")));
        let numbers = [id, wallets, payments].map(|number| number.to_string());
        let arguments = [&["wallet".to_string()][..], &numbers, &[at(&socket), claims]].concat();
        others.push(Process::start(&arguments, others.len(), &says)?);
    }
    let arguments = ["auditor".to_string(), wallets.to_string(), at(&socket)];
    others.push(Process::start(&arguments, others.len(), &says)?);
    let client = Client::new(&socket);
    let wallets = wallets as usize;
    let mut teller = Teller::default();
    getrandom::fill(&mut teller)?;
    let terms = String::new();
    let mut bank = Bank { directory, terms, teller, ledger: None, others, heard, says, client, books: 0 };
    let keys = bank.each_says(0..wallets + 1, "key")?;
    let mut ledger = [0; 32];
    getrandom::fill(&mut ledger)?;
    bank.terms = format!("{}:{}", hex(&ledger), keys[wallets]);
    bank.start_ledger(1)?;
    let told = bank.terms.clone();
    for (number, other) in bank.others.iter_mut().enumerate() {
        other.tell(&told)?;
        if number < wallets {
            keys[..wallets].iter().try_for_each(|key| other.tell(key))?;
        }
    }
    bank.each_says(0..wallets, "ready")?;
    for (id, owner) in (1_u64..).zip(&keys[..wallets]) {
        let numbers = [id.to_le_bytes(), DEPOSIT_EACH.to_le_bytes()].concat();
        let deposit = [&teller[..], &numbers, &key(owner)?.to_bytes()].concat();
        // Once: without an answer it may have been made.
        bank.client.try_ask(DEPOSIT, &deposit)??;
    }
    Ok(bank)
}

/// When the ledger is to be killed, and how that is said in the end.
fn plan(told: &Arguments) -> Result<(Vec<kills::Kill>, String), Failed> {
    let all = told.wallets * told.payments;
    let Some(kills) = told.kills else {
        return Ok((kills::two(all), "twice, and opened with 1, 3 and 2 shards".to_string()));
    };
    let mut drawn = [0; 8];
    getrandom::fill(&mut drawn)?;
    let seed = told.seed.unwrap_or(u64::from_le_bytes(drawn));
    println!("the moments of {kills} kills are drawn from --seed {seed}");
    Ok((
        kills::drawn(kills, all, seed),
        format!("{kills} times (seed {seed}), and opened with 1 to 4 shards"),
    ))
}

pub fn run(told: &Arguments) -> Result<bool, Failed> {
    let Arguments { wallets, payments, .. } = *told;
    let (mut kills, killed) = plan(told)?;
    // The next is the last.
    kills.reverse();
    let mut bank = begin(wallets, payments)?;
    let total = i128::from(wallets * DEPOSIT_EACH);
    let (all, mut paid, mut done, mut unsure) = (wallets * payments, 0, 0, 0);
    let mut is_balanced = bank.check_books()? == total;
    for wallet in &mut bank.others[..wallets as usize] {
        wallet.tell("begin")?;
    }
    while done < wallets {
        let (number, line) = bank.hear()?;
        match &*line {
            ENDED => return Err(format!("process {number} ended early").into()),
            "paid" => paid += 1,
            "done" => done += 1,
            "unsure" => unsure += 1,
            _ => continue,
        }
        let mut is_to_check = paid % 8 == 0;
        // One that waits behind another comes while the ledger starts, or soon after.
        while let Some(kill) = kills.pop_if(|kill| paid >= kill.paid) {
            std::thread::sleep(kill.delay);
            bank.start_ledger(kill.shards)?;
            is_to_check = true;
        }
        if is_to_check {
            is_balanced &= bank.check_books()? == total;
        }
    }
    bank.others[..wallets as usize].iter_mut().for_each(|wallet| wallet.input = None);
    let seen = bank.each_says(0..wallets as usize, "sees")?;
    is_balanced &= bank.check_books()? == total;
    let files =
        (1..=wallets).map(|id| bank.directory.path().join(format!("claims-{id}")).display().to_string());
    let files: Vec<_> = files.collect();
    let auditor = &mut bank.others[wallets as usize];
    files.iter().try_for_each(|path| auditor.tell(path))?;
    auditor.input = None;
    let number = wallets as usize;
    let amounts = bank.each_says(number..number + 1, "amounts")?;
    let of_auditor = bank.each_says(number..number + 1, "sees")?;
    println!("{paid} payments of {wallets} wallets; the ledger was killed {killed}");
    println!("{unsure} claims had been made by a ledger that was killed before it said so");
    println!(
        "the public books were checked {} times: {}",
        bank.books,
        if is_balanced { "exact" } else { "WRONG" }
    );
    // All that the operator has is a secret that it drew itself.
    let of_operator = sees(&mut bank.client, &terms(&bank.terms)?, wallets, &Secret::random())?;
    let is_right = judge(&seen, &amounts[0], &of_auditor[0], &of_operator, payments);
    Ok(is_balanced && is_right && paid == all && kills.is_empty())
}

/// Prints what each party sees, and says whether it is what it should be.
fn judge(seen: &[String], amounts: &str, of_auditor: &str, of_operator: &str, payments: u64) -> bool {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    let head = (1..=seen.len()).map(|id| format!("balance of {id}"));
    table.set_header(["party".to_string()].into_iter().chain(head).chain(["amounts".to_string()]));
    let mut is_right = true;
    let row = |party: String, seen: &str, amounts: String| {
        let cells = seen.split_whitespace().map(|cell| if cell == "-" { "sealed" } else { cell }.to_string());
        [party].into_iter().chain(cells).chain([amounts]).collect::<Vec<_>>()
    };
    let mut balances = Vec::new();
    for (at, seen) in seen.iter().enumerate() {
        table.add_row(row(format!("wallet {}", at + 1), seen, "its own".to_string()));
        for (other, cell) in seen.split_whitespace().enumerate() {
            is_right &= (other == at) == (cell != "-");
            if other == at {
                balances.extend(cell.parse::<i64>());
            }
        }
    }
    let numbers: Vec<i64> = amounts.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    table.add_row(row("auditor".to_string(), of_auditor, format!("of {} payments", numbers[0])));
    is_right &= of_auditor.split_whitespace().all(|cell| cell == "-");
    table.add_row(row("operator".to_string(), of_operator, "deposits".to_string()));
    is_right &= of_operator.split_whitespace().all(|cell| cell == "-");
    println!("{table}");
    let is_exact = numbers == plan_of_all(seen.len() as u64, payments);
    println!("the auditor's total is {}: {}", numbers[1], if is_exact { "exact" } else { "WRONG" });
    let expected: Vec<_> = numbers[2..].iter().map(|net| DEPOSIT_EACH as i64 + net).collect();
    let agrees = expected == balances;
    println!(
        "the auditor's sums {} with the balances that the wallets read",
        if agrees { "agree" } else { "DISAGREE" }
    );
    is_right && is_exact && agrees
}

/// What the auditor is to find, if every payment was made once: how many, their total, and what
/// each wallet has got more than it has paid.
fn plan_of_all(wallets: u64, payments: u64) -> Vec<i64> {
    let mut numbers = vec![0; 2 + wallets as usize];
    for (id, payment) in (1..=wallets).flat_map(|id| (0..payments).map(move |payment| (id, payment))) {
        let (payee, amount) = planned(id, payment, wallets);
        numbers[0] += 1;
        numbers[1] += amount as i64;
        numbers[1 + id as usize] -= amount as i64;
        numbers[1 + payee as usize] += amount as i64;
    }
    numbers
}
