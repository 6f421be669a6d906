//! Versions of plugins: their names, and who put them here.

mod bindings;
mod bytes;

use model::BoxFuture;
use model::position::Position;
use model::store::Epoch;
use model::versions::{
    Binding, BindingName, Deed, Generation, Made, Role, Version, Versions, VersionsError, skeleton,
};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction};

use crate::embedded::{Durability, Embedded, unavailable};
use crate::rollouts;
pub(crate) use bindings::bind;
use bytes::Bytes;

type Answer<'a, T> = BoxFuture<'a, Result<T, VersionsError>>;

const VERSIONS: &str = "
    SELECT name, version, digest, bytes, metadata, signatures, comment, by_whom, at_us
    FROM plugin_versions WHERE removed = 0 ORDER BY name, at_us, version";
const ADD: &str = "
    INSERT INTO plugin_versions
        (name, version, digest, bytes, metadata, signatures, comment, by_whom, at_us, removed)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 0)
    ON CONFLICT (name, version) DO UPDATE SET
        metadata = excluded.metadata, signatures = excluded.signatures,
        comment = excluded.comment, by_whom = excluded.by_whom, at_us = excluded.at_us, removed = 0";
const NOTE: &str = "
    INSERT INTO deeds (at_us, by_whom, what, subject, digest, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
const DEEDS: &str = "
    SELECT id, at_us, by_whom, what, subject, digest, detail FROM deeds
    WHERE id < ?1 ORDER BY id DESC LIMIT ?2";
/// What runs, what ran before it, and what is held: what somebody may want back in a second. The
/// generation before is the last one that was not the same.
const IN_USE: &str = "
    SELECT l.sink, l.role FROM binding_links l
    JOIN (SELECT sink, role, max(number) AS last FROM bindings GROUP BY sink, role) b
        ON b.sink = l.sink AND b.role = l.role
    WHERE l.digest = ?1 AND (l.number >= b.last - 1
        OR l.number IN (SELECT number FROM holds WHERE sink = l.sink AND role = l.role)) LIMIT 1";
const NEEDED: &str = "
    SELECT digest FROM plugin_versions WHERE removed = 0 UNION SELECT digest FROM binding_links
    UNION SELECT digest FROM applied_digests";

/// What a transaction came to: a refusal is no failure of the store.
type Judged<T> = Result<T, VersionsError>;

impl Versions for Embedded {
    fn bytes(&self, digest: &str) -> Result<Vec<u8>, VersionsError> {
        Bytes::new(self.directory()).read(digest)
    }

    fn keep(&self, digest: &str, bytes: &[u8]) -> Result<(), VersionsError> {
        Bytes::new(self.directory()).keep(digest, bytes)
    }

    fn add(&self, epoch: Epoch, version: Version) -> Answer<'_, bool> {
        self.judged(epoch, move |transaction| add(transaction, &version))
    }

    fn versions(&self) -> Answer<'_, Vec<Version>> {
        self.look(|connection| connection.prepare(VERSIONS)?.query_map((), version)?.collect())
    }

    fn remove<'a>(
        &'a self,
        epoch: Epoch,
        name: &'a str,
        version: &'a str,
        deed: Deed,
    ) -> Answer<'a, ()> {
        let (name, version) = (name.to_owned(), version.to_owned());
        self.judged(epoch, move |transaction| remove(transaction, &name, &version, deed))
    }

    fn collect(&self, epoch: Epoch, deed: Deed) -> Answer<'_, Vec<String>> {
        let bytes = Bytes::new(self.directory());
        // In the transaction: nobody names what is removed here at the same time.
        self.judged(epoch, move |transaction| {
            let mut needed: Vec<String> = transaction
                .prepare(NEEDED)?
                .query_map((), |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            let rolled = rollouts::attached(transaction)?.into_iter();
            needed.extend(rolled.map(|rollout| rollout.digest.to_string()));
            let failed =
                |error: std::io::Error| rusqlite::Error::ToSqlConversionFailure(Box::new(error));
            let removed = bytes.collect(&needed).map_err(failed)?;
            if !removed.is_empty() {
                note(transaction, &Deed { detail: removed.join(", "), ..deed })?;
            }
            Ok(Ok(removed))
        })
    }

    fn bindings(&self) -> Answer<'_, Vec<Binding>> {
        self.look(bindings::all)
    }

    fn history<'a>(&'a self, sink: &'a str) -> Answer<'a, Vec<(Role, Generation)>> {
        let sink = sink.to_owned();
        self.look(move |connection| bindings::history(connection, &sink))
    }

    fn bind(&self, epoch: Epoch, made: Vec<Made>) -> Answer<'_, ()> {
        self.judged(epoch, move |transaction| bind(transaction, made))
    }

    fn begun(
        &self,
        epoch: Epoch,
        name: BindingName,
        number: u64,
        behind: Position,
    ) -> Answer<'_, ()> {
        self.judged(epoch, move |transaction| {
            bindings::begun(transaction, &name, number, behind).map(Ok)
        })
    }

    fn refused(&self, epoch: Epoch, name: BindingName, deed: Deed) -> Answer<'_, ()> {
        self.judged(epoch, move |transaction| {
            if bindings::refused(transaction, &name)? {
                note(transaction, &deed)?;
            }
            Ok(Ok(()))
        })
    }

    fn release(&self, epoch: Epoch, name: BindingName, deed: Deed) -> Answer<'_, bool> {
        self.judged(epoch, move |transaction| {
            let held = bindings::release(transaction, &name)?;
            if held {
                note(transaction, &deed)?;
            }
            Ok(Ok(held))
        })
    }

    fn note(&self, epoch: Epoch, deed: Deed) -> Answer<'_, ()> {
        self.judged(epoch, move |transaction| note(transaction, &deed).map(Ok))
    }

    fn deeds(&self, below: Option<i64>, limit: usize) -> Answer<'_, Vec<Deed>> {
        self.look(move |connection| {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let mut deeds = connection.prepare(DEEDS)?;
            let deeds = deeds.query_map((below.unwrap_or(i64::MAX), limit), |row| {
                Ok(Deed {
                    id: row.get(0)?,
                    at_us: row.get(1)?,
                    by: row.get(2)?,
                    what: row.get(3)?,
                    subject: row.get(4)?,
                    digest: row.get(5)?,
                    detail: row.get(6)?,
                })
            })?;
            deeds.collect()
        })
    }
}

impl Embedded {
    pub(crate) fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Answer<'_, T> {
        Box::pin(async { Ok(self.call(|connection| work(connection).map_err(unavailable)).await?) })
    }

    /// What is refused has written nothing.
    pub(crate) fn judged<T: Send + 'static>(
        &self,
        epoch: Epoch,
        work: impl FnOnce(&Transaction<'_>) -> Result<Judged<T>, rusqlite::Error> + Send + 'static,
    ) -> Answer<'_, T> {
        Box::pin(async move { self.write(epoch, Durability::Synced, work).await? })
    }
}

fn add(transaction: &Transaction<'_>, version: &Version) -> Result<Judged<bool>, rusqlite::Error> {
    let Version { name, version: number, digest, .. } = version;
    let known = "SELECT digest, removed FROM plugin_versions WHERE name = ?1 AND version = ?2";
    let known: Option<(String, bool)> = transaction
        .query_row(known, (name, number), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match known {
        Some((known, _)) if known != *digest => {
            let what = format!(
                "{name}@{number} is {known}, for good, also if it was deleted: give {digest} another \
                 version"
            );
            return Ok(Err(VersionsError::refused("version_taken", what)));
        }
        Some((_, false)) => return Ok(Ok(false)),
        Some((_, true)) | None => {}
    }
    let mut names = transaction.prepare("SELECT DISTINCT name FROM plugin_versions")?;
    let mut names = names.query_map((), |row| row.get::<_, String>(0))?;
    let alike = names.find_map(|other| {
        let other = other.ok()?;
        (other != *name && skeleton(&other) == skeleton(name)).then_some(other)
    });
    if let Some(other) = alike {
        let what =
            format!("`{name}` is too close to `{other}`, which is there: choose another name");
        return Ok(Err(VersionsError::refused("name_too_close", what)));
    }
    let Version { bytes, metadata, signatures, comment, by, at_us, .. } = version;
    let values = (
        (name, number, digest, i64::try_from(*bytes).unwrap_or(i64::MAX), metadata),
        (signatures.join("\n"), comment, by, at_us),
    );
    let ((a, b, c, d, e), (f, g, h, i)) = values;
    transaction.execute(ADD, (a, b, c, d, e, f, g, h, i))?;
    let deed = Deed {
        at_us: *at_us,
        by: by.clone(),
        what: "upload".to_owned(),
        subject: format!("{name}@{number}"),
        digest: Some(digest.clone()),
        detail: comment.clone(),
        ..Deed::default()
    };
    note(transaction, &deed)?;
    Ok(Ok(true))
}

fn remove(
    transaction: &Transaction<'_>,
    name: &str,
    version: &str,
    deed: Deed,
) -> Result<Judged<()>, rusqlite::Error> {
    let known = "SELECT digest FROM plugin_versions
                 WHERE name = ?1 AND version = ?2 AND removed = 0";
    let digest: Option<String> =
        transaction.query_row(known, (name, version), |row| row.get(0)).optional()?;
    let Some(digest) = digest else {
        let what = format!("there is no version {name}@{version}");
        return Ok(Err(VersionsError::refused("unknown_version", what)));
    };
    let used: Option<(String, String)> = transaction
        .query_row(IN_USE, [&digest], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if let Some((sink, role)) = used {
        let what = format!(
            "{name}@{version} is what the {role} of sink `{sink}` runs, ran before, or holds: bind it \
             to other versions first"
        );
        return Ok(Err(VersionsError::refused("in_use", what)));
    }
    let rollouts = rollouts::attached(transaction)?;
    if let Some(rollout) = rollouts.iter().find(|rollout| *rollout.digest == *digest) {
        let what = format!(
            "{name}@{version} is {} on sink `{}`: end rollout {} first",
            rollout.state.as_str(),
            rollout.sink,
            rollout.id
        );
        return Ok(Err(VersionsError::refused("in_use", what)));
    }
    let sql = "UPDATE plugin_versions SET removed = 1 WHERE name = ?1 AND version = ?2";
    transaction.execute(sql, (name, version))?;
    note(transaction, &Deed { digest: Some(digest), ..deed })?;
    Ok(Ok(()))
}

pub(crate) fn note(transaction: &Transaction<'_>, deed: &Deed) -> Result<(), rusqlite::Error> {
    let Deed { at_us, by, what, subject, digest, detail, .. } = deed;
    transaction.execute(NOTE, (at_us, by, what, subject, digest, detail)).map(drop)
}

fn version(row: &Row<'_>) -> Result<Version, rusqlite::Error> {
    let (bytes, signatures): (i64, String) = (row.get(3)?, row.get(5)?);
    Ok(Version {
        name: row.get(0)?,
        version: row.get(1)?,
        digest: row.get(2)?,
        bytes: bytes.unsigned_abs(),
        metadata: row.get(4)?,
        signatures: signatures.lines().map(str::to_owned).collect(),
        comment: row.get(6)?,
        by: row.get(7)?,
        at_us: row.get(8)?,
    })
}

#[cfg(test)]
mod tests;
