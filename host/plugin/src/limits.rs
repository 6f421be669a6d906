//! Every limit of the sandbox, in one place.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use model::grants::Grants;

use crate::usage::Usage;

/// What plugins may use. The defaults suit compiled guests; an interpreter in a guest (Python,
/// StarlingMonkey) needs more memory.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Linear memory of one instance, all its memories together. A Rust guest takes 1.7 MB for
    /// batches of 500 rows, a Python guest 13 MB.
    pub memory_bytes_max: usize,
    /// Elements of each table of an instance: its indirect functions. Python, the largest guest
    /// measured, has some ten thousand.
    pub table_elements_max: usize,
    /// Native stack of a guest. Traps beyond it; threads must have more, see [`crate::Host::new`].
    pub stack_bytes_max: usize,
    /// CPU time of the guest's thread for one batch, from the start of its instance on. CPU time
    /// and not a deadline, which on a busy machine stops guests that have hardly run.
    pub batch_cpu_max: Duration,
    /// The same for a row that is run again singly, after its batch failed.
    pub row_cpu_max: Duration,
    /// Time by the clock for one batch, which ends even one that is not let run.
    pub wall_max: Duration,
    /// Calls of one batch to what was granted; further ones fail.
    pub calls_max: u32,
    /// Time by the clock that the calls of one batch may wait for answers, together.
    pub wait_max: Duration,
    /// The same for a row that is run again singly, after its batch failed.
    pub row_wait_max: Duration,
    /// Rows of one call. What is gained by more is lost in the noise (64 to 256 are the flat part).
    pub rows_max: usize,
    /// Text of the rows of one call, in bytes, counting only columns that the plugin reads. A larger
    /// row goes alone.
    pub batch_bytes_max: usize,
    /// Text of one row in the columns that the plugin reads, in bytes. A larger row fails without a
    /// call: the guest, which must hold it at least once, would die of it.
    pub row_bytes_max: usize,
    /// What one call may give back, in bytes.
    pub output_bytes_max: usize,
    /// One line of a guest in the log, in bytes; longer ones are cut.
    pub log_line_bytes_max: usize,
    /// Lines of one batch in the log; more are dropped.
    pub log_lines_max: u32,
    /// A component, in bytes. The largest runtime measured, Python, makes 18 MB.
    pub component_bytes_max: usize,
    /// Threads that run guests.
    pub threads: NonZeroUsize,
    /// Calls that wait for a thread; whoever makes more waits for room.
    pub queue_max: NonZeroUsize,
    /// Where calls are counted, if somebody wants to know.
    pub usage: Option<Arc<Usage>>,
    /// For `cargo x bench plugin`, which says what safety costs, and `sequin plugin run --stats`.
    #[doc(hidden)]
    pub metering: Metering,
}

/// What one function may use, where its owner gives it less than [`Limits`] does. What is more than
/// that is cut to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// As [`Limits::memory_bytes_max`].
    pub memory_bytes_max: Option<usize>,
    /// As [`Limits::batch_cpu_max`].
    pub batch_cpu_max: Option<Duration>,
    /// As [`Limits::row_cpu_max`].
    pub row_cpu_max: Option<Duration>,
}

/// What a function's owner lets it have.
#[derive(Clone, Default)]
pub struct Terms {
    /// Beside its rows.
    pub grants: Grants,
    /// At most.
    pub limits: Own,
}

impl From<Grants> for Terms {
    fn from(grants: Grants) -> Self {
        Self { grants, limits: Own::default() }
    }
}

impl Limits {
    /// These, and of one function no more than its own.
    pub(crate) fn of(self: &Arc<Self>, own: &Own) -> Arc<Self> {
        if *own == Own::default() {
            return Arc::clone(self);
        }
        let Own { memory_bytes_max, batch_cpu_max, row_cpu_max } = *own;
        let limits = Self::clone(self);
        let batch_cpu_max = limits.batch_cpu_max.min(batch_cpu_max.unwrap_or(Duration::MAX));
        Arc::new(Self {
            memory_bytes_max: limits.memory_bytes_max.min(memory_bytes_max.unwrap_or(usize::MAX)),
            batch_cpu_max,
            row_cpu_max: limits
                .row_cpu_max
                .min(row_cpu_max.unwrap_or(Duration::MAX))
                .min(batch_cpu_max),
            ..limits
        })
    }
}

/// How a guest that does not end is found. There is no setting for it: without epochs nothing stops
/// one.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Metering {
    /// Not at all.
    None,
    /// It looks at a counter wherever it could go round for ever, and at the clocks when that has
    /// moved on.
    #[default]
    Epochs,
    /// It counts what it does, without a limit here.
    Fuel,
    /// Both.
    EpochsAndFuel,
}

impl Metering {
    pub(crate) const fn epochs(self) -> bool {
        matches!(self, Self::Epochs | Self::EpochsAndFuel)
    }

    pub(crate) const fn fuel(self) -> bool {
        matches!(self, Self::Fuel | Self::EpochsAndFuel)
    }
}

impl Default for Limits {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let four = NonZeroUsize::MIN.saturating_add(3);
        Self {
            memory_bytes_max: 64 << 20,
            table_elements_max: 20_000,
            stack_bytes_max: 512 << 10,
            batch_cpu_max: Duration::from_secs(1),
            row_cpu_max: Duration::from_millis(250),
            wall_max: Duration::from_secs(10),
            calls_max: 1_000,
            wait_max: Duration::from_secs(5),
            row_wait_max: Duration::from_secs(1),
            rows_max: 256,
            batch_bytes_max: 1 << 20,
            row_bytes_max: 16 << 20,
            output_bytes_max: 16 << 20,
            log_line_bytes_max: 1 << 10,
            log_lines_max: 100,
            component_bytes_max: 64 << 20,
            threads: cores.min(four),
            queue_max: four.saturating_mul(NonZeroUsize::MIN.saturating_add(15)),
            usage: None,
            metering: Metering::default(),
        }
    }
}
