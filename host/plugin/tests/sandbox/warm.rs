//! Which instance a batch meets.

use std::num::NonZeroUsize;
use std::sync::Arc;

use model::plugin::Plugin;
use plugin::{Limits, Role};

use crate::support::{all_told, cached, component, host, hostile, named};

/// A warm plugin that counts the rows of its instance, of a host with one thread: one instance is
/// enough for it.
fn counter(limits: Limits) -> Arc<dyn Plugin> {
    let host = cached(Limits { threads: NonZeroUsize::MIN, ..limits });
    let program = host.load(&component("stateful")).unwrap();
    let config = r#"{"column": "name", "when": "trap"}"#;
    host.bind("stateful", &program, Role::Transform, "", config).unwrap()
}

/// What it counted for one row of this text.
async fn count(plugin: &Arc<dyn Plugin>, text: &str) -> String {
    all_told(&plugin.run(named(&[text])).await).join(" ")
}

#[tokio::test]
async fn a_warm_plugin_keeps_its_instance_and_shares_it_with_no_other_binding() {
    let plugin = counter(Limits::default());
    for expected in ["set seen=1", "set seen=2", "set seen=3"] {
        assert_eq!(count(&plugin, "a").await, expected);
    }
    let other = counter(Limits::default());
    assert_eq!(count(&other, "a").await, "set seen=1");
    // Of one host too.
    let program = host().load(&component("stateful")).unwrap();
    let bind = || {
        let config = r#"{"column": "name", "when": "trap"}"#;
        host().bind("stateful", &program, Role::Transform, "", config).unwrap()
    };
    let (one, other) = (bind(), bind());
    assert_eq!(count(&one, "a").await, "set seen=1");
    assert_eq!(count(&other, "a").await, "set seen=1");
}

#[tokio::test]
async fn b268_without_the_promise_each_batch_meets_a_fresh_instance() {
    let plugin = hostile("trap", "boom");
    for _ in 0..3 {
        assert_eq!(count(&plugin, "a").await, "set seen=1");
    }
}

#[tokio::test]
async fn b268_an_idle_instance_is_replaced_after_a_trap() {
    let plugin = counter(Limits::default());
    assert_eq!(count(&plugin, "a").await, "set seen=1");
    let told = count(&plugin, "trap").await;
    assert!(told.contains("refused row 2 of this instance"), "{told}");
    assert_eq!(count(&plugin, "a").await, "set seen=1");
    // One row of three traps: each is then run in an instance that nothing befell.
    let told = all_told(&plugin.run(named(&["a", "trap", "c"])).await);
    assert!(told[1].contains("refused row 2 of this instance"), "{told:?}");
    assert_eq!((&*told[0], &*told[2]), ("set seen=1", "set seen=1"));
}

#[tokio::test]
async fn b266_an_instance_that_has_grown_to_half_its_limit_is_not_kept() {
    let plugin = counter(Limits { memory_bytes_max: 16 << 20, ..Limits::default() });
    assert_eq!(count(&plugin, "a").await, "set seen=1");
    assert_eq!(count(&plugin, &"x".repeat(1 << 20)).await, "set seen=2");
    assert_eq!(count(&plugin, "a").await, "set seen=3", "a megabyte is no harm");
    assert_eq!(count(&plugin, &"x".repeat(8 << 20)).await, "set seen=4");
    assert_eq!(count(&plugin, "a").await, "set seen=1");
}

#[tokio::test]
async fn an_instance_is_not_kept_for_ever() {
    let plugin = counter(Limits::default());
    for batch in 1..=10_000 {
        let told = count(&plugin, "a").await;
        assert_eq!(told, format!("set seen={batch}"));
    }
    assert_eq!(count(&plugin, "a").await, "set seen=1");
}
