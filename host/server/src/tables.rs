//! Whether the tables and columns that sinks name are there.
//!
//! A name that is not that of a table is no reason not to start: the table may be created later, and
//! its rows are delivered then. But most such names are slips, and a sink that waits for rows that
//! never come looks like one that is up to date. So it is among the sink's warnings until it is over.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use config::spec::{Sink, Spec, Status};
use engine::select::{Names, Selection, Table};
use engine::status::SinkStatus;
use model::plugin::TableReads;
use model::relation::{Identity, Relation, Rendered};
use postgres::{ColumnsOf, TableInfo, inventory};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// No table has the name or the oid.
const TABLE_MISSING: &str = "table_missing";
/// No table is in the schema.
const SCHEMA_MISSING: &str = "schema_missing";
/// A table has no such column.
pub(crate) const COLUMN_MISSING: &str = "column_missing";

/// All of them.
pub(crate) const CODES: [&str; 3] = [TABLE_MISSING, SCHEMA_MISSING, COLUMN_MISSING];

/// Between two looks while something is missing, or the server does not answer.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// What the sinks of one database name.
pub(crate) struct Check {
    database: String,
    source: postgres::Options,
    sinks: Vec<Wanted>,
}

/// What one sink names.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    sink: String,
    schemas: Vec<String>,
    /// And whether it is kept out.
    tables: Vec<(Table, bool)>,
    /// What for, as the end of a sentence.
    columns: Vec<(Table, Vec<String>, String)>,
    selection: Selection,
}

/// What the plugins of sinks read, by the sink's name.
pub(crate) type Reads = BTreeMap<String, Vec<TableReads>>;

/// Something that is not there: code, what it is about, and what is wrong and what to do.
type Missing = (&'static str, String, String);

/// What is to be looked at, for each database where a sink names something.
pub(crate) fn checks(
    spec: &Spec,
    reads: &Reads,
    source: impl Fn(&config::spec::Database) -> postgres::Options,
) -> Vec<Check> {
    let mut checks = Vec::new();
    for database in &spec.databases {
        let running = spec
            .sinks
            .iter()
            .filter(|sink| sink.database == database.name && sink.status != Status::Disabled);
        let sinks: Vec<Wanted> =
            running.map(|sink| Wanted::of(sink, reads)).filter(|it| !it.is_empty()).collect();
        if !sinks.is_empty() {
            let (database, source) = (database.name.clone(), source(database));
            checks.push(Check { database, source, sinks });
        }
    }
    checks
}

/// What is not there now, of sinks of databases that answer: the sink, a code, and what is wrong.
///
/// The second: databases that do not answer.
pub(crate) async fn missing(
    spec: &Spec,
    reads: &Reads,
    source: impl Fn(&config::spec::Database) -> postgres::Options,
) -> (Vec<(String, &'static str, String)>, Vec<String>) {
    let (mut all, mut silent) = (Vec::new(), Vec::new());
    for check in checks(spec, reads, source) {
        let Ok(tables) = inventory(&check.source, &check.columns_of()).await else {
            silent.push(check.database);
            continue;
        };
        for wanted in &check.sinks {
            let missing = wanted.missing(&tables, &check.database).into_iter();
            all.extend(missing.map(|(code, _, problem)| (wanted.sink.clone(), code, problem)));
        }
    }
    (all, silent)
}

impl Check {
    /// Looks until everything is there, and keeps the warnings of the sinks up to date.
    pub(crate) async fn run(
        self,
        statuses: HashMap<String, Arc<SinkStatus>>,
        stop: CancellationToken,
    ) {
        let mut told: HashMap<String, Vec<Missing>> = HashMap::new();
        let columns_of = self.columns_of();
        loop {
            // That the server does not answer is told by who reads from it.
            if let Ok(tables) = inventory(&self.source, &columns_of).await {
                for wanted in &self.sinks {
                    let Some(status) = statuses.get(&wanted.sink) else { continue };
                    let missing = wanted.missing(&tables, &self.database);
                    let before = told.insert(wanted.sink.clone(), missing.clone());
                    tell(status, &before.unwrap_or_default(), &missing);
                }
                if told.values().all(Vec::is_empty) {
                    return;
                }
            }
            if tokio::time::timeout(AGAIN_AFTER, stop.cancelled()).await.is_ok() {
                return;
            }
        }
    }

    fn columns_of(&self) -> ColumnsOf {
        let mut of = ColumnsOf::default();
        for (table, ..) in self.sinks.iter().flat_map(|wanted| &wanted.columns) {
            match table {
                Table::Oid(oid) => of.oids.push(*oid),
                Table::Named { schema, table } => of.names.push((schema.clone(), table.clone())),
            }
        }
        of
    }
}

fn tell(status: &SinkStatus, before: &[Missing], now: &[Missing]) {
    for (code, subject, _) in before.iter().filter(|missing| !now.contains(missing)) {
        info!(sink.name = %status.name, code, subject, "it is there now");
        status.warnings.clear(code, subject);
    }
    for (code, subject, problem) in now {
        if status.warnings.raise(code, subject, problem.clone()) {
            warn!(sink.name = %status.name, code, problem, "a sink names what is not there");
        }
    }
}

impl Wanted {
    fn of(sink: &Sink, reads: &Reads) -> Self {
        let (name, selection) = (sink.name.clone(), sink.selection.clone());
        let mut wanted = Self { sink: name, selection, ..Self::default() };
        let selected = &sink.selection.tables;
        match &selected.schemas {
            Names::All => {}
            Names::Only(schemas) | Names::Except(schemas) => wanted.schemas.clone_from(schemas),
        }
        match &selected.tables {
            Names::All => {}
            Names::Only(tables) => {
                wanted.tables.extend(tables.iter().map(|table| (table.clone(), false)));
            }
            Names::Except(tables) => {
                wanted.tables.extend(tables.iter().map(|table| (table.clone(), true)));
            }
        }
        for group in &sink.groups {
            let (table, columns) = (group.table.clone(), group.columns.clone());
            wanted.columns.push((table, columns, "which is to group its messages".to_owned()));
        }
        if let (Some(retention), Names::Only(tables)) = (sink.retention(), &selected.tables) {
            let columns = retention.conditions.iter().map(|it| it.column().to_owned());
            let columns: Vec<String> = columns.collect();
            for table in tables {
                let why = "which a filter compares".to_owned();
                wanted.columns.push((table.clone(), columns.clone(), why));
            }
        }
        for reads in reads.get(&sink.name).into_iter().flatten() {
            let TableReads { function, schema, table, columns } = reads;
            let table = Table::Named { schema: schema.clone(), table: table.clone() };
            let why = format!("which function `{function}` reads");
            wanted.columns.push((table, columns.clone(), why));
        }
        let others = sink.groups.iter().map(|group| &group.table);
        let others = others.chain(sink.enrichments.iter().map(|enrichment| &enrichment.table));
        for table in others {
            if !wanted.tables.iter().any(|(known, _)| known == table) {
                wanted.tables.push((table.clone(), false));
            }
        }
        wanted
    }

    fn is_empty(&self) -> bool {
        self.schemas.is_empty() && self.tables.is_empty() && self.columns.is_empty()
    }

    fn missing(&self, tables: &[TableInfo], database: &str) -> Vec<Missing> {
        let mut missing = Vec::new();
        for schema in &self.schemas {
            if !tables.iter().any(|info| info.schema == *schema) {
                let near = config::nearest(schema, tables.iter().map(|info| info.schema.as_str()));
                let problem = format!(
                    "no table of the database `{database}` is in the schema {schema}{}",
                    guess(near)
                );
                missing.push((SCHEMA_MISSING, schema.clone(), problem));
            }
        }
        for (table, kept_out) in &self.tables {
            if find(tables, table).is_none() {
                let what = if *kept_out { ", which this sink excludes" } else { "" };
                let problem = format!(
                    "the database `{database}` has no table {}{what}{}",
                    show(table),
                    guess(near(tables, table).as_deref())
                );
                missing.push((TABLE_MISSING, show(table), problem));
            }
        }
        for (table, columns, why) in &self.columns {
            // Of a table that the sink does not want, no rows come.
            let found =
                find(tables, table).filter(|info| self.selection.wants_table(&relation(info)));
            let Some(known) = found.and_then(|info| info.columns.as_ref()) else { continue };
            for column in columns.iter().filter(|column| !known.contains(column)) {
                let (near, table) =
                    (config::nearest(column, known.iter().map(String::as_str)), show(table));
                let near = near.map_or_else(
                    || format!("; it has {}", known.join(", ")),
                    |near| format!("; did you mean {near}?"),
                );
                let problem = format!(
                    "the table {table} of the database `{database}` has no column {column}, \
                     {why}{near}"
                );
                missing.push((COLUMN_MISSING, format!("{table} {column}"), problem));
            }
        }
        missing
    }
}

/// As a selection knows it.
fn relation(info: &TableInfo) -> Relation {
    Relation {
        oid: info.oid,
        schema: info.schema.as_str().into(),
        table: info.table.as_str().into(),
        ancestors: Vec::new(),
        identity: Identity::Default,
        columns: Vec::new(),
        rendered: Rendered::default(),
    }
}

fn guess(near: Option<&str>) -> String {
    match near {
        Some(near) => format!("; did you mean {near}?"),
        None => "; it is waited for, as it may be created later".to_owned(),
    }
}

fn find<'a>(tables: &'a [TableInfo], wanted: &Table) -> Option<&'a TableInfo> {
    tables.iter().find(|info| match wanted {
        Table::Oid(oid) => info.oid == *oid,
        Table::Named { schema, table } => info.schema == *schema && info.table == *table,
    })
}

/// A table of the same name in another schema, or one whose name is nearly the same.
fn near(tables: &[TableInfo], wanted: &Table) -> Option<String> {
    let Table::Named { table, .. } = wanted else { return None };
    let names: Vec<String> =
        tables.iter().map(|info| format!("{}.{}", info.schema, info.table)).collect();
    let elsewhere = tables.iter().position(|info| info.table == *table);
    let near = elsewhere.and_then(|at| names.get(at)).map(String::as_str);
    near.or_else(|| config::nearest(&show(wanted), names.iter().map(String::as_str)))
        .map(str::to_owned)
}

fn show(table: &Table) -> String {
    match table {
        Table::Oid(oid) => format!("with the oid {oid}"),
        Table::Named { schema, table } => format!("{schema}.{table}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(oid: u32, schema: &str, table: &str, columns: &[&str]) -> TableInfo {
        let (schema, table) = (schema.to_owned(), table.to_owned());
        let columns = Some(columns.iter().map(|column| (*column).to_owned()).collect());
        TableInfo { oid, schema, table, columns }
    }

    fn named(schema: &str, table: &str) -> Table {
        Table::Named { schema: schema.to_owned(), table: table.to_owned() }
    }

    fn texts(wanted: &Wanted, tables: &[TableInfo]) -> Vec<String> {
        let missing = wanted.missing(tables, "shop");
        missing.into_iter().map(|(code, _, problem)| format!("{code}: {problem}")).collect()
    }

    fn group() -> String {
        "which is to group its messages".to_owned()
    }

    #[test]
    fn b247_b249_what_is_not_there_is_told_with_the_nearest_name() {
        let tables = [
            info(1, "public", "orders", &["id", "customer_id"]),
            info(2, "sales", "invoices", &["id"]),
        ];
        let wanted = Wanted {
            sink: "s".to_owned(),
            schemas: vec!["public".to_owned(), "sale".to_owned()],
            tables: vec![
                (named("public", "orders"), false),
                (Table::Oid(2), false),
                (Table::Oid(7), false),
                (named("public", "order"), true),
                (named("public", "invoices"), false),
                (named("public", "quite_another"), false),
            ],
            columns: vec![
                (
                    named("public", "orders"),
                    vec!["id".to_owned(), "custmer_id".to_owned()],
                    group(),
                ),
                (Table::Oid(2), vec!["region".to_owned()], "which function `f` reads".to_owned()),
                // Told as a table.
                (named("public", "order"), vec!["id".to_owned()], group()),
            ],
            selection: Selection::default(),
        };
        let excluded = Names::Except(vec![named("public", "orders")]);
        let mut without = Wanted { columns: wanted.columns.clone(), ..Wanted::default() };
        without.selection.tables.tables = excluded;
        assert_eq!(texts(&without, &tables).len(), 1, "nothing is read of what does not come");
        assert_eq!(
            texts(&wanted, &tables),
            [
                "schema_missing: no table of the database `shop` is in the schema sale; did you \
                 mean sales?",
                "table_missing: the database `shop` has no table with the oid 7; it is waited \
                 for, as it may be created later",
                "table_missing: the database `shop` has no table public.order, which this sink \
                 excludes; did you mean public.orders?",
                "table_missing: the database `shop` has no table public.invoices; did you mean \
                 sales.invoices?",
                "table_missing: the database `shop` has no table public.quite_another; it is \
                 waited for, as it may be created later",
                "column_missing: the table public.orders of the database `shop` has no column \
                 custmer_id, which is to group its messages; did you mean customer_id?",
                "column_missing: the table with the oid 2 of the database `shop` has no column \
                 region, which function `f` reads; it has id",
            ]
        );
    }
}
