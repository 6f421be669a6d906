//! `SEQUIN_MEMORY_MB` is about the process as the system sees it: what is left of it beside the program
//! itself is the budget for changes and messages.
//!
//! What the program takes is not known beforehand: its code, plugins, caches, connections and what the
//! allocator keeps. So it is measured at the start, and looked at all the time: the budget gives way
//! where the whole comes near the cap, and grows where it is full and there is room.

use std::sync::Arc;
use std::time::Duration;

use engine::budget::Budget;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Between looks. The allocator gives back what is free within 0.1 s.
const LOOK: Duration = Duration::from_millis(100);

/// With less nothing gets on; a cap that leaves no more is told.
const BUDGET_MIN: usize = 4 << 20;

/// The memory of the process, if the system tells.
const STATUS: &str = "/proc/self/status";

/// A budget within this cap, in bytes.
pub(crate) fn budget(cap: usize) -> Arc<Budget> {
    let least = BUDGET_MIN.min(cap);
    // Where the system does not tell, half is taken to be enough for the program.
    let resident = resident().unwrap_or(cap / 2);
    let left = share(cap.saturating_sub(resident));
    if left < least {
        warn!(
            code = "memory_cap_too_low",
            cap_mb = cap >> 20,
            taken_mb = resident >> 20,
            "SEQUIN_MEMORY_MB leaves next to nothing for changes beside what the program itself takes: \
             it gets on slowly and takes more than that; set it to at least {}",
            (resident + 2 * BUDGET_MIN) >> 20
        );
    }
    Budget::new(at_first(left).max(least))
}

/// The budget before anything came, of what is left. Much of what the program takes it takes with the
/// first messages (code that runs for the first time, connections, the pages of the store), just when
/// the budget fills: it grows to all of it while there is room, within three seconds.
fn at_first(left: usize) -> usize {
    left / 2
}

/// What may be charged of memory that is free. The rest is for what is not charged one by one (bodies of
/// requests, letters on their way to the disk, pages before the plugins) and for what the allocator
/// keeps: up to two fifths of what is charged, measured with small rows.
fn share(bytes: usize) -> usize {
    bytes / 2
}

/// Keeps the process within the cap, until cancelled.
pub(crate) async fn keep(cap: usize, budget: Arc<Budget>, stop: CancellationToken) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = looks.tick() => {}
        }
        let Some(resident) = resident() else { return };
        let (used, max) = (budget.used(), budget.bytes_max());
        let next = next(cap, resident, used, max);
        if next != max {
            budget.set_bytes_max(next);
        }
    }
}

/// The budget from now on.
fn next(cap: usize, resident: usize, used: usize, max: usize) -> usize {
    if resident > cap / 8 * 7 {
        // At once by a good part: what is under way comes on top.
        (max - max / 6).max(BUDGET_MIN.min(cap))
    } else if resident < cap / 4 * 3 && used > max / 8 * 7 {
        // What it is now is not enough, and there is room.
        (max + max / 32).min(share(cap))
    } else {
        max
    }
}

/// What the system counts as ours, in bytes.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string(STATUS).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn b016_the_budget_gives_way_near_the_cap_and_grows_where_there_is_room() {
        let cap = 100 * MIB;
        let next = |resident, used, max| next(cap, resident * MIB, used * MIB, max * MIB) / MIB;
        assert_eq!(next(95, 60, 60), 50);
        assert_eq!(next(99, 4, 4), 4, "never less than gets on");
        assert_eq!(next(85, 60, 60), 60);
        assert_eq!(next(50, 10, 60), 60, "nobody asks for more");
        assert_eq!(next(50, 32, 32), 33);
        assert_eq!(next(50, 50, 50), 50, "never more than is left if all of it is used");
    }

    #[test]
    fn b016_with_room_the_whole_of_the_budget_is_there_within_three_seconds() {
        let (cap, left) = (100 * MIB, 40 * MIB);
        let mut budget = at_first(left);
        assert!(budget < left);
        for _ in 0..(Duration::from_secs(3).as_millis() / LOOK.as_millis()) {
            budget = next(cap, 60 * MIB, budget, budget);
        }
        assert!(budget >= left, "{budget}");
    }

    #[test]
    fn the_system_tells_what_is_resident() {
        assert!(resident().is_none_or(|bytes| bytes > MIB));
    }
}
