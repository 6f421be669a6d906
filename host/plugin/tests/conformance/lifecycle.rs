//! What a guest is, what it says of its configuration, and what it is handed of a table.

use model::plugin::Outcome;
use plugin::Role;

use crate::guests::{Guest, host};
use crate::rows::{Text, Unchanged, insert, rows, rows_of, said, set};

over_each_guest!(
    it_says_what_it_is,
    it_takes_a_configuration_or_says_all_that_is_wrong,
    it_is_handed_the_columns_that_it_asked_for,
    a_table_that_it_did_not_name_passes,
);

async fn it_says_what_it_is(guest: &Guest) {
    let program = guest.program();
    assert_eq!(program.roles().collect::<Vec<_>>(), Role::ALL);
    let described = host().describe("conformance", &program).unwrap();
    assert_eq!(described.config_schema.as_deref(), Some(r#"{"type":"object"}"#));
    assert!(described.capabilities.is_empty() && described.warm);
}

async fn it_takes_a_configuration_or_says_all_that_is_wrong(guest: &Guest) {
    let wrong = |config: &str| {
        let bound = guest.try_bind(Role::Transform, config);
        bound.map(|_| ()).unwrap_err().to_string()
    };
    let message = "the config of plugin conformance is wrong: ";
    let both = wrong(r#"{"packed": 1, "refuse": "as ásked", "zzz": true}"#);
    let expected = "packed: wrong type; refuse: as ásked; zzz: unknown; as a whole";
    assert_eq!(both, format!("{message}{expected}"));
    assert_eq!(wrong("[]"), format!("{message}no flat object"));
    assert_eq!(wrong(""), format!("{message}no flat object"));
    guest.bind(Role::Transform, "{}");
}

async fn it_is_handed_the_columns_that_it_asked_for(guest: &Guest) {
    let plugin = guest.bind(Role::Transform, "{}");
    let mut change = said("echo");
    change.before = Some([Unchanged; 7]);
    let narrow = plugin.run(rows_of("conformance", "narrow", &[change.clone()])).await;
    let names = |set: &std::collections::BTreeMap<String, String>| {
        let names = set.keys().filter(|name| name.ends_with(".seen"));
        names.map(|name| name.trim_end_matches(".seen").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&set(&narrow[0])), ["new.say", "new.wide"]);
    let all = names(&set(&plugin.run(rows(&[change])).await[0]));
    let metadata = ["commit_timestamp", "idempotency_key", "transaction_annotations"];
    let columns = ["flag", "id", "ratio", "raw", "say", "tree", "wide"];
    let mut expected: Vec<_> = metadata.map(|name| format!("meta.{name}")).into();
    expected
        .extend(["new", "old"].iter().flat_map(|of| columns.map(|name| format!("{of}.{name}"))));
    assert_eq!(all, expected);
}

async fn a_table_that_it_did_not_name_passes(guest: &Guest) {
    let plugin = guest.bind(Role::Transform, r#"{"table": "public.all"}"#);
    let drop =
        insert([Text("1"), Text("drop"), Unchanged, Unchanged, Unchanged, Unchanged, Unchanged]);
    let named = plugin.run(rows(std::slice::from_ref(&drop))).await;
    assert!(matches!(named[..], [Ok(Outcome::Drop)]), "{named:?}");
    let other = plugin.run(rows_of("public", "other", &[drop])).await;
    assert!(matches!(other[..], [Ok(Outcome::Keep)]), "{other:?}");
}
