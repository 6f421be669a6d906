//! Edits rows as an application would, and shows where each change arrives.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tests::until;
use tokio::time::Instant;
use tokio_postgres::Client;

use crate::world::World;
use crate::{ARRIVAL, say};

/// What the demo does, over and over: a statement that returns the row it left, or the row it took
/// away. The rows are those of the identity column, 1 to 3.
const SCRIPT: [(&str, &str); 8] = [
    (
        "a new point of interest",
        "INSERT INTO poi (name, description, features, is_public)
         VALUES ('Camp at the lake', 'Quiet, with a view', '[\"wifi\", \"showers\"]', true)",
    ),
    (
        "renamed",
        "UPDATE poi SET name = 'Lakeside camp ' || revision, revision = revision + 1
         WHERE id = (SELECT max(id) FROM poi)",
    ),
    (
        "it has electricity now, and no wifi",
        "UPDATE poi SET features = '[\"showers\", \"electricity\"]', revision = revision + 1
         WHERE id = (SELECT max(id) FROM poi)",
    ),
    (
        "made private: it must leave the index",
        "UPDATE poi SET is_public = false, revision = revision + 1
         WHERE id = (SELECT max(id) FROM poi)",
    ),
    (
        "renamed while private: it must not come back",
        "UPDATE poi SET name = 'Secret camp', revision = revision + 1
         WHERE id = (SELECT max(id) FROM poi)",
    ),
    (
        "public again",
        "UPDATE poi SET is_public = true, name = 'Camp at the lake', revision = revision + 1
         WHERE id = (SELECT max(id) FROM poi)",
    ),
    (
        "pets are welcome",
        "UPDATE poi SET features = features || '[\"pets_allowed\"]', revision = revision + 1
         WHERE id = (SELECT max(id) FROM poi)",
    ),
    ("deleted", "DELETE FROM poi WHERE id = (SELECT max(id) FROM poi)"),
];

pub(crate) struct Editor<'a> {
    world: &'a World,
    client: Client,
    steps: usize,
    /// From the commit to the document as it should be, and to the webhook, per step.
    arrivals: Vec<(Duration, Duration)>,
}

impl<'a> Editor<'a> {
    pub(crate) async fn new(world: &'a World) -> Result<Self> {
        let client = world.postgres.client("postgres").await?;
        // Two rows that stay, for the reader to play with.
        client
            .batch_execute(
                "INSERT INTO poi (name, features, is_public) VALUES
                    ('Forest clearing', '[\"toilets\"]', true), ('Back garden', '[]', false)",
            )
            .await?;
        Ok(Self { world, client, steps: 0, arrivals: Vec::new() })
    }

    /// The next edit of the script, and its way.
    pub(crate) async fn step(&mut self) -> Result<()> {
        let Some((title, statement)) = SCRIPT.get(self.steps % SCRIPT.len()) else { return Ok(()) };
        self.steps += 1;
        let before = self.newest().await?;
        let sql = format!("{statement} RETURNING to_jsonb(poi)::text");
        let row = self.client.query_one(&sql, &[]).await.context("edit the row")?;
        let committed = Instant::now();
        let row: Value = serde_json::from_str(row.get(0)).context("read the row")?;
        let deleted = statement.starts_with("DELETE");
        say(&format!("  {title}"));
        if let Some(before) = before.filter(|before| before["id"] == row["id"]) {
            say(&format!("    before    {}", shown(&before)));
        }
        let after = if deleted { "gone".to_owned() } else { shown(&row) };
        say(&format!("    row       {after}"));
        let (webhook, document) = tokio::try_join!(
            async {
                let message = self.message(&row, deleted).await?;
                anyhow::Ok((message, committed.elapsed()))
            },
            async {
                let document = self.document(&row, deleted).await?;
                anyhow::Ok((document, committed.elapsed()))
            },
        )?;
        let (message, webhook_after) = webhook;
        let (document, document_after) = document;
        let document = document.as_ref().map_or_else(|| "not in the index".to_owned(), shown);
        say(&format!("    typesense {document}  ({})", ms(document_after)));
        let (action, record) = (&message["action"], &message["record"]);
        say(&format!("    webhook   {action} {}  ({})", shown(record), ms(webhook_after)));
        say("");
        self.arrivals.push((document_after, webhook_after));
        Ok(())
    }

    /// The row that the script works on, as it is now.
    async fn newest(&self) -> Result<Option<Value>> {
        let sql = "SELECT to_jsonb(poi)::text FROM poi WHERE id = (SELECT max(id) FROM poi)";
        let row = self.client.query_opt(sql, &[]).await.context("read the row")?;
        let row = row.map(|row| serde_json::from_str(row.get(0)));
        row.transpose().context("read the row")
    }

    /// The document, once it is what the row says it must be.
    async fn document(&self, row: &Value, deleted: bool) -> Result<Option<Value>> {
        let id = row["id"].to_string();
        let wanted = (!deleted && row["is_public"] == true).then(|| row["revision"].clone());
        until("the document to follow the row", ARRIVAL, async || {
            let document = self.world.typesense.document("poi", &id).await?;
            let revision = document.as_ref().map(|document| document["revision"].clone());
            Ok(if revision == wanted { Ok(document) } else { Err(format!("{document:?}")) })
        })
        .await
        .with_context(|| format!("the engine said:\n{}", self.world.sequin.log()))
    }

    /// The message of the change, once the webhook has it.
    async fn message(&self, row: &Value, deleted: bool) -> Result<Value> {
        until("the webhook to be called", ARRIVAL, async || {
            let messages = self.world.receiver.messages();
            let is_it = |message: &&Value| {
                let record = &message["record"];
                let same = record["id"] == row["id"];
                let of_delete = message["action"] == "delete";
                same && of_delete == deleted && (deleted || record["revision"] == row["revision"])
            };
            let found = messages.iter().rev().find(is_it).cloned();
            Ok(found.ok_or_else(|| format!("{} messages, none of this change", messages.len())))
        })
        .await
        .with_context(|| format!("the engine said:\n{}", self.world.sequin.log()))
    }

    pub(crate) async fn summary(&self) -> Result<()> {
        let slowest = |of: fn(&(Duration, Duration)) -> Duration| {
            self.arrivals.iter().map(of).max().unwrap_or_default()
        };
        let documents = self.world.typesense.documents("poi").await?;
        say(&format!(
            "  {} edits; slowest arrival: Typesense {}, webhook {}; {} public rows in the index",
            self.arrivals.len(),
            ms(slowest(|(document, _)| *document)),
            ms(slowest(|(_, webhook)| *webhook)),
            documents.len(),
        ));
        Ok(())
    }
}

/// JSON without what only fills the line.
fn shown(value: &Value) -> String {
    let mut value = value.clone();
    if let Some(object) = value.as_object_mut() {
        object.retain(|name, value| name != "updated_at" && !value.is_null());
    }
    value.to_string()
}

fn ms(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}
