//! `sequin plugin record`: the next rows of a sink, from the engine.

use std::time::Duration;

use reqwest::Method;
use serde_json::value::RawValue;

use super::{read, usage};
use crate::api::{Request, text};
use crate::cli::RecordArguments;
use crate::{Failure, tell};

/// After its time, for the answer.
const GRACE: Duration = Duration::from_secs(30);

pub(super) fn run(arguments: &RecordArguments) -> Result<(), Failure> {
    let lines = recorded(arguments)?;
    let count = lines.lines().count();
    if count == 0 {
        tell(&format!("no message came in {} seconds", arguments.seconds));
        return Err(Failure::Rows);
    }
    match &arguments.out {
        None => {
            super::print(&lines)?;
        }
        Some(file) => {
            let written = component::write_if_changed(file, lines.as_bytes());
            written.map_err(|error| usage(format_args!("{}: {error}", file.display())))?;
        }
    }
    tell(&format!("{count} messages recorded"));
    Ok(())
}

/// The messages, one a line.
pub(super) fn recorded(arguments: &RecordArguments) -> Result<String, Failure> {
    let rules = match &arguments.scrub {
        None => "null".to_owned(),
        Some(file) => {
            let wrong =
                |error: &dyn std::fmt::Display| usage(format_args!("{}: {error}", file.display()));
            let said = String::from_utf8(read(file)?).map_err(|error| wrong(&error))?;
            let rules = serde_json::from_str::<&RawValue>(&said);
            rules.map_err(|error| wrong(&error))?.get().to_owned()
        }
    };
    let RecordArguments { sink, count, seconds, .. } = arguments;
    let body = format!("{{\"count\":{count},\"seconds\":{seconds},\"scrub\":{rules}}}");
    text(Request {
        method: Method::POST,
        path: &["sinks", sink, "record"],
        body: body.into_bytes(),
        timeout: Duration::from_secs(*seconds) + GRACE,
        ..Request::default()
    })
}
