//! A program with a name, a role and a configuration: the plugin that the engine sees.
//!
//! Guarantees one outcome per row, in order, and that a failure of one row touches no other: when a
//! call fails as a whole, by a trap, a limit or an answer that cannot be used, its rows are run
//! again one by one, each in a fresh instance with a short budget. A row is one job for the threads
//! then, so a plugin that fails at every row takes turns with the others instead of holding a thread.

#[doc(hidden)]
pub mod measure;

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::BoxFuture;
use model::grants::{Capability, Grants};
use model::plugin::{Cost, Fault, Outcome, Plugin, PluginError, Rows, TableReads};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::budget::Time;
use crate::calls::Calls;
use crate::convert;
use crate::cut::{Piece, cut};
use crate::error::Error;
use crate::fault::fault;
use crate::instance::Instance;
use crate::limits::{Limits, Terms};
use crate::lines::{Lines, Quota, shown};
use crate::pool::Pool;
use crate::program::{Description, Function, Program, Role};
use crate::reads::Wanted;
use crate::reply;
use crate::schema::{self, Unfit};
use crate::usage::{Totals, Usage};

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
    /// The kind of sink it works for.
    sink: Box<str>,
    config: Box<str>,
    wanted: Wanted,
    limits: Arc<Limits>,
    /// What it was granted of what it wants.
    grants: Arc<Grants>,
    /// Nothing outside is to change.
    is_aside: bool,
    /// Instances that wait for their next batch, if the plugin lets itself be kept warm.
    idle: Option<Mutex<Vec<(Instance, OwnedSemaphorePermit)>>>,
    /// For how many there is room, with those of other plugins.
    room: Arc<Semaphore>,
    used: Usage,
}

type Outcomes = Vec<Result<Outcome, PluginError>>;

/// What a plugin is made of, beside its program.
pub(crate) struct Binding<'a> {
    pub(crate) name: &'a str,
    pub(crate) role: Role,
    pub(crate) sink: &'a str,
    pub(crate) config: &'a str,
    pub(crate) terms: Terms,
    pub(crate) is_aside: bool,
}

impl Bound {
    /// Configures one instance, on this thread. One that may wait for what is outside has threads of
    /// its own then: nobody else waits with it.
    pub(crate) fn new(
        program: Arc<Program>,
        binding: Binding<'_>,
        limits: Arc<Limits>,
        pool: &Pool,
    ) -> Result<Self, Error> {
        let is_aside = binding.is_aside;
        let guest = Guest::new(program, binding, limits, pool.idle())?;
        let pool = if guest.grants.list().any(Capability::waits) {
            let apart = pool.apart(&guest.limits, is_aside);
            apart.map_err(|error| Error::Host { reason: error.to_string() })?
        } else {
            pool.clone()
        };
        Ok(Self { guest: Arc::new(guest), pool })
    }

    /// Whether it was granted this, and wants it.
    pub(crate) fn uses(&self, capability: Capability) -> bool {
        self.guest.grants.has(capability)
    }

    /// Appends the outcomes of a part of the rows that goes in one call.
    async fn run_piece(&self, rows: &Arc<Rows>, range: Range<usize>, outcomes: &mut Outcomes) {
        let Limits { log_lines_max, log_line_bytes_max, .. } = *self.guest.limits;
        let Limits { batch_cpu_max, row_cpu_max, wait_max, row_wait_max, .. } = *self.guest.limits;
        let quota = Quota::new(log_lines_max, log_line_bytes_max);
        let (batch, single) = ((batch_cpu_max, wait_max), (row_cpu_max, row_wait_max));
        let whole = self.call(rows, range.clone(), batch, &quota).await;
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
            match self.call(rows, row..row + 1, single, &quota).await {
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
        time: (Duration, Duration),
        quota: &Quota,
    ) -> Result<Outcomes, PluginError> {
        let (guest, rows, quota) = (Arc::clone(&self.guest), Arc::clone(rows), quota.clone());
        let answer = self.pool.run(move || guest.call(&rows, range, time, quota)).await;
        answer.unwrap_or_else(|lost| Err(fault(Fault::Host, lost.to_string())))
    }
}

impl Plugin for Bound {
    fn name(&self) -> &str {
        &self.guest.name
    }

    fn cost(&self) -> Option<Cost> {
        let Guest { used, program, .. } = &*self.guest;
        let Totals { calls, cpu, fuel, memory_bytes_max, fuel_calls, .. } = used.totals();
        let (instances, compile) = (used.instances(), program.took());
        Some(Cost { calls, cpu, fuel, fuel_calls, instances, memory_bytes_max, compile })
    }

    fn digest(&self) -> &str {
        self.guest.program.digest()
    }

    fn is_deterministic(&self) -> bool {
        self.guest.grants.list().next().is_none()
    }

    fn reads(&self) -> Vec<TableReads> {
        self.guest.wanted.named(&self.guest.name)
    }

    fn run(&self, rows: Rows) -> BoxFuture<'_, Outcomes> {
        Box::pin(async move {
            let rows = Arc::new(rows);
            let mut outcomes = Vec::with_capacity(rows.changes.len());
            let Some(reads) = self.guest.wanted.of(&rows.relation) else {
                return rows.changes.iter().map(|_| Ok(Outcome::Keep)).collect();
            };
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
    /// Configures one instance, on this thread.
    fn new(
        program: Arc<Program>,
        binding: Binding<'_>,
        limits: Arc<Limits>,
        room: Arc<Semaphore>,
    ) -> Result<Self, Error> {
        let Binding { name, role, sink, config, terms, is_aside } = binding;
        if program.function(Function::Run(role)).is_none() {
            let roles: Vec<&str> = program.roles().map(Role::as_str).collect();
            let (plugin, roles) = (name.to_owned(), roles.join(" and "));
            return Err(Error::MissingRole { plugin, role, roles });
        }
        let mut guest = Self {
            name: name.into(),
            program,
            role,
            sink: sink.into(),
            config: config.into(),
            wanted: Wanted::default(),
            limits,
            grants: Arc::new(terms.grants),
            is_aside,
            idle: None,
            room,
            used: Usage::default(),
        };
        guest.check()?;
        Ok(guest)
    }

    /// A fresh instance that took the configuration.
    fn start(&self, time: Time, lines: Lines, calls: Calls) -> Result<Instance, PluginError> {
        self.used.add_instance();
        let mut instance = Instance::start(&self.program, &self.limits, time, lines, calls)?;
        instance.configure(&self.config)?;
        Ok(instance)
    }

    /// One that waits, or a fresh one.
    fn instance(
        &self,
        (cpu_max, wait_max): (Duration, Duration),
        quota: Quota,
    ) -> Result<Instance, PluginError> {
        let time = Time::start(cpu_max, self.limits.wall_max);
        let lines = self.lines(quota);
        let calls = self.calls().waiting(wait_max);
        let idle = self.idle.as_ref().and_then(|idle| lock(idle).pop());
        match idle {
            Some((mut instance, _)) => {
                instance.renew(&self.limits, time, lines, calls);
                Ok(instance)
            }
            None => self.start(time, lines, calls),
        }
    }

    /// Keeps an instance for the next batch, or drops it.
    fn rest(&self, instance: Instance) {
        if let Some(idle) = &self.idle
            && instance.is_fit(&self.limits)
            && let Ok(room) = Arc::clone(&self.room).try_acquire_owned()
        {
            // There are never more than threads that run them.
            lock(idle).push((instance, room));
        }
    }

    fn calls(&self) -> Calls {
        Calls::new(Arc::clone(&self.grants), self.is_aside, &self.limits)
    }

    fn lines(&self, quota: Quota) -> Lines {
        Lines::new(Arc::clone(&self.name), self.program.shared_digest(), quota)
    }

    fn call(
        &self,
        rows: &Rows,
        range: Range<usize>,
        time: (Duration, Duration),
        quota: Quota,
    ) -> Result<Outcomes, PluginError> {
        let changes = rows.changes.get(range).unwrap_or_default();
        let reads = self.wanted.of(&rows.relation).unwrap_or_default();
        let mut instance = self.instance(time, quota)?;
        let keys = convert::keys(changes, &reads);
        let (batch, malformed) = convert::batch(&rows.relation, changes, &keys, &reads);
        let reply = instance.run(self.role, &self.sink, &batch);
        instance.count(changes.len(), &self.used);
        if let Some(usage) = &self.limits.usage {
            instance.count(changes.len(), usage);
        }
        let reply = reply?;
        let mut outcomes = reply::outcomes(self.role, changes.len(), reply)?;
        instance.commit()?;
        self.rest(instance);
        for convert::Malformed { row, message } in malformed {
            if let Some(outcome) = outcomes.get_mut(row) {
                *outcome = Err(fault(Fault::Host, message));
            }
        }
        Ok(outcomes)
    }

    /// The grants that it wants, by what it says and by what it imports.
    ///
    /// # Errors
    /// It wants something that it is not granted.
    fn granted(&self, told: &[String]) -> Result<Grants, Error> {
        let imported = self.program.imported();
        let mut wanted = imported.to_vec();
        let mut missing = Vec::new();
        for name in told {
            match Capability::named(name) {
                Some(capability) if wanted.contains(&capability) => {}
                Some(capability) => wanted.push(capability),
                None => missing.push(format!("`{}`, which no plugin can be granted", shown(name))),
            }
        }
        wanted.sort();
        let world = self.program.world();
        for capability in wanted.iter().filter(|wanted| !self.grants.has(**wanted)) {
            let by = match imported.contains(capability) {
                true => format!(" (it imports {})", world.interface(capability.as_str())),
                false => String::new(),
            };
            missing.push(format!("`{capability}`{by}"));
        }
        if missing.is_empty() {
            return Ok(Grants::clone(&self.grants).only(&wanted));
        }
        let wanted = shown(&missing.join(", "));
        Err(Error::Capabilities { plugin: self.name.to_string(), wanted })
    }

    /// Holds its configuration against the schema that it gives of it.
    fn fits(&self, schema: &str) -> Result<(), Error> {
        let plugin = || self.name.to_string();
        let parse = |text: &str| serde_json::from_str(text).map_err(|error| error.to_string());
        let schema: Value =
            parse(schema).map_err(|reason| Error::Schema { plugin: plugin(), reason })?;
        let config = parse(&self.config)
            .map_err(|message| Error::Configure { plugin: plugin(), message })?;
        schema::check(&schema, &config).map_err(|unfit| match unfit {
            Unfit::Schema(reason) => Error::Schema { plugin: plugin(), reason },
            Unfit::Config(message) => {
                Error::Configure { plugin: plugin(), message: shown(&message) }
            }
        })
    }

    /// Compares the types of its functions with the host's, asks what it is, and configures it.
    fn check(&mut self) -> Result<(), Error> {
        let plugin = || self.name.to_string();
        let failed = |error: PluginError| match error {
            PluginError { fault: Fault::Guest, message } => {
                Error::Configure { plugin: plugin(), message }
            }
            PluginError { message, .. } => Error::Start { plugin: plugin(), message },
        };
        let quota = Quota::new(self.limits.log_lines_max, self.limits.log_line_bytes_max);
        let time = Time::start(self.limits.batch_cpu_max, self.limits.wall_max);
        let lines = self.lines(quota);
        let started = Instance::start(&self.program, &self.limits, time, lines, self.calls());
        let mut instance = started.map_err(failed)?;
        instance.check(self.role).map_err(|error| crate::program::invalid(&error))?;
        let told = instance.describe().map_err(failed)?;
        let Description { capabilities, warm, config_schema } = Description::new(&self.name, told)?;
        self.grants = Arc::new(self.granted(&capabilities)?);
        // Its own words come first: it knows best what is wrong.
        let requirements = instance.configure(&self.config).map_err(failed)?;
        if let Some(schema) = config_schema {
            self.fits(&schema)?;
        }
        let wanted = Wanted::new(requirements);
        self.wanted = wanted.map_err(|message| {
            let message = shown(&message);
            Error::Configure { plugin: plugin(), message }
        })?;
        self.idle = warm.then(Mutex::default);
        Ok(())
    }
}

/// Asks a program what it is, in an instance of its own, on this thread.
pub(crate) fn describe(
    name: &str,
    program: &Arc<Program>,
    limits: &Limits,
) -> Result<Description, Error> {
    let failed = |message: String| Error::Start { plugin: name.to_owned(), message };
    let time = Time::start(limits.batch_cpu_max, limits.wall_max);
    let quota = Quota::new(limits.log_lines_max, limits.log_line_bytes_max);
    let lines = Lines::new(name.into(), program.shared_digest(), quota);
    let started = Instance::start(program, limits, time, lines, Calls::none(limits));
    let mut instance = started.map_err(|error| failed(error.message))?;
    for role in program.roles() {
        instance.check(role).map_err(|error| crate::program::invalid(&error))?;
    }
    let told = instance.describe().map_err(|error| failed(error.message))?;
    Description::new(name, told)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
