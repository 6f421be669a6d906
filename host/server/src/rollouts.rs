//! Rollouts of earlier processes, and of the configuration before: each gets its version, with the
//! configuration that its function has now.

use std::collections::BTreeMap;

use config::Spec;
use engine::rollout::Rollouts;
use engine::run::Engine;
use engine::spec::SlotSpec;
use engine::status::Fault;
use model::rollout::{Rollout, RolloutState};

use crate::bindings::Known;
use crate::versions;
use crate::wiring::{Place, Wiring};

/// Before anything runs: rows that come again take the version that they had. Returns the sinks that
/// cannot be started without the version that all their rows take.
///
/// # Errors
/// The store cannot be read.
pub(crate) async fn restore(
    engine: &mut Engine,
    spec: &Spec,
    wiring: &Wiring,
    known: &Known,
) -> anyhow::Result<BTreeMap<String, Fault>> {
    let handle = engine.handle();
    let rollouts = handle.rollouts();
    let mut faults = BTreeMap::new();
    for rollout in rollouts.restore(engine.slots()).await? {
        match tokio::task::block_in_place(|| load(spec, wiring, known, &rollout)) {
            Ok(plugin) => rollouts.attach(&rollout.id, plugin),
            // What was promoted is not taken back by a file that is gone.
            Err(why) if rollout.state == RolloutState::Promoted => {
                let fault = missing(&rollout, &why);
                engine.unfit(&rollout.sink, &fault);
                faults.insert(rollout.sink.to_string(), fault);
            }
            Err(why) => rollouts.lost(&rollout.id, &why).await?,
        }
    }
    Ok(faults)
}

fn missing(rollout: &Rollout, why: &str) -> Fault {
    let Rollout { component, function, .. } = rollout;
    Fault {
        code: "rollout_version_missing",
        message: format!(
            "{component} of function `{function}` was promoted, and cannot be loaded: {why}"
        ),
        help:
            "put it back, or let the configuration name the version that is to run; the sink then \
               starts by itself, with all that it missed"
                .to_owned(),
    }
}

/// Before another configuration is taken up.
///
/// # Errors
/// A version that is rolled out cannot be had with it: nothing is changed then.
pub(crate) fn refresh(
    rollouts: &Rollouts,
    spec: &Spec,
    wiring: &Wiring,
    known: &Known,
    slots: &[SlotSpec],
    is_restarted: impl Fn(&str) -> bool,
) -> Result<(), String> {
    let mut loaded = Vec::new();
    for rollout in rollouts.lie_over(slots) {
        // A shadow goes on as it is: nobody depends on it.
        if !is_restarted(&rollout.sink) || rollout.state == RolloutState::Shadow {
            continue;
        }
        let plugin = load(spec, wiring, known, &rollout).map_err(|why| {
            format!(
                "rollout {} of function `{}` on sink `{}` cannot be had with this configuration: \
                 {why}; abort it, or mend that",
                rollout.id, rollout.function, rollout.sink
            )
        })?;
        loaded.push((rollout, plugin));
    }
    for (rollout, plugin) in loaded {
        rollouts.attach(&rollout.id, plugin);
    }
    Ok(())
}

/// By its digest: a name may be another version by now.
fn load(
    spec: &Spec,
    wiring: &Wiring,
    known: &Known,
    rollout: &Rollout,
) -> Result<std::sync::Arc<dyn model::plugin::Plugin>, String> {
    let place = match rollout.state {
        RolloutState::Shadow => Place::Aside,
        _ => Place::Usual,
    };
    versions::load_of(spec.clone(), wiring, known, &rollout.function, &rollout.digest, place)
}
