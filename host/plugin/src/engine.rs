//! The one wasmtime engine of a process, and what is loaded into it.
//!
//! Guarantees that guests can be interrupted for as long as any of them can run: the ticker lives
//! as long as the engine, which programs and plugins hold too.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use model::grants::{Capability, Grants};
use model::plugin::Plugin;
use wasmtime::component::Linker;
use wasmtime::{Config, Engine, OptLevel};

use crate::bound::{Binding, Bound};
use crate::cache::Cache;
use crate::error::Error;
use crate::instance::State;
use crate::limits::{Limits, Terms};
use crate::pool::Pool;
use crate::program::{Description, Program, Role, digest};

/// How often guests are looked at: the error of a CPU budget, and cheap enough to do always.
const TICK: Duration = Duration::from_millis(5);

/// Frames of a guest's stack in an error: where it happened, and not all of a deep recursion.
const FRAMES_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(19);

/// A plugin, and what of its grants it has no use for.
pub struct Granted {
    /// The plugin.
    pub plugin: Arc<dyn Plugin>,
    /// Granted, and not wanted.
    pub unused: Vec<Capability>,
}

/// The sandbox. One per process: it has threads of its own.
pub struct Host {
    engine: Engine,
    linker: Linker<State>,
    limits: Arc<Limits>,
    pool: Pool,
    /// For what must take nothing from the others; made when the first asks for it.
    aside: Mutex<Option<Pool>>,
    cache: Option<Cache>,
    /// What is in use, by digest.
    programs: Mutex<HashMap<Arc<str>, Weak<Program>>>,
}

impl Host {
    /// Starts an engine and its threads: `limits.threads` that run guests, and one that ticks. They
    /// end when the host and all that was loaded and bound with it are dropped.
    ///
    /// # Errors
    /// If the engine does not take its configuration, or a thread cannot be started.
    pub fn new(limits: Limits) -> Result<Self, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::Host { reason: error.to_string() };
        let engine =
            crate::memory::engine(config(&limits), &limits).map_err(|error| failed(&error))?;
        let linker = crate::linker::linker(&engine).map_err(|error| failed(&error))?;
        tick(&engine).map_err(|error| failed(&error))?;
        let pool = Pool::start(&limits).map_err(|error| failed(&error))?;
        let (limits, programs) = (Arc::new(limits), Mutex::default());
        let aside = Mutex::default();
        Ok(Self { engine, linker, limits, pool, aside, cache: None, programs })
    }

    /// Keeps compiled components in this directory, which is made if it is not there, for the next
    /// process. They are machine code: it must be the user's own, and writable by nobody else.
    ///
    /// # Errors
    /// If it cannot be made, or is not ours alone.
    pub fn with_cache(mut self, dir: &Path) -> Result<Self, Error> {
        let cache = Cache::open(dir).map_err(|error| Error::Cache {
            dir: dir.display().to_string(),
            reason: error.to_string(),
        })?;
        self.cache = Some(cache);
        Ok(self)
    }

    /// What a program says of itself: its configuration's schema, what it wants, whether it is to
    /// be kept warm.
    ///
    /// Blocks its thread for as long as the guest takes, at most `limits.batch_cpu_max`.
    ///
    /// # Errors
    /// If the guest fails at it, does not speak the host's version of the contract, or has a schema that
    /// is no JSON Schema.
    pub fn describe(&self, name: &str, program: &Arc<Program>) -> Result<Description, Error> {
        crate::bound::describe(name, program, &self.limits)
    }

    /// Checks and compiles a component; one that is in use already is not compiled again.
    ///
    /// Blocks its thread for the time of a compilation: 0.1 s for a Rust guest, seconds for others.
    ///
    /// # Errors
    /// If this is no component, imports what is not granted, or has no role; each says what to do.
    pub fn load(&self, bytes: &[u8]) -> Result<Arc<Program>, Error> {
        let bytes_max = self.limits.component_bytes_max;
        if bytes.len() > bytes_max {
            return Err(Error::TooLarge { bytes: bytes.len(), bytes_max });
        }
        let digest = digest(bytes);
        let known = |programs: &HashMap<Arc<str>, Weak<Program>>| programs.get(&digest)?.upgrade();
        if let Some(program) = known(&self.programs.lock().unwrap_or_else(PoisonError::into_inner))
        {
            return Ok(program);
        }
        // Not under the lock: another component must not wait for this one. Two at once of the same
        // bytes are compiled twice, and the later one stays.
        let program = Program::compile(
            &self.engine,
            &self.linker,
            self.cache.as_ref(),
            Arc::clone(&digest),
            bytes,
        )?;
        let program = Arc::new(program);
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        programs.retain(|_, program| program.strong_count() > 0);
        programs.insert(digest, Arc::downgrade(&program));
        Ok(program)
    }

    /// Makes a plugin of a program. Configures one instance, to find out what it reads and whether
    /// it takes the configuration.
    ///
    /// `sink` is the kind of sink that it works for, which a router is told.
    ///
    /// Blocks its thread for as long as the guest takes, at most `limits.batch_cpu_max`.
    ///
    /// # Errors
    /// If the program does not have the role, wants what is not granted, or does not take the
    /// configuration.
    pub fn bind(
        &self,
        name: &str,
        program: &Arc<Program>,
        role: Role,
        sink: &str,
        config_json: &str,
    ) -> Result<Arc<dyn Plugin>, Error> {
        self.bind_granted(name, program, role, sink, config_json, Grants::default())
            .map(|granted| granted.plugin)
    }

    /// As [`Host::bind`], with what the plugin is granted. What it does not want it does not get.
    ///
    /// # Errors
    /// As for [`Host::bind`].
    pub fn bind_granted(
        &self,
        name: &str,
        program: &Arc<Program>,
        role: Role,
        sink: &str,
        config: &str,
        terms: impl Into<Terms>,
    ) -> Result<Granted, Error> {
        let terms = terms.into();
        let binding = Binding { name, role, sink, config, terms, is_aside: false };
        self.bind_to(&self.pool, program, binding)
    }

    /// As [`Host::bind_granted`], for what must take nothing from the others: it runs on one thread
    /// beside theirs, of the lowest priority, and what it is granted changes nothing outside.
    ///
    /// # Errors
    /// As for [`Host::bind`], or the thread cannot be started.
    pub fn bind_aside(
        &self,
        name: &str,
        program: &Arc<Program>,
        role: Role,
        sink: &str,
        config: &str,
        terms: impl Into<Terms>,
    ) -> Result<Granted, Error> {
        let pool = {
            let mut kept = self.aside.lock().unwrap_or_else(PoisonError::into_inner);
            match &*kept {
                Some(pool) => pool.clone(),
                None => {
                    let failed = |error: std::io::Error| Error::Host { reason: error.to_string() };
                    let pool = self.pool.aside(&self.limits).map_err(failed)?;
                    kept.insert(pool).clone()
                }
            }
        };
        let terms = terms.into();
        let binding = Binding { name, role, sink, config, terms, is_aside: true };
        self.bind_to(&pool, program, binding)
    }

    fn bind_to(
        &self,
        pool: &Pool,
        program: &Arc<Program>,
        binding: Binding<'_>,
    ) -> Result<Granted, Error> {
        let granted: Vec<Capability> = binding.terms.grants.list().collect();
        let limits = self.limits.of(&binding.terms.limits);
        let bound = Bound::new(Arc::clone(program), binding, limits, pool)?;
        let unused = granted.into_iter().filter(|granted| !bound.uses(*granted)).collect();
        Ok(Granted { plugin: Arc::new(bound), unused })
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("limits", &self.limits).finish_non_exhaustive()
    }
}

fn config(limits: &Limits) -> Config {
    let mut config = Config::new();
    config
        .cranelift_opt_level(OptLevel::Speed)
        // The same bits of a NaN on every machine.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .epoch_interruption(limits.metering.epochs())
        .consume_fuel(limits.metering.fuel())
        // A call costs a third without; no world has anything asynchronous.
        .concurrency_support(false)
        .max_wasm_stack(limits.stack_bytes_max)
        .wasm_backtrace_max_frames(Some(FRAMES_MAX));
    config
}

/// Moves the engine's epoch on for as long as the engine is held by someone.
fn tick(engine: &Engine) -> std::io::Result<()> {
    let engine = engine.weak();
    let ticking = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            // Waking early is no harm: the budget is read from a clock at each tick.
            std::thread::park_timeout(TICK);
        }
    };
    std::thread::Builder::new().name("plugin-epoch".to_owned()).spawn(ticking)?;
    Ok(())
}
