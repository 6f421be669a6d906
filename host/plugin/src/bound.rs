//! A program with a name, a role and a configuration: the plugin that the engine sees.
//!
//! Guarantees one outcome per row, in order, and that a failure of one row touches no other: when a
//! call fails as a whole, by a trap, a limit or an answer that cannot be used, its rows are run
//! again one by one, each in a fresh instance with a short budget. A row is one job for the threads
//! then, so a plugin that fails at every row takes turns with the others instead of holding a thread.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use model::BoxFuture;
use model::plugin::{Fault, Outcome, Plugin, PluginError, Rows};

use crate::bindings::Requirements;
use crate::budget::Time;
use crate::convert::{self, Reads};
use crate::cut::{Piece, cut};
use crate::error::Error;
use crate::fault::fault;
use crate::instance::Instance;
use crate::limits::Limits;
use crate::lines::{Lines, Quota};
use crate::pool::Pool;
use crate::program::{Program, Role};
use crate::reply;

/// Columns that a plugin may ask for: as many as a table of Postgres can have.
const COLUMNS_MAX: usize = 1600;

/// A plugin in one role.
pub(crate) struct Bound {
    guest: Arc<Guest>,
    pool: Pool,
}

/// What a thread needs for a call.
struct Guest {
    name: Arc<str>,
    program: Arc<Program>,
    role: Role,
    config: Box<str>,
    columns: Vec<String>,
    old_columns: Vec<String>,
    limits: Arc<Limits>,
}

type Outcomes = Vec<Result<Outcome, PluginError>>;

impl Bound {
    /// Configures one instance, on this thread.
    pub(crate) fn new(
        name: &str,
        program: Arc<Program>,
        role: Role,
        config: &str,
        limits: Arc<Limits>,
        pool: Pool,
    ) -> Result<Self, Error> {
        if program.run(role).is_none() {
            let roles: Vec<&str> = program.roles().map(Role::as_str).collect();
            let (plugin, roles) = (name.to_owned(), roles.join(" and "));
            return Err(Error::MissingRole { plugin, role, roles });
        }
        let mut guest = Guest {
            name: name.into(),
            program,
            role,
            config: config.into(),
            columns: Vec::new(),
            old_columns: Vec::new(),
            limits,
        };
        let Requirements { columns, old_columns, .. } = guest.check()?;
        (guest.columns, guest.old_columns) = (distinct(columns), distinct(old_columns));
        if guest.columns.len().max(guest.old_columns.len()) > COLUMNS_MAX {
            let message = format!("it asks for more than {COLUMNS_MAX} columns");
            return Err(Error::Configure { plugin: name.to_owned(), message });
        }
        Ok(Self { guest: Arc::new(guest), pool })
    }

    /// Appends the outcomes of a part of the rows that goes in one call.
    async fn run_piece(&self, rows: &Arc<Rows>, range: Range<usize>, outcomes: &mut Outcomes) {
        let Limits { log_lines_max, log_line_bytes_max, batch_cpu_max, row_cpu_max, .. } =
            *self.guest.limits;
        let quota = Quota::new(log_lines_max, log_line_bytes_max);
        let whole = self.call(rows, range.clone(), batch_cpu_max, &quota).await;
        let error = match whole {
            Ok(found) => return outcomes.extend(found),
            Err(error) => error,
        };
        if range.len() == 1 {
            return outcomes.push(Err(error));
        }
        let (plugin, fault) = (&*self.guest.name, error.fault.as_str());
        tracing::warn!(plugin, fault, rows = range.len(), "a batch failed: its rows run singly");
        for row in range {
            match self.call(rows, row..row + 1, row_cpu_max, &quota).await {
                Ok(found) => outcomes.extend(found),
                Err(error) => outcomes.push(Err(error)),
            }
        }
    }

    /// One call, on one of the threads. An answer has as many outcomes as there are rows.
    async fn call(
        &self,
        rows: &Arc<Rows>,
        range: Range<usize>,
        cpu_max: Duration,
        quota: &Quota,
    ) -> Result<Outcomes, PluginError> {
        let (guest, rows, quota) = (Arc::clone(&self.guest), Arc::clone(rows), quota.clone());
        let answer = self.pool.run(move || guest.call(&rows, range, cpu_max, quota)).await;
        answer.unwrap_or_else(|lost| Err(fault(Fault::Host, lost.to_string())))
    }
}

impl Plugin for Bound {
    fn name(&self) -> &str {
        &self.guest.name
    }

    fn digest(&self) -> &str {
        self.guest.program.digest()
    }

    fn run(&self, rows: Rows) -> BoxFuture<'_, Outcomes> {
        Box::pin(async move {
            let rows = Arc::new(rows);
            let mut outcomes = Vec::with_capacity(rows.changes.len());
            let reads = self.guest.reads(&rows);
            for piece in cut(&rows.changes, &reads, &self.guest.limits) {
                match piece {
                    Piece::Call(range) => self.run_piece(&rows, range, &mut outcomes).await,
                    Piece::NoRow(_) => {
                        let message = "a truncate has no row to hand to a plugin".to_owned();
                        outcomes.push(Err(fault(Fault::Host, message)));
                    }
                    Piece::TooLarge(_, bytes) => {
                        let max = self.guest.limits.row_bytes_max;
                        outcomes.push(Err(fault(
                            Fault::Memory,
                            format!(
                                "the columns that the plugin reads hold {bytes} bytes in this row, \
                                 and it can be given {max}"
                            ),
                        )));
                    }
                }
            }
            outcomes
        })
    }
}

impl Guest {
    fn reads(&self, rows: &Rows) -> Reads {
        Reads::new(&rows.relation, &self.columns, &self.old_columns)
    }

    /// A fresh instance that took the configuration.
    fn start(
        &self,
        cpu_max: Duration,
        quota: Quota,
    ) -> Result<(Instance<'_>, Requirements), PluginError> {
        let time = Time::start(cpu_max, self.limits.wall_max);
        let lines = Lines::new(Arc::clone(&self.name), self.program.shared_digest(), quota);
        let mut instance = Instance::start(&self.program, &self.limits, time, lines)?;
        let requirements = instance.configure(&self.config)?;
        Ok((instance, requirements))
    }

    fn call(
        &self,
        rows: &Rows,
        range: Range<usize>,
        cpu_max: Duration,
        quota: Quota,
    ) -> Result<Outcomes, PluginError> {
        let changes = rows.changes.get(range).unwrap_or_default();
        let (instance, _) = self.start(cpu_max, quota)?;
        let (batch, malformed) = convert::batch(&rows.relation, changes, &self.reads(rows));
        let reply = instance.run(self.role, &batch)?;
        let mut outcomes = reply::outcomes(self.role, changes.len(), reply)?;
        for convert::Malformed { row, message } in malformed {
            if let Some(outcome) = outcomes.get_mut(row) {
                *outcome = Err(fault(Fault::Host, message));
            }
        }
        Ok(outcomes)
    }

    /// Configures one instance, and compares the types of its functions with the host's.
    fn check(&self) -> Result<Requirements, Error> {
        let plugin = self.name.to_string();
        let quota = Quota::new(self.limits.log_lines_max, self.limits.log_line_bytes_max);
        match self.start(self.limits.batch_cpu_max, quota) {
            Ok((mut instance, requirements)) => {
                instance.check(self.role).map_err(|error| crate::program::invalid(&error))?;
                Ok(requirements)
            }
            Err(PluginError { fault: Fault::Guest, message }) => {
                Err(Error::Configure { plugin, message })
            }
            Err(PluginError { message, .. }) => Err(Error::Start { plugin, message }),
        }
    }
}

fn distinct(names: Vec<String>) -> Vec<String> {
    let mut known = HashSet::new();
    names.into_iter().filter(|name| known.insert(name.clone())).collect()
}
