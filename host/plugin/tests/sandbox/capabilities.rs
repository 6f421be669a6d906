//! What a plugin is granted: nothing by default, what is written, and within bounds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::BoxFuture;
use model::grants::{
    CallError, Capability, Clock, Failure, FoundRow, Grants, Http, HttpRequest, HttpResponse,
    KeyValue, Random, ReadRows, RowsQuery, Secrets, Writes,
};
use model::plugin::{Fault, Outcome, Plugin, PluginError};
use plugin::{Error, Limits, Role};

use crate::support::{all_told, bind, cached, component, host, named};

/// Stands for all that is outside.
#[derive(Default)]
struct Outside {
    stored: Mutex<BTreeMap<String, Vec<u8>>>,
    sent: Mutex<Vec<String>>,
}

impl Clock for Outside {
    fn now_us(&self) -> Result<i64, CallError> {
        Ok(1_700_000_000_000_000)
    }
}

impl Random for Outside {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), CallError> {
        bytes.fill(7);
        Ok(())
    }
}

impl Secrets for Outside {
    fn get(&self, name: &str) -> Result<String, CallError> {
        let known = (name == "token").then(|| "hunter2".to_owned());
        known.ok_or_else(|| CallError::new(Failure::Denied, "no such secret"))
    }
}

impl KeyValue for Outside {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, CallError>> {
        Box::pin(async move { Ok(self.stored.lock().unwrap().get(key).cloned()) })
    }

    fn write(&self, writes: Writes) -> BoxFuture<'_, Result<(), CallError>> {
        Box::pin(async move {
            let mut stored = self.stored.lock().unwrap();
            for (key, value) in writes {
                match value {
                    Some(value) => stored.insert(key, value),
                    None => stored.remove(&key),
                };
            }
            Ok(())
        })
    }
}

impl Http for Outside {
    fn send(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, CallError>> {
        Box::pin(async move {
            if request.url.ends_with("/hang") {
                std::future::pending::<()>().await;
            }
            self.sent.lock().unwrap().push(request.method);
            Ok(HttpResponse { status: 200, headers: Vec::new(), body: request.body })
        })
    }
}

impl ReadRows for Outside {
    fn rows(&self, query: RowsQuery) -> BoxFuture<'_, Result<Vec<Option<FoundRow>>, CallError>> {
        let one =
            |key: &Vec<String>| (key[0] != "9").then(|| vec![Some(format!("row {}", key[0]))]);
        Box::pin(async move { Ok(query.keys.iter().map(one).collect()) })
    }
}

fn all(outside: &Arc<Outside>) -> Grants {
    Grants {
        clock: Some(Arc::<Outside>::clone(outside)),
        random: Some(Arc::<Outside>::clone(outside)),
        secrets: Some(Arc::<Outside>::clone(outside)),
        kv: Some(Arc::<Outside>::clone(outside)),
        http: Some(Arc::<Outside>::clone(outside)),
        lookup: Some(Arc::<Outside>::clone(outside)),
    }
}

const CONFIG: &str = r#"{"column": "name"}"#;

fn asks(outside: &Arc<Outside>) -> Arc<dyn Plugin> {
    let program = host().load(&component("asks")).unwrap();
    let grants = all(outside);
    host().bind_granted("asks", &program, Role::Transform, "", CONFIG, grants).unwrap().plugin
}

fn answers(outcomes: &[Result<Outcome, PluginError>]) -> Vec<String> {
    let answer = |told: String| match told.strip_prefix("set answer=") {
        Some(json) => serde_json::from_str(json).unwrap(),
        None => told,
    };
    all_told(outcomes).into_iter().map(answer).collect()
}

#[tokio::test]
async fn b269_each_capability_answers_once_it_is_granted() {
    let outside = Arc::default();
    let plugin = asks(&outside);
    let rows = [
        "clock",
        "random 3",
        "secret token",
        "secret other",
        "http GET https://a.test/",
        "rows public.t name id 1 9",
        "put a 1; get a; delete a; get a",
    ];
    let expected = [
        "1700000000000000",
        "[7, 7, 7]",
        "hunter2",
        "Denied: no such secret",
        "200 ping",
        "[Some([Some(\"row 1\")]), None]",
        "put; 1; deleted; nothing",
    ];
    assert_eq!(answers(&plugin.run(named(&rows)).await), expected);
    assert!(!plugin.is_deterministic(), "what it gives depends on more than its rows");
    assert!(bind("public-rows", Role::Filter, r#"{"column": "a"}"#).is_deterministic());
}

#[test]
fn b269_without_its_grants_a_plugin_is_refused_with_the_import_named() {
    let program = host().load(&component("asks")).unwrap();
    assert_eq!(program.contract(), "0.2");
    assert_eq!(program.imported(), Capability::ALL);
    let refused = |grants: Grants| {
        let bound = host().bind_granted("asks", &program, Role::Transform, "", CONFIG, grants);
        bound.map(|_| ()).unwrap_err().to_string()
    };
    let error = refused(Grants::default());
    assert!(error.contains("(it imports sequin:plugin/clock@0.2.0)"), "{error}");
    assert!(error.contains("`lookup`") && error.contains("`grants`"), "{error}");
    let outside = Arc::default();
    let error = refused(Grants { http: None, ..all(&outside) });
    assert!(error.contains("`http` (it imports sequin:plugin/http@0.2.0)"), "{error}");
    assert!(!error.contains("clock"), "{error}");
}

#[test]
fn b269_a_grant_that_nobody_wants_is_told_and_not_given() {
    let program = host().load(&component("public-rows")).unwrap();
    let (outside, config) = (Arc::default(), r#"{"column": "a"}"#);
    let bound = host().bind_granted("public", &program, Role::Filter, "", config, all(&outside));
    let bound = bound.unwrap();
    assert_eq!(bound.unused, Capability::ALL);
    assert!(bound.plugin.is_deterministic());
    // One of 0.1 that wants what there is: by its name alone.
    let program = host().load(&component("wants-everything")).unwrap();
    let bound = host().bind_granted("greedy", &program, Role::Filter, "", "{}", all(&outside));
    let Err(Error::Capabilities { wanted, .. }) = bound.map(|_| ()) else { panic!() };
    assert!(wanted.contains("`files`, which no plugin can be granted"), "{wanted}");
    assert!(!wanted.contains("clock"), "{wanted}");
}

#[tokio::test]
async fn what_is_written_to_the_store_stays_only_if_the_whole_batch_was_good() {
    let outside: Arc<Outside> = Arc::default();
    let plugin = asks(&outside);
    let outcomes = answers(&plugin.run(named(&["put a 1", "put b 2; trap", "get a"])).await);
    assert!(outcomes[1].starts_with("plugin_trap"), "{outcomes:?}");
    // The batch failed, and its rows ran again one by one.
    assert_eq!(outcomes[2], "1", "what the first row wrote when it ran alone");
    let stored: Vec<String> = outside.stored.lock().unwrap().keys().cloned().collect();
    assert_eq!(stored, ["a"], "nothing of the row that failed");
    let large = ["large a 65537", "large a 65536", "put \u{20}x"];
    let told = answers(&plugin.run(named(&large)).await);
    assert!(told[0].starts_with("TooLarge: a value of 65537 bytes"), "{told:?}");
    assert_eq!(told[1], "put");
    let long = format!("get {}", "k".repeat(257));
    let told = answers(&plugin.run(named(&[&long])).await);
    assert!(told[0].starts_with("TooLarge: a key of 257 bytes"), "{told:?}");
}

#[tokio::test]
async fn b265_calls_of_a_batch_are_counted_and_further_ones_fail() {
    let plugin = asks(&Arc::default());
    let told = answers(&plugin.run(named(&["flood 1500", "clock"])).await);
    assert_eq!(told[0], "500 failed");
    assert!(told[1].starts_with("Exhausted: "), "{told:?}");
    let told = answers(&plugin.run(named(&["clock"])).await);
    assert_eq!(told, ["1700000000000000"], "the next batch has its own");
}

#[tokio::test]
async fn b265_a_call_that_hangs_ends_with_the_time_of_the_batch_and_fails_its_row_alone() {
    let limits = Limits {
        wait_max: Duration::from_millis(300),
        row_wait_max: Duration::from_millis(100),
        ..Limits::default()
    };
    let host = cached(limits);
    let program = host.load(&component("asks")).unwrap();
    let outside = Arc::default();
    let bound =
        host.bind_granted("asks", &program, Role::Transform, "", CONFIG, all(&outside)).unwrap();
    let rows = ["clock", "http GET https://a.test/hang", "clock"];
    let begun = tokio::time::Instant::now();
    let outcomes = bound.plugin.run(named(&rows)).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let error = outcomes[1].as_ref().unwrap_err();
    assert_eq!(error.fault, Fault::Deadline);
    assert!(error.message.contains("no answer within 100 ms"), "{error}");
    let told = answers(&outcomes);
    assert_eq!([&*told[0], &*told[2]], ["1700000000000000"; 2]);
}

/// As many plugins hang as would take all threads, and one that is granted nothing goes on.
#[tokio::test]
async fn b265_plugins_that_wait_hold_up_no_others() {
    let host = cached(Limits { wait_max: Duration::from_secs(60), ..Limits::default() });
    let program = host.load(&component("asks")).unwrap();
    let outside = Arc::default();
    let mut hanging = tokio::task::JoinSet::new();
    for n in 0..6 {
        let (name, grants) = (format!("asks-{n}"), all(&outside));
        let bound = host.bind_granted(&name, &program, Role::Transform, "", CONFIG, grants);
        let plugin = bound.unwrap().plugin;
        hanging.spawn(async move { plugin.run(named(&["http GET https://a.test/hang"])).await });
    }
    let program = host.load(&component("public-rows")).unwrap();
    let config = r#"{"column": "is_public"}"#;
    let calm = host.bind("calm", &program, Role::Filter, "", config).unwrap();
    let run = tokio::time::timeout(Duration::from_secs(20), calm.run(named(&["a"]))).await;
    assert_eq!(run.unwrap().len(), 1);
    hanging.abort_all();
}

#[tokio::test]
async fn in_the_shadow_nothing_outside_is_changed() {
    let outside: Arc<Outside> = Arc::default();
    let program = host().load(&component("asks")).unwrap();
    let bound =
        host().bind_aside("asks", &program, Role::Transform, "", CONFIG, all(&outside)).unwrap();
    let rows = ["put a 1; get a", "http POST https://a.test/", "http GET https://a.test/"];
    let told = answers(&bound.plugin.run(named(&rows)).await);
    assert_eq!(told[0], "put; 1");
    assert!(told[1].starts_with("Denied: a plugin in the shadow"), "{told:?}");
    assert_eq!(told[2], "200 ping");
    assert!(outside.stored.lock().unwrap().is_empty());
    assert_eq!(*outside.sent.lock().unwrap(), ["GET"]);
}
