//! The publication: which tables the stream is about.
//!
//! It must exist before the slot does. Postgres before 18 cannot find a later one for the changes
//! before it; 18 skips those changes with no more than a warning, which ends the stream here (see
//! `stream`). So it is checked at each connect, and made, if that is allowed, only before the slot.
//!
//! To publish updates and deletes of a table without a replica identity makes the server refuse
//! them to its own applications at once. So a publication for all tables is not made where there
//! is such a table: it is undone before anybody sees it.

use model::source::SourceError;
use tokio_postgres::types::Type;

use crate::error;
use crate::options::{Create, Options};
use crate::sql::{Parameter, QueryError, Sql};

const FIND: &str = "
    select pubupdate or pubdelete from pg_catalog.pg_publication where pubname::text = $1";

/// Tables, those below partitioned ones too, whose updates and deletes the server refuses to its
/// own applications once they are published: there is no identity to tell the old row by.
const WITHOUT_IDENTITY: &str = "
    select distinct pg_catalog.format('%I.%I', n.nspname, c.relname)
    from pg_catalog.pg_publication_tables p
    join pg_catalog.pg_namespace pn on pn.nspname = p.schemaname
    join pg_catalog.pg_class pc on pc.relnamespace = pn.oid and pc.relname = p.tablename
    cross join lateral (
        select pc.oid union select relid from pg_catalog.pg_partition_tree(pc.oid)) t (oid)
    join pg_catalog.pg_class c on c.oid = t.oid and c.relkind = 'r'
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where p.pubname::text = $1 and c.relreplident <> 'f' and not exists (
        select from pg_catalog.pg_index i
        where i.indrelid = c.oid and i.indimmediate and i.indisvalid
          and case c.relreplident when 'd' then i.indisprimary when 'i' then i.indisreplident end)
    order by 1 limit $2";

/// How many tables a message names; the query takes one more to tell that there are more.
const NAMED_MAX: usize = 20;

/// Whether there is one of its name.
pub(crate) async fn exists(sql: &mut Sql, options: &Options) -> Result<bool, SourceError> {
    let found = sql.rows(FIND, &[(&options.publication, Type::TEXT)]).await;
    found.map(|rows| !rows.is_empty()).map_err(|error| error.to_source(options))
}

/// Makes sure that the publication is there. With a slot that exists, it is not created.
pub(crate) async fn ensure(
    sql: &mut Sql,
    options: &Options,
    slot_exists: bool,
) -> Result<(), SourceError> {
    let name = &options.publication;
    let failed = |error: QueryError| error.to_source(options);
    let mut found = sql.rows(FIND, &[(name, Type::TEXT)]).await.map_err(failed)?;
    if found.is_empty() {
        let Some(create) = options.publication_create.as_ref().filter(|_| !slot_exists) else {
            return Err(missing(options, slot_exists));
        };
        match create {
            Create::AllTables { via_partition_root } => {
                create_for_all(sql, *via_partition_root, options, "commit").await?;
            }
            Create::Sql(statement) => self::create(sql, statement, options).await?,
        }
        tracing::info!(publication = name, "created the publication");
        found = sql.rows(FIND, &[(name, Type::TEXT)]).await.map_err(failed)?;
    }
    let Some(row) = found.first() else { return Err(missing(options, slot_exists)) };
    let needs_identity: bool = row.try_get(0).map_err(|error| error::sql(&error, options))?;
    if needs_identity && let Some(tables) = without_identity(sql, name).await.map_err(failed)? {
        tracing::warn!(
            publication = name,
            "published without a replica identity: {tables}; the server refuses UPDATE and DELETE \
             on them: add a primary key or set REPLICA IDENTITY"
        );
    }
    Ok(())
}

/// The tables of the publication whose updates and deletes the server refuses, if there are any.
pub(crate) async fn without_identity(
    sql: &mut Sql,
    publication: &str,
) -> Result<Option<String>, QueryError> {
    let limit = i64::try_from(NAMED_MAX + 1).unwrap_or(i64::MAX);
    let parameters: [Parameter<'_>; 2] = [(&publication, Type::TEXT), (&limit, Type::INT8)];
    let rows = sql.rows(WITHOUT_IDENTITY, &parameters).await?;
    let tables: Vec<&str> = rows.iter().filter_map(|row| row.try_get(0).ok()).collect();
    if tables.is_empty() {
        return Ok(None);
    }
    let more = if tables.len() > NAMED_MAX { " and more" } else { "" };
    Ok(Some(tables.get(..NAMED_MAX).unwrap_or(&tables).join(", ") + more))
}

/// Whether it could be created for all tables. Nothing is left of that.
pub(crate) async fn rehearse(sql: &mut Sql, options: &Options) -> Result<(), SourceError> {
    create_for_all(sql, false, options, "rollback").await
}

/// `end` is how the transaction ends in which that is done, if all is well.
async fn create_for_all(
    sql: &mut Sql,
    via_partition_root: bool,
    options: &Options,
    end: &str,
) -> Result<(), SourceError> {
    let name = &options.publication;
    let statement = format!(
        "create publication \"{}\" for all tables \
         with (publish_via_partition_root = {via_partition_root})",
        name.replace('"', "\"\"")
    );
    let failed = |error: QueryError| error.to_source(options);
    sql.rows("begin", &[]).await.map_err(failed)?;
    let checked = async {
        create(sql, &statement, options).await?;
        let tables = without_identity(sql, name).await;
        // Somebody else was quicker, and the transaction is broken: there is nothing to undo.
        let tables = tables.or_else(|error| match error.code() {
            "25P02" => Ok(None),
            _ => Err(error.to_source(options)),
        });
        tables?.map_or(Ok(()), |tables| Err(harmful(name, &tables)))
    }
    .await;
    // Of a broken transaction the server makes a rollback.
    let end = if checked.is_ok() { end } else { "rollback" };
    let ended = sql.rows(end, &[]).await.map_err(failed);
    checked.and(ended.map(drop))
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

fn harmful(publication: &str, tables: &str) -> SourceError {
    error::definite(
        "replica_identity",
        format!(
            "publication {publication} is not created for all tables: the server would refuse \
             UPDATE and DELETE to the applications that write these tables, which have neither a \
             primary key nor another replica identity: {tables}"
        ),
        format!(
            "add primary keys (or ALTER TABLE ... REPLICA IDENTITY FULL), or create it for the \
             tables you need (init_sql: CREATE PUBLICATION \"{publication}\" FOR TABLE ..., or FOR \
             ALL TABLES WITH (publish = 'insert'))"
        ),
    )
}

pub(crate) fn missing(options: &Options, slot_exists: bool) -> SourceError {
    let Options { publication, database, slot, .. } = options;
    let message = format!("publication {publication} does not exist in database {database}");
    if slot_exists {
        return error::definite(
            "publication_missing",
            format!("{message}, but slot {slot} does"),
            error::late_publication_help(slot, publication),
        );
    }
    error::definite(
        "publication_missing",
        message,
        format!(
            "create it before the slot (CREATE PUBLICATION \"{publication}\" FOR TABLE ...), or \
             allow its creation with create_if_not_exists"
        ),
    )
}
