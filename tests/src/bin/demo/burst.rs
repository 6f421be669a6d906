//! Many rows at once: how fast they go through, and how far the sinks are behind meanwhile.

use std::time::Duration;

use anyhow::{Context as _, Result};
use tests::until;
use tokio::time::Instant;

use crate::edits::Editor;
use crate::say;

/// Rows of a burst.
const ROWS: i64 = 5_000;

/// Typesense indexes thousands of documents a second.
const SETTLED: Duration = Duration::from_secs(120);

/// Between two lines of progress.
const LINE: Duration = Duration::from_secs(1);

/// Writes them, waits until every sink has them, and takes them away again.
pub(crate) async fn run(editor: &Editor<'_>) -> Result<()> {
    say(&format!("  {ROWS} camps at once, to all sinks"));
    let insert = format!(
        "INSERT INTO poi (name, features, region, location, is_public)
         SELECT 'Camp No. ' || n, '[\"wifi\"]', CASE WHEN n % 2 = 0 THEN 'alps' ELSE 'coast' END,
            ARRAY[46 + n % 100 / 100.0, 8 + n % 90 / 100.0], true FROM generate_series(1, {ROWS}) n"
    );
    let began = Instant::now();
    editor.client.batch_execute(&insert).await.context("write rows")?;
    let seconds = settled(editor).await?.duration_since(began).as_secs_f64();
    let rate = ROWS as f64 / seconds;
    say(&format!("    in every sink after {seconds:.1} s: {rate:.0} rows/s"));
    editor.client.batch_execute("DELETE FROM poi WHERE name LIKE 'Camp No. %'").await?;
    settled(editor).await?;
    editor.world.receiver.forget();
    say("    and taken away again");
    say("");
    Ok(())
}

/// When the slot is confirmed past all that was written, telling how many messages wait.
async fn settled(editor: &Editor<'_>) -> Result<Instant> {
    let row = editor.client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await?;
    let target: String = row.get(0);
    let sql = "SELECT confirmed_flush_lsn >= $1::text::pg_lsn FROM pg_replication_slots
               WHERE slot_name = 'sequin_demo'";
    let mut told = Instant::now();
    until("every sink to have it", SETTLED, async || {
        if editor.client.query_one(sql, &[&target]).await?.get(0) {
            return Ok(Ok(Instant::now()));
        }
        let pending = editor.world.sequin.metric("sequin_messages_pending", &[]).await?;
        if told.elapsed() >= LINE {
            told = Instant::now();
            say(&format!("    {pending} messages wait for their sinks"));
        }
        Ok(Err(format!("{pending} messages wait")))
    })
    .await
    .with_context(|| editor.said())
}
