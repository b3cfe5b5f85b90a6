//! The code of `docs/GUIDE.md` compiles, and what can run here runs. Each of its Rust blocks stands
//! in this file, or in one of `guide/`, as it stands there, but for the indentation.

mod blobs;
mod collections;
mod indexed;
mod kinds;
mod shop;

use std::error::Error;
use std::hash::Hash;
use std::time::Duration;

use freehold::testing::Bench;
use freehold::{
    AccessError, Actor, Addressees, AskError, Config, Handle, LogConfig, Migrated, Migration, ObjectId,
    Objects, Runtime, Schema, SchemaTypes, Shards, TaskError,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Account {
    balance: u32,
}

enum Order {
    Open { account: u64, balance: u32 },
    Pay(Pay),
}

struct Pay {
    from: u64,
    to: u64,
    amount: u32,
}

#[derive(Debug, PartialEq)]
struct Paid;

#[derive(Debug, PartialEq)]
enum Refusal {
    NoAccount,
    Funds,
    Overflow,
    Access(AccessError<u64>),
}

impl From<AccessError<u64>> for Refusal {
    fn from(error: AccessError<u64>) -> Refusal {
        Refusal::Access(error)
    }
}

struct Payments;

impl Actor for Payments {
    type Id = u64;
    type State = Account;
    type Message = Order;
    type Reply = Paid;
    type Error = Refusal;

    fn addressees(order: &Order, to: &mut Addressees<u64>) {
        match order {
            Order::Open { account, .. } => to.write(*account),
            Order::Pay(pay) => [pay.from, pay.to].into_iter().for_each(|id| to.write(id)),
        }
    }

    fn receive(order: &Order, objects: &mut Objects<'_, Self>) -> Result<Paid, Refusal> {
        match order {
            Order::Open { account, balance } => {
                objects.insert(*account, Account { balance: *balance })?;
                Ok(Paid)
            }
            Order::Pay(pay) => Payments::pay(pay, objects),
        }
    }
}

impl Payments {
    fn pay(pay: &Pay, objects: &mut Objects<'_, Self>) -> Result<Paid, Refusal> {
        // `?`: not the owner, immutable, the same account twice, ...
        let (from, to) = objects.get_pair_mut(pay.from, pay.to)?;
        let (from, to) = (from.ok_or(Refusal::NoAccount)?, to.ok_or(Refusal::NoAccount)?);
        from.balance = from.balance.checked_sub(pay.amount).ok_or(Refusal::Funds)?;
        // Undoes the line before, too.
        to.balance = to.balance.checked_add(pay.amount).ok_or(Refusal::Overflow)?;
        Ok(Paid)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Seat {
    tenant: u32,
    seat: u32,
}

impl ObjectId for Seat {
    // All seats of a tenant on one shard.
    fn placement(&self) -> impl Hash {
        self.tenant
    }
}

/// Reads account 7, and what all accounts hold together.
fn audit(handle: &Handle<Payments>) -> Result<(Option<Account>, u64), Box<dyn Error>> {
    // Or `.await`, on any executor or shard: it takes a turn or two of each shard.
    let snapshot = handle.snapshot().wait()?;
    // As it was, whatever is written meanwhile.
    let account = snapshot.get(7).wait()?;
    let add = |sum: &mut u64, _id, account: &Account| *sum += u64::from(account.balance);
    let sum = snapshot.fold(|| 0, add, |one, other| one + other).wait()?;
    Ok((account, sum))
}

async fn balance(bank: Handle<Payments>, order: Order) -> &'static str {
    let deadline = tokio::time::sleep(Duration::from_secs(2));
    match bank.ask_waiting(order).until(deadline).await {
        Ok(Paid) => "paid",
        Err(AskError::Overloaded) => "there was no room in time: it was never sent",
        Err(AskError::TimedOut) => "it was sent, and may have run or still run",
        Err(_) => "see the table of errors",
    }
}

#[test]
fn money_moves_and_is_not_made() {
    Bench::<Payments>::explore(0..20, |bench| {
        let open = |account| Order::Open { account, balance: 100 };
        assert!(bench.ask_all((0..5).map(open)).iter().all(Result::is_ok));
        // All at once: some are refused, and which depends on the seed.
        bench.ask_all((0..50).map(|at| Order::Pay(Pay { from: at % 5, to: (at + 1) % 5, amount: 30 })));
        let sum: u32 = bench.objects().map(|(_, _, account)| account.balance).sum();
        assert_eq!(sum, 500);
    });
}

#[test]
fn a_payment_with_a_deadline() -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::<Payments>::start(Config { shards: Shards::Count(1), ..Config::default() })?;
    let handle = runtime.handle();
    let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let said = tokio.block_on(balance(handle, Order::Open { account: 7, balance: 1 }));
    assert_eq!(said, "paid");
    Ok(())
}

#[test]
fn a_shard_has_no_tokio_and_a_task_asks_it() -> Result<(), Box<dyn Error>> {
    let _watchdog = crate::support::Watchdog::new("guide::a_shard_has_no_tokio_and_a_task_asks_it");
    let runtime = Runtime::<Payments>::start(Config { shards: Shards::Count(2), ..Config::default() })?;
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?;

    let slept = runtime.on_each_shard(|_| async { tokio::time::sleep(Duration::from_millis(1)).await });
    for outcome in slept.wait() {
        // "there is no reactor running, must be called from the context of a Tokio 1.x runtime"
        assert!(matches!(outcome, Err(TaskError::Panicked(text)) if text.contains("no reactor running")));
    }

    let spawner = tokio.handle().clone();
    let opened = runtime.on_each_shard(move |local| {
        // It runs on tokio, with tokio's timers and sockets. The shard does other things meanwhile.
        let fetched = spawner.spawn(async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            100
        });
        async move {
            let balance = fetched.await.expect("it did not panic");
            local.ask(Order::Open { account: u64::from(local.shard().0), balance }).await
        }
    });
    assert_eq!(opened.wait(), [Ok(Ok(Paid)), Ok(Ok(Paid))]);
    Ok(())
}

#[test]
fn payments_and_an_audit() -> Result<(), Box<dyn Error>> {
    let config = Config { shards: Shards::Count(1), ..Config::default() };
    let runtime = Runtime::<Payments>::start(config)?;
    let handle = runtime.handle();
    for (account, balance) in [(7, 10), (8, u32::MAX - 7)] {
        assert_eq!(handle.ask(Order::Open { account, balance }).wait(), Ok(Paid));
    }
    let pay = |amount| handle.ask(Order::Pay(Pay { from: 7, to: 8, amount })).wait();
    assert_eq!(pay(11), Err(AskError::Aborted(Refusal::Funds)));
    // The account that paid has its coins again.
    assert_eq!(pay(8), Err(AskError::Aborted(Refusal::Overflow)));
    assert_eq!(pay(7), Ok(Paid));
    let nobody = Order::Pay(Pay { from: 9, to: 8, amount: 1 });
    assert_eq!(handle.ask(nobody).wait(), Err(AskError::Aborted(Refusal::NoAccount)));
    let (account, sum) = audit(&handle)?;
    assert_eq!(account.map(|account| account.balance), Some(3));
    assert_eq!(sum, u64::from(u32::MAX) + 3);
    assert!(runtime.shutdown().drained);
    Ok(())
}

#[test]
fn a_tenants_seats_share_a_shard() {
    let placed = |seat| {
        let mut hasher = std::hash::DefaultHasher::new();
        Seat { tenant: 3, seat }.placement().hash(&mut hasher);
        std::hash::Hasher::finish(&hasher)
    };
    assert_eq!(placed(1), placed(2));
}

/// A ledger whose types have changed twice.
struct LedgerV1;
struct LedgerV2;
struct Ledger;

#[derive(Serialize, Deserialize)]
struct AccountV2 {
    name: String,
    coins: i64,
}

#[derive(Serialize, Deserialize)]
enum MessageV2 {
    Pay(u64, i64),
}

#[derive(Clone, Serialize, Deserialize)]
struct NamedAccount {
    name: String,
    cents: i64,
}

#[derive(Serialize, Deserialize)]
enum Message {
    Pay { to: u64, cents: i64 },
}

impl SchemaTypes for LedgerV1 {
    const SCHEMA: Schema = Schema::new(1);
    type Id = u32;
    type State = i64;
    type Message = (u32, i64);
}

impl SchemaTypes for LedgerV2 {
    const SCHEMA: Schema = Schema::new(2);
    type Id = u32;
    type State = AccountV2;
    type Message = MessageV2;
}

impl Actor for Ledger {
    const SCHEMA: Schema = Schema::new(3);
    type Id = u64;
    type State = NamedAccount;
    type Message = Message;
    type Reply = i64;
    type Error = AccessError<u64>;

    fn addressees(Message::Pay { to: id, .. }: &Message, to: &mut Addressees<u64>) {
        to.write(*id);
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<i64, AccessError<u64>> {
        let Message::Pay { to, cents } = message;
        let nobody = || NamedAccount { name: String::new(), cents: 0 };
        let account = objects.get_or_insert_with(*to, nobody)?;
        account.cents = account.cents.saturating_add(*cents);
        Ok(account.cents)
    }
}

type Step<OldId, OldState, OldMessage, Id, State, Message> = Migration<
    fn(OldId) -> Migrated<Id>,
    fn(OldId, OldState) -> Migrated<State>,
    fn(OldMessage) -> Migrated<Message>,
>;

fn one_to_two() -> Step<u32, i64, (u32, i64), u32, AccountV2, MessageV2> {
    Migration {
        id: Ok,
        state: |_id, coins| Ok(AccountV2 { name: String::new(), coins }),
        message: |(to, coins)| Ok(MessageV2::Pay(u64::from(to), coins)),
    }
}

fn log_of_any_version() -> LogConfig {
    let log = LogConfig::at("/var/lib/ledger")
        // An earlier step, kept as long as directories of version 1 are about.
        .migrate_from::<LedgerV1, LedgerV2>(one_to_two())
        .migrate_from::<LedgerV2, Ledger>(Migration {
            id: |id| Ok(u64::from(id)),
            state: |_id, AccountV2 { name, coins }| {
                let cents = coins.checked_mul(100).ok_or("too many coins")?;
                Ok(NamedAccount { name, cents })
            },
            message: |MessageV2::Pay(to, coins)| Ok(Message::Pay { to, cents: coins * 100 }),
        });
    assert!(log.check().is_ok(), "{log:?}");
    log
}

fn open() -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::<Ledger>::open(Config::default(), LogConfig::at("/var/lib/ledger"))?;
    println!("{}", runtime.recovery().expect("there is a log"));
    Ok(())
}

#[test]
fn a_ledger_is_opened_by_what_the_guide_says() {
    // Not called: it would make a directory that is not the test's.
    let _: fn() -> Result<(), Box<dyn Error>> = open;
    assert!(log_of_any_version().directory.ends_with("ledger"));
}

/// The blocks of Rust in a document.
fn blocks(markdown: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = markdown.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("```rust") {
            let code = lines.by_ref().take_while(|line| *line != "```");
            blocks.push(code.map(|line| format!("{line}\n")).collect());
        }
    }
    blocks
}

/// Whether a source has these lines one after another, all indented by the same number of spaces.
fn has(source: &str, block: &str) -> bool {
    [0, 4, 8].iter().any(|spaces| {
        let indent = |line: &str| match line {
            "" => "\n".to_owned(),
            line => format!("{}{line}\n", " ".repeat(*spaces)),
        };
        format!("\n{source}").contains(&format!("\n{}", block.lines().map(indent).collect::<String>()))
    })
}

#[test]
fn every_block_of_the_guide_is_code_of_these_files() {
    let made_up = "a\n```rust\nx;\n\n  y;\n```\n```sh\nz\n```\n";
    assert_eq!(blocks(made_up), ["x;\n\n  y;\n"]);
    assert!(has("    x;\n\n      y;\n", "x;\n\n  y;\n") && !has("    x;\n      z;\n", "x;\n  y;\n"));

    let blocks = blocks(include_str!("../../docs/GUIDE.md"));
    assert!(blocks.len() >= 5, "{} blocks", blocks.len());
    let sources = [
        include_str!("guide.rs"),
        include_str!("guide/blobs.rs"),
        include_str!("guide/collections.rs"),
        include_str!("guide/indexed.rs"),
        include_str!("guide/kinds.rs"),
        include_str!("guide/shop.rs"),
    ];
    for block in blocks {
        assert!(
            sources.iter().any(|source| has(source, &block)),
            "no file of tests/it/guide has this block of the guide:\n{block}"
        );
    }
}
