//! `sequin plugin record`: the next rows of a sink, from the engine on this machine.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{read, usage};
use crate::cli::RecordArguments;
use crate::letters::ask::{ask, segment};
use crate::{Failure, health, settings, tell};

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
            let text = String::from_utf8(read(file)?).map_err(|error| wrong(&error))?;
            let rules = serde_json::from_str::<&RawValue>(&text);
            rules.map_err(|error| wrong(&error))?.get().to_owned()
        }
    };
    let RecordArguments { sink, count, seconds, .. } = arguments;
    let address = health::reachable(settings::api(&settings::environment).map_err(Failure::Usage)?);
    let path = format!("/api/sinks/{}/record", segment(sink));
    let body = format!("{{\"count\":{count},\"seconds\":{seconds},\"scrub\":{rules}}}");
    let time = Duration::from_secs(*seconds) + GRACE;
    let answer = ask(address, "POST", &path, &body, time).with_context(|| {
        format!("ask the engine at http://{address} (SERVER_PORT, SEQUIN_BIND): does it run?")
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status == "200" {
        return Ok(body.to_owned());
    }
    let summary = serde_json::from_str::<Value>(body).ok();
    let told = summary.as_ref().and_then(|body| body.get("summary")?.as_str()).unwrap_or(head);
    match status {
        "400" | "401" | "403" | "404" | "409" | "422" => Err(usage(told)),
        _ => Err(anyhow!("the engine answered: {}", told.escape_debug()).into()),
    }
}
