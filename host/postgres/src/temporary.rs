//! A publication for one run, for those who only want to look.
//!
//! To publish updates and deletes of a table without a replica identity makes the server refuse
//! them to its own applications. So such a publication is not made: it is undone before anybody
//! sees it.

use std::time::Duration;

use model::source::SourceError;
use tokio::time::timeout;

use crate::error;
use crate::options::Options;
use crate::publication;
use crate::sql::{QueryError, Sql};

/// What a publication for one run is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Schema and table; none for all tables, which takes a superuser.
    pub tables: Vec<(String, String)>,
    /// Publish inserts.
    pub insert: bool,
    /// Publish updates.
    pub update: bool,
    /// Publish deletes.
    pub delete: bool,
    /// Publish truncates.
    pub truncate: bool,
}

/// Creates the publication that the options name.
///
/// # Errors
/// Definite, with code `table_missing`, `replica_identity`, `privilege` or those of a login; then
/// nothing was made.
pub async fn create_publication(options: &Options, subject: &Subject) -> Result<(), SourceError> {
    let work = async {
        let mut sql = Sql::open(options).await?;
        let failed = |error: QueryError| refused(&error, options, subject);
        sql.rows("begin", &[]).await.map_err(failed)?;
        sql.rows(&statement(&options.publication, subject), &[]).await.map_err(failed)?;
        if subject.update || subject.delete {
            let tables = publication::without_identity(&mut sql, &options.publication).await;
            if let Some(tables) = tables.map_err(failed)? {
                sql.rows("rollback", &[]).await.map_err(failed)?;
                sql.close().await;
                return Err(without_identity(&tables));
            }
        }
        sql.rows("commit", &[]).await.map_err(failed)?;
        sql.close().await;
        Ok(())
    };
    within(options, "create a publication", work).await
}

/// Drops the publication that the options name, if it is there.
///
/// # Errors
/// It is still there. [`drop_statement`] says what to run.
pub async fn drop_publication(options: &Options) -> Result<(), SourceError> {
    let work = async {
        let mut sql = Sql::open(options).await?;
        let dropped = sql.rows(&drop_statement(options), &[]).await;
        sql.close().await;
        dropped.map(drop).map_err(|error| error.to_source(options))
    };
    within(options, "drop the publication", work).await
}

/// The SQL that drops the publication that the options name.
#[must_use]
pub fn drop_statement(options: &Options) -> String {
    format!("DROP PUBLICATION IF EXISTS {}", identifier(&options.publication))
}

fn statement(name: &str, subject: &Subject) -> String {
    let tables: Vec<String> = subject
        .tables
        .iter()
        .map(|(schema, table)| format!("{}.{}", identifier(schema), identifier(table)))
        .collect();
    let what = if tables.is_empty() {
        "ALL TABLES".to_owned()
    } else {
        format!("TABLE {}", tables.join(", "))
    };
    let actions = [
        (subject.insert, "insert"),
        (subject.update, "update"),
        (subject.delete, "delete"),
        (subject.truncate, "truncate"),
    ];
    let actions: Vec<&str> =
        actions.iter().filter(|(wanted, _)| *wanted).map(|(_, name)| *name).collect();
    format!(
        "CREATE PUBLICATION {} FOR {what} \
         WITH (publish_via_partition_root = true, publish = '{}')",
        identifier(name),
        actions.join(", ")
    )
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn refused(error: &QueryError, options: &Options, subject: &Subject) -> SourceError {
    let (code, help) = match error.code() {
        "3F000" | "42P01" | "42704" => {
            ("table_missing", "name existing tables, as schema.table or table in schema public")
        }
        "42501" if subject.tables.is_empty() => (
            "privilege",
            "a publication for all tables takes a superuser: name the tables to look at (--table) \
             or a publication that exists (--publication)",
        ),
        "42501" => (
            "privilege",
            "a publication takes CREATE on the database and ownership of its tables: name one that \
             exists (--publication)",
        ),
        _ => return error.to_source(options),
    };
    let said = match error.to_source(options) {
        SourceError::Definite { message, .. } | SourceError::Transient(message) => message,
    };
    error::definite(code, said, help)
}

fn without_identity(tables: &str) -> SourceError {
    error::definite(
        "replica_identity",
        format!(
            "without a primary key or another replica identity: {tables}; to publish their updates \
             and deletes would make the server refuse these to its applications"
        ),
        "name other tables (--table), or inserts alone (--action insert), or add primary keys",
    )
}

async fn within<T>(
    options: &Options,
    what: &str,
    work: impl Future<Output = Result<T, SourceError>>,
) -> Result<T, SourceError> {
    // The queries have limits of their own.
    let limit = options.connect_timeout + Duration::from_secs(30);
    timeout(limit, work).await.unwrap_or_else(|_| {
        Err(error::transient(format!("could not {what} within {} s", limit.as_secs())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_names_what_is_wanted_and_nothing_else() {
        let table = |schema: &str, table: &str| (schema.to_owned(), table.to_owned());
        let some = Subject {
            tables: vec![table("public", "a"), table("x\"y", "B")],
            insert: true,
            truncate: true,
            ..Subject::default()
        };
        assert_eq!(
            statement("p\"q", &some),
            "CREATE PUBLICATION \"p\"\"q\" FOR TABLE \"public\".\"a\", \"x\"\"y\".\"B\" \
             WITH (publish_via_partition_root = true, publish = 'insert, truncate')"
        );
        let all = Subject { update: true, delete: true, ..Subject::default() };
        assert_eq!(
            statement("p", &all),
            "CREATE PUBLICATION \"p\" FOR ALL TABLES \
             WITH (publish_via_partition_root = true, publish = 'update, delete')"
        );
    }
}
