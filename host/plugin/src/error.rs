//! Why a plugin cannot be used at all, as opposed to what befalls single rows.

use crate::program::Role;

/// Why a component was not loaded or not bound.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine or its threads could not be started.
    #[error("the plugin host does not start: {reason}")]
    Host {
        /// Why.
        reason: String,
    },
    /// The directory of compiled components cannot be used.
    #[error("compiled plugins cannot be kept in {dir}: {reason}")]
    Cache {
        /// The directory.
        dir: String,
        /// Why not.
        reason: String,
    },
    /// A core module, as compilers make it.
    #[error(
        "this is a core WebAssembly module, not a component: build the crate with `sequin plugin \
         build`, or make a component of the module with `wasm-tools component new plugin.wasm -o \
         plugin.component.wasm`"
    )]
    CoreModule,
    /// More bytes than the limit.
    #[error(
        "the component has {bytes} bytes, more than the {bytes_max} allowed: strip it of debug \
         information, or raise the limit"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// Bytes that no engine can make sense of, or that this one cannot link.
    #[error("this is not a component that can be used: {reason}")]
    InvalidComponent {
        /// What is wrong with it.
        reason: String,
    },
    /// It wants something that is not granted.
    #[error(
        "the component imports `{import}`, which is not granted to plugins: they may import the log, \
         and the capabilities of sequin:plugin@0.2 (clock, random, secrets, kv, http, lookup). Build \
         for wasm32-unknown-unknown (Rust) or with the stubs of your language's tool (`--stub-wasi`), \
         and leave out files, sockets and the system's own clocks and randomness"
    )]
    ImportRefused {
        /// The import, with its version.
        import: String,
    },
    /// It exports no interface that the host could call.
    #[error(
        "the component exports {missing}: build it for one of the worlds of sequin:plugin@0.1 or @0.2"
    )]
    NoRole {
        /// What is missing.
        missing: &'static str,
    },
    /// It is bound to a role that it does not have.
    #[error("plugin {plugin} is no {role}: its component is made for {roles}")]
    MissingRole {
        /// The name in the configuration.
        plugin: String,
        /// The role asked for.
        role: Role,
        /// Those that it has.
        roles: String,
    },
    /// It wants what it is not granted.
    #[error(
        "plugin {plugin} wants what it is not granted: {wanted}. Nothing is granted but what `grants` \
         of the function in sequin.yaml names: look at what it does with it first"
    )]
    Capabilities {
        /// The name in the configuration.
        plugin: String,
        /// What it wants.
        wanted: String,
    },
    /// The schema of its configuration is none.
    #[error(
        "plugin {plugin} describes its configuration with what is no JSON Schema: {reason}. This is \
         a mistake of the plugin, whatever the configuration: an empty text means that it has no \
         schema"
    )]
    Schema {
        /// The name in the configuration.
        plugin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It does not take its configuration.
    #[error("the config of plugin {plugin} is wrong: {message}")]
    Configure {
        /// The name in the configuration.
        plugin: String,
        /// What the plugin says, with the field.
        message: String,
    },
    /// It failed before it could say anything.
    #[error("plugin {plugin} fails when it is configured: {message}")]
    Start {
        /// The name in the configuration.
        plugin: String,
        /// What happened, with the guest's stack if there is one.
        message: String,
    },
}
