//! `GET /api/postgres_replications`, `…/WHICH`: the predecessor's list of slots, each with the database that
//! it is of; and its `GET /api/local_tunnels`, of which there are none.
//!
//! Its other methods on them are refused: slot and publication belong to a database here.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use crate::caller::may;
use crate::configs::ConfigRefused;
use crate::extract::{Path, Query};
use crate::operation::{Operation, Routes, delete, get, patch, post, put};
use crate::paged::{self, Paged, text};
use crate::reply;
use crate::resources::Resources;
use crate::shape;

const ALL: &str = "/api/postgres_replications";
const ONE: &str = "/api/postgres_replications/{id}";

pub(crate) fn routes(resources: Arc<dyn Resources>) -> Routes {
    use StatusCode as Is;
    let slot = || {
        shape::object(&[
            ("id", "string"),
            ("slot_name", "string"),
            ("publication_name", "string"),
            ("status", "string"),
            ("postgres_database_id", "string"),
            ("postgres_database_name", "string"),
        ])
    };
    let elsewhere = |operation: Operation| {
        operation.asks().answers(Is::OK, json!({"type": "object"})).refuses(&[422])
    };
    let told = "Refused: change the database that the slot is of";
    Routes::new()
        .with(
            get(ALL, "replications_list", "The slots of all databases")
                .judged()
                .query::<Paged>()
                .answers(Is::OK, shape::pages(slot())),
            list,
        )
        .with(get(ONE, "replications_show", "A slot").judged().answers(Is::OK, slot()), one)
        .with(elsewhere(post(ALL, "replications_create", told)), refused)
        .with(elsewhere(put(ONE, "replications_replace", told)), refused)
        .with(elsewhere(patch(ONE, "replications_update", told)), refused)
        .with(elsewhere(delete(ONE, "replications_delete", told)), refused)
        .with(
            get("/api/local_tunnels", "local_tunnels_list", "None: there are no tunnels")
                .answers(Is::OK, shape::list(json!({}))),
            tunnels,
        )
        .with_state(resources)
}

/// The slots, each with its database.
async fn slots(resources: &dyn Resources) -> Result<Vec<Value>, ConfigRefused> {
    let databases = paged::data(resources.look("database", None, false).await?);
    let of = |database: &Value| {
        let (id, name) = (text(database, "id").to_owned(), text(database, "name").to_owned());
        let slots = database.get("replication_slots").and_then(Value::as_array).cloned();
        slots.unwrap_or_default().into_iter().map(move |mut slot| {
            if let Value::Object(slot) = &mut slot {
                slot.insert("postgres_database_id".to_owned(), id.clone().into());
                slot.insert("postgres_database_name".to_owned(), name.clone().into());
            }
            slot
        })
    };
    let allowed = databases.iter().filter(|database| may("database", text(database, "name")));
    Ok(allowed.flat_map(of).collect())
}

async fn list(State(resources): State<Arc<dyn Resources>>, Query(paged): Query<Paged>) -> Response {
    match slots(&*resources).await {
        Ok(slots) => paged.answer(slots, "id"),
        Err(refused) => refused.into_response(),
    }
}

async fn one(State(resources): State<Arc<dyn Resources>>, Path(id): Path<String>) -> Response {
    let found = match slots(&*resources).await {
        Ok(slots) => slots.into_iter().find(|slot| text(slot, "id") == id),
        Err(refused) => return refused.into_response(),
    };
    match found {
        Some(slot) => Json(slot).into_response(),
        None => {
            let told = format!("Not found: there is no slot `{id:.200}`");
            reply::error(StatusCode::NOT_FOUND, told).into_response()
        }
    }
}

async fn refused() -> Response {
    let told = "of_database: slot and publication belong to a database: change it, at \
                /api/postgres_databases";
    reply::error(StatusCode::UNPROCESSABLE_ENTITY, told).into_response()
}

async fn tunnels() -> Response {
    Json(json!({"data": []})).into_response()
}
