//! A component that was found fit to run.
//!
//! Guarantees that what it imports is granted, that it exports `lifecycle` and a role, and that its
//! digest is that of the bytes it was made of. Its types are compared only when it is bound.

use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use model::grants::Capability;
use rustix::time::ClockId;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker};

use crate::bindings;
use crate::budget::now;
use crate::cache::Cache;
use crate::error::Error;
use crate::instance::State;
use crate::worlds::{self, Import, World};

/// How a binary begins: magic, version, and whether it is a component.
const CORE_MODULE: [u8; 8] = [0, b'a', b's', b'm', 1, 0, 0, 0];
const COMPONENT: [u8; 8] = [0, b'a', b's', b'm', 13, 0, 1, 0];

/// What may be missing in the exports.
pub(crate) const NO_LIFECYCLE: &str = "no sequin:plugin/lifecycle@0.1 or @0.2";
pub(crate) const NO_ROLE: &str =
    "none of filter, route and transform of the version of its lifecycle";

/// What a plugin is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Decides which rows belong to the set.
    Filter,
    /// Says where a row is sent.
    Route,
    /// Changes what is sent for a row.
    Transform,
}

/// What a plugin exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Describe,
    Configure,
    Run(Role),
}

impl Function {
    /// A bit of its own.
    const fn bit(self) -> u8 {
        match self {
            Self::Describe => 1,
            Self::Configure => 1 << 1,
            Self::Run(Role::Filter) => 1 << 2,
            Self::Run(Role::Route) => 1 << 3,
            Self::Run(Role::Transform) => 1 << 4,
        }
    }
}

/// What a plugin says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The JSON Schema of its configuration, a JSON object or Boolean; None if it has none.
    pub config_schema: Option<String>,
    /// What it says it wants granted. What it imports it wants too.
    pub capabilities: Vec<String>,
    /// Whether an instance may be used for more than one batch.
    pub warm: bool,
}

impl Description {
    /// What `plugin` told, if it makes sense.
    pub(crate) fn new(plugin: &str, told: bindings::Description) -> Result<Self, Error> {
        let bindings::Description { config_schema, capabilities, warm, .. } = told;
        let config_schema = Some(config_schema).filter(|schema| !schema.is_empty());
        if let Some(schema) = &config_schema {
            check_schema(schema)
                .map_err(|reason| Error::Schema { plugin: plugin.to_owned(), reason })?;
        }
        Ok(Self { config_schema, capabilities, warm })
    }
}

/// Only that it can be one: what it says is for editors, people and `schema.rs`.
fn check_schema(schema: &str) -> Result<(), String> {
    serde_json::from_str::<&RawValue>(schema).map_err(|error| format!("it is no JSON: {error}"))?;
    // It is JSON, of which only `true` and `false` begin like that.
    let fits = schema.trim_start().starts_with(['{', 't', 'f']);
    fits.then_some(()).ok_or_else(|| "it is neither an object nor a Boolean".to_owned())
}

impl Role {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Filter, Self::Route, Self::Transform];

    /// The word used in messages, configuration and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Route => "route",
            Self::Transform => "transform",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A compiled component.
pub struct Program {
    digest: Arc<str>,
    world: World,
    /// The capabilities among its imports.
    imported: Vec<Capability>,
    pre: InstancePre<State>,
    describe: ComponentExportIndex,
    configure: ComponentExportIndex,
    filter: Option<ComponentExportIndex>,
    route: Option<ComponentExportIndex>,
    transform: Option<ComponentExportIndex>,
    /// The functions whose types were compared with the host's, by [`Function::bit`].
    compared: AtomicU8,
    /// How long it took to compile, or to be found compiled.
    took: Duration,
}

impl Program {
    /// Its identity: `sha256:` and the hexadecimal digits of the component's bytes.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The roles that it can be bound to: one or more.
    pub fn roles(&self) -> impl Iterator<Item = Role> + '_ {
        Role::ALL.into_iter().filter(|role| self.function(Function::Run(*role)).is_some())
    }

    /// Compiles a component, or finds it compiled. Takes 0.1 s of CPU time for a Rust guest, 10 s
    /// for a Python one; a hundredth of that from the cache.
    pub(crate) fn compile(
        engine: &Engine,
        linker: &Linker<State>,
        cache: Option<&Cache>,
        digest: Arc<str>,
        bytes: &[u8],
    ) -> Result<Self, Error> {
        if bytes.starts_with(&CORE_MODULE) {
            return Err(Error::CoreModule);
        }
        if !bytes.starts_with(&COMPONENT) {
            let reason = "the bytes are not WebAssembly of a version that is known".to_owned();
            return Err(Error::InvalidComponent { reason });
        }
        let begun = now(ClockId::Monotonic);
        let component = match cache.and_then(|cache| cache.load(engine, &digest)) {
            Some(component) => {
                tracing::debug!(plugin.digest = %digest, "a component was compiled before");
                component
            }
            None => {
                let compiled = Component::from_binary(engine, bytes);
                let component = compiled.map_err(|error| invalid(&error))?;
                tracing::debug!(plugin.digest = %digest, "a component was compiled");
                if let Some(cache) = cache {
                    cache.store(engine, &digest, &component);
                }
                component
            }
        };
        let took = now(ClockId::Monotonic).saturating_sub(begun);
        let imported = check_imports(engine, &component)?;
        let function = |interface: &str, name: &str| {
            let interface = component.get_export_index(None, interface)?;
            component.get_export_index(Some(&interface), name)
        };
        let lifecycle = |world: World| {
            let name = world.interface("lifecycle");
            Some((world, function(&name, "describe")?, function(&name, "configure")?))
        };
        let Some((world, describe, configure)) = World::ALL.into_iter().find_map(lifecycle) else {
            return Err(Error::NoRole { missing: NO_LIFECYCLE });
        };
        let [filter, route, transform] = [Role::Filter, Role::Route, Role::Transform]
            .map(|role| function(&world.role(role), "run"));
        if filter.is_none() && route.is_none() && transform.is_none() {
            return Err(Error::NoRole { missing: NO_ROLE });
        }
        let pre = linker.instantiate_pre(&component).map_err(|error| invalid(&error))?;
        let compared = AtomicU8::new(0);
        Ok(Self {
            digest,
            world,
            imported,
            pre,
            describe,
            configure,
            filter,
            route,
            transform,
            compared,
            took,
        })
    }

    /// The version of the contract that it was made for, as `0.2`.
    #[must_use]
    pub fn contract(&self) -> &'static str {
        self.world.minor()
    }

    /// The capabilities that it imports.
    #[must_use]
    pub fn imported(&self) -> &[Capability] {
        &self.imported
    }

    pub(crate) fn world(&self) -> World {
        self.world
    }

    pub(crate) fn took(&self) -> Duration {
        self.took
    }

    pub(crate) fn shared_digest(&self) -> Arc<str> {
        Arc::clone(&self.digest)
    }

    pub(crate) fn pre(&self) -> &InstancePre<State> {
        &self.pre
    }

    /// A function, if it has that.
    pub(crate) fn function(&self, function: Function) -> Option<&ComponentExportIndex> {
        match function {
            Function::Describe => Some(&self.describe),
            Function::Configure => Some(&self.configure),
            Function::Run(Role::Filter) => self.filter.as_ref(),
            Function::Run(Role::Route) => self.route.as_ref(),
            Function::Run(Role::Transform) => self.transform.as_ref(),
        }
    }

    /// Whether the types of a function were found to be those of the host.
    pub(crate) fn was_compared(&self, function: Function) -> bool {
        self.compared.load(Ordering::Relaxed) & function.bit() != 0
    }

    /// They were.
    pub(crate) fn is_compared(&self, function: Function) {
        self.compared.fetch_or(function.bit(), Ordering::Relaxed);
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roles: Vec<Role> = self.roles().collect();
        f.debug_struct("Program").field("digest", &self.digest).field("roles", &roles).finish()
    }
}

/// The identity of a component.
pub(crate) fn digest(bytes: &[u8]) -> Arc<str> {
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        let written = write!(text, "{byte:02x}");
        debug_assert!(written.is_ok(), "formatting into a String");
    }
    text.into()
}

/// The capabilities that it imports. What no plugin can have is refused by name, which says more
/// than that it does not link.
fn check_imports(engine: &Engine, component: &Component) -> Result<Vec<Capability>, Error> {
    let mut imported = Vec::new();
    for (import, _) in component.component_type().imports(engine) {
        match worlds::import(import) {
            Some(Import::Free) => {}
            Some(Import::Capability(capability)) => imported.push(capability),
            None => return Err(Error::ImportRefused { import: import.to_owned() }),
        }
    }
    Ok(imported)
}

pub(crate) fn invalid(error: &wasmtime::Error) -> Error {
    Error::InvalidComponent { reason: format!("{error:#}") }
}
