//! The load: writers that change the rows of two tables, and the history that the source keeps of it.
//!
//! Each writer has keys of its own, so that the history of a key is in the order of its commits. It
//! is written by a trigger in the transaction of the change: whether a commit was answered does not
//! matter, what is in the history was committed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_postgres::{Client, NoTls};

pub(crate) const SCHEMA: &str = "
    CREATE TABLE by_key (id bigint PRIMARY KEY, version bigint NOT NULL, filler text);
    CREATE TABLE full_row (id bigint PRIMARY KEY, version bigint NOT NULL, filler text);
    ALTER TABLE full_row REPLICA IDENTITY FULL;
    CREATE SEQUENCE versions;
    CREATE TABLE history (
        seq bigserial PRIMARY KEY, tbl text, id bigint, action text, version bigint
    );
    CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF TG_OP = 'DELETE' THEN
            INSERT INTO history (tbl, id, action) VALUES (TG_TABLE_NAME, OLD.id, 'delete');
        ELSE
            IF TG_OP = 'UPDATE' AND OLD.id <> NEW.id THEN
                INSERT INTO history (tbl, id, action, version)
                VALUES (TG_TABLE_NAME, OLD.id, 'moved', NEW.version);
            END IF;
            INSERT INTO history (tbl, id, action, version)
            VALUES (TG_TABLE_NAME, NEW.id, lower(TG_OP), NEW.version);
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER remember AFTER INSERT OR UPDATE OR DELETE ON by_key
        FOR EACH ROW EXECUTE FUNCTION remember();
    CREATE TRIGGER remember AFTER INSERT OR UPDATE OR DELETE ON full_row
        FOR EACH ROW EXECUTE FUNCTION remember();
    CREATE PUBLICATION chaos FOR TABLE by_key, full_row;";

pub(crate) const TABLES: [&str; 2] = ["by_key", "full_row"];

/// The table whose rows are documents. A document that gets another key needs all values, also those
/// that did not change, which the log of the other table leaves out.
pub(crate) const SEARCHED: &str = "full_row";

const WRITERS: u64 = 4;

/// Of each writer and table.
const KEYS: u64 = 50;

/// Between two transactions of a writer: with the two or three changes of most, 150 to 200 changes a
/// second of all.
const TICK: Duration = Duration::from_millis(60);

/// For one transaction; a server that is shut down meanwhile may not answer.
const TRANSACTION: Duration = Duration::from_secs(20);

/// The writers. They end when the value is dropped, or after [`Load::end`].
pub(crate) struct Load {
    writers: JoinSet<()>,
    ended: watch::Sender<bool>,
    committed: Arc<AtomicU64>,
}

impl Load {
    /// Starts to write to the server of this address.
    pub(crate) fn start(url: &str, seed: u64) -> Self {
        let (ended, end) = watch::channel(false);
        let committed = Arc::<AtomicU64>::default();
        let mut writers = JoinSet::new();
        for number in 0..WRITERS {
            let writer = Writer {
                url: url.to_owned(),
                number,
                die: fastrand::Rng::with_seed(seed ^ (number + 1) << 32),
                committed: Arc::clone(&committed),
            };
            writers.spawn(writer.run(end.clone()));
        }
        Self { writers, ended, committed }
    }

    /// Transactions whose commit was answered.
    pub(crate) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    /// Waits until every writer has finished its transaction.
    pub(crate) async fn end(&mut self) {
        self.ended.send_replace(true);
        while self.writers.join_next().await.is_some() {}
    }
}

struct Writer {
    url: String,
    number: u64,
    die: fastrand::Rng,
    committed: Arc<AtomicU64>,
}

impl Writer {
    async fn run(mut self, end: watch::Receiver<bool>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut session: Option<(Client, JoinSet<()>)> = None;
        while !*end.borrow() {
            ticks.tick().await;
            // The server is restarted now and then: what fails is tried with another session.
            let (client, driver) = match session.take() {
                Some(session) => session,
                None => match connect(&self.url).await {
                    Ok(session) => session,
                    Err(_) => continue,
                },
            };
            let sql = self.transaction();
            let written = tokio::time::timeout(TRANSACTION, client.batch_execute(&sql)).await;
            if matches!(written, Ok(Ok(()))) {
                self.committed.fetch_add(1, Ordering::Relaxed);
                session = Some((client, driver));
            }
        }
    }

    fn transaction(&mut self) -> String {
        let changes = if self.die.u32(..150) == 0 { 300 } else { self.die.u32(1..5) };
        let mut sql = String::from("BEGIN;\n");
        for _ in 0..changes {
            sql += &self.change();
            sql += ";\n";
        }
        sql += if self.die.u32(..20) == 0 { "ROLLBACK" } else { "COMMIT" };
        sql
    }

    fn key(&mut self) -> u64 {
        self.die.u64(..KEYS) * WRITERS + self.number
    }

    fn change(&mut self) -> String {
        let table = TABLES[self.die.usize(..TABLES.len())];
        let (id, other) = (self.key(), self.key());
        // Some are kept out of line, and are not in the log when they do not change.
        let filler = if self.die.u32(..30) == 0 {
            "(SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 150))".to_owned()
        } else {
            format!("repeat('{}', {})", self.die.lowercase(), self.die.u32(20..1_500))
        };
        match self.die.u32(..100) {
            0..45 => format!(
                "INSERT INTO {table} VALUES ({id}, nextval('versions'), {filler})
                 ON CONFLICT (id) DO UPDATE SET version = excluded.version, filler = excluded.filler"
            ),
            45..80 => {
                format!("UPDATE {table} SET version = nextval('versions') WHERE id = {id}")
            }
            80..92 => format!("DELETE FROM {table} WHERE id = {id}"),
            _ => format!(
                "UPDATE {table} SET id = {other}, version = nextval('versions') WHERE id = {id}
                 AND NOT EXISTS (SELECT FROM {table} WHERE id = {other})"
            ),
        }
    }
}

/// A session, and the task that drives it.
pub(crate) async fn connect(url: &str) -> Result<(Client, JoinSet<()>)> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.context("connect")?;
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        // Its error reaches the client's next query.
        connection.await.ok();
    });
    Ok((client, driver))
}
