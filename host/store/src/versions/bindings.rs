//! Bindings: their generations, and what is held.

use model::lsn::Lsn;
use model::position::Position;
use model::versions::{
    Binding, BindingName, Deed, Generation, Hold, How, Link, Made, Role, VersionsError,
};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction};

use super::{Judged, note};

const LAST: &str = "SELECT max(number) FROM bindings WHERE sink = ?1 AND role = ?2";
const ALL: &str = "
    SELECT sink, role, max(number), how, by_whom, reason, at_us, behind_lsn, behind_ordinal
    FROM bindings GROUP BY sink, role ORDER BY sink, role";
const OF_SINK: &str = "
    SELECT sink, role, number, how, by_whom, reason, at_us, behind_lsn, behind_ordinal
    FROM bindings WHERE sink = ?1 ORDER BY role, number DESC";
const LINKS: &str = "
    SELECT function, digest, config FROM binding_links
    WHERE sink = ?1 AND role = ?2 AND number = ?3 ORDER BY place";
const HOLD: &str = "
    SELECT number, by_whom, reason, at_us, refused FROM holds WHERE sink = ?1 AND role = ?2";
const INSERT: &str = "
    INSERT INTO bindings (sink, role, number, how, by_whom, reason, at_us)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const INSERT_LINK: &str = "
    INSERT INTO binding_links (sink, role, number, place, function, digest, config)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const INSERT_HOLD: &str = "
    INSERT OR REPLACE INTO holds (sink, role, number, by_whom, reason, at_us, refused)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const BEGUN: &str = "
    UPDATE bindings SET behind_lsn = ?4, behind_ordinal = ?5
    WHERE sink = ?1 AND role = ?2 AND number = ?3 AND behind_lsn IS NULL";

pub(super) fn all(connection: &Connection) -> Result<Vec<Binding>, rusqlite::Error> {
    let mut all = connection.prepare(ALL)?;
    let mut bindings = Vec::new();
    for row in all.query_map((), generation)? {
        let (name, current) = row?;
        let current = with_links(connection, &name, current)?;
        let hold = connection
            .query_row(HOLD, (&name.sink, name.role.as_str()), |row| {
                let generation: i64 = row.get(0)?;
                Ok(Hold {
                    generation: generation.unsigned_abs(),
                    by: row.get(1)?,
                    reason: row.get(2)?,
                    at_us: row.get(3)?,
                    refused: row.get(4)?,
                })
            })
            .optional()?;
        bindings.push(Binding { name, current, hold });
    }
    Ok(bindings)
}

pub(super) fn history(
    connection: &Connection,
    sink: &str,
) -> Result<Vec<(Role, Generation)>, rusqlite::Error> {
    let mut of_sink = connection.prepare(OF_SINK)?;
    let mut generations = Vec::new();
    for row in of_sink.query_map([sink], generation)? {
        let (name, found) = row?;
        generations.push((name.role, with_links(connection, &name, found)?));
    }
    Ok(generations)
}

pub(crate) fn bind(
    transaction: &Transaction<'_>,
    all: Vec<Made>,
) -> Result<Judged<()>, rusqlite::Error> {
    // A refusal must leave nothing, and comes before the first is written.
    for made in &all {
        let key = (&made.name.sink, made.name.role.as_str());
        let last: Option<i64> = transaction.query_row(LAST, key, |row| row.get(0))?;
        let last = last.unwrap_or_default().unsigned_abs();
        if made.generation.number != last + 1 {
            let what = format!(
                "generation {last} of the {} was made meanwhile: look at it, and ask again",
                made.name
            );
            return Ok(Err(VersionsError::refused("conflict", what)));
        }
    }
    for Made { name, generation, hold, refused } in all {
        let (sink, role) = (&name.sink, name.role.as_str());
        let Generation { number, links, how, by, reason, at_us, .. } = generation;
        let stored = i64::try_from(number).unwrap_or(i64::MAX);
        transaction.execute(INSERT, (sink, role, stored, how.as_str(), &by, &reason, at_us))?;
        for (place, link) in (0_i64..).zip(&links) {
            let Link { function, digest, config } = link;
            let values = (sink, role, stored, place, function, digest, config);
            transaction.execute(INSERT_LINK, values)?;
        }
        release(transaction, &name)?;
        if hold {
            transaction.execute(INSERT_HOLD, (sink, role, stored, &by, &reason, at_us, refused))?;
        }
        let shown: Vec<String> =
            links.iter().map(|link| format!("{} {}", link.function, link.digest)).collect();
        let deed = Deed {
            at_us,
            by,
            what: how.as_str().to_owned(),
            subject: name.to_string(),
            digest: links.first().map(|link| link.digest.clone()),
            detail: format!("generation {number}: {}; {reason}", shown.join(", ")),
            ..Deed::default()
        };
        note(transaction, &deed)?;
    }
    Ok(Ok(()))
}

pub(super) fn begun(
    transaction: &Transaction<'_>,
    name: &BindingName,
    number: u64,
    behind: Position,
) -> Result<(), rusqlite::Error> {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    let (lsn, ordinal) = (behind.commit_lsn.0.cast_signed(), behind.ordinal.cast_signed());
    let values = (&name.sink, name.role.as_str(), number, lsn, ordinal);
    transaction.execute(BEGUN, values).map(drop)
}

/// False if that was known.
pub(super) fn refused(
    transaction: &Transaction<'_>,
    name: &BindingName,
) -> Result<bool, rusqlite::Error> {
    let sql = "UPDATE holds SET refused = 1 WHERE sink = ?1 AND role = ?2 AND refused = 0";
    Ok(transaction.execute(sql, (&name.sink, name.role.as_str()))? > 0)
}

pub(super) fn release(
    transaction: &Transaction<'_>,
    name: &BindingName,
) -> Result<bool, rusqlite::Error> {
    let sql = "DELETE FROM holds WHERE sink = ?1 AND role = ?2";
    Ok(transaction.execute(sql, (&name.sink, name.role.as_str()))? > 0)
}

/// Without its links.
fn generation(row: &Row<'_>) -> Result<(BindingName, Generation), rusqlite::Error> {
    let (role, how): (String, String) = (row.get(1)?, row.get(3)?);
    let unknown = |column, word: &str| {
        let error = format!("{word} is not known to this version of the program");
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
    };
    let role = Role::from_word(&role).ok_or_else(|| unknown(1, &role))?;
    let how = How::from_word(&how).ok_or_else(|| unknown(3, &how))?;
    let (number, lsn, ordinal): (i64, Option<i64>, Option<i64>) =
        (row.get(2)?, row.get(7)?, row.get(8)?);
    let behind = lsn
        .zip(ordinal)
        .map(|(lsn, ordinal)| Position::new(Lsn(lsn.cast_unsigned()), ordinal.cast_unsigned()));
    let generation = Generation {
        number: number.unsigned_abs(),
        links: Vec::new(),
        how,
        by: row.get(4)?,
        reason: row.get(5)?,
        at_us: row.get(6)?,
        behind,
    };
    Ok((BindingName { sink: row.get(0)?, role }, generation))
}

fn with_links(
    connection: &Connection,
    name: &BindingName,
    generation: Generation,
) -> Result<Generation, rusqlite::Error> {
    let number = i64::try_from(generation.number).unwrap_or(i64::MAX);
    let mut links = connection.prepare(LINKS)?;
    let links = links.query_map((&name.sink, name.role.as_str(), number), |row| {
        Ok(Link { function: row.get(0)?, digest: row.get(1)?, config: row.get(2)? })
    })?;
    Ok(Generation { links: links.collect::<Result<_, _>>()?, ..generation })
}
