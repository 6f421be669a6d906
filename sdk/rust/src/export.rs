//! The macros that make a component of a plugin, and what they expand to.
//!
//! The configuration is read once, by `configure`, and kept in a static: a component has one
//! thread, and the engine configures each instance before it uses it.

use std::sync::OnceLock;

use crate::bindings::lifecycle::Requirements;
use crate::bindings::types::{Batch, Reply};
use crate::{Filter, Transform, log, role};

pub fn configure_filter<T: Filter>(
    slot: &OnceLock<T::Config>,
    config: &str,
) -> Result<Requirements, String> {
    log::panics();
    let config = role::parse::<T::Config>(config)?;
    T::check(&config).map_err(crate::Error::into_text)?;
    let requirements = Requirements {
        columns: T::columns(&config),
        old_columns: T::old_columns(&config),
        extra: Vec::new(),
    };
    keep(slot, config)?;
    Ok(requirements)
}

pub fn configure_transform<T: Transform>(
    slot: &OnceLock<T::Config>,
    config: &str,
) -> Result<Requirements, String> {
    log::panics();
    let config = role::parse::<T::Config>(config)?;
    T::check(&config).map_err(crate::Error::into_text)?;
    let requirements = Requirements {
        columns: T::columns(&config),
        old_columns: T::old_columns(&config),
        extra: Vec::new(),
    };
    keep(slot, config)?;
    Ok(requirements)
}

pub fn configure_plugin<T>(
    slot: &OnceLock<<T as Filter>::Config>,
    config: &str,
) -> Result<Requirements, String>
where
    T: Filter + Transform<Config = <T as Filter>::Config>,
{
    let mut both = configure_filter::<T>(slot, config)?;
    let transform = configure_transform::<T>(&OnceLock::new(), config)?;
    let add = |to: &mut Vec<String>, names: Vec<String>| {
        for name in names {
            if !to.contains(&name) {
                to.push(name);
            }
        }
    };
    add(&mut both.columns, transform.columns);
    add(&mut both.old_columns, transform.old_columns);
    Ok(both)
}

pub fn filter<T: Filter>(slot: &OnceLock<T::Config>, batch: &Batch) -> Result<Reply, String> {
    Ok(role::filter::<T>(configured(slot)?, batch))
}

pub fn transform<T: Transform>(slot: &OnceLock<T::Config>, batch: &Batch) -> Result<Reply, String> {
    Ok(role::transform::<T>(configured(slot)?, batch))
}

fn keep<C>(slot: &OnceLock<C>, config: C) -> Result<(), String> {
    slot.set(config).map_err(|_| "configure was called twice".to_owned())
}

fn configured<C>(slot: &OnceLock<C>) -> Result<&C, String> {
    slot.get().ok_or_else(|| "run was called before configure".to_owned())
}

/// Makes the component export a [`Filter`].
#[macro_export]
macro_rules! export_filter {
    ($plugin:ty) => {
        $crate::__component!($plugin, Filter, configure_filter, [filter export_filter]);
    };
}

/// Makes the component export a [`Transform`].
#[macro_export]
macro_rules! export_transform {
    ($plugin:ty) => {
        $crate::__component!($plugin, Transform, configure_transform, [transform export_transform]);
    };
}

/// Makes the component export a plugin that is both a [`Filter`] and a [`Transform`], with one type
/// of configuration. It is handed the columns that either of them reads.
#[macro_export]
macro_rules! export_plugin {
    ($plugin:ty) => {
        $crate::__component!(
            $plugin,
            Filter,
            configure_plugin,
            [filter export_filter, transform export_transform]
        );
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __component {
    ($plugin:ty, $trait:ident, $configure:ident, [$($role:ident $export:ident),+]) => {
        // Natively there is no host to export to; unit tests call the plugin itself.
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use ::std::result::Result;
            use ::std::string::String;
            use ::std::sync::OnceLock;
            use $crate::bindings::lifecycle::{Guest, Requirements};
            use $crate::bindings::types::{Batch, Reply};

            struct Component;

            static CONFIG: OnceLock<<$plugin as $crate::$trait>::Config> = OnceLock::new();

            impl Guest for Component {
                fn configure(config: String) -> Result<Requirements, String> {
                    $crate::export::$configure::<$plugin>(&CONFIG, &config)
                }
            }
            $crate::bindings::lifecycle::export_lifecycle!(Component);

            $(
                impl $crate::bindings::$role::Guest for Component {
                    fn run(batch: Batch) -> Result<Reply, String> {
                        $crate::export::$role::<$plugin>(&CONFIG, &batch)
                    }
                }
                $crate::bindings::$role::$export!(Component);
            )+
        };
    };
}
