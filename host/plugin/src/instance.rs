//! One instance: configured once, asked once, dropped.
//!
//! Guarantees that an instance answers at most one batch, whatever becomes of it: [`Instance::run`]
//! takes it. A store holds one instance, as a store only ever grows. The clock and the limits hold
//! from before its start functions run.

use model::plugin::{Fault, PluginError};
use wasmtime::component::{
    ComponentExportIndex, ComponentNamedList, Instance as Wasm, InstancePre, Lift, Linker, Lower,
    WasmStr,
};
use wasmtime::{Engine, Store, StoreContextMut, UpdateDeadline};

use crate::bindings::{Batch, LOG, Level, Reply, Requirements};
use crate::budget::{Memory, Time};
use crate::fault::{classify, fault};
use crate::limits::Limits;
use crate::lines::Lines;
use crate::program::{Program, Role};

/// More than any limit of a line that makes sense; the limit itself is applied by [`Lines`].
const LINE_BYTES_READ: usize = 64 << 10;

/// What the host keeps for one instance.
#[derive(Debug)]
pub(crate) struct State {
    memory: Memory,
    time: Time,
    lines: Lines,
}

/// An instance that may be used once.
pub(crate) struct Instance<'a> {
    program: &'a Program,
    store: Store<State>,
    wasm: Wasm,
}

/// Defines what guests are granted: the log.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    let log = |mut store: StoreContextMut<'_, State>, (level, message): (Level, WasmStr)| {
        // Borrowed from the guest's memory, to copy no more of it than is kept.
        let line = message.to_str(&store)?;
        let line = crate::lines::cut(&line, LINE_BYTES_READ).to_owned();
        store.data_mut().lines.write(level, &line);
        Ok(())
    };
    linker.instance(LOG)?.func_wrap("log", log)?;
    Ok(linker)
}

impl<'a> Instance<'a> {
    /// A fresh instance, whose time begins now, on this thread.
    pub(crate) fn start(
        program: &'a Program,
        limits: &Limits,
        time: Time,
        lines: Lines,
    ) -> Result<Self, PluginError> {
        let pre: &InstancePre<State> = program.pre();
        let state = State { memory: Memory::new(limits), time, lines };
        let mut store = Store::new(pre.engine(), state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(limits.output_bytes_max);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|store| {
            store.data().time.check()?;
            Ok(UpdateDeadline::Continue(1))
        });
        match pre.instantiate(&mut store) {
            Ok(wasm) => Ok(Self { program, store, wasm }),
            Err(error) => Err(classify(&error, store.data().lines.last_error())),
        }
    }

    /// Hands over the configuration; the guest's own objection is a [`Fault::Guest`].
    pub(crate) fn configure(&mut self, config: &str) -> Result<Requirements, PluginError> {
        let answer: (Result<Requirements, String>,) =
            self.call(self.program.configure(), (config,))?;
        answer.0.map_err(|message| fault(Fault::Guest, message))
    }

    /// Hands over a batch, and ends the instance.
    pub(crate) fn run(mut self, role: Role, batch: &Batch<'_>) -> Result<Reply, PluginError> {
        let Some(run) = self.program.run(role) else {
            return Err(fault(Fault::Host, format!("the component is no {role}")));
        };
        let answer: (Result<Reply, String>,) = self.call(run, (batch,))?;
        answer.0.map_err(|message| fault(Fault::Guest, message))
    }

    /// Looks the functions up without calling them, which compares their types with the host's.
    pub(crate) fn check(&mut self, role: Role) -> wasmtime::Result<()> {
        let (store, configure) = (&mut self.store, self.program.configure());
        type Configured = (Result<Requirements, String>,);
        self.wasm.get_typed_func::<(&str,), Configured>(&mut *store, configure)?;
        if let Some(run) = self.program.run(role) {
            type Ran = (Result<Reply, String>,);
            self.wasm.get_typed_func::<(&Batch<'_>,), Ran>(&mut *store, run)?;
        }
        Ok(())
    }

    fn call<Params, Return>(
        &mut self,
        function: &ComponentExportIndex,
        params: Params,
    ) -> Result<Return, PluginError>
    where
        Params: ComponentNamedList + Lower,
        Return: ComponentNamedList + Lift + 'static,
    {
        let function = self.wasm.get_typed_func::<Params, Return>(&mut self.store, function);
        // The types were compared when the plugin was bound.
        let function = function.map_err(|error| fault(Fault::Host, error.to_string()))?;
        function
            .call(&mut self.store, params)
            .map_err(|error| classify(&error, self.store.data().lines.last_error()))
    }
}
