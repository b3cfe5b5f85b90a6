//! What the tests of crashes and failing disks have a runtime do, and how they judge what is left
//! of it.
//!
//! Clients move coins between accounts. Which two accounts a payment is between is told by its
//! *note* (the client, its window, the place in it), so whoever knows which notes were taken knows
//! what every account must hold. A client has one window of payments under way and sends the next
//! when all of it was answered. So what survives of a client is all of its windows but the last,
//! and of the last any part: the accounts remember the notes of the last window they saw of each
//! client, and a payment that is torn, or there twice, shows in them, and in the sums.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::sync::Mutex;

use freehold::{
    AccessError, Actor, Addressees, AskError, Config, Handle, Idle, Local, Objects, Outcome, Shards,
    SnapshotError,
};
use serde::{Deserialize, Serialize};

/// How many accounts there are. Every eighth is public.
const ACCOUNTS: u64 = 40;

/// Of each client, how many payments it has under way, and whether a payment's second half is told.
/// The last are tasks on shards.
const CLIENTS: [(u8, bool); 7] =
    [(1, false), (1, true), (32, false), (12, true), (1, false), (1, true), (1, false)];

/// How many of them are tasks.
const TASKS: usize = 2;

/// A window of each client.
pub type Windows = [u32; CLIENTS.len()];

/// Accounts with coins.
pub struct Payments;

/// Which payment it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    client: u8,
    /// From 1.
    window: u32,
    place: u8,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Between the note's two accounts.
    Move(Note),
    /// Takes from the first and tells the second.
    Pass(Note),
    Receive(Note),
    /// Only looks at an account.
    Look(u64),
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Account {
    coins: i64,
    /// How many payments it took part in.
    payments: u64,
    /// Of each client, those of the last window.
    seen: Vec<Note>,
    /// So that there is something to write.
    ballast: Vec<u8>,
}

impl Note {
    fn number(self) -> u64 {
        u64::from(self.window) << 16 | u64::from(self.client) << 8 | u64::from(self.place)
    }

    /// From where to where. The finalizer of `SplitMix64`.
    fn route(self) -> (u64, u64) {
        let mut z = self.number().wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        let from = z % ACCOUNTS;
        (from, (from + 1 + (z >> 32) % (ACCOUNTS - 1)) % ACCOUNTS)
    }

    fn message(self) -> Message {
        if CLIENTS[usize::from(self.client)].1 { Message::Pass(self) } else { Message::Move(self) }
    }

    fn window(client: u8, window: u32) -> impl Iterator<Item = Note> {
        (0..CLIENTS[usize::from(client)].0).map(move |place| Note { client, window, place })
    }
}

impl Account {
    fn note(&mut self, note: Note, coins: i64) {
        self.coins += coins;
        self.payments += 1;
        self.seen.retain(|seen| seen.client != note.client || seen.window >= note.window);
        let is_of_the_last = |seen: &Note| seen.client != note.client || seen.window == note.window;
        if self.seen.iter().all(is_of_the_last) {
            self.seen.push(note);
        }
        self.ballast = vec![note.place; (note.number() % 701) as usize];
    }
}

impl Actor for Payments {
    type Id = u64;
    type State = Account;
    type Message = Message;
    type Reply = ();
    type Error = AccessError<u64>;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        match message {
            Message::Move(note) => {
                to.write(note.route().0);
                to.write(note.route().1);
            }
            Message::Pass(note) => to.write(note.route().0),
            Message::Receive(note) => to.write(note.route().1),
            Message::Look(id) => to.read(*id),
        }
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<(), AccessError<u64>> {
        let mut take = |id: u64, note: Note, coins| {
            let is_new = !objects.contains(id)?;
            objects.get_or_insert_with(id, Account::default)?.note(note, coins);
            if is_new && id.is_multiple_of(8) { objects.share(id) } else { Ok(()) }
        };
        match *message {
            Message::Move(note) => {
                take(note.route().0, note, -1)?;
                take(note.route().1, note, 1)
            }
            Message::Pass(note) => {
                take(note.route().0, note, -1)?;
                objects.tell(Message::Receive(note))
            }
            Message::Receive(note) => take(note.route().1, note, 1),
            Message::Look(id) => objects.get(id).map(drop),
        }
    }
}

/// A runtime of so many shards that leaves the CPUs to others.
pub fn config(shards: usize) -> Config {
    Config { shards: Shards::Count(shards), idle: Idle::Spin(std::time::Duration::ZERO), ..Config::default() }
}

/// What a client was told of a window.
pub type Told = Vec<Outcome<Payments>>;

/// Has all clients pay, each from its window in `from` on, for so many windows at most, until one
/// of its payments fails. `heard` is called with the outcomes of each window, by the threads of the
/// clients.
pub fn pay(handle: &Handle<Payments>, from: Windows, windows: u32, heard: impl Fn(u8, u32, Told) + Sync) {
    std::thread::scope(|scope| {
        for client in 0..(CLIENTS.len() - TASKS) as u8 {
            let (handle, heard) = (handle.clone(), &heard);
            scope.spawn(move || {
                let first = from[usize::from(client)];
                for window in first..first.saturating_add(windows) {
                    let told: Told = match CLIENTS[usize::from(client)].0 {
                        1 => {
                            let one = Note { client, window, place: 0 };
                            vec![handle.ask(one.message()).wait()]
                        }
                        _ => handle.ask_all(Note::window(client, window).map(Note::message)).wait(),
                    };
                    let is_over = told.iter().any(Result::is_err);
                    heard(client, window, told);
                    if is_over {
                        return;
                    }
                }
            });
        }
    });
}

/// The same on a shard, by the client that is its task, if it has one.
pub async fn pay_on_shard(
    local: Local<Payments>,
    from: Windows,
    windows: u32,
    heard: impl Fn(u8, u32, Told),
) {
    let task = CLIENTS.len() - TASKS + local.shard().index();
    let Some(first) = from.get(task) else { return };
    for window in *first..first.saturating_add(windows) {
        let one = Note { client: task as u8, window, place: 0 };
        let told = local.ask(one.message()).await;
        let is_over = told.is_err();
        heard(task as u8, window, vec![told]);
        if is_over {
            return;
        }
    }
}

/// What clients were told since the books were last judged.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Of each client, up to which window all was acknowledged.
    pub windows: Windows,
    /// What it was told of the window after.
    pub last: [Option<Told>; CLIENTS.len()],
}

impl Heard {
    pub fn hear(&mut self, client: u8, window: u32, told: Told) {
        let client = usize::from(client);
        for outcome in &told {
            assert!(
                matches!(outcome, Ok(()) | Err(AskError::Unknown | AskError::Stopped)),
                "a payment was answered {outcome:?}"
            );
        }
        if told.iter().all(Result::is_ok) {
            self.windows[client] = window;
        } else {
            self.last[client] = Some(told);
        }
    }

    /// How many payments were acknowledged for certain, up to these windows excluded.
    pub fn payments(&self, since: Windows) -> u64 {
        let whole = self.windows.iter().zip(since).map(|(now, since)| u64::from(now.saturating_sub(since)));
        whole.zip(CLIENTS).map(|(windows, (payments, _))| windows * u64::from(payments)).sum()
    }
}

/// What is written in the accounts, without their ballast.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    coins: i64,
    payments: u64,
    seen: Vec<Note>,
}

/// All accounts as they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Books(BTreeMap<u64, Entry>);

impl Books {
    /// As a runtime has them.
    pub fn read(handle: &Handle<Payments>) -> Result<Books, SnapshotError> {
        let each = |books: &mut BTreeMap<u64, Entry>, id, account: &Account| {
            let Account { coins, payments, seen, .. } = account.clone();
            books.insert(id, Entry { coins, payments, seen });
        };
        let merge = |mut one: BTreeMap<_, _>, mut other: BTreeMap<_, _>| {
            one.append(&mut other);
            one
        };
        handle.snapshot().wait()?.fold(BTreeMap::new, each, merge).wait().map(Books)
    }

    /// As lines of text, one an account.
    pub fn to_lines(&self) -> Vec<String> {
        let line = |(id, entry): (&u64, &Entry)| {
            let Entry { coins, payments, seen } = entry;
            let seen =
                seen.iter().map(|Note { client, window, place }| format!(" {client} {window} {place}"));
            format!("{id} {coins} {payments}{}", seen.collect::<String>())
        };
        self.0.iter().map(line).collect()
    }

    /// Adds the account of such a line.
    pub fn add_line(&mut self, line: &str) {
        let numbers: Vec<i64> = line.split(' ').map(|number| number.parse().expect("a number")).collect();
        let [id, coins, payments, seen @ ..] = &numbers[..] else { panic!("no account: {line}") };
        let note =
            |note: &[i64]| Note { client: note[0] as u8, window: note[1] as u32, place: note[2] as u8 };
        let seen = seen.chunks(3).map(note).collect();
        self.0.insert(*id as u64, Entry { coins: *coins, payments: *payments as u64, seen });
    }

    fn seen(&self) -> impl Iterator<Item = (u64, Note)> {
        self.0.iter().flat_map(|(id, entry)| entry.seen.iter().map(|note| (*id, *note)))
    }

    /// The last window of each client that something is there of.
    pub fn windows(&self) -> Windows {
        let mut windows = Windows::default();
        for (_, note) in self.seen() {
            let window = &mut windows[usize::from(note.client)];
            *window = note.window.max(*window);
        }
        windows
    }

    /// Where clients go on.
    pub fn next(&self) -> Windows {
        self.windows().map(|window| window + 1)
    }

    /// Whether these books can follow from `before` and from what clients have heard since: all
    /// that was acknowledged is there, nothing torn, nothing twice, no coin more or less.
    pub fn judge(&self, before: &Books, heard: &Heard) -> Result<(), String> {
        let (first, last) = (before.windows(), self.windows());
        let mut expected = before.0.clone();
        let mut pay = |note: Note| {
            let (from, to) = note.route();
            for (id, coins) in [(from, -1), (to, 1)] {
                let entry = expected.entry(id).or_default();
                entry.coins += coins;
                entry.payments += 1;
            }
        };
        for client in 0..CLIENTS.len() as u8 {
            let at = usize::from(client);
            let (first, last) = (first[at], last[at]);
            if last < heard.windows[at] || last < first {
                let acknowledged = heard.windows[at].max(first);
                return Err(format!(
                    "client {client}: window {acknowledged} was acknowledged, {last} is the last"
                ));
            }
            (first + 1..last).flat_map(|window| Note::window(client, window)).for_each(&mut pay);
            for note in Note::window(client, last).filter(|_| last > first) {
                let (from, to) = note.route();
                let times = |at: u64| self.seen().filter(|seen| *seen == (at, note)).count();
                let is_taken = match (times(from), times(to)) {
                    (0, 0) => false,
                    (1, 1) => true,
                    (from, to) => {
                        return Err(format!("torn: {note:?} is {from} and {to} times in its accounts"));
                    }
                };
                if is_taken {
                    pay(note);
                } else if last == heard.windows[at] {
                    return Err(format!("acknowledged and lost: {note:?}"));
                }
            }
            let Some(told) = &heard.last[at] else { continue };
            let window = heard.windows[at].max(first) + 1;
            for (note, told) in Note::window(client, window).zip(told) {
                let is_there = self.seen().any(|(_, seen)| seen == note);
                match told {
                    Ok(()) if !is_there => return Err(format!("acknowledged and lost: {note:?}")),
                    Err(AskError::Stopped) if is_there => return Err(format!("refused, and ran: {note:?}")),
                    _ => {}
                }
            }
        }
        for (id, expected) in &expected {
            let found = self.0.get(id).cloned().unwrap_or_default();
            if (found.coins, found.payments) != (expected.coins, expected.payments) {
                return Err(format!("account {id} should be {expected:?} and is {found:?}"));
            }
        }
        match self.0.values().map(|entry| entry.coins).sum::<i64>() {
            0 if self.0.keys().all(|id| expected.contains_key(id)) => Ok(()),
            coins => Err(format!("{coins} coins too many, or accounts that nobody made: {self:?}")),
        }
    }
}

/// What clients hear, from several threads.
#[derive(Debug, Default)]
pub struct Hearing(Mutex<Heard>);

impl Hearing {
    /// Beginning with what is in the books.
    pub fn since(books: &Books) -> Hearing {
        Hearing(Mutex::new(Heard { windows: books.windows(), ..Heard::default() }))
    }

    pub fn hear(&self, client: u8, window: u32, told: Told) {
        self.0.lock().expect("nobody panics").hear(client, window, told);
    }

    pub fn so_far(&self) -> Heard {
        self.0.lock().expect("nobody panics").clone()
    }
}
