//! Where instances have their memory: in slots that are used again and again.
//!
//! A fresh instance for each batch is what keeps batches apart, and most of its cost was the kernel's:
//! mapping memory, a fault for each page that the guest touches, and giving it all back. In a slot
//! only the pages that the last guest wrote are put back to what they were, without the kernel
//! (`PAGEMAP_SCAN`, Linux 6.7; elsewhere the first part of it is written as a whole). Measured beside
//! each other, 256 rows a call in the filter `public-rows`: 169 ns a row instead of 390, and 14 µs for
//! an instance instead of 55.

use tracing::warn;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Result,
};

use crate::limits::Limits;

/// Memories that there can be at a time. Each takes 4 GiB of addresses, not of memory: so much is
/// reserved for the guest to be kept in without a check at each access.
const MEMORIES: u32 = 1024;

/// Of one component. All known toolchains make one.
const MEMORIES_EACH: u32 = 4;

/// Likewise.
const TABLES_EACH: u32 = 16;

/// Core modules in one component: Python's has 38.
const MODULES_EACH: u32 = 256;

/// Instances that may wait for their next batch, of all plugins together. There are as many more as
/// run and are configured, which is some tens; so no instance ever finds the slots taken.
pub(crate) const IDLE_MAX: usize = (MEMORIES / MEMORIES_EACH) as usize - 32;

/// What a slot that waits for its next guest keeps of the last one's pages, in bytes; more is given
/// back to the system. A compiled guest writes to a tenth of it in a batch.
const RESIDENT_BYTES: usize = 1 << 20;

/// The same of a table.
const TABLE_RESIDENT_BYTES: usize = 64 << 10;

/// Slots that wait in the hope of the same guest, with its pages: 32 MiB at most, for all.
const WARM_SLOTS: u32 = 32;

/// An engine with slots; one without where the system does not let so many addresses be reserved
/// (`ulimit -v`), which is slower and otherwise the same.
pub(crate) fn engine(mut config: Config, limits: &Limits) -> Result<Engine> {
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(slots(limits)));
    Engine::new(&config).or_else(|error| {
        let reason = error.to_string();
        warn!(reason, "instances of plugins have no slots: each maps its memory anew");
        config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
        Engine::new(&config)
    })
}

fn slots(limits: &Limits) -> PoolingAllocationConfig {
    let mut slots = PoolingAllocationConfig::new();
    slots
        .total_memories(MEMORIES)
        .total_tables(MEMORIES / MEMORIES_EACH * TABLES_EACH)
        .total_core_instances(MEMORIES / MEMORIES_EACH * MODULES_EACH)
        .total_component_instances(MEMORIES)
        .max_core_instances_per_component(MODULES_EACH)
        .max_memories_per_component(MEMORIES_EACH)
        .max_memories_per_module(MEMORIES_EACH)
        .max_tables_per_component(TABLES_EACH)
        .max_tables_per_module(TABLES_EACH)
        .max_memory_size(limits.memory_bytes_max)
        .table_elements(limits.table_elements_max)
        .max_unused_warm_slots(WARM_SLOTS)
        .linear_memory_keep_resident(RESIDENT_BYTES)
        .table_keep_resident(TABLE_RESIDENT_BYTES)
        .pagemap_scan(Enabled::Auto);
    slots
}
