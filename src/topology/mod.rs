//! Which CPUs this process may use, how they hang together, and which shard goes on which of them.
//!
//! Promise: a CPU is named here only if the kernel lets this process run on it (affinity and
//! cpuset), and the quota of CPU time is the smallest one between the process's cgroup and the
//! root. Everything is read once, from text files under one root, so that any machine can be
//! fabricated in a test. A file that is absent, unreadable or malformed counts as silent:
//! containers and sandboxes hide parts of `/sys`, and a machine that says nothing of its caches can
//! still run shards. Only not knowing a single allowed CPU is an error.
//!
//! Why not glommio's own topology: it knows neither affinity nor cgroups, so in a container it
//! would pin shards to CPUs that the process does not have.

mod affinity;
mod cgroup;
pub(crate) mod occupancy;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{fs, io};

use self::affinity::{AffinityOf, affinity, cpu_list, read_cpu_list};
use self::cgroup::Cgroups;

/// One logical CPU (hardware thread) that this process may use, and what it shares with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cpu {
    /// The number the kernel gives it, as in `taskset -c`.
    pub id: usize,
    /// Its physical core, named by the lowest-numbered hardware thread of that core, so that the
    /// name is unique in the whole machine (the kernel's own `core_id` is unique only in a
    /// package).
    pub core: usize,
    /// All hardware threads of its core, itself included, in ascending order, whether allowed to
    /// this process or not.
    pub siblings: Vec<usize>,
    /// Its third-level cache, named by the lowest-numbered CPU that shares it; `None` where the
    /// machine does not say.
    pub l3: Option<usize>,
    /// Its NUMA node, by the kernel's number; `None` where the machine does not say.
    pub node: Option<usize>,
}

/// The CPUs this process may use, in the order in which shards are placed on them, and its quota of
/// CPU time.
#[derive(Debug, Clone, PartialEq)]
pub struct Topology {
    /// Never empty; in placement order.
    cpus: Vec<Cpu>,
    /// Smallest quota found, in CPUs; always above zero.
    quota_cpus: Option<f64>,
    /// CPUs that are plugged in, allowed or not; `None` where the machine does not say.
    present: Option<Vec<usize>>,
    /// CPUs that run, allowed or not; `None` where the machine does not say.
    online: Option<Vec<usize>>,
}

impl Topology {
    /// Reads what this process may use: the affinity of its main thread (which already reflects the
    /// cpuset), narrowed by the cgroup's effective cpuset where affinity is wider, the cgroup's CPU
    /// quota, and the machine's cores, caches and NUMA nodes.
    ///
    /// The calling thread's own affinity does not count. A thread inherits it from the one that
    /// started it, and one that a task on a shard has started would see that shard's CPU only.
    ///
    /// # Errors
    /// When neither `sched_getaffinity` nor `/proc` names a CPU that the process may use.
    pub fn of_this_process() -> io::Result<Topology> {
        let root = Path::new("/");
        // The main thread may have ended before the process.
        let affinity = affinity(root, AffinityOf::Process).or_else(|_| affinity(root, AffinityOf::Thread))?;
        Topology::read(root, &affinity)
    }

    /// The topology of the file tree at `root` (its `proc/self` and `sys`), for a process that may
    /// use `affinity`.
    fn read(root: &Path, affinity: &[usize]) -> io::Result<Topology> {
        let cgroups = Cgroups::read(root);
        let mut allowed: BTreeSet<usize> = affinity.iter().copied().collect();
        if let Some(cpuset) = cgroups.cpuset() {
            let narrowed: BTreeSet<usize> = cpuset.into_iter().filter(|id| allowed.contains(id)).collect();
            // Contradicting sources: the scheduler's own answer is the one it acts on.
            if !narrowed.is_empty() {
                allowed = narrowed;
            }
        }
        if allowed.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the kernel names no CPU this thread may run on",
            ));
        }
        let system = root.join("sys/devices/system");
        let nodes = nodes(&system);
        let cpus = allowed.iter().map(|&id| read_cpu(&system, id, &nodes)).collect();
        Ok(Topology {
            cpus: in_placement_order(cpus),
            quota_cpus: cgroups.quota_cpus(),
            present: read_cpu_list(&system.join("cpu/present")),
            online: read_cpu_list(&system.join("cpu/online")),
        })
    }

    /// The CPUs this process may use, best first: one hardware thread of every physical core before
    /// the second thread of any, and among those the cores of one third-level cache and one NUMA
    /// node next to each other, the largest group first. Never empty.
    pub fn cpus(&self) -> &[Cpu] {
        &self.cpus
    }

    /// How much CPU time per second of wall-clock time the cgroup grants, in CPUs (2.5 is two CPUs
    /// and a half); `None` without a limit. The smallest limit from the process's own cgroup up to
    /// the topmost one visible.
    pub fn quota_cpus(&self) -> Option<f64> {
        self.quota_cpus
    }

    /// How many physical cores the allowed CPUs belong to.
    pub fn physical_cores(&self) -> usize {
        self.cpus.iter().map(|cpu| cpu.core).collect::<BTreeSet<_>>().len()
    }

    /// How many third-level caches the allowed CPUs belong to; 0 where the machine does not say.
    pub fn l3_caches(&self) -> usize {
        self.cpus.iter().filter_map(|cpu| cpu.l3).collect::<BTreeSet<_>>().len()
    }

    /// How many shards to start when nobody says: one per allowed logical CPU, but no more than the
    /// quota, rounded up. At least 1.
    ///
    /// Both hardware threads of a core count. A shard mostly waits for memory, which is what a
    /// second hardware thread fills in, so the pair does more together than one alone, though each
    /// is slower than it would be by itself. Whoever wants the shortest time per message rather
    /// than the most messages starts [`physical_cores`](Self::physical_cores) shards:
    /// [`cpus`](Self::cpus) puts siblings last, so that many shards get a core each.
    ///
    /// The quota is rounded up because a fraction of a CPU can be used by no other means than one
    /// more shard.
    pub fn shards_by_default(&self) -> usize {
        match self.quota_cpus {
            // The cast saturates, and a quota is finite and above zero.
            Some(quota) => self.cpus.len().min(quota.ceil() as usize).max(1),
            None => self.cpus.len(),
        }
    }

    /// Where each of `shards` shards runs: the first so many of [`cpus`](Self::cpus), one each,
    /// those first to which no other runtime of this process has bound a shard. More shards than
    /// allowed CPUs are all left unpinned: two shards pinned to one CPU would take turns by the
    /// scheduler's time slice while other CPUs idle.
    pub fn place(&self, shards: usize) -> Placement {
        self.place_beside(shards, occupancy::shards_on)
    }

    /// As [`place`](Self::place), where `occupied` says how many shards are bound to a CPU.
    fn place_beside(&self, shards: usize, occupied: impl Fn(usize) -> u16) -> Placement {
        if shards > self.cpus.len() {
            return Placement { cpus: vec![None; shards] };
        }
        let mut cpus: Vec<usize> = self.cpus.iter().map(|cpu| cpu.id).collect();
        // Stable: among CPUs that are as free as each other the better one comes first.
        cpus.sort_by_key(|cpu| occupied(*cpu));
        Placement { cpus: cpus.into_iter().take(shards).map(Some).collect() }
    }

    /// Places one shard on each listed CPU, in the order of the list.
    ///
    /// # Errors
    /// When the list is empty, names a CPU twice, or names one that this process cannot use;
    /// nothing is changed.
    pub fn place_on(&self, cpus: &[usize]) -> Result<Placement, PlaceError> {
        if cpus.is_empty() {
            return Err(PlaceError::Empty { allowed: self.allowed_list() });
        }
        let mut seen = BTreeSet::new();
        for &cpu in cpus {
            if !seen.insert(cpu) {
                return Err(PlaceError::Twice { cpu });
            }
            if self.cpus.iter().any(|allowed| allowed.id == cpu) {
                continue;
            }
            let allowed = self.allowed_list();
            let unlisted = |list: &Option<Vec<usize>>| list.as_ref().is_some_and(|list| !list.contains(&cpu));
            return Err(if unlisted(&self.present) {
                PlaceError::Missing { cpu, allowed }
            } else if unlisted(&self.online) {
                PlaceError::Offline { cpu, allowed }
            } else {
                PlaceError::NotAllowed { cpu, allowed }
            });
        }
        Ok(Placement { cpus: cpus.iter().copied().map(Some).collect() })
    }

    /// The allowed CPUs as the kernel writes lists: `0-3,8`.
    pub(crate) fn allowed_list(&self) -> String {
        self.best_list(self.cpus.len())
    }

    /// The first `count` CPUs in placement order (all of them, if there are fewer), written as the
    /// kernel does.
    pub(crate) fn best_list(&self, count: usize) -> String {
        cpu_list(&self.cpus.iter().take(count).map(|cpu| cpu.id).collect())
    }
}

/// Which CPU each shard runs on. Either every shard has one of its own, or none has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    cpus: Vec<Option<usize>>,
}

impl Placement {
    /// How many shards are placed.
    pub fn shards(&self) -> usize {
        self.cpus.len()
    }

    /// Whether each shard is bound to a CPU of its own; `false` when the scheduler moves all of
    /// them.
    pub fn is_pinned(&self) -> bool {
        self.cpus.iter().all(Option::is_some)
    }

    /// For each shard in order, the CPU it is bound to, or `None` when it is not bound.
    pub fn cpus(&self) -> &[Option<usize>] {
        &self.cpus
    }
}

/// Why shards cannot run on the CPUs that were listed. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// The list names no CPU.
    #[error("the list of CPUs is empty; list at least one of the CPUs this process may use: {allowed}")]
    Empty {
        /// The CPUs this process may use, as `0-3,8`.
        allowed: String,
    },
    /// The list names a CPU more than once.
    #[error(
        "CPU {cpu} is listed twice, and two shards bound to one CPU would only take turns; list it once, or \
         ask for a number of shards instead of a list to have them unbound"
    )]
    Twice {
        /// The CPU in question.
        cpu: usize,
    },
    /// This machine has no such CPU.
    #[error("this machine has no CPU {cpu}; choose from the CPUs this process may use: {allowed}")]
    Missing {
        /// The CPU in question.
        cpu: usize,
        /// The CPUs this process may use, as `0-3,8`.
        allowed: String,
    },
    /// The machine has it, and it is switched off.
    #[error(
        "CPU {cpu} is offline; switch it on with `echo 1 > /sys/devices/system/cpu/cpu{cpu}/online`, or \
         choose from the CPUs this process may use: {allowed}"
    )]
    Offline {
        /// The CPU in question.
        cpu: usize,
        /// The CPUs this process may use, as `0-3,8`.
        allowed: String,
    },
    /// The machine has it, and this process's affinity or cpuset leaves it out.
    #[error(
        "this process may not run on CPU {cpu}; choose from the CPUs it may use ({allowed}), or widen them \
         (`taskset -c`, `docker run --cpuset-cpus=`, systemd `AllowedCPUs=` and `CPUAffinity=`)"
    )]
    NotAllowed {
        /// The CPU in question.
        cpu: usize,
        /// The CPUs this process may use, as `0-3,8`.
        allowed: String,
    },
}

/// One hardware thread per core first, then the second threads; inside each round NUMA node by NUMA
/// node and cache by cache, the ones with most allowed cores first, so that few shards share one
/// cache.
fn in_placement_order(cpus: Vec<Cpu>) -> Vec<Cpu> {
    let mut threads_seen: BTreeMap<usize, usize> = BTreeMap::new();
    let mut cores_of_node: BTreeMap<Option<usize>, BTreeSet<usize>> = BTreeMap::new();
    let mut cores_of_l3: BTreeMap<(Option<usize>, Option<usize>), BTreeSet<usize>> = BTreeMap::new();
    let mut ranked = Vec::with_capacity(cpus.len());
    for cpu in cpus {
        let thread = threads_seen.entry(cpu.core).or_default();
        cores_of_node.entry(cpu.node).or_default().insert(cpu.core);
        cores_of_l3.entry((cpu.node, cpu.l3)).or_default().insert(cpu.core);
        ranked.push((*thread, cpu));
        *thread += 1;
    }
    ranked.sort_by_key(|(thread, cpu)| {
        let node = (Reverse(cores_of_node[&cpu.node].len()), cpu.node);
        let l3 = (Reverse(cores_of_l3[&(cpu.node, cpu.l3)].len()), cpu.l3);
        (*thread, node, l3, cpu.id)
    });
    ranked.into_iter().map(|(_, cpu)| cpu).collect()
}

/// What sysfs says of one CPU; a CPU it is silent about is a core of its own.
fn read_cpu(system: &Path, id: usize, nodes: &BTreeMap<usize, usize>) -> Cpu {
    let directory = system.join(format!("cpu/cpu{id}"));
    // `core_cpus_list` is the newer name of `thread_siblings_list`.
    let siblings = ["topology/core_cpus_list", "topology/thread_siblings_list"]
        .iter()
        .find_map(|name| read_cpu_list(&directory.join(name)))
        .filter(|siblings| siblings.contains(&id))
        .unwrap_or_else(|| vec![id]);
    Cpu {
        id,
        core: siblings[0],
        siblings,
        l3: read_l3(&directory.join("cache"), id),
        node: nodes.get(&id).copied(),
    }
}

/// The lowest CPU that shares `id`'s third-level cache. Its index is looked for: it is not 3 on
/// every machine.
fn read_l3(cache: &Path, id: usize) -> Option<usize> {
    fs::read_dir(cache).ok()?.flatten().find_map(|entry| {
        let index = entry.path();
        let level = fs::read_to_string(index.join("level")).ok()?;
        if level.trim() != "3" {
            return None;
        }
        read_cpu_list(&index.join("shared_cpu_list"))
            .filter(|shared| shared.contains(&id))
            .map(|shared| shared[0])
    })
}

/// The NUMA node of each CPU that has one.
fn nodes(system: &Path) -> BTreeMap<usize, usize> {
    let mut node_of = BTreeMap::new();
    for entry in fs::read_dir(system.join("node")).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let number =
            name.to_str().and_then(|name| name.strip_prefix("node")).and_then(|number| number.parse().ok());
        if let Some(node) = number {
            let cpus = read_cpu_list(&entry.path().join("cpulist")).unwrap_or_default();
            node_of.extend(cpus.into_iter().map(|cpu| (cpu, node)));
        }
    }
    node_of
}

#[cfg(test)]
mod tests {
    use super::affinity::{affinity_in_status, parse_cpu_list};
    use super::*;

    /// A fabricated machine: a directory that stands for `/`.
    struct Machine {
        root: tempfile::TempDir,
    }

    impl Machine {
        fn new() -> Machine {
            Machine { root: tempfile::tempdir().expect("a test can make a directory") }
        }

        fn file(self, path: &str, text: &str) -> Machine {
            let path = self.root.path().join(path);
            fs::create_dir_all(path.parent().expect("a file has a directory"))
                .expect("a test can make a directory");
            fs::write(path, text).expect("a test can write a file");
            self
        }

        /// A CPU with its hardware threads, its third-level cache and its level-2 cache as a decoy.
        fn cpu(self, id: usize, siblings: &str, l3: &str) -> Machine {
            let cpu = format!("sys/devices/system/cpu/cpu{id}");
            self.file(&format!("{cpu}/topology/thread_siblings_list"), siblings)
                .file(&format!("{cpu}/cache/index2/level"), "2\n")
                .file(&format!("{cpu}/cache/index2/shared_cpu_list"), siblings)
                .file(&format!("{cpu}/cache/index3/level"), "3\n")
                .file(&format!("{cpu}/cache/index3/shared_cpu_list"), l3)
        }

        /// A unified hierarchy with the process in `/a/b`.
        fn unified(self) -> Machine {
            self.file("proc/self/cgroup", "0::/a/b\n").file(
                "proc/self/mountinfo",
                "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:9 master:1 - cgroup2 cgroup2 rw\n",
            )
        }

        fn read(&self, affinity: impl IntoIterator<Item = usize>) -> Topology {
            Topology::read(self.root.path(), &affinity.into_iter().collect::<Vec<_>>())
                .expect("some CPU is allowed")
        }
    }

    fn ids(topology: &Topology) -> Vec<usize> {
        topology.cpus().iter().map(|cpu| cpu.id).collect()
    }

    /// Two packages of two caches of two cores of two hardware threads, numbered as Linux does:
    /// first all first threads (0-7), then all second ones (8-15).
    fn server() -> Machine {
        let mut machine = Machine::new()
            .file("sys/devices/system/cpu/present", "0-17\n")
            .file("sys/devices/system/cpu/online", "0-16\n")
            .file("sys/devices/system/node/node0/cpulist", "0-3,8-11\n")
            .file("sys/devices/system/node/node1/cpulist", "4-7,12-15\n")
            .file("sys/devices/system/node/online", "0-1\n");
        for id in 0..16 {
            let core = id % 8;
            let cache = core / 2 * 2;
            machine = machine.cpu(
                id,
                &format!("{core},{}\n", core + 8),
                &format!("{cache}-{},{}-{}\n", cache + 1, cache + 8, cache + 9),
            );
        }
        machine
    }

    #[test]
    fn cpu_lists_are_parsed_and_written() {
        for (text, cpus) in [
            ("0\n", vec![0]),
            ("0-2,5,7-8", vec![0, 1, 2, 5, 7, 8]),
            ("3,1-3\n", vec![1, 2, 3]),
            ("\n", vec![]),
        ] {
            assert_eq!(parse_cpu_list(text), Some(cpus), "{text:?}");
        }
        for malformed in
            ["a", "1-", "-1", "3-1", "1,,2", "0-3:1/2", "0-4294967295", "99999999999999999999", "1 2"]
        {
            assert_eq!(parse_cpu_list(malformed), None, "{malformed:?}");
        }
        for list in ["", "0", "0-1", "0,2-4,9", "65535"] {
            let cpus = parse_cpu_list(list).expect("a well-formed list");
            assert_eq!(cpu_list(&cpus.into_iter().collect()), list);
        }
    }

    #[test]
    fn affinity_is_read_from_status_when_the_set_is_too_small() {
        assert_eq!(
            affinity_in_status("Name:\tx\nCpus_allowed:\tf\nCpus_allowed_list:\t0,1030-1031\n"),
            Some(vec![0, 1030, 1031])
        );
        assert_eq!(affinity_in_status("Name:\tx\n"), None);
        assert_eq!(affinity_in_status("Cpus_allowed_list:\tnone\n"), None);
    }

    #[test]
    fn first_threads_of_one_cache_come_first_and_siblings_last() {
        let topology = server().read(0..16);
        assert_eq!(ids(&topology), (0..16).collect::<Vec<_>>());
        assert_eq!((topology.physical_cores(), topology.l3_caches()), (8, 4));
        assert_eq!(
            topology.cpus()[13],
            Cpu { id: 13, core: 5, siblings: vec![5, 13], l3: Some(4), node: Some(1) }
        );
        // Only the second hardware thread of core 6 is allowed: it is that core's first.
        assert_eq!(ids(&server().read([2, 10, 14, 7])), [7, 14, 2, 10]);
        // The node and the cache with most allowed cores come first, wherever they are.
        assert_eq!(ids(&server().read([0, 1, 3, 4, 6, 7, 5, 15])), [4, 5, 6, 7, 0, 1, 3, 15]);
        assert_eq!(ids(&server().read([0, 6, 7, 4])), [6, 7, 4, 0]);
    }

    #[test]
    fn a_machine_that_says_nothing_has_a_core_per_cpu() {
        let topology = Machine::new().read([3, 1, 1]);
        assert_eq!(ids(&topology), [1, 3]);
        assert_eq!(topology.cpus()[0], Cpu { id: 1, core: 1, siblings: vec![1], l3: None, node: None });
        assert_eq!((topology.physical_cores(), topology.l3_caches(), topology.quota_cpus()), (2, 0, None));
        assert_eq!(topology.shards_by_default(), 2);
    }

    #[test]
    fn malformed_files_count_as_silent() {
        let topology = Machine::new()
            .unified()
            .cpu(0, "zero", "0-")
            .cpu(1, "2-3", "2-3") // a list that leaves the CPU itself out is nonsense
            .file("sys/devices/system/node/node0/cpulist", "0-x")
            .file("sys/devices/system/node/nodes/cpulist", "0-1")
            .file("sys/devices/system/cpu/present", "?")
            .file("sys/fs/cgroup/a/b/cpu.max", "plenty 100000")
            .file("sys/fs/cgroup/a/b/cpuset.cpus.effective", "0,")
            .read([0, 1]);
        assert_eq!(ids(&topology), [0, 1]);
        assert!(
            topology.cpus().iter().all(|cpu| cpu.core == cpu.id && cpu.l3.is_none() && cpu.node.is_none())
        );
        assert_eq!(topology.quota_cpus(), None);
        assert_eq!(topology.place_on(&[5]), Err(PlaceError::NotAllowed { cpu: 5, allowed: "0-1".into() }));
    }

    #[test]
    fn no_allowed_cpu_is_an_error() {
        let error = Topology::read(Machine::new().root.path(), &[]).expect_err("no CPU is allowed");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn the_smallest_quota_on_the_way_up_counts() {
        let machine = server()
            .unified()
            .file("sys/fs/cgroup/a/b/cpu.max", "max 100000\n")
            .file("sys/fs/cgroup/a/cpu.max", "250000 100000\n")
            .file("sys/fs/cgroup/cpu.max", "400000 100000\n")
            .file("sys/fs/cgroup/other/cpu.max", "1000 100000\n");
        let topology = machine.read(0..16);
        assert_eq!(topology.quota_cpus(), Some(2.5));
        assert_eq!(topology.shards_by_default(), 3);
        assert_eq!(machine.read([0, 1]).shards_by_default(), 2);
        let starved = machine.file("sys/fs/cgroup/a/b/cpu.max", "1000 100000\n").read(0..16);
        assert_eq!(starved.shards_by_default(), 1);
    }

    #[test]
    fn version_1_limits_are_read_where_the_controller_is_mounted() {
        // As in a container without a cgroup namespace: the path is the host's, and the mount shows
        // that cgroup.
        let topology = server()
            .file("proc/self/cgroup", "4:cpu,cpuacct:/docker/1/app\n3:cpuset:/elsewhere\n0::/docker/1\n")
            .file(
                "proc/self/mountinfo",
                "32 31 0:29 /docker/1 /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
                 33 31 0:30 /docker/1 /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
                 41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
            )
            .file("sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_quota_us", "120000\n")
            .file("sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_period_us", "100000\n")
            .file("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "150000\n")
            .file("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n")
            .file("sys/fs/cgroup/cpuset/cpuset.effective_cpus", "0-5\n")
            .read(0..16);
        assert_eq!(topology.quota_cpus(), Some(1.2));
        assert_eq!((topology.allowed_list(), topology.best_list(3)), ("0-5".into(), "0-2".into()));
    }

    #[test]
    fn the_cpuset_narrows_affinity_and_never_empties_it() {
        let machine = server().unified().file("sys/fs/cgroup/a/cpuset.cpus.effective", "2-4\n");
        assert_eq!(machine.read(0..4).allowed_list(), "2-3");
        assert_eq!(machine.read(8..10).allowed_list(), "8-9");
        assert_eq!(
            machine.file("sys/fs/cgroup/a/b/cpuset.cpus.effective", "3\n").read(0..4).allowed_list(),
            "3"
        );
    }

    #[test]
    fn as_many_shards_as_cpus_are_pinned_and_more_are_not() {
        let topology = server().read([0, 1, 8]);
        // Beside no other runtime: this process has some, of other tests.
        let place = |shards| topology.place_beside(shards, |_| 0);
        assert_eq!(place(2).cpus(), [Some(0), Some(1)]);
        assert_eq!(place(3).cpus(), [Some(0), Some(1), Some(8)]);
        assert!(place(3).is_pinned());
        assert_eq!(place(4), Placement { cpus: vec![None; 4] });
        assert!(!place(4).is_pinned());
        assert_eq!(place(4).shards(), 4);
    }

    #[test]
    fn cpus_that_no_other_runtime_has_come_first() {
        let topology = server().read([0, 1, 8]);
        let beside = |occupied: &[usize], shards| {
            let occupied = occupied.to_vec();
            let on = |cpu| occupied.iter().filter(|taken| **taken == cpu).count() as u16;
            topology.place_beside(shards, on).cpus
        };
        assert_eq!(beside(&[0], 1), [Some(1)]);
        assert_eq!(beside(&[0, 1], 2), [Some(8), Some(0)]);
        assert_eq!(beside(&[0, 0, 1, 8], 1), [Some(1)], "where fewest are");
        assert_eq!(beside(&[0, 1, 8], 3), [Some(0), Some(1), Some(8)]);
        assert_eq!(beside(&[0], 4), [None; 4]);
    }

    #[test]
    fn an_explicit_list_is_kept_in_order_or_refused_with_advice() {
        let topology = server().read([0, 1, 8]);
        assert_eq!(topology.place_on(&[8, 0]).map(|placement| placement.cpus), Ok(vec![Some(8), Some(0)]));
        let refused = |cpus: &[usize]| topology.place_on(cpus).expect_err("the list is refused");
        let allowed = || "0-1,8".to_owned();
        assert_eq!(refused(&[]), PlaceError::Empty { allowed: allowed() });
        assert_eq!(refused(&[0, 1, 0]), PlaceError::Twice { cpu: 0 });
        assert_eq!(refused(&[0, 99]), PlaceError::Missing { cpu: 99, allowed: allowed() });
        assert_eq!(refused(&[17]), PlaceError::Offline { cpu: 17, allowed: allowed() });
        assert_eq!(refused(&[2]), PlaceError::NotAllowed { cpu: 2, allowed: allowed() });
        for cpus in [&[][..], &[99], &[17], &[2]] {
            assert!(
                refused(cpus).to_string().contains("0-1,8"),
                "says what to choose from: {}",
                refused(cpus)
            );
        }
    }

    #[test]
    fn this_machine_has_a_topology() {
        let topology = Topology::of_this_process().expect("this test runs on some CPU");
        let allowed = affinity(Path::new("/"), AffinityOf::Process).expect("this test runs on some CPU");
        assert!(!topology.cpus().is_empty());
        assert!(
            topology.cpus().iter().all(|cpu| allowed.contains(&cpu.id) && cpu.siblings.contains(&cpu.id))
        );
        assert!((1..=topology.cpus().len()).contains(&topology.shards_by_default()));
        let text = fs::read_to_string("/proc/self/status").expect("/proc is mounted");
        assert_eq!(affinity_in_status(&text), Some(allowed));
        let text = fs::read_to_string("/proc/thread-self/status").expect("/proc is mounted");
        assert_eq!(affinity_in_status(&text), affinity(Path::new("/"), AffinityOf::Thread).ok());
    }
}
