//! Which tables a database has, for those who want to know whether a name in a configuration is one.

use std::time::Duration;

use model::source::SourceError;
use tokio::time::timeout;
use tokio_postgres::types::Type;

use crate::error;
use crate::options::Options;
use crate::sql::Sql;

/// Everything whose changes can be published. The columns are told of those that were asked for:
/// of all tables of a large database they would be too many.
const TABLES: &str = "
    select c.oid, n.nspname::text, c.relname::text,
        case when c.oid = any ($1) or exists (
            select from unnest($2::text[], $3::text[]) w(schema, name)
            where w.schema = n.nspname and w.name = c.relname)
        then array(
            select a.attname::text from pg_catalog.pg_attribute a
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum)
        end
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
    order by 2, 3";

/// Beyond connecting: the query has a limit of its own.
const WORK_TIMEOUT: Duration = Duration::from_secs(30);

/// A table of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// Its oid.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name in it.
    pub table: String,
    /// Its columns in their order, if they were asked for.
    pub columns: Option<Vec<String>>,
}

/// Tables whose columns are of interest. Those that are not there are passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnsOf {
    /// By oid.
    pub oids: Vec<u32>,
    /// By schema and name.
    pub names: Vec<(String, String)>,
}

/// All tables of the database, also those that the role may not read, in the order of their names.
///
/// # Errors
/// Those of a login; the server does not answer.
pub async fn inventory(
    options: &Options,
    columns_of: &ColumnsOf,
) -> Result<Vec<TableInfo>, SourceError> {
    let (schemas, tables): (Vec<&str>, Vec<&str>) =
        columns_of.names.iter().map(|(schema, table)| (schema.as_str(), table.as_str())).unzip();
    let work = async {
        let mut sql = Sql::open(options).await?;
        let rows = sql
            .rows(
                TABLES,
                &[
                    (&columns_of.oids, Type::OID_ARRAY),
                    (&schemas, Type::TEXT_ARRAY),
                    (&tables, Type::TEXT_ARRAY),
                ],
            )
            .await;
        sql.close().await;
        rows.map_err(|error| error.to_source(options))
    };
    let limit = options.connect_timeout + WORK_TIMEOUT;
    let rows = timeout(limit, work).await.unwrap_or_else(|_| {
        let message = format!("could not list the tables within {} s", limit.as_secs());
        Err(error::transient(message))
    })?;
    let table = |row: &tokio_postgres::Row| {
        Ok(TableInfo {
            oid: row.try_get(0)?,
            schema: row.try_get(1)?,
            table: row.try_get(2)?,
            columns: row.try_get(3)?,
        })
    };
    let tables: Result<_, tokio_postgres::Error> = rows.iter().map(table).collect();
    tables.map_err(|error| error::sql(&error, options))
}
