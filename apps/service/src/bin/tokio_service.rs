//! A small web service on tokio that keeps its counters in a Freehold runtime.
//!
//! ```text
//! cargo run --release -p service --bin tokio_service -- --listen 127.0.0.1:8080
//! curl -X POST 127.0.0.1:8080/counters/7/add/5        {"id":7,"count":5}
//! curl 127.0.0.1:8080/counters/7                      {"id":7,"count":5}
//! curl 127.0.0.1:8080/stats                           {"objects":1,"messages":2,...}
//! ```
//! The two live side by side: tokio's threads do HTTP, the shards own the counters, and a handler
//! reaches them by `handle.ask(..).await` as it would await anything else. A client that goes away
//! drops its handler, and with it the future of the ask: the message runs all the same.
//!
//! What came of a message becomes a status: refused by the actor 404 or 409, overloaded or stopping
//! 503 (the message never ran, so a client may try again), a panic 500. Ctrl-C or SIGTERM stops it:
//! requests under way are answered, then the runtime drains.

use std::error::Error;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::pin::pin;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use clap::Parser;
use freehold::{AccessError, Actor, Addressees, AskError, Config, Handle, Objects, Runtime, Shards};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Counters by number.
struct Counters;

enum Message {
    Get { id: u64 },
    Add { id: u64, amount: i64 },
}

#[derive(Debug, thiserror::Error)]
enum CounterError {
    #[error("there is no counter {0}: add to it first")]
    Absent(u64),
    #[error("counter {id} is {count}: adding {amount} would overflow it")]
    Overflow { id: u64, count: i64, amount: i64 },
    #[error(transparent)]
    Access(#[from] AccessError<u64>),
}

impl Actor for Counters {
    type Id = u64;
    type State = i64;
    type Message = Message;
    type Reply = Counter;
    type Error = CounterError;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        match *message {
            Message::Get { id } => to.read(id),
            Message::Add { id, .. } => to.write(id),
        }
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<Counter, CounterError> {
        match *message {
            Message::Get { id } => {
                let count = *objects.get(id)?.ok_or(CounterError::Absent(id))?;
                Ok(Counter { id, count })
            }
            Message::Add { id, amount } => {
                let count = objects.get_or_insert_with(id, || 0)?;
                // Had the counter just been made, the error would unmake it.
                *count =
                    count.checked_add(amount).ok_or(CounterError::Overflow { id, count: *count, amount })?;
                Ok(Counter { id, count: *count })
            }
        }
    }
}

/// One counter, as it is answered.
#[derive(Serialize)]
struct Counter {
    id: u64,
    count: i64,
}

/// What the runtime has done, as it is answered.
#[derive(Serialize)]
struct Totals {
    objects: u64,
    messages: u64,
    overloaded: u64,
    latency_p50_us: f64,
    latency_p99_us: f64,
    messages_by_shard: Vec<u64>,
}

/// Why there is no counter to answer with.
struct Refusal(AskError<CounterError>);

impl From<AskError<CounterError>> for Refusal {
    fn from(error: AskError<CounterError>) -> Self {
        Refusal(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Refusal(error) = self;
        let status = match &error {
            AskError::Aborted(CounterError::Absent(_)) => StatusCode::NOT_FOUND,
            AskError::Aborted(_) => StatusCode::CONFLICT,
            AskError::Overloaded | AskError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
            // A bug here, or a runtime that died and cannot say whether the message was applied.
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let sentence = format!("{error}\n");
        if status == StatusCode::SERVICE_UNAVAILABLE {
            return (status, [(RETRY_AFTER, "1")], sentence).into_response();
        }
        (status, sentence).into_response()
    }
}

async fn add(
    State(counters): State<Handle<Counters>>,
    Path((id, amount)): Path<(u64, i64)>,
) -> Result<Json<Counter>, Refusal> {
    Ok(Json(counters.ask(Message::Add { id, amount }).await?))
}

async fn read(
    State(counters): State<Handle<Counters>>,
    Path(id): Path<u64>,
) -> Result<Json<Counter>, Refusal> {
    Ok(Json(counters.ask(Message::Get { id }).await?))
}

async fn totals(State(counters): State<Handle<Counters>>) -> Json<Totals> {
    let stats = counters.stats();
    Json(Totals {
        objects: stats.objects(),
        messages: stats.handled(),
        overloaded: stats.shards.iter().map(|shard| shard.overloaded).sum(),
        latency_p50_us: stats.latency.p50.as_secs_f64() * 1e6,
        latency_p99_us: stats.latency.p99.as_secs_f64() * 1e6,
        messages_by_shard: stats.shards.iter().map(|shard| shard.counters.handled()).collect(),
    })
}

/// Serves counters over HTTP.
#[derive(Parser)]
struct Arguments {
    /// Where to listen; port 0 takes a free one, which is printed.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,

    /// Number of shards. One answers millions of messages a second, far more than HTTP brings, so
    /// the other cores are left to tokio.
    #[arg(long, value_name = "N", default_value = "1")]
    shards: NonZeroUsize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { listen, shards } = Arguments::parse();
    let runtime =
        Runtime::<Counters>::start(Config { shards: Shards::Count(shards.get()), ..Config::default() })?;

    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    tokio.block_on(serve(listen, runtime.handle()))?;
    drop(tokio);

    // Last, and not on a thread of tokio's: it blocks until everything that was accepted has run.
    println!("stopped: {}", runtime.shutdown());
    Ok(())
}

/// Serves until it is told to stop.
async fn serve(listen: SocketAddr, counters: Handle<Counters>) -> std::io::Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let told_to_stop = async move {
        futures::future::select(pin!(interrupt.recv()), pin!(terminate.recv())).await;
    };
    let routes = Router::new()
        .route("/counters/{id}", get(read))
        .route("/counters/{id}/add/{amount}", post(add))
        .route("/stats", get(totals))
        .with_state(counters);
    let listener = TcpListener::bind(listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, routes).with_graceful_shutdown(told_to_stop).await
}
