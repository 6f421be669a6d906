//! A sink that puts aside more than it delivers stops itself, and nobody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use model::batch::Grouping;
use model::plugin::{Fault, PluginError};
use model::sink::Retry;
use tokio::time::Instant;

use crate::fake::log::{Log, Row};
use crate::fake::plugin::function;
use crate::fake::sink::{Answer, Recording};
use crate::fake::store::Store;
use crate::fake::{engine, run_until, sink_spec};
use crate::spec::SinkSpec;
use crate::trip::LetterLimit;

const MIB: usize = 1 << 20;

/// A destination that refuses everything, or a plugin that fails on everything, until somebody mends
/// it. Of two thousand messages few are lost to letters; the neighbour has them all.
#[tokio::test(start_paused = true)]
async fn too_many_letters_stop_the_sink_until_it_is_resumed_and_no_other() {
    for by_plugin in [false, true] {
        for cooldown in [None, Some(Duration::from_secs(30))] {
            let log = Log::new();
            for n in 0..20 {
                log.commit((n * 100..n * 100 + 100).map(|n| Row::update(n, n)).collect());
            }
            let mended = Arc::new(AtomicBool::new(false));
            let refuses = {
                let mended = Arc::clone(&mended);
                move || !mended.load(Ordering::Relaxed)
            };
            let fails = refuses.clone();
            let sink = Recording::new(Grouping::Apart, 10, move |batch| {
                let all = 0..if refuses() && !by_plugin { batch.messages().len() } else { 0 };
                let rejected = all.map(|at| (at, Retry::Never)).collect();
                Answer { after: Duration::from_millis(5), rejected, ..Answer::default() }
            });
            let limit = LetterLimit { cooldown, ..LetterLimit::default() };
            let mut spec = SinkSpec { letter_limit: Some(limit), ..sink_spec("bad", &sink) };
            if by_plugin {
                spec.filters = vec![function(move |_| match fails() {
                    true => Err(PluginError { fault: Fault::Trap, message: "no".into() }),
                    false => Ok(model::plugin::Outcome::Keep),
                })];
            }
            let neighbour = Recording::willing();
            let specs = vec![spec, sink_spec("good", &neighbour)];
            let store = Arc::<Store>::default();
            let (engine, status, _) = engine(&log, specs, &store, 8 * MIB);
            let shown = Arc::clone(&status.slots.list()[0].sinks.list()[0]);
            let mut stood = None;
            run_until(engine, || {
                if let Some(tripped) = shown.trip.get()
                    && neighbour.len() == 2_000
                {
                    let since = stood.get_or_insert((Instant::now(), store.letters().len())).0;
                    assert!(tripped.reason.contains("were put aside"), "{}", tripped.reason);
                    mended.store(true, Ordering::Relaxed);
                    if since.elapsed() > Duration::from_secs(20) {
                        // Somebody resumes it, or it does so by itself a little later.
                        assert!(cooldown.is_some() || status.resume("bad") == Some(true));
                    }
                }
                log.settled()
            })
            .await;
            let (since, letters) = stood.expect("it stops");
            assert!((100..=100 + 256).contains(&letters), "{letters} letters");
            assert_eq!(store.letters().len() + sink.len(), 2_000, "nothing is lost");
            // What was under way when it stopped is the only one that came later.
            assert!(store.letters().len() <= letters + 40);
            let stood = since.elapsed();
            assert!(stood > Duration::from_secs(20), "{stood:?}");
            assert_eq!(shown.trip.get(), None);
            assert_eq!(status.resume("bad"), Some(false));
            assert_eq!(status.resume("nobody"), None);
        }
    }
}

/// What an owner wants done with rows that a plugin fails on: asked again, they go in their order
/// once it is mended; a filter lets them pass; a sink that stops asks again once it is resumed.
#[tokio::test(start_paused = true)]
async fn b273_an_owner_says_what_becomes_of_rows_that_a_plugin_fails_on() {
    use model::plugin::OnError;
    for policy in [OnError::Retry, OnError::Stop, OnError::Pass] {
        let log = Log::new();
        for n in 0..20 {
            log.commit((n * 10..n * 10 + 10).map(|n| Row::update(n, n)).collect());
        }
        let mended = Arc::new(AtomicBool::new(policy == OnError::Pass));
        let asked = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let fails = {
            let (mended, asked) = (Arc::clone(&mended), Arc::clone(&asked));
            move |change: &model::change::Change| {
                let third = change.position.ordinal == 3;
                asked.fetch_add(u64::from(third), Ordering::Relaxed);
                third && (policy == OnError::Pass || !mended.load(Ordering::Relaxed))
            }
        };
        let plugin = function(move |change| match fails(change) {
            true => Err(PluginError { fault: Fault::Guest, message: "no".into() }),
            false => Ok(model::plugin::Outcome::Keep),
        });
        let sink = Recording::willing();
        let mut spec = sink_spec("s", &sink);
        spec.filters = vec![crate::fake::plugin::owned(plugin, policy)];
        let store = Arc::<Store>::default();
        let (engine, status, _) = engine(&log, vec![spec], &store, 8 * MIB);
        let shown = Arc::clone(&status.slots.list()[0].sinks.list()[0]);
        run_until(engine, || {
            let many = asked.load(Ordering::Relaxed) > 5;
            let stands = shown.trip.is_tripped();
            if policy == OnError::Retry && many || policy == OnError::Stop && stands {
                let was_mended = mended.swap(true, Ordering::Relaxed);
                assert!(was_mended || sink.len() < 10, "{policy:?}: all behind it wait");
                shown.trip.resume();
            }
            sink.len() == 200
        })
        .await;
        assert_eq!(shown.buried.get(), 0, "{policy:?}");
        assert!(shown.plugin_failures.get() > 0, "{policy:?}");
    }
}
