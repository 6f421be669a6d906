use model::message::{Effect, Message};
use model::route::RouteValue;
use options::typesense::DirtyValues;
use std::sync::Arc;

use super::*;
use crate::conformance::fake::{Answer, Fake, Seen};
use crate::conformance::{BATCHING, harmless, message, typesense, typesense_well, writes};

fn sink(fake: &Fake) -> Typesense {
    Typesense::new(http::client(crate::Guard::Off).unwrap(), typesense(&fake.url), BATCHING)
        .unwrap()
}

fn with_action(fake: &Fake, action: Action) -> Typesense {
    let options = Ready { action, ..typesense(&fake.url) };
    Typesense::new(http::client(crate::Guard::Off).unwrap(), options, BATCHING).unwrap()
}

fn batch(messages: impl IntoIterator<Item = Arc<Message>>) -> Batch {
    Batch::new(messages.into_iter().collect()).unwrap()
}

fn with_key(key: Option<&str>) -> Arc<Message> {
    let message = (*message(1, Effect::Remove)).clone();
    Arc::new(Message { key: key.map(Into::into), ..message })
}

fn later(error: &str) -> Verdict {
    Verdict::Rejected { retry: Retry::Later { after: None }, error: error.to_owned() }
}

#[tokio::test]
async fn writes_are_one_import_of_lines() {
    let fake = Fake::start(typesense_well).await;
    let pretty = Message {
        payload: "{\n  \"id\": \"2\"\r\n}".into(),
        ..(*message(2, Effect::Write)).clone()
    };
    let batch = batch([message(1, Effect::Write), Arc::new(pretty)]);
    let verdicts = sink(&fake).deliver(&batch).await.unwrap();
    assert_eq!(verdicts, [Verdict::Delivered, Verdict::Delivered]);
    let [seen] = &fake.seen()[..] else { panic!() };
    assert_eq!(seen.method, "POST");
    assert_eq!(seen.path, "/collections/poi/documents/import?action=emplace");
    assert_eq!(seen.header("content-type"), ["text/plain"]);
    assert_eq!(seen.header("x-typesense-api-key"), ["hunter2"]);
    let lines: Vec<_> = seen.body.lines().collect();
    assert_eq!(lines, [r#"{"id":"1","name":"row-data-1"}"#, r#"{   "id": "2"  }"#]);
}

#[tokio::test]
async fn documents_fail_alone_and_without_their_data() {
    let fake = Fake::start(typesense_well).await;
    fake.next(Answer::new(
        200,
        concat!(
            "{\"success\":true}\n",
            "{\"code\":400,\"document\":\"{\\\"name\\\":\\\"row-data-2\\\"}\",",
            "\"error\":\"Field `n` must be an int32.\",\"success\":false}\n",
            "{\"success\":true}"
        ),
    ));
    let verdicts = sink(&fake).deliver(&writes(1..=3)).await.unwrap();
    let failed = later("Field `n` must be an int32.");
    assert_eq!(verdicts, [Verdict::Delivered, failed, Verdict::Delivered]);
}

#[tokio::test]
async fn an_import_that_does_not_answer_every_document_is_tried_again() {
    let line = r#"{"success":true}"#;
    let flood = format!("{line}\n").repeat(10_000);
    let answers = ["", line, &format!("{line}\n{line}\n{line}"), "<html>", "{}\n{}", &flood];
    for answer in answers {
        let fake = Fake::start(typesense_well).await;
        fake.next(Answer::new(200, answer));
        harmless(answer, sink(&fake).deliver(&writes(1..=2)).await);
    }
}

#[tokio::test]
async fn b149_delete_of_an_absent_document_is_success() {
    let fake =
        Fake::start(|_| Answer::new(404, r#"{"message": "Could not find a document with id: 1"}"#))
            .await;
    let verdicts = sink(&fake).deliver(&batch([with_key(Some("1"))])).await.unwrap();
    assert_eq!(verdicts, [Verdict::Delivered]);
    // An absent collection is another matter.
    for said in ["Not Found", "Collection not found"] {
        fake.next(Answer::new(404, &format!(r#"{{"message": "{said}"}}"#)));
        let error = harmless(said, sink(&fake).deliver(&batch([with_key(Some("1"))])).await);
        assert!(error.message.contains("create the collection `poi`"), "{error}");
    }
}

#[tokio::test]
async fn ids_and_collections_are_encoded() {
    let fake = Fake::start(typesense_well).await;
    let options = Ready { collection_name: "a/b c".to_owned(), ..typesense(&fake.url) };
    let sink = Typesense::new(http::client(crate::Guard::Off).unwrap(), options, BATCHING).unwrap();
    sink.deliver(&batch([with_key(Some("a/b c?é#%"))])).await.unwrap();
    let [seen] = &fake.seen()[..] else { panic!() };
    assert_eq!(seen.method, "DELETE");
    let path = "/collections/a%2Fb%20c/documents/a%2Fb%20c%3F%C3%A9%23%25?ignore_not_found=true";
    assert_eq!(seen.path, path);
}

/// A filter says them, a path cannot.
#[tokio::test]
async fn an_id_of_dots_does_not_remove_the_collection() {
    let fake = Fake::start(typesense_well).await;
    for key in [Some(""), None] {
        let verdicts = sink(&fake).deliver(&batch([with_key(key)])).await.unwrap();
        let [Verdict::Rejected { retry: Retry::Never, .. }] = &verdicts[..] else {
            panic!("{key:?}")
        };
    }
    assert_eq!(fake.seen().len(), 0);
    for key in ["..", "."] {
        let verdicts = sink(&fake).deliver(&batch([with_key(Some(key))])).await.unwrap();
        assert_eq!(verdicts, [Verdict::Delivered]);
        let seen = fake.seen().pop().unwrap();
        let path = format!("/collections/poi/documents?filter_by=id%3A%5B%60{key}%60%5D");
        assert_eq!(seen.path, path);
        fake.next(Answer::new(400, "{}"));
        let before = fake.seen().len();
        let verdicts = sink(&fake).deliver(&batch([with_key(Some(key))])).await.unwrap();
        let [Verdict::Rejected { retry: Retry::Never, .. }] = &verdicts[..] else { panic!() };
        assert_eq!(fake.seen().len(), before + 1, "only the filter was sent");
    }
    for key in ["...", ".a", "%2E%2E"] {
        sink(&fake).deliver(&batch([with_key(Some(key))])).await.unwrap();
        let seen = fake.seen().pop().unwrap();
        assert!(seen.path.starts_with("/collections/poi/documents/"), "{seen:?}");
    }
}

fn removals(keys: &[&str]) -> Batch {
    let message = |(number, key): (u64, &&str)| {
        let message = (*message(number, Effect::Remove)).clone();
        Arc::new(Message { key: Some((*key).into()), ..message })
    };
    batch((1..).zip(keys).map(message))
}

#[tokio::test]
async fn many_removals_are_few_requests() {
    let fake = Fake::start(typesense_well).await;
    let keys: Vec<String> =
        (0..1000).map(|n| format!("{n:08}-0000-4000-8000-000000000000")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let verdicts = sink(&fake).deliver(&removals(&keys)).await.unwrap();
    assert_eq!(verdicts, vec![Verdict::Delivered; 1000]);
    let seen = fake.seen();
    assert_eq!(seen.len(), 10);
    for seen in &seen {
        assert_eq!(seen.method, "DELETE");
        assert!(seen.path.len() < 7000, "fits where 8 KB do: {}", seen.path.len());
    }
    let all: String = seen.iter().map(|seen| seen.path.as_str()).collect();
    assert!(keys.iter().all(|key| all.contains(&format!("%60{key}%60"))));
}

/// What a filter might read otherwise goes by itself, in a path.
#[tokio::test]
async fn b098_only_plain_ids_are_removed_by_a_filter() {
    let fake = Fake::start(typesense_well).await;
    let odd = ["a b", " a", "a`", "a,b", "a\\", "*", "[a]", "é", "a&&b", "!a", "\"", "a%"];
    let mut keys = odd.to_vec();
    keys.extend(["7", "8:de"]);
    let verdicts = sink(&fake).deliver(&removals(&keys)).await.unwrap();
    assert_eq!(verdicts, vec![Verdict::Delivered; keys.len()]);
    let seen = fake.seen();
    assert_eq!(seen.len(), odd.len() + 1);
    let filters: Vec<_> = seen.iter().filter(|seen| seen.path.contains("filter_by")).collect();
    let [filter] = &filters[..] else { panic!("{filters:?}") };
    assert!(filter.path.ends_with("filter_by=id%3A%5B%607%60%2C%608%3Ade%60%5D"), "{filter:?}");
}

/// A server that knows no such filter loses nothing but speed.
#[tokio::test]
async fn a_refused_filter_becomes_single_removals() {
    let fake = Fake::start(|seen| match seen.path.contains("filter_by") {
        true => Answer::new(400, r#"{"message":"Could not parse the filter query."}"#),
        false => typesense_well(seen),
    })
    .await;
    let verdicts = sink(&fake).deliver(&removals(&["1", "2", "3"])).await.unwrap();
    assert_eq!(verdicts, vec![Verdict::Delivered; 3]);
    assert_eq!(fake.seen().len(), 4);
}

#[tokio::test]
async fn writes_and_removals_share_a_batch_and_keep_their_verdicts() {
    let fake = Fake::start(|seen: &Seen| match seen.path.contains("/documents/a%20b?") {
        true => Answer::new(500, "{\"message\":\"Could not find a leader.\"}"),
        false => typesense_well(seen),
    })
    .await;
    let effects = [Effect::Remove, Effect::Write, Effect::Write, Effect::Remove, Effect::Remove];
    let mut messages: Vec<_> =
        (1..).zip(effects).map(|(number, effect)| message(number, effect)).collect();
    messages[3] = with_key(Some("a b"));
    let verdicts = sink(&fake).deliver(&batch(messages)).await.unwrap();
    let [first, second, third, fourth, fifth] = &verdicts[..] else { panic!("{verdicts:?}") };
    for verdict in [first, second, third, fifth] {
        assert_eq!(*verdict, Verdict::Delivered);
    }
    let Verdict::Rejected { retry: Retry::Later { .. }, error } = fourth else { panic!() };
    assert!(error.contains("Could not find a leader."), "{error}");
    assert_eq!(fake.seen().len(), 3);
}

/// The messages that a router sent elsewhere, to `name` with `action`; empty: not given.
fn routed(number: u64, effect: Effect, name: &str, action: &str) -> Arc<Message> {
    let keys = [("collection_name", name), ("action", action)];
    let given = keys.into_iter().filter(|(_, value)| !value.is_empty());
    let keys = given.map(|(key, value)| (key.into(), RouteValue::Text(value.into())));
    let route = Some(Arc::new(Route::new(keys)));
    Arc::new(Message { route, ..(*message(number, effect)).clone() })
}

#[tokio::test]
async fn b109_a_route_names_collection_and_action_of_each_message() {
    let fake = Fake::start(typesense_well).await;
    let messages = [
        routed(1, Effect::Write, "poi_de", ""),
        message(2, Effect::Write),
        routed(3, Effect::Write, "poi_fr", "index"),
        routed(4, Effect::Write, "poi_de", "delete"),
        routed(5, Effect::Write, "poi_de", ""),
        // There is nothing left to index.
        routed(6, Effect::Remove, "poi_de", "index"),
        routed(7, Effect::Write, "", "delete"),
    ];
    let verdicts = sink(&fake).deliver(&batch(messages)).await.unwrap();
    assert_eq!(verdicts, vec![Verdict::Delivered; 7]);
    let seen: Vec<_> =
        fake.seen().into_iter().map(|seen| (seen.path, seen.body.lines().count())).collect();
    let import =
        |name: &str, lines| (format!("/collections/{name}/documents/import?action=emplace"), lines);
    let filter = "/collections/poi_de/documents?filter_by=id%3A%5B%604%60%2C%606%60%5D".to_owned();
    let single = "/collections/poi/documents/7?ignore_not_found=true".to_owned();
    assert_eq!(
        seen,
        [import("poi", 1), import("poi_de", 2), import("poi_fr", 1), (single, 0), (filter, 0)]
    );
}

#[tokio::test]
async fn b110_a_bad_route_fails_alone_with_its_key() {
    let fake = Fake::start(typesense_well).await;
    let messages = [message(1, Effect::Write), routed(2, Effect::Write, "", "upsert")];
    let verdicts = sink(&fake).deliver(&batch(messages)).await.unwrap();
    let [Verdict::Delivered, Verdict::Rejected { retry: Retry::Never, error }] = &verdicts[..]
    else {
        panic!("{verdicts:?}")
    };
    assert!(error.contains("`action`"), "{error}");
    let route = Route::new([("topic".into(), RouteValue::Integer(1))]);
    assert_eq!(&*sink(&fake).check_route(&route).unwrap_err().field, "topic");
}

/// A collection that is not there holds back no other.
#[tokio::test]
async fn a_collection_that_is_away_fails_alone() {
    let fake = Fake::start(|seen| match seen.path.starts_with("/collections/gone/") {
        true => Answer::new(404, r#"{"message": "Not Found"}"#),
        false => typesense_well(seen),
    })
    .await;
    let messages = [
        routed(1, Effect::Write, "gone", ""),
        message(2, Effect::Write),
        routed(3, Effect::Remove, "gone", ""),
        message(4, Effect::Remove),
    ];
    let verdicts = sink(&fake).deliver(&batch(messages)).await.unwrap();
    for (index, verdict) in verdicts.iter().enumerate() {
        match verdict {
            Verdict::Delivered => assert!(index % 2 == 1),
            Verdict::Rejected { retry: Retry::Later { .. }, error } => {
                assert!(error.contains("create the collection `gone`"), "{error}");
                assert!(index % 2 == 0);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(fake.seen().len(), 3, "the removal of what is not there is not even tried");
}

#[tokio::test]
async fn dirty_values_are_handed_on() {
    let fake = Fake::start(typesense_well).await;
    let options = Ready { dirty_values: Some(DirtyValues::CoerceOrDrop), ..typesense(&fake.url) };
    let sink = Typesense::new(http::client(crate::Guard::Off).unwrap(), options, BATCHING).unwrap();
    sink.deliver(&batch([message(1, Effect::Write), part(2)])).await.unwrap();
    let paths: Vec<_> = fake.seen().into_iter().map(|seen| seen.path).collect();
    let path = |action| {
        format!("/collections/poi/documents/import?action={action}&dirty_values=coerce_or_drop")
    };
    assert_eq!(paths, [path("emplace"), path("update")]);
}

#[tokio::test]
async fn a_check_tells_which_collection_may_be_meant() {
    let fake = Fake::start(typesense_well).await;
    fake.next(Answer::new(404, r#"{"message": "Not Found"}"#));
    fake.next(Answer::new(200, r#"[{"name":"review","fields":[]},{"name":"pois"}]"#));
    let error = sink(&fake).check().await.unwrap_err();
    assert!(error.message.contains("create the collection `poi`"), "{error}");
    assert!(error.message.ends_with("there is a `pois`"), "{error}");
    assert_eq!(fake.seen()[1].path, "/collections");
    // A key that may not list them.
    fake.next(Answer::new(404, r#"{"message": "Not Found"}"#));
    fake.next(Answer::new(401, r#"{"message": "Forbidden"}"#));
    let error = sink(&fake).check().await.unwrap_err();
    assert!(error.message.ends_with("or correct its name"), "{error}");
}

#[tokio::test]
async fn if_the_writes_fail_nothing_is_removed() {
    let fake = Fake::start(typesense_well).await;
    fake.next(Answer::new(503, ""));
    let mixed = batch([message(1, Effect::Remove), message(2, Effect::Write)]);
    harmless("503", sink(&fake).deliver(&mixed).await);
    assert_eq!(fake.seen().len(), 1);
}

#[tokio::test]
async fn actions_decide_about_absent_and_existing_documents() {
    let absent = r#"{"code":404,"document":"{}","error":"Could not find a document with id: 1","success":false}"#;
    let exists = r#"{"code":409,"document":"{}","error":"A document with id 1 already exists.","success":false}"#;
    let cases = [
        (Action::Update, absent, Verdict::Skipped),
        (Action::Create, exists, Verdict::Delivered),
        (Action::Update, exists, later("A document with id 1 already exists.")),
        (Action::Emplace, absent, later("Could not find a document with id: 1")),
    ];
    for (action, line, verdict) in cases {
        let fake = Fake::start(typesense_well).await;
        fake.next(Answer::new(200, line));
        let sink = with_action(&fake, action);
        assert_eq!(sink.deliver(&writes(1..=1)).await.unwrap(), [verdict]);
        let path = format!("/collections/poi/documents/import?action={}", action.name());
        assert_eq!(fake.seen()[0].path, path);
    }
}

#[tokio::test]
async fn refusals_tell_what_to_do() {
    let cases = [
        (401, "Forbidden - a valid `x-typesense-api-key` header must be sent.", "check `api_key`"),
        (404, "Not Found", "create the collection `poi`"),
        (422, "Rejecting write: running out of resource type: OUT_OF_DISK", "check its disk"),
        (503, "Not Ready or Lagging", "quorum"),
    ];
    for (status, said, hint) in cases {
        let fake = Fake::start(typesense_well).await;
        let sink = sink(&fake);
        for _ in 0..3 {
            fake.next(Answer::new(status, &format!(r#"{{"message": "{said}"}}"#)));
        }
        let errors = [
            harmless(said, sink.deliver(&writes(1..=1)).await),
            harmless(said, sink.deliver(&batch([with_key(Some("1"))])).await),
            sink.check().await.unwrap_err(),
        ];
        for error in errors {
            assert!(error.message.contains(said) && error.message.contains(hint), "{error}");
        }
    }
}

#[tokio::test]
async fn all_removals_share_one_deadline() {
    let fake = Fake::start(|_| Answer::never()).await;
    let removals = (1..=40).map(|number| message(number, Effect::Remove));
    let begin = Instant::now();
    harmless("slow", sink(&fake).deliver(&batch(removals)).await);
    assert!(begin.elapsed() < 3 * crate::conformance::TIMEOUT, "{:?}", begin.elapsed());
}

fn part(number: u64) -> Arc<Message> {
    Arc::new(Message { partial: true, ..(*message(number, Effect::Write)).clone() })
}

/// A document that lacks what was not sent completes one that is there. It never becomes one by
/// itself, and never replaces one.
#[tokio::test]
async fn a_partial_document_only_completes_one_that_is_there() {
    for action in [Action::Emplace, Action::Upsert, Action::Create] {
        let fake = Fake::start(typesense_well).await;
        let batch =
            batch([part(1), message(2, Effect::Remove), message(3, Effect::Write), part(4)]);
        let verdicts = with_action(&fake, action).deliver(&batch).await.unwrap();
        assert_eq!(verdicts, vec![Verdict::Delivered; 4]);
        let seen = fake.seen();
        let updates: Vec<_> =
            seen.iter().filter(|seen| seen.path.ends_with("import?action=update")).collect();
        let [update] = &updates[..] else { panic!("{seen:?}") };
        assert_eq!(update.body.lines().count(), 2);
        assert!(update.body.contains("row-data-1") && update.body.contains("row-data-4"));
    }
    let fake = Fake::start(typesense_well).await;
    fake.next(Answer::new(200, r#"{"code":404,"error":"Could not find","success":false}"#));
    let verdicts = sink(&fake).deliver(&batch([part(1)])).await.unwrap();
    let [Verdict::Rejected { retry: Retry::Never, error }] = &verdicts[..] else { panic!() };
    assert!(error.contains("REPLICA IDENTITY FULL"), "{error}");
}

/// Fields of a document that another row makes: set where it is, and nothing to do where it is not.
#[tokio::test]
async fn fields_are_set_in_a_document_that_is_there_and_nowhere_else() {
    let fake = Fake::start(typesense_well).await;
    let answer =
        "{\"success\":true}\n{\"code\":404,\"error\":\"Could not find\",\"success\":false}";
    fake.next(Answer::new(200, answer));
    let batch = batch([message(1, Effect::Complete), message(2, Effect::Complete)]);
    let verdicts = with_action(&fake, Action::Upsert).deliver(&batch).await.unwrap();
    assert_eq!(verdicts, [Verdict::Delivered, Verdict::Skipped]);
    assert!(fake.seen()[0].path.ends_with("import?action=update"));
}

/// Each message gets its own verdict, whatever part of the batch it was.
#[tokio::test]
async fn verdicts_are_in_the_order_of_the_messages() {
    let fake = Fake::start(typesense_well).await;
    fake.next(Answer::new(200, r#"{"code":400,"error":"bad","success":false}"#));
    let messages = [message(1, Effect::Remove), part(2), message(3, Effect::Write)];
    let verdicts = sink(&fake).deliver(&batch(messages)).await.unwrap();
    assert_eq!(verdicts, [Verdict::Delivered, Verdict::Delivered, later("bad")]);
}
