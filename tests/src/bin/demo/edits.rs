//! Edits rows as an application would, and shows where each change arrives.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tests::receiver::Request;
use tests::until;
use tokio::time::Instant;
use tokio_postgres::Client;

use crate::script::{NEWEST, SCRIPT, Step};
use crate::world::World;
use crate::{ARRIVAL, say};

pub(crate) struct Editor<'a> {
    pub(crate) world: &'a World,
    pub(crate) client: Client,
    steps: usize,
    /// From the commit to the document as it should be.
    documents: Vec<Duration>,
    /// From the commit to the phones' webhook.
    webhooks: Vec<Duration>,
}

impl<'a> Editor<'a> {
    pub(crate) async fn new(world: &'a World) -> Result<Self> {
        let client = world.postgres.client("postgres").await?;
        // Two that stay, for the reader to play with.
        let sql = "INSERT INTO poi (name, features, region, location, is_public) VALUES
            ('Forest clearing', '[\"toilets\"]', 'alps', '{47.1, 9.3}', true),
            ('Dune camp', '[\"pets_allowed\"]', 'coast', '{54.3, 8.6}', true)";
        client.batch_execute(sql).await?;
        // Each goes to the phones, the translators, a partner and a feed.
        world.receiver.until_messages(8, ARRIVAL).await?;
        let (documents, webhooks) = (Vec::new(), Vec::new());
        Ok(Self { world, client, steps: 0, documents, webhooks })
    }

    /// The next edit of the script, and its way. Whether it was the last one.
    pub(crate) async fn step(&mut self) -> Result<bool> {
        let Some(step) = SCRIPT.get(self.steps % SCRIPT.len()) else { return Ok(true) };
        self.steps += 1;
        let id = self.newest().await?;
        let before = self.row(step).await?;
        let seen = self.world.receiver.requests().len();
        let sql = format!("{} RETURNING to_jsonb({})::text", step.sql, step.table);
        let row = self.client.query_one(&sql, &[]).await.context("edit the row")?;
        let committed = Instant::now();
        let row: Value = serde_json::from_str(row.get(0)).context("read the row")?;
        let deleted = step.sql.starts_with("DELETE");
        let inserted = step.sql.starts_with("INSERT");
        say(&format!("  {}", step.title));
        if let Some(before) = before.filter(|_| !inserted) {
            say(&format!("    before     {}", shown(&before)));
        }
        let after = if deleted { "gone".to_owned() } else { shown(&row) };
        say(&format!(
            "    {:<10} {after}",
            if step.table == "poi_translation" { "text" } else { step.table }
        ));
        let poi = if inserted && step.table == "poi" { row["id"].to_string() } else { id };
        let (webhook, document) = tokio::try_join!(
            self.webhook(step, &row, seen, committed),
            self.document(step, &poi, committed)
        )?;
        self.webhooks.push(webhook);
        if let Some((document, taken)) = document {
            let document = document.as_ref().map_or_else(|| "not in the index".to_owned(), shown);
            say(&format!("    typesense  {document}  ({})", ms(taken)));
            self.documents.push(taken);
        }
        self.show_requests(seen);
        if step.table == "review" && inserted {
            let job = self.world.next_job().await?;
            let action = job["action"].as_str().unwrap_or_default();
            say(&format!("    pulled     {action} {}", shown(&job["record"])));
        }
        say("");
        Ok(self.steps.is_multiple_of(SCRIPT.len()))
    }

    async fn newest(&self) -> Result<String> {
        let row = self.client.query_one(&format!("SELECT {NEWEST}::text"), &[]).await?;
        Ok(row.get::<_, Option<String>>(0).unwrap_or_default())
    }

    /// The row that a step writes, as it is before.
    async fn row(&self, step: &Step) -> Result<Option<Value>> {
        let Some((_, wanted)) = step.sql.split_once("WHERE ") else { return Ok(None) };
        let sql = format!("SELECT to_jsonb(t)::text FROM {} t WHERE {wanted}", step.table);
        let row = self.client.query_opt(&sql, &[]).await.context("read the row")?;
        let row = row.map(|row| serde_json::from_str(row.get(0)));
        row.transpose().context("read the row")
    }

    /// The document of a point of interest, once it is what the step says it must be.
    async fn document(
        &self,
        step: &Step,
        id: &str,
        committed: Instant,
    ) -> Result<Option<(Option<Value>, Duration)>> {
        let Some(typesense) = &self.world.typesense else { return Ok(None) };
        let found = until("the document to follow the row", ARRIVAL, async || {
            let document = typesense.document("poi", id).await?;
            let right = match &document {
                None => !step.indexed,
                Some(document) => {
                    let holds = |(name, value): &(&str, &str)| {
                        let wanted = serde_json::from_str::<Value>(value).unwrap_or_default();
                        document.get(name).unwrap_or(&Value::Null) == &wanted
                    };
                    step.indexed && step.holds.iter().all(holds)
                }
            };
            Ok(if right { Ok(document) } else { Err(format!("{document:?}")) })
        });
        let document = found.await.with_context(|| self.said())?;
        Ok(Some((document, committed.elapsed())))
    }

    /// Until the phones have the change.
    async fn webhook(
        &self,
        step: &Step,
        row: &Value,
        seen: usize,
        committed: Instant,
    ) -> Result<Duration> {
        let is_it = |message: &Value| {
            let same = message["metadata"]["table_name"] == step.table;
            let id = |name: &str| row.get(name).is_none() || message["record"][name] == row[name];
            same && ["id", "poi", "language"].into_iter().all(id)
        };
        until("the webhook to be called", ARRIVAL, async || {
            let requests = self.world.receiver.requests();
            let new = requests.iter().skip(seen);
            let mut phones = new.filter(|request| request.path == "/delta");
            let found = phones.any(|request| request.messages().iter().any(is_it));
            Ok(if found { Ok(()) } else { Err("none of this change".to_owned()) })
        })
        .await
        .with_context(|| self.said())?;
        Ok(committed.elapsed())
    }

    /// The requests since `seen`.
    fn show_requests(&self, seen: usize) {
        for request in self.world.receiver.requests().iter().skip(seen) {
            let Request { method, path, .. } = request;
            let messages = request.messages();
            let first = messages.first().map(|message| {
                let (action, record) = (&message["action"], &message["record"]);
                format!("{} {}", action.as_str().unwrap_or(""), shown(record))
            });
            let first = first.unwrap_or_default();
            say(&format!("    webhook    {method} {path}  {}", short(&first)));
        }
    }

    pub(crate) fn said(&self) -> String {
        format!("the engine said:\n{}", self.world.sequin.log())
    }

    pub(crate) fn summary(&self) {
        let slowest = |of: &[Duration]| ms(of.iter().max().copied().unwrap_or_default());
        let (documents, webhooks) = (slowest(&self.documents), slowest(&self.webhooks));
        let edits = self.steps;
        say(&format!("  {edits} edits; slowest: document {documents}, webhook {webhooks}"));
    }
}

/// JSON without what only fills the line.
fn shown(value: &Value) -> String {
    let mut value = value.clone();
    if let Some(object) = value.as_object_mut() {
        let dull = ["created_at", "updated_at", "location", "description", "region"];
        let is_set = |value: &Value| !value.is_null() && *value != Value::Bool(false);
        object.retain(|name, value| {
            !dull.contains(&name.as_str()) && (is_set(value) || name.starts_with("is_"))
        });
    }
    short(&value.to_string())
}

/// At most a line.
fn short(text: &str) -> String {
    const MOST: usize = 150;
    let mut short: String = text.chars().take(MOST).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

fn ms(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}
