//! The story of `sequin.yaml`: a camping app's rows follow into search indexes, webhooks, a file and a
//! stream of jobs.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tests::sample::{self, Around};
use tests::{Cluster, Proxy, Receiver, Sequin, typesense, until};

use crate::world::{LATER, SOON, streaming};

/// Between two harms.
const HARM: Duration = Duration::from_millis(60);

struct Story {
    sequin: Sequin,
    receiver: Receiver,
    typesense: typesense::Server,
    /// Between the engine and Typesense.
    proxy: Proxy,
    client: tokio_postgres::Client,
    files: tempfile::TempDir,
    _postgres: Cluster,
}

/// The repository's own `sequin.yaml`, as the demo runs it.
async fn start() -> Result<Story> {
    let postgres = Cluster::start().await?;
    let client = postgres.client("postgres").await?;
    client.batch_execute(sample::SCHEMA).await?;
    let typesense = typesense::Server::start().await?;
    sample::create_collections(&typesense).await?;
    let receiver = Receiver::start().await?;
    let port = typesense.url().rsplit(':').next().context("a port")?.parse()?;
    let proxy = Proxy::start(port).await?;
    let files = tempfile::tempdir()?;
    let url = format!("http://127.0.0.1:{}", proxy.port());
    let around = Around {
        postgres: &postgres,
        typesense: Some((&url, typesense.api_key())),
        receiver: &receiver,
        audit: &files.path().join("audit.ndjson"),
    };
    let sequin = sample::engine(around).start().await?;
    streaming(&sequin).await?;
    Ok(Story { sequin, receiver, typesense, proxy, client, files, _postgres: postgres })
}

impl Story {
    async fn run(&self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).await.with_context(|| sql.to_owned())
    }

    /// Waits until the document `id` of a collection is as `wanted`.
    async fn document(
        &self,
        collection: &str,
        id: i64,
        wanted: impl Fn(Option<&Value>) -> bool,
    ) -> Result<()> {
        until(&format!("document {id} of {collection} to follow"), SOON, async || {
            let document = self.typesense.document(collection, &id.to_string()).await?;
            let matches = wanted(document.as_ref());
            Ok(if matches { Ok(()) } else { Err(format!("{document:?}")) })
        })
        .await
        .with_context(|| format!("the engine said:\n{}", self.sequin.log()))
    }

    /// Waits for a message that was posted to a path.
    async fn posted(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        until(&format!("a message at {path}"), SOON, async || {
            let requests = self.receiver.accepted();
            let at_path = requests.iter().filter(|request| request.path == path);
            let found = at_path.flat_map(|request| request.messages()).find(|it| wanted(it));
            let paths = || requests.iter().map(|it| it.path.clone()).collect::<Vec<_>>();
            Ok(found.ok_or_else(|| format!("{:?}", paths())))
        })
        .await
        .with_context(|| format!("the engine said:\n{}", self.sequin.log()))
    }

    fn audit(&self) -> PathBuf {
        self.files.path().join("audit.ndjson")
    }

    async fn buried(&self) -> Result<f64> {
        self.sequin.metric("sequin_messages_buried_count", &[]).await
    }
}

fn has<'a>(name: &'a str, value: Value) -> impl Fn(Option<&Value>) -> bool + use<'a> {
    move |document| document.is_some_and(|it| it.get(name).unwrap_or(&Value::Null) == &value)
}

fn gone(document: Option<&Value>) -> bool {
    document.is_none()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_point_of_interest_carries_all_its_languages_into_the_index() -> Result<()> {
    let story = start().await?;
    story
        .run(
            "BEGIN;
             INSERT INTO poi (id, name, features, region, location, is_public)
                VALUES (1, 'Lake', '[\"wifi\", \"showers\"]', 'alps', '{46.5, 8}', true);
             INSERT INTO poi_translation VALUES (1, 'de', 'name', 'See'), (1, 'fr', 'name', 'Lac'),
                (1, 'de', 'description', 'Ruhig');
             COMMIT",
        )
        .await?;
    story.document("poi", 1, has("name_de", json!("See"))).await?;
    story.document("poi", 1, has("name_fr", json!("Lac"))).await?;
    let document = story.typesense.document("poi", "1").await?.context("it was there")?;
    for (name, value) in [
        ("id", json!("1")),
        ("name", json!("Lake")),
        ("has_wifi", json!(true)),
        ("has_electricity", json!(false)),
        ("description_de", json!("Ruhig")),
    ] {
        assert_eq!(document[name], value, "{name} of {document}");
    }
    story.document("poi_map", 1, has("location", json!([46.5, 8]))).await?;
    let pin = story.typesense.document("poi_map", "1").await?.context("it was there")?;
    assert_eq!(pin.as_object().map(|it| it.len()), Some(3), "{pin}");

    // A row of its own language updates its field, and clears it when it goes.
    story
        .run("UPDATE poi_translation SET text = 'Bergsee' WHERE language = 'de' AND field = 'name'")
        .await?;
    story.document("poi", 1, has("name_de", json!("Bergsee"))).await?;
    story.run("DELETE FROM poi_translation WHERE language = 'fr'").await?;
    story.document("poi", 1, has("name_fr", Value::Null)).await?;
    story.run("UPDATE poi SET features = '[\"electricity\"]'").await?;
    story.document("poi", 1, has("has_electricity", json!(true))).await?;
    story.document("poi", 1, has("name_de", json!("Bergsee"))).await?;

    // What turns private is gone within the second, and nothing brings it back.
    story.run("UPDATE poi SET is_public = false").await?;
    story.document("poi", 1, gone).await?;
    story.document("poi_map", 1, gone).await?;
    story.run("UPDATE poi SET name = 'Secret'; UPDATE poi_translation SET text = 'Geheim'").await?;
    story.run("INSERT INTO poi_translation VALUES (1, 'en', 'name', 'Hidden')").await?;
    story.posted("/delta", |it| it["record"]["text"] == "Hidden").await?;
    story.run("INSERT INTO poi (id, name, region, location, is_public) VALUES (2, 'Next', 'alps', '{46, 8}', true)").await?;
    story.document("poi", 2, has("name", json!("Next"))).await?;
    assert!(story.typesense.document("poi", "1").await?.is_none(), "it came back");

    story.run("UPDATE poi SET is_public = true, name = 'Open' WHERE id = 1").await?;
    story.document("poi", 1, has("name", json!("Open"))).await?;
    story.document("poi", 1, has("name_en", json!("Hidden"))).await?;
    story.run("UPDATE poi SET id = 3 WHERE id = 1").await?;
    story.document("poi", 1, gone).await?;
    story.document("poi", 3, has("name_en", json!("Hidden"))).await?;
    story.run("DELETE FROM poi").await?;
    for id in [2, 3] {
        story.document("poi", id, gone).await?;
    }
    assert_eq!(story.buried().await?, 0.0, "{}", story.sequin.log());
    Ok(())
}

/// Each of the other sinks gets what it is for.
#[tokio::test(flavor = "multi_thread")]
async fn everybody_gets_what_they_are_for() -> Result<()> {
    let story = start().await?;
    story
        .run(
            "INSERT INTO poi (id, name, features, region, location, is_public) VALUES
                (1, 'Lake', '[]', 'alps', '{46.5, 8}', true),
                (2, 'Dune', '[]', 'north coast', '{54, 8}', true),
                (3, 'Secret', '[]', 'coast', '{54, 8}', false)",
        )
        .await?;
    let of = |id: i64| move |it: &Value| it["record"]["id"] == id;
    let texts = story.posted("/translate", of(1)).await?;
    assert_eq!(texts["record"], json!({"id": 1, "name": "Lake", "description": null}));
    let synced = story.posted("/delta", of(3)).await?;
    assert!(synced["record"]["created_at"].is_i64(), "{synced}");
    assert!(synced["metadata"]["commit_timestamp"].is_i64(), "{synced}");
    // A route is escaped, row by row.
    story.posted("/partners/alps", of(1)).await?;
    story.posted("/partners/north%20coast", of(2)).await?;
    story.posted("/feeds/alps", of(1)).await?;
    story.run("UPDATE poi SET is_public = true WHERE id = 3").await?;
    story.posted("/feeds/coast", of(3)).await?;
    story.posted("/cache/poi/3", |_| true).await?;
    let requests = story.receiver.accepted();
    let mut purges = requests.iter().filter(|request| request.path.starts_with("/cache"));
    assert!(purges.all(|request| request.method == "DELETE"), "{requests:?}");
    for path in ["/translate", "/partners/coast", "/feeds/coast"] {
        let mut early = requests.iter().filter(|it| it.path == path).flat_map(|it| it.messages());
        assert!(early.all(|it| it["record"]["is_public"] != false), "{path} saw a private row");
    }

    story.run("INSERT INTO review (id, poi, stars, body) VALUES (9, 1, 5, 'Sunrise')").await?;
    story.posted("/moderate", of(9)).await?;
    let requests = story.receiver.accepted();
    let signed = requests.iter().find(|it| it.path == "/moderate").context("it was there")?;
    assert!(signed.header("webhook-signature").is_some_and(|it| it.starts_with("v1,")));
    assert!(story.typesense.document("review", "9").await?.is_none(), "not published yet");
    story.run("UPDATE review SET is_published = true").await?;
    story.document("review", 9, has("body", json!("Sunrise"))).await?;

    story.run("TRUNCATE review").await?;
    until("the audit file to have the truncate", SOON, async || {
        let text = std::fs::read_to_string(story.audit()).unwrap_or_default();
        let last = text.lines().last().unwrap_or_default();
        Ok(if last.contains("\"action\":\"truncate\"") { Ok(()) } else { Err(last.to_owned()) })
    })
    .await?;
    let audit = std::fs::read_to_string(story.audit())?;
    let lines: Vec<Value> =
        audit.lines().map(serde_json::from_str).collect::<Result<_, _>>().context(audit.clone())?;
    assert_eq!(lines.len(), 7, "three inserts, an update, a review twice, a truncate: {audit}");
    assert_eq!(lines[0]["metadata"]["consumer"]["annotations"]["retention"], "7 years");
    assert_eq!(story.buried().await?, 0.0, "{}", story.sequin.log());
    Ok(())
}

/// A long description that an update does not touch is not sent: the document keeps it. A document
/// that is not there must not come to be without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_was_not_sent_stays_in_the_document() -> Result<()> {
    let story = start().await?;
    story.run("ALTER TABLE poi ALTER description SET STORAGE EXTERNAL").await?;
    let long = "x".repeat(20_000);
    story
        .run(&format!(
            "INSERT INTO poi (id, name, region, location, is_public, description)
             VALUES (1, 'a', 'alps', '{{46, 8}}', true, '{long}')"
        ))
        .await?;
    story.document("poi", 1, |document| document.is_some()).await?;
    story.run("UPDATE poi SET name = 'b'").await?;
    story.document("poi", 1, has("name", json!("b"))).await?;
    let document = story.typesense.document("poi", "1").await?.context("it is there")?;
    assert_eq!(document["description"], long);

    story.run("UPDATE poi SET is_public = false").await?;
    story.document("poi", 1, gone).await?;
    story.run("UPDATE poi SET is_public = true").await?;
    let buried = [("consumer_name", "poi-search")];
    until("the letter", SOON, async || {
        let buried = story.sequin.metric("sequin_messages_buried_count", &buried).await?;
        Ok(if buried == 1.0 { Ok(()) } else { Err(format!("{buried} letters")) })
    })
    .await?;
    assert!(story.typesense.document("poi", "1").await?.is_none(), "no document of a part");
    let letters = story.sequin.command(&["letters"]).await?;
    let letters = String::from_utf8(letters.stdout)?;
    assert!(letters.contains("REPLICA IDENTITY FULL"), "{letters}");
    Ok(())
}

/// Random edits, a transaction each: rows come, change, turn private and public, change their key and
/// go; so do their texts. What is written of a private row begins with `secret`.
fn edits(seed: u32, rounds: u32) -> String {
    format!(
        "DO $$ DECLARE k bigint; dice float; hidden boolean; BEGIN PERFORM setseed({seed} / 1000.0);
         FOR n IN 1..{rounds} LOOP
            k := 1 + floor(random() * 25);
            dice := random();
            hidden := NOT coalesce((SELECT is_public FROM poi WHERE id = k), false);
            IF dice < 0.35 THEN
                hidden := random() < 0.5;
                INSERT INTO poi (id, name, features, region, location, is_public) VALUES (k,
                    CASE WHEN hidden THEN 'secret ' ELSE 'open ' END || '{seed}-' || n,
                    CASE WHEN random() < 0.5 THEN '[\"wifi\"]' ELSE '[]' END::jsonb,
                    'alps', '{{46, 8}}', NOT hidden)
                ON CONFLICT (id) DO UPDATE SET name = excluded.name, features = excluded.features,
                    is_public = excluded.is_public;
            ELSIF dice < 0.8 THEN
                INSERT INTO poi_translation SELECT k,
                    (ARRAY['de', 'fr', 'en'])[1 + floor(random() * 3)],
                    (ARRAY['name', 'description'])[1 + floor(random() * 2)],
                    CASE WHEN hidden THEN 'secret ' ELSE 'text ' END || '{seed}-' || n
                    FROM poi WHERE id = k
                ON CONFLICT (poi, language, field) DO UPDATE SET text = excluded.text;
            ELSIF dice < 0.9 THEN
                DELETE FROM poi_translation WHERE poi = k AND random() < 0.5;
            ELSIF dice < 0.95 THEN
                DELETE FROM poi WHERE id = k;
            ELSE
                UPDATE poi SET id = 26 + k WHERE id = k AND NOT EXISTS
                    (SELECT FROM poi WHERE id = 26 + k);
            END IF;
            COMMIT;
        END LOOP; END $$"
    )
}

/// What the index must hold: id, name, whether there is wifi, and the texts.
type Held = (String, String, bool, Vec<(String, String)>);

async fn wanted(story: &Story) -> Result<Vec<Held>> {
    let sql = "SELECT id::text, name, features ? 'wifi', coalesce((SELECT
        jsonb_object_agg(field || '_' || language, text) FROM poi_translation WHERE poi = id),
        '{}')::text FROM poi WHERE is_public";
    let rows = story.client.query(sql, &[]).await?;
    let mut wanted = Vec::new();
    for row in rows {
        let texts: serde_json::Map<String, Value> = serde_json::from_str(row.get(3))?;
        wanted.push((row.get(0), row.get(1), row.get(2), texts_of(&texts)));
    }
    wanted.sort();
    Ok(wanted)
}

fn texts_of(object: &serde_json::Map<String, Value>) -> Vec<(String, String)> {
    let is_text = |name: &str| name.starts_with("name_") || name.starts_with("description_");
    let mut texts: Vec<_> = object
        .iter()
        .filter(|(name, _)| is_text(name))
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect();
    texts.sort();
    texts
}

async fn held(story: &Story) -> Result<Vec<Held>> {
    let documents = story.typesense.documents("poi").await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut held: Vec<Held> = documents
        .iter()
        .filter_map(Value::as_object)
        .map(|it| (text(&it["id"]), text(&it["name"]), it["has_wifi"] == true, texts_of(it)))
        .collect();
    held.sort();
    Ok(held)
}

/// The index is killed and comes back, cuts connections and at last refuses writes, and the engine is
/// killed in the middle of it, again and again, so that changes are tried again and delivered again: in
/// the end the index holds the public rows with all their texts, as they are, and nothing of any
/// private one.
#[tokio::test(flavor = "multi_thread")]
async fn no_order_of_edits_retries_kills_or_replays_leaves_a_private_row_in_the_index() -> Result<()>
{
    let mut story = start().await?;
    for seed in 1..=3_u32 {
        story.run(&edits(seed * 10, 150)).await?;
        // Last, since 0.24 takes up what it refused in this way when it is killed later.
        let refuses = seed == 3;
        story.typesense.skip_writes(refuses).await?;
        story.run(&edits(seed * 10 + 1, 150)).await?;
        story.sequin.kill9().await?;
        story.typesense.skip_writes(false).await?;
        story.run(&edits(seed * 10 + 2, 100)).await?;
        story.sequin.restart().await?;
        // Killed in the middle of the work, with requests under way.
        let statements = edits(seed * 10 + 3, 400);
        let write = story.client.batch_execute(&statements);
        // Answers are held back, so that requests hang; then their connections are cut.
        let harm = async {
            let mut ticks = tokio::time::interval(HARM);
            loop {
                story.proxy.stall(tests::Way::ToClient);
                ticks.tick().await;
                story.proxy.cut();
                story.proxy.heal();
                ticks.tick().await;
            }
        };
        tokio::select! {
            written = write => written?,
            () = harm => {}
        }
        story.proxy.heal();
        story.sequin.kill9().await?;
        story.sequin.restart().await?;
        if !refuses {
            story.typesense.kill().await?;
        }
        story.proxy.cut();
        story.run(&edits(seed * 10 + 4, 150)).await?;
        story.proxy.heal();
        if !refuses {
            story.typesense.start_again().await?;
        }
        let wanted = wanted(&story).await?;
        until("the index to hold the public rows", LATER, async || {
            let held = held(&story).await?;
            Ok(if held == wanted { Ok(()) } else { Err(format!("{held:?}\n of {wanted:?}")) })
        })
        .await
        .with_context(|| format!("the engine said:\n{}", story.sequin.log()))?;
        let public: Vec<_> = wanted.iter().map(|(id, ..)| id.as_str()).collect();
        until("the map to show the public rows", LATER, async || {
            let documents = story.typesense.documents("poi_map").await?;
            let mut pins: Vec<_> = documents.iter().filter_map(|it| it["id"].as_str()).collect();
            pins.sort_unstable();
            Ok(if pins == public { Ok(()) } else { Err(format!("{pins:?} of {public:?}")) })
        })
        .await?;
    }
    Ok(())
}
