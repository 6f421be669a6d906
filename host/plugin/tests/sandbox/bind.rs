//! What is said about a component or a configuration that cannot be used.

use std::sync::Arc;

use plugin::{Error, Role};

use crate::support::{component, host};

#[test]
fn a_program_is_known_by_its_bytes() {
    let bytes = component("public-rows");
    let program = host().load(&bytes).unwrap();
    assert!(program.digest().starts_with("sha256:") && program.digest().len() == 7 + 64);
    assert!(Arc::ptr_eq(&program, &host().load(&bytes).unwrap()), "compiled twice");
    assert_eq!(program.roles().collect::<Vec<_>>(), [Role::Filter]);
    let plugin = host().bind("public", &program, Role::Filter, "", r#"{"column": "a"}"#).unwrap();
    assert_eq!((plugin.name(), plugin.digest()), ("public", program.digest()));
}

#[test]
fn what_is_no_component_is_refused_with_a_way_out() {
    let core = host().load(b"\0asm\x01\0\0\0").unwrap_err();
    assert!(matches!(core, Error::CoreModule));
    assert!(core.to_string().contains("wasm-tools component new"), "{core}");
    let mut bytes = component("public-rows");
    bytes.truncate(bytes.len() / 2);
    for bytes in [&*bytes, b"\x7fELF", b"", b"\0asm\x0d\0\x01\0"] {
        let error = host().load(bytes).unwrap_err();
        assert!(matches!(error, Error::InvalidComponent { .. } | Error::NoRole { .. }), "{error}");
    }
}

#[test]
fn a_role_that_a_program_does_not_have_is_refused() {
    let program = host().load(&component("public-rows")).unwrap();
    let error = host().bind("public", &program, Role::Transform, "", "{}").map(|_| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "plugin public is no transform: its component is made for filter"
    );
}

#[test]
fn a_wrong_config_is_told_by_plugin_and_field() {
    let program = host().load(&component("feature-flags")).unwrap();
    let bind = |config: &str| {
        let bound = host().bind("flags", &program, Role::Transform, "", config);
        bound.map(|_| ()).unwrap_err().to_string()
    };
    let wrong = bind(r#"{"column": "features", "flags": ["wifi", 7]}"#);
    assert!(wrong.starts_with("the config of plugin flags is wrong: flags[1]: "), "{wrong}");
    let unknown = bind(r#"{"column": "features", "flags": ["wifi"], "prefx": "has_"}"#);
    assert!(unknown.contains("unknown field `prefx`"), "{unknown}");
}
