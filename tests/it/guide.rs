//! The code of `docs/GUIDE.md` compiles, and what can run here runs. Each of its Rust blocks stands
//! in this file as it stands there, but for the indentation.

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

/// Several kinds, and texts as keys.
mod kinds {
    use freehold::{AccessError, AskError, Config, Key, Named, Objects, Receive, Runtime, Shards, To};

    use super::{Deserialize, Duration, Error, Serialize};

    freehold::actor! {
        pub actor Bank {
            id: Id, state: State, message: Message, reply: Reply, error: Refused,
            kinds {
                Account(number: u64) at number,
                // A card lives where its account does.
                Card(account: u64, card: u8) at account,
                Owner(name: Key),
            }
            messages {
                Spend -> u64,
                Reset -> (),
                Visit -> u32,
            }
        }
    }

    #[derive(Clone, Serialize, Deserialize)]
    pub struct Account {
        cents: u64,
    }

    #[derive(Clone, Serialize, Deserialize)]
    pub struct Card {
        left_today: u64,
    }

    #[derive(Clone, Serialize, Deserialize)]
    pub struct Owner {
        name: String,
        visits: u32,
    }

    #[derive(Debug, PartialEq, thiserror::Error)]
    pub enum Refused {
        #[error("there is no such account or card")]
        Unknown,
        #[error("the card has a limit")]
        Limit,
        #[error("not enough cents")]
        Funds,
        #[error(transparent)]
        Access(#[from] AccessError<Id>),
    }

    pub struct Spend {
        account: u64,
        card: u8,
        cents: u64,
    }

    pub struct Reset {
        account: u64,
        card: u8,
    }

    pub struct Visit {
        name: String,
    }

    impl Receive<Bank> for Spend {
        fn addressees(&self, to: &mut To<'_, Bank>) {
            to.write::<Account>(self.account);
            to.write::<Card>((self.account, self.card));
        }

        // The balance that is left: what `messages` says of `Spend`.
        fn receive(&self, objects: &mut Objects<'_, Bank>) -> Result<u64, Refused> {
            let (account, card) = objects.pair::<Account, Card>(self.account, (self.account, self.card))?;
            let (account, card) = (account.ok_or(Refused::Unknown)?, card.ok_or(Refused::Unknown)?);
            card.left_today = card.left_today.checked_sub(self.cents).ok_or(Refused::Limit)?;
            account.cents = account.cents.checked_sub(self.cents).ok_or(Refused::Funds)?;
            let left = account.cents;
            objects.send_after(DAY, Reset { account: self.account, card: self.card })?;
            Ok(left)
        }
    }

    const DAY: Duration = Duration::from_secs(86_400);

    /// Makes account and card where there is none.
    impl Receive<Bank> for Reset {
        fn addressees(&self, to: &mut To<'_, Bank>) {
            to.write::<Card>((self.account, self.card));
            to.write::<Account>(self.account);
        }

        fn receive(&self, objects: &mut Objects<'_, Bank>) -> Result<(), Refused> {
            objects.write_or_insert_with(self.account, || Account { cents: 100 })?;
            objects.put((self.account, self.card), Card { left_today: 50 })?;
            Ok(())
        }
    }

    impl Named for Owner {
        fn name(&self) -> &str {
            &self.name
        }
    }

    impl Receive<Bank> for Visit {
        fn addressees(&self, to: &mut To<'_, Bank>) {
            to.write::<Owner>(Key::new(&self.name));
        }

        fn receive(&self, objects: &mut Objects<'_, Bank>) -> Result<u32, Refused> {
            let new = || Owner { name: self.name.clone(), visits: 0 };
            let owner = objects.write_named_or_insert_with(&self.name, new)?;
            owner.visits += 1;
            Ok(owner.visits)
        }
    }

    #[test]
    fn a_bank_of_accounts_cards_and_owners() -> Result<(), Box<dyn Error>> {
        let runtime = Runtime::<Bank>::start(Config { shards: Shards::Count(2), ..Config::default() })?;
        let bank = runtime.handle();
        assert_eq!(bank.home(&Id::Account(7)), bank.home(&Id::Card((7, 1))));
        let spend = |cents| bank.call(Spend { account: 7, card: 1, cents }).wait();
        assert_eq!(spend(1), Err(AskError::Aborted(Refused::Unknown)));
        bank.call(Reset { account: 7, card: 1 }).wait()?;
        assert_eq!(spend(30), Ok(70));
        assert_eq!(spend(30), Err(AskError::Aborted(Refused::Limit)));
        bank.call(Reset { account: 7, card: 1 }).wait()?;
        assert_eq!(spend(50), Ok(20));
        bank.call(Reset { account: 7, card: 1 }).wait()?;
        assert_eq!(spend(21), Err(AskError::Aborted(Refused::Funds)));
        for name in ["user:42", "a user with a name of more than fifteen bytes"] {
            let visit = || bank.call(Visit { name: name.to_owned() }).wait();
            assert_eq!((visit(), visit()), (Ok(1), Ok(2)));
        }
        Ok(())
    }
}

mod shop {
    use super::*;
    use freehold::{Action, ActionOf, Embedding, Receive, To};
    use futures::StreamExt;

    freehold::actor! {
        actor Shop {
            id: Id, state: State, message: Message, reply: Reply, error: AccessError<Id>,
            kinds { Order(number: u64) }
            messages { Place -> (), Ship -> (), Shipped -> () }
        }
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Order {
        shipped: bool,
    }

    struct Place {
        order: u64,
    }

    struct Ship {
        order: u64,
    }

    struct Shipped {
        order: u64,
    }

    impl ActionOf<Shop> for Ship {}

    impl Receive<Shop> for Place {
        fn addressees(&self, to: &mut To<'_, Shop>) {
            to.write::<Order>(self.order);
        }

        fn receive(&self, objects: &mut Objects<'_, Shop>) -> Result<(), AccessError<Id>> {
            objects.put(self.order, Order { shipped: false })?;
            objects.perform(Ship { order: self.order })?;
            Ok(())
        }
    }

    impl Receive<Shop> for Shipped {
        fn addressees(&self, to: &mut To<'_, Shop>) {
            to.write::<Order>(self.order);
        }

        fn receive(&self, objects: &mut Objects<'_, Shop>) -> Result<(), AccessError<Id>> {
            objects.put(self.order, Order { shipped: true })?;
            Ok(())
        }
    }

    #[test]
    fn an_order_is_shipped_by_an_action() -> Result<(), Box<dyn Error>> {
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?;
        let spawner = tokio.handle().clone();
        let embedding = Embedding::new().perform_with(move |action: Action<Shop>| {
            spawner.spawn(async move {
                let Message::Ship(Ship { order }) = *action.message() else { return };
                // The same whenever it is performed: the outside knows it again by that.
                let _key = action.id().number();
                tokio::time::sleep(Duration::from_millis(1)).await;
                action.done(Shipped { order });
            });
        });
        let runtime = Runtime::<Shop>::start_with(Config::default(), embedding)?;
        let shop = runtime.handle();
        shop.call(Place { order: 7 }).wait()?;
        let _watchdog = crate::support::Watchdog::new("guide::an_order_is_shipped_by_an_action");
        tokio.block_on(wait_until_shipped(&shop))
    }

    async fn wait_until_shipped(shop: &Handle<Shop>) -> Result<(), Box<dyn Error>> {
        let mut watch = shop.watch::<Order>(7)?;
        while let Some(order) = watch.next().await {
            if order?.is_some_and(|order| order.shipped) {
                break;
            }
        }
        Ok(())
    }
}

/// A second order.
mod indexed {
    use freehold::testing::Bench;
    use freehold::{AccessError, Indexed, Objects, Receive, To};

    use super::{Deserialize, Serialize};

    freehold::actor! {
        pub actor Host {
            id: Id, state: State, message: Message, reply: Reply, error: AccessError<Id>,
            kinds {
                Tenant(tenant: u64),
                Session(tenant: u64, user: u64) in Tenant(tenant) by Expiry,
                // What the order is by, and then what tells two sessions apart.
                Expiry(tenant: u64, ends: u64, user: u64) in Tenant(tenant),
            }
            messages { Login -> (), Expire -> usize }
        }
    }

    impl Indexed<Host> for Session {
        type Index = Expiry;

        fn place_of((tenant, user): (u64, u64), session: &Session) -> Option<(u64, u64, u64)> {
            Some((tenant, session.ends, user))
        }

        fn key_at((tenant, _, user): (u64, u64, u64)) -> (u64, u64) {
            (tenant, user)
        }
    }

    impl Receive<Host> for Expire {
        fn addressees(&self, to: &mut To<'_, Host>) {
            to.write::<Tenant>(self.tenant);
        }

        fn receive(&self, objects: &mut Objects<'_, Host>) -> Result<usize, AccessError<Id>> {
            let (mut sessions, mut ended) = (objects.indexed::<Session>(self.tenant)?, 0);
            let over = (self.tenant, 0, 0)..(self.tenant, self.now, 0);
            while sessions.take_first_by(over.clone())?.is_some() {
                ended += 1;
            }
            Ok(ended)
        }
    }

    #[derive(Clone, Serialize, Deserialize)]
    pub struct Tenant;
    #[derive(Clone, Serialize, Deserialize)]
    pub struct Session {
        ends: u64,
    }
    #[derive(Clone, Default, Serialize, Deserialize)]
    pub struct Expiry;

    pub struct Login {
        tenant: u64,
        user: u64,
        ends: u64,
    }

    pub struct Expire {
        tenant: u64,
        now: u64,
    }

    impl Receive<Host> for Login {
        fn addressees(&self, to: &mut To<'_, Host>) {
            to.write::<Tenant>(self.tenant);
        }

        fn receive(&self, objects: &mut Objects<'_, Host>) -> Result<(), AccessError<Id>> {
            let mut sessions = objects.indexed::<Session>(self.tenant)?;
            sessions.put((self.tenant, self.user), Session { ends: self.ends }).map(drop)
        }
    }

    #[test]
    fn sessions_end_in_the_order_of_their_ends() {
        let mut bench = Bench::<Host>::shards(2);
        // The second of the user 1 replaces the first.
        for (user, ends) in [(1, 5), (2, 7), (3, 9), (1, 9)] {
            assert_eq!(bench.call(Login { tenant: 7, user, ends }), Ok(()));
        }
        assert_eq!(bench.call(Expire { tenant: 7, now: 9 }), Ok(1));
        assert!(bench.read::<Session>((7, 2)).is_none() && bench.read::<Session>((7, 1)).is_some());
        assert_eq!(bench.call(Expire { tenant: 7, now: 10 }), Ok(2));
        assert_eq!(bench.objects().count(), 0);
    }
}

/// Blobs.
mod blobs {
    use freehold::testing::Bench;
    use freehold::{AccessError, BlobPart, Objects, Receive, To};

    use super::{Deserialize, Serialize};

    freehold::actor! {
        pub actor Drive {
            id: Id, state: State, message: Message, reply: Reply, error: AccessError<Id>,
            kinds { File(file: u64), Part(file: u64, part: u64) in File(file) }
            messages { Upload -> u64 }
        }
    }

    #[derive(Clone, Serialize, Deserialize)]
    pub struct File;
    #[derive(Clone, Serialize, Deserialize)]
    pub struct Part(Vec<u8>);

    pub struct Upload {
        file: u64,
        bytes: Vec<u8>,
    }

    impl BlobPart<Drive> for Part {
        fn part_key(file: u64, part: u64) -> (u64, u64) {
            (file, part)
        }

        fn part_number((_, part): (u64, u64)) -> u64 {
            part
        }

        fn of_bytes(bytes: Vec<u8>) -> Part {
            Part(bytes)
        }

        fn bytes(&self) -> &[u8] {
            &self.0
        }

        fn bytes_mut(&mut self) -> &mut Vec<u8> {
            &mut self.0
        }
    }

    impl Receive<Drive> for Upload {
        fn addressees(&self, to: &mut To<'_, Drive>) {
            to.write::<File>(self.file);
        }

        fn receive(&self, objects: &mut Objects<'_, Drive>) -> Result<u64, AccessError<Id>> {
            let mut file = objects.blob::<Part>(self.file)?;
            file.append(&self.bytes)?;
            Ok(file.len())
        }
    }

    #[test]
    fn a_file_is_in_parts() {
        let mut bench = Bench::<Drive>::shards(2);
        for (bytes, len) in [(5000, 5000), (3192, 8192), (1, 8193)] {
            assert_eq!(bench.call(Upload { file: 7, bytes: vec![1; bytes] }), Ok(len));
        }
        let parts = [0, 1, 2, 3].map(|part| bench.read::<Part>((7, part)).map_or(0, |part| part.0.len()));
        assert_eq!(parts, [4096, 4096, 1, 0]);
    }
}

mod collections {
    use freehold::{AccessError, Config, Objects, Receive, Runtime, Shards, To};

    use super::{Deserialize, Error, Serialize};

    freehold::actor! {
        pub actor Feeds {
            id: Id, state: State, message: Message, reply: Reply, error: Refused,
            kinds {
                Channel(name: u64),
                // The posts of a channel live where it does, in the order of their keys.
                Post(channel: u64, number: u64) in Channel(channel),
            }
            messages { Publish -> u64, Expire -> () }
        }
    }

    #[derive(Clone, Serialize, Deserialize)]
    pub struct Channel {
        published: u64,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub struct Post {
        text: String,
        is_kept: bool,
    }

    #[derive(Debug, PartialEq, thiserror::Error)]
    pub enum Refused {
        #[error("the channel is empty")]
        Empty,
        #[error(transparent)]
        Access(#[from] AccessError<Id>),
    }

    pub struct Publish {
        channel: u64,
        text: String,
    }

    pub struct Expire {
        channel: u64,
        from: u64,
    }

    impl Receive<Feeds> for Publish {
        fn addressees(&self, to: &mut To<'_, Feeds>) {
            // A message that has the channel has its posts.
            to.write::<Channel>(self.channel);
        }

        fn receive(&self, objects: &mut Objects<'_, Feeds>) -> Result<u64, Refused> {
            let channel = objects.write_or_insert_with(self.channel, || Channel { published: 0 })?;
            channel.published += 1;
            let number = channel.published;
            let mut posts = objects.entries::<Post>(self.channel)?;
            posts.put((self.channel, number), Post { text: self.text.clone(), is_kept: false })?;
            if posts.len() > 1000 {
                posts.walk((self.channel, 0)..).next()?.ok_or(Refused::Empty)?.take()?;
            }
            Ok(number)
        }
    }

    impl Receive<Feeds> for Expire {
        fn addressees(&self, to: &mut To<'_, Feeds>) {
            to.write::<Channel>(self.channel);
        }

        fn receive(&self, objects: &mut Objects<'_, Feeds>) -> Result<(), Refused> {
            // Some at a time, so that no turn is long.
            let mut posts = objects.entries::<Post>(self.channel)?;
            let next = posts.retain((self.channel, self.from).., 100, |_, post| post.is_kept)?;
            if let Some((channel, from)) = next {
                objects.send(Expire { channel, from })?;
            }
            Ok(())
        }
    }

    #[test]
    fn a_channel_keeps_its_last_posts() -> Result<(), Box<dyn Error>> {
        let runtime = Runtime::<Feeds>::start(Config { shards: Shards::Count(2), ..Config::default() })?;
        let feeds = runtime.handle();
        let publish = |text: u64| Publish { channel: 7, text: text.to_string() };
        assert!(feeds.call_all((1..=1005).map(publish)).wait().iter().all(Result::is_ok));
        let snapshot = feeds.snapshot().wait()?;
        let ten: Vec<((u64, u64), Post)> = snapshot.read_entries::<Post>(7, (7, 90).., 10).wait()?;
        let numbers: Vec<u64> = ten.iter().map(|((_, number), _)| *number).collect();
        assert_eq!(numbers, Vec::from_iter(90..100));
        let first = snapshot.read_entries::<Post>(7, .., 1).wait()?;
        assert_eq!(first, [((7, 6), Post { text: "6".to_owned(), is_kept: false })]);
        feeds.call(Expire { channel: 7, from: 990 }).wait()?;
        let left = feeds.snapshot().wait()?.read_entries::<Post>(7, (7, 985).., 10).wait()?;
        assert_eq!(left.last().map(|(key, _)| *key), Some((7, 989)));
        Ok(())
    }
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
fn every_block_of_the_guide_is_code_of_this_file() {
    let made_up = "a\n```rust\nx;\n\n  y;\n```\n```sh\nz\n```\n";
    assert_eq!(blocks(made_up), ["x;\n\n  y;\n"]);
    assert!(has("    x;\n\n      y;\n", "x;\n\n  y;\n") && !has("    x;\n      z;\n", "x;\n  y;\n"));

    let blocks = blocks(include_str!("../../docs/GUIDE.md"));
    assert!(blocks.len() >= 5, "{} blocks", blocks.len());
    for block in blocks {
        assert!(
            has(include_str!("guide.rs"), &block),
            "tests/it/guide.rs lacks this block of the guide:\n{block}"
        );
    }
}
