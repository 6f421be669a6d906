//! Every verdict in each role, and all that an answer can hold.

use model::plugin::{Fate, Outcome};
use plugin::Role;

use crate::guests::Guest;
use crate::rows::{Text, all_said, insert, rows, said, set, told};

over_each_guest!(
    a_filter_gives_its_verdicts,
    a_router_names_places_of_its_sink,
    a_transform_gives_its_verdicts,
    documents_come_in_order_with_their_effects,
    errors_name_their_column,
    columns_are_set_emptied_and_taken_away,
    a_name_may_have_other_data_in_another_row,
    only_some_columns_go_on,
    a_batch_that_is_refused_or_traps_fails_only_the_guilty,
    b272_the_same_rows_get_the_same_answer_in_any_batch_and_instance,
);

async fn a_filter_gives_its_verdicts(guest: &Guest) {
    let plugin = guest.bind(Role::Filter, "{}");
    let told = told(&plugin.run(rows(&all_said(&["", "keep", "drop", "evict", "error"]))).await);
    assert_eq!(told, ["Keep", "Keep", "Drop", "Evict", "plugin_error: column say: as asked"]);
}

async fn a_router_names_places_of_its_sink(guest: &Guest) {
    let plugin = guest.bind(Role::Route, "{}");
    let outcomes = plugin.run(rows(&all_said(&["here", "", "error", "ž/there"]))).await;
    assert_eq!(set(&outcomes[0])["endpoint_path"], r#""/webhook/here""#);
    assert!(matches!(outcomes[1], Ok(Outcome::Keep)), "{outcomes:?}");
    assert_eq!(told(&outcomes)[2], "plugin_error: column say: as asked");
    let packed = guest.bind(Role::Route, r#"{"packed": true}"#);
    let outcomes = packed.run(rows(&all_said(&["", "there", "here"]))).await;
    assert!(matches!(outcomes[0], Ok(Outcome::Keep)), "{outcomes:?}");
    assert_eq!(set(&outcomes[1])["endpoint_path"], r#""/webhook/there""#);
    assert_eq!(set(&outcomes[2])["endpoint_path"], r#""/webhook/here""#);
}

async fn a_transform_gives_its_verdicts(guest: &Guest) {
    let plugin = guest.bind(Role::Transform, "{}");
    let told = told(&plugin.run(rows(&all_said(&["", "keep", "drop", "evict"]))).await);
    assert_eq!(told, ["Keep", "Keep", "Drop", "Evict"]);
}

async fn documents_come_in_order_with_their_effects(guest: &Guest) {
    let plugin = guest.bind(Role::Transform, "{}");
    let says = ["usual", "many", "write", "keep", "complete", "remove"];
    let told = told(&plugin.run(rows(&all_said(&says))).await);
    let [usual, write, complete, remove] =
        [("Usual", "usual"), ("Write", "write"), ("Complete", "complete"), ("Remove", "remove")]
            .map(|(effect, id)| format!(r#"{effect} {{"id":"{id}"}}"#));
    let many = [&*usual, &write, &complete, &remove].join(", ");
    assert_eq!(told, [usual, many, write, "Keep".to_owned(), complete, remove]);
}

async fn errors_name_their_column(guest: &Guest) {
    let plugin = guest.bind(Role::Transform, "{}");
    let told = told(&plugin.run(rows(&all_said(&["error", "keep", "error-later"]))).await);
    let expected = ["plugin_error: column say: as asked", "Keep", "plugin_error: not yet"];
    assert_eq!(told, expected);
}

async fn columns_are_set_emptied_and_taken_away(guest: &Guest) {
    let plugin = guest.bind(Role::Transform, "{}");
    let outcomes = plugin.run(rows(&all_said(&["null", "absent", "keep"]))).await;
    assert_eq!(set(&outcomes[0])["say"], "null");
    let Ok(Outcome::Set(absent)) = &outcomes[1] else { panic!("{outcomes:?}") };
    assert!(matches!(absent.fate("say"), Fate::Absent), "{absent:?}");
    assert!(matches!(absent.fate("id"), Fate::Kept), "{absent:?}");
    assert!(matches!(outcomes[2], Ok(Outcome::Keep)), "{outcomes:?}");
}

async fn a_name_may_have_other_data_in_another_row(guest: &Guest) {
    let plugin = guest.bind(Role::Transform, "{}");
    let outcomes = plugin.run(rows(&all_said(&["twin-integer", "twin-text"]))).await;
    assert_eq!(set(&outcomes[0])["twin"], "-1");
    assert_eq!(set(&outcomes[1])["twin"], r#""one""#);
}

async fn only_some_columns_go_on(guest: &Guest) {
    let plugin = guest.bind(Role::Transform, r#"{"only": "say"}"#);
    let outcomes = plugin.run(rows(&[said("keep")])).await;
    let Ok(Outcome::Set(patch)) = &outcomes[0] else { panic!("{outcomes:?}") };
    assert!(matches!(patch.fate("say"), Fate::Kept), "{patch:?}");
    assert!(matches!(patch.fate("id"), Fate::Absent), "{patch:?}");
}

async fn a_batch_that_is_refused_or_traps_fails_only_the_guilty(guest: &Guest) {
    for role in Role::ALL {
        let plugin = guest.bind(role, "{}");
        let outcomes = plugin.run(rows(&all_said(&["", "refuse", "", "trap", ""]))).await;
        let told = told(&outcomes);
        assert_eq!([&*told[0], &told[2], &told[4]], ["Keep"; 3], "{told:?}");
        assert_eq!(told[1], "plugin_error: refused as asked");
        // With what the guest logged last, which is for people.
        assert!(
            told[3].starts_with("plugin_trap: ") && told[3].contains("trap as asked"),
            "{told:?}"
        );
    }
}

/// Also of an instance that is used again and again: it neither remembers nor grows.
async fn b272_the_same_rows_get_the_same_answer_in_any_batch_and_instance(guest: &Guest) {
    let tell = "a text that is long enough to be noticed if it were lost each time";
    let filled = insert([
        Text("1"),
        Text("echo"),
        Text("true"),
        Text("1.5"),
        Text(tell),
        Text("[1, 2]"),
        Text("\\x00ff"),
    ]);
    let mut changes = all_said(&["keep", "many", "drop", "error", "null", "twin-text"]);
    changes.push(filled);
    for config in ["{}", r#"{"only": "id", "packed": true}"#] {
        let plugin = guest.bind(Role::Transform, config);
        let whole = told(&plugin.run(rows(&changes)).await);
        for _ in 0..100 {
            assert_eq!(told(&plugin.run(rows(&changes)).await), whole);
        }
        let again = guest.bind(Role::Transform, config);
        for (change, expected) in changes.iter().zip(&whole) {
            let alone = told(&again.run(rows(std::slice::from_ref(change))).await);
            assert_eq!(alone, std::slice::from_ref(expected));
        }
    }
}
