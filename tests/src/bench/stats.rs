//! Medians and percentiles.

/// The value below which `percent` of the sorted values lie (nearest rank); the default when there are none.
pub fn percentile<T: Copy + Default>(sorted: &[T], percent: f64) -> T {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or_default()
}

/// The median; sorts.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    percentile(values, 50.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks() {
        let values: Vec<u32> = (1..=100).collect();
        assert_eq!(
            (percentile(&values, 50.0), percentile(&values, 99.0), percentile(&values, 100.0)),
            (50, 99, 100)
        );
        assert_eq!((percentile(&values, 0.0), percentile::<u32>(&[], 50.0)), (1, 0));
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
    }
}
