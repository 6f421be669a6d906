//! The story: a point of interest edited in Postgres follows into the search index and a webhook.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tests::{Cluster, Receiver, Sequin, sample, typesense, until};

use crate::world::{LATER, SOON, streaming};

const TABLE: &str = "CREATE TABLE poi (
    id bigint PRIMARY KEY, name text, features jsonb, is_public boolean NOT NULL, description text);
    ALTER TABLE poi ALTER description SET STORAGE EXTERNAL";

struct Story {
    sequin: Sequin,
    receiver: Receiver,
    typesense: typesense::Server,
    client: tokio_postgres::Client,
    _postgres: Cluster,
}

/// The repository's own `sequin.yaml`, as the demo runs it.
async fn start() -> Result<Story> {
    let postgres = Cluster::start().await?;
    let client = postgres.client("postgres").await?;
    client.batch_execute(TABLE).await?;
    let typesense = typesense::Server::start().await?;
    sample::create_collection(&typesense).await?;
    let receiver = Receiver::start().await?;
    let sequin = sample::engine(&postgres, &typesense, &receiver).start().await?;
    streaming(&sequin).await?;
    Ok(Story { sequin, receiver, typesense, client, _postgres: postgres })
}

impl Story {
    /// Waits until the document of poi `id` is as `wanted`.
    async fn document(
        &self,
        id: i64,
        deadline: Duration,
        wanted: impl Fn(Option<&Value>) -> bool,
    ) -> Result<()> {
        until("the document to follow", deadline, async || {
            let document = self.typesense.document("poi", &id.to_string()).await?;
            let matches = wanted(document.as_ref());
            Ok(if matches { Ok(()) } else { Err(format!("{document:?}")) })
        })
        .await
        .with_context(|| format!("the engine said:\n{}", self.sequin.log()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_follows_into_the_index_reshaped_and_to_the_webhook() -> Result<()> {
    let story = start().await?;
    let run = async |sql: &str| story.client.batch_execute(sql).await;
    run("INSERT INTO poi VALUES (1, 'Lake', '[\"wifi\", \"showers\"]', true)").await?;
    story.document(1, SOON, |document| document.is_some()).await?;
    let document = story.typesense.document("poi", "1").await?.context("it was there")?;
    assert_eq!(document["id"], "1");
    assert_eq!(document["name"], "Lake");
    assert_eq!(document["has_wifi"], true);
    assert_eq!(document["has_showers"], true);
    assert_eq!(document["has_electricity"], false);
    story.receiver.until_messages(1, SOON).await?;
    assert_eq!(story.receiver.messages()[0]["record"]["features"], json!(["wifi", "showers"]));

    run("UPDATE poi SET features = '[\"electricity\"]'").await?;
    let electric = |document: Option<&Value>| {
        document.is_some_and(|it| it["has_electricity"] == true && it["has_wifi"] == false)
    };
    story.document(1, SOON, electric).await?;

    run("UPDATE poi SET is_public = false").await?;
    story.document(1, SOON, |document| document.is_none()).await?;
    run("UPDATE poi SET name = 'Secret'; UPDATE poi SET is_public = true, name = 'Open'").await?;
    story.document(1, SOON, |document| document.is_some_and(|it| it["name"] == "Open")).await?;

    run("UPDATE poi SET id = 2").await?;
    story.document(2, SOON, |document| document.is_some()).await?;
    story.document(1, SOON, |document| document.is_none()).await?;

    run("DELETE FROM poi").await?;
    story.document(2, SOON, |document| document.is_none()).await?;
    let buried = story.sequin.metric("sequin_messages_buried_count", &[]).await?;
    assert_eq!(buried, 0.0, "{}", story.sequin.log());
    Ok(())
}

/// A long description that an update does not touch is not sent: the document keeps it. A document
/// that is not there must not come to be without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_was_not_sent_stays_in_the_document() -> Result<()> {
    let story = start().await?;
    let run = async |sql: &str| story.client.batch_execute(sql).await;
    let long = "x".repeat(20_000);
    run(&format!("INSERT INTO poi VALUES (1, 'a', '[]', true, '{long}')")).await?;
    story.document(1, SOON, |document| document.is_some()).await?;
    run("UPDATE poi SET name = 'b'").await?;
    story.document(1, SOON, |document| document.is_some_and(|it| it["name"] == "b")).await?;
    let document = story.typesense.document("poi", "1").await?.context("it is there")?;
    assert_eq!(document["description"], long);

    run("UPDATE poi SET is_public = false").await?;
    story.document(1, SOON, |document| document.is_none()).await?;
    run("UPDATE poi SET is_public = true").await?;
    until("the letter", SOON, async || {
        let buried = story.sequin.metric("sequin_messages_buried_count", &[]).await?;
        Ok(if buried == 1.0 { Ok(()) } else { Err(format!("{buried} letters")) })
    })
    .await?;
    assert!(story.typesense.document("poi", "1").await?.is_none(), "no document of a part");
    let letters = story.sequin.command(&["letters"]).await?;
    let letters = String::from_utf8(letters.stdout)?;
    assert!(letters.contains("REPLICA IDENTITY FULL"), "{letters}");
    Ok(())
}

/// The index is away, refuses writes and comes back, the engine is killed: in the end it holds the
/// public rows, as they are, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn the_index_converges_on_the_public_rows_whatever_happens() -> Result<()> {
    let mut story = start().await?;
    let write = async |client: &tokio_postgres::Client, seed: u32| {
        let sql = format!(
            "DO $$ BEGIN PERFORM setseed({seed} / 100.0); FOR n IN 1..400 LOOP
                INSERT INTO poi VALUES (1 + floor(random() * 40), 'v' || n || '-{seed}',
                    CASE WHEN random() < 0.5 THEN '[\"wifi\"]' ELSE '[]' END::jsonb, random() < 0.5)
                ON CONFLICT (id) DO UPDATE SET name = excluded.name,
                    features = excluded.features, is_public = excluded.is_public;
                IF random() < 0.1 THEN DELETE FROM poi WHERE id = 1 + floor(random() * 40); END IF;
                COMMIT;
            END LOOP; END $$"
        );
        client.batch_execute(&sql).await
    };
    write(&story.client, 1).await?;
    story.typesense.skip_writes(true).await?;
    write(&story.client, 2).await?;
    story.sequin.kill9().await?;
    story.typesense.skip_writes(false).await?;
    story.sequin.restart().await?;
    write(&story.client, 3).await?;
    story.typesense.kill().await?;
    write(&story.client, 4).await?;
    story.typesense.start_again().await?;
    let sql = "SELECT id::text, name, features ? 'wifi' FROM poi WHERE is_public ORDER BY id";
    let rows = story.client.query(sql, &[]).await?;
    let mut wanted: Vec<(String, String, bool)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    wanted.sort();
    until("the index to hold the public rows", LATER, async || {
        let documents = story.typesense.documents("poi").await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut held: Vec<_> = documents
            .iter()
            .map(|it| (text(&it["id"]), text(&it["name"]), it["has_wifi"] == true))
            .collect();
        held.sort();
        Ok(if held == wanted { Ok(()) } else { Err(format!("{held:?}\n of {wanted:?}")) })
    })
    .await
    .with_context(|| format!("the engine said:\n{}", story.sequin.log()))
}
