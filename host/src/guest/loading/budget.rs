//! How many programs may have their code in memory, by what the system lets a process have.
//!
//! Each of them takes a descriptor, of the file that its code is mapped from, and a few mappings.

use std::fs;

use super::super::engine::INSTANCES_MAX;

/// Mappings of the kernel's that one program takes: three of its file, module or component, and one to spare.
const MAPS_PER_PROGRAM: u64 = 4;
/// Mappings of an instance: its memories, tables and stack lie in pools whose protection it changes in parts. Small ones
/// were seen to take four.
const MAPS_PER_INSTANCE: u64 = 12;
/// Mappings of everything else: the pools when nobody uses them, binary, threads, allocator.
const MAPS_OTHERS: u64 = 3_000;
/// Descriptors of everything else: listeners, logs, queues, pipes to compilers.
const DESCRIPTORS_OTHERS: u64 = 256;
/// Mappings that a process has where the system does not say.
const MAPS_USUAL: u64 = 65_530;
/// However little there is, so many are tried.
const LOADED_MIN: u64 = 64;

/// The budget where nothing was set. `descriptors` is how many the process may have, `connections` how many of them
/// clients take at most.
pub(crate) fn loaded_max(descriptors: Option<u64>, connections: usize) -> usize {
    let maps = fs::read_to_string("/proc/sys/vm/max_map_count").ok();
    let maps = maps.and_then(|text| text.trim().parse().ok()).unwrap_or(MAPS_USUAL);
    fit(maps, descriptors.unwrap_or(u64::MAX), connections as u64)
}

fn fit(maps: u64, descriptors: u64, connections: u64) -> usize {
    let of_maps =
        maps.saturating_sub(MAPS_OTHERS + u64::from(INSTANCES_MAX) * MAPS_PER_INSTANCE) / MAPS_PER_PROGRAM;
    // Where connections could take nearly all, they pause long before they do: code has a quarter all the same.
    let left = descriptors.saturating_sub(connections + DESCRIPTORS_OTHERS).max(descriptors / 4);
    usize::try_from(of_maps.min(left).max(LOADED_MIN)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scarcer_of_the_two_counts() {
        // A usual machine: maps are scarcer, or else descriptors.
        assert_eq!(fit(65_530, 1 << 20, 16_384), 12_632);
        assert_eq!(fit(65_530, 20_000, 16_384), 5_000);
        assert_eq!(fit(65_530, 20_000, 1_000), 12_632);
        assert_eq!(fit(1_000_000, 20_000, 1_000), 18_744);
        assert_eq!(fit(1_000, 1_000_000, 10), 64);
    }
}
