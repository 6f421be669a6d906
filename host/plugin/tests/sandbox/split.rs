//! How rows are cut into batches makes no difference to what becomes of them.

use plugin::Role;
use proptest::prelude::*;

use crate::support::{all_told, bind, named};

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
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn outcomes_do_not_depend_on_the_cut(
        names in prop::collection::vec(prop::sample::select(&NAMES[..]), 1..40),
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
