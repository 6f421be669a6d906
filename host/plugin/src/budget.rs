//! How much time and memory is left to one instance.
//!
//! Guarantees that a guest is stopped within two ticks of the engine's epoch after its CPU time is
//! used up, or the cap by the clock is reached, and before its memories together pass their limit.
//! Each reason is an error type of its own, so that nobody has to read wasmtime's texts.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};
use wasmtime::ResourceLimiter;

use crate::limits::Limits;

/// Why the host stopped a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stop {
    #[error("it used up its {} ms of CPU time", .0.as_millis())]
    Cpu(Duration),
    #[error("it was not done after {} s", .0.as_secs())]
    Wall(Duration),
    #[error("its calls had no answer within {} ms", .0.as_millis())]
    Wait(Duration),
    #[error("it wanted {wanted} bytes of memory, and its limit is {max}")]
    Memory { wanted: usize, max: usize },
    #[error("it wanted a table of {wanted} elements, and the limit is {max}")]
    Table { wanted: usize, max: usize },
}

/// The time that one instance may take on the thread that made this.
#[derive(Debug)]
pub(crate) struct Time {
    cpu_max: Duration,
    wall_max: Duration,
    cpu_start: Duration,
    wall_start: Duration,
}

impl Time {
    /// Begins to count.
    pub(crate) fn start(cpu_max: Duration, wall_max: Duration) -> Self {
        let (cpu_start, wall_start) = (now(ClockId::ThreadCPUTime), now(ClockId::Monotonic));
        Self { cpu_max, wall_max, cpu_start, wall_start }
    }

    /// The CPU time that was taken, if this is the thread that it began on.
    pub(crate) fn spent(&self) -> Duration {
        now(ClockId::ThreadCPUTime).saturating_sub(self.cpu_start)
    }

    /// What is left by the clock.
    pub(crate) fn wall_left(&self) -> Duration {
        self.wall_max.saturating_sub(now(ClockId::Monotonic).saturating_sub(self.wall_start))
    }

    /// Called at each tick of the epoch, on the thread of the guest.
    pub(crate) fn check(&self) -> Result<(), Stop> {
        if now(ClockId::ThreadCPUTime).saturating_sub(self.cpu_start) >= self.cpu_max {
            return Err(Stop::Cpu(self.cpu_max));
        }
        if now(ClockId::Monotonic).saturating_sub(self.wall_start) >= self.wall_max {
            return Err(Stop::Wall(self.wall_max));
        }
        Ok(())
    }
}

pub(crate) fn now(clock: ClockId) -> Duration {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(clock);
    // Neither of these clocks is ever negative.
    let (seconds, nanos) = (u64::try_from(tv_sec), u32::try_from(tv_nsec));
    Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
}

/// The memory that one instance may take.
#[derive(Debug)]
pub(crate) struct Memory {
    bytes: usize,
    bytes_max: usize,
    table_elements_max: usize,
}

impl Memory {
    pub(crate) fn new(limits: &Limits) -> Self {
        let Limits { memory_bytes_max, table_elements_max, .. } = *limits;
        Self { bytes: 0, bytes_max: memory_bytes_max, table_elements_max }
    }
}

impl Memory {
    /// What it takes now.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

// Differs from wasmtime's `StoreLimits` in that it counts all memories of a store together.
impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The guest's own limit, with which it reckons.
            return Ok(false);
        }
        let wanted = self.bytes.saturating_add(desired.saturating_sub(current));
        if wanted > self.bytes_max {
            // Not `false`, after which the guest would go on in some way of its own.
            return Err(Stop::Memory { wanted, max: self.bytes_max }.into());
        }
        self.bytes = wanted;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        if desired > self.table_elements_max {
            return Err(Stop::Table { wanted: desired, max: self.table_elements_max }.into());
        }
        Ok(true)
    }

    // Python components have 38 instances; each may have a table and share a memory.
    fn instances(&self) -> usize {
        64
    }

    fn tables(&self) -> usize {
        64
    }

    fn memories(&self) -> usize {
        8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memories_of_an_instance_are_counted_together() {
        let limits = Limits { memory_bytes_max: 100, table_elements_max: 5, ..Limits::default() };
        let mut memory = Memory::new(&limits);
        let stop = |error: wasmtime::Error| *error.downcast_ref::<Stop>().unwrap();
        assert!(memory.memory_growing(0, 60, None).unwrap());
        assert!(memory.memory_growing(60, 70, Some(80)).unwrap());
        assert!(!memory.memory_growing(70, 81, Some(80)).unwrap(), "its own limit");
        let error = memory.memory_growing(0, 31, None).map_err(stop);
        assert_eq!(error, Err(Stop::Memory { wanted: 101, max: 100 }));
        assert!(memory.memory_growing(0, 30, None).unwrap());
        let error = memory.table_growing(0, 6, None).map_err(stop);
        assert_eq!(error, Err(Stop::Table { wanted: 6, max: 5 }));
    }

    #[test]
    fn time_is_up_by_cpu_or_by_the_clock() {
        let (long, none) = (Duration::from_secs(3600), Duration::ZERO);
        assert_eq!(Time::start(long, long).check(), Ok(()));
        assert_eq!(Time::start(none, long).check(), Err(Stop::Cpu(none)));
        assert_eq!(Time::start(long, none).check(), Err(Stop::Wall(none)));
    }
}
