use std::path::Path;

use super::*;

const YAML: &str = r#"
databases:
  - {name: main, hostname: h, database: d, password: "${PW}", slot: {name: s}, publication: {name: p}}
x-common: &common {batch_size: 5}
http_endpoints:
  - name: hook
    url: https://user:word@example.com/x
    encrypted_headers: {Authorization: "Bearer a$$b"}
transforms:
  - {name: sql, type: enrichment, file: look.sql}
  - {name: filter, function: {type: filter, file: f.wasm, config: {api_token: t, n: 1}}}
sinks:
  - {name: one, database: main, destination: {type: webhook, http_endpoint: hook}, <<: *common}
"#;

fn around<'a>() -> Around<'a> {
    Around {
        env: Some(&|name| (name == "PW").then(|| "pa$$word".to_owned())),
        base_dir: Path::new("base"),
        read_file: &|path| Ok(format!("select '${{x}}' -- {}\n", path.display())),
        component: &|name, path| Ok(format!("sha256:{name}:{}", path.display())),
        version: &|declared| Ok(format!("sha256:{}", declared.name)),
    }
}

fn read(text: &str) -> Portable {
    Portable::read("sequin.yaml", text, &around()).unwrap()
}

#[test]
fn b255_versions_of_plugins_are_resources_of_their_own() {
    let text = "plugins: {versions: [{name: a, version: 1.0.0, source: {file: a.wasm}}, \
                {name: b, version: 2.0.0}]}\n";
    let portable = read(text);
    let ids: Vec<String> = portable.ids().map(|id| id.to_string()).collect();
    assert_eq!(ids, ["plugin `a@1.0.0`", "plugin `b@2.0.0`"]);
    let text = portable.text();
    assert!(text.contains("digest: \"sha256:a\""), "{text}");
    assert!(!text.contains("source"), "{text}");
    assert_eq!(read(&text).text(), text);
    // What is laid over leaves others, and who must have signed, where they are.
    let signatures = "plugins: {signatures: {keys: [], require: []}}\n";
    let both = read(signatures).with(&portable);
    assert_eq!(both.ids().count(), 3);
    assert_eq!(read(&both.text()).text(), both.text());
    let without = both.without(&[Id::new("plugin", "a@1.0.0")]);
    assert!(!without.text().contains("1.0.0"), "{}", without.text());
    assert!(without.text().contains("signatures"), "{}", without.text());
}

#[test]
fn b255_what_is_written_again_is_the_same_to_the_byte() {
    let portable = read(YAML);
    let text = portable.text();
    assert!(text.contains("\"pa$$$$word\""), "{text}");
    assert!(text.contains("code: \"select '${x}' -- base/look.sql\\n\""), "{text}");
    assert!(text.contains("plugin: \"sha256:filter:base/f.wasm\""), "{text}");
    let plugins: Vec<_> = portable.plugins().collect();
    assert_eq!(plugins, [("filter", "sha256:filter:base/f.wasm")]);
    assert!(!text.contains("x-common") && !text.contains("transforms"), "{text}");
    let again = read(&text);
    assert_eq!(again.text(), text);
    assert_eq!(again.differences(&portable), []);
    // An engine is sent a text in which a dollar sign is one.
    let unfilled = Around { env: None, ..around() };
    let sent = Portable::read("", &portable.text_to_send(), &unfilled).unwrap().filled_in();
    assert_eq!(sent.text(), text);
}

#[test]
fn b238_b255_secrets_are_variables_of_what_is_shown() {
    let portable = read(YAML);
    let text = portable.text_without_secrets();
    for secret in ["pa$", "word@", "Bearer", "api_token: t"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    for variable in [
        "password: \"${DATABASE_MAIN_PASSWORD}\"",
        "url: \"${HTTP_ENDPOINT_HOOK_URL}\"",
        "Authorization: \"${HTTP_ENDPOINT_HOOK_ENCRYPTED_HEADERS_AUTHORIZATION}\"",
        "api_token: \"${FUNCTION_FILTER_FUNCTION_CONFIG_API_TOKEN}\"",
    ] {
        assert!(text.contains(variable), "{variable} not in {text}");
    }
    let env = |name: &str| {
        let value = match name {
            "DATABASE_MAIN_PASSWORD" => "pa$$word",
            "HTTP_ENDPOINT_HOOK_URL" => "https://user:word@example.com/x",
            "HTTP_ENDPOINT_HOOK_ENCRYPTED_HEADERS_AUTHORIZATION" => "Bearer a$b",
            "FUNCTION_FILTER_FUNCTION_CONFIG_API_TOKEN" => "t",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let with_env = Around { env: Some(&env), ..around() };
    let again = Portable::read("", &text, &with_env).unwrap();
    assert_eq!(again.text(), portable.text());
}

#[test]
fn b238_what_is_other_is_told_by_its_fields_and_no_secret_is() {
    let old = read(YAML);
    let text = YAML
        .replace("${PW}", "other")
        .replace("batch_size: 5", "batch_size: 6, filter: filter")
        .replace("n: 1", "n: 2");
    let new = read(&format!("{text}  - {{name: two, database: main}}\n"));
    let all = new.differences(&old);
    let told: Vec<_> = all.iter().map(|it| (it.id.to_string(), it.action.as_str())).collect();
    assert_eq!(
        told,
        [
            ("database `main`".to_owned(), "update"),
            ("function `filter`".to_owned(), "update"),
            ("sink `one`".to_owned(), "update"),
            ("sink `two`".to_owned(), "create"),
        ]
    );
    let fields = |at: usize| {
        let fields = all[at].fields.iter();
        let fields = fields.map(|it| (it.path.as_str(), it.old.as_deref(), it.new.as_deref()));
        fields.collect::<Vec<_>>()
    };
    assert_eq!(fields(0), [("password", None, None)]);
    assert!(all[0].fields[0].is_secret);
    assert_eq!(fields(1), [("function.config.n", Some("1"), Some("2"))]);
    assert_eq!(
        fields(2),
        [("batch_size", Some("5"), Some("6")), ("filter", None, Some("\"filter\""))]
    );
    let shown = format!("{all:?}");
    assert!(!shown.contains("other") && !shown.contains("pa$"), "{shown}");
    let gone = old.differences(&new);
    assert_eq!(gone.last().map(|it| it.action), Some(Action::Delete));
}

#[test]
fn one_is_laid_over_another_by_name() {
    let base = read(YAML);
    let more = read("sinks: [{name: two, database: main}, {name: one, database: main}]");
    let both = base.clone().with(&more);
    let names: Vec<String> = both.ids().map(|id| id.to_string()).collect();
    assert_eq!(names.last().map(String::as_str), Some("sink `two`"));
    assert!(!both.text().contains("batch_size"), "as a whole");
    let two = Id { kind: "sink".to_owned(), name: "two".to_owned() };
    let without = both.without(&[two]);
    assert_eq!(without.ids().count(), base.ids().count());
}

#[test]
fn b241_what_cannot_be_taken_along_is_told_with_its_place() {
    let wrong = |text: &str| {
        let around = Around {
            read_file: &|_| Err(io::Error::other("gone")),
            component: &|_, _| Err(io::Error::other("gone")),
            ..around()
        };
        let wrong = Portable::read("sequin.yaml", text, &around).unwrap_err();
        wrong.iter().map(ToString::to_string).collect::<String>()
    };
    assert!(wrong(YAML).contains("sequin.yaml:10:"), "{}", wrong(YAML));
    assert!(wrong("sinks: [{}]").contains("without `name`"));
    assert!(wrong("sinks: 1").contains("must be a list"));
    assert!(wrong("[]").contains("must be a map"));
    assert!(wrong("sinkz: []").contains("unknown key `sinkz`"));
    assert!(wrong("a: [").contains("sequin.yaml:1:"));
}

#[test]
fn a_rename_is_one_field_of_one_resource_and_references_follow() {
    let base = read(YAML);
    let text = YAML
        .replace("name: one", "name: eins")
        .replace("name: main", "name: shop")
        .replace("database: main", "database: shop");
    let moved =
        "moved: [{from: sinks.one, to: sinks.eins}, {from: databases.main, to: databases.shop}]";
    let new = read(&format!("{text}\n{moved}\n"));
    let moved = new.moved();
    let other = read("sinks: [{name: two, database: main, filter: [filter, x]}]");
    let runs = base.with(&other);
    let merged = runs.clone().renamed(&moved).with(&new);
    assert_eq!(merged.moved(), [], "it is not kept");
    let all = merged.differences_after(&runs, &moved);
    let told: Vec<_> = all
        .iter()
        .map(|it| {
            let fields: Vec<&str> = it.fields.iter().map(|field| field.path.as_str()).collect();
            (it.id.to_string(), it.action.as_str(), fields)
        })
        .collect();
    assert_eq!(
        told,
        [
            ("database `shop`".to_owned(), "update", vec!["name"]),
            ("sink `eins`".to_owned(), "update", vec!["name", "database"]),
            ("sink `two`".to_owned(), "update", vec!["database"]),
        ]
    );
    let name = all.first().and_then(|it| it.fields.first()).unwrap();
    assert_eq!((name.old.as_deref(), name.new.as_deref()), (Some("\"main\""), Some("\"shop\"")));
    let function = Id::new("function", "filter");
    let moved = [Moved { from: function, to: Id::new("function", "f2") }];
    let renamed = merged.renamed(&moved).text();
    assert!(renamed.contains("- f2\n") && !renamed.contains("- filter\n"), "{renamed}");
}

#[test]
fn what_is_renamed_is_in_a_bundle_and_in_no_export() {
    let text = format!(
        "{YAML}moved: [{{from: sinks.a, to: sinks.b}}, {{from: sinks.b, to: sinks.one}}]\n"
    );
    let portable = read(&text);
    let written = portable.text();
    assert_eq!(read(&written).text(), written);
    assert_eq!(read(&written).moved(), portable.moved());
    assert!(written.contains("from: sinks.a"), "{written}");
    let runs = portable.as_it_runs();
    assert!(!runs.text().contains("moved") && !runs.text_without_secrets().contains("moved"));
}
