//! The macros that make a component of a plugin, and what they expand to.
//!
//! The configuration is read once, by `configure`, and kept in a static: a component has one
//! thread, and the engine configures each instance before it uses it.

use std::sync::OnceLock;

use crate::bindings::lifecycle::{self, Description, Requirements};
use crate::bindings::types::{Batch, Reply};
use crate::{ConfigError, Filter, Plugin, Route, Transform, log, role};

/// What stands in the custom section `sequin:plugin` of each module: which world it was written
/// for and with what. A host can tell before it instantiates anything.
pub const SECTION: &str =
    concat!(r#"{"world":"sequin:plugin@0.2.0","sdk":"rust "#, env!("CARGO_PKG_VERSION"), r#""}"#);

/// How long that is.
pub const SECTION_LEN: usize = SECTION.len();

/// The section's bytes.
#[must_use]
pub const fn section() -> [u8; SECTION_LEN] {
    match SECTION.as_bytes().first_chunk() {
        Some(bytes) => *bytes,
        None => [0; SECTION_LEN],
    }
}

pub fn describe<T: Plugin>() -> Description {
    Description {
        config_schema: role::schema::<T>(),
        capabilities: T::CAPABILITIES.iter().map(|wanted| wanted.as_str().to_owned()).collect(),
        warm: T::WARM,
        extra: Vec::new(),
    }
}

pub fn configure<T: Plugin>(
    slot: &OnceLock<T>,
    config: &str,
) -> Result<Requirements, Vec<lifecycle::ConfigError>> {
    log::panics();
    let plugin = role::parse::<T>(config).map_err(of_wit)?;
    let reads = plugin.reads().into_wit();
    slot.set(plugin).map_err(|_| of_wit(vec![ConfigError::new("", "configured twice")]))?;
    Ok(Requirements { reads, packed: true, extra: Vec::new() })
}

pub fn filter<T: Filter>(slot: &OnceLock<T>, batch: &Batch) -> Result<Reply, String> {
    role::filter(configured(slot)?, batch)
}

pub fn route<T: Route>(slot: &OnceLock<T>, sink: &str, batch: &Batch) -> Result<Reply, String> {
    role::route(configured(slot)?, sink, batch)
}

pub fn transform<T: Transform>(slot: &OnceLock<T>, batch: &Batch) -> Result<Reply, String> {
    role::transform(configured(slot)?, batch)
}

fn of_wit(errors: Vec<ConfigError>) -> Vec<lifecycle::ConfigError> {
    let wit = |ConfigError { field, message }| lifecycle::ConfigError { field, message };
    errors.into_iter().map(wit).collect()
}

fn configured<T>(slot: &OnceLock<T>) -> Result<&T, String> {
    slot.get().ok_or_else(|| "run was called before configure".to_owned())
}

/// Makes the component export a [`Filter`].
#[macro_export]
macro_rules! export_filter {
    ($plugin:ty) => {
        $crate::export!($plugin: filter);
    };
}

/// Makes the component export a [`Route`].
#[macro_export]
macro_rules! export_route {
    ($plugin:ty) => {
        $crate::export!($plugin: route);
    };
}

/// Makes the component export a [`Transform`].
#[macro_export]
macro_rules! export_transform {
    ($plugin:ty) => {
        $crate::export!($plugin: transform);
    };
}

/// Makes the component export a plugin in several roles: `export!(Both: filter, transform)`. It has
/// one configuration, and each role is handed all that the plugin reads.
#[macro_export]
macro_rules! export {
    ($plugin:ty: $($role:ident),+) => {
        // Natively there is no host to export to; unit tests call the plugin itself.
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use ::std::result::Result;
            use ::std::string::String;
            use ::std::sync::OnceLock;
            use ::std::vec::Vec;
            use $crate::bindings::lifecycle::{ConfigError, Description, Guest, Requirements};
            use $crate::bindings::types::{Batch, Reply};

            struct Component;

            static PLUGIN: OnceLock<$plugin> = OnceLock::new();

            // In the plugin's own crate: of other crates, a linker may leave sections out.
            #[used]
            #[unsafe(link_section = "sequin:plugin")]
            static SECTION: [u8; $crate::export::SECTION_LEN] = $crate::export::section();

            impl Guest for Component {
                fn describe() -> Description {
                    $crate::export::describe::<$plugin>()
                }

                fn configure(config: String) -> Result<Requirements, Vec<ConfigError>> {
                    $crate::export::configure::<$plugin>(&PLUGIN, &config)
                }
            }
            $crate::bindings::lifecycle::export_lifecycle!(Component);

            $($crate::__export_role!($role);)+
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_role {
    (filter) => {
        impl $crate::bindings::filter::Guest for Component {
            fn run(batch: Batch) -> Result<Reply, String> {
                $crate::export::filter(&PLUGIN, &batch)
            }
        }
        $crate::bindings::filter::export_filter!(Component);
    };
    (route) => {
        impl $crate::bindings::route::Guest for Component {
            fn run(sink: String, batch: Batch) -> Result<Reply, String> {
                $crate::export::route(&PLUGIN, &sink, &batch)
            }
        }
        $crate::bindings::route::export_route!(Component);
    };
    (transform) => {
        impl $crate::bindings::transform::Guest for Component {
            fn run(batch: Batch) -> Result<Reply, String> {
                $crate::export::transform(&PLUGIN, &batch)
            }
        }
        $crate::bindings::transform::export_transform!(Component);
    };
}
