//! Lines for the engine's log.
//!
//! The engine cuts long lines and drops lines of which there are too many. Outside WebAssembly, in
//! unit tests, lines go to standard error.

use std::sync::Once;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For whoever writes the plugin.
    Debug,
    /// Worth knowing.
    Info,
    /// Should be looked at.
    Warn,
    /// Something failed.
    Error,
}

/// Writes one line; [`log!`](crate::log!) formats it.
pub fn write(level: Level, message: &str) {
    #[cfg(target_arch = "wasm32")]
    {
        use crate::bindings::log;
        let level = match level {
            Level::Debug => log::Level::Debug,
            Level::Info => log::Level::Info,
            Level::Warn => log::Level::Warn,
            Level::Error => log::Level::Error,
        };
        log::log(level, message);
    }
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("{level:?}: {message}");
}

/// Writes a formatted line to the engine's log: `log!(Warn, "no flag for {name}")`.
#[macro_export]
macro_rules! log {
    ($level:ident, $($format:tt)+) => {
        $crate::log::write($crate::log::Level::$level, &::std::format!($($format)+))
    };
}

/// Makes a panic say its message and place in the log, where the engine takes it for the reason of
/// the trap that follows: a trap alone says no more than `unreachable`.
pub(crate) fn panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        if cfg!(target_arch = "wasm32") {
            std::panic::set_hook(Box::new(|panic| write(Level::Error, &panic.to_string())));
        }
    });
}
