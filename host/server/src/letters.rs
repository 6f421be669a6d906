//! `sequin letters`: what was put aside, and what becomes of it.
//!
//! Reading is done in the data directory, so that it works also where no engine runs; everything
//! else is asked of the engine, which alone writes there.

pub(crate) mod ask;

use std::collections::BTreeMap;
use std::io::Write as _;

use anyhow::Context as _;
use model::store::{LetterQuery, LetterState, StoredLetter};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use store::LetterFile;

use crate::Failure;
use crate::cli::{LettersArguments, LettersCommand, LettersFilter};
use crate::settings;

/// Letters that are read at once.
const PAGE: usize = 500;

pub(crate) fn run(arguments: &LettersArguments) -> Result<(), Failure> {
    match &arguments.command {
        None => list(&arguments.list),
        Some(LettersCommand::List(filter)) => list(filter),
        Some(LettersCommand::Show { id }) => show(*id),
        Some(LettersCommand::Counts) => counts(),
        Some(LettersCommand::Edit(arguments)) => ask::edit(arguments),
        Some(LettersCommand::Retry { ids }) => ask::retry(ids),
        Some(LettersCommand::Discard { ids, reason }) => ask::discard(ids, reason),
        Some(LettersCommand::Replay(arguments)) => ask::replay(arguments),
    }
}

fn open() -> Result<LetterFile, Failure> {
    let directory = settings::data_dir();
    let file = LetterFile::open(&directory);
    Ok(file.context("read letters (SEQUIN_DATA_DIR names the data directory)")?)
}

fn list(filter: &LettersFilter) -> Result<(), Failure> {
    let file = open()?;
    if let Some(sink) = &filter.sink {
        let known = file.sinks().context("read letters")?;
        if !known.contains(sink) {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let told = format!("error: nothing is known of a sink `{sink}`; there are: {known}");
            return Err(Failure::Usage(told));
        }
    }
    let known = |word: &String| LetterState::ALL.into_iter().find(|it| it.as_str() == word);
    let state = match &filter.state {
        None => None,
        Some(word) => Some(known(word).ok_or_else(|| {
            Failure::Usage("error: --state is open, superseded, replayed or discarded".to_owned())
        })?),
    };
    let mut query = LetterQuery {
        sink: filter.sink.clone(),
        state,
        reason: filter.reason.clone(),
        table: filter.table.clone(),
        text: filter.text.clone(),
        after: filter.after,
        limit: PAGE,
        whole: true,
        ..LetterQuery::default()
    };
    let mut left = filter.limit.unwrap_or(usize::MAX);
    let mut out = std::io::stdout().lock();
    while left > 0 {
        query.limit = PAGE.min(left);
        let page = file.list(&query).context("read letters")?;
        left -= page.letters.len();
        for stored in &page.letters {
            writeln!(out, "{}", line(stored)).context("print letters")?;
        }
        let Some(next) = page.next else { break };
        query.after = next;
    }
    Ok(())
}

fn show(id: i64) -> Result<(), Failure> {
    let found = open()?.get(id).context("read letters")?;
    let Some(stored) = found else {
        return Err(Failure::Usage(format!("error: there is no letter {id}")));
    };
    print(line(&stored).get())
}

fn counts() -> Result<(), Failure> {
    let file = open()?;
    let counts = file.counts().context("read letters")?;
    let dropped = file.dropped().context("read letters")?;
    for count in counts {
        let line = json!({
            "sink": count.sink,
            "state": count.state.as_str(),
            "reason": count.reason,
            "letters": count.letters,
            "bytes": count.bytes,
        });
        print(&line.to_string())?;
    }
    for it in dropped {
        let state = if it.open { "removed_open" } else { "removed_closed" };
        let line = json!({
            "sink": it.sink,
            "state": state,
            "letters": it.letters,
            "bytes": it.bytes,
            "last_at": it.last_at,
        });
        print(&line.to_string())?;
    }
    Ok(())
}

fn print(line: &str) -> Result<(), Failure> {
    Ok(writeln!(std::io::stdout(), "{line}").context("print letters")?)
}

fn line(stored: &StoredLetter) -> Box<RawValue> {
    let letter = &stored.letter;
    let small = json!({
        "id": stored.id,
        "state": stored.state.as_str(),
        // The first of both, as before there were two.
        "buried_at": stored.first_at,
        "last_at": stored.last_at,
        "closed_at": stored.closed.as_ref().map(|(at, _)| at),
        "closed_why": stored.closed.as_ref().map(|(_, why)| why),
        "edited_at": stored.edited_at,
        "sink": letter.sink,
        "table": letter.table,
        "stage": letter.stage.as_str(),
        "reason": letter.reason,
        "error": letter.error,
        "plugin": letter.plugin,
        "config": letter.config,
        "attempts": letter.attempts,
        "commit_lsn": letter.position.commit_lsn.0,
        "commit_idx": letter.position.ordinal,
        "output": letter.output,
        "origin": letter.origin,
    });
    // JSON as it is: numbers and the order of fields too, which a parsed value would change.
    let raw = |text: &String| {
        let raw = RawValue::from_string(text.clone());
        raw.unwrap_or_else(|_| told(&text))
    };
    let mut fields: BTreeMap<&str, Box<RawValue>> = BTreeMap::new();
    if let Value::Object(small) = &small {
        fields.extend(small.iter().map(|(name, value)| (name.as_str(), told(value))));
    }
    fields.insert("input", raw(&letter.input));
    let more = [
        ("message", &letter.message),
        ("original_input", &stored.original_input),
        ("original_message", &stored.original_message),
    ];
    for (name, text) in more {
        fields.extend(text.as_ref().map(|text| (name, raw(text))));
    }
    told(&fields)
}

fn told(value: &impl serde::Serialize) -> Box<RawValue> {
    to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}
