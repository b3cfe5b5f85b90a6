//! Payments to try, and what must come of them: an account of the bank that shares no code with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Payments to try, and the lines that are none.
pub struct Payments {
    pub text: String,
    /// Line, payer, payee and amount of each payment.
    pub good: Vec<(u64, u64, u64, u64)>,
    pub bad: u64,
}

/// Every kind of payment and of trouble, from a small random generator.
pub fn messy(payments: usize) -> Payments {
    let mut random = 42_u64;
    let mut draw = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut all = Payments { text: "from,to,amount\n".into(), good: Vec::new(), bad: 0 };
    let bad =
        ["1,2", "1,2,3,4", "one,2,3", "1,2,-5", "1,2,", "1,2,3.5", "18446744073709551616,1,1", "\"1,2,3"];
    let mut line = 1;
    while all.good.len() < payments {
        line += 1;
        let (from, to, amount) = (draw(60) * 1_000_003, draw(60) * 1_000_003, draw(400));
        let amount = if draw(20) == 0 { 0 } else { amount };
        match draw(50) {
            0 => {
                all.bad += 1;
                writeln!(all.text, "{}", bad[draw(bad.len() as u64) as usize]).unwrap();
                continue;
            }
            1 => {
                writeln!(all.text, "   ").unwrap();
                continue;
            }
            2 => write!(all.text, "\"{from}\", {to} ,\"{amount}\"\r\n").unwrap(),
            _ => writeln!(all.text, "{from},{to},{amount}").unwrap(),
        }
        all.good.push((line, from, to, amount));
    }
    all
}

/// What must be on the accounts after `payments`, and which are refused why, if those on the lines `spanning` span shards.
pub fn replay(
    payments: &[(u64, u64, u64, u64)],
    opening: u64,
    spanning: &BTreeSet<u64>,
) -> (BTreeMap<u64, u64>, BTreeMap<u64, &'static str>) {
    let (mut held, mut refused) = (BTreeMap::new(), BTreeMap::new());
    for &(line, from, to, amount) in payments {
        let payer = *held.entry(from).or_insert(opening);
        let payee = *held.entry(to).or_insert(opening);
        let reason = if spanning.contains(&line) {
            "spans shards"
        } else if from == to {
            "to oneself"
        } else if amount == 0 {
            "of zero"
        } else if amount > payer {
            "no funds"
        } else if amount > u64::MAX - payee {
            "balance too large"
        } else {
            held.insert(from, payer - amount);
            held.insert(to, payee + amount);
            continue;
        };
        refused.insert(line, reason);
    }
    (held, refused)
}

pub fn balances_csv(held: &BTreeMap<u64, u64>) -> String {
    held.iter().fold("account,balance\n".to_string(), |csv, (account, balance)| {
        csv + &format!("{account},{balance}\n")
    })
}

/// The lines of refused payments with their reasons, as the bank wrote them; and that it wrote the payments themselves right.
pub fn refused(csv: &str, payments: &[(u64, u64, u64, u64)]) -> BTreeMap<u64, String> {
    let mut lines = csv.lines();
    assert_eq!(lines.next(), Some("line,from,to,amount,reason"));
    let payments: BTreeMap<_, _> =
        payments.iter().map(|&(line, from, to, amount)| (line, (from, to, amount))).collect();
    let refused = lines.map(|row| {
        let (rest, reason) = row.rsplit_once(',').expect("a row has a reason");
        let line =
            rest.split(',').next().and_then(|line| line.parse().ok()).expect("a row begins with its line");
        let (from, to, amount) = payments[&line];
        assert_eq!(rest, format!("{line},{from},{to},{amount}"));
        (line, reason.to_string())
    });
    refused.collect()
}

pub fn lines_of(refused: &BTreeMap<u64, String>, reason: &str) -> BTreeSet<u64> {
    refused.iter().filter(|(_, why)| *why == reason).map(|(line, _)| *line).collect()
}
