//! What guests can import: the log, and in worlds that have them the capabilities.
//!
//! All of them are linked for everyone; what a guest was not granted answers so. That it is not even
//! loaded without its grants is said when it is bound.

use model::grants::{self, Capability};
use wasmtime::component::{Linker, LinkerInstance, WasmStr};
use wasmtime::{Engine, StoreContextMut};

use crate::bindings::{CallError, CallFailure, HttpRequest, HttpResponse, Level, RowsQuery};
use crate::calls::Unanswered;
use crate::instance::State;
use crate::worlds::World;

/// More than any limit of a line that makes sense; the limit itself is applied by the lines.
const LINE_BYTES_READ: usize = 64 << 10;

/// What a guest gets of a call.
type Answered<T> = wasmtime::Result<(Result<T, CallError>,)>;

type Context<'a> = StoreContextMut<'a, State>;

pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    for world in World::ALL {
        let log = |mut store: Context<'_>, (level, message): (Level, WasmStr)| {
            // Borrowed from the guest's memory, to copy no more of it than is kept.
            let line = message.to_str(&store)?;
            let line = crate::lines::cut(&line, LINE_BYTES_READ).to_owned();
            store.data_mut().lines.write(level, &line);
            Ok(())
        };
        linker.instance(&world.interface("log"))?.func_wrap("log", log)?;
        for capability in world.capabilities() {
            let name = world.interface(capability.as_str());
            link(*capability, &mut linker.instance(&name)?)?;
        }
    }
    Ok(linker)
}

fn link(capability: Capability, to: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    match capability {
        Capability::Clock => to.func_wrap("now", |mut store: Context<'_>, (): ()| {
            answered(store.data_mut().calls.clock())
        }),
        Capability::Random => to.func_wrap("bytes", |mut store: Context<'_>, (count,): (u32,)| {
            answered(store.data_mut().calls.random(count))
        }),
        Capability::Secrets => to.func_wrap("get", |mut store: Context<'_>, (name,): (String,)| {
            answered(store.data_mut().calls.secret(&name))
        }),
        Capability::Kv => {
            to.func_wrap("get", |mut store: Context<'_>, (key,): (String,)| {
                let State { calls, time, .. } = store.data_mut();
                answered(calls.kv_get(time, &key))
            })?;
            type Put = (String, Vec<u8>);
            to.func_wrap("put", |mut store: Context<'_>, (key, value): Put| {
                answered(store.data_mut().calls.kv_write(key, Some(value)))
            })?;
            to.func_wrap("delete", |mut store: Context<'_>, (key,): (String,)| {
                answered(store.data_mut().calls.kv_write(key, None))
            })
        }
        Capability::Http => {
            to.func_wrap("send", |mut store: Context<'_>, (request,): (HttpRequest,)| {
                let State { calls, time, .. } = store.data_mut();
                answered(calls.http(time, request.into()).map(HttpResponse::from))
            })
        }
        Capability::Lookup => {
            to.func_wrap("rows", |mut store: Context<'_>, (query,): (RowsQuery,)| {
                let State { calls, time, .. } = store.data_mut();
                answered(calls.rows(time, query.into()))
            })
        }
    }
}

fn answered<T>(answer: Result<T, Unanswered>) -> Answered<T> {
    match answer {
        Ok(found) => Ok((Ok(found),)),
        Err(Unanswered::Error(error)) => Ok((Err(error.into()),)),
        Err(Unanswered::Stop(stop)) => Err(stop.into()),
    }
}

impl From<grants::CallError> for CallError {
    fn from(error: grants::CallError) -> Self {
        let failure = match error.failure {
            grants::Failure::Denied => CallFailure::Denied,
            grants::Failure::Invalid => CallFailure::Invalid,
            grants::Failure::TooLarge => CallFailure::TooLarge,
            grants::Failure::Timeout => CallFailure::Timeout,
            grants::Failure::Unavailable => CallFailure::Unavailable,
            grants::Failure::Exhausted => CallFailure::Exhausted,
        };
        Self { failure, message: error.message }
    }
}

impl From<HttpRequest> for grants::HttpRequest {
    fn from(request: HttpRequest) -> Self {
        let HttpRequest { method, url, headers, body, timeout_ms } = request;
        let timeout = timeout_ms.map(|ms| std::time::Duration::from_millis(ms.into()));
        Self { method, url, headers, body, timeout }
    }
}

impl From<grants::HttpResponse> for HttpResponse {
    fn from(response: grants::HttpResponse) -> Self {
        let grants::HttpResponse { status, headers, body } = response;
        Self { status, headers, body }
    }
}

impl From<RowsQuery> for grants::RowsQuery {
    fn from(query: RowsQuery) -> Self {
        let RowsQuery { table, columns, key, keys } = query;
        Self { table, columns, key, keys }
    }
}
