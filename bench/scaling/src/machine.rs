//! The machine a run is made on, as far as it tells, and what to change on it for a quiet
//! measurement.
//!
//! Promise: what is not known is absent, never guessed; nothing but [`commit`] and [`compiler`]
//! starts a program; and nothing is left in the directory that was timed. Facts are read from files
//! under one root, so that any machine can be fabricated in a test. Which CPUs are allowed, and
//! which of them share a core, freehold's own [`Topology`] knows.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use freehold::{Cpu, Topology};
use freehold_workloads::{Cache, Machine, SyncTime};

/// The load average above which others disturb a measurement.
const LOAD_MAX: f64 = 0.5;
/// Writes that are timed, and what each writes: a block of the log.
const SYNCS: usize = 100;
const BLOCK_BYTES: usize = 4096;

/// The machine this runs on, with logs in `directory`, now. Takes as long as a hundred syncs of its
/// disk.
pub fn describe(directory: &Path) -> Machine {
    let topology = Topology::of_this_process();
    let cpus = topology.as_ref().map_or(&[][..], Topology::cpus);
    let machine = read(Path::new("/"), cpus, directory);
    Machine { sync: time_syncs(directory).ok(), ..machine }
}

/// The machine whose files are at `root`, for a process that may use `cpus` and keeps logs in
/// `directory`. Times nothing.
pub fn read(root: &Path, cpus: &[Cpu], directory: &Path) -> Machine {
    let text = |path: &str| text(&root.join(path));
    let system = root.join("sys/devices/system/cpu");
    let of_cpu = |cpu: &Cpu, path: &str| self::text(&system.join(format!("cpu{}/{path}", cpu.id)));
    let each = |path: &str| cpus.iter().filter_map(|cpu| of_cpu(cpu, path)).collect::<BTreeSet<_>>();
    let known = |count: usize| (count > 0).then_some(count);
    // Some machines number no package: -1.
    let sockets = each("topology/physical_package_id").iter().filter(|id| !id.starts_with('-')).count();
    let cores = known(cpus.iter().map(|cpu| cpu.core).collect::<BTreeSet<_>>().len());
    let nodes = cpus.iter().filter_map(|cpu| cpu.node).collect::<BTreeSet<_>>().len();
    let governors = Vec::from_iter(each("cpufreq/scaling_governor")).join(", ");
    let mut ids: Vec<_> = cpus.iter().map(|cpu| cpu.id).collect();
    ids.sort_unstable();
    let first = ids.first().map(|id| system.join(format!("cpu{id}/cache")));
    Machine {
        cpu: text("proc/cpuinfo").and_then(|text| value_of(&text, "model name")),
        cores,
        sockets: known(sockets),
        caches: first.map_or_else(Vec::new, |directory| caches(&directory)),
        smt: cores.map(|cores| cores < cpus.len()),
        numa_nodes: known(nodes),
        governor: (!governors.is_empty()).then_some(governors),
        virtualisation: virtualisation(root),
        memory: text("proc/meminfo").and_then(|text| bytes(&value_of(&text, "MemTotal")?)),
        kernel: text("proc/sys/kernel/osrelease"),
        system: ["etc/os-release", "usr/lib/os-release"].iter().find_map(|path| {
            let text = text(path)?;
            let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
            Some(name.trim_matches(['"', '\'']).to_owned())
        }),
        file_system: text("proc/self/mountinfo").and_then(|text| file_system(&text, directory)),
        sync: None,
        load_before: load_of(root),
        load_after: None,
        cpus: ids,
    }
}

/// The load average over a minute, now.
pub fn load() -> Option<f64> {
    load_of(Path::new("/"))
}

fn load_of(root: &Path) -> Option<f64> {
    text(&root.join("proc/loadavg"))?.split_whitespace().next()?.parse().ok()
}

/// A file that is not empty, without the white space around it.
fn text(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// What a file of lines `name : value` says first.
fn value_of(text: &str, name: &str) -> Option<String> {
    let values = text.lines().filter_map(|line| line.split_once(':'));
    values.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned()).next()
}

/// A size as the kernel writes it: `48K`, `2M`, `24684092 kB`.
fn bytes(size: &str) -> Option<u64> {
    let digits = size.find(|character: char| !character.is_ascii_digit()).unwrap_or(size.len());
    let (number, unit) = size.split_at(digits);
    let unit: u64 = match unit.trim() {
        "" => 1,
        "K" | "kB" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// How many CPUs a list of the kernel's names: `0-3,8` are five.
fn listed(list: &str) -> Option<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?)?.checked_add(1)
    };
    list.split(',').map(range).sum()
}

/// The caches of a CPU, from the nearest.
fn caches(directory: &Path) -> Vec<Cache> {
    let cache = |entry: fs::DirEntry| {
        let of = |name: &str| text(&entry.path().join(name));
        let kind = match of("type")?.as_str() {
            "Data" => "d",
            "Instruction" => "i",
            _ => "",
        };
        Some(Cache {
            name: format!("L{}{kind}", of("level")?),
            bytes: bytes(&of("size")?)?,
            shared_by: listed(&of("shared_cpu_list")?)?,
        })
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut caches: Vec<_> = entries.filter_map(cache).collect();
    caches.sort_by(|a, b| a.name.cmp(&b.name));
    caches
}

/// Whether it is a virtual machine, and whose, where that is said; `none` where it is said that it
/// is not one.
fn virtualisation(root: &Path) -> Option<String> {
    /// What stands in the DMI strings of virtual machines. Processors other than x86 have no flag
    /// to ask.
    const NAMES: [&str; 8] =
        ["QEMU", "KVM", "VMware", "VirtualBox", "Virtual Machine", "Compute Engine", "Bochs", "Parallels"];
    let text = |path: &str| text(&root.join(path));
    let flags = text("proc/cpuinfo").and_then(|text| value_of(&text, "flags"));
    let flag = flags.map(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"));
    let xen = text("sys/hypervisor/type");
    let dmi = ["sys_vendor", "product_name"].map(|name| text(&format!("sys/class/dmi/id/{name}")));
    let dmi = Vec::from_iter(dmi.into_iter().flatten()).join(" ");
    let is_named = NAMES.iter().any(|name| dmi.contains(name));
    if xen.is_none() && !is_named && flag != Some(true) {
        return flag.map(|_| "none".to_owned());
    }
    let clocks = || text("sys/devices/system/clocksource/clocksource0/available_clocksource");
    let by_clock = |clocks: String| match clocks {
        clocks if clocks.contains("kvm-clock") => Some("KVM".to_owned()),
        clocks if clocks.contains("hyperv") => Some("Hyper-V".to_owned()),
        _ => None,
    };
    let named = (!dmi.is_empty()).then_some(dmi).or(xen).or_else(|| acpi_maker(root));
    named.or_else(|| clocks().and_then(by_clock)).or_else(|| Some("of an unknown maker".to_owned()))
}

/// Who made the ACPI tables, where they may be read: bytes 10 to 15 of every table's header (ACPI
/// specification, 5.2.6). A Firecracker or a Cloud Hypervisor is named nowhere else.
fn acpi_maker(root: &Path) -> Option<String> {
    let table = fs::read(root.join("sys/firmware/acpi/tables/DSDT")).ok()?;
    let maker = std::str::from_utf8(table.get(10..16)?).ok()?.trim_matches(['\0', ' ']);
    Some(match maker {
        "FIRECK" => "Firecracker".to_owned(),
        "CLOUDH" => "Cloud Hypervisor".to_owned(),
        "BOCHS" => "QEMU".to_owned(),
        "" => return None,
        maker => format!("ACPI tables by {maker}"),
    })
}

/// The file system of a directory: its kind, what it is on, those of its options that a sync
/// depends on, and the directory.
fn file_system(mountinfo: &str, directory: &Path) -> Option<String> {
    const MATTER: [&str; 18] = [
        "sync",
        "dirsync",
        "wsync",
        "barrier",
        "nobarrier",
        "data",
        "commit",
        "journal_async_commit",
        "discard",
        "compress",
        "compress-force",
        "nodatacow",
        "dax",
        "volatile",
        "ro",
        "fsync_mode",
        "logbsize",
        "autodefrag",
    ];
    let directory = directory.canonicalize().ok()?;
    // proc(5): the number of fields before the dash varies; what is mounted later lies over what
    // was before.
    let mount = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(4);
        let (point, options) = (PathBuf::from(unescaped(before.next()?)), before.next()?);
        let [kind, source, more] = *after.split(' ').collect::<Vec<_>>() else { return None };
        let mut matter: Vec<&str> = Vec::new();
        for option in options.split(',').chain(more.split(',')) {
            let name = option.split('=').next().unwrap_or(option);
            if MATTER.contains(&name) && !matter.contains(&option) {
                matter.push(option);
            }
        }
        let options = if matter.is_empty() { String::new() } else { format!(" ({})", matter.join(",")) };
        directory.starts_with(&point).then(|| {
            let depth = point.components().count();
            (depth, format!("{kind} on {}{options}, {}", unescaped(source), directory.display()))
        })
    };
    mountinfo.lines().filter_map(mount).max_by_key(|(depth, _)| *depth).map(|(_, described)| described)
}

/// Undoes the escapes of mountinfo: `\040` is a blank.
fn unescaped(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |field, (escape, character)| field.replace(escape, character))
}

/// Times writes of a block to a file in `directory`, each synced, where the file has its blocks
/// already, as the log's segments do. The file has no name, so it is gone whatever happens.
///
/// # Errors
/// The file cannot be made, written or synced.
fn time_syncs(directory: &Path) -> io::Result<SyncTime> {
    let file = tempfile::tempfile_in(directory)?;
    file.write_all_at(&vec![0; SYNCS * BLOCK_BYTES], 0)?;
    file.sync_all()?;
    let block = [0x5A; BLOCK_BYTES];
    let mut times = Vec::with_capacity(SYNCS);
    for number in 0..SYNCS {
        let begun = Instant::now();
        file.write_all_at(&block, (number * BLOCK_BYTES) as u64)?;
        file.sync_data()?;
        times.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    times.sort_by(f64::total_cmp);
    Ok(SyncTime { p50: times[SYNCS / 2], p99: times[SYNCS * 99 / 100 - 1] })
}

/// The commit of the tree this was built from, as it is now, with `+` behind it if one of its files
/// was changed; empty if unknown.
pub fn commit() -> String {
    let tree = env!("CARGO_MANIFEST_DIR");
    let head = said("git", &["-C", tree, "rev-parse", "HEAD"]);
    let changed = said("git", &["-C", tree, "status", "--porcelain", "--untracked-files=no"]);
    match (head, changed) {
        (Some(head), Some(changed)) if changed.is_empty() => head,
        // Not known to be unchanged.
        (Some(head), _) => head + "+",
        (None, _) => String::new(),
    }
}

/// The compiler on the path now, which is the one that built this if it was built just now, as
/// `cargo run` does; empty if there is none.
pub fn compiler() -> String {
    said("rustc", &["--version"]).unwrap_or_default()
}

/// What a program says, if it succeeds.
fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// What to change for a quiet measurement: sentences, none if nothing is known to be wrong.
pub fn advice(machine: &Machine) -> Vec<String> {
    let mut advice = Vec::new();
    if cfg!(debug_assertions) {
        advice.push(
            "This is a debug build, and its figures say nothing: use `cargo run --release`.".to_owned(),
        );
    }
    if let Some(governor) = machine.governor.as_ref().filter(|governor| *governor != "performance") {
        advice.push(format!(
            "The frequency governor is {governor}, so clocks change during a run: `cpupower frequency-set -g performance` holds them."
        ));
    }
    if let (Some(true), Some(cores)) = (machine.smt, machine.cores) {
        advice.push(format!(
            "The {} CPUs are threads of {cores} cores, and two shards on one core share what it can do: allow one thread of each (`lscpu -e`, `taskset -c LIST`), or `echo off > /sys/devices/system/cpu/smt/control`.",
            machine.cpus.len()
        ));
    }
    if let Some(load) = machine.load_before.filter(|load| *load > LOAD_MAX) {
        advice.push(format!(
            "The load average is {load:.2}: end what else runs, and wait until it is below {LOAD_MAX}."
        ));
    }
    if let Some(maker) = machine.virtualisation.as_ref().filter(|maker| *maker != "none") {
        advice.push(format!(
            "This is a virtual machine ({maker}): others may use its cores, unseen from here, and two of its CPUs may be threads of one core. Measure on a machine of your own, or look at the range of the repetitions first."
        ));
    }
    let is_in_memory =
        |file_system: &&String| ["tmpfs ", "ramfs "].iter().any(|kind| file_system.starts_with(kind));
    if let Some(file_system) = machine.file_system.as_ref().filter(is_in_memory) {
        advice.push(format!(
            "Logs would be in memory ({file_system}), where a sync costs nothing: choose a directory on a disk."
        ));
    }
    advice
}
