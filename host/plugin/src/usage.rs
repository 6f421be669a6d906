//! What plugins used, added up for whoever wants to know.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::plugin::FUELS;

/// Counts the calls of all plugins of a host, see [`Limits::usage`](crate::Limits::usage).
#[derive(Debug, Default)]
pub struct Usage {
    calls: AtomicU64,
    rows: AtomicU64,
    cpu_nanos: AtomicU64,
    fuel: AtomicU64,
    /// Calls by their fuel, see [`FUELS`].
    fuel_calls: [AtomicU64; FUELS.len()],
    memory_bytes: AtomicU64,
    instances: AtomicU64,
}

/// What was counted by now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Calls, those of rows that were run again singly with them.
    pub calls: u64,
    /// Rows of these calls.
    pub rows: u64,
    /// CPU time of the calls: of the guests, and of handing rows over.
    pub cpu: Duration,
    /// What the guests did, about one for each instruction of WebAssembly: the same on each machine.
    /// Zero unless the host counts it.
    pub fuel: u64,
    /// Calls that took at most so much of it, by [`FUELS`].
    pub fuel_calls: [u64; FUELS.len()],
    /// The largest memory that one instance had, in bytes.
    pub memory_bytes_max: u64,
}

impl Usage {
    /// An instance was made.
    pub(crate) fn add_instance(&self) {
        self.instances.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn instances(&self) -> u64 {
        self.instances.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, rows: usize, cpu: Duration, fuel: u64, memory_bytes: usize) {
        let order = Ordering::Relaxed;
        let rows = u64::try_from(rows).unwrap_or(u64::MAX);
        let nanos = u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX);
        let memory_bytes = u64::try_from(memory_bytes).unwrap_or(u64::MAX);
        self.calls.fetch_add(1, order);
        self.rows.fetch_add(rows, order);
        self.cpu_nanos.fetch_add(nanos, order);
        self.fuel.fetch_add(fuel, order);
        for (_, calls) in FUELS.iter().zip(&self.fuel_calls).filter(|(most, _)| fuel <= **most) {
            calls.fetch_add(1, order);
        }
        self.memory_bytes.fetch_max(memory_bytes, order);
    }

    /// What was counted by now.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let order = Ordering::Relaxed;
        Totals {
            calls: self.calls.load(order),
            rows: self.rows.load(order),
            cpu: Duration::from_nanos(self.cpu_nanos.load(order)),
            fuel: self.fuel.load(order),
            fuel_calls: self.fuel_calls.each_ref().map(|calls| calls.load(order)),
            memory_bytes_max: self.memory_bytes.load(order),
        }
    }
}
