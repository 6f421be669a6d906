//! `sequin plugin inspect`: what a component is.

use anyhow::Context as _;
use plugin::{Host, Inspection, Limits};
use serde_json::{Map, Value, json};

use super::{read, usage};
use crate::Failure;
use crate::cli::InspectArguments;

pub(super) fn run(arguments: &InspectArguments) -> Result<(), Failure> {
    let bytes = read(&arguments.file)?;
    let name = arguments.file.file_stem().unwrap_or_default().to_string_lossy();
    let (told, found) = look(&bytes, &name, !arguments.no_start)?;
    super::print(&format!("{:#}\n", Value::Object(told)))?;
    granted(&found)
}

/// What a component is, and if it is to be started what it says of itself.
pub(super) fn look(
    bytes: &[u8],
    name: &str,
    start: bool,
) -> Result<(Map<String, Value>, Inspection), Failure> {
    let limits = Limits::default();
    let found = plugin::inspect(bytes, &limits).map_err(usage)?;
    let mut told = told(&found);
    if start && found.refused.is_empty() {
        let host = Host::new(limits).context("start the plugin host")?;
        let program = host.load(bytes).map_err(usage)?;
        let described = host.describe(name, &program).map_err(usage)?;
        let schema = described.config_schema.map(|text| {
            // What is no JSON is shown as the text it is.
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        });
        told.insert("config_schema".to_owned(), schema.unwrap_or_default());
        told.insert("capabilities".to_owned(), json!(described.capabilities));
        told.insert("warm".to_owned(), json!(described.warm));
    }
    Ok((told, found))
}

/// Whether it imports no more than plugins are granted.
pub(super) fn granted(found: &Inspection) -> Result<(), Failure> {
    if found.refused.is_empty() {
        return Ok(());
    }
    let refused = found.refused.join(", ");
    Err(usage(format_args!(
        "it imports {refused}, which no plugin is granted: it cannot be loaded"
    )))
}

pub(crate) fn told(found: &Inspection) -> Map<String, Value> {
    let roles: Vec<&str> = found.roles.iter().map(|role| role.as_str()).collect();
    let sdk = found
        .sdk
        .as_ref()
        .map(|text| serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone())));
    let fields = [
        ("digest", json!(found.digest)),
        ("bytes", json!(found.bytes)),
        ("name", json!(found.name)),
        ("version", json!(found.version)),
        ("description", json!(found.description)),
        ("licenses", json!(found.licenses)),
        ("source", json!(found.source)),
        ("revision", json!(found.revision)),
        ("sdk", json!(sdk)),
        ("roles", json!(roles)),
        ("imports", json!(found.imports)),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
