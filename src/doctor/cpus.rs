//! Are there CPUs enough for the shards, and CPU time enough to keep those CPUs busy.

use std::io;

use super::check::{Check, Verdict, plural};
use crate::topology::Topology;

/// Holds the CPUs of this process against the number of shards.
pub(super) fn examine(topology: &io::Result<Topology>, shards: usize) -> Check {
    match topology {
        Ok(topology) => judge_cpus(&Cpus {
            allowed: topology.cpus().len(),
            list: topology.allowed_list(),
            within_quota: topology.best_list(whole_cpus(topology.quota_cpus())),
            cores: topology.physical_cores(),
            l3_caches: topology.l3_caches(),
            quota: topology.quota_cpus(),
            shards,
        }),
        Err(error) => no_cpus(error),
    }
}

#[derive(Debug, Clone)]
struct Cpus {
    allowed: usize,
    list: String,
    /// As many of them as the quota would keep busy.
    within_quota: String,
    cores: usize,
    /// 0 if unknown.
    l3_caches: usize,
    quota: Option<f64>,
    shards: usize,
}

/// How many CPUs a quota can keep busy without being used up: at least one; all for no quota.
fn whole_cpus(quota: Option<f64>) -> usize {
    quota.map_or(usize::MAX, |quota| (quota.floor() as usize).max(1))
}

fn judge_cpus(cpus: &Cpus) -> Check {
    let Cpus { allowed, list, within_quota, cores, l3_caches, quota, shards } = cpus;
    let caches = match l3_caches {
        0 => String::new(),
        count => format!(", {count} third-level cache{}", plural(*count)),
    };
    let short = quota.is_some_and(|quota| quota < *allowed as f64);
    let crowded = shards > allowed;
    let quota_text = match quota {
        None => "no quota".into(),
        Some(quota) => {
            format!("a quota of{} {}", if short { " only" } else { "" }, (quota * 100.0).round() / 100.0)
        }
    };
    let placed = match *shards {
        _ if crowded => ", more than CPUs, which are therefore not bound to any",
        1 => " on its own CPU",
        _ => ", each on its own CPU",
    };
    let found = format!(
        "{allowed} CPU{} ({list}) on {cores} physical core{}{caches}; {quota_text}; {shards} shard{}{placed}",
        plural(*allowed),
        plural(*cores),
        plural(*shards),
    );

    let mut fixes = Vec::new();
    if short {
        let whole = whole_cpus(*quota);
        fixes.push(format!(
            "Docker, Podman: docker run --cpuset-cpus={within_quota} IMAGE   # in place of --cpus=\n\
             Kubernetes: resources: {{requests: {{cpu: \"{whole}\"}}, limits: {{cpu: \"{whole}\"}}}}   # \
             with memory likewise, and on the node cpuManagerPolicy: static\n\
             systemd: systemctl edit SERVICE, add [Service] CPUQuota= AllowedCPUs={within_quota} on a line \
             each, then systemctl restart SERVICE"
        ));
    }
    if crowded {
        fixes.push(format!("or: start at most {allowed} shard{}", plural(*allowed)));
    }
    let verdict = if fixes.is_empty() { Verdict::Passed } else { Verdict::Warned };
    Check::new("CPUs", verdict, found)
        .because(
            "A shard does best alone on one CPU. A process that has used up its quota is stopped for the \
             rest of the \
             period (usually 100 ms), in the middle of a message or a transaction, and spinning uses it up \
             too.",
        )
        .fixed_by(|| fixes.join("\n"))
}

fn no_cpus(error: &io::Error) -> Check {
    Check::new("CPUs", Verdict::Failed, format!("they cannot be found out: {error}"))
        .because("A shard is placed on a CPU that this process may use.")
        .fixed_by(|| "container: allow sched_getaffinity and mount /proc".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tests::{fix, verdict};

    #[test]
    fn a_quota_below_the_cpus_and_shards_above_them_warn() {
        let cpus = |quota, shards| Cpus {
            allowed: 8,
            list: "0-7".into(),
            within_quota: "0-1".into(),
            cores: 4,
            l3_caches: 0,
            quota,
            shards,
        };
        assert_eq!(verdict(&judge_cpus(&cpus(None, 8))), Verdict::Passed);
        assert_eq!(verdict(&judge_cpus(&cpus(Some(8.0), 8))), Verdict::Passed);
        let short = judge_cpus(&cpus(Some(2.5), 3));
        assert_eq!(verdict(&short), Verdict::Warned);
        assert!(short.found.contains("a quota of only 2.5;"), "{}", short.found);
        assert!(fix(&short).contains("--cpuset-cpus=0-1 ") && fix(&short).contains("cpu: \"2\""));
        let crowded = judge_cpus(&cpus(None, 9));
        assert_eq!(verdict(&crowded), Verdict::Warned);
        assert!(fix(&crowded).contains("at most 8 shards") && !fix(&crowded).contains("cpuset"));
        assert_eq!(verdict(&judge_cpus(&cpus(Some(0.1), 9))), Verdict::Warned);
        assert_eq!([None, Some(0.1), Some(1.0), Some(2.9)].map(whole_cpus), [usize::MAX, 1, 1, 2]);
        assert_eq!(verdict(&no_cpus(&io::Error::other("refused"))), Verdict::Failed);
    }
}
