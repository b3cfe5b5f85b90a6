//! Does the kernel have io_uring, may this process use it, and does it know every operation the
//! executors submit.
//!
//! The conclusions from settings (release, `kernel.io_uring_disabled`) only explain; whether rings
//! can be made is tried, with the same two kinds of ring and the same three system calls that an
//! executor uses.

use std::fs;

use io_uring::opcode;
use rustix::io::Errno;

use super::check::{Check, Verdict};
use super::limits::limit_fix;
use super::privileges::Privileges;

/// All that was found out about rings on this machine.
#[derive(Debug)]
pub(super) struct Rings {
    release: String,
    switch: Switch,
    ring: Ring,
    seccomp_filter: bool,
}

impl Rings {
    /// Reads the settings and tries to make rings, which are gone again on return.
    pub(super) fn tried() -> Rings {
        let ring = try_ring();
        let group = read_number("/proc/sys/kernel/io_uring_group");
        let switch = Switch {
            disabled: read_number("/proc/sys/kernel/io_uring_disabled"),
            group,
            exempt: Privileges::of_this_thread().sys_admin || in_group(group),
            ring_works: matches!(ring, Ring::Works { .. }),
        };
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        Rings { release: release(), switch, ring, seccomp_filter: has_seccomp_filter(&status) }
    }

    /// The running kernel's version, if its release names one.
    pub(super) fn kernel(&self) -> Option<(u32, u32)> {
        kernel_version(&self.release)
    }

    /// What the machine says of itself.
    pub(super) fn settings(&self) -> [Check; 2] {
        [judge_kernel(&self.release), judge_switch(&self.switch)]
    }

    /// What came of the attempts. Operations are asked of a ring, so without one there is nothing
    /// to say of them.
    pub(super) fn attempts(&self) -> Vec<Check> {
        let mut checks = vec![judge_ring(
            &self.ring,
            Confined { by_switch: self.switch.forbids(), by_filter: self.seccomp_filter },
        )];
        if let Ring::Works { missing } = &self.ring {
            checks.push(judge_operations(missing));
        }
        checks
    }
}

/// What glommio's README asks for. Its operations came with 5.6, which nobody tests any more.
const KERNEL_MIN: (u32, u32) = (5, 8);

/// The kernel's release. By a file: a filter may refuse `uname`, and then `rustix` panics.
fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_string()
}

/// The first two numbers of a kernel release such as `6.18.44-generic`.
fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn judge_kernel(release: &str) -> Check {
    let (verdict, found) = match kernel_version(release) {
        Some(version) if version >= KERNEL_MIN => (Verdict::Passed, format!("Linux {release}")),
        Some(_) => (Verdict::Failed, format!("Linux {release}, which is older than 5.8")),
        None => (Verdict::Warned, format!("a kernel that calls itself {release:?}, which names no version")),
    };
    Check::new("kernel release", verdict, found)
        .because("glommio, which runs every shard, needs an io_uring of Linux 5.8 or newer.")
        .fixed_by(|| {
            "host: install Linux 5.8 or newer and reboot (Debian 11, Ubuntu 22.04, RHEL 9 and later come \
             with one)\n\
             container: it runs on its host's kernel; update the host, or run it on another\n\
             check: uname -r"
                .into()
        })
}

/// The system-wide switch, which Linux has since 6.6 (and some distributions before).
#[derive(Debug, Clone, Copy)]
struct Switch {
    /// 0: everybody may make rings; 1: only `group` and CAP_SYS_ADMIN; 2: nobody. `None` if the
    /// kernel has no switch.
    disabled: Option<i64>,
    /// -1 for no group.
    group: Option<i64>,
    /// This thread is one of those to whom 1 does not apply.
    exempt: bool,
    /// A ring was made in fact, which overrules every conclusion from settings.
    ring_works: bool,
}

impl Switch {
    fn forbids(&self) -> bool {
        !self.ring_works
            && match self.disabled {
                None | Some(..=0) => false,
                Some(1) => !self.exempt,
                Some(2..) => true,
            }
    }
}

fn judge_switch(switch: &Switch) -> Check {
    let verdict = if switch.forbids() { Verdict::Failed } else { Verdict::Passed };
    let found = match (switch.disabled, switch.forbids()) {
        (None, _) => "this kernel has no such switch".into(),
        (Some(value), false) if value >= 1 => format!("{value}, which does not apply to this process"),
        (Some(value), false) => format!("{value}: every process may use io_uring"),
        (Some(1), true) => format!(
            "1: only CAP_SYS_ADMIN and members of kernel.io_uring_group ({}) may use io_uring, and this \
             process is neither",
            switch.group.unwrap_or(-1)
        ),
        (Some(value), true) => format!("{value}: no process may use io_uring"),
    };
    let restricted = switch.disabled == Some(1);
    Check::new("kernel.io_uring_disabled", verdict, found)
        .because("It switches io_uring off for the whole machine; every shard is an io_uring executor.")
        .fixed_by(|| if restricted { switch_fix() + GROUP_FIX } else { switch_fix() })
}

fn switch_fix() -> String {
    "host: sysctl -w kernel.io_uring_disabled=0   # as root\n\
     host, for good: echo 'kernel.io_uring_disabled = 0' > /etc/sysctl.d/60-io-uring.conf\n\
     container, Kubernetes: the switch belongs to the host; run the lines above there"
        .into()
}

/// Where the switch lets a group through.
const GROUP_FIX: &str =
    "\ngroup only: sysctl -w kernel.io_uring_group=$(id -g USER)   # as root; then run as USER";

/// Whether this thread is in the group; -1 is no group.
fn in_group(group: Option<i64>) -> bool {
    let Some(group) = group.and_then(|group| u32::try_from(group).ok()) else { return false };
    let groups = rustix::process::getgroups().unwrap_or_default();
    groups.into_iter().chain([rustix::process::getegid()]).any(|gid| gid.as_raw() == group)
}

fn read_number(path: &str) -> Option<i64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The operations without which glommio refuses to build an executor (its `GLOMMIO_URING_OPS`).
const OPERATIONS: [(&str, u8); 24] = [
    ("NOP", opcode::Nop::CODE),
    ("READV", opcode::Readv::CODE),
    ("WRITEV", opcode::Writev::CODE),
    ("FSYNC", opcode::Fsync::CODE),
    ("READ_FIXED", opcode::ReadFixed::CODE),
    ("WRITE_FIXED", opcode::WriteFixed::CODE),
    ("POLL_ADD", opcode::PollAdd::CODE),
    ("POLL_REMOVE", opcode::PollRemove::CODE),
    ("SENDMSG", opcode::SendMsg::CODE),
    ("RECVMSG", opcode::RecvMsg::CODE),
    ("TIMEOUT", opcode::Timeout::CODE),
    ("TIMEOUT_REMOVE", opcode::TimeoutRemove::CODE),
    ("ACCEPT", opcode::Accept::CODE),
    ("LINK_TIMEOUT", opcode::LinkTimeout::CODE),
    ("CONNECT", opcode::Connect::CODE),
    ("FALLOCATE", opcode::Fallocate::CODE),
    ("OPENAT", opcode::OpenAt::CODE),
    ("CLOSE", opcode::Close::CODE),
    ("STATX", opcode::Statx::CODE),
    ("READ", opcode::Read::CODE),
    ("WRITE", opcode::Write::CODE),
    ("SEND", opcode::Send::CODE),
    ("RECV", opcode::Recv::CODE),
    ("ASYNC_CANCEL", opcode::AsyncCancel::CODE),
];

/// What came of trying io_uring.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ring {
    /// The system call that was refused, and how.
    Refused { call: &'static str, errno: Errno },
    /// All three system calls work.
    Works { missing: Vec<&'static str> },
}

/// Makes the two kinds of rings that glommio makes, and uses each of io_uring's three system calls:
/// a filter may refuse any of them by itself.
fn try_ring() -> Ring {
    let refused = |call| {
        move |error: std::io::Error| Ring::Refused {
            call,
            errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
        }
    };
    let attempt = || -> Result<Vec<&'static str>, Ring> {
        let ring = io_uring::IoUring::new(8).map_err(refused("io_uring_setup"))?;
        let mut polled = io_uring::IoUring::<io_uring::squeue::Entry, io_uring::cqueue::Entry>::builder();
        polled.setup_iopoll();
        polled.build(8).map_err(refused("io_uring_setup (IORING_SETUP_IOPOLL)"))?;
        let mut probe = io_uring::Probe::new();
        ring.submitter().register_probe(&mut probe).map_err(refused("io_uring_register"))?;
        ring.submitter().submit().map_err(refused("io_uring_enter"))?;
        Ok(OPERATIONS.iter().filter(|(_, code)| !probe.is_supported(*code)).map(|(name, _)| *name).collect())
    };
    attempt().map_or_else(|refused| refused, |missing| Ring::Works { missing })
}

/// Whether a seccomp filter is on this thread, by `/proc/thread-self/status`.
fn has_seccomp_filter(status: &str) -> bool {
    status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"))
}

/// What confines this process, and may be why a ring is refused.
#[derive(Clone, Copy, Debug)]
struct Confined {
    /// `kernel.io_uring_disabled` applies to it.
    by_switch: bool,
    /// A seccomp filter is in force.
    by_filter: bool,
}

fn judge_ring(ring: &Ring, confined: Confined) -> Check {
    let (verdict, found, fix) = match ring {
        Ring::Works { .. } => (Verdict::Passed, "rings can be made, set up and used".into(), String::new()),
        Ring::Refused { call, errno } => {
            let (cause, fix) = refusal(*errno, confined);
            (Verdict::Failed, format!("{call} was refused: {errno}. {cause}"), fix)
        }
    };
    Check::new("io_uring", verdict, found)
        .because("Every shard is an io_uring executor: messages, timers and files all go through its rings.")
        .fixed_by(|| fix)
}

/// The likely cause of a refused ring, without a full stop, and what to do about it.
fn refusal(errno: Errno, confined: Confined) -> (&'static str, String) {
    match errno {
        Errno::PERM if confined.by_switch => {
            ("The cause is kernel.io_uring_disabled, see there", switch_fix())
        }
        Errno::PERM if confined.by_filter => (
            "A seccomp filter is in force, and the default profiles of Docker (25 and later) and containerd \
             (2 and later) forbid io_uring",
            seccomp_fix(),
        ),
        Errno::PERM | Errno::ACCESS => (
            "The cause is likely a security module such as SELinux, AppArmor or a BPF program",
            "SELinux: ausearch -m avc -ts recent   # as root; names the domain that needs io_uring allowed\n\
             AppArmor: journalctl -k | grep -i apparmor   # then allow `io_uring,` in the named profile\n\
             container: docker run --security-opt label=disable --security-opt apparmor=unconfined IMAGE"
                .into(),
        ),
        Errno::NOSYS if confined.by_filter => (
            "Either the seccomp filter in force answers so, or this kernel was built without io_uring",
            format!("{}\n{}", seccomp_fix(), no_io_uring_fix()),
        ),
        Errno::NOSYS => (
            "This kernel was built without io_uring, or it is a sandbox that imitates one, such as gVisor",
            no_io_uring_fix(),
        ),
        Errno::NOMEM => (
            "The memory lock limit is used up, perhaps by other processes of this user, or the memory of \
             this control group is",
            limit_fix("memlock", "LimitMEMLOCK", "-1", "infinity", "unlimited"),
        ),
        Errno::MFILE | Errno::NFILE => {
            ("All file descriptors are in use", limit_fix("nofile", "LimitNOFILE", "65536", "65536", "65536"))
        }
        _ => (
            "This is none of the usual causes",
            "see which call fails: strace -f -e trace=io_uring_setup,io_uring_register,io_uring_enter \
             PROGRAM"
                .into(),
        ),
    }
}

fn seccomp_fix() -> String {
    "Docker, Podman: docker run --security-opt seccomp=unconfined IMAGE   # lifts the whole filter\n\
     Docker, filter kept: docker run --security-opt seccomp=PROFILE.json IMAGE   # the default profile with \
     io_uring_setup, io_uring_enter, io_uring_register added to its SCMP_ACT_ALLOW names\n\
     Kubernetes: securityContext: {seccompProfile: {type: Unconfined}}   # or {type: Localhost, \
     localhostProfile: PROFILE.json}\n\
     systemd: where SERVICE has a SystemCallFilter=, systemctl edit SERVICE, add [Service] \
     SystemCallFilter=io_uring_setup io_uring_enter io_uring_register"
        .into()
}

fn no_io_uring_fix() -> String {
    "host: boot a kernel with CONFIG_IO_URING=y; check: grep IO_URING /boot/config-$(uname -r)\n\
     gVisor: docker run --runtime=runc IMAGE"
        .into()
}

fn judge_operations(missing: &[&str]) -> Check {
    let (verdict, found) = if missing.is_empty() {
        (Verdict::Passed, format!("all {} that glommio needs", OPERATIONS.len()))
    } else {
        (Verdict::Failed, format!("missing IORING_OP_{}", missing.join(", IORING_OP_")))
    };
    Check::new("ring operations", verdict, found)
        .because("glommio refuses to build an executor when the kernel lacks an operation it may use.")
        .fixed_by(|| "host: install Linux 5.8 or newer and reboot; check: uname -r".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tests::{fix, verdict};

    #[test]
    fn kernels_before_5_8_fail() {
        for release in ["5.8.0", "5.10.0-23-amd64", "6.18.44-fc", "10.0", "5.8-rc1"] {
            assert_eq!(verdict(&judge_kernel(release)), Verdict::Passed, "{release}");
        }
        for release in ["5.7.19", "4.18.0-553.el8.x86_64", "4.4.0", "2.6"] {
            let check = judge_kernel(release);
            assert_eq!(verdict(&check), Verdict::Failed, "{release}");
            assert!(check.found.contains(release));
        }
        for release in ["", "six.one", "6", "6-rc1x"] {
            assert_ne!(verdict(&judge_kernel(release)), Verdict::Passed, "{release}");
        }
    }

    #[test]
    fn the_switch_fails_whom_it_applies_to() {
        let judge = |disabled, exempt, ring_works| {
            judge_switch(&Switch { disabled, group: Some(-1), exempt, ring_works })
        };
        for passing in [
            (None, false, false),
            (Some(0), false, false),
            (Some(1), true, false),
            (Some(1), false, true),
            (Some(2), true, true),
        ] {
            let (disabled, exempt, ring_works) = passing;
            assert_eq!(verdict(&judge(disabled, exempt, ring_works)), Verdict::Passed, "{passing:?}");
        }
        let restricted = judge(Some(1), false, false);
        assert_eq!(verdict(&restricted), Verdict::Failed);
        assert!(fix(&restricted).contains("kernel.io_uring_group="));
        let off = judge(Some(2), true, false);
        assert_eq!(verdict(&off), Verdict::Failed);
        assert!(fix(&off).contains("sysctl -w kernel.io_uring_disabled=0"));
        assert!(!fix(&off).contains("group"), "no group is let through by 2");
    }

    #[test]
    fn no_group_has_no_members() {
        assert!(!in_group(None));
        assert!(!in_group(Some(-1)));
        assert!(in_group(Some(i64::from(rustix::process::getegid().as_raw()))));
    }

    #[test]
    fn a_refused_ring_names_its_cause() {
        let judge = |errno, by_switch, by_filter| {
            let ring = Ring::Refused { call: "io_uring_setup", errno };
            let check = judge_ring(&ring, Confined { by_switch, by_filter });
            assert_eq!(verdict(&check), Verdict::Failed);
            assert!(check.found.contains("io_uring_setup was refused"));
            check
        };
        assert!(fix(&judge(Errno::PERM, true, true)).contains("kernel.io_uring_disabled=0"));
        let filtered = judge(Errno::PERM, false, true);
        for line in ["--security-opt seccomp=", "seccompProfile", "SystemCallFilter="] {
            assert!(fix(&filtered).contains(line), "{line}");
        }
        assert!(fix(&judge(Errno::PERM, false, false)).contains("SELinux"));
        assert!(fix(&judge(Errno::ACCESS, false, true)).contains("AppArmor"));
        let absent = judge(Errno::NOSYS, false, false);
        assert!(fix(&absent).contains("CONFIG_IO_URING=y") && !fix(&absent).contains("seccomp"));
        let either = judge(Errno::NOSYS, false, true);
        assert!(fix(&either).contains("CONFIG_IO_URING=y") && fix(&either).contains("seccomp"));
        assert!(fix(&judge(Errno::NOMEM, false, false)).contains("memlock"));
        assert!(fix(&judge(Errno::MFILE, false, false)).contains("nofile"));
        assert!(fix(&judge(Errno::INVAL, false, false)).contains("strace"));
        assert_eq!(
            verdict(&judge_ring(
                &Ring::Works { missing: vec![] },
                Confined { by_switch: false, by_filter: true }
            )),
            Verdict::Passed
        );
    }

    #[test]
    fn a_seccomp_filter_is_seen_in_status() {
        assert!(has_seccomp_filter("NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n"));
        assert!(!has_seccomp_filter("Seccomp:\t0\nSeccomp_filters:\t2\n"));
        assert!(!has_seccomp_filter(""));
    }

    #[test]
    fn missing_operations_are_named() {
        assert_eq!(verdict(&judge_operations(&[])), Verdict::Passed);
        let check = judge_operations(&["STATX", "SEND"]);
        assert_eq!(verdict(&check), Verdict::Failed);
        assert!(check.found.contains("IORING_OP_STATX, IORING_OP_SEND"));
    }
}
