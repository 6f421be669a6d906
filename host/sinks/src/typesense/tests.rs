use model::message::{Effect, Message};
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

#[tokio::test]
async fn an_id_of_dots_does_not_remove_the_collection() {
    let fake = Fake::start(typesense_well).await;
    for key in [Some(".."), Some("."), Some(""), None] {
        let verdicts = sink(&fake).deliver(&batch([with_key(key)])).await.unwrap();
        let [Verdict::Rejected { retry: Retry::Never, .. }] = &verdicts[..] else {
            panic!("{key:?}")
        };
    }
    assert_eq!(fake.seen().len(), 0);
    for key in ["...", ".a", "%2E%2E"] {
        sink(&fake).deliver(&batch([with_key(Some(key))])).await.unwrap();
        let seen = fake.seen().pop().unwrap();
        assert!(seen.path.starts_with("/collections/poi/documents/"), "{seen:?}");
    }
}

#[tokio::test]
async fn writes_and_removals_share_a_batch_and_keep_their_verdicts() {
    let fake = Fake::start(|seen: &Seen| match seen.path.contains("/documents/4?") {
        true => Answer::new(500, "{\"message\":\"Could not find a leader.\"}"),
        false => typesense_well(seen),
    })
    .await;
    let effects = [Effect::Remove, Effect::Write, Effect::Write, Effect::Remove, Effect::Remove];
    let messages = (1..).zip(effects).map(|(number, effect)| message(number, effect));
    let verdicts = sink(&fake).deliver(&batch(messages)).await.unwrap();
    let [first, second, third, fourth, fifth] = &verdicts[..] else { panic!("{verdicts:?}") };
    for verdict in [first, second, third, fifth] {
        assert_eq!(*verdict, Verdict::Delivered);
    }
    let Verdict::Rejected { retry: Retry::Later { .. }, error } = fourth else { panic!() };
    assert!(error.contains("Could not find a leader."), "{error}");
    assert_eq!(fake.seen().len(), 4);
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
        (Action::Update, absent, Verdict::Delivered),
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
