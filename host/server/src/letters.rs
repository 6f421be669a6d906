//! `sequin letters`: what was put aside.

use std::io::Write as _;

use anyhow::Context as _;
use serde_json::json;
use store::StoredLetter;

use crate::Failure;
use crate::cli::LettersArguments;
use crate::settings;

pub(crate) fn run(arguments: &LettersArguments) -> Result<(), Failure> {
    let directory = settings::data_dir();
    let mut out = std::io::stdout().lock();
    let mut written = Ok(());
    let print = |stored| {
        if written.is_ok() {
            written = writeln!(out, "{}", line(stored));
        }
    };
    store::read_letters(&directory, arguments.sink.as_deref(), print)
        .context("read letters (SEQUIN_DATA_DIR names the data directory)")?;
    written.context("print letters")?;
    Ok(())
}

fn line(stored: StoredLetter) -> serde_json::Value {
    let StoredLetter { id, buried_at, letter } = stored;
    // The input is JSON if it was encoded; else it is shown as the text it is.
    let input = serde_json::value::RawValue::from_string(letter.input.clone());
    let input = input.ok().map_or_else(|| json!(letter.input), |raw| json!(raw));
    json!({
        "id": id,
        "buried_at": buried_at,
        "sink": letter.sink,
        "reason": letter.reason,
        "error": letter.error,
        "plugin": letter.plugin,
        "attempts": letter.attempts,
        "commit_lsn": letter.position.commit_lsn.0,
        "commit_idx": letter.position.ordinal,
        "output": letter.output,
        "origin": letter.origin,
        "input": input,
    })
}
