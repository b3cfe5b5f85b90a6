//! Payments to try, and what must come of them: an account of the bank that shares no code with it.

use std::collections::BTreeMap;
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

/// What must be on the accounts after `payments`, and which are refused why, if they are made in
/// this order.
pub fn replay(
    payments: &[(u64, u64, u64, u64)],
    opening: u64,
) -> (BTreeMap<u64, u64>, BTreeMap<u64, String>) {
    let (mut held, mut refused) = (BTreeMap::new(), BTreeMap::new());
    for &(line, from, to, amount) in payments {
        let payer = *held.entry(from).or_insert(opening);
        let payee = *held.entry(to).or_insert(opening);
        let reason = if from == to {
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
        refused.insert(line, reason.to_string());
    }
    (held, refused)
}

/// What must be on the accounts after all `payments` but those `refused`, in whatever order they
/// were made; and that nothing was refused, or made, that never can be. A balance that would be
/// below zero panics.
pub fn accounted(
    payments: &[(u64, u64, u64, u64)],
    opening: u64,
    refused: &BTreeMap<u64, String>,
) -> BTreeMap<u64, u64> {
    let opening = i128::from(opening);
    // By account: what it paid, and what it received.
    let mut moved = BTreeMap::<u64, (i128, i128)>::new();
    for &(line, from, to, amount) in payments {
        moved.entry(from).or_default();
        moved.entry(to).or_default();
        let always = if from == to {
            Some("to oneself")
        } else if amount == 0 {
            Some("of zero")
        } else {
            None
        };
        let reason = refused.get(&line).map(String::as_str);
        assert!(
            reason == always || always.is_none() && reason == Some("no funds"),
            "line {line}: {reason:?}"
        );
        if reason.is_none() {
            moved.entry(from).or_default().0 += i128::from(amount);
            moved.entry(to).or_default().1 += i128::from(amount);
        }
    }
    for &(line, from, _, amount) in payments {
        let (paid, received) = moved[&from];
        match refused.get(&line).map(String::as_str) {
            None => assert!(i128::from(amount) <= opening + received, "line {line} was paid from nothing"),
            Some("no funds") => {
                assert!(i128::from(amount) > opening - paid, "line {line} was refused in spite of funds")
            }
            Some(_) => {}
        }
    }
    let held = moved.into_iter().map(|(account, (paid, received))| {
        let balance = u64::try_from(opening + received - paid);
        (account, balance.unwrap_or_else(|_| panic!("account {account} paid {paid} and received {received}")))
    });
    held.collect()
}

/// The payments of a file that has nothing else in it.
pub fn parsed(csv: &str) -> Vec<(u64, u64, u64, u64)> {
    let payments = csv.lines().zip(1..).skip(1).map(|(row, line)| {
        let numbers: Vec<u64> = row.split(',').map(|text| text.parse().expect("a number")).collect();
        let [from, to, amount] = numbers[..] else { panic!("line {line} is {row}") };
        (line, from, to, amount)
    });
    payments.collect()
}

pub fn balances_csv(held: &BTreeMap<u64, u64>) -> String {
    held.iter().fold("account,balance\n".to_string(), |csv, (account, balance)| {
        csv + &format!("{account},{balance}\n")
    })
}

/// The lines of refused payments with their reasons, as the bank wrote them; and that it wrote the
/// payments themselves right.
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

/// How many are refused for `reason`.
pub fn count_of(refused: &BTreeMap<u64, String>, reason: &str) -> usize {
    refused.values().filter(|why| *why == reason).count()
}
