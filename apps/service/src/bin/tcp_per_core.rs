//! A key-value server with one listener on every core: a connection is served by the core that
//! accepted it, and what it asks for runs there at once if the key lives there too.
//!
//! ```text
//! $ cargo run --release -p service --bin tcp_per_core -- --listen 127.0.0.1:7000
//! $ nc 127.0.0.1 7000
//! SET greeting hello world
//! OK
//! GET greeting
//! hello world
//! INCR visits
//! 1
//! DEL greeting
//! OK
//! GET greeting
//! NONE
//! STATS
//! shard=1 keys=1 connections=1 here=4 elsewhere=1
//! QUIT
//! ```
//! One line is one command and has one line for an answer; commands may be sent ahead without
//! waiting. A key is up to 32 bytes without spaces, a value the rest of its line, which has 4096
//! bytes at most. A command that cannot be carried out is answered `ERR` and why, and the
//! connection goes on.
//!
//! Every shard binds a socket of its own to the same address (SO_REUSEPORT, which glommio's
//! listener sets), and the kernel spreads the connections over them. All on a shard is one thread:
//! its counts are plain cells. Ctrl-C or SIGTERM stops it: listeners close, each connection ends
//! after the command it is at, and the runtime drains.

use std::cell::Cell;
use std::error::Error;
use std::fmt::Write as _;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use std::{io, mem};

use clap::Parser;
use freehold::glommio::net::{TcpListener, TcpStream};
use freehold::glommio::timer::sleep;
use freehold::glommio::yield_if_needed;
use freehold::{
    AccessError, Actor, Addressees, AskError, Config, Local, ObjectId, Objects, Outcome, Runtime, Shards,
    Stopping,
};
use futures::future::{Either, select};
use futures::{AsyncReadExt, AsyncWriteExt};
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use socket2::{Domain, Socket, Type};

/// Bytes of a line, its end not counted.
const LINE_BYTES_MAX: usize = 4096;

/// Bytes of answers that are gathered before they are written: those to commands that came in one
/// piece go out in one.
const ANSWERS_BYTES_MAX: usize = 16 << 10;

/// Connections of one shard at a time.
const CONNECTIONS_MAX: usize = 10_000;

/// A key: up to 32 bytes of text, the rest zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Key([u8; 32]);

impl ObjectId for Key {}

impl Key {
    fn parse(text: &str) -> Result<Self, BadCommand> {
        let mut key = [0; 32];
        let room = key.get_mut(..text.len()).filter(|room| !room.is_empty());
        room.ok_or(BadCommand::Key)?.copy_from_slice(text.as_bytes());
        Ok(Key(key))
    }
}

/// What the objects are: one for each key, holding its value.
struct Store;

enum Command {
    Get { key: Key },
    Set { key: Key, value: String },
    Del { key: Key },
    Incr { key: Key },
}

enum Answer {
    Done,
    Value(Option<String>),
    Number(i64),
}

#[derive(Debug, thiserror::Error)]
enum StoreError {
    #[error("the value is not a number")]
    NotANumber,
    #[error("the number is as large as it gets")]
    Overflow,
    #[error(transparent)]
    Access(#[from] AccessError<Key>),
}

impl Actor for Store {
    type Id = Key;
    type State = String;
    type Message = Command;
    type Reply = Answer;
    type Error = StoreError;

    fn addressees(command: &Command, to: &mut Addressees<Key>) {
        match command {
            Command::Get { key } => to.read(*key),
            Command::Set { key, .. } | Command::Del { key } | Command::Incr { key } => to.write(*key),
        }
    }

    fn receive(command: &Command, objects: &mut Objects<'_, Self>) -> Result<Answer, StoreError> {
        match command {
            Command::Get { key } => Ok(Answer::Value(objects.get(*key)?.cloned())),
            Command::Set { key, value } => {
                objects.insert(*key, value.clone())?;
                Ok(Answer::Done)
            }
            Command::Del { key } => Ok(objects.remove(*key)?.map_or(Answer::Value(None), |_| Answer::Done)),
            Command::Incr { key } => {
                let value = objects.get_or_insert_with(*key, || "0".into())?;
                let number: i64 = value.parse().map_err(|_| StoreError::NotANumber)?;
                let number = number.checked_add(1).ok_or(StoreError::Overflow)?;
                *value = number.to_string();
                Ok(Answer::Number(number))
            }
        }
    }
}

/// What a line asks for.
enum Request {
    Run(Command),
    Stats,
    Quit,
}

/// Why a line asks for nothing.
#[derive(Debug, thiserror::Error)]
enum BadCommand {
    #[error("unknown command; there are GET key, SET key value, DEL key, INCR key, STATS and QUIT")]
    Unknown,
    #[error("a key is 1 to 32 bytes without spaces")]
    Key,
    #[error("a line is text in UTF-8")]
    NotText,
    #[error("a line is at most {LINE_BYTES_MAX} bytes")]
    TooLong,
}

impl Request {
    fn parse(line: &[u8]) -> Result<Self, BadCommand> {
        if line.len() > LINE_BYTES_MAX {
            return Err(BadCommand::TooLong);
        }
        let line = str::from_utf8(line).map_err(|_| BadCommand::NotText)?.trim_end_matches('\r');
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let command = match (verb, rest) {
            ("STATS", "") => return Ok(Request::Stats),
            ("QUIT", "") => return Ok(Request::Quit),
            ("SET", rest) => {
                let (key, value) = rest.split_once(' ').unwrap_or((rest, ""));
                Command::Set { key: Key::parse(key)?, value: value.into() }
            }
            ("GET" | "DEL" | "INCR", key) if key.contains(' ') => return Err(BadCommand::Key),
            ("GET", key) => Command::Get { key: Key::parse(key)? },
            ("DEL", key) => Command::Del { key: Key::parse(key)? },
            ("INCR", key) => Command::Incr { key: Key::parse(key)? },
            _ => return Err(BadCommand::Unknown),
        };
        Ok(Request::Run(command))
    }
}

/// What the connections of one shard share. Nobody else does.
#[derive(Default)]
struct Counts {
    connections: Cell<usize>,
    /// Commands whose key lived on this shard: they ran where they were read.
    here: Cell<u64>,
    /// Commands that went to another shard.
    elsewhere: Cell<u64>,
}

/// Accepts connections until the runtime stops.
async fn listen(local: Local<Store>, listener: TcpListener) {
    let counts = Rc::new(Counts::default());
    let mut stopping = local.stopping();
    while let Some(accepted) = unless_stopping(&mut stopping, listener.accept()).await {
        yield_if_needed().await;
        match accepted {
            Ok(stream) if counts.connections.get() < CONNECTIONS_MAX => {
                local.spawn(serve(local.clone(), stream, counts.clone()));
            }
            // Closing it is all the answer there is room for.
            Ok(_) => {}
            Err(error) => {
                // Out of descriptors, say. Until some are closed the next attempt would end the
                // same way.
                eprintln!("{}: cannot accept: {error}", local.shard());
                unless_stopping(&mut stopping, sleep(Duration::from_millis(100))).await;
            }
        }
    }
}

/// Counts a connection for as long as it lives.
struct Counted(Rc<Counts>);

impl Counted {
    fn new(counts: Rc<Counts>) -> Self {
        counts.connections.update(|connections| connections + 1);
        Counted(counts)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.update(|connections| connections - 1);
    }
}

/// Serves one connection. That a client went away, in whatever way, is nobody's business.
async fn serve(local: Local<Store>, mut stream: TcpStream, counts: Rc<Counts>) {
    let counted = Counted::new(counts);
    // Answers are written when they are complete, so there is nothing to wait for.
    let _ = stream.set_nodelay(true);
    let _ = converse(&local, &mut stream, &counted.0).await;
}

/// Reads commands and writes answers until the client has said all, or the runtime stops.
async fn converse(local: &Local<Store>, stream: &mut TcpStream, counts: &Counts) -> io::Result<()> {
    let mut stopping = local.stopping();
    let mut input = vec![0; 2 * LINE_BYTES_MAX];
    let mut filled = 0;
    // What comes belongs to a line that was refused for its length, up to its end.
    let mut skips = false;
    let mut answers = String::new();
    loop {
        // While a client sends without a pause, its reads never wait; the other connections and the
        // shard itself are to have their turn all the same.
        yield_if_needed().await;
        let read = unless_stopping(&mut stopping, stream.read(&mut input[filled..])).await;
        let Some(read) = read.transpose()?.filter(|&read| read > 0) else { return Ok(()) };
        filled += read;

        let mut begin = 0;
        while let Some(length) = input[begin..filled].iter().position(|&byte| byte == b'\n') {
            let line = &input[begin..begin + length];
            begin += length + 1;
            if !mem::take(&mut skips) && respond(local, line, counts, &mut answers).await == Then::Quit {
                return stream.write_all(answers.as_bytes()).await;
            }
            if answers.len() >= ANSWERS_BYTES_MAX {
                stream.write_all(mem::take(&mut answers).as_bytes()).await?;
            }
        }
        if filled - begin > LINE_BYTES_MAX && !mem::replace(&mut skips, true) {
            put(&mut answers, format_args!("ERR {}", BadCommand::TooLong));
        }
        if skips {
            begin = filled;
        }
        input.copy_within(begin..filled, 0);
        filled -= begin;
        stream.write_all(answers.as_bytes()).await?;
        answers.clear();
    }
}

/// What to do after a line.
#[derive(PartialEq, Eq)]
enum Then {
    GoOn,
    Quit,
}

/// Answers one line.
async fn respond(local: &Local<Store>, line: &[u8], counts: &Counts, answers: &mut String) -> Then {
    match Request::parse(line) {
        Err(error) => put(answers, format_args!("ERR {error}")),
        Ok(Request::Quit) => return Then::Quit,
        Ok(Request::Stats) => {
            let (shard, keys) = (local.shard().0, local.handle().stats().objects());
            let (connections, here, elsewhere) =
                (counts.connections.get(), counts.here.get(), counts.elsewhere.get());
            let stats = format_args!(
                "shard={shard} keys={keys} connections={connections} here={here} elsewhere={elsewhere}"
            );
            put(answers, stats);
        }
        Ok(Request::Run(command)) => match run(local, command, counts).await {
            Ok(Answer::Done) => put(answers, format_args!("OK")),
            Ok(Answer::Value(None)) => put(answers, format_args!("NONE")),
            Ok(Answer::Value(Some(value))) => put(answers, format_args!("{value}")),
            Ok(Answer::Number(number)) => put(answers, format_args!("{number}")),
            Err(AskError::Aborted(error)) => put(answers, format_args!("ERR {error}")),
            Err(error) => put(answers, format_args!("ERR {error}")),
        },
    }
    Then::GoOn
}

/// Runs a command where its key lives: here and now, or on another shard.
async fn run(local: &Local<Store>, command: Command, counts: &Counts) -> Outcome<Store> {
    match local.ask_now(&command) {
        Err(AskError::Elsewhere { .. }) => {
            counts.elsewhere.update(|commands| commands + 1);
            local.ask(command).await
        }
        outcome => {
            counts.here.update(|commands| commands + 1);
            outcome
        }
    }
}

fn put(answers: &mut String, answer: std::fmt::Arguments<'_>) {
    writeln!(answers, "{answer}").expect("a string takes everything");
}

/// What `future` gives, or `None` if the runtime begins to stop first.
async fn unless_stopping<T>(stopping: &mut Stopping, future: impl Future<Output = T>) -> Option<T> {
    match select(stopping, pin!(future)).await {
        Either::Left(_) => None,
        Either::Right((output, _)) => Some(output),
    }
}

/// Serves a key-value store with one listener per core.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 takes a free one, which is printed.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7000")]
    listen: SocketAddr,

    /// Number of shards, and so of listeners [default: one per allowed CPU].
    #[arg(long, value_name = "N")]
    shards: Option<usize>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    // A bound socket that never listens: it keeps the port, which may have been found just now,
    // until all listeners have it.
    let port = Socket::new(Domain::for_address(arguments.listen), Type::STREAM, None)?;
    port.set_reuse_port(true)?;
    port.bind(&arguments.listen.into())?;
    let address = port.local_addr()?.as_socket().ok_or("not an address to listen at")?;

    let shards = arguments.shards.map_or(Shards::PerAllowedCore, Shards::Count);
    let runtime = Runtime::<Store>::start(Config { shards, ..Config::default() })?;
    let listeners = runtime.on_each_shard(move |local| async move {
        let listener = TcpListener::bind(address).map_err(io::Error::from)?;
        local.spawn(listen(local.clone(), listener));
        Ok::<_, io::Error>(())
    });
    for listening in listeners.wait() {
        listening??;
    }
    drop(port);
    println!("listening on {address}, on {} shards", runtime.handle().shards());

    signals.forever().next();
    println!("stopped: {}", runtime.shutdown());
    Ok(())
}
