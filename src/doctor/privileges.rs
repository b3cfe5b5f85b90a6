//! What this thread may do that others may not, as far as io_uring asks for it.

use std::fs;
use std::path::Path;

use rustix::thread::CapabilitySet;

/// The capabilities that lift a check, as far as the kernel honours them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Privileges {
    /// io_uring is not held to the memory lock limit.
    pub(super) ipc_lock: bool,
    /// io_uring is usable with `kernel.io_uring_disabled=1`.
    pub(super) sys_admin: bool,
}

/// The inode of the first user namespace, `PROC_USER_INIT_INO` in the kernel.
const FIRST_USER_NAMESPACE: &str = "user:[4026531837]";

impl Privileges {
    /// io_uring asks for capabilities in the first user namespace. Those of root in a rootless
    /// container hold only in the container's own, and so count for nothing here; nor does the user
    /// id.
    pub(super) fn of_this_thread() -> Privileges {
        let first = fs::read_link("/proc/thread-self/ns/user")
            .is_ok_and(|link| link == Path::new(FIRST_USER_NAMESPACE));
        let effective = match rustix::thread::capabilities(None) {
            Ok(sets) if first => sets.effective,
            _ => CapabilitySet::empty(),
        };
        Privileges {
            ipc_lock: effective.contains(CapabilitySet::IPC_LOCK),
            sys_admin: effective.contains(CapabilitySet::SYS_ADMIN),
        }
    }
}
