//! From what wasmtime says of a failed call to the class of the fault and a text for people.

use model::plugin::{Fault, PluginError};
use wasmtime::{Trap, WasmBacktrace};

use crate::budget::Stop;
use crate::lines::cut;

/// A text of a failure, in bytes: enough for a panic message and 20 frames. It is stored with each
/// dead letter.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// A failure with this text, cut to a length that can be stored.
pub(crate) fn fault(fault: Fault, mut message: String) -> PluginError {
    let length = cut(&message, MESSAGE_BYTES_MAX).len();
    message.truncate(length);
    PluginError { fault, message }
}

/// Classifies what went wrong in a call to a guest. `last_error` is the last line that the guest
/// wrote to the log as an error, which is where a panic says its message.
pub(crate) fn classify(error: &wasmtime::Error, last_error: Option<&str>) -> PluginError {
    let (class, reason) = if let Some(stop) = error.downcast_ref::<Stop>() {
        let class = match stop {
            Stop::Cpu(_) | Stop::Wall(_) | Stop::Wait(_) => Fault::Deadline,
            Stop::Memory { .. } | Stop::Table { .. } => Fault::Memory,
        };
        (class, format!("the plugin was stopped: {stop}"))
    } else if let Some(trap) = error.downcast_ref::<Trap>() {
        let reason = match last_error {
            Some(line) => format!("the plugin trapped: {line}\n({trap})"),
            None => format!("the plugin trapped: {trap}"),
        };
        (Fault::Trap, reason)
    } else {
        // What is left are answers that cannot be lifted: too large, no UTF-8, a bad pointer.
        let cause = error.root_cause();
        (Fault::Output, format!("the plugin gave what the host cannot take: {cause}"))
    };
    let message = match error.downcast_ref::<WasmBacktrace>() {
        Some(stack) if !stack.frames().is_empty() => format!("{reason}\n{stack}"),
        _ => reason,
    };
    fault(class, message)
}
