//! What functions are granted, as the things that answer: the clock and the randomness of this machine,
//! secrets that were read with the configuration, a store in the data directory, requests past the
//! guard, rows of a source.
//!
//! Plugins wait on threads of their own; what is asked over the network runs on the runtime of the
//! engine, and is given up when nobody waits any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use config::Spec;
use config::spec::{self, HttpGrant};
use model::BoxFuture;
use model::grants::{
    CallError, Clock, Failure, FoundRow, Grants, Http, HttpRequest, HttpResponse, Random, ReadRows,
    RowsQuery, Secrets,
};
use options::Secret;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::bindings::Known;
use crate::wiring::source;

/// Of the function `name` of this configuration. Without a runtime nothing beyond this machine
/// answers: so a configuration is looked at without being run.
///
/// # Errors
/// The machine lacks what an HTTP client needs.
pub(crate) fn grants(
    name: &str,
    given: &spec::Grants,
    spec: &Spec,
    known: &Known,
    guard: sinks::Guard,
    runtime: Option<&Handle>,
) -> Result<Grants, String> {
    let http = match &given.http {
        None => None,
        Some(http) => {
            let fetch = fetch(http, guard).map_err(|error| error.to_string())?;
            Some(Arc::new(Spawned::new(fetch, runtime)) as Arc<dyn Http>)
        }
    };
    let lookup = given.lookup.as_ref().and_then(|lookup| {
        let database = spec.databases.iter().find(|known| known.name == lookup.database)?;
        let rows = postgres::Rows::new(source(database), lookup.tables.clone());
        Some(Arc::new(Spawned::new(rows, runtime)) as Arc<dyn ReadRows>)
    });
    Ok(Grants {
        clock: given.clock.then(|| Arc::new(Machine) as Arc<dyn Clock>),
        random: given.random.then(|| Arc::new(Machine) as Arc<dyn Random>),
        secrets: (!given.secrets.is_empty())
            .then(|| Arc::new(Given(given.secrets.clone())) as Arc<dyn Secrets>),
        kv: given.kv.then(|| known.kept_by(name)),
        http,
        lookup,
    })
}

/// What is not of the public internet is refused to plugins, unless their owner allows it; what the
/// engine as a whole is kept from stays so.
fn fetch(given: &HttpGrant, guard: sinks::Guard) -> Result<sinks::Fetch, sinks::BuildError> {
    let guard = match (guard, given.allow_private) {
        (sinks::Guard::Internal, _) | (_, false) => sinks::Guard::Internal,
        (sinks::Guard::Metadata | sinks::Guard::Off, true) => sinks::Guard::Metadata,
    };
    let hosts = given.hosts.clone();
    let allows = move |host: &str, port| hosts.iter().any(|allowed| allowed.allows(host, port));
    sinks::Fetch::new(guard, Box::new(allows), given.timeout)
}

/// The clock and the randomness of this machine.
struct Machine;

impl Clock for Machine {
    fn now_us(&self) -> Result<i64, CallError> {
        #[expect(clippy::disallowed_methods, reason = "the clock that is granted")]
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

impl Random for Machine {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), CallError> {
        let failed = |_| CallError::new(Failure::Unavailable, "the system has no random bytes");
        SystemRandom::new().fill(bytes).map_err(failed)
    }
}

struct Given(BTreeMap<String, Secret>);

impl Secrets for Given {
    fn get(&self, name: &str) -> Result<String, CallError> {
        let missing =
            || CallError::new(Failure::Denied, format!("no secret `{name:.100}` is granted"));
        self.0.get(name).map(|secret| secret.reveal().to_owned()).ok_or_else(missing)
    }
}

/// What runs on the runtime, whoever waits for it.
struct Spawned<T> {
    asked: Arc<T>,
    runtime: Option<Handle>,
}

/// Ends a task with whoever waits for it.
struct Ended(AbortHandle);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<T: Send + Sync + 'static> Spawned<T> {
    fn new(asked: T, runtime: Option<&Handle>) -> Self {
        Self { asked: Arc::new(asked), runtime: runtime.cloned() }
    }

    async fn run<A: Send + 'static>(&self, ask: impl AsyncAsk<T, A>) -> Result<A, CallError> {
        let unavailable = |why: &str| CallError::new(Failure::Unavailable, why);
        let runtime = self.runtime.as_ref();
        let runtime = runtime.ok_or_else(|| unavailable("nothing is asked while nothing runs"))?;
        let task = runtime.spawn(ask.ask(Arc::clone(&self.asked)));
        let _ended = Ended(task.abort_handle());
        task.await.map_err(|_| unavailable("the engine stops"))?
    }
}

/// A question, as a future of its own.
trait AsyncAsk<T, A> {
    fn ask(self, asked: Arc<T>) -> BoxFuture<'static, Result<A, CallError>>;
}

impl<T: Http + 'static> AsyncAsk<T, HttpResponse> for HttpRequest {
    fn ask(self, asked: Arc<T>) -> BoxFuture<'static, Result<HttpResponse, CallError>> {
        Box::pin(async move { asked.send(self).await })
    }
}

impl<T: ReadRows + 'static> AsyncAsk<T, Vec<Option<FoundRow>>> for RowsQuery {
    fn ask(self, asked: Arc<T>) -> BoxFuture<'static, Result<Vec<Option<FoundRow>>, CallError>> {
        Box::pin(async move { asked.rows(self).await })
    }
}

impl<T: Http + 'static> Http for Spawned<T> {
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, CallError>> {
        Box::pin(self.run(request))
    }
}

impl<T: ReadRows + 'static> ReadRows for Spawned<T> {
    fn rows(&self, query: RowsQuery) -> BoxFuture<'_, Result<Vec<Option<FoundRow>>, CallError>> {
        Box::pin(self.run(query))
    }
}
