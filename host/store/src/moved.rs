//! Other names for what is kept: of sinks, functions and databases, and what ran under which name.
//!
//! Everything that goes by a name is here, in one transaction with the configuration that has the new
//! ones: a kill leaves all of it as it was, or all of it done.

use std::collections::BTreeSet;

use model::applied::Applied;
use model::rollout::Rollout;
use model::store::Epoch;
use model::versions::{Deed, Made, VersionsError};
use rusqlite::{Error, Transaction};

use crate::change_log::names;
use crate::embedded::{Embedded, unavailable};
use crate::{applied, versions};

pub(crate) const SCHEMA: &str = "
    -- What ran last, by kind and name: an older process did not write it.
    CREATE TABLE ran (
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        PRIMARY KEY (kind, name)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO ran (kind, name) SELECT 'sink', sink FROM begun_sinks;
    INSERT OR IGNORE INTO ran (kind, name)
    SELECT 'function', function FROM binding_links l
    WHERE number = (SELECT max(number) FROM bindings b WHERE b.sink = l.sink AND b.role = l.role);
";

/// What gets another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renamed {
    /// A sink.
    Sink,
    /// A function.
    Function,
    /// A database.
    Database,
}

/// Another name for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rename {
    /// What it is.
    pub what: Renamed,
    /// Its name before, and the id made from it.
    pub from: (String, String),
    /// From now on. What is kept of something with this name that runs no more gives way, but for
    /// letters and what is over.
    pub to: (String, String),
}

/// Other names, with what is recorded together with them.
#[derive(Clone, Debug, Default)]
pub struct Renames {
    /// Which.
    pub renames: Vec<Rename>,
    /// The configuration that has them, if it was applied, and signatures of its components.
    pub applied: Option<(Applied, Vec<(String, String)>)>,
    /// Generations of bindings, under the new names.
    pub made: Vec<Made>,
    /// All that is to run, by kind and name.
    pub ran: BTreeSet<(String, String)>,
    /// For the audit.
    pub deed: Deed,
}

impl Embedded {
    /// Gives other names to what is kept. Nothing of it may be written to by anybody else meanwhile.
    ///
    /// # Errors
    /// It cannot be written, or a generation was made meanwhile: nothing is changed then.
    pub async fn rename(&self, epoch: Epoch, renames: Renames) -> Result<(), VersionsError> {
        let open = self.open_logs();
        let work = move |transaction: &Transaction<'_>| {
            transaction.execute_batch("SAVEPOINT renames")?;
            let done = all(transaction, &open, renames)?;
            if done.is_err() {
                transaction.execute_batch("ROLLBACK TO renames")?;
            }
            transaction.execute_batch("RELEASE renames")?;
            Ok(done)
        };
        self.judged(epoch, work).await
    }

    /// What ran last, by kind and name.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn ran(&self) -> Result<BTreeSet<(String, String)>, VersionsError> {
        let ran = self.call(|connection| {
            let read = || {
                let mut ran = connection.prepare("SELECT kind, name FROM ran")?;
                ran.query_map((), |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()
            };
            read().map_err(unavailable)
        });
        Ok(ran.await?)
    }

    /// This runs from now on, and nothing else.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn runs(
        &self,
        epoch: Epoch,
        ran: BTreeSet<(String, String)>,
    ) -> Result<(), VersionsError> {
        self.judged(epoch, move |transaction| set_ran(transaction, &ran).map(Ok)).await
    }
}

fn all(
    transaction: &Transaction<'_>,
    open: &names::Open,
    renames: Renames,
) -> Result<Result<(), VersionsError>, Error> {
    let Renames { renames, applied, made, ran, deed } = renames;
    for rename in &renames {
        match rename.what {
            Renamed::Sink => sink(transaction, open, rename)?,
            Renamed::Function => function(transaction, rename)?,
            Renamed::Database => database(transaction, rename)?,
        }
    }
    set_ran(transaction, &ran)?;
    if let Some((applied, signatures)) = &applied {
        applied::insert(transaction, applied, signatures)?;
    }
    versions::note(transaction, &deed)?;
    versions::bind(transaction, made)
}

fn set_ran(transaction: &Transaction<'_>, ran: &BTreeSet<(String, String)>) -> Result<(), Error> {
    transaction.execute("DELETE FROM ran", ())?;
    let mut insert = transaction.prepare("INSERT INTO ran (kind, name) VALUES (?1, ?2)")?;
    ran.iter().try_for_each(|it| insert.execute((&it.0, &it.1)).map(drop))
}

/// State of which there is one for each name: `?1` has it, `?2` gets it.
const OF_SINK: [&str; 15] = [
    "DELETE FROM progress WHERE sink = ?2",
    "UPDATE progress SET sink = ?2 WHERE sink = ?1",
    "DELETE FROM begun_sinks WHERE sink = ?2",
    "UPDATE begun_sinks SET sink = ?2 WHERE sink = ?1",
    "DELETE FROM begun_tables WHERE sink = ?2",
    "UPDATE begun_tables SET sink = ?2 WHERE sink = ?1",
    "DELETE FROM bindings WHERE sink = ?2",
    "UPDATE bindings SET sink = ?2 WHERE sink = ?1",
    "DELETE FROM binding_links WHERE sink = ?2",
    "UPDATE binding_links SET sink = ?2 WHERE sink = ?1",
    "DELETE FROM holds WHERE sink = ?2",
    "UPDATE holds SET sink = ?2 WHERE sink = ?1",
    "UPDATE backfills SET sink = ?2 WHERE sink = ?1",
    "DELETE FROM letters_dropped WHERE sink = ?2",
    "UPDATE letters_dropped SET sink = ?2 WHERE sink = ?1",
];

/// Whether anything is kept of a sink.
const IS_KNOWN: &str = "
    SELECT EXISTS (SELECT 1 FROM progress WHERE sink = ?1)
        OR EXISTS (SELECT 1 FROM begun_sinks WHERE sink = ?1)
        OR EXISTS (SELECT 1 FROM bindings WHERE sink = ?1)
        OR EXISTS (SELECT 1 FROM backfills WHERE sink = ?1)
        OR EXISTS (SELECT 1 FROM letters WHERE sink = ?1)
        OR EXISTS (SELECT 1 FROM rollouts WHERE sink = ?1)";

/// Letters of both are kept; those of another sink that had the name are of a stream that is over,
/// where both have one of the same change.
const LETTERS: [&str; 3] = [
    "UPDATE letters SET origin = 'before ' || datetime('now') || ': ' || origin
     WHERE sink = ?2 AND EXISTS (SELECT 1 FROM letters o WHERE o.sink = ?1
        AND o.origin = letters.origin AND o.commit_lsn = letters.commit_lsn
        AND o.ordinal = letters.ordinal AND o.output = letters.output
        AND o.stage = letters.stage)",
    "UPDATE letters SET sink = ?2 WHERE sink = ?1",
    "UPDATE letter_keys SET sink = ?2 WHERE sink = ?1",
];

fn sink(transaction: &Transaction<'_>, open: &names::Open, rename: &Rename) -> Result<(), Error> {
    let Rename { from, to, .. } = rename;
    // Whoever asks again must not have what was renamed give way to nothing.
    if !transaction.query_row(IS_KNOWN, [&from.0], |row| row.get::<_, bool>(0))? {
        return Ok(());
    }
    names::rename(transaction, open, (&from.0, &to.0))?;
    for sql in OF_SINK.iter().chain(&LETTERS) {
        transaction.execute(sql, (&from.0, &to.0))?;
    }
    rollouts(transaction, |rollout| {
        let is_it = *rollout.sink == from.0;
        if is_it {
            rollout.sink = to.0.as_str().into();
            // Which rows take a version goes by it, so it stays as long as some do.
            if !rollout.is_attached() {
                rollout.sink_id = to.1.as_str().into();
            }
        }
        is_it
    })?;
    entity(transaction, &format!("sink_consumer/{}", from.1), &format!("sink_consumer/{}", to.1))
}

fn function(transaction: &Transaction<'_>, rename: &Rename) -> Result<(), Error> {
    let (from, to) = (&rename.from.0, &rename.to.0);
    let gives_way = "
        DELETE FROM key_values WHERE function = ?2
            AND EXISTS (SELECT 1 FROM key_values WHERE function = ?1)";
    transaction.execute(gives_way, (from, to))?;
    for table in ["key_values", "binding_links"] {
        let sql = format!("UPDATE {table} SET function = ?2 WHERE function = ?1");
        transaction.execute(&sql, (from, to))?;
    }
    rollouts(transaction, |rollout| {
        let is_it = *rollout.function == **from;
        if is_it {
            rollout.function = to.as_str().into();
        }
        is_it
    })
}

/// Streams are known by what the server says of itself, not by this name: only which slots were used.
fn database(transaction: &Transaction<'_>, rename: &Rename) -> Result<(), Error> {
    let (from, to) = (&rename.from.0, &rename.to.0);
    let of = "substr(slot, 1, length(?1) + 1) = ?1 || '/'";
    let slots: Vec<String> = transaction
        .prepare(&format!("SELECT substr(slot, length(?1) + 2) FROM slots WHERE {of}"))?
        .query_map([from], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    transaction.execute(
        &format!(
            "UPDATE OR REPLACE slots SET slot = ?2 || substr(slot, length(?1) + 1) WHERE {of}"
        ),
        (from, to),
    )?;
    transaction.execute("UPDATE backfills SET database = ?2 WHERE database = ?1", (from, to))?;
    for slot in slots {
        let key = |database: &str| format!("postgres_replication_slot/{database}/{slot}");
        entity(transaction, &key(from), &key(to))?;
    }
    Ok(())
}

/// What health knows it by.
fn entity(transaction: &Transaction<'_>, from: &str, to: &str) -> Result<(), Error> {
    for table in ["erroring", "dismissed"] {
        let gives_way = format!(
            "DELETE FROM {table} WHERE entity = ?2
                AND EXISTS (SELECT 1 FROM {table} WHERE entity = ?1)"
        );
        transaction.execute(&gives_way, (from, to))?;
        let sql = format!("UPDATE {table} SET entity = ?2 WHERE entity = ?1");
        transaction.execute(&sql, (from, to))?;
    }
    Ok(())
}

fn rollouts(
    transaction: &Transaction<'_>,
    mut change: impl FnMut(&mut Rollout) -> bool,
) -> Result<(), Error> {
    for mut rollout in crate::rollouts::all(transaction)? {
        if change(&mut rollout) {
            let sql = "UPDATE rollouts SET sink = ?2, record = ?3 WHERE id = ?1";
            transaction.execute(sql, (&*rollout.id, &*rollout.sink, rollout.to_json()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
