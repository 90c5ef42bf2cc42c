//! What Linux tells of another process: memory, file descriptors, CPU time.
//!
//! Every function panics when the process is gone: a server that vanished is a failed test.

use std::fs;
use std::time::Duration;

/// Resident memory now, in bytes (`VmRSS`).
pub fn rss_bytes(pid: u32) -> u64 {
    status_bytes(pid, "VmRSS:")
}

/// The most resident memory so far, in bytes (`VmHWM`).
pub fn rss_peak_bytes(pid: u32) -> u64 {
    status_bytes(pid, "VmHWM:")
}

/// Private memory that no file backs, in bytes (`RssAnon`): steadier than [`rss_bytes`], which also counts pages
/// of the binary as they are first touched.
pub fn rss_anon_bytes(pid: u32) -> u64 {
    status_bytes(pid, "RssAnon:")
}

fn status_bytes(pid: u32, key: &str) -> u64 {
    let text = read(pid, "status");
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
    let kib: u64 =
        kib.and_then(|kib| kib.parse().ok()).unwrap_or_else(|| panic!("no {key} of process {pid}"));
    kib * 1024
}

/// Open file descriptors.
pub fn fd_count(pid: u32) -> usize {
    let folder = fs::read_dir(format!("/proc/{pid}/fd"));
    folder.unwrap_or_else(|error| panic!("the descriptors of process {pid}: {error}")).count()
}

/// Mappings of its address space.
pub fn map_count(pid: u32) -> usize {
    read(pid, "maps").lines().count()
}

/// CPU time of all threads that live now, in nanosecond steps where the kernel keeps `schedstat`, else of the
/// process in clock ticks. Differences are meaningful while no thread ends.
pub fn cpu_time(pid: u32) -> Duration {
    thread_times(pid).unwrap_or_else(|| process_time(pid))
}

fn thread_times(pid: u32) -> Option<Duration> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        // A thread that ends between the listing and the reading is left out.
        let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
        total += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    (total > 0).then(|| Duration::from_nanos(total))
}

fn process_time(pid: u32) -> Duration {
    let text = read(pid, "stat");
    // The name, in brackets, may hold spaces: count the fields after it.
    let fields = text.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    let per_second = rustix::param::clock_ticks_per_second();
    Duration::from_nanos(ticks * (1_000_000_000 / per_second))
}

fn read(pid: u32, name: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{name}"))
        .unwrap_or_else(|error| panic!("/proc/{pid}/{name}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;
    use std::time::Instant;

    #[test]
    fn own_figures_move_the_right_way() {
        let pid = std::process::id();
        let files = fd_count(pid);
        let extra: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").expect("/dev/null")).collect();
        assert!(fd_count(pid) >= files.saturating_sub(20) + extra.len());
        assert!(rss_bytes(pid) > 100 * 1024);
        assert!(rss_peak_bytes(pid) >= rss_anon_bytes(pid));

        let before = (cpu_time(pid), process_time(pid));
        let started = Instant::now();
        let mut sum = 0_u64;
        while started.elapsed() < Duration::from_millis(100) {
            sum = black_box(sum.wrapping_add(1));
        }
        assert!(cpu_time(pid) > before.0 || process_time(pid) > before.1, "{sum}");
    }
}
