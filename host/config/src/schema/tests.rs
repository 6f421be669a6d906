use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use serde::Deserialize;
use serde_json::Value;

use super::SCHEMA;
use super::trace::trace;
use crate::diagnostic::Report;
use crate::document::{change_retentions, databases, functions, keys, plugins, sinks};
use crate::{Surroundings, destinations, tree};

fn schema() -> Value {
    serde_json::from_str(SCHEMA).unwrap()
}

fn validator() -> Validator {
    jsonschema::draft202012::new(&schema()).unwrap()
}

/// The text as an editor hands it to a validator: anchors resolved, no variable filled in.
fn instance(name: &str, text: &str) -> Option<Value> {
    let root = tree::parse(text, &mut Report::new(name, text))?;
    Some(serde_json::from_str(&tree::json(&root)).unwrap())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The cases of `tests/ui`, by name.
fn cases() -> Vec<(String, String)> {
    let directory = root().join("host/config/tests/ui");
    let files = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|it| it == "yaml"));
    let name = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
    files.map(|path| (name(&path), std::fs::read_to_string(&path).unwrap())).collect()
}

fn is_good(name: &str, text: &str) -> bool {
    let env = |name: &str| match name {
        "PG_HOST" | "ODD" | "SECRET" => Some("x".to_owned()),
        "PG_PORT" => Some("6543".to_owned()),
        "YES" => Some("true".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    };
    let around = Surroundings {
        base_dir: Path::new(""),
        plugin_dir: Path::new(""),
        env: &env,
        read_file: &|_| Ok("select $1".to_owned()),
    };
    crate::read(name, text, &around).is_ok()
}

fn errors(name: &str, text: &str) -> Vec<String> {
    let instance = instance(name, text).unwrap();
    let validator = validator();
    let errors = validator.iter_errors(&instance);
    errors.map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn it_is_a_schema() {
    assert!(jsonschema::meta::is_valid(&schema()));
}

#[test]
fn what_is_good_fits() {
    let good: Vec<_> = cases().into_iter().filter(|(name, text)| is_good(name, text)).collect();
    assert!(good.len() > 10, "{}", good.len());
    for (name, text) in good {
        assert_eq!(errors(&name, &text), [""; 0], "{name}");
    }
    let text = std::fs::read_to_string(root().join("sequin.yaml")).unwrap();
    assert_eq!(errors("sequin.yaml", &text), [""; 0]);
}

#[test]
fn what_an_editor_can_see_does_not_fit() {
    // Mistakes of single values and keys; what only the readers see is not among them.
    for (name, text) in cases() {
        let seen = [
            "b079_bad_oids",
            "b240_every_mistake_at_once",
            "b243_not_supported_yet",
            "b243_unknown_keys",
            "b248_include_and_exclude",
            "b249_grouping_mistakes",
            "b257_numbers_out_of_bounds",
            "change_retention_mistakes",
            "function_mistakes",
            "moved_mistakes",
            "wrong_types",
        ];
        if seen.contains(&name.as_str()) {
            assert!(!errors(&name, &text).is_empty(), "{name}");
        }
    }
    let sink = |rest: &str| {
        format!(
            "sinks: [{{name: a, database: d, destination: {{type: webhook, http_endpoint: e}}{rest}}}]"
        )
    };
    assert_eq!(errors("fits", &sink("")), [""; 0]);
    for rest in [
        ", batch_size: 0",
        ", batch_size: ten",
        ", actions: [upsert]",
        ", filter: {}",
        ", colour: blue",
        ", tables: [{name: t, group_column_names: []}]",
        ", group_scope: slot",
    ] {
        assert_eq!(errors(rest, &sink(rest)).len(), 1, "{rest}");
    }
}

/// The definition that a schema is: through references and alternatives, the ones with `field`.
fn with<'a>(root: &'a Value, schema: &'a Value, field: &str, found: &mut Vec<&'a Value>) {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let pointer = reference.strip_prefix('#').unwrap();
        with(root, root.pointer(pointer).unwrap(), field, found);
    }
    for alternatives in ["anyOf", "oneOf", "allOf"] {
        for schema in schema.get(alternatives).and_then(Value::as_array).into_iter().flatten() {
            with(root, schema, field, found);
        }
    }
    if let Some(items) = schema.get("items") {
        with(root, items, field, found);
    }
    if schema.get(field).is_some() {
        found.push(schema);
    }
}

fn at<'a>(root: &'a Value, definition: &str, path: &str) -> Vec<&'a Value> {
    let mut here = vec![&root["$defs"][definition]];
    for step in path.split('.').filter(|step| !step.is_empty()) {
        let mut next = Vec::new();
        for schema in here {
            with(root, schema, "properties", &mut next);
        }
        here = next.iter().filter_map(|schema| schema["properties"].get(step)).collect();
    }
    here
}

fn names(root: &Value, definition: &str, path: &str, field: &str) -> BTreeSet<String> {
    let mut found = Vec::new();
    for schema in at(root, definition, path) {
        with(root, schema, field, &mut found);
    }
    let mut names = BTreeSet::new();
    for schema in found {
        match &schema[field] {
            Value::Object(properties) => names.extend(properties.keys().cloned()),
            Value::Array(words) => {
                names.extend(words.iter().filter_map(Value::as_str).map(str::to_owned));
            }
            other => panic!("{definition} {path} {field}: {other}"),
        }
    }
    names
}

/// Holds a definition to what a type reads, and to keys that are taken out before.
fn check<T: for<'de> Deserialize<'de>>(definition: &str, besides: &[&str]) {
    let root = schema();
    let traced = trace::<T>();
    assert!(traced.keys.contains_key(""), "{definition} is read as a struct");
    for (path, keys) in &traced.keys {
        let besides = besides.iter().filter(|_| path.is_empty());
        let known = keys.iter().chain(besides).map(|key| (*key).to_owned()).collect();
        let told = names(&root, definition, path, "properties");
        let missing: Vec<_> = BTreeSet::difference(&known, &told).collect();
        assert!(missing.is_empty(), "schema.json: {definition} {path} lacks {missing:?}");
        let foreign: Vec<_> = told.difference(&known).collect();
        assert!(foreign.is_empty(), "schema.json: nobody reads {foreign:?} of {definition} {path}");
    }
    for (path, words) in &traced.words {
        let words: BTreeSet<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let told = names(&root, definition, path, "enum");
        assert_eq!(told, words, "schema.json: words of {definition} {path}");
    }
}

fn with_exported<'a>(besides: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    keys::EXPORTED.into_iter().chain(besides).collect()
}

#[test]
fn b243_every_key_that_is_read_is_in_it_and_no_other() {
    let needless = databases::NEEDLESS.iter().map(|(key, _)| *key);
    let not_yet = databases::NOT_YET.iter().map(|(key, _)| *key);
    let besides = with_exported(needless.chain(not_yet).chain(["tables"]));
    check::<databases::Fields>("database", &besides);
    check::<options::endpoint::Options>("http_endpoint", &with_exported([]));
    check::<functions::PathFields>("path_function", &with_exported([]));
    check::<functions::Enrichment>("enrichment_function", &with_exported([]));
    check::<functions::PluginFields>("routing_function", &with_exported([]));
    check::<plugins::Plugins>("plugins", &[]);
    let besides = with_exported(change_retentions::LEFTOVERS);
    check::<change_retentions::ChangeRetention>("change_retention", &besides);
    check::<crate::moved::Entry>("moved", &[]);
    check::<sinks::Fields>("sink", &with_exported(sinks::LEFTOVERS));
    destinations::each_for_tests(&mut |name, definition| {
        assert_eq!(schema()["$defs"][name]["properties"]["type"]["const"], name);
        definition(name);
    });
}

/// Holds the definition of a destination to its options.
pub(crate) fn check_destination<T: for<'de> Deserialize<'de>>(name: &str) {
    let mut besides = vec!["type"];
    if name == "webhook" {
        besides.extend(destinations::WEBHOOK_NOT_YET.iter().map(|(key, _)| *key));
    }
    check::<T>(name, &besides);
}

#[test]
fn every_destination_and_every_kind_of_resource_is_in_it() {
    let root = schema();
    let mut listed = Vec::new();
    with(&root, &root["$defs"]["sink"]["properties"]["destination"], "properties", &mut listed);
    let types: Vec<_> = listed.iter().map(|it| &it["properties"]["type"]["const"]).collect();
    assert_eq!(types, destinations::KNOWN);
    let kinds: BTreeSet<&str> =
        root["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(kinds, crate::document::KEYS.into_iter().chain(["transforms"]).collect());
}
