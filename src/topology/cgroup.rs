//! What the control groups of this process grant it: CPU time and a set of CPUs, by version 1 or 2
//! or both mounted at once.
//!
//! Where a hierarchy is mounted is read from `/proc/self/mountinfo`, never assumed: inside
//! containers the mount point may show the process's own cgroup while `/proc/self/cgroup` gives the
//! host's path. Malformed text is skipped, as in the rest of the topology.

use std::fs;
use std::path::{Path, PathBuf};

use super::affinity::read_cpu_list;

/// The directories of the process's cgroups: for each hierarchy from its own cgroup up to the
/// topmost visible.
#[derive(Debug, Default)]
pub(super) struct Cgroups {
    /// Version 2: limits of every controller.
    unified: Vec<Vec<PathBuf>>,
    /// Version 1, the hierarchy with the `cpu` controller.
    cpu: Vec<Vec<PathBuf>>,
    /// Version 1, the hierarchy with the `cpuset` controller.
    cpuset: Vec<Vec<PathBuf>>,
}

impl Cgroups {
    pub(super) fn read(root: &Path) -> Cgroups {
        let text = |name: &str| fs::read_to_string(root.join(name)).unwrap_or_default();
        let memberships = parse_memberships(&text("proc/self/cgroup"));
        let mut cgroups = Cgroups::default();
        for mount in parse_cgroup_mounts(&text("proc/self/mountinfo")) {
            let belongs = |membership: &&Membership| match &mount.controllers {
                None => membership.controllers.is_empty(),
                Some(controllers) => {
                    membership.controllers.iter().any(|controller| controllers.contains(controller))
                }
            };
            let Some(membership) = memberships.iter().find(belongs) else { continue };
            let directories = mount.directories(root, &membership.path);
            match &mount.controllers {
                None => cgroups.unified.push(directories),
                Some(controllers) => {
                    if controllers.iter().any(|controller| controller == "cpu") {
                        cgroups.cpu.push(directories.clone());
                    }
                    if controllers.iter().any(|controller| controller == "cpuset") {
                        cgroups.cpuset.push(directories);
                    }
                }
            }
        }
        cgroups
    }

    /// The smallest quota: a limit higher up binds all cgroups below it together, so each of them
    /// may be the binding one.
    pub(super) fn quota_cpus(&self) -> Option<f64> {
        let unified = self
            .unified
            .iter()
            .flatten()
            .filter_map(|directory| parse_cpu_max(&fs::read_to_string(directory.join("cpu.max")).ok()?));
        let version_1 = self.cpu.iter().flatten().filter_map(|directory| {
            let read = |name: &str| fs::read_to_string(directory.join(name)).ok();
            quota(&read("cpu.cfs_quota_us")?, &read("cpu.cfs_period_us")?)
        });
        unified.chain(version_1).min_by(f64::total_cmp)
    }

    /// The effective cpuset of the nearest cgroup that has one (an intermediate one need not enable
    /// the controller).
    pub(super) fn cpuset(&self) -> Option<Vec<usize>> {
        let nearest = |hierarchies: &[Vec<PathBuf>], name: &str| {
            hierarchies.iter().flatten().find_map(|directory| read_cpu_list(&directory.join(name)))
        };
        nearest(&self.unified, "cpuset.cpus.effective")
            .or_else(|| nearest(&self.cpuset, "cpuset.effective_cpus"))
            .or_else(|| nearest(&self.cpuset, "cpuset.cpus"))
    }
}

/// One line of `/proc/self/cgroup`.
#[derive(Debug, PartialEq, Eq)]
struct Membership {
    /// Empty for version 2.
    controllers: Vec<String>,
    path: String,
}

/// Parses `/proc/self/cgroup`, `4:cpu,cpuacct:/a/b` or `0::/a/b` a line; malformed lines are
/// skipped.
fn parse_memberships(text: &str) -> Vec<Membership> {
    let membership = |line: &str| {
        let (number, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        number.parse::<u32>().ok()?;
        let controllers = controllers.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        path.starts_with('/').then(|| Membership { controllers, path: path.to_owned() })
    };
    text.lines().filter_map(membership).collect()
}

/// One cgroup file system in `/proc/self/mountinfo`.
#[derive(Debug, PartialEq, Eq)]
struct CgroupMount {
    /// The options of a version 1 mount, its controllers among them; `None` for version 2.
    controllers: Option<Vec<String>>,
    /// Which cgroup appears at the mount point.
    root: String,
    point: String,
}

impl CgroupMount {
    /// The directories of cgroup `path` and of its ancestors up to the mount point, nearest first.
    /// A path outside of what is mounted (a container that sees its host's path) leaves the mount
    /// point, which then is the container's own cgroup.
    fn directories(&self, root: &Path, path: &str) -> Vec<PathBuf> {
        let point = root.join(self.point.trim_start_matches('/'));
        let inside = Path::new(path).strip_prefix(&self.root).unwrap_or(Path::new(""));
        let mut parts: Vec<_> = inside.iter().collect();
        if parts.iter().any(|part| *part == "..") {
            parts.clear();
        }
        (0..=parts.len())
            .rev()
            .map(|depth| parts[..depth].iter().fold(point.clone(), |at, part| at.join(part)))
            .collect()
    }
}

/// Parses the cgroup mounts of `/proc/self/mountinfo` (proc(5)); other and malformed lines are
/// skipped.
fn parse_cgroup_mounts(text: &str) -> Vec<CgroupMount> {
    let mount = |line: &str| {
        // The number of fields before the dash varies: it ends the optional ones.
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, point) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (kind, _source, options) = (after.next()?, after.next()?, after.next()?);
        let controllers = match kind {
            "cgroup2" => None,
            "cgroup" => Some(options.split(',').map(str::to_owned).collect()),
            _ => return None,
        };
        Some(CgroupMount { controllers, root: unescape(root), point: unescape(point) })
    };
    text.lines().filter_map(mount).collect()
}

/// Undoes the escapes of `/proc/self/mountinfo`, which writes blanks and backslashes in paths as
/// `\040`.
fn unescape(path: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(path.to_owned(), |path, (escape, character)| path.replace(escape, character))
}

/// Parses cgroup v2's `cpu.max`, `QUOTA PERIOD` in microseconds or `max PERIOD`; `None` without a
/// limit or malformed.
fn parse_cpu_max(text: &str) -> Option<f64> {
    let (granted, period) = text.trim().split_once(' ')?;
    quota(granted, period)
}

/// A quota in CPUs; `None` when unlimited (`max`, or version 1's -1) or malformed.
fn quota(granted_us: &str, period_us: &str) -> Option<f64> {
    let (granted, period): (u64, u64) = (granted_us.trim().parse().ok()?, period_us.trim().parse().ok()?);
    (granted > 0 && period > 0).then(|| granted as f64 / period as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_parsed() {
        assert_eq!(parse_cpu_max("250000 100000\n"), Some(2.5));
        assert_eq!(quota("50000\n", "100000\n"), Some(0.5));
        assert_eq!(quota("-1\n", "100000\n"), None);
        for none in
            ["max 100000\n", "", "100000", "100000 0", "0 100000", "-5 100000", "1e5 100000", "1 2 3", "max"]
        {
            assert_eq!(parse_cpu_max(none), None, "{none:?}");
        }
    }

    #[test]
    fn memberships_and_mounts_skip_what_is_malformed() {
        let memberships =
            parse_memberships("4:cpu,cpuacct:/x\n0::/a:b\nnonsense\n1:cpu\nx:cpu:/y\n2:cpu:relative\n");
        let parsed: Vec<_> = memberships.iter().map(|m| (m.controllers.join(","), m.path.as_str())).collect();
        assert_eq!(parsed, [("cpu,cpuacct".to_owned(), "/x"), (String::new(), "/a:b")]);
        let mounts = parse_cgroup_mounts(
            "27 1 254:0 / / rw - ext4 /dev/vda rw\n\
             32 31 0:29 /docker/1 /sys/fs/cgroup/cpu\\040x rw shared:1 - cgroup cgroup rw,cpu\n\
             33 31 0:30 / - cgroup2\n\
             41 31 0:38 / /sys/fs/cgroup rw - cgroup2 none rw\ngarbage\n",
        );
        let version_1 = CgroupMount {
            controllers: Some(vec!["rw".into(), "cpu".into()]),
            root: "/docker/1".into(),
            point: "/sys/fs/cgroup/cpu x".into(),
        };
        let version_2 = CgroupMount { controllers: None, root: "/".into(), point: "/sys/fs/cgroup".into() };
        assert_eq!(mounts, [version_1, version_2]);
    }

    #[test]
    fn a_cgroup_path_cannot_lead_out_of_its_mount() {
        let mount = CgroupMount { controllers: None, root: "/".into(), point: "/cg".into() };
        let paths = |path: &str| mount.directories(Path::new("/r"), path);
        assert_eq!(paths("/a/b"), [Path::new("/r/cg/a/b"), Path::new("/r/cg/a"), Path::new("/r/cg")]);
        assert_eq!(paths("/"), [Path::new("/r/cg")]);
        assert_eq!(paths("/../../x"), [Path::new("/r/cg")]);
    }
}
