//! The publication: which tables the stream is about.
//!
//! It must exist before the slot does. Postgres before 18 cannot find a later one for the changes
//! before it; 18 skips those changes with no more than a warning in its own log. So it is checked,
//! and made if that is allowed, at each connect and before the slot.

use model::source::SourceError;
use tokio_postgres::types::Type;

use crate::error;
use crate::options::{Create, Options};
use crate::sql::{QueryError, Sql};

const FIND: &str = "
    select pubupdate or pubdelete from pg_catalog.pg_publication where pubname::text = $1";

/// Tables whose updates and deletes the server refuses to its own applications once they are
/// published: there is no identity to tell the old row by.
const WITHOUT_IDENTITY: &str = "
    select pg_catalog.format('%I.%I', n.nspname, c.relname)
    from pg_catalog.pg_publication_tables p
    join pg_catalog.pg_namespace n on n.nspname = p.schemaname
    join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = p.tablename
    where p.pubname::text = $1 and c.relreplident <> 'f' and not exists (
        select from pg_catalog.pg_index i
        where i.indrelid = c.oid and i.indimmediate and i.indisvalid
          and case c.relreplident when 'd' then i.indisprimary when 'i' then i.indisreplident end)
    order by 1 limit 21";

/// How many tables a warning names; the query takes one more to tell that there are more.
const NAMED_MAX: usize = 20;

/// Makes sure that the publication is there.
pub(crate) async fn ensure(
    sql: &mut Sql,
    options: &Options,
    slot_exists: bool,
) -> Result<(), SourceError> {
    let name = &options.publication;
    let failed = |error: QueryError| error.to_source(options);
    let mut found = sql.rows(FIND, &[(name, Type::TEXT)]).await.map_err(failed)?;
    if found.is_empty() {
        let statement = match &options.publication_create {
            None => return Err(missing(options)),
            Some(Create::AllTables) => format!(
                "create publication \"{}\" for all tables with (publish_via_partition_root = true)",
                name.replace('"', "\"\"")
            ),
            Some(Create::Sql(statement)) => statement.clone(),
        };
        create(sql, &statement, options).await?;
        tracing::info!(publication = name, "created the publication");
        if slot_exists {
            tracing::warn!(
                publication = name,
                slot.name = options.slot,
                "the publication was created after the slot: changes before it cannot be decoded, \
                 or are left out without a word from Postgres 18 on; if the stream stops, drop the \
                 slot and let it be created again"
            );
        }
        found = sql.rows(FIND, &[(name, Type::TEXT)]).await.map_err(failed)?;
    }
    let Some(row) = found.first() else { return Err(missing(options)) };
    let needs_identity: bool = row.try_get(0).map_err(|error| error::sql(&error, options))?;
    if needs_identity {
        let rows = sql.rows(WITHOUT_IDENTITY, &[(name, Type::TEXT)]).await.map_err(failed)?;
        let tables: Vec<&str> = rows.iter().filter_map(|row| row.try_get(0).ok()).collect();
        if !tables.is_empty() {
            let named = tables.get(..NAMED_MAX).unwrap_or(&tables).join(", ");
            let more = if tables.len() > NAMED_MAX { " and more" } else { "" };
            tracing::warn!(
                publication = name,
                "published without a replica identity: {named}{more}; the server refuses UPDATE \
                 and DELETE on them: add a primary key or set REPLICA IDENTITY"
            );
        }
    }
    Ok(())
}

async fn create(sql: &mut Sql, statement: &str, options: &Options) -> Result<(), SourceError> {
    match sql.rows(statement, &[]).await {
        Ok(_) => Ok(()),
        // Somebody else was quicker (duplicate_object).
        Err(error) if error.code() == "42710" => Ok(()),
        // The server says what it does not like about the owner's own statement.
        Err(error) if error.code().starts_with("42") && error.code() != "42501" => {
            Err(error::definite(
                "publication_init_sql",
                format!("publication {} cannot be created: {error}", options.publication),
                "correct the statement (init_sql), or create the publication yourself",
            ))
        }
        Err(error) => Err(error.to_source(options)),
    }
}

fn missing(options: &Options) -> SourceError {
    let Options { publication, database, .. } = options;
    error::definite(
        "publication_missing",
        format!("publication {publication} does not exist in database {database}"),
        format!(
            "create it before the slot (CREATE PUBLICATION \"{publication}\" FOR TABLE ...), or \
             allow its creation with create_if_not_exists"
        ),
    )
}
