//! `sequin change-retention`: the change retentions of an engine.

use postgres::TableName;
use serde_json::Value;

use crate::Failure;
use crate::api::{Request, ask};
use crate::cli::{ChangeRetentionCommand, DdlArguments};
use crate::plugin::print;
use crate::sink::{Kind, list, pause, resume, show};
use crate::table::cell;

const RETENTIONS: Kind = Kind {
    path: "change_retentions",
    called: "change retention",
    columns: ["name", "from", "into", "status"],
    row: |it| {
        let table = |end: &str| {
            let of = |what: &str| cell(it.get(format!("{end}_{what}")));
            format!("{}/{}.{}", of("database"), of("table_schema"), of("table_name"))
        };
        [cell(it.get("name")), table("source"), table("destination"), cell(it.get("status"))]
    },
};

pub(crate) fn run(command: &ChangeRetentionCommand) -> Result<(), Failure> {
    match command {
        ChangeRetentionCommand::List { json } => list(&RETENTIONS, *json),
        ChangeRetentionCommand::Show { name } => show(&RETENTIONS, name),
        ChangeRetentionCommand::Pause { name } => pause(&RETENTIONS, name),
        ChangeRetentionCommand::Resume { name } => resume(&RETENTIONS, name),
        ChangeRetentionCommand::Ddl(arguments) => ddl(arguments),
    }
}

fn ddl(arguments: &DdlArguments) -> Result<(), Failure> {
    let DdlArguments { name, schema, table, partitioned } = arguments;
    let table = match (name, table) {
        (Some(name), _) => {
            let path = [RETENTIONS.path, name.as_str()];
            let shown = ask(Request { path: &path, ..Request::default() })?;
            let text =
                |key: &str| shown.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            TableName {
                schema: text("destination_table_schema"),
                table: text("destination_table_name"),
            }
        }
        (None, table) => {
            TableName { schema: schema.clone(), table: table.clone().unwrap_or_default() }
        }
    };
    Ok(print(&postgres::ddl(&table, *partitioned)).map(drop)?)
}
