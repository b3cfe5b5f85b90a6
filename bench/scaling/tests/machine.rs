//! What the shard-scaling benchmark says of the machine it runs on: of fabricated ones, and of this
//! one.

use std::fs;
use std::path::Path;

use freehold::Cpu;
use freehold_scaling::machine::{advice, commit, compiler, describe, load, read};
use freehold_workloads::{Cache, Machine};
use tempfile::TempDir;

/// A fabricated machine: a directory that stands for `/`.
struct Tree {
    root: TempDir,
}

impl Tree {
    fn new() -> Tree {
        Tree { root: tempfile::tempdir().expect("a test can make a directory") }
    }

    fn file(self, path: &str, content: impl AsRef<[u8]>) -> Tree {
        let path = self.root.path().join(path);
        let directory = path.parent().expect("a file has a directory");
        fs::create_dir_all(directory).expect("a test can make a directory");
        fs::write(path, content).expect("a test can write a file");
        self
    }

    fn cache(self, cpu: usize, index: usize, [level, kind, size, shared]: [&str; 4]) -> Tree {
        let of = |name: &str| format!("sys/devices/system/cpu/cpu{cpu}/cache/index{index}/{name}");
        self.file(&of("level"), level)
            .file(&of("type"), kind)
            .file(&of("size"), size)
            .file(&of("shared_cpu_list"), shared)
    }

    fn machine(&self, cpus: &[Cpu]) -> Machine {
        read(self.root.path(), cpus, self.root.path())
    }

    /// What is said of this directory's file system by a list of mounts, in which `HERE` stands for
    /// it.
    fn file_system(&self, mountinfo: &str) -> Option<String> {
        let here = self.root.path().canonicalize().expect("it is there");
        let here = here.to_str().expect("a path in UTF-8");
        let tree = Tree::new().file("proc/self/mountinfo", mountinfo.replace("HERE", here));
        let said = read(tree.root.path(), &[], self.root.path()).file_system?;
        Some(said.replace(here, "HERE"))
    }
}

fn cpu(id: usize, core: usize, node: usize) -> Cpu {
    Cpu { id, core, siblings: vec![core], l3: None, node: Some(node) }
}

fn cache(name: &str, bytes: u64, shared_by: usize) -> Cache {
    Cache { name: name.to_owned(), bytes, shared_by }
}

/// Two sockets, four cores, of which one is allowed with both its threads.
fn server() -> (Tree, [Cpu; 3]) {
    let mut tree = Tree::new()
        .file(
            "proc/cpuinfo",
            "processor\t: 0\nmodel name\t: A Processor: 9000\nflags\t\t: fpu vme\n\nprocessor\t: 1\n",
        )
        .file("proc/meminfo", "MemTotal:       65536 kB\nMemFree:  1 kB\n")
        .file("proc/loadavg", "0.75 0.50 0.25 1/100 1234\n")
        .file("proc/sys/kernel/osrelease", "6.12.1-test\n")
        .file("etc/os-release", "NAME=\"A\"\nPRETTY_NAME=\"A System 1\"\n")
        .cache(1, 0, ["1", "Data", "48K", "1,5"])
        .cache(1, 1, ["1", "Instruction", "32K", "1,5"])
        .cache(1, 2, ["2", "Unified", "2M", "1,5"])
        .cache(1, 3, ["3", "Unified", "266240K", "0-7"])
        .cache(1, 4, ["4", "Unified", "lots", "0-7"]);
    for (cpu, socket, governor) in [(1, 0, "performance"), (2, 1, "powersave"), (5, 0, "performance")] {
        let of = |name: &str| format!("sys/devices/system/cpu/cpu{cpu}/{name}");
        tree = tree
            .file(&of("topology/physical_package_id"), format!("{socket}\n"))
            .file(&of("cpufreq/scaling_governor"), format!("{governor}\n"));
    }
    // In the order shards are placed in.
    (tree, [cpu(1, 1, 0), cpu(2, 2, 1), cpu(5, 1, 0)])
}

#[test]
fn a_server_is_described() {
    let (tree, cpus) = server();
    let expected = Machine {
        cpu: Some("A Processor: 9000".into()),
        cpus: vec![1, 2, 5],
        cores: Some(2),
        sockets: Some(2),
        caches: vec![
            cache("L1d", 48 << 10, 2),
            cache("L1i", 32 << 10, 2),
            cache("L2", 2 << 20, 2),
            cache("L3", 260 << 20, 8),
        ],
        smt: Some(true),
        numa_nodes: Some(2),
        governor: Some("performance, powersave".into()),
        virtualisation: Some("none".into()),
        memory: Some(64 << 20),
        kernel: Some("6.12.1-test".into()),
        system: Some("A System 1".into()),
        load_before: Some(0.75),
        ..Machine::default()
    };
    assert_eq!(tree.machine(&cpus), expected);
    let one_a_core = tree.machine(&cpus[..2]);
    assert_eq!((one_a_core.smt, one_a_core.sockets, one_a_core.cores), (Some(false), Some(2), Some(2)));
}

#[test]
fn what_is_not_said_is_absent() {
    assert_eq!(Tree::new().machine(&[]), Machine::default());
    let tree = Tree::new()
        .file("proc/cpuinfo", "processor\t: 0\n")
        .file("proc/meminfo", "MemTotal: much\n")
        .file("proc/loadavg", "\n")
        .file("sys/devices/system/cpu/cpu0/topology/physical_package_id", "-1\n");
    let said = tree.machine(&[Cpu { node: None, ..cpu(0, 0, 0) }]);
    assert_eq!(said, Machine { cpus: vec![0], cores: Some(1), smt: Some(false), ..Machine::default() });
}

#[test]
fn a_virtual_machine_is_told_by_whatever_tells_it() {
    let guest = || Tree::new().file("proc/cpuinfo", "flags\t: fpu hypervisor lahf_lm\n");
    let said = |tree: Tree| tree.machine(&[]).virtualisation.expect("it is said");
    let dmi = |tree: Tree, vendor: &str, product: &str| {
        tree.file("sys/class/dmi/id/sys_vendor", vendor).file("sys/class/dmi/id/product_name", product)
    };
    let acpi = |tree: Tree, maker: &str| {
        tree.file("sys/firmware/acpi/tables/DSDT", format!("DSDT\0\0\0\0\x02\0{maker}TABLE"))
    };
    let clocks = "sys/devices/system/clocksource/clocksource0/available_clocksource";
    assert_eq!(said(guest()), "of an unknown maker");
    assert_eq!(said(dmi(guest(), "Amazon EC2\n", "m7i.large\n")), "Amazon EC2 m7i.large");
    assert_eq!(said(acpi(guest(), "FIRECK")), "Firecracker");
    assert_eq!(said(acpi(guest(), "ACME  ")), "ACPI tables by ACME");
    assert_eq!(said(guest().file(clocks, "tsc kvm-clock\n")), "KVM");
    assert_eq!(said(Tree::new().file("sys/hypervisor/type", "xen\n")), "xen");
    // ARM has no flags.
    assert_eq!(said(dmi(Tree::new(), "QEMU\n", "KVM Virtual Machine\n")), "QEMU KVM Virtual Machine");
    assert_eq!(dmi(Tree::new(), "A Maker\n", "A Server\n").machine(&[]).virtualisation, None);
    // A cloud's machine without a hypervisor.
    let metal = Tree::new().file("proc/cpuinfo", "flags\t: fpu lahf_lm\n");
    assert_eq!(said(dmi(metal, "Amazon EC2\n", "m7i.metal-24xl\n")), "none");
}

#[test]
fn the_file_system_is_the_innermost_and_last_one() {
    let tree = Tree::new();
    let said = |mounts: &str| tree.file_system(mounts);
    let root = "27 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw,discard,resuid=1\n";
    assert_eq!(said(root).as_deref(), Some("ext4 on /dev/vda (discard), HERE"));
    let beside = "28 27 0:9 / HERE-beside rw - tmpfs tmpfs rw\n";
    assert_eq!(said(&format!("{root}{beside}")).as_deref(), Some("ext4 on /dev/vda (discard), HERE"));
    let inner = "29 27 8:1 / HERE rw,sync - xfs /dev/my\\040disk rw,sync,wsync,noquota\n";
    let over = "30 29 8:2 / HERE rw - btrfs /dev/sdb rw,compress=zstd:3,commit=5\n";
    assert_eq!(
        said(&format!("{inner}{root}")).as_deref(),
        Some("xfs on /dev/my disk (sync,wsync), HERE"),
        "the deeper one, wherever it stands"
    );
    assert_eq!(
        said(&format!("{root}{inner}{over}")).as_deref(),
        Some("btrfs on /dev/sdb (compress=zstd:3,commit=5), HERE"),
        "what is mounted over another hides it"
    );
    assert_eq!(said("27 1 254:0 /\nno mount at all\n"), None);
}

#[test]
fn advice_is_given_for_what_is_wrong_and_nothing_else() {
    let (tree, cpus) = server();
    let calm = Machine {
        smt: Some(false),
        governor: Some("performance".into()),
        load_before: Some(0.5),
        file_system: Some("ext4 on /dev/vda, /srv".into()),
        ..tree.machine(&cpus)
    };
    let always = usize::from(cfg!(debug_assertions));
    assert_eq!(advice(&calm).len(), always, "{:?}", advice(&calm));
    assert_eq!(advice(&Machine::default()).len(), always, "nothing is known to be wrong");
    assert_eq!(advice(&calm).iter().any(|said| said.contains("debug build")), cfg!(debug_assertions));
    for (wrong, word) in [
        (Machine { governor: Some("powersave".into()), ..calm.clone() }, "governor is powersave"),
        (Machine { smt: Some(true), ..calm.clone() }, "The 3 CPUs are threads of 2 cores"),
        (Machine { load_before: Some(0.51), ..calm.clone() }, "load average is 0.51"),
        (Machine { virtualisation: Some("KVM".into()), ..calm.clone() }, "virtual machine (KVM)"),
        (Machine { file_system: Some("tmpfs on tmpfs, /tmp".into()), ..calm.clone() }, "in memory"),
    ] {
        let said = advice(&wrong);
        assert_eq!(said.len(), always + 1, "{said:?}");
        assert!(said.iter().any(|said| said.contains(word) && said.ends_with('.')), "{word}: {said:?}");
    }
}

#[test]
fn this_machine_is_described_and_left_as_it_was() {
    let directory = tempfile::tempdir().expect("a test can make a directory");
    let said = describe(directory.path());
    println!("{said:#?}\n{:#?}\ncommit {}, {}", advice(&said), commit(), compiler());
    assert!(!said.cpus.is_empty() && said.cpus.is_sorted());
    assert!(said.kernel.is_some() && said.memory.is_some_and(|bytes| bytes > 1 << 20));
    assert!(said.file_system.is_some_and(|found| found.contains(" on ")), "it is mounted");
    assert!(said.load_before.is_some() && load().is_some());
    let sync = said.sync.expect("a block can be written and synced");
    assert!(0.0 < sync.p50 && sync.p50 <= sync.p99, "{sync:?}");
    assert_eq!(fs::read_dir(directory.path()).expect("it is there").count(), 0, "nothing is left");
    assert_eq!(describe(&directory.path().join("missing")).sync, None, "no file can be made there");
}

#[test]
fn the_tree_and_the_compiler_say_what_they_are() {
    // A published package has no repository, and a machine that runs tests may have no compiler.
    let commit = commit();
    let digits = commit.trim_end_matches('+');
    assert!(digits.chars().all(|digit| digit.is_ascii_hexdigit()) && [0, 40, 64].contains(&digits.len()));
    let is_repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.git").exists();
    assert!(is_repository || commit.is_empty(), "{commit}");
    let compiler = compiler();
    assert!(compiler.is_empty() || compiler.starts_with("rustc "), "{compiler}");
}
