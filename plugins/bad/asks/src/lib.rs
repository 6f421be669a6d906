//! Calls what it was granted as its rows say, and sets `answer` to what it got or to the failure.
//!
//! A row's text is a line: `clock`, `random 8`, `secret NAME`, `get KEY`, `put KEY VALUE`,
//! `delete KEY`, `large KEY BYTES`, `http METHOD URL`, `rows TABLE COLUMN KEY VALUE…`, `flood CALLS`,
//! `many-puts COUNT`, `trap`.
//! Several are divided by `; `.

use sequin_plugin::capabilities::{CallError, clock, http, kv, lookup, random, secrets};
use sequin_plugin::prelude::*;

sequin_plugin::config! {
    /// Where the lines are.
    pub struct Asks {
        /// The text column.
        column: String,
    }
}

impl Plugin for Asks {
    const CAPABILITIES: &'static [Capability] = &[
        Capability::Clock,
        Capability::Random,
        Capability::Secrets,
        Capability::Kv,
        Capability::Http,
        Capability::Lookup,
    ];

    fn reads(&self) -> Reads {
        Reads::columns([&self.column])
    }
}

impl Transform for Asks {
    fn transform(&self, row: &Row<'_>, out: &mut Output) -> Result<(), Error> {
        let Value::Known(lines) = row.text(&self.column)? else { return Ok(()) };
        let answers: Vec<String> = lines.split("; ").map(answer).collect();
        out.set_text("answer", answers.join("; "));
        Ok(())
    }
}

fn answer(line: &str) -> String {
    ask(line).unwrap_or_else(|error| format!("{:?}: {}", error.failure, error.message))
}

fn ask(line: &str) -> Result<String, CallError> {
    let words: Vec<&str> = line.split(' ').collect();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let number = |word: &str| word.parse::<u32>().unwrap_or(0);
    Ok(match words[..] {
        ["clock"] => clock::now()?.to_string(),
        ["random", count] => format!("{:?}", random::bytes(number(count))?),
        ["secret", name] => secrets::get(name)?,
        ["get", key] => kv::get(key)?.map_or_else(|| "nothing".to_owned(), text),
        ["put", key, value] => {
            kv::put(key, value.as_bytes())?;
            "put".to_owned()
        }
        ["large", key, bytes] => {
            kv::put(key, &vec![b'x'; number(bytes) as usize])?;
            "put".to_owned()
        }
        ["delete", key] => {
            kv::delete(key)?;
            "deleted".to_owned()
        }
        ["many-puts", count] => {
            for n in 0..number(count) {
                kv::put(&format!("key-{n}"), b"v")?;
            }
            "put".to_owned()
        }
        ["http", method, url] => {
            let answer = http::Request::new(method, url).body("ping").send()?;
            format!("{} {}", answer.status, text(answer.body))
        }
        ["rows", table, column, key, ref values @ ..] => {
            let keys: Vec<Vec<String>> =
                values.iter().map(|value| vec![(*value).to_owned()]).collect();
            format!("{:?}", lookup::rows(table, &[column], &[key], &keys)?)
        }
        ["flood", count] => {
            let failed = (0..number(count)).filter(|_| clock::now().is_err()).count();
            format!("{failed} failed")
        }
        ["trap"] => panic!("as it was told"),
        _ => format!("no such line: {line}"),
    })
}

sequin_plugin::export_transform!(Asks);
