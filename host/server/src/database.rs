//! `sequin database`: the source databases of an engine.

use std::process::ExitCode;

use reqwest::Method;
use serde_json::Value;

use crate::Failure;
use crate::api::{Request, ask};
use crate::cli::DatabaseCommand;
use crate::plugin::print;
use crate::table::{cell, table};

pub(crate) fn run(command: &DatabaseCommand) -> Result<(), Failure> {
    match command {
        DatabaseCommand::List { json } => {
            let path = ["postgres_databases"];
            let told = ask(Request { path: &path, ..Request::default() })?;
            let all = told.get("data").and_then(Value::as_array).map(Vec::as_slice);
            let all = all.unwrap_or_default();
            if *json {
                let lines: String = all.iter().map(|database| format!("{database}\n")).collect();
                return Ok(print(&lines).map(drop)?);
            }
            let keys = ["name", "hostname", "port", "database"];
            let rows: Vec<_> = all.iter().map(|it| keys.map(|key| cell(it.get(key)))).collect();
            Ok(print(&table(keys, &rows)).map(drop)?)
        }
        DatabaseCommand::Show { database } => {
            let path = ["postgres_databases", database.as_str()];
            let shown = ask(Request { path: &path, ..Request::default() })?;
            Ok(print(&format!("{shown:#}\n")).map(drop)?)
        }
        DatabaseCommand::Test { database, json } => {
            let told = about(database, "test_connection")?;
            let is_good = told.get("success") == Some(&Value::Bool(true));
            let checks = told.get("checks").and_then(Value::as_array).map(Vec::as_slice);
            let keys = ["check", "level", "message"];
            let rows = checks.unwrap_or_default().iter();
            let rows: Vec<_> = rows.map(|it| keys.map(|key| cell(it.get(key)))).collect();
            print(&if *json { format!("{told:#}\n") } else { table(keys, &rows) })?;
            if is_good { Ok(()) } else { Err(Failure::Exit(ExitCode::FAILURE)) }
        }
        DatabaseCommand::Tables { database } => {
            let told = about(database, "refresh_tables")?;
            let tables = told.get("tables").and_then(Value::as_array).into_iter().flatten();
            let lines = tables.map(|table| format!("{}\n", cell(Some(table))));
            Ok(print(&lines.collect::<String>()).map(drop)?)
        }
    }
}

/// The engine asks the source.
fn about(database: &str, what: &str) -> Result<Value, Failure> {
    let path = ["postgres_databases", database, what];
    ask(Request { method: Method::POST, path: &path, ..Request::default() })
}
