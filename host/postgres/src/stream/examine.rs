//! Whether a source can be read, part by part, without reading it: for `sequin doctor` and for who tests
//! a connection. Nothing is created.

use model::source::SourceError;

use super::open::{check_settings, login, within};
use crate::error;
use crate::options::{Create, Options};
use crate::publication;
use crate::slot;
use crate::sql::Sql;

/// One thing that was looked at.
#[derive(Debug)]
pub struct Finding {
    /// What: `connection`, `wal_level`, `publication`, `identities`, `slot`, `slot_limit`.
    pub name: &'static str,
    /// How it is.
    pub outcome: Outcome,
}

/// How something is.
#[derive(Debug)]
pub enum Outcome {
    /// As it should be, in words.
    Good(String),
    /// It works and may hurt later: what, and what to do.
    Doubtful(String),
    /// Nothing can be read until it is mended.
    Bad(SourceError),
}

const LIMIT: &str = "
    select coalesce((select setting::int8 from pg_catalog.pg_settings
                     where name = 'max_slot_wal_keep_size'), -1)";

/// Looks at a source. What cannot be looked at because of what is wrong before it is left out.
pub async fn examine(options: &Options) -> Vec<Finding> {
    let mut all = Vec::new();
    let mut tell = |name, outcome| all.push(Finding { name, outcome });
    if let Err(error) = options.check() {
        tell("connection", Outcome::Bad(error));
        return all;
    }
    // With the right to replicate, as the stream logs in.
    match within(options, "log in", login(options)).await {
        Ok((connection, _)) => {
            let major = connection.major_version();
            let version = major.map_or_else(String::new, |major| format!(", PostgreSQL {major}"));
            let Options { host, port, user, database, .. } = options;
            let what = format!("{user} may replicate from {database} at {host}:{port}{version}");
            tell("connection", Outcome::Good(what));
        }
        Err(error) => {
            tell("connection", Outcome::Bad(error));
            return all;
        }
    }
    let mut sql = match within(options, "open an SQL session", Sql::open(options)).await {
        Ok(sql) => sql,
        Err(error) => {
            tell("connection", Outcome::Bad(error));
            return all;
        }
    };
    match check_settings(&mut sql, options).await {
        Ok(_) => tell("wal_level", Outcome::Good("wal_level = logical".to_owned())),
        Err(error) => tell("wal_level", Outcome::Bad(error)),
    }
    let found = slot::find(&mut sql, options).await;
    let has_slot = matches!(found, Ok(Some(_)));
    for (name, outcome) in published(&mut sql, options, has_slot).await {
        tell(name, outcome);
    }
    let name = &options.slot;
    tell(
        "slot",
        match found {
            Err(error) => Outcome::Bad(error),
            Ok(None) if options.slot_create => {
                Outcome::Good(format!("slot {name} is not there, and is created at the start"))
            }
            Ok(None) => Outcome::Bad(error::definite(
                "slot_missing",
                format!("there is no slot {name}"),
                format!(
                    "create it with plugin pgoutput, or set create_if_not_exists on slot {name}"
                ),
            )),
            Ok(Some(slot)) => match slot.check(options) {
                Ok(()) => Outcome::Good(format!("slot {name} can be read")),
                // By an engine, in all likelihood.
                Err(SourceError::Transient(why)) => Outcome::Good(why),
                Err(error) => Outcome::Bad(error),
            },
        },
    );
    if let Ok(rows) = sql.rows(LIMIT, &[]).await
        && let Some(megabytes) = rows.first().and_then(|row| row.try_get::<_, i64>(0).ok())
    {
        tell(
            "slot_limit",
            if megabytes < 0 {
                Outcome::Doubtful(
                    "max_slot_wal_keep_size is not set: while the engine is away the slot keeps the \
                     server's log without a limit, until its disk is full (fix: set it to what the \
                     disk can spare)"
                        .to_owned(),
                )
            } else {
                Outcome::Good(format!(
                    "the server keeps {megabytes} MB of log for a slot at the most"
                ))
            },
        );
    }
    sql.close().await;
    all
}

async fn published(
    sql: &mut Sql,
    options: &Options,
    has_slot: bool,
) -> Vec<(&'static str, Outcome)> {
    let name = &options.publication;
    match publication::exists(sql, options).await {
        Err(error) => return vec![("publication", Outcome::Bad(error))],
        Ok(false) => {
            let outcome = match &options.publication_create {
                Some(create) if !has_slot => {
                    // On a standby it is created at the primary, which is not asked here.
                    let is_here = options.primary.is_none();
                    let tried = match create {
                        Create::AllTables { .. } if is_here => {
                            publication::rehearse(sql, options).await
                        }
                        Create::AllTables { .. } | Create::Sql(_) => Ok(()),
                    };
                    tried.map_or_else(Outcome::Bad, |()| {
                        Outcome::Good(format!(
                            "publication {name} is not there, and is created at the start"
                        ))
                    })
                }
                Some(_) | None => Outcome::Bad(publication::missing(options, has_slot)),
            };
            return vec![("publication", outcome)];
        }
        Ok(true) => {}
    }
    let mut all = vec![("publication", Outcome::Good(format!("publication {name} is there")))];
    match publication::without_identity(sql, name).await {
        Ok(None) => {
            let what = "the server takes every update and delete of what is published";
            all.push(("identities", Outcome::Good(what.to_owned())));
        }
        Ok(Some(tables)) => all.push((
            "identities",
            Outcome::Doubtful(format!(
                "the server refuses UPDATE and DELETE of {tables}, which have no replica identity \
                 (fix: add a primary key, or ALTER TABLE … REPLICA IDENTITY FULL)"
            )),
        )),
        Err(error) => all.push(("identities", Outcome::Bad(error.to_source(options)))),
    }
    all
}
