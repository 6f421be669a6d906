//! Where rows go.

use sequin_plugin::testing::{Cell, Literal, Routed, json, recorded, route, row};

use super::*;

fn routed(config: &str, rows: &[Literal]) -> Vec<Routed> {
    route::<RouteByColumns>(config, "webhook", rows).unwrap()
}

fn keys<const N: usize>(keys: [(&str, Cell); N]) -> Routed {
    Ok(keys.into_iter().map(|(key, cell)| (key.to_owned(), cell)).collect())
}

fn path(template: &str, value: Cell) -> Result<String, String> {
    let config = format!(r#"{{"keys": {{"endpoint_path": "{template}"}}}}"#);
    match routed(&config, &[row([("a", value)])]).remove(0) {
        Ok(keys) => match &keys[..] {
            [(key, Cell::Text(path))] if key == "endpoint_path" => Ok(path.clone()),
            other => panic!("{other:?}"),
        },
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn keys_are_templates_and_constants() {
    let config = r#"{
        "keys": {"topic": "{@schema}.{@table}.{@action}: {{{region}}} {id}", "expire_ms": 7, "x": true},
        "by_action": {"delete": {"topic": "gone"}},
        "headers": {"X-Region": "{region}", "X-Fixed": "1"}
    }"#;
    let it = row([("id", 7.into()), ("region", "a b/é".into())]);
    let headers = json(r#"{"X-Fixed":"1","X-Region":"a b/é"}"#);
    let of = |topic: &str| {
        keys([
            ("expire_ms", 7.into()),
            ("topic", topic.into()),
            ("x", true.into()),
            ("headers", headers.clone()),
        ])
    };
    let sorted = |routed: Routed| {
        routed.map(|mut keys| {
            keys.sort_by_key(|(key, _)| (key == "headers", key.clone()));
            keys
        })
    };
    let found = routed(config, &[it.clone(), it.clone().read(), it.deleted()]).into_iter();
    let expected =
        [of("public.test.insert: {a b/é} 7"), of("public.test.read: {a b/é} 7"), of("gone")];
    assert_eq!(found.map(sorted).collect::<Vec<_>>(), expected);
}

#[test]
fn a_value_never_leaves_its_segment_of_a_path() {
    for (value, expected) in [
        ("alps", "/r/alps/x"),
        ("a/b", "/r/a%2Fb/x"),
        ("../b", "/r/..%2Fb/x"),
        ("a?b#c", "/r/a%3Fb%23c/x"),
        ("a\\b\n%2e", "/r/a%5Cb%0A%252e/x"),
        ("é {}", "/r/%C3%A9%20%7B%7D/x"),
        ("...", "/r/.../x"),
    ] {
        assert_eq!(path("/r/{a}/x", value.into()).as_deref(), Ok(expected), "{value}");
    }
    for (template, value) in [
        ("/r/{a}/x", ".."),
        ("/r/{a}", "."),
        ("{a}", ".."),
        ("/r/{a}.", "."),
        ("/r/.{a}/x", "."),
        ("/r/%2E{a}/x", "."),
    ] {
        let error = path(template, value.into()).unwrap_err();
        assert!(error.starts_with("column a: it would make the path"), "{template}: {error}");
    }
    // What the author of the configuration wrote is the author's.
    assert_eq!(path("/../{a}/x", "b".into()).as_deref(), Ok("/../b/x"));
}

#[test]
fn values_of_all_kinds_are_written_as_in_messages() {
    assert_eq!(path("/{a}", i64::MIN.into()).as_deref(), Ok("/-9223372036854775808"));
    assert_eq!(path("/{a}", true.into()).as_deref(), Ok("/true"));
    assert_eq!(path("/{a}", 1.5.into()).as_deref(), Ok("/1.5"));
    assert_eq!(path("/{a}", f64::NEG_INFINITY.into()).as_deref(), Ok("/-Infinity"));
    for cell in [json("[1]"), Cell::Bytes(vec![1])] {
        assert!(path("/{a}", cell).unwrap_err().contains("no plain text"));
    }
}

#[test]
fn null_takes_its_default_and_what_was_not_sent_takes_none() {
    let config = |missing: &str| {
        format!(
            r#"{{"keys": {{"endpoint_path": "/{{a}}/{{b}}", "method": "PUT"}}, "headers": {{"A": "{{b}}"}},
                "defaults": {{"a": "no/ne"}}, "missing": "{missing}"}}"#
        )
    };
    let rows = [
        row([("a", Cell::Null), ("b", "b".into())]),
        row([("a", "".into()), ("b", "b".into())]),
        row([("a", Cell::Unchanged), ("b", "b".into())]),
        row([("a", "a".into()), ("b", Cell::Null)]),
        row([("a", "a".into()), ("b", "".into())]),
    ];
    let put = || ("method", "PUT".into());
    let headers = || ("headers", json(r#"{"A":"b"}"#));
    let whole = || keys([("endpoint_path", "/no%2Fne/b".into()), put(), headers()]);
    let found = routed(&config("fail"), &rows);
    assert_eq!(found[..2], [whole(), whole()]);
    let blamed: Vec<_> = found[2..].iter().map(|it| it.as_ref().unwrap_err().blamed()).collect();
    assert_eq!(blamed, [Some("a"), Some("b"), Some("b")]);
    let found = routed(&config("keep"), &rows);
    let none = json("{}");
    let expected = [
        whole(),
        whole(),
        keys([put(), headers()]),
        keys([put(), ("headers", none)]),
        // Empty is a value of a header, and none of a path.
        keys([put(), ("headers", json(r#"{"A":""}"#))]),
    ];
    assert_eq!(found, expected);
    // Neither is for a column that is not there.
    let found = routed(&config("keep"), &[row([("a", "a".into())])]);
    assert!(found[0].as_ref().unwrap_err().message().contains("no column b"));
}

#[test]
fn a_header_has_no_end_of_line() {
    let config = r#"{"headers": {"A": "{a}"}}"#;
    let found = routed(config, &[row([("a", "x\r\nB: y".into())]), row([("a", "x".into())])]);
    assert_eq!(found[0].as_ref().unwrap_err().blamed(), Some("a"));
    assert_eq!(found[1], keys([("headers", json(r#"{"A":"x"}"#))]));
}

#[test]
fn other_tables_keep_what_the_sink_has() {
    let config = r#"{"table": "public.poi", "keys": {"topic": "{a}"}}"#;
    let of = |table: &str| row([("a", "x".into())]).of_table(table);
    let found = routed(config, &[of("public.poi"), of("public.review")]);
    assert_eq!(found, [keys([("topic", "x".into())]), keys([])]);
}

#[test]
fn all_that_is_wrong_is_told_by_its_field() {
    let told = |config: &str| -> String {
        let errors = route::<RouteByColumns>(config, "webhook", &[]).unwrap_err();
        errors.iter().map(|error| format!("{error}; ")).collect()
    };
    for (config, text) in [
        ("{}", "expected `keys`, `by_action` or `headers`"),
        (r#"{"keys": {"a": "{b"}, "table": "t"}"#, "table: expected a name"),
        (r#"{"keys": {"a": "{b"}, "table": "t"}"#, "keys.a: a `{` has no `}`"),
        (r#"{"keys": {"a": "b}"}}"#, "keys.a: a `}` has no `{`"),
        (r#"{"keys": {"a": "{}"}}"#, "keys.a: `{}` names no column"),
        (r#"{"keys": {"a": "{@x}"}}"#, "is none of @action"),
        (r#"{"keys": {"a": null}}"#, "keys.a: expected a text"),
        (r#"{"keys": {"a": 1.5}}"#, "keys.a: expected a text"),
        (r#"{"by_action": {"upsert": {"a": "b"}}}"#, "by_action.upsert: expected one of insert"),
        (r#"{"headers": {"a b": "c"}}"#, "headers.a b: expected a name"),
        (r#"{"headers": {"a": "c\n"}}"#, "headers.a: a header has no control"),
        (r#"{"headers": {"a": "c"}, "keys": {"headers": "d"}}"#, "keys.headers: expected another"),
        (r#"{"keys": {"a": "b"}, "missing": "guess"}"#, "missing: unknown variant"),
    ] {
        assert!(told(config).contains(text), "{config}: {}", told(config));
    }
}

/// What a real server sends; the component makes the same of it.
#[test]
fn recorded_changes_become_what_is_expected() {
    recorded::route::<RouteByColumns>(
        include_str!("../fixtures/config.json"),
        "webhook",
        include_str!("../fixtures/messages.jsonl"),
        include_str!("../fixtures/outcomes.jsonl"),
    );
}
