//! How rows are cut into batches makes no difference to what becomes of them.

use std::num::NonZeroUsize;
use std::sync::{Arc, LazyLock};

use model::change::Operation;
use model::page::Extent;
use model::plugin::Plugin;
use plugin::{Host, Limits, Role};
use proptest::prelude::*;
use proptest::sample::select;

use crate::support::{
    Cell, Null, Row, Text, Unchanged, all_told, bind, cached, component, named, rows_of,
};

const NAMES: [&str; 14] = [
    "keep",
    "drop",
    "evict",
    "replace",
    "many",
    "error",
    "set-bool",
    "set-text",
    "set-json",
    "set-null",
    "bad-document",
    "bad-json",
    "panic",
    "žluťoučký kůň",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn b272_outcomes_do_not_depend_on_the_cut(
        names in prop::collection::vec(select(&NAMES[..]), 1..40),
        sizes in prop::collection::vec(1_usize..10, 40),
    ) {
        let config = r#"{"column": "name", "when": "panic"}"#;
        let plugin = bind("every-verdict", Role::Transform, config);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let whole = all_told(&runtime.block_on(plugin.run(named(&names))));
        let mut parts = Vec::new();
        let mut rest = &names[..];
        for size in sizes {
            let (part, after) = rest.split_at(size.min(rest.len()));
            if !part.is_empty() {
                parts.extend(all_told(&runtime.block_on(plugin.run(named(part)))));
            }
            rest = after;
        }
        prop_assert_eq!(whole, parts);
    }
}

const TEXTS: [&str; 8] = ["a", "", "de", "en_GB", "x-y", "no tag!", "žluťoučký", "\u{0} 7"];

const JSON: [&str; 8] = [
    r#"["wifi", "sauna", null]"#,
    r#"["pool"]"#,
    "[]",
    r#"{"wifi": true}"#,
    "7",
    r#"[{"lang": "de", "name": "Dom"}, {"lang": "en", "name": null}]"#,
    r#"[{"lang": "de"}, {"lang": "DE", "name": "twice"}]"#,
    r#"[{"lang": "cs", "name": "dóm"}]"#,
];

/// The first-party plugins.
const PLUGINS: [(&str, Role, &str); 5] = [
    (
        "public-rows",
        Role::Filter,
        r#"{"all": [{"column": "is_public"}],
            "any": [{"column": "name", "in": ["a", "de"]}, {"column": "features", "null": true}]}"#,
    ),
    (
        "feature-flags",
        Role::Transform,
        r#"{"column": "features", "flags": ["wifi", "pool"], "unknown": {"column": "other"}}"#,
    ),
    (
        "localised-fields",
        Role::Transform,
        r#"{"column": "features", "language": "lang", "fields": ["name"], "languages": ["en", "de"],
            "unknown": "fail"}"#,
    ),
    (
        "localised-fields",
        Role::Transform,
        r#"{"table": "public.hotels", "fields": ["a"], "languages": ["en", "de", "en-GB"],
            "tall": {"id": "id", "language": "name", "field": "name", "text": "name"}}"#,
    ),
    (
        "pick",
        Role::Transform,
        r#"{"only": ["id"], "rename": {"name": "title"}, "nest": {"more": ["is_public", "features"]},
            "set": {"source": "app"}}"#,
    ),
];

/// Each of them on two hosts that cut rows in different ways.
static BOUND: LazyLock<Vec<[Arc<dyn Plugin>; 2]>> = LazyLock::new(|| {
    let (one, three) = (NonZeroUsize::MIN, 3);
    let here = cached(Limits::default());
    let there = cached(Limits { rows_max: three, threads: one, ..Limits::default() });
    let on = |host: &Host, (name, role, config): (&str, Role, &str)| {
        let program = host.load(&component(name)).unwrap();
        host.bind(name, &program, role, "", config).unwrap()
    };
    PLUGINS.iter().map(|plugin| [on(&here, *plugin), on(&there, *plugin)]).collect()
});

fn cell(texts: &'static [&'static str]) -> impl Strategy<Value = Cell<'static>> {
    prop_oneof![
        1 => Just(Null),
        1 => Just(Unchanged),
        6 => select(texts).prop_map(Text),
    ]
}

fn cells() -> impl Strategy<Value = [Cell<'static>; 4]> {
    (
        select(&["1", "-2", "9223372036854775807"][..]).prop_map(Text),
        cell(&TEXTS),
        cell(&["true", "false"]),
        cell(&JSON),
    )
        .prop_map(|(id, name, public, features)| [id, name, public, features])
}

fn row() -> impl Strategy<Value = Row<'static>> {
    use Operation::{Delete, Insert, Read, Update};
    let operations = select(&[Insert, Update, Delete, Read][..]);
    let extents = select(&[Extent::Full, Extent::Key][..]);
    (operations, extents, cells(), prop::option::of(cells())).prop_map(
        |(operation, extent, cells, before)| match operation {
            Delete => Row { operation, extent, cells, before: None },
            Update => Row { operation, extent: Extent::Full, cells, before },
            _ => Row { operation, extent: Extent::Full, cells, before: None },
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn b272_rows_have_the_same_outcomes_on_any_node_in_any_order_and_company(
        rows in prop::collection::vec(row(), 1..60),
        order in prop::collection::vec(any::<prop::sample::Index>(), 60),
        sizes in prop::collection::vec(1_usize..20, 60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut shuffled: Vec<usize> = (0..rows.len()).collect();
        for (at, other) in order.iter().enumerate().take(rows.len()) {
            shuffled.swap(at, other.index(rows.len()));
        }
        for (plugin, [here, there]) in PLUGINS.iter().zip(BOUND.iter()) {
            let whole = all_told(&runtime.block_on(here.run(rows_of(&rows))));
            let again = all_told(&runtime.block_on(here.run(rows_of(&rows))));
            prop_assert_eq!(&whole, &again, "{:?}: twice the same", plugin);
            let mut rest = &shuffled[..];
            for size in &sizes {
                let (part, after) = rest.split_at((*size).min(rest.len()));
                if !part.is_empty() {
                    let some: Vec<Row<'_>> = part.iter().map(|index| rows[*index]).collect();
                    let told = all_told(&runtime.block_on(there.run(rows_of(&some))));
                    let expected: Vec<String> =
                        part.iter().map(|index| whole[*index].clone()).collect();
                    prop_assert_eq!(expected, told, "{:?}", plugin);
                }
                rest = after;
            }
        }
    }
}
