//! Wallets, a gate and a runtime together.

use std::collections::BTreeMap;
use std::path::Path;

use freehold::{
    AskError, Config, Gate, GateConfig, GateError, Handle, LogConfig, PlacementKey, Route, Runtime, Shards,
};
use freehold_private::{
    Account, AuditorSecret, Books, Claim, Guard, Ledger, Message, NotApplied, Receipt, Refusal, Refused,
    Secret, Submission, Terms, Wallet,
};
use proptest::prelude::{ProptestConfig, Strategy, prop_oneof, proptest};

type Outcome = Result<Receipt, GateError<Refused, Refusal>>;

/// A runtime of two shards with a gate, and wallets.
struct Bank {
    runtime: Runtime<Ledger>,
    handle: Handle<Ledger>,
    gate: Gate<Ledger, Guard>,
    wallets: Vec<Wallet>,
    terms: Terms,
}

/// With homes that are the same in each run: some accounts share a shard, and some do not.
fn config(shards: usize) -> Config {
    let placement_key = Some(PlacementKey(7));
    Config { shards: Shards::Count(shards), placement_key, ..Config::default() }
}

impl Bank {
    fn of(runtime: Runtime<Ledger>, wallets: Vec<Wallet>, terms: &Terms) -> Bank {
        let guarded = terms.clone();
        let gate =
            runtime.gate(GateConfig::default(), move || Guard::new(guarded.clone())).expect("it opens");
        Bank { handle: runtime.handle(), runtime, gate, wallets, terms: terms.clone() }
    }

    /// With so many accounts, each with this deposit, folded.
    fn new(wallets: u64, deposit: u64) -> Bank {
        let runtime = Runtime::start(config(2)).expect("it starts");
        let terms = terms();
        let wallets = (1..=wallets).map(|id| Wallet::new(terms.clone(), id, Secret::random())).collect();
        let bank = Bank::of(runtime, wallets, &terms);
        bank.fill(deposit);
        bank
    }

    fn fill(&self, deposit: u64) {
        let opened: Vec<_> = self.wallets.iter().map(|wallet| self.send(wallet.open())).collect();
        assert!(opened.into_iter().all(|outcome| outcome.wait().is_ok()));
        for wallet in &self.wallets {
            let message = Message::Deposit { account: wallet.id(), key: wallet.public(), amount: deposit };
            self.handle.ask(message).wait().expect("the account is open");
        }
        let folds = self
            .wallets
            .iter()
            .map(|wallet| self.send(wallet.fold(&self.account(wallet)).expect("it is there")));
        let folds: Vec<_> = folds.collect();
        assert!(folds.into_iter().all(|outcome| outcome.wait().is_ok()));
    }

    fn send(&self, claim: Claim) -> freehold::GateAsk<Ledger, Refusal> {
        let sender = claim.account();
        self.gate.ask(Submission { claim, sender })
    }

    fn make(&self, claim: Claim) -> Outcome {
        self.send(claim).wait()
    }

    fn account(&self, wallet: &Wallet) -> Account {
        let snapshot = self.handle.snapshot().wait().expect("it opens");
        snapshot.get(wallet.id()).wait().expect("it is read").expect("it is open")
    }

    /// All accounts as of one instant.
    fn accounts(&self) -> BTreeMap<u64, Account> {
        Ledger::accounts(&self.handle).expect("they are read")
    }

    /// What the public books say.
    fn books(&self) -> i128 {
        let mut books = Books::new();
        self.accounts().values().for_each(|account| books.add(account));
        books.balance().expect("no money was made")
    }

    /// Two pairs of accounts, by place in `wallets`: one on one shard, one on two.
    fn pairs(&self) -> [(usize, usize); 2] {
        let home = |at: usize| self.handle.home(&self.wallets[at].id());
        [true, false].map(|is_one| {
            let other = (1..self.wallets.len()).find(|other| (home(0) == home(*other)) == is_one);
            (0, other.expect("there are many"))
        })
    }
}

fn terms() -> Terms {
    Terms::new([7; 32], AuditorSecret::random().public()).expect("a key")
}

/// A pipeline of payments of one payer, some across shards: with each verified, and all sent at
/// once, 1,431 of 2,048 were made by a prototype. Bad claims beside them harm nobody.
#[test]
fn a_pipeline_is_made_to_the_last_beside_bad_claims() {
    let bank = Bank::new(6, 1000);
    let payer = &bank.wallets[0];
    let mut account = bank.account(payer);
    let mut asks = Vec::new();
    for round in 0..12 {
        let payee = &bank.wallets[1 + round % 5];
        let claim = payer.pay(&account, &[(payee.id(), payee.public(), 10)]).expect("it is there");
        account = payer.after(&account, &claim).expect("it was made from it");
        // A thief who changes what he saw.
        let mut bytes = claim.to_bytes();
        let last = bytes.len() - 1;
        bytes[last - 40] ^= 1;
        if let Ok(forged) = Claim::from_bytes(&bytes) {
            asks.push((false, bank.gate.ask(Submission { claim: forged, sender: 1_000 + round as u64 })));
        }
        asks.push((true, bank.send(claim)));
    }
    for (is_honest, ask) in asks {
        let outcome = ask.wait();
        assert_eq!(outcome.is_ok(), is_honest, "{outcome:?}");
    }
    assert_eq!(bank.account(payer), account);
    assert_eq!(payer.balance(&account), Ok(880));
    assert_eq!(bank.books(), 6000);
    let stats = bank.runtime.stats();
    assert_eq!(stats.routed(Route::Private), 6 + 6 + 12);
    assert!(stats.routed(Route::Consensus) > 0, "some went across shards");
}

/// The typed error of each, on one shard and across two, and all objects as before.
#[test]
fn what_must_be_refused_is_refused_and_changes_nothing() {
    let bank = Bank::new(8, 100);
    for (one, other) in bank.pairs() {
        let (payer, payee) = (&bank.wallets[one], &bank.wallets[other]);
        let account = bank.account(payer);
        let to = |amount| payer.pay(&account, &[(payee.id(), payee.public(), amount)]).expect("it is there");
        let first = to(1);
        let receipt = bank.make(first.clone()).expect("it is honest");
        assert_eq!((receipt.version, receipt.withdrawn), (account.version() + 1, 0));
        let before = bank.accounts();
        let stale = NotApplied::Stale { claimed: account.version(), version: account.version() + 1 };
        let probed = |error: NotApplied| Err(GateError::Probe(AskError::Aborted(Refused::NotApplied(error))));
        let passed =
            |error: NotApplied| Err(GateError::Message(AskError::Aborted(Refused::NotApplied(error))));
        assert_eq!(bank.make(first), probed(stale), "a replay");
        assert_eq!(bank.make(to(2)), probed(stale));
        let account = bank.account(payer);
        let nobody = payer.pay(&account, &[(99, payee.public(), 1)]).expect("it is there");
        assert_eq!(bank.make(nobody), passed(NotApplied::NotOpen(99)));
        let wrong = payer.pay(&account, &[(payee.id(), Secret::random().public(), 1)]).expect("it is there");
        assert_eq!(bank.make(wrong), passed(NotApplied::WrongKey(payee.id())));
        assert_eq!(bank.make(payer.open()), probed(NotApplied::AlreadyOpen(payer.id())));
        let elsewhere = Wallet::new(terms(), payer.id(), Secret::random());
        let opened = elsewhere.open();
        assert_eq!(bank.make(opened), probed(NotApplied::AlreadyOpen(payer.id())));
        let unknown = Wallet::new(terms(), 77, Secret::random()).open();
        assert_eq!(bank.make(unknown), Err(GateError::Refused(Refusal::Equation)), "other terms");
        assert_eq!(bank.accounts(), before, "all objects are as before");
    }
    assert_eq!(bank.books(), 800);
}

/// The account with deposits pending that nobody has made.
fn with_invented_deposits(account: &Account) -> Account {
    let mut bytes = account.to_bytes();
    // Behind version, terms, key, what is available, version and hint.
    let at = 1 + 16 + 32 + 64 + 8 + 8;
    bytes[at..at + 8].copy_from_slice(&5_u64.to_le_bytes());
    Account::from_bytes(&bytes).expect("deposits are any number")
}

/// Each of these verifies, so each cost a verification whenever it was sent again, and nobody was
/// suspected for it.
#[test]
fn claims_that_can_never_apply_make_their_sender_a_suspect() {
    let bank = Bank::new(2, 100);
    let (payer, payee) = (&bank.wallets[0], &bank.wallets[1]);
    let account = bank.account(payer);
    let pay = |from: &Account, to, key| payer.pay(from, &[(to, key, 1)]).expect("it is there");
    let ahead = (0..3).fold(account.clone(), |account, _| {
        let claim = payer.fold(&account).expect("nothing is pending");
        payer.after(&account, &claim).expect("it was made from it")
    });
    let claims = [
        pay(&account, 99, payee.public()),
        pay(&account, payee.id(), Secret::random().public()),
        pay(&ahead, payee.id(), payee.public()),
        payer.fold(&with_invented_deposits(&account)).expect("nobody asks whether they were made"),
    ];
    let send =
        |claim: &Claim, sender| bank.gate.ask(Submission { claim: claim.clone(), sender }).wait().is_ok();
    let strikes_max = GateConfig::default().strikes_max as u64;
    for (claim, sender) in claims.iter().zip(1000..) {
        let before = bank.gate.stats();
        (0..strikes_max).for_each(|_| assert!(!send(claim, sender)));
        let struck = bank.gate.stats();
        assert_eq!((struck.struck - before.struck, struck.apart - before.apart), (strikes_max, 0));
        assert!(!send(claim, sender));
        assert_eq!(bank.gate.stats().apart - before.apart, 1, "{claim:?}");
    }
    // An honest sender that collided so often is a suspect too, and comes out.
    let (mut account, before) = (account, bank.gate.stats().apart);
    for _ in 0..=strikes_max {
        let claim = pay(&account, payee.id(), payee.public());
        assert!(send(&claim, 1000));
        account = bank.account(payer);
        if bank.account(payee).pending() > 20 {
            assert!(bank.make(payee.fold(&bank.account(payee)).expect("it can be read")).is_ok());
        }
    }
    assert_eq!(bank.gate.stats().apart - before, strikes_max);
    assert_eq!(bank.books(), 200);
}

/// Two claims open one account, and are verified together: the look found none.
#[test]
fn an_account_is_opened_once() {
    let bank = Bank::new(1, 10);
    let [first, second] = [(); 2].map(|()| Wallet::new(bank.terms.clone(), 50, Secret::random()));
    // Keeps the verifier busy, so that the others are one batch.
    let busy = bank.send(Wallet::new(terms(), 77, Secret::random()).open());
    let asks = [&first, &second].map(|wallet| bank.send(wallet.open()));
    let [opened, refused] = asks.map(|ask| ask.wait());
    assert!(opened.is_ok() && busy.wait().is_err());
    let error = AskError::Aborted(Refused::NotApplied(NotApplied::AlreadyOpen(50)));
    let is_so = refused == Err(GateError::Message(error.clone())) || refused == Err(GateError::Probe(error));
    assert!(is_so, "{refused:?}");
    assert_eq!(bank.account(&first).key(), first.public());
}

#[test]
fn a_withdrawal_and_a_new_key_go_through_the_gate() {
    let bank = Bank::new(2, 100);
    let owner = &bank.wallets[0];
    let taken = bank
        .make(owner.withdraw(&bank.account(owner), 60, [4; 32]).expect("it is there"))
        .expect("it is honest");
    assert_eq!((taken.withdrawn, taken.destination), (60, [4; 32]));
    // Somebody else may have opened the account of that number.
    let (account, key) = (owner.id(), bank.wallets[1].public());
    let refused = bank.handle.ask(Message::Deposit { account, key, amount: 7 }).wait();
    assert_eq!(refused, Err(AskError::Aborted(Refused::NotApplied(NotApplied::WrongKey(account)))));
    assert_eq!((owner.balance(&bank.account(owner)), bank.books()), (Ok(40), 140));
    let new = Secret::random();
    bank.make(owner.rotate(&bank.account(owner), &new).expect("it is there")).expect("it is honest");
    assert_eq!(bank.account(owner).key(), new.public());
}

/// What is in the files of a log.
fn files(directory: &Path) -> Vec<u8> {
    let entries = std::fs::read_dir(directory).expect("it is a directory");
    let paths = entries.map(|entry| entry.expect("it can be read").path()).filter(|path| path.is_file());
    paths.flat_map(|path| std::fs::read(path).expect("it can be read")).collect()
}

/// As postcard writes a number.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 127 {
        bytes.push(number as u8 | 128);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A number in each encoding that it may stand in, by name: whole, and as its two limbs.
fn encodings(number: u64) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (little, big) = (number.to_le_bytes().to_vec(), number.to_be_bytes().to_vec());
    // Without the zeros at the upper end.
    let length = little.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
    let (short, short_big) = (little[..length].to_vec(), big[8 - length..].to_vec());
    let limbs = [number as u32, (number >> 32) as u32];
    let texts = |of: &dyn Fn(u32) -> String| limbs.map(|limb| of(limb).into_bytes()).to_vec();
    let upper = |text: &String| text.to_uppercase().into_bytes();
    let hexes = [hex(&short), hex(&short_big), format!("{number:x}")];
    vec![
        ("varint", vec![varint(number)]),
        ("decimal", vec![number.to_string().into_bytes()]),
        ("hexadecimal", hexes.iter().map(|text| text.clone().into_bytes()).collect()),
        ("upper hexadecimal", hexes.iter().map(upper).collect()),
        ("little-endian", vec![little]),
        ("big-endian", vec![big]),
        ("short little-endian", vec![short]),
        ("short big-endian", vec![short_big]),
        ("limbs, little-endian", limbs.map(|limb| limb.to_le_bytes().to_vec()).to_vec()),
        ("limbs, big-endian", limbs.map(|limb| limb.to_be_bytes().to_vec()).to_vec()),
        ("limbs, varint", limbs.map(|limb| varint(limb.into())).to_vec()),
        ("limbs, decimal", texts(&|limb| limb.to_string())),
        ("limbs, hexadecimal", texts(&|limb| format!("{limb:x}"))),
        ("limbs, upper hexadecimal", texts(&|limb| format!("{limb:X}"))),
    ]
}

/// The encodings in which a number stands in bytes. One limb is enough.
fn found(number: u64, bytes: &[u8]) -> Vec<&'static str> {
    let stands = |what: &Vec<u8>| bytes.windows(what.len()).any(|window| window == what);
    let all = encodings(number).into_iter().filter(|(_, written)| written.iter().any(stands));
    all.map(|(name, _)| name).collect()
}

/// With seven bytes that all differ, so that none of its encodings, nor of its limbs', comes about
/// by chance, and each is another.
const DEPOSIT: u64 = 0x0031_4159_2653_5897;
const AMOUNT: u64 = 0x0012_f34e_8c2d_6a95;

/// The search finds a number in each encoding, and each of its limbs.
#[test]
fn a_number_is_found_in_each_encoding() {
    let noise: Vec<u8> = (0..200_u8).map(|at| at.wrapping_mul(89)).collect();
    assert_eq!(found(DEPOSIT, &noise), Vec::<&str>::new());
    for (name, written) in encodings(DEPOSIT) {
        for bytes in written {
            let bytes = [&noise, &bytes, &noise].map(|part| &part[..]).concat();
            let all = found(DEPOSIT, &bytes);
            assert!(all.contains(&name), "{name}: {all:?}");
            assert_eq!(found(AMOUNT, &bytes), Vec::<&str>::new(), "{name}");
        }
    }
}

/// Logs and checkpoints have the deposits, and neither an amount nor a balance; nor has what
/// wallets and ledger send each other.
#[test]
fn no_amount_is_in_the_files_and_they_are_read_with_other_shards() {
    let directory = tempfile::tempdir().expect("there is room");
    let log = || LogConfig { segment_bytes: 1 << 20, ..LogConfig::at(directory.path()) };
    let terms = terms();
    let wallets: Vec<_> = (1..=2).map(|id| Wallet::new(terms.clone(), id, Secret::random())).collect();
    let (before, sent) = {
        let bank = Bank::of(Runtime::open(config(1), log()).expect("it opens"), wallets.clone(), &terms);
        bank.fill(DEPOSIT);
        let payee = &wallets[1];
        let pays = wallets[0].pay(&bank.account(&wallets[0]), &[(2, payee.public(), AMOUNT)]);
        let pays = pays.expect("it is there");
        let mut sent = pays.to_bytes();
        bank.make(pays).expect("it is honest");
        let folds = payee.fold(&bank.account(payee)).expect("it can be read");
        sent.extend(folds.to_bytes());
        sent.extend(bank.accounts().values().flat_map(Account::to_bytes));
        bank.make(folds).expect("it is honest");
        sent.extend(bank.accounts().values().flat_map(Account::to_bytes));
        bank.runtime.checkpoint().expect("it is made");
        (bank.accounts(), sent)
    };
    let files = files(directory.path());
    // As the wire has it, of which the short form is a part. The log has the same bytes.
    let wire = ["little-endian", "short little-endian", "limbs, little-endian"];
    assert_eq!(found(DEPOSIT, &files), wire, "the public deposit is found");
    assert_eq!(found(DEPOSIT, &sent), wire, "the public deposit is found");
    for secret in [AMOUNT, DEPOSIT - AMOUNT, DEPOSIT + AMOUNT] {
        assert_eq!(found(secret, &files), Vec::<&str>::new(), "{secret} is in the files");
        assert_eq!(found(secret, &sent), Vec::<&str>::new(), "{secret} is sent");
    }
    let bank = Bank::of(Runtime::open(config(2), log()).expect("it opens"), wallets.clone(), &terms);
    assert_eq!(bank.accounts(), before);
    assert_eq!(wallets[1].balance(&bank.account(&wallets[1])), Ok(DEPOSIT + AMOUNT));
    assert_eq!(bank.books(), 2 * i128::from(DEPOSIT));
}

/// `tests/formats/1` was written by the first version, which kept accounts field by field: two
/// payments behind a checkpoint. Beside it is each account as that version sent it to a wallet.
#[test]
fn a_log_of_the_first_version_opens() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats/1");
    let directory = tempfile::tempdir().expect("there is room");
    for file in std::fs::read_dir(&kept).expect("it is kept") {
        let file = file.expect("it is listed");
        std::fs::copy(file.path(), directory.path().join(file.file_name())).expect("there is room");
    }
    std::fs::remove_file(directory.path().join("accounts")).expect("it was copied");
    let log = || LogConfig { segment_bytes: 64 << 10, ..LogConfig::at(directory.path()) };
    let refused =
        Runtime::<Ledger>::open(config(2), log()).map(drop).expect_err("it was told of no migration");
    assert!(refused.to_string().contains("migrate"), "{refused}");
    let sent = || {
        let bank =
            Bank::of(Runtime::open(config(2), Ledger::log(log())).expect("it opens"), vec![], &terms());
        let hex = |account: &Account| -> String {
            account.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let accounts = bank.accounts();
        let sent: String = accounts.iter().map(|(id, account)| format!("{id} {}\n", hex(account))).collect();
        assert_eq!(bank.books(), 3 * i128::from(DEPOSIT));
        bank.runtime.checkpoint().expect("it is made");
        assert!(bank.runtime.shutdown().drained);
        sent
    };
    let before = std::fs::read_to_string(kept.join("accounts")).expect("it is kept");
    assert_eq!(sent(), before, "migrated");
    assert_eq!(sent(), before, "of this version");
}

#[derive(Clone, Debug)]
enum Step {
    Deposit(usize, u64),
    Pay(usize, usize, u64),
    /// To the two others, the second twice as much.
    Payroll(usize, u64),
    Fold(usize),
    Withdraw(usize, u64),
    Rotate(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (who, amount) = (0_usize..3, 0_u64..200);
    let step = prop_oneof![
        (who.clone(), amount.clone()).prop_map(|(who, amount)| Step::Deposit(who, amount)),
        (who.clone(), who.clone(), amount.clone()).prop_map(|(from, to, amount)| Step::Pay(from, to, amount)),
        (who.clone(), 0_u64..60).prop_map(|(from, amount)| Step::Payroll(from, amount)),
        who.clone().prop_map(Step::Fold),
        (who.clone(), amount).prop_map(|(who, amount)| Step::Withdraw(who, amount)),
        who.prop_map(Step::Rotate),
    ];
    proptest::collection::vec(step, 12)
}

/// A history beside a plain ledger.
struct Beside {
    bank: Bank,
    /// With the keys they have now.
    wallets: Vec<Wallet>,
    /// Of each what is available, and what is pending.
    plain: [(u64, u64); 3],
}

impl Beside {
    fn account(&self, at: usize) -> Account {
        self.bank.account(&self.wallets[at])
    }

    /// A payment of all these, if the plain ledger says that it may be.
    fn pay(&mut self, from: usize, to: &[(usize, u64)]) -> Option<Claim> {
        let payees = to.iter().map(|(at, amount)| (*at as u64 + 1, self.wallets[*at].public(), *amount));
        let claim = self.wallets[from].pay(&self.account(from), &payees.collect::<Vec<_>>());
        let sum: u64 = to.iter().map(|(_, amount)| amount).sum();
        if to.iter().any(|(at, _)| *at == from) || self.plain[from].0 < sum {
            assert!(claim.is_err(), "{from} pays {to:?}");
            return None;
        }
        self.plain[from].0 -= sum;
        to.iter().for_each(|(at, amount)| self.plain[*at].1 += amount);
        Some(claim.expect("it is there"))
    }

    fn make(&mut self, step: &Step) {
        let claim = match *step {
            Step::Deposit(at, amount) => {
                let (account, key) = (self.wallets[at].id(), self.wallets[at].public());
                self.bank.handle.ask(Message::Deposit { account, key, amount }).wait().expect("it is open");
                self.plain[at].1 += amount;
                None
            }
            Step::Pay(from, to, amount) => self.pay(from, &[(to, amount)]),
            Step::Payroll(from, amount) => {
                self.pay(from, &[((from + 1) % 3, amount), ((from + 2) % 3, 2 * amount)])
            }
            Step::Fold(at) => {
                self.plain[at] = (self.plain[at].0 + self.plain[at].1, 0);
                Some(self.wallets[at].fold(&self.account(at)).expect("it can be read"))
            }
            Step::Rotate(at) => {
                self.plain[at] = (self.plain[at].0 + self.plain[at].1, 0);
                let new = Secret::random();
                let claim = self.wallets[at].rotate(&self.account(at), &new).expect("it can be read");
                self.wallets[at] = Wallet::new(self.bank.terms.clone(), at as u64 + 1, new);
                Some(claim)
            }
            Step::Withdraw(at, amount) => {
                let claim = self.wallets[at].withdraw(&self.account(at), amount, [0; 32]);
                let left = self.plain[at].0.checked_sub(amount);
                assert_eq!(claim.is_ok(), left.is_some(), "{step:?}");
                self.plain[at].0 = left.unwrap_or(self.plain[at].0);
                claim.ok()
            }
        };
        if let Some(claim) = claim {
            self.bank.make(claim).expect("it is honest");
        }
    }
}

/// One history beside a plain ledger: what is available, what is pending.
fn agrees(steps: &[Step]) {
    let bank = Bank::new(3, 100);
    let mut beside = Beside { wallets: bank.wallets.clone(), bank, plain: [(100, 0); 3] };
    for step in steps {
        beside.make(step);
    }
    for (at, (available, _)) in beside.plain.iter().enumerate() {
        assert_eq!(beside.wallets[at].balance(&beside.account(at)), Ok(*available), "{at}");
    }
    let total: u64 = beside.plain.iter().map(|(available, pending)| available + pending).sum();
    assert_eq!(beside.bank.books(), i128::from(total));
}

/// One with a step of each kind, and payments before and behind a new key.
#[test]
fn a_history_with_new_keys_is_that_of_a_plain_ledger() {
    use Step::{Deposit, Fold, Pay, Payroll, Rotate, Withdraw};
    agrees(&[
        Payroll(0, 20),
        Deposit(1, 7),
        Rotate(1),
        Pay(1, 2, 120),
        Payroll(2, 30),
        Rotate(0),
        Rotate(0),
        Payroll(0, 15),
        Fold(2),
        Withdraw(2, 100),
        Pay(0, 1, 1_000),
        Rotate(2),
        Payroll(2, 1),
        Fold(1),
    ]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 20, ..ProptestConfig::default() })]

    #[test]
    fn any_history_is_that_of_a_plain_ledger(steps in steps()) {
        agrees(&steps);
    }
}
