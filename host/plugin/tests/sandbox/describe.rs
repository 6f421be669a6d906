//! What a component says of itself, unstarted and started.

use plugin::{Error, Host, Limits, Role};

use crate::support::{cached, component, host};

const ALL: [&str; 19] = [
    "configure-spin",
    "crooked",
    "every-route",
    "every-verdict",
    "feature-flags",
    "flood",
    "grow",
    "huge-output",
    "liar",
    "localised-fields",
    "mirror",
    "pick",
    "public-rows",
    "spin",
    "stack",
    "stateful",
    "trap",
    "wants-everything",
    "wrong-count",
];

#[test]
fn what_is_read_from_the_bytes_is_what_is_loaded() {
    for name in ALL {
        let bytes = component(name);
        let found = plugin::inspect(&bytes, &Limits::default()).unwrap();
        let program = host().load(&bytes).unwrap();
        assert_eq!(found.digest, program.digest(), "{name}");
        assert_eq!(found.roles, program.roles().collect::<Vec<_>>(), "{name}");
        assert_eq!(found.name.as_deref(), Some(name));
        assert!(found.refused.is_empty(), "{name}: {:?}", found.refused);
        assert!(found.description.is_some() && found.licenses.is_some(), "{name}: {found:?}");
    }
}

#[test]
fn a_first_party_plugin_describes_its_configuration() {
    for name in ["feature-flags", "localised-fields", "pick", "public-rows"] {
        let program = host().load(&component(name)).unwrap();
        let described = host().describe(name, &program).unwrap();
        let schema: serde_json::Value =
            serde_json::from_str(&described.config_schema.unwrap()).unwrap();
        assert!(schema["properties"].is_object(), "{name}: {schema}");
        assert_eq!(described.capabilities, [""; 0], "{name}");
        let sdk = plugin::inspect(&component(name), &Limits::default()).unwrap().sdk.unwrap();
        assert!(sdk.contains(r#""world":"sequin:plugin@0.2.0""#), "{name}: {sdk}");
    }
    let program = host().load(&component("mirror")).unwrap();
    assert_eq!(host().describe("mirror", &program).unwrap().config_schema, None);
    let program = host().load(&component("stateful")).unwrap();
    assert!(host().describe("stateful", &program).unwrap().warm);
}

#[test]
fn b269_inspection_names_what_is_refused() {
    let bytes = component("wants-clock");
    let found = plugin::inspect(&bytes, &Limits::default()).unwrap();
    assert_eq!(found.refused, ["wasi:clocks/monotonic-clock@0.2.12"]);
    assert!(matches!(host().load(&bytes), Err(Error::ImportRefused { import })
        if import == found.refused[0]));
}

#[test]
fn b271_a_schema_that_is_no_json_is_refused_and_claims_are_not_believed() {
    let bytes = component("liar");
    let found = plugin::inspect(&bytes, &Limits::default()).unwrap();
    assert!(found.sdk.unwrap().contains("god 1.0"), "told as it was claimed");
    assert_eq!(found.roles, [Role::Filter], "and not `sink`, as it claims");
    let program = host().load(&bytes).unwrap();
    let described = host().describe("liar", &program).unwrap_err();
    let bound = host().bind("liar", &program, Role::Filter, "", "{}").map(|_| ()).unwrap_err();
    for error in [described, bound] {
        assert!(matches!(error, Error::Schema { .. }), "{error:?}");
        let text = "plugin liar describes its configuration with what is no JSON Schema: it is no \
                    JSON: EOF while parsing a string";
        assert!(error.to_string().starts_with(text), "{error}");
    }
}

#[test]
fn b271_a_component_is_refused_by_its_size_before_anything_looks_at_it() {
    let limits = || Limits { component_bytes_max: 1000, ..Limits::default() };
    let bytes = component("mirror");
    let host: Host = cached(limits());
    for error in [host.load(&bytes).unwrap_err(), plugin::inspect(&bytes, &limits()).unwrap_err()] {
        assert!(matches!(error, Error::TooLarge { bytes_max: 1000, .. }), "{error:?}");
    }
}
