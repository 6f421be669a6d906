//! The OpenAPI document (3.1), made of the operations that are served.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::Method;
use serde_json::{Map, Value, json};

use crate::operation::{Answered, Operation, Operations};
use crate::shape;

/// Where it is.
pub(crate) const PATH: &str = "/api/openapi.json";

/// The document.
pub(crate) fn document(version: &str, operations: &Operations) -> Value {
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for operation in &operations.0 {
        let method = operation.method.as_str().to_ascii_lowercase();
        paths.entry(&operation.path).or_default().insert(method, of(operation));
    }
    let mut schemas = of_configuration();
    schemas.insert("Refusal".to_owned(), shape::refusal());
    let tags: BTreeSet<&str> = operations.0.iter().map(tag).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Sequin",
            "version": version,
            "description": "What the engine's management API can be asked. Bodies of resources are as in \
                            `sequin.yaml`. A refusal has a summary for people and a code for programs.",
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        // Where the document was read.
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "tags": tags.into_iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {
                "type": "http", "scheme": "bearer",
                "description": "SEQUIN_API_TOKEN of the engine, or a token of `sequin token create`.",
            }},
        },
    })
}

/// The schemas of `sequin.yaml`, each by its name.
fn of_configuration() -> Map<String, Value> {
    let text = config::SCHEMA.replace("#/$defs/", "#/components/schemas/");
    let mut schema: Value = serde_json::from_str(&text).unwrap_or_default();
    match schema.get_mut("$defs").map(Value::take) {
        Some(Value::Object(schemas)) => schemas,
        _ => Map::new(),
    }
}

/// The first word of the path behind `/api/`, of what is part of a sink that part.
fn tag(operation: &Operation) -> &str {
    let mut parts = operation.path.trim_start_matches("/api/").split('/');
    match (parts.next().unwrap_or_default(), parts.next(), parts.next()) {
        ("sinks", Some(_), Some(part @ ("backfills" | "letters" | "messages" | "rollouts"))) => {
            part
        }
        ("destinations", Some(part), _) => part,
        (first, ..) => first,
    }
}

fn of(operation: &Operation) -> Value {
    let scope = operation.scope.as_str();
    let mut told = Map::new();
    let mut put = |key: &str, value: Value| _ = told.insert(key.to_owned(), value);
    put("operationId", operation.id.clone().into());
    put("summary", operation.summary.clone().into());
    put("description", format!("Needs the scope `{scope}`.").into());
    put("tags", json!([tag(operation)]));
    put("parameters", parameters(operation).into());
    put("responses", responses(operation).into());
    if !operation.bodies.is_empty() {
        let content: Map<String, Value> = operation
            .bodies
            .iter()
            .map(|(kind, schema)| ((*kind).to_owned(), json!({"schema": schema})))
            .collect();
        put("requestBody", json!({"required": operation.needs_body, "content": content}));
    }
    told.into()
}

/// The names between the braces of a path.
fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('{').skip(1).filter_map(|rest| rest.split('}').next())
}

fn parameters(operation: &Operation) -> Vec<Value> {
    let of_path = names(&operation.path).map(|name| {
        let told = match name {
            "sink" | "which" | "id_or_name" => "Its name or id.",
            _ => "",
        };
        json!({
            "name": name, "in": "path", "required": true, "description": told,
            "schema": {"type": "string", "minLength": 1},
        })
    });
    of_path
        .chain(operation.query.iter().cloned())
        .chain(operation.headers.iter().cloned())
        .collect()
}

fn responses(operation: &Operation) -> Map<String, Value> {
    let mut responses = Map::new();
    for (status, answer) in &operation.answers {
        responses.insert(status.to_string(), answered(answer));
    }
    for status in refusals(operation) {
        let refusal = json!({
            "description": told(status),
            "content": {"application/json": {"schema": shape::named("Refusal")}},
        });
        responses.entry(status.to_string()).or_insert(refusal);
    }
    responses
}

fn answered(answer: &Answered) -> Value {
    let mut told = Map::new();
    let mut put = |key: &str, value: Value| _ = told.insert(key.to_owned(), value);
    put("description", "Done.".into());
    if let Some((kind, schema)) = &answer.content {
        let content = [((*kind).to_owned(), json!({"schema": schema}))];
        put("content", Map::from_iter(content).into());
    }
    if answer.has_etag {
        let etag = json!({"description": "For `If-Match`.", "schema": {"type": "string"}});
        put("headers", json!({"ETag": etag}));
    }
    let link = |[operation, parameter, field]: &[String; 3]| {
        let found = (parameter.clone(), format!("$response.body#/{field}").into());
        let parameters: Map<String, Value> = [found].into_iter().collect();
        (operation.clone(), json!({"operationId": operation, "parameters": parameters}))
    };
    if !answer.links.is_empty() {
        put("links", answer.links.iter().map(link).collect::<Map<_, _>>().into());
    }
    told.into()
}

/// Those that each operation of its form may refuse with, and its own.
fn refusals(operation: &Operation) -> BTreeSet<u16> {
    let mut all: BTreeSet<u16> = operation.refusals.iter().copied().collect();
    all.extend([400, 401, 403, 503]);
    if operation.path.contains('{') {
        all.insert(404);
    }
    if !operation.query.is_empty() || operation.method != Method::GET {
        all.insert(422);
    }
    if !operation.bodies.is_empty() {
        all.extend([413, 415]);
    }
    all
}

/// What a status says, wherever it comes from.
const fn told(status: u16) -> &'static str {
    match status {
        400 => "The request cannot be read.",
        401 => "No token was shown, or one that is none or has expired.",
        403 => "The token may not do this.",
        404 => "There is no such thing.",
        408 => "The body did not arrive in time.",
        409 => "It is not in a state in which this can be done.",
        412 => "It has changed since it was seen.",
        413 => "The body is too large.",
        415 => "The body is of another kind than is taken.",
        422 => "What is asked for is not possible.",
        429 => "Too many ask at once: once more after a while.",
        502 => "The source cannot be reached.",
        503 => "The engine's state cannot be read or written at the moment, or the engine stops.",
        507 => "The disk is full.",
        _ => "Refused.",
    }
}
