//! The ledger's process: a durable runtime, its gate, and a thread for each connection. It has no
//! secret.

use std::io::{self, BufRead};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use freehold::{Config, Gate, GateConfig, Handle, LogConfig, Runtime, Shards};
use freehold_private::{Claim, Guard, Ledger, Message, PublicKey, Submission};

use crate::socket::{ALL, CLAIM, DEPOSIT, DONE, REFUSED, SHOW, read, write};
use crate::{Failed, terms, unhex};

/// What a deposit begins with: only the operator knows it. It comes on the standard input, since
/// arguments of a process can be read by others.
pub type Teller = [u8; 16];

/// Serves until it is killed.
pub fn serve(directory: &Path, socket: &Path, of: &str, shards: usize) -> Result<bool, Failed> {
    let terms = terms(of)?;
    let mut teller = String::new();
    io::stdin().lock().read_line(&mut teller)?;
    let teller: Teller = unhex(teller.trim_end())?;
    let config = Config { shards: Shards::Count(shards), ..Config::default() };
    let log = Ledger::log(LogConfig { segment_bytes: 1 << 20, ..LogConfig::at(directory) });
    let runtime = Runtime::<Ledger>::open(config, log)?;
    let gate = runtime.gate(GateConfig::default(), move || Guard::new(terms.clone()))?;
    // What a ledger that was killed has left.
    drop(std::fs::remove_file(socket));
    let listener = UnixListener::bind(socket)?;
    for (number, stream) in (0..).zip(listener.incoming()) {
        let Ok(stream) = stream else {
            // Such as no descriptor left: some come back when connections end.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        let (handle, gate) = (runtime.handle(), gate.clone());
        let client = Client { handle, gate, number, teller };
        std::thread::spawn(move || drop(listen(stream, &client)));
    }
    Ok(true)
}

/// What is done for a connection, and by which ways.
struct Client {
    handle: Handle<Ledger>,
    gate: Gate<Ledger, Guard>,
    number: u64,
    teller: Teller,
}

/// One connection, until it ends.
fn listen(mut stream: UnixStream, client: &Client) -> io::Result<()> {
    loop {
        let (kind, bytes) = read(&mut stream)?;
        match answer(kind, &bytes, client) {
            Ok(bytes) => write(&mut stream, DONE, &bytes)?,
            Err(refused) => write(&mut stream, REFUSED, refused.to_string().as_bytes())?,
        }
    }
}

fn answer(kind: u8, bytes: &[u8], client: &Client) -> Result<Vec<u8>, Failed> {
    let Client { handle, gate, number, teller } = client;
    let number_at = |at: usize| -> Result<u64, Failed> {
        let bytes = bytes.get(8 * at..8 * at + 8).ok_or("a number is missing")?;
        Ok(u64::from_le_bytes(bytes.try_into()?))
    };
    match kind {
        CLAIM => {
            // Where it came from is the connection: anybody may name any account.
            let submission = Submission { claim: Claim::from_bytes(bytes)?, sender: *number };
            gate.ask(submission).wait()?;
            Ok(Vec::new())
        }
        SHOW => {
            let account = handle.snapshot().wait()?.get(number_at(0)?).wait()?;
            Ok(account.ok_or("there is no such account")?.to_bytes())
        }
        DEPOSIT => {
            if !bytes.starts_with(teller) {
                return Err("only the operator deposits".into());
            }
            let key = bytes.get(32..).ok_or("a key is missing")?;
            let key = PublicKey::try_from(<[u8; 32]>::try_from(key)?)?;
            let message = Message::Deposit { account: number_at(2)?, key, amount: number_at(3)? };
            handle.ask(message).wait()?;
            Ok(Vec::new())
        }
        ALL => {
            let mut bytes = Vec::new();
            for account in Ledger::accounts(handle)?.into_values().map(|account| account.to_bytes()) {
                bytes.extend((account.len() as u32).to_le_bytes());
                bytes.extend(account);
            }
            Ok(bytes)
        }
        _ => Err("there is no such question".into()),
    }
}
