//! The verdict: what every sink got, against the history that the source kept and the rows it has.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tests::checker;
use tokio_postgres::Client;

use crate::load::{SEARCHED, TABLES};
use crate::world::{HOOKS, World};

/// So many words of each kind are told.
const TOLD: usize = 10;

type Key = (String, i64);

/// What happened to a key: `insert`, `update`, `delete`, or `moved` away; and the version written.
type Event = (String, Option<i64>);

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) lines: Vec<String>,
    pub(crate) wrong: Vec<String>,
}

struct Source {
    history: BTreeMap<Key, Vec<Event>>,
    /// Version and filler of each row.
    rows: BTreeMap<Key, (i64, Option<String>)>,
}

impl Source {
    async fn read(client: &Client) -> Result<Self> {
        let mut history: BTreeMap<Key, Vec<Event>> = BTreeMap::new();
        let sql = "SELECT tbl, id, action, version FROM history ORDER BY seq";
        for row in client.query(sql, &[]).await? {
            history.entry((row.get(0), row.get(1))).or_default().push((row.get(2), row.get(3)));
        }
        let mut rows = BTreeMap::new();
        for table in TABLES {
            let sql = format!("SELECT id, version, filler FROM {table}");
            for row in client.query(&sql, &[]).await? {
                rows.insert((table.to_owned(), row.get(0)), (row.get(1), row.get(2)));
            }
        }
        Ok(Self { history, rows })
    }
}

/// Judges a world that has drained.
pub(crate) async fn judge(world: &World, client: &Client) -> Result<Verdict> {
    let source = Source::read(client).await?;
    let mut verdict = Verdict::default();
    let events: usize = source.history.values().map(Vec::len).sum();
    verdict.lines.push(format!(
        "source: {events} changes of {} keys, {} rows left",
        source.history.len(),
        source.rows.len()
    ));
    for (name, receiver) in HOOKS.iter().zip(&world.receivers) {
        let complete = *name != "guest";
        verdict.sink(name, &receiver.messages(), complete.then_some(&source));
    }
    let text = std::fs::read_to_string(world.archive()).context("read the archive")?;
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).context("a torn line in the archive"))
        .collect::<Result<_>>()?;
    verdict.sink("archive", &lines, Some(&source));
    if let Some(server) = &world.typesense {
        verdict.documents(&server.documents("rows").await?, &source);
    }
    for name in world.sinks() {
        let letters = world.sequin.command(&["letters", "--sink", name]).await?;
        let text = String::from_utf8_lossy(&letters.stdout);
        let words = text.lines().filter(|line| !line.trim().is_empty());
        verdict.add(name, words.map(|letter| format!("dead letter: {letter:.400}")).collect());
    }
    Ok(verdict)
}

impl Verdict {
    fn add(&mut self, sink: &str, wrong: Vec<String>) {
        let more = wrong.len().saturating_sub(TOLD);
        self.wrong.extend(wrong.into_iter().take(TOLD).map(|word| format!("{sink}: {word}")));
        if more > 0 {
            self.wrong.push(format!("{sink}: and {more} more"));
        }
    }

    /// A sink that gets every message; without a source it may have been away, and is judged by
    /// order alone.
    fn sink(&mut self, name: &str, messages: &[Value], source: Option<&Source>) {
        let repeats = match checker::order(messages, key) {
            Ok(repeats) => repeats,
            Err(wrong) => {
                self.add(name, wrong);
                messages.len() - checker::distinct(messages)
            }
        };
        self.lines.push(format!("{name}: {} messages, {repeats} repeats", messages.len()));
        let Some(source) = source else { return };
        let (mut seen, mut got) = (HashSet::new(), BTreeMap::<Key, Vec<Event>>::new());
        let mut last: BTreeMap<Key, &Value> = BTreeMap::new();
        for message in messages {
            let key = key(message);
            let version = message["record"]["version"].as_i64();
            let action = message["action"].as_str().unwrap_or_default().to_owned();
            let from = message["changes"]["id"].as_i64().map(|id| (key.0.clone(), id));
            // A word about a row that went elsewhere is the last about the key it had.
            if let Some(from) = &from {
                last.insert(from.clone(), &Value::Null);
            }
            last.insert(key.clone(), message);
            if !seen.insert(checker::position(message)) {
                continue;
            }
            if let Some(from) = from {
                got.entry(from).or_default().push(("moved".to_owned(), version));
            }
            let version = if action == "delete" { None } else { version };
            got.entry(key).or_default().push((action, version));
        }
        self.add(name, differences(&source.history, &got));
        self.add(name, leftovers(source, &last));
    }

    fn documents(&mut self, documents: &[Value], source: &Source) {
        let of = |document: &Value| {
            let id = document["id"].as_str()?.parse().ok()?;
            Some((id, document["version"].as_i64()?))
        };
        let got: BTreeMap<i64, i64> = documents.iter().filter_map(of).collect();
        let rows = source.rows.iter().filter(|((table, _), _)| table == SEARCHED);
        let rows: BTreeMap<i64, i64> = rows.map(|((_, id), row)| (*id, row.0)).collect();
        self.lines.push(format!("search: {} documents of {} rows", documents.len(), rows.len()));
        let ids: HashSet<i64> = rows.keys().chain(got.keys()).copied().collect();
        let wrong = ids.into_iter().filter(|id| rows.get(id) != got.get(id));
        let told = |id: i64| {
            format!("row {id}: version {:?}, the document's {:?}", rows.get(&id), got.get(&id))
        };
        self.add("search", wrong.map(told).collect());
    }
}

/// The table and the key that a message is about.
fn key(message: &Value) -> Key {
    let table = message["metadata"]["table_name"].as_str().unwrap_or_default();
    (table.to_owned(), message["record"]["id"].as_i64().unwrap_or(-1))
}

/// Where what came differs from what happened: per key, the same events in the same order.
fn differences(
    history: &BTreeMap<Key, Vec<Event>>,
    got: &BTreeMap<Key, Vec<Event>>,
) -> Vec<String> {
    let none = Vec::new();
    let keys: HashSet<&Key> = history.keys().chain(got.keys()).collect();
    let mut wrong = Vec::new();
    for key in keys {
        let (had, got) = (history.get(key).unwrap_or(&none), got.get(key).unwrap_or(&none));
        if had == got {
            continue;
        }
        let at = had.iter().zip(got).take_while(|(had, got)| had == got).count();
        wrong.push(format!(
            "{key:?}: {} events, {} came; the first that differs is number {at}: {:?} happened, \
             {:?} came",
            had.len(),
            got.len(),
            had.get(at),
            got.get(at)
        ));
    }
    wrong
}

/// Where the last word about a key is not the row that the source has.
fn leftovers(source: &Source, last: &BTreeMap<Key, &Value>) -> Vec<String> {
    let mut wrong = Vec::new();
    for key in source.history.keys() {
        let message = last.get(key).copied().unwrap_or(&Value::Null);
        let gone = message.is_null() || message["action"] == "delete";
        let got = (!gone).then(|| {
            let record = &message["record"];
            let filler = record["filler"].as_str().map(str::to_owned);
            (record["version"].as_i64().unwrap_or(-1), filler)
        });
        // A value kept out of line that did not change is not in the log of a table whose old rows
        // are told by their key alone: then the message leaves the column out, and says nothing wrong.
        let says_filler = message["record"].get("filler").is_some();
        let row = source.rows.get(key).cloned();
        let row = row.map(|(version, filler)| (version, filler.filter(|_| says_filler)));
        let row = row.as_ref();
        if row != got.as_ref() {
            let short = |row: Option<&(i64, Option<String>)>| {
                row.map(|(version, filler)| {
                    (
                        *version,
                        filler
                            .as_ref()
                            .map(|filler| (filler.len(), filler.get(..8).map(str::to_owned))),
                    )
                })
            };
            wrong.push(format!(
                "{key:?}: the row is {:?}, the last word {:?}",
                short(row),
                short(got.as_ref())
            ));
        }
    }
    wrong
}
