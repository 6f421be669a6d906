//! What the management of letters needs of the process: other versions of a function, for replays
//! through them; and the retention of letters.

use std::sync::Arc;
use std::time::Duration;

use config::Spec;
use config::spec::{Component, FunctionKind};
use model::plugin::Plugin;
use store::{Embedded, Retention};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::bindings::Known;
use crate::config_source::ConfigSource;
use crate::wiring::{Place, Wiring};

/// Between looks for letters that are not to be kept.
const RETAIN: Duration = Duration::from_secs(30);

/// Loads another version of a function, with the configuration that it has in the file now.
pub(crate) fn resolve(
    source: ConfigSource,
    wiring: Arc<Wiring>,
    store: Arc<Embedded>,
) -> web::Resolve {
    Arc::new(move |function, component| {
        let (source, wiring) = (source.clone(), Arc::clone(&wiring));
        let store = Arc::clone(&store);
        Box::pin(async move {
            let known = Known::read(&store).await.map_err(|error| error.to_string())?;
            // Compiling takes its time, and is not for a thread that answers requests.
            let load = move || load(&source, &wiring, &known, &function, &component, Place::Usual);
            let loaded = tokio::task::spawn_blocking(load).await;
            loaded.map_err(|error| format!("a fault while it was loaded: {error}"))?
        })
    })
}

/// Loads another version of a function, for a rollout.
pub(crate) fn open(source: ConfigSource, wiring: Arc<Wiring>, store: Arc<Embedded>) -> web::Open {
    Arc::new(move |function, component, is_aside| {
        let (source, wiring) = (source.clone(), Arc::clone(&wiring));
        let store = Arc::clone(&store);
        let place = if is_aside { Place::Aside } else { Place::Usual };
        Box::pin(async move {
            let known = Known::read(&store).await.map_err(|error| error.to_string())?;
            let load = move || load(&source, &wiring, &known, &function, &component, place);
            let loaded = tokio::task::spawn_blocking(load).await;
            loaded.map_err(|error| format!("a fault while it was loaded: {error}"))?
        })
    })
}

fn load(
    source: &ConfigSource,
    wiring: &Wiring,
    known: &Known,
    function: &str,
    component: &str,
    place: Place,
) -> Result<Arc<dyn Plugin>, String> {
    load_of(source.read()?.spec, wiring, known, function, component, place)
}

/// Loads another version of a function of this configuration.
pub(crate) fn load_of(
    mut spec: Spec,
    wiring: &Wiring,
    known: &Known,
    function: &str,
    component: &str,
    place: Place,
) -> Result<Arc<dyn Plugin>, String> {
    let found = spec.functions.iter_mut().find(|known| known.name == function);
    let found = found.ok_or_else(|| format!("there is no function `{function}`"))?;
    let FunctionKind::Plugin(plugin) = &mut found.kind else {
        return Err(format!("function `{function}` is no plugin"));
    };
    plugin.component = parse(component)?;
    spec.functions.retain(|known| known.name == function);
    wiring.function(&spec, known, place)
}

/// `name@version` or `sha256:…`.
pub(crate) fn parse(component: &str) -> Result<Component, String> {
    match component.rsplit_once('@') {
        _ if component.starts_with("sha256:") => Ok(Component::Digest(component.to_owned())),
        Some((name, version)) => {
            Ok(Component::Named { name: name.to_owned(), version: version.to_owned() })
        }
        None => Err(format!("`{component:.200}` is no NAME@VERSION and no sha256:…")),
    }
}

/// Removes letters that are not to be kept, until cancelled.
pub(crate) async fn retain(store: Arc<Embedded>, retention: Retention, stop: CancellationToken) {
    let mut looks = tokio::time::interval(RETAIN);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = looks.tick() => {}
        }
        // A batch at a time, so that what is live is written between.
        loop {
            match store.retain(store.epoch(), retention).await {
                Ok(dropped) if dropped.is_empty() => break,
                Ok(dropped) => {
                    for it in dropped.iter().filter(|it| it.open) {
                        warn!(
                            sink.name = it.sink,
                            letters = it.letters,
                            bytes = it.bytes,
                            "letters that nobody attended to are removed: SEQUIN_LETTERS_MAX_DAYS or \
                             SEQUIN_LETTERS_MAX_MB is reached"
                        );
                    }
                }
                Err(error) => {
                    warn!(%error, "letters that are not to be kept cannot be removed now");
                    break;
                }
            }
        }
    }
}
