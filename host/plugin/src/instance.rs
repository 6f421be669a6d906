//! One instance: configured once, asked, dropped.
//!
//! Guarantees that an instance that failed in any way answers nothing more: whoever keeps one for
//! the next batch asks [`Instance::is_fit`]. A store holds one instance, as a store only ever grows.
//! The clock and the limits hold from before its start functions run, and anew for each batch.

use std::sync::Arc;

use model::plugin::{Fault, PluginError};
use wasmtime::component::{
    ComponentNamedList, Func, Instance as Wasm, InstancePre, Lift, Lower, TypedFunc,
};
use wasmtime::{Store, UpdateDeadline};

use crate::bindings::{Batch, ConfigError, Description, Reply, Requirements};
use crate::budget::{Memory, Time};
use crate::calls::{Calls, Phase, Unanswered};
use crate::fault::{classify, fault};
use crate::limits::Limits;
use crate::lines::Lines;
use crate::program::{Function, Program, Role};
use crate::usage::Usage;

/// What the host keeps for one instance.
#[derive(Debug)]
pub(crate) struct State {
    memory: Memory,
    pub(crate) time: Time,
    pub(crate) lines: Lines,
    pub(crate) calls: Calls,
}

/// An instance.
pub(crate) struct Instance {
    program: Arc<Program>,
    store: Store<State>,
    wasm: Wasm,
    batches: u32,
    failed: bool,
}

/// A kept instance is replaced after so many batches: what leaks a little, or slowly changes its
/// mind, does not do so for ever. The cost of a new one is nothing by then.
const BATCHES_MAX: u32 = 10_000;

impl Instance {
    /// A fresh instance, whose time begins now, on this thread.
    pub(crate) fn start(
        program: &Arc<Program>,
        limits: &Limits,
        time: Time,
        lines: Lines,
        calls: Calls,
    ) -> Result<Self, PluginError> {
        let pre: &InstancePre<State> = program.pre();
        let state = State { memory: Memory::new(limits), time, lines, calls };
        let mut store = Store::new(pre.engine(), state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(limits.output_bytes_max);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| {
            store.data().time.check()?;
            Ok(UpdateDeadline::Continue(1))
        });
        if limits.metering.fuel() {
            // All there is: what is of interest is the counting.
            store.set_fuel(u64::MAX).map_err(|error| classify(&error, None))?;
        }
        match pre.instantiate(&mut store) {
            Ok(wasm) => {
                let program = Arc::clone(program);
                Ok(Self { program, store, wasm, batches: 0, failed: false })
            }
            Err(error) => Err(classify(&error, store.data().lines.last_error())),
        }
    }

    /// Gives it the time, and the lines, of another batch.
    pub(crate) fn renew(&mut self, limits: &Limits, time: Time, lines: Lines, calls: Calls) {
        let state = self.store.data_mut();
        (state.time, state.lines, state.calls) = (time, lines, calls);
        self.store.set_hostcall_fuel(limits.output_bytes_max);
        self.store.set_epoch_deadline(1);
        if limits.metering.fuel() {
            // It is counted, as it was at the start.
            self.store.set_fuel(u64::MAX).ok();
        }
    }

    /// Adds what it used since its time began.
    pub(crate) fn count(&self, rows: usize, usage: &Usage) {
        let state = self.store.data();
        let fuel = self.store.get_fuel().map_or(0, |left| u64::MAX - left);
        usage.add(rows, state.time.spent(), fuel, state.memory.bytes());
    }

    /// Whether it may be kept for another batch.
    pub(crate) fn is_fit(&self, limits: &Limits) -> bool {
        // One that has grown to half of its limit would sooner or later fail an innocent batch.
        let grown = self.store.data().memory.bytes() > limits.memory_bytes_max / 2;
        !self.failed && !grown && self.batches < BATCHES_MAX
    }

    /// What it says of itself.
    pub(crate) fn describe(&mut self) -> Result<Description, PluginError> {
        let answer: (Description,) = self.call(Function::Describe, ())?;
        Ok(answer.0)
    }

    /// Hands over the configuration; the guest's own objections are a [`Fault::Guest`].
    pub(crate) fn configure(&mut self, config: &str) -> Result<Requirements, PluginError> {
        self.store.data_mut().calls.enter(Phase::Configure);
        let answer: (Configured,) = self.call(Function::Configure, (config,))?;
        answer.0.map_err(|errors| {
            self.failed = true;
            fault(Fault::Guest, objections(errors))
        })
    }

    /// Hands over a batch. `sink` is the kind of sink that a router works for.
    pub(crate) fn run(
        &mut self,
        role: Role,
        sink: &str,
        batch: &Batch<'_>,
    ) -> Result<Reply, PluginError> {
        self.batches += 1;
        self.store.data_mut().calls.enter(Phase::Run);
        let run = Function::Run(role);
        let answer: (Ran,) = match role {
            Role::Filter | Role::Transform => self.call(run, (batch,))?,
            Role::Route => self.call(run, (sink, batch))?,
        };
        answer.0.map_err(|message| {
            self.failed = true;
            fault(Fault::Guest, message)
        })
    }

    /// Keeps what it wrote to its store, once its answer is found good.
    pub(crate) fn commit(&mut self) -> Result<(), PluginError> {
        let State { calls, time, .. } = self.store.data_mut();
        calls.commit(time).map_err(|unanswered| {
            self.failed = true;
            let why = match unanswered {
                Unanswered::Error(error) => error.message,
                Unanswered::Stop(stop) => stop.to_string(),
            };
            fault(Fault::Host, format!("what the plugin wrote to its store cannot be kept: {why}"))
        })
    }

    /// Looks the functions up without calling them, which compares their types with the host's.
    pub(crate) fn check(&mut self, role: Role) -> wasmtime::Result<()> {
        self.function::<(), (Description,)>(Function::Describe)?;
        self.function::<(&str,), (Configured,)>(Function::Configure)?;
        match role {
            _ if self.program.function(Function::Run(role)).is_none() => {}
            Role::Filter | Role::Transform => {
                self.function::<(&Batch<'_>,), (Ran,)>(Function::Run(role))?;
            }
            Role::Route => {
                self.function::<(&str, &Batch<'_>), (Ran,)>(Function::Run(role))?;
            }
        }
        Ok(())
    }

    /// The function, whose types are compared with those of the host once per program: of a reply
    /// they are so many that it takes as long as a small call.
    fn function<Params, Return>(
        &mut self,
        function: Function,
    ) -> wasmtime::Result<TypedFunc<Params, Return>>
    where
        Params: ComponentNamedList + Lower,
        Return: ComponentNamedList + Lift + 'static,
    {
        let found = self.program.function(function);
        let found = found.and_then(|index| self.wasm.get_func(&mut self.store, index));
        let found = found.ok_or_else(|| wasmtime::Error::msg("it has no such function"))?;
        if self.program.was_compared(function) {
            return Ok(compared(found));
        }
        let typed = found.typed(&self.store)?;
        self.program.is_compared(function);
        Ok(typed)
    }

    /// Each function is called with the types of one place here.
    fn call<Params, Return>(
        &mut self,
        function: Function,
        params: Params,
    ) -> Result<Return, PluginError>
    where
        Params: ComponentNamedList + Lower,
        Return: ComponentNamedList + Lift + 'static,
    {
        let function = self.function::<Params, Return>(function);
        let function = function.map_err(|error| fault(Fault::Host, error.to_string()))?;
        function.call(&mut self.store, params).map_err(|error| {
            self.failed = true;
            classify(&error, self.store.data().lines.last_error())
        })
    }
}

#[expect(unsafe_code, reason = "wasmtime's comparison of types takes as long as a small call")]
fn compared<Params, Return>(function: Func) -> TypedFunc<Params, Return>
where
    Params: ComponentNamedList + Lower,
    Return: ComponentNamedList + Lift + 'static,
{
    // SAFETY: wasmtime compared the types of this function of the same program, whose types are those
    // of all its instances, with the same types of the host: a `Function` has one signature here,
    // whatever the lifetimes in it.
    unsafe { TypedFunc::new_unchecked(function) }
}

type Configured = Result<Requirements, Vec<ConfigError>>;
type Ran = Result<Reply, String>;

/// A line for each.
fn objections(errors: Vec<ConfigError>) -> String {
    let line = |ConfigError { field, message }| match field.as_str() {
        "" => message,
        field => format!("{field}: {message}"),
    };
    let lines: Vec<String> = errors.into_iter().map(line).collect();
    if lines.is_empty() { "it does not say what is wrong".to_owned() } else { lines.join("; ") }
}
