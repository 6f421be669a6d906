//! Structured logs on standard error.

use tracing_subscriber::fmt;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::settings::{LogFormat, Settings};

/// Starts logging. Only the first call in a process has an effect.
pub(crate) fn start(settings: &mut Settings) {
    let filter = std::mem::take(&mut settings.log_filter);
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match settings.log_format {
        LogFormat::Console => {
            use std::io::IsTerminal as _;
            let ansi = std::io::stderr().is_terminal();
            builder.with_ansi(ansi).finish().try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    // Already started: the first one stays.
    drop(started);
}
