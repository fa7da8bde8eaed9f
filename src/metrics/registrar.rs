//! Families by name, help and labels, each registered as it is created.

use prometheus::core::Collector;
use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

/// Upper bounds of every histogram's buckets, in seconds: those of RsyncDirector 1.x, from 10 ms to two weeks.
const BUCKETS: [f64; 18] = [
    0.01,
    0.1,
    0.5,
    1.0,
    10.0,
    30.0,
    60.0,
    300.0,
    600.0,
    1800.0,
    3600.0,
    7200.0,
    14400.0,
    28800.0,
    86400.0,
    172_800.0,
    604_800.0,
    1_209_600.0,
];

/// Creates families in a registry of its own.
///
/// Its methods panic when a name or label is no valid one or a name is taken; all of them are literals of this module's
/// siblings, so any test that builds the metrics shows it.
pub(super) struct Registrar(Registry);

impl Registrar {
    pub(super) fn new() -> Self {
        Self(Registry::new())
    }

    pub(super) fn into_registry(self) -> Registry {
        self.0
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(Opts::new(name, help), labels))
    }

    pub(super) fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.register(GaugeVec::new(Opts::new(name, help), labels))
    }

    pub(super) fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
        self.register(HistogramVec::new(HistogramOpts::new(name, help).buckets(BUCKETS.to_vec()), labels))
    }

    fn register<C: Collector + Clone + 'static>(&self, family: prometheus::Result<C>) -> C {
        let family = family.expect("names and labels are literals and valid");
        self.0.register(Box::new(family.clone())).expect("each name is registered once");
        family
    }
}
