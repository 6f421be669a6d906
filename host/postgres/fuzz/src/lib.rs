//! What the targets share: memory is counted, so that a length which is believed shows at once,
//! whether or not the memory is ever touched.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// For any input: the buffers of a socket, twice.
const BYTES: usize = 4 * 1024 * 1024;

/// For each byte of it: a row of nulls as cells and as text, twice, in vectors that double.
const BYTES_PER_BYTE: usize = 1024;

#[global_allocator]
static COUNTED: Counted = Counted;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

/// Runs a target over an input.
///
/// # Panics
/// If it does, or takes more memory than an input of this length can need.
pub fn within_bounds(input: &[u8], target: fn(&[u8])) {
    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    target(input);
    let taken = MOST.load(Ordering::Relaxed).saturating_sub(before);
    let most = BYTES + input.len() * BYTES_PER_BYTE;
    assert!(taken <= most, "{taken} bytes of memory for an input of {}", input.len());
}

/// The system's allocator, counted. Each target has one thread that matters.
struct Counted;

// SAFETY: everything is the system allocator's; the counters touch no memory of it.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both are there for a moment.
        grow(size);
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(memory, layout, size) }
    }
}

fn grow(bytes: usize) {
    let now = NOW.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST.fetch_max(now, Ordering::Relaxed);
}
