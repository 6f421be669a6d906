//! Dead letters, messages that wait, and traces:
//!
//! | | |
//! |---|---|
//! | `GET /api/letters`, `GET /api/sinks/SINK/letters` | `{"data": [letter…], "next": id or null}`, without inputs and messages; `?sink=&state=&reason=&table=&text=&since=&until=&after=&limit=` |
//! | `GET /api/letters/counts` | `{"data": [{sink, state, reason, letters, bytes}…]}` |
//! | `GET /api/letters/ID` | one letter, whole |
//! | `PATCH /api/letters/ID` | `{"input": …}` or `{"message": …}`: what a replay sends |
//! | `POST /api/letters/ID/discard` | `{"reason": …}` |
//! | `POST /api/letters/ID/retry` | as a replay of it alone |
//! | `POST /api/sinks/SINK/letters/replay` | `{"letters": [ID…]}` or `{"all": true, "reason": …, "table": …, "text": …, "since": …, "until": …}`, with `"dry_run": true` first; `"function"` and `"plugin"` for another version |
//! | `GET /api/sinks/SINK/letters/replay` | how far the last one came |
//! | `GET /api/sinks/SINK/messages` | messages that were tried in vain and wait |
//! | `POST /api/sinks/SINK/messages/retry` | all of them now |
//! | `GET`, `PATCH /api/sinks/SINK/messages/ID` | one of them; `{"input": …}` or `{"message": …}`: what is sent instead |
//! | `POST /api/sinks/SINK/messages/ID/retry`, `…/discard` | one of them now |
//! | `GET`, `POST /api/sinks/SINK/trace` | `{"rows": N, "seconds": N}`; `?after=NUMBER` |
//!
//! A sink is named by its name or its id.

mod ask;
mod schema;
mod show;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use engine::desk::DeskError;
use engine::replay::{Instead, ManageError, Selection};
use engine::run::Handle;
use engine::status::Status;
use model::BoxFuture;
use model::plugin::Plugin;
use model::store::{LetterId, StoreError, StoredLetter};
use model::tokens::Scope;
use serde_json::{Value, json};

use crate::caller::may;
use crate::extract::{Body, Path, Query};
use crate::operation::{Routes, get, patch, post};
use crate::reply::{self, Refused};
use crate::shape;
use ask::Filter;

/// A request waits so long for a replay to be over; it goes on by itself.
const REPLAY_WAIT: Duration = Duration::from_secs(10);

/// Messages of one list.
const WAITING: usize = 100;

/// Finds another version of a function of a sink: its name, and the component as a configuration
/// names it.
pub type Resolve = Arc<
    dyn Fn(String, String) -> BoxFuture<'static, Result<Arc<dyn Plugin>, String>> + Send + Sync,
>;

/// What the management of letters needs.
#[derive(Clone)]
pub struct Letters {
    /// Of the engine.
    pub handle: Handle,
    /// Of the engine.
    pub status: Arc<Status>,
    /// For replays through another version.
    pub resolve: Resolve,
}

type Answer = Result<show::Raw, Refused>;

pub(crate) use show::event_of;

pub(crate) fn routes(letters: Letters) -> Routes {
    use StatusCode as Is;
    let progress = || schema::progress();
    Routes::new()
        .with(
            get("/api/letters", "letters_list", "Dead letters, the newest last")
                .scope(Scope::Messages)
                .judged()
                .query::<Filter>()
                .answers(Is::OK, shape::pages(schema::letter()))
                .link("letters_show", "id", "data/0/id")
                .link("letters_edit", "id", "data/0/id")
                .link("letters_discard", "id", "data/0/id")
                .link("letters_retry", "id", "data/0/id")
                .refuses(&[404]),
            list,
        )
        .with(
            get("/api/letters/counts", "letters_counts", "How many there are, by sink and reason")
                .scope(Scope::Messages)
                .judged()
                .answers(Is::OK, shape::list(schema::count())),
            counts,
        )
        .with(
            get("/api/letters/{id}", "letters_show", "A letter, with its input and its message")
                .scope(Scope::Messages)
                .judged()
                .answers(Is::OK, schema::whole()),
            one,
        )
        .with(
            patch("/api/letters/{id}", "letters_edit", "What a replay of it is to send instead")
                .scope(Scope::Messages)
                .judged()
                .takes::<ask::Edit>()
                .answers(Is::OK, schema::whole())
                .refuses(&[409]),
            edit,
        )
        .with(
            post("/api/letters/{id}/discard", "letters_discard", "Closes a letter, with a reason")
                .scope(Scope::Messages)
                .judged()
                .takes::<ask::Reason>()
                .answers(Is::OK, schema::whole())
                .refuses(&[409]),
            discard,
        )
        .with(
            post("/api/letters/{id}/retry", "letters_retry", "Replays one letter")
                .scope(Scope::Messages)
                .judged()
                .answers(Is::OK, progress())
                .refuses(&[409, 422]),
            retry,
        )
        .with(
            get("/api/sinks/{sink}/letters", "sink_letters_list", "Dead letters of a sink")
                .scope(Scope::Messages)
                .of("sink")
                .query::<Filter>()
                .answers(Is::OK, shape::pages(schema::letter())),
            list_of_sink,
        )
        .with(
            post("/api/sinks/{sink}/letters/replay", "sink_letters_replay", "Replays letters")
                .scope(Scope::Messages)
                .of("sink")
                .takes::<ask::Replay>()
                .answers(Is::OK, json!({"anyOf": [progress(), shape::list(schema::dry_run())]}))
                .refuses(&[409]),
            replay,
        )
        .with(
            get("/api/sinks/{sink}/letters/replay", "sink_letters_replayed", "How far it came")
                .scope(Scope::Messages)
                .of("sink")
                .answers(Is::OK, progress()),
            replayed,
        )
        .with(
            get(
                "/api/sinks/{sink}/messages",
                "messages_list",
                "Messages that wait to be tried again",
            )
            .scope(Scope::Messages)
            .of("sink")
            .answers(Is::OK, shape::list(schema::waiting())),
            waiting,
        )
        .with(
            post("/api/sinks/{sink}/messages/retry", "messages_retry_all", "Tries them all now")
                .scope(Scope::Messages)
                .of("sink")
                .answers(Is::OK, shape::object(&[("retried", "integer")]))
                .refuses(&[409]),
            retry_all,
        )
        .with(
            get("/api/sinks/{sink}/messages/{id}", "messages_show", "One of them")
                .scope(Scope::Messages)
                .of("sink")
                .answers(
                    Is::OK,
                    shape::with(schema::waiting(), shape::object(&[("message", "any")])),
                ),
            message,
        )
        .with(
            patch(
                "/api/sinks/{sink}/messages/{id}",
                "messages_edit",
                "Sends another message, or what becomes of another row, instead of it now",
            )
            .scope(Scope::Messages)
            .of("sink")
            .takes::<ask::Edit>()
            .answers(Is::OK, progress())
            .refuses(&[409]),
            edit_message,
        )
        .with(
            post("/api/sinks/{sink}/messages/{id}/retry", "messages_retry", "Tries one now")
                .scope(Scope::Messages)
                .of("sink")
                .answers(Is::OK, shape::object(&[("retried", "integer")]))
                .refuses(&[409]),
            retry_message,
        )
        .with(
            post(
                "/api/sinks/{sink}/messages/{id}/discard",
                "messages_discard",
                "Puts one aside now",
            )
            .scope(Scope::Messages)
            .of("sink")
            .takes::<ask::Reason>()
            .answers(Is::OK, shape::object(&[("success", "boolean")]))
            .refuses(&[409]),
            discard_message,
        )
        .with(
            get("/api/sinks/{sink}/trace", "trace_read", "What was traced")
                .scope(Scope::Messages)
                .of("sink")
                .query::<ask::After>()
                .answers(Is::OK, schema::traced()),
            traced,
        )
        .with(
            post("/api/sinks/{sink}/trace", "trace_begin", "Traces the next rows of a sink")
                .scope(Scope::Messages)
                .of("sink")
                .takes::<ask::Trace>()
                .answers(Is::OK, shape::object(&[("success", "boolean")])),
            trace,
        )
        .with_state(letters)
}

fn answered(answer: Answer) -> Response {
    match answer {
        Ok(value) => {
            let json = [(header::CONTENT_TYPE, "application/json")];
            (json, value.get().to_owned()).into_response()
        }
        Err(refused) => refused.into_response(),
    }
}

async fn list(State(letters): State<Letters>, Query(filter): Query<Filter>) -> Response {
    answered(letters.list(filter).await)
}

async fn list_of_sink(
    State(letters): State<Letters>,
    Path(sink): Path<String>,
    Query(filter): Query<Filter>,
) -> Response {
    answered(letters.list(Filter { sink: Some(sink), ..filter }).await)
}

async fn counts(State(letters): State<Letters>) -> Response {
    let answer = async {
        let mut counts = letters.handle.letter_counts().await.map_err(store)?;
        counts.retain(|count| may("sink", &count.sink));
        Ok(show::told(&json!({"data": counts.iter().map(show::count).collect::<Vec<_>>()})))
    };
    answered(answer.await)
}

async fn one(State(letters): State<Letters>, Path(id): Path<String>) -> Response {
    answered(letters.one(&id).await)
}

async fn edit(
    State(letters): State<Letters>,
    Path(id): Path<String>,
    Body(edit): Body<ask::Edit>,
) -> Response {
    let answer = async {
        let (letter, edit) = (letters.find(&id).await?.id, edit.told()?);
        letters.handle.edit_letter(letter, edit).await.map_err(managed)?;
        letters.one(&id).await
    };
    answered(answer.await)
}

async fn discard(
    State(letters): State<Letters>,
    Path(id): Path<String>,
    Body(reason): Body<ask::Reason>,
) -> Response {
    let answer = async {
        let (letter, why) = (letters.find(&id).await?.id, reason.told()?);
        letters.handle.discard_letter(letter, &why).await.map_err(managed)?;
        letters.one(&id).await
    };
    answered(answer.await)
}

async fn retry(State(letters): State<Letters>, Path(id): Path<String>) -> Response {
    let answer = async {
        let stored = letters.find(&id).await?;
        let replay = ask::Replay { letters: Some(vec![stored.id]), ..ask::Replay::default() };
        letters.replay(&stored.letter.sink, replay).await
    };
    answered(answer.await)
}

async fn replay(
    State(letters): State<Letters>,
    Path(sink): Path<String>,
    Body(replay): Body<ask::Replay>,
) -> Response {
    answered(letters.replay(&sink, replay).await)
}

async fn replayed(State(letters): State<Letters>, Path(sink): Path<String>) -> Response {
    let answer = || {
        let progress = letters.handle.replayed(&sink).map_err(desk)?;
        Ok(show::told(&show::progress(&progress)))
    };
    answered(answer())
}

async fn waiting(State(letters): State<Letters>, Path(sink): Path<String>) -> Response {
    let answer = async {
        let waiting = letters.handle.waiting(&sink, WAITING).await.map_err(desk)?;
        Ok(list_of(waiting.iter().map(show::waiting), json!({})))
    };
    answered(answer.await)
}

async fn message(
    State(letters): State<Letters>,
    Path((sink, id)): Path<(String, String)>,
) -> Response {
    let answer = async {
        let which = ask::message_id(&id)?;
        let found = letters.handle.waiting_one(&sink, which).await.map_err(desk)?;
        Ok(show::waiting_whole(&found))
    };
    answered(answer.await)
}

/// It is put aside as a letter, which is edited and replayed: what was there before is kept with it.
async fn edit_message(
    State(letters): State<Letters>,
    Path((sink, id)): Path<(String, String)>,
    Body(edit): Body<ask::Edit>,
) -> Response {
    let answer = async {
        let (which, edit) = (ask::message_id(&id)?, edit.told()?);
        let edited = letters.handle.edit_now(&sink, which, edit).await;
        let (sink, letter) = edited.map_err(managed)?;
        let replay = ask::Replay { letters: Some(vec![letter]), ..ask::Replay::default() };
        letters.replay(&sink, replay).await
    };
    answered(answer.await)
}

async fn retry_all(State(letters): State<Letters>, Path(sink): Path<String>) -> Response {
    answered(letters.retry(&sink, None).await)
}

async fn retry_message(
    State(letters): State<Letters>,
    Path((sink, id)): Path<(String, String)>,
) -> Response {
    answered(letters.retry(&sink, Some(&id)).await)
}

async fn discard_message(
    State(letters): State<Letters>,
    Path((sink, id)): Path<(String, String)>,
    Body(reason): Body<ask::Reason>,
) -> Response {
    let answer = async {
        let (which, why) = (ask::message_id(&id)?, reason.told()?);
        letters.handle.discard_now(&sink, which, &why).await.map_err(desk)?;
        Ok(show::told(&json!({"success": true})))
    };
    answered(answer.await)
}

async fn trace(
    State(letters): State<Letters>,
    Path(sink): Path<String>,
    Body(trace): Body<ask::Trace>,
) -> Response {
    let answer = || {
        let ask::Trace { rows, seconds } = trace;
        let time = Duration::from_secs(seconds);
        letters.handle.trace(&sink, rows, time).map_err(desk)?;
        Ok(show::told(&json!({"success": true})))
    };
    answered(answer())
}

async fn traced(
    State(letters): State<Letters>,
    Path(sink): Path<String>,
    Query(after): Query<ask::After>,
) -> Response {
    let answer = || {
        let (events, on) = letters.handle.traced(&sink, after.after).map_err(desk)?;
        Ok(list_of(events.iter().map(show::event), json!({"on": on})))
    };
    answered(answer())
}

impl Letters {
    async fn list(&self, mut filter: Filter) -> Answer {
        if let Some(sink) = filter.sink.take() {
            filter.sink = Some(self.sink(&sink).await?);
        }
        let page = self.handle.letters(filter.query()?).await.map_err(store)?;
        let letters = page.letters.iter().filter(|stored| may("sink", &stored.letter.sink));
        let data: Vec<_> = letters.map(show::listed).collect();
        Ok(show::told(&json!({"data": data, "next": page.next})))
    }

    async fn one(&self, id: &str) -> Answer {
        Ok(show::whole(&self.find(id).await?))
    }

    async fn find(&self, id: &str) -> Result<StoredLetter, Refused> {
        let found = self.handle.letter(letter_id(id)?).await.map_err(store)?;
        found.filter(|found| may("sink", &found.letter.sink)).ok_or_else(|| no_letter(id))
    }

    /// The name of a sink that runs, or that has letters.
    async fn sink(&self, id_or_name: &str) -> Result<String, Refused> {
        let slots = self.status.slots.list();
        let running: Vec<_> = slots.iter().flat_map(|slot| slot.sinks.list()).collect();
        let is_it = |name: &str, id: &str| name == id_or_name || id == id_or_name;
        if let Some(sink) = running.iter().find(|sink| is_it(&sink.name, &sink.id)) {
            return Ok(sink.name.to_string());
        }
        let counts = self.handle.letter_counts().await.map_err(store)?;
        let running = running.iter().map(|sink| sink.name.to_string());
        let known: std::collections::BTreeSet<String> =
            running.chain(counts.into_iter().map(|count| count.sink)).collect();
        if known.contains(id_or_name) {
            return Ok(id_or_name.to_owned());
        }
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        let told = format!("Not found: there is no sink `{id_or_name:.200}`; there are: {known}");
        Err(reply::error(StatusCode::NOT_FOUND, told))
    }

    async fn replay(&self, sink: &str, replay: ask::Replay) -> Answer {
        let handle = &self.handle;
        let instead = match (&replay.function, &replay.plugin) {
            (None, None) => None,
            (Some(function), Some(plugin)) => {
                let found = (self.resolve)(function.clone(), plugin.clone()).await;
                Some(Instead { function: function.clone(), plugin: found.map_err(bad)? })
            }
            _ => return Err(bad("`function` and `plugin` go together")),
        };
        let selection = match (&replay.letters, replay.all) {
            (Some(letters), false) => Selection::Letters(letters.clone()),
            (None, true) => Selection::Like(replay.filter().query()?),
            _ => {
                return Err(bad(
                    "say which: `\"letters\": [ID…]`, or `\"all\": true` with filters",
                ));
            }
        };
        // Whether what comes out is what came out: only of those that are granted nothing.
        let judges = handle.judges(sink, instead.as_ref()).map_err(desk)?;
        let functions = json!({"functions": judges.iter().map(show::judge).collect::<Vec<_>>()});
        if replay.dry_run {
            let told = handle.dry_run(sink, selection, instead.as_ref()).await.map_err(managed)?;
            return Ok(list_of(told.iter().map(show::dry_run), functions));
        }
        let progress = handle.replay(sink, selection, instead.as_ref()).map_err(desk)?;
        // It goes on by itself if it takes longer.
        tokio::time::timeout(REPLAY_WAIT, progress.until_done()).await.ok();
        let mut told = show::progress(&progress);
        if let (Value::Object(told), Value::Object(functions)) = (&mut told, functions) {
            told.extend(functions);
        }
        Ok(show::told(&told))
    }

    async fn retry(&self, sink: &str, id: Option<&str>) -> Answer {
        let which = id.map(ask::message_id).transpose()?;
        let retried = self.handle.retry_now(sink, which).await.map_err(desk)?;
        if retried == 0 && which.is_some() {
            return Err(desk(DeskError::NoMessage));
        }
        Ok(show::told(&json!({"retried": retried})))
    }
}

fn list_of(data: impl Iterator<Item = show::Raw>, more: Value) -> show::Raw {
    let data: Vec<show::Raw> = data.collect();
    show::object(more, [("data", show::told(&data))])
}

fn letter_id(id: &str) -> Result<LetterId, Refused> {
    id.parse().map_err(|_| no_letter(id))
}

fn no_letter(id: &str) -> Refused {
    reply::error(StatusCode::NOT_FOUND, format!("Not found: there is no letter `{id:.50}`"))
}

fn bad(error: impl Into<String>) -> Refused {
    reply::error(StatusCode::UNPROCESSABLE_ENTITY, error)
}

fn store(error: StoreError) -> Refused {
    let status = match error {
        StoreError::Refused(_) => StatusCode::CONFLICT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    reply::error(status, error.to_string())
}

pub(crate) fn desk(error: DeskError) -> Refused {
    let status = match error {
        DeskError::NotRunning { .. } | DeskError::NoMessage => StatusCode::NOT_FOUND,
        DeskError::Replaying | DeskError::InFlight | DeskError::Recorded => StatusCode::CONFLICT,
        DeskError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        DeskError::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
    };
    reply::error(status, error.to_string())
}

fn managed(error: ManageError) -> Refused {
    match error {
        ManageError::Desk(error) => desk(error),
        ManageError::Store(error) => store(error),
    }
}
