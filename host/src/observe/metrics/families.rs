//! How families of series are written.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::count::Observed;
use crate::clock::Nanos;

/// Labels of a series.
type Labels<'a> = [(&'a str, &'a str)];

/// Writes one family after the other.
pub(super) struct Families<'a> {
    pub(super) encoder: DescriptorEncoder<'a>,
}

impl Families<'_> {
    fn begin(
        &mut self,
        name: &'static str,
        unit: Option<&'static Unit>,
        help: &str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'_>, fmt::Error> {
        self.encoder.encode_descriptor(name, help, unit, kind)
    }

    pub(super) fn counters<'l>(
        &mut self,
        name: &'static str,
        help: &str,
        series: impl IntoIterator<Item = (Vec<(&'l str, &'l str)>, u64)>,
    ) -> fmt::Result {
        let mut family = self.begin(name, None, help, MetricType::Counter)?;
        for (labels, value) in series {
            counter(&mut family, &labels, &value)?;
        }
        Ok(())
    }

    pub(super) fn seconds<'l>(
        &mut self,
        name: &'static str,
        help: &str,
        series: impl IntoIterator<Item = (Vec<(&'l str, &'l str)>, Nanos)>,
    ) -> fmt::Result {
        let mut family = self.begin(name, Some(&Unit::Seconds), help, MetricType::Counter)?;
        for (labels, value) in series {
            counter(&mut family, &labels, &in_seconds(value))?;
        }
        Ok(())
    }

    pub(super) fn gauges<'l>(
        &mut self,
        name: &'static str,
        unit: Option<&'static Unit>,
        help: &str,
        series: impl IntoIterator<Item = (Vec<(&'l str, &'l str)>, u64)>,
    ) -> fmt::Result {
        let mut family = self.begin(name, unit, help, MetricType::Gauge)?;
        for (labels, value) in series {
            if labels.is_empty() {
                family.encode_gauge(&value)?;
            } else {
                family.encode_family(&&*labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    /// A time that is no sum.
    pub(super) fn gauge_seconds(&mut self, name: &'static str, help: &str, value: Nanos) -> fmt::Result {
        self.begin(name, Some(&Unit::Seconds), help, MetricType::Gauge)?.encode_gauge(&in_seconds(value))
    }

    pub(super) fn histograms<'l>(
        &mut self,
        name: &'static str,
        unit: &'static Unit,
        help: &str,
        series: impl IntoIterator<Item = (Vec<(&'l str, &'l str)>, Distribution)>,
    ) -> fmt::Result {
        let mut family = self.begin(name, Some(unit), help, MetricType::Histogram)?;
        for (labels, Distribution { sum, count, buckets }) in series {
            if labels.is_empty() {
                family.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
            } else {
                family
                    .encode_family(&&*labels)?
                    .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
            }
        }
        Ok(())
    }
}

/// A histogram as it is told.
pub(super) struct Distribution {
    sum: f64,
    count: u64,
    /// By their upper bounds, of which the last is infinite.
    buckets: Vec<(f64, u64)>,
}

impl Distribution {
    /// `counts` are of the classes up to each bound; `told` is how a value is told.
    pub(super) fn of(bounds: &[u64], counts: &[u64], beyond: u64, sum: u64, told: fn(u64) -> f64) -> Self {
        let bounds = bounds.iter().map(|bound| told(*bound)).chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(counts.iter().copied().chain([beyond])).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        Self { sum: told(sum), count, buckets }
    }
}

impl<const N: usize> Observed<N> {
    pub(super) fn distribution(&self, bounds_ns: &[Nanos; N]) -> Distribution {
        Distribution::of(bounds_ns, &self.counts, self.beyond, self.sum_ns, in_seconds)
    }
}

fn counter(
    family: &mut MetricEncoder<'_>,
    labels: &Labels<'_>,
    value: &impl prometheus_client::encoding::EncodeCounterValue,
) -> fmt::Result {
    if labels.is_empty() {
        return family.encode_counter::<NoLabelSet, _, u64>(value, None);
    }
    family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(value, None)
}

/// Whole nanoseconds are kept for a hundred days.
pub(super) fn in_seconds(ns: Nanos) -> f64 {
    ns as f64 / 1e9
}
