//! Dead letters sent again, messages that wait, and traces.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use model::batch::Grouping;
use model::plugin::Outcome;
use model::sink::{Retry, SinkKind};
use model::store::{Edit, LetterId, LetterState};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::desk::DeskError;
use crate::fake::log::{Log, Row};
use crate::fake::plugin::{document, function, named, refusal};
use crate::fake::sink::{Answer, Recording};
use crate::fake::store::Store;
use crate::fake::{engine, sink_spec};
use crate::replay::{Instead, Progress, Selection};
use crate::run::Handle;
use crate::spec::SinkSpec;
use crate::trace::Happened;

const MIB: usize = 1 << 20;

struct World {
    log: Log,
    handle: Handle,
    store: Arc<Store>,
}

impl World {
    async fn commit(&self, rows: Vec<Row>) {
        self.log.commit(rows);
        until(|| self.log.settled()).await;
    }

    async fn replay(&self, letters: &[LetterId]) -> Arc<Progress> {
        let selection = Selection::Letters(letters.to_vec());
        let progress = self.handle.replay("a", selection, None).unwrap();
        until(|| progress.is_done()).await;
        progress
    }

    async fn letters(&self, letters: usize) {
        until(|| self.store.letters().len() == letters).await;
    }
}

async fn until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(3_600);
    while !done() {
        assert!(Instant::now() < deadline, "it did not happen within an hour of the engine's time");
        tokio::time::sleep_until(Instant::now() + Duration::from_millis(5)).await;
    }
}

async fn run(spec: SinkSpec, story: impl AsyncFnOnce(&World)) {
    let (log, store) = (Log::new(), Arc::<Store>::default());
    let (engine, status, _) = engine(&log, vec![spec], &store, MIB);
    let world = World { log, handle: engine.handle(), store };
    let stop = CancellationToken::new();
    let told = async {
        until(|| status.slots.list()[0].connects.get() == 1).await;
        story(&world).await;
        stop.cancel();
    };
    tokio::join!(engine.run(stop.clone()), told);
}

/// Refuses the value `poison` while it is set.
fn picky(kind: SinkKind, refuses: &Arc<AtomicBool>, retry: Retry) -> Arc<Recording> {
    let refuses = Arc::clone(refuses);
    Recording::of_kind(kind, Grouping::Apart, 1, move |batch| {
        let poison = batch.messages()[0].payload.contains("\"value\":\"poison\"");
        let refused = poison && refuses.load(Ordering::Relaxed);
        Answer {
            rejected: if refused { vec![(0, retry)] } else { Vec::new() },
            ..Answer::default()
        }
    })
}

fn payloads(sink: &Recording) -> Vec<String> {
    sink.received().iter().map(|message| message.payload.to_string()).collect()
}

const LATER: Retry = Retry::Later { after: None };

#[tokio::test(start_paused = true)]
async fn b235_a_failing_message_is_shown_and_tried_or_discarded_now() {
    let refuses = Arc::new(AtomicBool::new(true));
    let sink = picky(SinkKind::Log, &refuses, LATER);
    run(sink_spec("a", &sink), async |world| {
        world.log.commit(vec![
            Row::update(1, "poison"),
            Row::update(2, "poison"),
            Row::update(2, "x"),
        ]);
        until(|| sink.requests().len() >= 12).await;
        let waiting = world.handle.waiting("a", 10).await.unwrap();
        let [first, second] = &waiting[..] else { panic!("{waiting:?}") };
        assert!(first.attempts >= 5, "{first:?}");
        assert_eq!(first.last_error.as_deref(), Some("no"));
        assert!(first.next_retry.unwrap() > Duration::from_secs(5), "{first:?}");
        assert!(first.message.payload.contains("poison"));
        // What is no message changes nothing.
        let nonsense = Edit::Message("{}".to_owned());
        let edited = world.handle.edit_now("a", first.id, nonsense).await;
        assert!(edited.unwrap_err().to_string().contains("no message that could be sent"));
        assert_eq!(world.handle.waiting("a", 10).await.unwrap().len(), 2);
        assert!(world.store.letters().is_empty());
        // Now, and not when its time is over.
        let (id, before) = (first.id, Instant::now());
        refuses.store(false, Ordering::Relaxed);
        assert_eq!(world.handle.retry_now("a", Some(id)).await.unwrap(), 1);
        until(|| sink.len() == 1).await;
        assert!(before.elapsed() < Duration::from_secs(1), "{:?}", before.elapsed());
        world.handle.discard_now("a", second.id, "a test row").await.unwrap();
        until(|| sink.len() == 2).await;
        assert!(
            before.elapsed() < Duration::from_secs(1),
            "the group goes on: {:?}",
            before.elapsed()
        );
        let letters = world.store.letters();
        let [letter] = &letters[..] else { panic!("{letters:?}") };
        assert_eq!(letter.error, "discarded by hand: a test row; last error: no");
        assert_eq!(world.handle.waiting("a", 10).await.unwrap().len(), 0);
        let gone = world.handle.discard_now("a", id, "again").await;
        assert_eq!(gone, Err(DeskError::NoMessage));
        let Err(error) = world.handle.waiting("nope", 10).await else { panic!("it runs") };
        assert_eq!(error.to_string(), "no sink `nope` runs; these do: a");
        until(|| world.log.settled()).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn b122_a_letter_has_its_row_and_is_sent_again_in_its_place() {
    let refuses = Arc::new(AtomicBool::new(true));
    let sink = picky(SinkKind::Log, &refuses, Retry::Never);
    run(sink_spec("a", &sink), async |world| {
        world.commit(vec![Row::update(1, "poison")]).await;
        world.commit(vec![Row::update(1, "newer")]).await;
        let letter = world.store.letters().remove(0);
        assert_eq!((&*letter.table, &*letter.config), ("public.t", "config"));
        assert!(
            letter.input.contains("\"columns\":["),
            "the types of its columns: {}",
            letter.input
        );
        let again = world.replay(&[1]).await;
        assert_eq!((again.failed.get(), again.delivered.get()), (1, 0));
        assert_eq!(world.store.letters()[0].attempts, 2);
        refuses.store(false, Ordering::Relaxed);
        let again = world.replay(&[1]).await;
        assert_eq!((again.failed.get(), again.delivered.get()), (0, 1));
        assert_eq!(world.store.state_of(1), LetterState::Replayed);
        let messages = sink.received();
        let replayed = messages.last().unwrap();
        assert_eq!(replayed.position, letter.position);
        let key = model::message::idempotency_key(letter.position, 0);
        assert_eq!(replayed.idempotency_key, key);
        assert!(
            replayed.payload.contains("\"metadata\":{\"replay\":true,"),
            "{}",
            replayed.payload
        );
        assert!(!messages[0].payload.contains("replay"));
        assert_eq!(messages[0].groups, replayed.groups, "behind what waits of its row");
        assert_eq!(world.store.letters().len(), 1);
        // What is closed stays so.
        assert_eq!(world.replay(&[1]).await.left.get(), 1);
        assert_eq!(sink.len(), 2);
    })
    .await;
}

/// An index never goes back: whether the newer state is there already, or on its way.
#[tokio::test(start_paused = true)]
async fn b122_a_letter_of_a_state_sink_is_superseded_by_what_is_newer() {
    let refuses = Arc::new(AtomicBool::new(true));
    let sink = picky(SinkKind::State, &refuses, Retry::Never);
    run(sink_spec("a", &sink), async |world| {
        world.commit(vec![Row::update(1, "poison"), Row::update(2, "poison")]).await;
        world.commit(vec![Row::update(1, "newer")]).await;
        assert_eq!(world.store.state_of(1), LetterState::Superseded);
        assert_eq!(world.store.state_of(2), LetterState::Open);
        refuses.store(false, Ordering::Relaxed);
        let again = world.replay(&[1, 2]).await;
        assert_eq!((again.superseded.get(), again.delivered.get()), (1, 1));
        let values = payloads(&sink);
        assert_eq!(values.len(), 2);
        assert!(values[0].contains("newer") && values[1].contains("\"id\":\"2\""), "{values:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn b122_newer_state_on_its_way_supersedes_a_letter_too() {
    let refuses = Arc::new(AtomicBool::new(true));
    let (flag, slow) = (Arc::clone(&refuses), Duration::from_secs(60));
    let sink = Recording::of_kind(SinkKind::State, Grouping::Apart, 1, move |batch| {
        let poison = batch.messages()[0].payload.contains("poison");
        let refused = poison && flag.load(Ordering::Relaxed);
        let rejected = if refused { vec![(0, Retry::Never)] } else { Vec::new() };
        Answer { rejected, after: if refused { Duration::ZERO } else { slow }, ..Answer::default() }
    });
    run(sink_spec("a", &sink), async |world| {
        world.commit(vec![Row::update(1, "poison")]).await;
        refuses.store(false, Ordering::Relaxed);
        world.log.commit(vec![Row::update(1, "newer")]);
        tokio::time::sleep_until(Instant::now() + Duration::from_secs(1)).await;
        assert_eq!(world.store.state_of(1), LetterState::Open, "it is not there yet");
        assert_eq!(world.replay(&[1]).await.superseded.get(), 1);
        until(|| world.log.settled()).await;
        assert_eq!(payloads(&sink).len(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_row_runs_through_the_functions_as_they_are_now_or_through_another_version() {
    let works = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&works);
    let sink = Recording::willing();
    let mut spec = sink_spec("a", &sink);
    spec.transforms = vec![function(move |_| {
        if flag.load(Ordering::Relaxed) {
            Ok(Outcome::Replace(document("{\"v\":1}")))
        } else {
            refusal()
        }
    })];
    run(spec, async |world| {
        world.commit(vec![Row::update(1, "x"), Row::update(2, "y"), Row::update(3, "z")]).await;
        world.letters(3).await;
        let dry = async |instead: Option<&Instead>| {
            let told =
                world.handle.dry_run("a", Selection::Letters(vec![1]), instead).await.unwrap();
            (told[0].verdict, told[0].messages.concat())
        };
        assert_eq!(dry(None).await.0, "fail");
        let instead = |name, outcome: fn() -> Outcome| Instead {
            function: String::from(name),
            plugin: named("f", move |_| Ok(outcome())),
        };
        let two = instead("f", || Outcome::Replace(document("{\"v\":2}")));
        let (verdict, messages) = dry(Some(&two)).await;
        assert_eq!(verdict, "send");
        assert!(messages.contains("\"payload\":{\"v\":2}"), "{messages}");
        assert_eq!(
            (sink.len(), world.store.state_of(1)),
            (0, LetterState::Open),
            "nothing is done"
        );
        let none = instead("g", || Outcome::Keep);
        let refused = world.handle.replay("a", Selection::Letters(vec![1]), Some(&none));
        assert!(matches!(refused, Err(DeskError::Refused(_))));
        let through = world.handle.replay("a", Selection::Letters(vec![1]), Some(&two)).unwrap();
        until(|| through.is_done()).await;
        assert_eq!(payloads(&sink), ["{\"v\":2}"]);
        let drops = instead("f", || Outcome::Drop);
        let through = world.handle.replay("a", Selection::Letters(vec![2]), Some(&drops)).unwrap();
        until(|| through.is_done()).await;
        assert_eq!((through.filtered.get(), world.store.state_of(2)), (1, LetterState::Replayed));
        works.store(true, Ordering::Relaxed);
        let all = Selection::Like(model::store::LetterQuery::default());
        let all = world.handle.replay("a", all, None).unwrap();
        until(|| all.is_done()).await;
        assert_eq!((all.selected.get(), all.delivered.get()), (1, 1), "what is open");
        assert_eq!(payloads(&sink), ["{\"v\":2}", "{\"v\":1}"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_was_edited_is_sent() {
    let refuses = Arc::new(AtomicBool::new(true));
    let sink = picky(SinkKind::State, &refuses, Retry::Never);
    run(sink_spec("a", &sink), async |world| {
        world.commit(vec![Row::update(1, "poison"), Row::update(2, "poison")]).await;
        let letters = world.store.letters();
        let input = letters[0].input.replace("\"value\":\"poison\"", "\"value\":\"cured\"");
        world.handle.edit_letter(1, Edit::Input(input)).await.unwrap();
        let message = letters[1].message.as_ref().unwrap().replace("poison", "mended");
        world.handle.edit_letter(2, Edit::Message(message)).await.unwrap();
        for bad in [Edit::Input("{}".into()), Edit::Message("{}".into())] {
            assert!(world.handle.edit_letter(1, bad).await.is_err());
        }
        assert_eq!(world.replay(&[1, 2]).await.delivered.get(), 2);
        let sent = payloads(&sink).concat();
        assert!(sent.contains("cured") && sent.contains("mended"), "{sent}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn b236_a_trace_shows_input_output_and_answer_of_the_next_rows() {
    let refuses = Arc::new(AtomicBool::new(true));
    let sink = picky(SinkKind::Log, &refuses, Retry::Never);
    run(sink_spec("a", &sink), async |world| {
        world.commit(vec![Row::update(1, "before")]).await;
        world.handle.trace("a", 2, Duration::from_secs(60)).unwrap();
        world.commit(vec![Row::update(2, "x"), Row::update(3, "poison")]).await;
        world.commit(vec![Row::update(4, "third")]).await;
        let (events, _) = world.handle.traced("a", 0).unwrap();
        let mut told: Vec<String> = Vec::new();
        for event in &events {
            told.push(match &event.what {
                Happened::Input(text) => format!("in {}", text.contains("\"columns\"")),
                Happened::Output(output, text) => {
                    format!("out {output} {}", text.contains("payload"))
                }
                Happened::Request(request) => request.method.clone(),
                Happened::Nothing(text) => text.clone(),
                Happened::Sent { verdict, .. } => verdict.clone(),
            });
        }
        told.sort();
        let (in_true, out) = ("in true", "out 0 true");
        assert_eq!(told, ["POST", "POST", "delivered", in_true, in_true, "no", out, out]);
        let last = events.last().unwrap().number;
        assert_eq!(world.handle.traced("a", last).unwrap().0, []);
        world.handle.trace("a", 0, Duration::ZERO).unwrap();
        world.commit(vec![Row::update(5, "y")]).await;
        assert_eq!(world.handle.traced("a", last).unwrap(), (Vec::new(), false));
    })
    .await;
}
