//! A rate limiter with sessions, behind HTTP on tokio.
//!
//! `limiter [ADDRESS [BURST [SECONDS]]]` says where it listens, and ends when its standard input
//! does (Ctrl-D). A tenant may use what is limited `BURST` times at once, and once more every
//! `SECONDS`.
//!
//! ```text
//! curl -X POST 127.0.0.1:8080/login/acme        200 {"session":7391}
//! curl -X POST 127.0.0.1:8080/use/acme/7391     200 {"left":9}
//! curl 127.0.0.1:8080/sessions/acme             200 [{"session":7391,"uses":1}]
//! curl -X POST 127.0.0.1:8080/logout/acme/7391  200
//! ```
//!
//! A tenant's sessions are a collection, so all of them share the tenant's shard and its one bucket
//! of uses. A session that is not used ends by a timer, which each use takes back and sets anew.
//! HTTP runs on tokio's threads: a handler awaits its message as it awaits anything else.

use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use freehold::{
    AccessError, AskError, Config, Embedding, Handle, Key, Objects, Receive, Runtime, Shards, TimerId, To,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

#[cfg(test)]
mod tests;

/// A handler waits so long for room and for its answer.
const DEADLINE: Duration = Duration::from_secs(2);
const CONNECTIONS_MAX: usize = 1000;
const REQUEST_BYTES_MAX: u64 = 8 << 10;

freehold::actor! {
    actor Limiter {
        id: Id, state: State, message: Message, reply: Reply, error: Refused,
        // There is no log, so nothing needs to be serialized.
        kinds {
            Tenant(name: Key),
            Session(tenant: Key, token: u64) in Tenant(tenant),
        }
        messages { Login -> (), Use -> u32, Logout -> (), Expire -> () }
    }
}

/// What all sessions of a tenant share.
#[derive(Clone, Default)]
struct Tenant {
    /// When all its uses are there again.
    is_full_at: Duration,
}

#[derive(Clone, Copy)]
struct Session {
    uses: u64,
    ends_at: Duration,
    timer: TimerId,
}

/// What holds for everybody: the context of the runtime.
#[derive(Clone, Copy)]
struct Rules {
    burst: u32,
    every: Duration,
    session: Duration,
    sessions_max: usize,
}

#[derive(Debug, PartialEq, thiserror::Error)]
enum Refused {
    #[error("there is no such session: log in")]
    NoSession,
    #[error("the tenant has {0} sessions, which is as many as it may: end one")]
    TooManySessions(usize),
    #[error("too fast: come again in {0:?}")]
    TooFast(Duration),
    #[error(transparent)]
    Access(#[from] AccessError<Id>),
}

/// A session: of which tenant, and its token.
type SessionKey = (Key, u64);

/// Begins a session. Its token comes from outside, as `receive` may run twice.
struct Login(SessionKey);
/// One use; answered by how many are left now.
struct Use(SessionKey);
struct Logout(SessionKey);
/// A session sends it to itself for the end of its time.
struct Expire(SessionKey);

impl Receive<Limiter> for Login {
    fn addressees(&self, to: &mut To<'_, Limiter>) {
        to.write::<Tenant>(self.0.0);
    }

    fn receive(&self, objects: &mut Objects<'_, Limiter>) -> Result<(), Refused> {
        let (key @ (tenant, _), rules) = (self.0, *objects.context::<Rules>()?);
        objects.write_or_insert_with(tenant, Tenant::default)?;
        let (ends_at, timer) = ends_later(objects, rules, key)?;
        let mut sessions = objects.entries::<Session>(tenant)?;
        // An error takes the tenant and the timer back, too.
        if sessions.len() >= rules.sessions_max {
            return Err(Refused::TooManySessions(sessions.len()));
        }
        sessions.put(key, Session { uses: 0, ends_at, timer })?;
        Ok(())
    }
}

impl Receive<Limiter> for Use {
    fn addressees(&self, to: &mut To<'_, Limiter>) {
        to.write::<Tenant>(self.0.0);
    }

    fn receive(&self, objects: &mut Objects<'_, Limiter>) -> Result<u32, Refused> {
        let key @ (tenant, _) = self.0;
        let (rules, now) = (*objects.context::<Rules>()?, objects.now());
        let (ends_at, timer) = ends_later(objects, rules, key)?;
        let mut sessions = objects.entries::<Session>(tenant)?;
        let session = sessions.write(key)?.ok_or(Refused::NoSession)?;
        let replaced = std::mem::replace(&mut session.timer, timer);
        (session.uses, session.ends_at) = (session.uses + 1, ends_at);
        objects.cancel(replaced)?;

        let bucket = objects.write::<Tenant>(tenant)?.ok_or(Refused::NoSession)?;
        let is_full_at = bucket.is_full_at.max(now) + rules.every;
        let has_at_most = rules.every * rules.burst;
        if let Some(wait) = (is_full_at - now).checked_sub(has_at_most).filter(|wait| !wait.is_zero()) {
            return Err(Refused::TooFast(wait));
        }
        bucket.is_full_at = is_full_at;
        Ok(((now + has_at_most - is_full_at).as_nanos() / rules.every.as_nanos()) as u32)
    }
}

impl Receive<Limiter> for Logout {
    fn addressees(&self, to: &mut To<'_, Limiter>) {
        to.write::<Tenant>(self.0.0);
    }

    fn receive(&self, objects: &mut Objects<'_, Limiter>) -> Result<(), Refused> {
        let ended = objects.entries::<Session>(self.0.0)?.take(self.0)?;
        Ok(objects.cancel(ended.ok_or(Refused::NoSession)?.timer)?)
    }
}

impl Receive<Limiter> for Expire {
    fn addressees(&self, to: &mut To<'_, Limiter>) {
        to.write::<Tenant>(self.0.0);
    }

    fn receive(&self, objects: &mut Objects<'_, Limiter>) -> Result<(), Refused> {
        let (key, now) = (self.0, objects.now());
        let mut sessions = objects.entries::<Session>(key.0)?;
        // It may have been on its way when a use took it back.
        if sessions.read(key)?.is_some_and(|session| session.ends_at <= now) {
            sessions.take(key)?;
        }
        Ok(())
    }
}

/// Sets the timer of a session that is used now.
fn ends_later(
    objects: &Objects<'_, Limiter>,
    rules: Rules,
    key: SessionKey,
) -> Result<(Duration, TimerId), Refused> {
    let timer = objects.send_after(rules.session, Expire(key))?;
    Ok((objects.now() + rules.session, timer))
}

/// What is answered to a request: its status, headers, and the body.
type Answer = (&'static str, String, String);

fn answer(outcome: Result<String, AskError<Refused>>) -> Answer {
    let failed = match outcome {
        Ok(body) => return ("200 OK", String::new(), body),
        Err(failed) => failed,
    };
    let retry_after = |wait: Duration| format!("Retry-After: {}\r\n", wait.as_secs() + 1);
    let (status, headers) = match &failed {
        AskError::Aborted(Refused::NoSession) => ("401 Unauthorized", String::new()),
        AskError::Aborted(Refused::TooManySessions(_)) => ("409 Conflict", String::new()),
        AskError::Aborted(Refused::TooFast(wait)) => ("429 Too Many Requests", retry_after(*wait)),
        // There was no room before the deadline, or no answer.
        AskError::Overloaded | AskError::TimedOut | AskError::Stopped => {
            ("503 Service Unavailable", retry_after(Duration::ZERO))
        }
        _ => ("500 Internal Server Error", String::new()),
    };
    (status, headers, failed.to_string())
}

/// One request, from its first line: the method, and what is asked of which session.
async fn handle(limiter: &Handle<Limiter>, line: &str) -> Answer {
    let mut words = line.split([' ', '/']).filter(|word| !word.is_empty());
    let [method, action, name, number] = std::array::from_fn(|_| words.next().unwrap_or_default());
    // What is no token is that of no session.
    let (tenant, token) = (Key::new(name), number.parse().unwrap_or_default());
    let deadline = tokio::time::sleep(DEADLINE);
    match (method, action) {
        ("POST", "login") => {
            // A token is not to be guessed: this is of a hash with random keys.
            let token = RandomState::new().hash_one(name);
            let login = limiter.call_waiting(Login((tenant, token))).until(deadline).await;
            answer(login.map(|()| format!("{{\"session\":{token}}}")))
        }
        ("POST", "use") => {
            let used = limiter.call_waiting(Use((tenant, token))).until(deadline).await;
            answer(used.map(|left| format!("{{\"left\":{left}}}")))
        }
        ("POST", "logout") => {
            let ended = limiter.call_waiting(Logout((tenant, token))).until(deadline).await;
            answer(ended.map(|()| String::new()))
        }
        ("GET", "sessions") => match sessions(limiter, tenant).await {
            Ok(body) => ("200 OK", String::new(), body),
            Err(failed) => ("503 Service Unavailable", String::new(), failed.to_string()),
        },
        _ => ("404 Not Found", String::new(), "POST login, use or logout, or GET sessions".to_owned()),
    }
}

/// The sessions of a tenant, the first hundred of them, as of one instant.
async fn sessions(limiter: &Handle<Limiter>, tenant: Key) -> Result<String, freehold::SnapshotError> {
    let snapshot = limiter.snapshot().await?;
    let mut body = String::new();
    for ((_, token), Session { uses, .. }) in snapshot.read_entries::<Session>(tenant, .., 100).await? {
        let comma = if body.is_empty() { "" } else { "," };
        write!(body, "{comma}{{\"session\":{token},\"uses\":{uses}}}").expect("a string takes all");
    }
    Ok(format!("[{body}]"))
}

/// Answers the requests of one connection, until the client has no more.
async fn connection(stream: TcpStream, limiter: Handle<Limiter>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut line, mut header, mut request) =
            (String::new(), String::new(), (&mut stream).take(REQUEST_BYTES_MAX));
        request.read_line(&mut line).await?;
        while request.read_line(&mut header).await? > 0 && header != "\r\n" {
            header.clear();
        }
        if header != "\r\n" {
            return Ok(());
        }
        let (status, headers, body) = handle(&limiter, line.trim_end()).await;
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).await?;
    }
}

async fn serve(listener: TcpListener, limiter: Handle<Limiter>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Full is a wait here: the client waits in the queue of the listener.
        let place = room.clone().acquire_owned().await.expect("nobody closes it");
        let Ok((stream, _)) = listener.accept().await else {
            // No descriptor is left, for one: some come back when connections end.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let limiter = limiter.clone();
        tokio::spawn(async move { (connection(stream, limiter).await, place) });
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let burst = arguments.next().map_or(Ok(10), |burst| burst.parse())?;
    let every =
        arguments.next().map_or(Ok(0.1), |seconds| seconds.parse()).map(Duration::try_from_secs_f64)??;
    if burst == 0 || every.is_zero() {
        return Err("neither may be 0: limiter [ADDRESS [BURST [SECONDS]]]".into());
    }
    let rules = Rules { burst, every, session: Duration::from_secs(1800), sessions_max: 1000 };

    let config = Config { shards: Shards::Count(1), ..Config::default() };
    let runtime = Runtime::<Limiter>::start_with(config, Embedding::new().context(rules))?;
    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let listener = tokio.block_on(TcpListener::bind(address))?;
    println!("listening on http://{}", listener.local_addr()?);
    tokio.spawn(serve(listener, runtime.handle()));
    std::io::stdin().read_to_end(&mut Vec::new())?;

    // First tokio, so that nobody asks any more. Then what was accepted runs to its end.
    tokio.shutdown_timeout(DEADLINE);
    println!("{}", runtime.shutdown());
    Ok(())
}
