//! Plugins that do their worst: only the guilty row fails, and nobody else notices.

use std::time::Duration;

use model::plugin::{Fault, Outcome, PluginError};
use plugin::{Error, Host, Limits, Own, Role, Terms};

use crate::support::{all_told, bind, component, host, hostile, named, peak_bytes, told};

/// The only failure, which must be of the row `guilty`; every other row was `set seen=true`.
fn only_failure(outcomes: &[Result<Outcome, PluginError>], guilty: usize) -> &PluginError {
    for (row, outcome) in outcomes.iter().enumerate().filter(|(row, _)| *row != guilty) {
        assert_eq!(told(outcome), "set seen=true", "row {row}");
    }
    outcomes[guilty].as_ref().unwrap_err()
}

#[tokio::test]
async fn b265_a_plugin_that_loops_forever_fails_only_its_row() {
    let plugin = hostile("spin", "spin");
    let outcomes = plugin.run(named(&["a", "b", "spin", "d"])).await;
    assert_eq!(outcomes.len(), 4);
    let error = only_failure(&outcomes, 2);
    assert_eq!(error.fault, Fault::Deadline);
    assert!(error.message.contains("used up its 50 ms of CPU time"), "{error}");
    // A row that comes alone is not run twice: it had the budget of a batch.
    let outcomes = plugin.run(named(&["spin"])).await;
    assert!(told(&outcomes[0]).contains("200 ms of CPU time"), "{outcomes:?}");
}

#[tokio::test]
async fn b266_a_plugin_that_allocates_without_bound_hits_its_own_limit() {
    let outcomes = hostile("grow", "grow").run(named(&["a", "grow", "c"])).await;
    assert_eq!(outcomes.len(), 3);
    let error = only_failure(&outcomes, 1);
    assert_eq!(error.fault, Fault::Memory);
    assert!(error.message.contains("its limit is 67108864"), "{error}");
}

/// What its owner gives it is less than what others have, and never more.
#[tokio::test]
async fn b265_b266_a_function_has_limits_of_its_own_below_those_of_all() {
    let limited = |name: &str, own: Own| {
        let program = host().load(&component(name)).unwrap();
        let config = r#"{"column": "name", "when": "worst"}"#;
        let terms = Terms { limits: own, ..Terms::default() };
        host().bind_granted(name, &program, Role::Transform, "", config, terms).unwrap().plugin
    };
    let own = Own { memory_bytes_max: Some(8 << 20), ..Own::default() };
    let outcomes = limited("grow", own).run(named(&["a", "worst", "c"])).await;
    assert!(only_failure(&outcomes, 1).message.contains("its limit is 8388608"), "{outcomes:?}");
    let own = Own { memory_bytes_max: Some(1 << 40), ..Own::default() };
    let outcomes = limited("grow", own).run(named(&["a", "worst", "c"])).await;
    assert!(only_failure(&outcomes, 1).message.contains("its limit is 67108864"), "{outcomes:?}");
    let own = Own { batch_cpu_max: Some(Duration::from_millis(20)), ..Own::default() };
    let outcomes = limited("spin", own).run(named(&["worst"])).await;
    assert!(told(&outcomes[0]).contains("20 ms of CPU time"), "{outcomes:?}");
}

#[tokio::test]
async fn b267_a_trap_on_one_row_of_many_fails_that_row_with_a_stack() {
    let mut names = vec!["calm"; 1000];
    names[137] = "boom";
    let outcomes = hostile("trap", "boom").run(named(&names)).await;
    assert_eq!(outcomes.len(), 1000);
    for (row, outcome) in outcomes.iter().enumerate().filter(|(row, _)| *row != 137) {
        assert!(told(outcome).starts_with("set seen="), "row {row}: {}", told(outcome));
    }
    let error = outcomes[137].as_ref().unwrap_err();
    assert_eq!(error.fault, Fault::Trap);
    // What it said, where it said it, and how it came there.
    assert!(error.message.contains("refused row"), "{error}");
    assert!(error.message.contains("bad/trap/src/lib.rs"), "{error}");
    assert!(error.message.contains("trap::refuse"), "{error}");
}

#[tokio::test]
async fn b268_state_left_by_a_trap_is_gone_with_its_instance() {
    let plugin = hostile("trap", "boom");
    // `seen` counts the rows of an instance: each that is run again meets a new one.
    let outcomes = plugin.run(named(&["a", "boom", "c", "d"])).await;
    assert_eq!(told(&outcomes[0]), "set seen=1");
    assert!(told(&outcomes[1]).contains("refused row 1 of this instance"), "{outcomes:?}");
    assert_eq!(all_told(&outcomes[2..]), ["set seen=1", "set seen=1"]);
    // So does each batch.
    for _ in 0..2 {
        let outcomes = plugin.run(named(&["a", "b"])).await;
        assert_eq!(all_told(&outcomes), ["set seen=1", "set seen=2"]);
    }
}

#[test]
fn b269_an_import_that_is_not_granted_is_refused_by_name() {
    let error = host().load(&component("wants-clock")).unwrap_err();
    assert!(matches!(&error, Error::ImportRefused { import }
        if import == "wasi:clocks/monotonic-clock@0.2.12"));
    assert!(error.to_string().contains("`wasi:clocks/monotonic-clock@0.2.12`"), "{error}");
}

#[test]
fn b269_what_a_plugin_says_it_wants_is_refused_by_name() {
    let program = host().load(&component("wants-everything")).unwrap();
    let described = host().describe("greedy", &program).unwrap();
    assert!(described.capabilities.contains(&"network".to_owned()), "{described:?}");
    let error = host().bind("greedy", &program, Role::Filter, "", "{}").map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Capabilities { .. }), "{error:?}");
    let error = error.to_string();
    for wanted in ["`files`, which no", "`no such thing`, which no", "`clock`", "`random`"] {
        assert!(error.contains(wanted), "{wanted}: {error}");
    }
}

#[tokio::test]
async fn b108_a_filter_that_says_neither_yes_nor_no_fails_the_row() {
    let plugin = bind("crooked", Role::Filter, r#"{"column": "name", "when": ""}"#);
    // `no-document` is the verdict `many`, anything else a column.
    let expected = [
        ("filter-keep", "Keep"),
        ("no-document", "plugin_output: the plugin answered with the verdict Many from a filter"),
        ("filter-drop", "Drop"),
        (
            "short-data",
            "plugin_output: the plugin answered with columns or documents from a filter",
        ),
    ];
    for (name, outcome) in expected {
        let told = all_told(&plugin.run(named(&["filter-keep", name])).await);
        assert_eq!(told, ["Keep", outcome]);
    }
}

#[tokio::test]
async fn b273_an_answer_that_does_not_hold_together_fails_the_row_it_is_for() {
    let plugin = bind("crooked", Role::Transform, r#"{"column": "name", "when": ""}"#);
    let ways = [
        ("short-data", "0 entries of column seen for 1 rows"),
        ("short-presence", "0 entries of column seen for 1 rows"),
        ("utf8", "column seen that is no UTF-8"),
        ("ends-past", "a text from 0 to 2 of 1 bytes"),
        ("ends-back", "a text from 1 to 0 of 1 bytes"),
        ("ends-split", "a text from 0 to 1 of 2 bytes"),
        ("row-of-error", "an error of row 4294967295"),
        ("row-of-document", "a document of row 4294967295"),
        ("no-error", "did not say why"),
        ("no-document", "many of no document"),
        ("drop-with-document", "documents with the verdict Drop"),
        ("refuse", "the batch says so"),
        ("verdicts", "too much data"),
        ("texts", "too much data"),
    ];
    let before = peak_bytes();
    for (way, text) in ways {
        // The last, as some answers are wrong about the last row.
        let outcomes = plugin.run(named(&["a", "b", way])).await;
        let [Ok(_), Ok(_), Err(error)] = &outcomes[..] else { panic!("{way}: {outcomes:?}") };
        assert!(error.message.contains(text), "{way}: {error}");
        let class = if matches!(way, "no-error" | "refuse") { Fault::Guest } else { Fault::Output };
        assert_eq!(error.fault, class, "{way}");
    }
    // The one way that is wrong of each row by itself.
    for outcome in plugin.run(named(&["a", "twice"])).await {
        assert!(told(&outcome).contains("column seen set twice"), "{outcome:?}");
    }
    // Of two threads one at a time is busy: what it may have, and as much again to take it over.
    let grown = (peak_bytes() - before) >> 20;
    assert!(grown < 200, "{grown} MiB");
}

#[tokio::test]
async fn b271_what_cannot_be_used_leaves_alone_what_runs() {
    let running = hostile("trap", "boom");
    let program = host().load(&component("trap")).unwrap();
    let mut bytes = component("trap");
    bytes.truncate(bytes.len() - 1);
    host().load(&bytes).unwrap_err();
    let bind = |role, config| host().bind("trap", &program, role, "", config).map(|_| ());
    assert!(matches!(bind(Role::Filter, "{}"), Err(Error::MissingRole { .. })));
    assert!(matches!(bind(Role::Transform, "{"), Err(Error::Configure { .. })));
    let told = all_told(&running.run(named(&["a", "b"])).await);
    assert_eq!(told, ["set seen=1", "set seen=2"]);
}

/// It takes any text; the schema that it gives does not.
#[test]
fn b271_a_config_that_does_not_fit_the_schema_is_refused_whatever_the_plugin_says() {
    let program = host().load(&component("wrong-count")).unwrap();
    let bind = |config| host().bind("it", &program, Role::Filter, "", config).map(|_| ());
    bind(r#"{"column": "name", "when": "x"}"#).unwrap();
    let error = bind(r#"{"column": "name", "when": ""}"#).unwrap_err();
    assert!(matches!(error, Error::Configure { .. }));
    let told = error.to_string();
    assert!(told.contains("`when` has 0 characters, and at least 1 are needed"), "{told}");
}

#[tokio::test]
async fn b273_an_answer_of_the_wrong_length_fails_the_rows_it_was_for() {
    let config = r#"{"column": "name", "when": "short"}"#;
    let plugin = bind("wrong-count", Role::Filter, config);
    let outcomes = plugin.run(named(&["a", "short", "c"])).await;
    let error = outcomes[1].as_ref().unwrap_err();
    assert_eq!(error.fault, Fault::Output);
    assert!(error.message.contains("0 verdicts for 1 rows"), "{error}");
    assert!(matches!(outcomes[..], [Ok(Outcome::Keep), Err(_), Ok(Outcome::Keep)]));
}

#[tokio::test]
async fn b265_a_flood_of_log_lines_ends_with_the_budget_of_its_row() {
    let outcomes = hostile("flood", "flood").run(named(&["a", "flood", "c"])).await;
    let error = only_failure(&outcomes, 1);
    assert_eq!(error.fault, Fault::Deadline);
}

#[tokio::test]
async fn b266_a_stack_without_end_is_a_trap_of_its_row() {
    let outcomes = hostile("stack", "stack").run(named(&["a", "stack", "c"])).await;
    let error = only_failure(&outcomes, 1);
    assert_eq!(error.fault, Fault::Trap);
    // A few frames of it, not all of them.
    assert!(error.message.contains("stack::deeper"), "{error}");
    assert!(error.message.len() <= 4096, "{error}");
}

#[test]
fn b265_a_plugin_that_does_not_come_back_from_configure_is_not_bound() {
    let program = host().load(&component("configure-spin")).unwrap();
    let error = host().bind("slow", &program, Role::Filter, "", "{}").map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Start { .. }));
    assert!(error.to_string().contains("plugin slow fails when it is configured"), "{error}");
    assert!(error.to_string().contains("200 ms of CPU time"), "{error}");
}

#[tokio::test]
async fn b273_an_answer_that_is_too_large_fails_its_row() {
    let plugin = hostile("huge-output", "huge");
    let outcomes = plugin.run(named(&["a", "huge", "b"])).await;
    let error = outcomes[1].as_ref().unwrap_err();
    assert_eq!(error.fault, Fault::Output);
    assert!(error.message.contains("too much data"), "{error}");
    assert!(matches!(outcomes[..], [Ok(Outcome::Set(_)), Err(_), Ok(Outcome::Set(_))]));
}

#[tokio::test]
async fn b266_a_row_too_large_for_a_guest_fails_without_a_call() {
    let host = Host::new(Limits { row_bytes_max: 1000, ..Limits::default() }).unwrap();
    let program = host.load(&component("every-verdict")).unwrap();
    let config = r#"{"column": "name", "when": "panic"}"#;
    let plugin = host.bind("small", &program, Role::Transform, "", config).unwrap();
    let large = "x".repeat(1001);
    let outcomes = plugin.run(named(&["drop", &large, "evict"])).await;
    let told = all_told(&outcomes);
    assert_eq!((&*told[0], &*told[2]), ("Drop", "Evict"));
    assert!(told[1].starts_with("plugin_memory: ") && told[1].contains("1001 bytes"), "{told:?}");
}
