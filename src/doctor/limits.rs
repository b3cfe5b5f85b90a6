//! Are the resource limits of this process high enough for its shards: locked memory and open
//! files.
//!
//! What one executor takes is stated in constants, measured with glommio-ng 0.12 on Linux 6.18. A
//! test starts an executor just below and just above the limits that do not depend on the kernel.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit};

use super::check::{Check, Verdict, plural};
use super::privileges::Privileges;

/// Holds this process's limits against what so many shards with so many bytes of I/O memory each
/// will take.
pub(super) fn examine(shards: usize, io_memory_bytes: usize, kernel: Option<(u32, u32)>) -> [Check; 2] {
    let memory = MemoryLock {
        limit: getrlimit(Resource::Memlock),
        unlimited: Privileges::of_this_thread().ipc_lock,
        kernel,
        shards,
        io_memory_bytes,
    };
    let descriptors = getrlimit(Resource::Nofile);
    let open = open_descriptors(descriptors.current);
    [judge_memory_lock(&memory), judge_descriptors(descriptors, open, shards)]
}

/// glommio refuses to build an executor below this soft limit, whatever the process's privileges.
const MEMORY_LOCK_BYTES_MIN: u64 = 512 * KIB;
/// What the three rings of one executor are charged: 48 KiB at glommio's default depth of 128
/// (measured), and slack.
const RINGS_BYTES_PER_SHARD: u64 = 64 * KIB;
/// glommio registers the same buffers with each of its three rings, and the kernel charges each
/// time (measured).
const RINGS_PER_SHARD: u64 = 3;
/// glommio takes no less.
pub(super) const IO_MEMORY_BYTES_MIN: usize = 64 * 1024;
const KIB: u64 = 1024;

/// Whether the kernel charges the rings themselves to the limit, as it always does registered
/// buffers. 5.12 stopped doing so (io_uring_mlock_size(3)); 6.14 was reported to do so again
/// (liburing issue 1408) and 6.18 does (measured). An unknown kernel is taken for a strict one.
fn charges_rings(kernel: Option<(u32, u32)>) -> bool {
    !kernel.is_some_and(|version| ((5, 12)..(6, 14)).contains(&version))
}

#[derive(Debug, Clone)]
struct MemoryLock {
    limit: Rlimit,
    /// The process has CAP_IPC_LOCK where it counts.
    unlimited: bool,
    kernel: Option<(u32, u32)>,
    shards: usize,
    io_memory_bytes: usize,
}

impl MemoryLock {
    /// What one shard's buffers are charged.
    fn buffers_bytes(&self) -> u64 {
        let bytes = self.io_memory_bytes.max(IO_MEMORY_BYTES_MIN) as u64;
        RINGS_PER_SHARD.saturating_mul(bytes.checked_next_multiple_of(4096).unwrap_or(bytes))
    }

    /// What all shards together take when nothing is refused.
    fn wanted_bytes(&self) -> u64 {
        let per_shard = self.buffers_bytes().saturating_add(RINGS_BYTES_PER_SHARD);
        per_shard.saturating_mul(self.shards as u64).max(MEMORY_LOCK_BYTES_MIN)
    }

    /// Whether every shard gets its rings, started one after the other. A shard that finds no room
    /// for its buffers goes on without registering them, but the buffers of one shard can take the
    /// room that a later one needs for its rings, and that one does not start.
    fn rings_fit(&self, limit: u64) -> bool {
        let with_buffers = self.buffers_bytes().saturating_add(RINGS_BYTES_PER_SHARD);
        let shards = self.shards as u64;
        let served = shards.min(limit / with_buffers);
        let rest = limit - served * with_buffers;
        shards - served <= rest / RINGS_BYTES_PER_SHARD
    }
}

fn judge_memory_lock(memory: &MemoryLock) -> Check {
    let Rlimit { current, maximum } = memory.limit;
    let wanted = memory.wanted_bytes();
    let demand = format!(
        "{} shard{} with {} of I/O memory each can use {}",
        memory.shards,
        plural(memory.shards),
        bytes(memory.io_memory_bytes.max(IO_MEMORY_BYTES_MIN) as u64),
        bytes(wanted)
    );
    let (verdict, found) = match current {
        None => (Verdict::Passed, format!("unlimited; {demand}")),
        Some(limit) if limit < MEMORY_LOCK_BYTES_MIN => (
            Verdict::Failed,
            format!(
                "{}, and glommio insists on 512 KiB at least, even of a privileged process",
                bytes(limit)
            ),
        ),
        Some(limit) if memory.unlimited => (
            Verdict::Passed,
            format!("{}, from which CAP_IPC_LOCK exempts this process; {demand}", bytes(limit)),
        ),
        Some(limit) if limit >= wanted => (Verdict::Passed, format!("{}; {demand}", bytes(limit))),
        Some(limit) if charges_rings(memory.kernel) && !memory.rings_fit(limit) => (
            Verdict::Failed,
            format!("{}, which is too little for the rings of all shards: {demand}", bytes(limit)),
        ),
        Some(limit) => (
            Verdict::Warned,
            format!(
                "{}: {demand}, so that some shards do their I/O without registered buffers",
                bytes(limit)
            ),
        ),
    };
    Check::new("memory lock limit", verdict, found)
        .because(
            "The kernel charges rings and the buffers registered with them to this limit (RLIMIT_MEMLOCK), \
             for all processes of a user together.",
        )
        .fixed_by(|| {
            let mut fix = limit_fix("memlock", "LimitMEMLOCK", "-1", "infinity", "unlimited");
            if maximum.is_none_or(|maximum| maximum >= wanted) {
                fix = format!("this shell: ulimit -S -l {}\n{fix}", wanted.div_ceil(KIB));
            }
            if current.is_some_and(|limit| limit >= MEMORY_LOCK_BYTES_MIN) {
                fix += "\nor: start fewer shards, or give each less I/O memory";
            }
            fix
        })
}

/// The lines that raise a resource limit, everywhere it can be raised.
pub(super) fn limit_fix(
    name: &str,
    systemd: &str,
    docker_value: &str,
    systemd_value: &str,
    limits_value: &str,
) -> String {
    format!(
        "Docker, Podman: docker run --ulimit {name}={docker_value}:{docker_value} IMAGE\n\
         Kubernetes: a pod cannot set it; on the node: systemctl edit containerd, add [Service] \
         {systemd}={systemd_value}, then systemctl restart containerd\n\
         systemd: systemctl edit SERVICE, add [Service] {systemd}={systemd_value}, then systemctl restart \
         SERVICE\n\
         logins: echo 'USER - {name} {limits_value}' >> /etc/security/limits.conf   # as root; then log in \
         again"
    )
}

/// An executor's three rings and its eventfd (measured), and the eventfd that Freehold wakes it by.
const DESCRIPTORS_PER_SHARD_MIN: u64 = 5;
/// With room for a shard's log files and for some sockets.
const DESCRIPTORS_PER_SHARD: u64 = 16;

fn judge_descriptors(limit: Rlimit, open: u64, shards: usize) -> Check {
    let needed = |per_shard: u64| per_shard.saturating_mul(shards as u64).saturating_add(open);
    let (min, wanted) = (needed(DESCRIPTORS_PER_SHARD_MIN), needed(DESCRIPTORS_PER_SHARD));
    let found = |limit: u64, shortage: &str| {
        format!("{limit} ({open} in use); {shards} shard{} need {min}{shortage}", plural(shards))
    };
    let (verdict, found) = match limit.current {
        None => (Verdict::Passed, format!("unlimited ({open} in use)")),
        Some(limit) if limit < min => (Verdict::Failed, found(limit, "")),
        Some(limit) if limit < wanted => (
            Verdict::Warned,
            found(limit, &format!(", and with files and sockets of their own about {wanted}")),
        ),
        Some(limit) => (Verdict::Passed, found(limit, "")),
    };
    Check::new("open file limit", verdict, found)
        .because("Rings, wake-ups, log files and sockets are file descriptors (RLIMIT_NOFILE).")
        .fixed_by(|| {
            let raised = wanted.checked_next_power_of_two().unwrap_or(wanted).max(65_536);
            let value = raised.to_string();
            let mut fix = limit_fix("nofile", "LimitNOFILE", &value, &value, &value);
            if limit.maximum.is_none_or(|maximum| maximum >= wanted) {
                let soft = limit.maximum.map_or(raised, |maximum| maximum.min(raised));
                fix = format!("this shell: ulimit -S -n {soft}\n{fix}");
            }
            fix
        })
}

/// How many descriptors this process has open below `limit`; 0 if `/proc` does not say. The kernel
/// holds the numbers of new descriptors against the limit: one inherited with a higher number takes
/// no room.
fn open_descriptors(limit: Option<u64>) -> u64 {
    let number = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<u64>().ok();
    let below = |number: &u64| limit.is_none_or(|limit| *number < limit);
    let listed = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    // One of them is the directory being read.
    listed.filter_map(number).filter(below).count().saturating_sub(1) as u64
}

/// A size in the unit `ulimit -l` uses, or a larger one that divides it.
fn bytes(bytes: u64) -> String {
    match bytes {
        _ if bytes < KIB => format!("{bytes} bytes"),
        _ if bytes >= KIB * KIB && bytes.is_multiple_of(KIB * KIB) => format!("{} MiB", bytes / (KIB * KIB)),
        _ => format!("{} KiB", bytes.div_ceil(KIB)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tests::{fix, verdict};
    use rustix::process::setrlimit;
    use std::time::{Duration, Instant};

    const MIB: u64 = 1024 * KIB;

    fn limit(bytes: u64) -> Rlimit {
        Rlimit { current: Some(bytes), maximum: Some(bytes) }
    }

    #[test]
    fn the_memory_lock_limit_is_held_against_what_the_kernel_charges() {
        let memory = |bytes: u64, shards: usize, io_memory_bytes: usize| MemoryLock {
            limit: limit(bytes),
            unlimited: false,
            kernel: Some((6, 18)),
            shards,
            io_memory_bytes,
        };
        let judge = |memory: MemoryLock| verdict(&judge_memory_lock(&memory));
        // 64 KiB of rings and three times 64 KiB of buffers each.
        assert_eq!(judge(memory(8 * MIB, 32, 0)), Verdict::Passed);
        assert_eq!(judge(memory(8 * MIB, 33, 0)), Verdict::Failed);
        // Measured without privileges on Linux 6.18: of 3 executors with 512 KiB, 2 started; of 12
        // with 8 MiB and 1 MiB of buffers each, all did, most of them without registered buffers.
        assert_eq!(judge(memory(512 * KIB, 3, 0)), Verdict::Failed);
        assert_eq!(judge(memory(8 * MIB, 12, MIB as usize)), Verdict::Warned);
        assert_eq!(judge(memory(512 * KIB - 1, 1, 0)), Verdict::Failed);
        assert_eq!(judge(memory(512 * KIB, 1, 0)), Verdict::Passed);
        assert_eq!(judge(memory(u64::MAX - 1, usize::MAX, usize::MAX)), Verdict::Failed);
        let privileged = |bytes| MemoryLock { unlimited: true, ..memory(bytes, 64, 0) };
        assert_eq!(judge(privileged(512 * KIB)), Verdict::Passed);
        assert_eq!(judge(privileged(64 * KIB)), Verdict::Failed, "glommio asks root too");
        let unlimited = Rlimit { current: None, maximum: None };
        assert_eq!(judge(MemoryLock { limit: unlimited, ..memory(0, 64, 0) }), Verdict::Passed);
        for (kernel, expected) in [
            (Some((5, 11)), Verdict::Failed),
            (Some((5, 12)), Verdict::Warned),
            (Some((6, 13)), Verdict::Warned),
            (Some((6, 14)), Verdict::Failed),
            (None, Verdict::Failed),
        ] {
            assert_eq!(judge(MemoryLock { kernel, ..memory(512 * KIB, 3, 0) }), expected, "{kernel:?}");
        }
    }

    #[test]
    fn a_shell_may_raise_its_limit_up_to_the_hard_one() {
        let memory = |maximum| MemoryLock {
            limit: Rlimit { current: Some(64 * KIB), maximum },
            unlimited: false,
            kernel: Some((6, 18)),
            shards: 4,
            io_memory_bytes: 0,
        };
        let fixed = |maximum| fix(&judge_memory_lock(&memory(maximum))).to_owned();
        assert!(fixed(Some(MIB)).contains("ulimit -S -l 1024"), "{}", fixed(Some(MIB)));
        assert!(fixed(None).contains("ulimit -S -l 1024"));
        assert!(!fixed(Some(MIB - 1)).contains("ulimit -S"));
        assert!(!fixed(None).contains("fewer shards"), "not even one shard can start");
        let crowded = MemoryLock { shards: 40, limit: limit(MIB), ..memory(None) };
        assert!(fix(&judge_memory_lock(&crowded)).contains("fewer shards"));
        for line in ["--ulimit memlock=-1:-1", "LimitMEMLOCK=infinity", "memlock unlimited"] {
            assert!(fixed(Some(0)).contains(line), "{line}");
        }
    }

    #[test]
    fn descriptors_are_counted_per_shard() {
        let judge = |limit: Rlimit, shards| judge_descriptors(limit, 10, shards);
        assert_eq!(verdict(&judge(limit(1024), 63)), Verdict::Passed);
        assert_eq!(verdict(&judge(limit(1024), 64)), Verdict::Warned);
        assert_eq!(verdict(&judge(limit(1024), 202)), Verdict::Warned);
        let short = judge(limit(1024), 203);
        assert_eq!(verdict(&short), Verdict::Failed);
        assert!(fix(&short).contains("LimitNOFILE=65536") && !fix(&short).contains("ulimit -S"));
        let raisable = judge(Rlimit { current: Some(1024), maximum: Some(4096) }, 203);
        assert!(fix(&raisable).contains("ulimit -S -n 4096"));
        assert_eq!(verdict(&judge(Rlimit { current: None, maximum: None }, 256)), Verdict::Passed);
        assert_eq!(verdict(&judge(limit(1024), usize::MAX)), Verdict::Failed);
    }

    #[test]
    fn sizes_are_written_in_the_largest_exact_unit() {
        let written = [0, 1023, 64 * KIB, 512 * KIB + 1, 8 * MIB, 1536 * KIB].map(bytes);
        assert_eq!(written, ["0 bytes", "1023 bytes", "64 KiB", "513 KiB", "8 MiB", "1536 KiB"]);
    }

    /// Limits belong to a process, so this test lowers them in one of its own: itself, started once
    /// more.
    #[test]
    fn lowered_limits_are_found() {
        const CHILD: &str = "FREEHOLD_DOCTOR_TEST_CHILD";
        if std::env::var_os(CHILD).is_none() {
            let name =
                format!("{}::lowered_limits_are_found", module_path!().split_once("::").expect("a module").1);
            let child = std::process::Command::new(std::env::current_exe().expect("this test is a program"))
                .args(["--exact", &name])
                .env(CHILD, "1")
                .output()
                .expect("this test can start itself");
            let output = String::from_utf8_lossy(&child.stdout);
            assert!(child.status.success() && output.contains("1 passed"), "{output}");
            return;
        }
        let examined = |name| {
            let check = examine(1, IO_MEMORY_BYTES_MIN, None).into_iter().find(|check| check.name == name);
            check.expect("every limit is examined")
        };
        let lower = |resource, soft| {
            let before = getrlimit(resource);
            setrlimit(resource, Rlimit { current: Some(soft), ..before }).expect("a limit may be lowered");
            before
        };
        // The executor itself is the witness that these are the limits it asks for.
        let executor = || glommio::LocalExecutorBuilder::default().io_memory(IO_MEMORY_BYTES_MIN).make();

        let idle = open_descriptors(None);
        // A gone executor's eventfd is closed by its blocking thread, a moment later.
        let wait_until_closed = || {
            let deadline = Instant::now() + Duration::from_secs(10);
            while open_descriptors(None) != idle {
                assert!(Instant::now() < deadline, "an executor leaves descriptors open");
                std::thread::sleep(Duration::from_millis(1));
            }
        };

        let before = lower(Resource::Memlock, MEMORY_LOCK_BYTES_MIN - 1);
        let check = examined("memory lock limit");
        assert_eq!(verdict(&check), Verdict::Failed, "{check}");
        assert!(executor().is_err(), "glommio accepts less memory than the doctor");
        wait_until_closed();
        lower(Resource::Memlock, MEMORY_LOCK_BYTES_MIN);
        let check = examined("memory lock limit");
        assert_eq!(verdict(&check), Verdict::Passed, "{check}");
        let running = executor().expect("glommio starts with what the doctor accepts");
        let taken = open_descriptors(None) - idle;
        assert_eq!(taken, DESCRIPTORS_PER_SHARD_MIN - 1, "Freehold's own eventfd is the last one");
        drop(running);
        wait_until_closed();
        setrlimit(Resource::Memlock, before).expect("a limit may be raised again");

        let free = |limit: &u64| limit - open_descriptors(Some(*limit));
        let short =
            (idle..).find(|limit| free(limit) == taken - 1).expect("descriptors are numbered densely");
        lower(Resource::Nofile, short);
        let check = examined("open file limit");
        assert_eq!(verdict(&check), Verdict::Failed, "{check}");
        assert!(executor().is_err(), "glommio makes do with fewer descriptors than the doctor");
    }
}
