//! What a call costs, for `cargo x bench plugin`: the call as a thread of the pool makes it, on the
//! caller's own thread, whose CPU time then tells.
//!
//! Runs no batch again that failed, and cuts none: what is handed over is one call.

use std::sync::{Arc, Mutex};

use model::plugin::{Outcome, PluginError, Rows};
use tokio::sync::Semaphore;

use super::{Binding, Guest};
use crate::budget::Time;
use crate::error::Error;
use crate::limits::Limits;
use crate::lines::Quota;
use crate::program::{Program, Role};

/// A plugin in one role, called here and now.
pub struct Direct(Guest);

impl Direct {
    /// Binds a program, as [`crate::Host::bind`] does. `warm` decides whether its instances are kept
    /// for the next call, whatever the plugin says of it.
    ///
    /// # Errors
    /// As for [`crate::Host::bind`].
    pub fn new(
        program: &Arc<Program>,
        role: Role,
        config_json: &str,
        limits: &Limits,
        warm: bool,
    ) -> Result<Self, Error> {
        let (program, limits) = (Arc::clone(program), Arc::new(limits.clone()));
        let room = Arc::new(Semaphore::new(1));
        let (name, sink, config, is_aside) = ("bench", "webhook", config_json, false);
        let terms = crate::Terms::default();
        let binding = Binding { name, role, sink, config, terms, is_aside };
        let mut guest = Guest::new(program, binding, limits, room)?;
        guest.idle = warm.then(Mutex::default);
        Ok(Self(guest))
    }

    /// Makes an instance, configures it, and drops it.
    ///
    /// # Errors
    /// What the guest fails with.
    pub fn start(&self) -> Result<(), PluginError> {
        let Limits { batch_cpu_max, wall_max, .. } = *self.0.limits;
        let time = Time::start(batch_cpu_max, wall_max);
        self.0.start(time, self.0.lines(self.quota()), self.0.calls()).map(drop)
    }

    /// Hands over all rows in one call.
    ///
    /// # Errors
    /// Why the call failed as a whole.
    pub fn run(&self, rows: &Rows) -> Result<Vec<Result<Outcome, PluginError>>, PluginError> {
        let range = 0..rows.changes.len();
        let Limits { batch_cpu_max, wait_max, .. } = *self.0.limits;
        self.0.call(rows, range, (batch_cpu_max, wait_max), self.quota())
    }

    fn quota(&self) -> Quota {
        Quota::new(self.0.limits.log_lines_max, self.0.limits.log_line_bytes_max)
    }
}
