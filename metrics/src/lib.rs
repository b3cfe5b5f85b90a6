//! Metrics of a Freehold runtime for Prometheus.
//!
//! A program that has no metrics of its own serves the pages `/metrics`, `/healthz` and `/readyz`:
//!
//! ```
//! # use freehold::{AccessError, Actor, Addressees, Config, Objects, Runtime, Shards};
//! # struct Counter;
//! # impl Actor for Counter {
//! #     type Id = u64; type State = u64; type Message = u64; type Reply = u64; type Error = AccessError<u64>;
//! #     fn addressees(counter: &u64, to: &mut Addressees<u64>) { to.write(*counter); }
//! #     fn receive(counter: &u64, objects: &mut Objects<'_, Self>) -> Result<u64, AccessError<u64>> {
//! #         let count = objects.get_or_insert_with(*counter, || 0)?;
//! #         *count += 1;
//! #         Ok(*count)
//! #     }
//! # }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let config = Config { shards: Shards::Count(1), ..Config::default() };
//! let runtime = Runtime::<Counter>::start(config)?;
//! let server = freehold_metrics::serve(runtime.handle(), "127.0.0.1:0")?;
//! println!("http://{}/metrics", server.addr());
//! # Ok(())
//! # }
//! ```
//!
//! One with a server of its own, on tokio or on the shards, answers there with a [`Page`].
//!
//! A program that has a `prometheus-client` registry registers a [`StatsCollector`] there, best
//! below the prefix `freehold`: `registry.sub_registry_with_prefix("freehold")`.
//!
//! With the feature `facade`, `record` gives all numbers to the recorder that the program has
//! behind the crate `metrics`.
//!
//! `docs/METRICS.md` says what each number means, and what to do when it is high.

mod collector;
#[cfg(feature = "facade")]
mod facade;
mod server;
mod text;
mod traces;

pub use collector::StatsCollector;
#[cfg(feature = "facade")]
pub use facade::{record, record_visited};
pub use server::{Page, Server, serve};
pub use text::text;
pub use traces::{TraceExporter, slow_json};
