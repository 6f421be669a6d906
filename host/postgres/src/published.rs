//! Which tables the publication brings, for backfills of all tables of a sink.

use std::time::Duration;

use model::BoxFuture;
use model::backfill::{Catalog, Named};
use model::source::SourceError;
use tokio::time::timeout;
use tokio_postgres::types::Type;

use crate::error;
use crate::options::Options;
use crate::sql::Sql;

/// Everything that is published, by itself or as partitions; and whether it is a partition of
/// something that is in this list too.
const TABLES: &str = "
    with published as (
        select c.oid
        from pg_catalog.pg_publication_tables p
        join pg_catalog.pg_namespace n on n.nspname = p.schemaname
        join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = p.tablename
        where p.pubname = $1),
    above as (
        select oid from published
        union
        select a.relid::oid from published p, pg_catalog.pg_partition_ancestors(p.oid) a)
    select c.oid, n.nspname::text, c.relname::text, exists (
        select from pg_catalog.pg_partition_ancestors(c.oid) a
        where a.relid <> c.oid and a.relid in (select oid from above))
    from above
    join pg_catalog.pg_class c on c.oid = above.oid
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    order by 2, 3";

/// Beyond connecting.
const WORK_TIMEOUT: Duration = Duration::from_secs(30);

/// The tables of a publication.
#[derive(Debug)]
pub struct Published {
    options: Options,
}

impl Published {
    /// Of the publication that `options` name.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options }
    }

    async fn list(&self) -> Result<Vec<Named>, SourceError> {
        let options = &self.options;
        let work = async {
            let mut sql = Sql::open(options).await?;
            let rows = sql.rows(TABLES, &[(&options.publication, Type::TEXT)]).await;
            sql.close().await;
            rows.map_err(|error| error.to_source(options))
        };
        let limit = options.connect_timeout + WORK_TIMEOUT;
        let rows = timeout(limit, work).await.unwrap_or_else(|_| {
            let message = format!("could not list the tables within {} s", limit.as_secs());
            Err(error::transient(message))
        })?;
        let named = |row: &tokio_postgres::Row| {
            Ok(Named {
                oid: row.try_get(0)?,
                schema: row.try_get::<_, String>(1)?.into(),
                table: row.try_get::<_, String>(2)?.into(),
                is_partition: row.try_get(3)?,
            })
        };
        let tables: Result<_, tokio_postgres::Error> = rows.iter().map(named).collect();
        tables.map_err(|error| error::sql(&error, options))
    }
}

impl Catalog for Published {
    fn tables(&self) -> BoxFuture<'_, Result<Vec<Named>, SourceError>> {
        Box::pin(self.list())
    }
}
