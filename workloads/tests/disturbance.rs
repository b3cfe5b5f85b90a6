//! What a [`Watch`] sees. In a process of its own: it counts the CPU time of the process, and other
//! tests beside it would be that.

use std::time::Duration;

use freehold_workloads::Watch;
use rustix::time::{ClockId, clock_gettime};

#[test]
fn what_another_process_uses_is_seen_and_ones_own_is_not() {
    // CPU time and not time: on a busy machine this thread gets little of its CPU.
    let spun = Duration::from_millis(100);
    let used = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("it is not negative");
    let (watch, begin) = (Watch::begin(), used());
    while used() - begin < spun {}
    let (wall, own, alone) = watch.end();
    assert!(own >= spun && wall >= spun, "{wall:?}, {own:?}");

    let watch = Watch::begin();
    // One for each CPU: of many CPUs, what a single one takes is lost among the ticks.
    let spinner = || std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn();
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let spinners: Vec<_> = (0..cpus).map(|_| spinner().expect("a shell")).collect();
    // Ticks are some milliseconds, and others run as well.
    std::thread::sleep(Duration::from_millis(600));
    let (_, own, beside) = watch.end();
    for mut spinner in spinners {
        spinner.kill().and_then(|()| spinner.wait()).expect("it ends");
    }
    assert!(own < Duration::from_millis(300), "{own:?} of a sleep");
    assert!(beside.others + beside.stolen > 0.0, "{beside:?}, alone {alone:?}");
}
