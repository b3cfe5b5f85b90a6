//! What `survive` is told on its command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Kills a process that makes payments, again and again, and checks that everything it acknowledged
/// is there.
#[derive(Parser)]
pub struct Arguments {
    #[command(subcommand)]
    pub role: Option<Role>,

    /// How often it is killed
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub kills: u64,

    /// Seed of the payments, and of when it is killed (what happens until then is the machine's
    /// affair)
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,

    /// Between how many accounts payments are made
    #[arg(long, value_name = "M", default_value_t = 400, value_parser = clap::value_parser!(u64).range(2..))]
    pub accounts: u64,

    /// The most shards: each life has another number of them
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=256))]
    pub shards_max: u64,

    /// The longest it pays before it is killed, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub load_ms: u64,

    /// When payments are acknowledged: when they are on disk, or when they are applied, and then
    /// the last may be lost
    #[arg(long, value_enum, default_value_t = ToldAck::Durable)]
    pub ack: ToldAck,

    /// Where the log is; a directory that is empty or missing [default: one that is removed in the
    /// end, if all is well]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// For the test of this test: acknowledge what is only applied, and call it durable
    #[arg(long, hide = true)]
    pub pretend: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ToldAck {
    Durable,
    Applied,
}

#[derive(Subcommand)]
pub enum Role {
    /// The process that is killed
    #[command(hide = true)]
    Child(Child),
}

#[derive(clap::Args)]
pub struct Child {
    #[arg(long)]
    pub data: PathBuf,
    #[arg(long)]
    pub shards: usize,
    /// Which child of its parent it is.
    #[arg(long)]
    pub life: u64,
    /// Payments below were checked.
    #[arg(long)]
    pub checked: u64,
    #[arg(long)]
    pub seed: u64,
    #[arg(long)]
    pub accounts: u64,
    #[arg(long, value_enum)]
    pub ack: ToldAck,
    #[arg(long)]
    pub pretend: bool,
    /// It is to say what it finds, and stop.
    #[arg(long)]
    pub stops: bool,
}
