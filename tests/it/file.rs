//! Messages as lines of a file.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tests::{Cluster, until};

use crate::world::{LATER, engine, settled, streaming, yaml};
use tests::checker;

const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, value bigint, filler text)";

/// The messages of a file and of those that were rotated, in their order; each is a whole line.
fn messages(path: &Path) -> Result<Vec<Value>> {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let mut rotated = Vec::new();
    for entry in std::fs::read_dir(path.parent().unwrap())? {
        let other = entry?.file_name().to_string_lossy().into_owned();
        let number = other.strip_prefix(&name).and_then(|rest| rest.strip_prefix('.'));
        rotated.extend(number.map(|number| number.parse::<u64>().unwrap()));
    }
    rotated.sort_unstable();
    let mut text = String::new();
    for number in rotated {
        text += &std::fs::read_to_string(path.with_file_name(format!("{name}.{number}")))?;
        assert!(text.ends_with('\n'), "a rotated file ends with a line");
    }
    text += &std::fs::read_to_string(path).unwrap_or_default();
    // The last line may be on its way.
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    let lines = text[..whole].lines();
    lines.map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

async fn lines(path: &Path, count: usize) -> Result<()> {
    until("the lines", LATER, async || {
        let found = messages(path)?.len();
        Ok(if found >= count { Ok(()) } else { Err(format!("{found} of {count} lines")) })
    })
    .await
}

/// `kill -9` again and again while lines are written, and half a line left at each: no line is lost,
/// none is torn, and the order of each row is kept.
#[tokio::test(flavor = "multi_thread")]
async fn b182_kills_while_lines_are_written_lose_none_and_tear_none() -> Result<()> {
    let postgres = Cluster::start().await?;
    let client = postgres.client("postgres").await?;
    client.batch_execute(TABLE).await?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("events.ndjson");
    let sink = format!(
        "sinks:
  - name: archive
    database: source
    retry_backoff: {{first_ms: 100, cap_ms: 1000}}
    destination: {{type: file, path: {}, rotate_bytes: 100000}}
",
        path.display()
    );
    let config = yaml(postgres.port(), "http://127.0.0.1:1", &sink);
    let mut sequin = engine(&config).start().await?;
    streaming(&sequin).await?;
    let (lives, changes) = (4, 400);
    for life in 1..=lives {
        let sql = format!(
            "DO $$ BEGIN FOR n IN 1..{changes} LOOP
                INSERT INTO t VALUES (n % 20, {life} * 1000 + n, repeat('x', 500))
                    ON CONFLICT (id) DO UPDATE SET value = excluded.value;
                COMMIT; END LOOP; END $$"
        );
        let before = messages(&path)?.len();
        let kill = async {
            lines(&path, before + 50 * life).await?;
            sequin.kill9().await?;
            // As a power cut leaves it.
            if path.exists() {
                let mut file = OpenOptions::new().append(true).open(&path)?;
                file.write_all(br#"{"record":{"id":1,"va"#)?;
            }
            sequin.restart().await
        };
        let write = async { Ok(client.batch_execute(&sql).await?) };
        tokio::try_join!(write, kill)?;
    }
    settled(&client).await.with_context(|| format!("the engine said:\n{}", sequin.log()))?;
    let messages = messages(&path)?;
    assert_eq!(checker::distinct(&messages), lives * changes, "nothing is lost");
    checker::check_order(&messages);
    let rows = client.query("SELECT id, value FROM t ORDER BY id", &[]).await?;
    let rows: Vec<(i64, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(checker::replayed(&messages), rows);
    assert!(dir.path().join("events.ndjson.2").exists(), "files were rotated");
    Ok(())
}

/// Whoever writes the file after an edit is another version of the sink: the one before has let go of
/// it.
#[tokio::test(flavor = "multi_thread")]
async fn b209_a_file_goes_on_under_another_configuration() -> Result<()> {
    let postgres = Cluster::start().await?;
    let client = postgres.client("postgres").await?;
    client.batch_execute(TABLE).await?;
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("events.ndjson");
    let config = |batch_size: usize| {
        let sink = format!(
            "sinks:
  - name: archive
    database: source
    batch_size: {batch_size}
    destination: {{type: file, path: {}}}
",
            path.display()
        );
        yaml(postgres.port(), "http://127.0.0.1:1", &sink)
    };
    let sequin = engine(&config(10)).start().await?;
    streaming(&sequin).await?;
    for id in 1..=4 {
        client.batch_execute(&format!("INSERT INTO t VALUES ({id}, 1)")).await?;
        lines(&path, id).await.with_context(|| sequin.log())?;
        let before = sequin.metric("sequin_config_reloads_total", &[]).await?;
        sequin.write_config(&config(10 + id))?;
        until("the edit to be taken up", LATER, async || {
            let now = sequin.metric("sequin_config_reloads_total", &[]).await?;
            Ok(if now > before { Ok(()) } else { Err(sequin.log()) })
        })
        .await?;
    }
    client.batch_execute("INSERT INTO t VALUES (9, 1)").await?;
    lines(&path, 5).await.with_context(|| sequin.log())
}
