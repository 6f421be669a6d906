//! What the kernel knows of a process.

use std::fs::read_to_string;

/// CPU time that the main thread of a process has used, in nanoseconds; also of one that has ended
/// and was not waited for.
pub(crate) fn cpu_ns(pid: u32) -> Option<u64> {
    read_to_string(format!("/proc/{pid}/schedstat")).ok()?.split(' ').next()?.parse().ok()
}

/// The most memory that a process has had resident, in KiB.
pub(crate) fn rss_peak_kib(pid: u32) -> Option<u64> {
    let status = read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The machine in a few words: processor, cores, and how busy it is.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let cpus = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    format!("{cores} cores ({}), load {}", name.unwrap_or("unknown processor"), load())
}

/// The load averages.
pub(crate) fn load() -> String {
    let load = read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
