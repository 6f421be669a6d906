use model::change::Change;
use model::relation::Relation;

use super::*;
use crate::fake::log::{Log, Row as Written};

fn by(scope: Scope, columns: &[(&str, &[&str])]) -> Grouping {
    let table = |(table, columns): &(&str, &[&str])| GroupColumns {
        table: Table::Named { schema: "public".into(), table: (*table).to_owned() },
        columns: columns.iter().map(|&column| column.to_owned()).collect(),
    };
    Grouping::On { scope, tables: columns.iter().map(table).collect() }
}

/// A change of this row in a table of this version.
fn change(row: Written, alter: impl FnOnce(&mut Relation)) -> Change {
    let log = Log::new();
    log.alter(alter);
    log.commit(vec![row]);
    log.changes().remove(0)
}

fn update(key: u64, value: &str) -> Written {
    Written::update(key, value)
}

fn full(relation: &mut Relation) {
    relation.identity = Identity::Full;
}

/// How many groups two changes have in common.
fn common(grouping: &Grouping, one: &Change, other: &Change) -> usize {
    let theirs: Vec<_> = grouping.of_event(other).keys().collect();
    grouping.of_event(one).keys().filter(|key| theirs.contains(key)).count()
}

#[test]
fn b094_rows_with_equal_values_share_a_group() {
    let grouping = by(Scope::Table, &[("t", &["value"])]);
    let a = change(update(1, "a"), full);
    assert_eq!(common(&grouping, &a, &change(update(2, "a"), full)), 1);
    assert_eq!(common(&grouping, &a, &change(update(2, "b"), full)), 0);
    assert_eq!(common(&grouping, &a, &change(update(1, "b"), full)), 1, "the row itself");
    assert_eq!(common(&Grouping::default(), &a, &change(update(2, "a"), full)), 0);
    assert_eq!(Grouping::Off.of_event(&a), Groups::None);
    let truncate = change(Written::truncate(), full);
    assert_eq!(
        (grouping.of_event(&truncate), Grouping::Off.of_event(&truncate)),
        (Groups::All, Groups::All)
    );
}

#[test]
fn b095_a_changed_value_belongs_to_both_groups() {
    let grouping = by(Scope::Table, &[("t", &["value"])]);
    let moved = Written { before: Some((1, Some("a".into()))), ..update(1, "b") };
    let moved = change(moved, full);
    for value in ["a", "b"] {
        assert_eq!(common(&grouping, &moved, &change(update(2, value), full)), 1, "{value}");
    }
    // The key alone says nothing of the value it had.
    let moved = Written { before: Some((1, None)), ..update(2, "b") };
    let moved = change(moved, |_| {});
    assert_eq!(common(&grouping, &moved, &change(update(1, "a"), |_| {})), 1, "the old key's");
    assert_eq!(common(&grouping, &moved, &change(update(3, "a"), |_| {})), 0);
    assert_eq!(grouping.of_event(&moved).keys().count(), 3);
    // Part of the key: that says all.
    let grouping = by(Scope::Table, &[("t", &["id"])]);
    let Groups::Two(..) = grouping.of_event(&moved) else { panic!() };
    let Groups::One(_) = grouping.of_event(&change(update(1, "a"), |_| {})) else { panic!() };
}

#[test]
fn b096_without_a_value_the_key_counts() {
    let grouping = by(Scope::Table, &[("t", &["value"])]);
    let null = |key| change(Written { is_null: true, ..update(key, "") }, full);
    assert_eq!(grouping.of_event(&null(1)), Groups::of(&null(1)));
    assert_eq!(common(&grouping, &null(1), &null(2)), 0);
    let unsent = change(Written::unsent(1), |_| {});
    assert_eq!(grouping.of_event(&unsent), Groups::of(&unsent));
    // One of two is not enough.
    let grouping = by(Scope::Table, &[("t", &["id", "value"])]);
    assert_eq!(grouping.of_event(&null(1)), Groups::of(&null(1)));
    let renamed = change(update(1, "a"), |relation| relation.columns[1].name = "area".into());
    assert_eq!(grouping.of_event(&renamed), Groups::of(&renamed));
}

#[test]
fn b097_tables_share_groups_only_where_the_sink_says_so() {
    let columns: &[(&str, &[&str])] = &[("t", &["id"]), ("u", &["value"]), ("v", &[])];
    let of = |table: &str, oid, row| {
        change(row, |relation: &mut Relation| {
            (relation.oid, relation.table) = (oid, table.into());
        })
    };
    let (poi, text) = (of("t", 1, update(7, "x")), of("u", 2, update(1, "7")));
    assert_eq!(common(&by(Scope::Table, columns), &poi, &text), 0);
    assert_eq!(common(&by(Scope::Sink, columns), &poi, &text), 1);
    // A table that is not listed, or lists nothing, has nothing to do with the others.
    for table in ["v", "w"] {
        let other = of(table, 3, update(7, "7"));
        assert_eq!(by(Scope::Sink, columns).of_event(&other), Groups::of(&other));
    }
}

#[test]
fn a_document_is_in_order_beside_its_groups() {
    let grouping = by(Scope::Sink, &[("t", &["value"])]);
    let (one, two) = (change(update(1, "a"), full), change(update(2, "b"), full));
    let keys =
        |change: &Change, id: &str| -> Vec<_> { grouping.of_document(change, id).keys().collect() };
    let common =
        |a: Vec<GroupKey>, b: Vec<GroupKey>| a.iter().filter(|key| b.contains(key)).count();
    assert_eq!(common(keys(&one, "x"), keys(&two, "x")), 1);
    assert_eq!(common(keys(&one, "x"), keys(&two, "y")), 0);
    assert_eq!(common(keys(&one, "x"), keys(&one, "y")), 1);
    assert_eq!(Grouping::Off.of_document(&one, "x"), Groups::None);
    let alone = Groups::One(GroupKey::of_document("x"));
    assert_eq!(Grouping::default().of_document(&one, "x"), alone);
}
