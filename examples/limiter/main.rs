//! A rate limiter with sessions, behind axum on tokio.
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

use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::time::Duration;

use axum::extract::{self, Path};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use freehold::{
    AccessError, AskError, Config, Embedding, Handle, Key, MessageOf, Objects, Receive, Runtime, Shards,
    SnapshotError, TimerId, To,
};
use serde::Serialize;
use tokio::net::TcpListener;

#[cfg(test)]
mod tests;

/// A handler waits so long for room and for its answer.
const DEADLINE: Duration = Duration::from_secs(2);

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

/// Why a request failed, as an answer.
struct Failed(AskError<Refused>);

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let retry_after = |wait: Duration| [(RETRY_AFTER, (wait.as_secs() + 1).to_string())];
        let text = self.0.to_string();
        match self.0 {
            AskError::Aborted(Refused::NoSession) => (StatusCode::UNAUTHORIZED, text).into_response(),
            AskError::Aborted(Refused::TooManySessions(_)) => (StatusCode::CONFLICT, text).into_response(),
            AskError::Aborted(Refused::TooFast(wait)) => {
                (StatusCode::TOO_MANY_REQUESTS, retry_after(wait), text).into_response()
            }
            // There was no room before the deadline, or no answer.
            AskError::Overloaded | AskError::TimedOut | AskError::Stopped => {
                (StatusCode::SERVICE_UNAVAILABLE, retry_after(Duration::ZERO), text).into_response()
            }
            _ => (StatusCode::INTERNAL_SERVER_ERROR, text).into_response(),
        }
    }
}

/// What the handlers share.
type Shared = extract::State<Handle<Limiter>>;

#[derive(Serialize)]
struct LoggedIn {
    session: u64,
}

#[derive(Serialize)]
struct Used {
    left: u32,
}

/// A session in a list.
#[derive(Serialize)]
struct Listed {
    session: u64,
    uses: u64,
}

/// Which session a path names. What is no token is that of no session.
fn session((name, token): (String, String)) -> SessionKey {
    (Key::new(&name), token.parse().unwrap_or_default())
}

/// Sends a message, and waits for room and for the answer, but not for ever.
async fn send<M: MessageOf<Limiter>>(limiter: &Handle<Limiter>, message: M) -> Result<M::Reply, Failed> {
    limiter.call_waiting(message).until(tokio::time::sleep(DEADLINE)).await.map_err(Failed)
}

async fn login(limiter: Shared, Path(name): Path<String>) -> Result<Json<LoggedIn>, Failed> {
    // A token is not to be guessed: this is of a hash with random keys.
    let session = RandomState::new().hash_one(&name);
    send(&limiter, Login((Key::new(&name), session))).await?;
    Ok(Json(LoggedIn { session }))
}

async fn use_once(limiter: Shared, Path(path): Path<(String, String)>) -> Result<Json<Used>, Failed> {
    Ok(Json(Used { left: send(&limiter, Use(session(path))).await? }))
}

async fn logout(limiter: Shared, Path(path): Path<(String, String)>) -> Result<(), Failed> {
    send(&limiter, Logout(session(path))).await
}

/// The sessions of a tenant, the first hundred of them, as of one instant.
async fn sessions(limiter: Shared, Path(name): Path<String>) -> Result<Json<Vec<Listed>>, Response> {
    let failed = |error: SnapshotError| (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response();
    let snapshot = limiter.snapshot().await.map_err(failed)?;
    let found = snapshot.read_entries::<Session>(Key::new(&name), .., 100).await.map_err(failed)?;
    let listed = |((_, session), Session { uses, .. })| Listed { session, uses };
    Ok(Json(found.into_iter().map(listed).collect()))
}

fn routes(limiter: Handle<Limiter>) -> Router {
    Router::new()
        .route("/login/{tenant}", post(login))
        .route("/use/{tenant}/{session}", post(use_once))
        .route("/logout/{tenant}/{session}", post(logout))
        .route("/sessions/{tenant}", get(sessions))
        .with_state(limiter)
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
    let routes = routes(runtime.handle());
    tokio.spawn(async move { axum::serve(listener, routes).await });
    std::io::stdin().read_to_end(&mut Vec::new())?;

    // First tokio, so that nobody asks any more. Then what was accepted runs to its end.
    tokio.shutdown_timeout(DEADLINE);
    println!("{}", runtime.shutdown());
    Ok(())
}
