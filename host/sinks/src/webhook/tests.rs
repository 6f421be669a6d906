use std::io::Read as _;

use model::message::Effect;
use model::route::RouteValue;
use options::Secret;

use super::*;
use crate::conformance::fake::{Answer, Fake};
use crate::conformance::{BATCHING, harmless, in_halves, message, webhook, writes};

fn sink(options: Ready) -> Webhook {
    Webhook::new(http::client(Guard::Off).unwrap(), Guard::Off, options, BATCHING).unwrap()
}

#[tokio::test]
async fn b125_batch_true_wraps_and_false_is_bare() {
    let fake = Fake::start(|_| Answer::new(204, "")).await;
    let wrapped = sink(webhook(&fake.url, true));
    wrapped.deliver(&writes(1..=2)).await.unwrap();
    wrapped.deliver(&writes(1..=1)).await.unwrap();
    let bare = sink(webhook(&fake.url, false));
    bare.deliver(&writes(1..=1)).await.unwrap();
    let bodies: Vec<_> = fake.seen().into_iter().map(|seen| seen.body).collect();
    let one = r#"{"id":"1","name":"row-data-1"}"#;
    let two = r#"{"id":"2","name":"row-data-2"}"#;
    assert_eq!(
        bodies,
        [format!(r#"{{"data":[{one},{two}]}}"#), format!(r#"{{"data":[{one}]}}"#), one.into()]
    );
    assert_eq!(wrapped.batch_policy().messages_max, 10);
    assert_eq!(bare.batch_policy().messages_max, 1);
}

#[tokio::test]
async fn b128_headers_are_sent_and_can_change_the_content_type() {
    let fake = Fake::start(|_| Answer::new(200, "ok")).await;
    sink(webhook(&fake.url, true)).deliver(&writes(1..=1)).await.unwrap();
    let mut options = webhook(&fake.url, true);
    options.headers.push(("Content-Type".into(), Secret::new("application/cloudevents+json")));
    sink(options).deliver(&writes(1..=1)).await.unwrap();
    let [first, second] = &fake.seen()[..] else { panic!() };
    assert_eq!(first.method, "POST");
    assert_eq!(first.path, "/hunter2?token=hunter2");
    assert_eq!(first.header("content-type"), ["application/json"]);
    assert_eq!(first.header("authorization"), ["hunter2"]);
    let agent = concat!("sequin/", env!("CARGO_PKG_VERSION"));
    assert_eq!(first.header("user-agent"), [agent]);
    assert_eq!(second.header("content-type"), ["application/cloudevents+json"]);
}

#[tokio::test]
async fn a_removal_is_an_event_like_any_other() {
    let fake = Fake::start(|_| Answer::new(200, "")).await;
    let mut message = (*message(1, Effect::Remove)).clone();
    message.payload = r#"{"action":"delete"}"#.into();
    let batch = Batch::new(vec![message.into()]).unwrap();
    sink(webhook(&fake.url, false)).deliver(&batch).await.unwrap();
    assert_eq!(fake.seen()[0].body, r#"{"action":"delete"}"#);
}

#[tokio::test]
async fn a_redirect_tells_that_it_is_not_followed() {
    let fake = Fake::start(|_| Answer::new(302, "").header("location", "/")).await;
    let error = harmless("webhook", sink(webhook(&fake.url, true)).deliver(&writes(1..=1)).await);
    assert!(error.message.contains("redirects are not followed"), "{error}");
}

#[test]
fn a_header_that_cannot_be_sent_is_refused() {
    let mut options = webhook("http://127.0.0.1:1", true);
    options.headers.push(("bad name".into(), Secret::new("x")));
    assert!(
        Webhook::new(http::client(Guard::Off).unwrap(), Guard::Off, options, BATCHING).is_err()
    );
}

fn gunzip(bytes: &[u8]) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}

/// Messages that all have this route.
fn routed(count: u64, keys: &[(&str, RouteValue)]) -> Batch {
    let route = Route::new(keys.iter().map(|(key, value)| ((*key).into(), value.clone())));
    let route = Some(Arc::new(route));
    let message =
        |number| Message { route: route.clone(), ..(*message(number, Effect::Write)).clone() };
    Batch::new((1..=count).map(|number| Arc::new(message(number))).collect()).unwrap()
}

fn text(text: &str) -> RouteValue {
    RouteValue::Text(text.into())
}

#[tokio::test]
async fn b127_a_body_is_compressed_if_a_header_says_gzip() {
    let fake = Fake::start(|_| Answer::new(200, "")).await;
    let plain = sink(webhook(&fake.url, true));
    let mut options = webhook(&fake.url, true);
    options.headers.push(("content-encoding".into(), Secret::new("GZip")));
    let packed = sink(options);
    plain.deliver(&writes(1..=3)).await.unwrap();
    packed.deliver(&writes(1..=3)).await.unwrap();
    let header = RouteValue::Json(r#"{"Content-Encoding":"gzip"}"#.into());
    plain.deliver(&routed(3, &[("headers", header)])).await.unwrap();
    let [plain, packed, routed] = &fake.seen()[..] else { panic!() };
    for seen in [packed, routed] {
        assert_eq!(seen.header("content-encoding").len(), 1);
        assert_ne!(seen.bytes, plain.bytes);
        assert_eq!(gunzip(&seen.bytes), plain.body);
    }
}

/// Ours, the endpoint's, the route's, the signature's: each over what was before it.
#[tokio::test]
async fn b128_a_routed_header_wins_over_an_encrypted_one() {
    let fake = Fake::start(|_| Answer::new(200, "")).await;
    let mut options = webhook(&fake.url, true);
    options.headers.push(("X-Region".into(), Secret::new("everywhere")));
    let json = r#"{"x-region":"eu","AUTHORIZATION":"routed","content-type":"text/x"}"#;
    let keys = [("headers", RouteValue::Json(json.into()))];
    sink(options).deliver(&routed(1, &keys)).await.unwrap();
    let [seen] = &fake.seen()[..] else { panic!() };
    assert_eq!(seen.header("x-region"), ["eu"]);
    assert_eq!(seen.header("authorization"), ["routed"]);
    assert_eq!(seen.header("content-type"), ["text/x"]);
}

#[tokio::test]
async fn b109_a_route_sets_method_and_path_and_leaves_the_rest() {
    let fake = Fake::start(|_| Answer::new(200, "")).await;
    let mut options = webhook(&fake.url, false);
    options.endpoint_url = Address::new(Url::parse(&format!("{}/api/", fake.url)).unwrap());
    options.url = Address::new(Url::parse(&format!("{}/api/own", fake.url)).unwrap());
    let sink = sink(options);
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"] {
        sink.deliver(&routed(1, &[("method", text(method))])).await.unwrap();
        let seen = fake.seen().pop().unwrap();
        assert_eq!((seen.method.as_str(), seen.path.as_str()), (method, "/api/own"));
        assert_eq!(seen.header("content-type"), ["application/json"]);
        assert!(seen.body.contains("row-data-1"), "{method} sends the message too");
    }
    for (path, expected) in [("/poi/1?x=y", "/api/poi/1?x=y"), ("poi", "/api/poi"), ("", "/api/")] {
        sink.deliver(&routed(1, &[("endpoint_path", text(path))])).await.unwrap();
        let seen = fake.seen().pop().unwrap();
        assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", expected));
    }
    assert!(sink.batch_policy().one_route);
}

#[tokio::test]
async fn b109_messages_of_several_routes_are_several_requests_in_order() {
    let fake = Fake::start(|_| Answer::new(200, "")).await;
    let mut messages = writes(1..=4).messages().to_vec();
    for place in [1, 2] {
        let routed = routed(4, &[("endpoint_path", text("/elsewhere"))]);
        messages[place] = Arc::clone(&routed.messages()[place]);
    }
    let verdicts =
        sink(webhook(&fake.url, true)).deliver(&Batch::new(messages).unwrap()).await.unwrap();
    assert_eq!(verdicts, vec![Verdict::Delivered; 4]);
    let seen: Vec<_> = fake
        .seen()
        .into_iter()
        .map(|seen| (seen.path.contains("elsewhere"), seen.body.matches("row-data").count()))
        .collect();
    assert_eq!(seen, [(false, 1), (true, 2), (false, 1)]);
}

#[tokio::test]
async fn b110_a_bad_route_is_refused_and_never_sent() {
    let fake = Fake::start(|_| Answer::new(200, "")).await;
    let sink = sink(webhook(&fake.url, true));
    let batch = routed(2, &[("method", text("TRACE"))]);
    let route = batch.messages()[0].route.as_deref().unwrap();
    assert_eq!(&*sink.check_route(route).unwrap_err().field, "method");
    let verdicts = sink.deliver(&batch).await.unwrap();
    let [Verdict::Rejected { retry: Retry::Never, error }, _] = &verdicts[..] else { panic!() };
    assert!(error.contains("`method`"), "{error}");
    assert_eq!(fake.seen().len(), 0);
    assert_eq!(sink.check_route(&Route::new([("method".into(), text("PUT"))])), Ok(()));
}

/// As `Answer::new(200, "")`, but for bodies with the seventh message, whatever their size.
fn no_seventh(seen: &crate::conformance::fake::Seen) -> Answer {
    let too_large = seen.body.contains("row-data-7\"");
    if too_large { Answer::new(413, "too large") } else { Answer::new(200, "") }
}

#[tokio::test]
async fn b131_b105_a_refused_batch_is_halved_until_what_is_too_large_is_alone() {
    let fake = Fake::start(no_seventh).await;
    let sink = sink(webhook(&fake.url, true));
    let verdicts = in_halves(&sink, writes(1..=8).messages()).await;
    for (number, verdict) in (1..).zip(&verdicts) {
        match (number, verdict) {
            (7, Verdict::Rejected { retry: Retry::Never, error }) => {
                assert!(error.contains("bytes") && error.contains("413"), "{error}");
                assert!(!error.contains("row-data"), "{error}");
            }
            (7, other) => panic!("{other:?}"),
            (_, verdict) => assert_eq!(*verdict, Verdict::Delivered, "{number}"),
        }
    }
    let seen = fake.seen();
    // 1-8, 1-4, 5-8, 5-6, 7-8, 7, 8: each message once where it was taken, and in order.
    assert_eq!(seen.len(), 7);
    let taken: String = seen
        .iter()
        .filter(|seen| !seen.body.contains("row-data-7\""))
        .map(|seen| seen.body.as_str())
        .collect();
    let places: Vec<_> = [1, 2, 3, 4, 5, 6, 8]
        .map(|n| taken.match_indices(&format!("row-data-{n}\"")).map(|m| m.0).collect::<Vec<_>>())
        .into();
    assert!(places.iter().all(|places| places.len() == 1), "{places:?}");
    assert!(places.is_sorted(), "{places:?}");
}

/// Cuts messages as the engine does, and sends them.
async fn send_all(sink: &Webhook, messages: &[Arc<Message>]) {
    let mut rest = messages;
    while !rest.is_empty() {
        let policy = sink.batch_policy();
        let body = |messages: &[Arc<Message>]| {
            let payloads: usize = messages.iter().map(|message| message.payload.len()).sum();
            policy.request_overhead + payloads + policy.message_overhead * messages.len()
        };
        let fits = |count: &usize| *count == 1 || body(&rest[..*count]) <= policy.bytes_max;
        let count = (1..=rest.len().min(policy.messages_max)).rev().find(fits).unwrap();
        let (part, others) = rest.split_at(count);
        let verdicts = in_halves(sink, part).await;
        assert_eq!(verdicts, vec![Verdict::Delivered; count]);
        rest = others;
    }
}

#[tokio::test]
async fn b131_what_was_refused_once_is_not_sent_in_vain_again() {
    let fake =
        Fake::start(|seen| Answer::new(if seen.body.len() > 300 { 413 } else { 200 }, "")).await;
    let sink = sink(webhook(&fake.url, true));
    let batch = writes(1..=10);
    send_all(&sink, batch.messages()).await;
    let refused =
        |from: usize| fake.seen()[from..].iter().filter(|seen| seen.body.len() > 300).count();
    assert_eq!(refused(0), 1);
    let before = fake.seen().len();
    send_all(&sink, batch.messages()).await;
    assert_eq!((fake.seen().len() - before, refused(before)), (2, 0));
    // But it is tried now and then, so that a receiver that takes more by now gets more.
    for _ in 0..30 {
        send_all(&sink, batch.messages()).await;
    }
    assert!((1..4).contains(&refused(before)), "{}", refused(before));
}

/// What comes behind a failure is not sent: it may belong to the same row. It is judged by the next
/// request, which begins with it.
#[tokio::test]
async fn a_failure_between_routes_stops_the_rest() {
    let fake = Fake::start(|_| Answer::new(200, "")).await;
    fake.next(Answer::new(200, ""));
    fake.next(Answer::new(503, ""));
    let mut messages = Vec::new();
    for path in ["/a", "/b", "/c"] {
        messages.extend_from_slice(routed(2, &[("endpoint_path", text(path))]).messages());
    }
    let batch = Batch::new(messages).unwrap();
    let verdicts = sink(webhook(&fake.url, true)).deliver(&batch).await.unwrap();
    assert_eq!(verdicts[..2], vec![Verdict::Delivered; 2]);
    assert_eq!(verdicts[2..], vec![Verdict::Untried; 4]);
    assert_eq!(fake.seen().len(), 2);
}

/// The engine cuts by what the policy says, and the bodies have just as many bytes.
#[tokio::test]
async fn b104_b105_no_body_is_larger_than_the_bound_and_what_is_alone_is_named() {
    for batched in [true, false] {
        let fake = Fake::start(|_| Answer::new(200, "")).await;
        let options = Ready { body_bytes_max: Some(1024), ..webhook(&fake.url, batched) };
        let sink = sink(options);
        let policy = sink.batch_policy();
        assert_eq!(policy.bytes_max, 1024);
        let largest = policy.message_bytes_max.unwrap();
        assert_eq!(largest, if batched { 1013 } else { 1024 });
        let messages: Vec<_> = (0..400_usize)
            .map(|number| {
                // Of all sizes up to a half, in no order, and some that fill a body.
                let bytes =
                    if number % 10 == 0 { largest } else { 10 + number * 7_919 % (largest / 2) };
                let payload = format!("\"{}\"", "7".repeat(bytes - 2)).into();
                Arc::new(Message { payload, ..(*message(number as u64, Effect::Write)).clone() })
            })
            .collect();
        send_all(&sink, &messages).await;
        let bodies: Vec<_> = fake.seen().iter().map(|seen| seen.bytes.len()).collect();
        assert!(bodies.iter().all(|bytes| *bytes <= 1024), "{bodies:?}");
        assert!(bodies.contains(&1024), "the bound is used up: {bodies:?}");
        let sum: usize = messages.iter().map(|message| message.payload.len()).sum();
        let wrapping = if batched { bodies.len() * 10 + messages.len() } else { 0 };
        assert_eq!(bodies.iter().sum::<usize>(), sum + wrapping, "all arrived");
    }
}

#[tokio::test]
async fn signed_requests_carry_the_headers_of_the_standard() {
    use hmac::{Hmac, KeyInit as _, Mac as _};

    let fake = Fake::start(|_| Answer::new(500, "")).await;
    let key = SigningKey::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    let mut options = webhook(&fake.url, true);
    options.headers.push(("content-encoding".into(), Secret::new("gzip")));
    options.headers.push(("webhook-id".into(), Secret::new("forged")));
    options.signing_keys.push(key.clone());
    let sink = sink(options);
    for _ in 0..2 {
        harmless("signed", sink.deliver(&writes(1..=2)).await);
    }
    let [first, second] = &fake.seen()[..] else { panic!() };
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"), "a repeat is known");
    let [id] = first.header("webhook-id")[..] else { panic!() };
    let [timestamp] = first.header("webhook-timestamp")[..] else { panic!() };
    let [signature] = first.header("webhook-signature")[..] else { panic!() };
    let age = jiff::Timestamp::now().as_second() - timestamp.parse::<i64>().unwrap();
    assert!((0..60).contains(&age), "{timestamp}");
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key.reveal()).unwrap();
    mac.update(format!("{id}.{timestamp}.{}", gunzip(&first.bytes)).as_bytes());
    use base64::Engine as _;
    let expected = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    assert_eq!(signature, format!("v1,{expected}"));
}

#[tokio::test]
async fn an_address_that_the_guard_refuses_is_never_connected_to() {
    let fake = Fake::start(|_| Answer::new(200, "")).await;
    let url = fake.url.replace("127.0.0.1", "localhost");
    let guarded = Webhook::new(
        http::client(Guard::Internal).unwrap(),
        Guard::Internal,
        webhook(&url, true),
        BATCHING,
    )
    .unwrap();
    let error = guarded.deliver(&writes(1..=1)).await.unwrap_err();
    assert!(error.message.contains("SEQUIN_HTTP_GUARD"), "{error}");
    assert!(guarded.check().await.is_err());
    assert_eq!(fake.seen().len(), 0);
    sink(webhook(&url, true)).deliver(&writes(1..=1)).await.unwrap();
    // An address in the URL is refused before anything runs.
    let builder = crate::Builder::new(Guard::Metadata).unwrap();
    for host in ["169.254.169.254", "[fe80::1]", "0xa9.254.43518", "[::ffff:169.254.169.254]"] {
        let options = webhook(&format!("http://{host}"), true);
        let error = builder.webhook(options, BATCHING).err().unwrap().to_string();
        assert!(error.contains("link-local") && !error.contains("hunter2"), "{error}");
    }
}
