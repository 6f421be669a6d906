//! Backfills beside the stream, step by step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use model::backfill::{Order, Wanted};
use model::batch::Grouping;
use model::message::Message;
use model::store::{BackfillLimits, BackfillState};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backfill::{Backfills, Initial, InitialTables, Refused, Request};
use crate::fake::log::{Log, Row};
use crate::fake::sink::{Answer, Recording};
use crate::fake::store::Store;
use crate::fake::tables::{Readable, Reading};
use crate::fake::{engine_of, settings, sink_spec, slot_spec};
use crate::run::Engine;
use crate::spec::SinkSpec;

const BUDGET: usize = 64 << 20;

fn asked(sink: &str) -> Request {
    let wanted =
        Wanted { schema: "public".into(), table: "t".into(), ranges: 1, ..Wanted::default() };
    Request { sink: sink.to_owned(), wanted, limits: BackfillLimits::default() }
}

fn preloaded(log: &Log, rows: u64) {
    log.preload((0..rows).map(|key| (key, format!("old {key}"))));
}

fn engine(log: &Log, sinks: Vec<SinkSpec>, store: &Arc<Store>, tables: &Readable) -> Engine {
    let mut slot = slot_spec(log, sinks);
    slot.backfill = Some(tables.source());
    engine_of(log, slot, store, BUDGET, settings()).0
}

fn taking(count: usize) -> Arc<Recording> {
    Recording::new(Grouping::Together, count, |_| Answer::default())
}

/// Waits for it, an hour of the engine's time at most.
async fn until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(900);
    while !done() {
        assert!(Instant::now() < deadline, "it did not happen within an hour of the engine's time");
        tokio::time::sleep_until(Instant::now() + Duration::from_millis(7)).await;
    }
}

/// Runs the engine beside `work`, and stops it in order behind that.
async fn beside(engine: Engine, work: impl AsyncFnOnce(Backfills)) {
    let stop = CancellationToken::new();
    let backfills = engine.handle().backfills().clone();
    let work = async {
        work(backfills).await;
        stop.cancel();
    };
    tokio::join!(engine.run(stop.clone()), work);
}

fn state(store: &Store, index: usize) -> Option<BackfillState> {
    store.backfills().get(index).map(|backfill| backfill.state)
}

/// Actions and keys, in order.
fn told(messages: &[Arc<Message>]) -> Vec<(String, u64)> {
    let tell = |message: &Arc<Message>| {
        let json: serde_json::Value = serde_json::from_str(&message.payload).unwrap();
        let action = json["action"].as_str().unwrap().to_owned();
        (action, json["record"]["id"].as_u64().unwrap())
    };
    messages.iter().map(tell).collect()
}

#[tokio::test(start_paused = true)]
async fn b155_b181_without_writes_each_row_is_read_once() {
    let (log, store, sink) = (Log::new(), Arc::default(), taking(50));
    preloaded(&log, 4_321);
    let tables = Readable::new(&log, |_| Reading::default());
    let engine = engine(&log, vec![sink_spec("a", &sink)], &store, &tables);
    beside(engine, async |backfills| {
        until(|| log.settled()).await;
        let shown = loop {
            match backfills.create(asked("a")).await {
                Ok(shown) => break shown,
                Err(Refused::Missing(_)) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        };
        until(|| state(&store, 0) == Some(BackfillState::Completed)).await;
        let shown = backfills.get("a", &shown.backfill.id).await.unwrap();
        let counts = shown.backfill.counts;
        assert_eq!((counts.read, counts.evicted, counts.delivered), (4_321, 0, 4_321));
        assert_eq!(shown.backfill.rows_estimate, Some(100), "as the server guesses");
    })
    .await;
    let keys: Vec<(String, u64)> = (0..4_321).map(|key| ("read".to_owned(), key)).collect();
    assert_eq!(told(&sink.received()), keys);
}

/// Runs a backfill of five rows of which a page is read; then `meanwhile` is committed, before the
/// mark. What the sink is told, by key.
async fn racing(change: impl FnOnce(&mut SinkSpec), meanwhile: Vec<Row>) -> Vec<(String, u64)> {
    told(&racing_with(change, meanwhile).await)
}

async fn racing_with(change: impl FnOnce(&mut SinkSpec), meanwhile: Vec<Row>) -> Vec<Arc<Message>> {
    let (log, store, sink) = (Log::new(), Arc::<Store>::default(), taking(50));
    preloaded(&log, 5);
    let tables =
        Readable::new(&log, |_| Reading { takes: Duration::from_secs(1), ..Reading::default() });
    let mut spec = sink_spec("a", &sink);
    spec.initial = Initial { tables: InitialTables::All, ..Initial::default() };
    change(&mut spec);
    let engine = engine(&log, vec![spec], &store, &tables);
    beside(engine, async |_| {
        until(|| !tables.asked.lock().unwrap().is_empty()).await;
        // The rows are read after half of the second.
        tokio::time::sleep_until(Instant::now() + Duration::from_millis(700)).await;
        log.commit(meanwhile);
        until(|| state(&store, 0) == Some(BackfillState::Completed) && log.settled()).await;
    })
    .await;
    sink.received()
}

fn pairs(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected.iter().map(|(action, key)| ((*action).to_owned(), *key)).collect()
}

#[tokio::test(start_paused = true)]
async fn b157_a_row_that_was_updated_meanwhile_is_not_read() {
    let told = racing(|_| (), vec![Row::update(2, "new")]).await;
    let expected = [("update", 2), ("read", 0), ("read", 1), ("read", 3), ("read", 4)];
    assert_eq!(told, pairs(&expected));
}

#[tokio::test(start_paused = true)]
async fn b158_a_sink_without_updates_gets_the_row_all_the_same() {
    let no_updates = |spec: &mut SinkSpec| spec.selection.actions.update = false;
    let told = racing(no_updates, vec![Row::update(2, "new")]).await;
    let expected: Vec<(&str, u64)> = (0..5).map(|key| ("read", key)).collect();
    assert_eq!(told, pairs(&expected));
}

#[tokio::test(start_paused = true)]
async fn b159_no_read_follows_a_delete() {
    let told = racing(|_| (), vec![Row::delete(2)]).await;
    let expected = [("delete", 2), ("read", 0), ("read", 1), ("read", 3), ("read", 4)];
    assert_eq!(told, pairs(&expected));
}

#[tokio::test(start_paused = true)]
async fn b160_a_key_change_takes_the_old_and_the_new_row_from_the_page() {
    let told = racing(|_| (), vec![Row::delete(4), Row::moved(2, 4, "moved")]).await;
    let expected = [("delete", 4), ("update", 4), ("read", 0), ("read", 1), ("read", 3)];
    assert_eq!(told, pairs(&expected));
}

#[tokio::test(start_paused = true)]
async fn b159_nothing_is_read_of_a_table_that_was_truncated_meanwhile() {
    let truncates = |spec: &mut SinkSpec| spec.selection.actions.truncate = true;
    let received = racing_with(truncates, vec![Row::truncate()]).await;
    assert_eq!(received.len(), 1, "the truncate alone: {received:?}");
}

/// A page goes in parts while changes come: what comes between two of them takes its rows from the
/// parts behind, and what was delivered of a page that was left in the middle is not told again.
#[tokio::test(start_paused = true)]
async fn b157_b170_b171_a_page_goes_in_parts_while_changes_come() {
    let (log, store) = (Log::new(), Arc::<Store>::default());
    let slow = Answer { after: Duration::from_millis(40), ..Answer::default() };
    let sink = Recording::new(Grouping::Together, 50, move |_| slow.clone());
    let rows = 8_000;
    preloaded(&log, rows);
    let tables = Readable::new(&log, |_| Reading::default());
    let mut key = 0;
    for until_count in [3_000, 5_000, usize::MAX] {
        let engine = engine(&log, vec![sink_spec("a", &sink)], &store, &tables);
        beside(engine, async |backfills| {
            if store.backfills().is_empty() {
                until(|| log.settled()).await;
                backfills.create(asked("a")).await.unwrap();
            }
            let is_complete = || state(&store, 0) == Some(BackfillState::Completed);
            while sink.received().len() < until_count && !is_complete() {
                tokio::time::sleep_until(Instant::now() + Duration::from_millis(35)).await;
                key = (key + 3_331) % rows;
                log.commit(vec![Row::update(key, "new")]);
            }
            if is_complete() {
                until(|| log.settled()).await;
            }
        })
        .await;
    }
    let asked = tables.asked.lock().unwrap().clone();
    let told = told(&sink.received());
    let parts = told.chunk_by(|(a, _), (b, _)| a == b).filter(|part| part[0].0 == "read");
    let (parts_count, pages) = (parts.clone().count(), asked.len());
    assert!(parts_count > pages * 4, "{parts_count} parts, {pages} pages");
    let reads: Vec<u64> = parts.flatten().map(|(_, key)| *key).collect();
    let mut seen = std::collections::HashSet::new();
    assert!(reads.iter().all(|key| seen.insert(*key)), "none is read twice");
    let counts = store.backfills()[0].counts;
    assert_eq!(counts.delivered as usize, reads.len(), "{counts:?}");
    assert!(counts.evicted > 0, "{counts:?}");
    let mut last = BTreeMap::new();
    for message in sink.received() {
        let json: serde_json::Value = serde_json::from_str(&message.payload).unwrap();
        let record = &json["record"];
        last.insert(record["id"].as_u64().unwrap(), record["value"].as_str().unwrap().to_owned());
    }
    let table = log.see(0, |_| false).rows;
    let differs = table.iter().find(|(key, value)| last.get(key) != Some(value));
    assert_eq!(differs, None, "what was told last is the table");
}

/// A transaction that came in the stream before anything was noted, and that the first page does not
/// show: a standby that is behind, or a commit that waits for its standby.
#[tokio::test(start_paused = true)]
async fn b176_b179_a_page_that_shows_less_than_the_stream_brought_is_read_again() {
    for lag in
        [Reading { behind: 4, ..Reading::default() }, Reading { hides: 30, ..Reading::default() }]
    {
        let (log, store, sink) = (Log::new(), Arc::<Store>::default(), taking(50));
        preloaded(&log, 5);
        let mut pages = 0;
        let tables = Readable::new(&log, move |_| {
            pages += 1;
            if pages < 4 { lag } else { Reading::default() }
        });
        let engine = engine(&log, vec![sink_spec("a", &sink)], &store, &tables);
        for _ in 0..3 {
            log.commit(vec![Row::update(2, "new")]);
        }
        beside(engine, async |backfills| {
            until(|| log.settled()).await;
            backfills.create(asked("a")).await.unwrap();
            until(|| state(&store, 0) == Some(BackfillState::Completed)).await;
        })
        .await;
        assert_eq!(tables.asked.lock().unwrap().len(), 4);
        let received = sink.received();
        let last = received.iter().rfind(|message| message.payload.contains("\"id\":2")).unwrap();
        assert!(last.payload.contains("\"new\""), "{}", last.payload);
    }
}

#[tokio::test(start_paused = true)]
async fn b167_a_table_without_a_key_fails_at_once_or_is_read_by_place() {
    let (log, store, sink) = (Log::new(), Arc::<Store>::default(), taking(50));
    preloaded(&log, 5);
    let tables = Readable::new(&log, |_| Reading::default());
    *tables.order.lock().unwrap() = Order::Place;
    let engine = engine(&log, vec![sink_spec("a", &sink)], &store, &tables);
    beside(engine, async |backfills| {
        until(|| log.settled()).await;
        let id = backfills.create(asked("a")).await.unwrap().backfill.id;
        until(|| state(&store, 0) == Some(BackfillState::Failed)).await;
        let error = backfills.get("a", &id).await.unwrap().backfill.error.unwrap();
        assert!(error.starts_with("backfill_no_key: public.t"), "{error}");
        let mut by_place = asked("a");
        by_place.limits.by_place = true;
        backfills.create(by_place).await.unwrap();
        until(|| state(&store, 1) == Some(BackfillState::Completed)).await;
    })
    .await;
    assert_eq!(sink.received().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn b168_a_page_over_the_timeout_is_asked_for_again_with_fewer_rows() {
    let (log, store, sink) = (Log::new(), Arc::<Store>::default(), taking(50));
    preloaded(&log, 700);
    let tables = Readable::new(&log, |ask| {
        let takes = Duration::from_millis(20) * u32::try_from(ask.rows_max).unwrap();
        Reading { takes, ..Reading::default() }
    });
    let engine = engine(&log, vec![sink_spec("a", &sink)], &store, &tables);
    beside(engine, async |backfills| {
        until(|| log.settled()).await;
        backfills.create(asked("a")).await.unwrap();
        until(|| state(&store, 0) == Some(BackfillState::Completed)).await;
    })
    .await;
    let sizes: Vec<usize> = tables.asked.lock().unwrap().iter().map(|ask| ask.rows_max).collect();
    assert_eq!(sizes[..3], [1_000, 500, 250], "20 ms a row, 5 s at most");
    assert_eq!(sink.received().len(), 700);
}

#[tokio::test(start_paused = true)]
async fn b170_b173_paused_resumed_and_cancelled_within_a_page() {
    let (log, store, sink) = (Log::new(), Arc::<Store>::default(), taking(50));
    preloaded(&log, 100_000);
    let tables = Readable::new(&log, |_| Reading {
        takes: Duration::from_millis(400),
        ..Reading::default()
    });
    let engine = engine(&log, vec![sink_spec("a", &sink)], &store, &tables);
    beside(engine, async |backfills| {
        use BackfillState::{Active, Cancelled, Completed, Paused};
        until(|| log.settled()).await;
        let id = backfills.create(asked("a")).await.unwrap().backfill.id;
        until(|| sink.received().len() > 3_000).await;
        backfills.set_state("a", &id, Paused).await.unwrap();
        let refused = backfills.set_state("a", &id, Completed).await;
        assert!(matches!(refused, Err(Refused::Conflict { code: "backfill_state", .. })));
        let pages = tables.asked.lock().unwrap().len();
        let later = Instant::now() + Duration::from_secs(60);
        until(|| Instant::now() > later).await;
        assert!(tables.asked.lock().unwrap().len() <= pages + 1, "the one that was being read");
        let kept = store.backfills()[0].counts;
        assert_eq!(kept.delivered as usize, sink.received().len(), "and settled, and kept");
        backfills.set_state("a", &id, Active).await.unwrap();
        until(|| sink.received().len() > 10_000).await;
        let cancelled = backfills.set_state("a", &id, Cancelled).await.unwrap();
        assert!(cancelled.backfill.ended_us.is_some());
        let refused = backfills.set_state("a", &id, Active).await;
        assert!(matches!(refused, Err(Refused::Conflict { code: "backfill_state", .. })));
        let pages = tables.asked.lock().unwrap().len();
        let later = Instant::now() + Duration::from_secs(60);
        until(|| Instant::now() > later).await;
        assert!(tables.asked.lock().unwrap().len() <= pages + 1);
    })
    .await;
    let mut told = told(&sink.received());
    let count = told.len();
    told.dedup();
    assert_eq!(told.len(), count, "nothing twice");
    assert!(told.iter().map(|(_, key)| *key).eq(0..count as u64), "nothing left out");
}

#[tokio::test(start_paused = true)]
async fn b174_b175_two_sinks_each_get_all_and_one_sink_has_one_at_a_time() {
    let (log, store) = (Log::new(), Arc::<Store>::default());
    let sinks = [taking(50), taking(7)];
    preloaded(&log, 2_500);
    let tables = Readable::new(&log, |_| Reading {
        takes: Duration::from_millis(100),
        ..Reading::default()
    });
    let specs = vec![sink_spec("a", &sinks[0]), sink_spec("b", &sinks[1])];
    let engine = engine(&log, specs, &store, &tables);
    beside(engine, async |backfills| {
        until(|| log.settled()).await;
        backfills.create(asked("a")).await.unwrap();
        backfills.create(asked("b")).await.unwrap();
        let second = backfills.create(asked("a")).await;
        assert!(matches!(second, Err(Refused::Conflict { code: "backfill_exists", .. })));
        let other = Wanted { table: "other".into(), ..asked("a").wanted };
        backfills.create(Request { wanted: other, ..asked("a") }).await.unwrap();
        until(|| store.backfills().iter().all(|one| one.state == BackfillState::Completed)).await;
        backfills.create(asked("a")).await.unwrap();
    })
    .await;
    assert!(sinks[0].received().len() >= 5_000, "of two tables");
    assert_eq!(sinks[1].received().len(), 2_500);
}

#[tokio::test(start_paused = true)]
async fn b180_a_mark_that_never_comes_is_written_again() {
    let (log, store, sink) = (Log::new(), Arc::<Store>::default(), taking(50));
    preloaded(&log, 2_000);
    let tables = Readable::new(&log, |_| Reading { loses_mark: true, ..Reading::default() });
    tables.lose_marks(1);
    let engine = engine(&log, vec![sink_spec("a", &sink)], &store, &tables);
    beside(engine, async |backfills| {
        until(|| log.settled()).await;
        backfills.create(asked("a")).await.unwrap();
        until(|| state(&store, 0) == Some(BackfillState::Completed)).await;
    })
    .await;
    assert_eq!(sink.received().len(), 2_000);
}

#[tokio::test(start_paused = true)]
async fn b180_another_server_has_the_page_read_anew() {
    let (log, store, sink) = (Log::new(), Arc::<Store>::default(), taking(50));
    preloaded(&log, 2_000);
    log.commit(vec![Row::update(5, "new")]);
    let tables =
        Readable::new(&log, |_| Reading { takes: Duration::from_secs(2), ..Reading::default() });
    let engine = engine(&log, vec![sink_spec("a", &sink)], &store, &tables);
    beside(engine, async |backfills| {
        until(|| log.settled()).await;
        backfills.create(asked("a")).await.unwrap();
        until(|| !tables.asked.lock().unwrap().is_empty()).await;
        log.fail_over(1);
        until(|| state(&store, 0) == Some(BackfillState::Completed)).await;
    })
    .await;
    let keys: BTreeMap<u64, String> =
        told(&sink.received()).into_iter().map(|(action, key)| (key, action)).collect();
    assert_eq!(keys.len(), 2_000);
}

#[tokio::test(start_paused = true)]
async fn b172_no_page_is_read_for_a_sink_that_is_paused() {
    let (log, store, sink) = (Log::new(), Arc::<Store>::default(), taking(50));
    preloaded(&log, 10);
    let tables = Readable::new(&log, |_| Reading::default());
    let mut spec = sink_spec("a", &sink);
    spec.paused = true;
    let engine = engine(&log, vec![spec], &store, &tables);
    beside(engine, async |backfills| {
        until(|| log.settled()).await;
        let id = backfills.create(asked("a")).await.unwrap().backfill.id;
        let later = Instant::now() + Duration::from_secs(60);
        until(|| Instant::now() > later).await;
        assert!(tables.asked.lock().unwrap().is_empty());
        let shown = backfills.get("a", &id).await.unwrap();
        assert_eq!(shown.waiting.as_deref(), Some("the sink is paused"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_new_sink_is_filled_once_and_tables_that_come_later_if_it_is_asked_for() {
    let (log, store, sink) = (Log::new(), Arc::<Store>::default(), taking(50));
    preloaded(&log, 10);
    let tables = Readable::new(&log, |_| Reading::default());
    for later in [false, false, true] {
        let mut spec = sink_spec("a", &sink);
        spec.initial = Initial { tables: InitialTables::All, later, ..Initial::default() };
        let engine = engine(&log, vec![spec], &store, &tables);
        beside(engine, async |_| {
            until(|| state(&store, 0) == Some(BackfillState::Completed)).await;
            if later {
                let mut next = tables.named.lock().unwrap()[0].clone();
                next.table = "later".into();
                tables.named.lock().unwrap().push(next);
                until(|| state(&store, 1) == Some(BackfillState::Completed)).await;
            }
        })
        .await;
    }
    assert_eq!(store.backfills().len(), 2);
    assert_eq!(&*store.backfills()[1].wanted.table, "later");
    // A sink that is gone takes its backfills with it, and one of its name is new.
    let none = engine(&log, Vec::new(), &store, &tables);
    beside(none, async |_| {
        use model::store::Backfills as _;
        let deadline = Instant::now() + Duration::from_secs(60);
        while store.begun("a").await.unwrap().is_some() {
            assert!(Instant::now() < deadline);
            tokio::time::sleep_until(Instant::now() + Duration::from_millis(3)).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn b184_a_graceful_stop_in_the_middle_of_a_page_repeats_no_row() {
    let (log, store) = (Log::new(), Arc::<Store>::default());
    let sink = Recording::new(Grouping::Together, 10, |_| Answer {
        after: Duration::from_millis(100),
        ..Answer::default()
    });
    preloaded(&log, 3_000);
    let tables = Readable::new(&log, |_| Reading::default());
    for life in 1..=4 {
        let engine = engine(&log, vec![sink_spec("a", &sink)], &store, &tables);
        beside(engine, async |backfills| {
            if life == 1 {
                until(|| log.settled()).await;
                backfills.create(asked("a")).await.unwrap();
            }
            if life < 4 {
                until(|| sink.received().len() > life * 600).await;
            } else {
                until(|| state(&store, 0) == Some(BackfillState::Completed)).await;
            }
        })
        .await;
    }
    let mut keys: Vec<u64> = told(&sink.received()).into_iter().map(|(_, key)| key).collect();
    assert_eq!(keys.len(), 3_000, "each once");
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 3_000);
    assert_eq!(store.backfills()[0].counts.delivered, 3_000);
}
