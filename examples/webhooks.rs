//! A shop that tells a web service of every order, by actions through `reqwest` on tokio.
//!
//! `webhooks DIRECTORY [ORDERS]` opens the shop in that directory, places so many orders, and waits
//! until the service has heard of all orders that there are. Kill it and start it again: what it
//! owes is told then, under the same idempotency key.
//!
//! The service is a part of this program, so that it runs without a network. It refuses every third
//! request, and what was refused is tried again later by the shop.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use freehold::{
    AccessError, Action, ActionOf, Config, Embedding, LogConfig, Objects, Receive, Runtime, Shards, To,
};
use reqwest::Client;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

freehold::actor! {
    /// The shop.
    actor Shop {
        id: Id, state: State, message: Message, reply: Reply, error: AccessError<Id>,
        kinds { Order(number: u64) }
        messages { Place -> (), Notify -> (), Notified -> (), Retry -> () }
    }
}

/// An order, and how the service came to hear of it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Order {
    cents: u64,
    /// How often the service was to be told.
    told: u32,
    /// How many answers there were.
    answers: u32,
    is_known: bool,
}

/// Places an order.
#[derive(Serialize, Deserialize)]
struct Place {
    order: u64,
    cents: u64,
}

/// The action: tells the service of an order.
#[derive(Serialize, Deserialize)]
struct Notify {
    order: u64,
    cents: u64,
}

/// The outcome: the service has answered so, or not at all.
#[derive(Serialize, Deserialize)]
struct Notified {
    order: u64,
    status: Option<u16>,
}

/// Tells the service once more.
#[derive(Serialize, Deserialize)]
struct Retry {
    order: u64,
}

impl ActionOf<Shop> for Notify {}

impl Receive<Shop> for Place {
    fn addressees(&self, to: &mut To<'_, Shop>) {
        to.write::<Order>(self.order);
    }

    fn receive(&self, objects: &mut Objects<'_, Shop>) -> Result<(), AccessError<Id>> {
        let Place { order, cents } = *self;
        if objects.read::<Order>(order)?.is_none() {
            objects.put(order, Order { cents, told: 1, ..Order::default() })?;
            // Handed over when this message is on disk. If too many are owed, this is an error, and
            // there is no order either.
            objects.perform(Notify { order, cents })?;
        }
        Ok(())
    }
}

impl Receive<Shop> for Notified {
    fn addressees(&self, to: &mut To<'_, Shop>) {
        to.write::<Order>(self.order);
    }

    // It takes effect once for each action, whatever crashes between.
    fn receive(&self, objects: &mut Objects<'_, Shop>) -> Result<(), AccessError<Id>> {
        let Some(order) = objects.write::<Order>(self.order)? else { return Ok(()) };
        order.answers += 1;
        order.is_known = self.status == Some(200);
        if !order.is_known {
            objects.send_after(Duration::from_millis(20), Retry { order: self.order })?;
        }
        Ok(())
    }
}

impl Receive<Shop> for Retry {
    fn addressees(&self, to: &mut To<'_, Shop>) {
        to.write::<Order>(self.order);
    }

    fn receive(&self, objects: &mut Objects<'_, Shop>) -> Result<(), AccessError<Id>> {
        if let Some(order) = objects.write::<Order>(self.order)? {
            order.told += 1;
            let cents = order.cents;
            objects.perform(Notify { order: self.order, cents })?;
        }
        Ok(())
    }
}

/// Performs an action: calls the service, and says what it answered.
async fn notify(client: Client, service: SocketAddr, action: Action<Shop>) {
    let Message::Notify(Notify { order, cents }) = *action.message() else {
        unreachable!("it is the only action")
    };
    let request = client.post(format!("http://{service}/orders/{order}?cents={cents}"));
    let request = request.header("Idempotency-Key", action.id().number());
    // An error of the network is an outcome like any other.
    let status = request.send().await.ok().map(|answer| answer.status().as_u16());
    action.done(Notified { order, status });
}

/// The service: answers every request, and refuses every third. Counts those that it answers.
async fn serve(listener: TcpListener, requests: Arc<AtomicU64>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let nth = requests.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let mut request = [0; 1024];
            let mut read = 0;
            while !request[..read].ends_with(b"\r\n\r\n") {
                match stream.read(&mut request[read..]).await {
                    Ok(bytes) if bytes > 0 => read += bytes,
                    _ => return,
                }
            }
            let status = if nth.is_multiple_of(3) { "503 Busy" } else { "200 OK" };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        });
    }
}

/// How many orders there are, how many the service knows, and how many answers there were.
fn count(runtime: &Runtime<Shop>) -> Result<[u64; 3], Box<dyn std::error::Error>> {
    let snapshot = runtime.handle().snapshot().wait()?;
    let add = |sums: &mut [u64; 4], _: u64, order: &Order| {
        let of = [1, order.is_known.into(), order.answers.into(), (order.answers > order.told).into()];
        *sums = std::array::from_fn(|at| sums[at] + of[at]);
    };
    let merge = |one: [u64; 4], other: [u64; 4]| std::array::from_fn(|at| one[at] + other[at]);
    let [orders, known, answers, twice] = snapshot.fold_kind(Default::default, add, merge).wait()?;
    if twice > 0 {
        Err(format!("{twice} orders have more answers than requests").into())
    } else {
        Ok([orders, known, answers])
    }
}

fn run(directory: &Path, orders: u64) -> Result<(), Box<dyn std::error::Error>> {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let listener = tokio.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let (service, requests) = (listener.local_addr()?, Arc::new(AtomicU64::new(0)));
    tokio.spawn(serve(listener, requests.clone()));

    // Each action is a task on tokio; a shard has 32 of them under way.
    let spawner = tokio.handle().clone();
    let client = Client::new();
    let perform = move |action| drop(spawner.spawn(notify(client.clone(), service, action)));
    let embedding = Embedding::new().perform_with(perform);
    let config = Config { shards: Shards::Count(2), actions_max: 32, ..Config::default() };
    let runtime = Runtime::<Shop>::open_with(config, LogConfig::at(directory), embedding)?;
    let [found, known, _] = count(&runtime)?;
    println!("found: {found} orders, and the service knows {known}");

    let shop = runtime.handle();
    // Each run has numbers of its own: of an earlier one that was killed some may be there.
    let first = u64::from(std::process::id()) << 32;
    let placed = (0..orders).map(|order| Place { order: first + order, cents: 100 + order });
    shop.call_all(placed).wait().into_iter().collect::<Result<Vec<_>, _>>()?;
    println!("placed: {orders}");
    let (orders, answers) = loop {
        let [orders, known, answers] = count(&runtime)?;
        if known == orders {
            break (orders, answers);
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    println!("the service knows all {orders} orders, by {answers} answers");
    println!("requests of this run: {}", requests.load(Ordering::Relaxed));
    println!("{}", runtime.shutdown());
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let Some(directory) = arguments.next() else {
        return Err("give it a directory for its log: webhooks DIRECTORY [ORDERS]".into());
    };
    let orders = arguments.next().map_or(Ok(1000), |orders| orders.parse())?;
    run(Path::new(&directory), orders)
}
