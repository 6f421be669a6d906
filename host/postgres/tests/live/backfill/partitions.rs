//! Partitioned tables, and what is published of a table.

use model::backfill::Tables as _;
use postgres::{Options, Tables};

use super::{code, column, numbers, options, read, sorted, wanted};
use crate::cluster::majors;
use crate::support;

/// Partitions with columns in another order, of several levels, with and without keys.
const TREE: &str = "
    create table root (id int, region text, note text) partition by range (id);
    create table low partition of root for values from (minvalue) to (100);
    create table high (gone int, note text, region text, id int not null primary key);
    alter table high drop gone;
    alter table root attach partition high for values from (100) to (200);
    create table deep partition of root for values from (200) to (maxvalue) partition by list (region);
    create table \"deep A\" partition of deep for values in ('a');
    create table deep_b partition of deep default;";

#[tokio::test]
async fn b177_all_partitions_are_read_once_under_the_name_of_the_stream() {
    for bin in crate::values::ends() {
        for via_root in [true, false] {
            let mut db = crate::values::database(bin.clone()).await;
            db.sql.run(TREE).await;
            let publication = format!(
                "create publication p for table root with (publish_via_partition_root = {via_root})"
            );
            db.sql.run(&publication).await;
            let chosen = |options| Options { publication: "p".to_owned(), ..options };
            let mut source = support::connect(chosen(db.options())).await;
            db.sql
                .run(
                    "insert into root select n, (array['a', 'b', null])[n % 3 + 1], 'x' || n
                     from generate_series(1, 300) n",
                )
                .await;
            let (changes, _) = support::read(&mut *source, 1).await;
            let tables = Tables::new(chosen(options(&db)), None);
            for rows_max in [7, 1_000] {
                let got = read(&tables, &wanted("root"), rows_max).await;
                assert_eq!(got.survey.ranges.len(), 4);
                assert_eq!(sorted(column_of(&got, "id")), numbers(300), "{via_root}");
                for (relation, row) in &got.rows {
                    let id = |it: &model::relation::Relation| it.column("id").unwrap();
                    let change = changes
                        .iter()
                        .find(|change| {
                            let sent = change.after.as_ref().unwrap();
                            sent.value(id(&change.relation)) == row.value(id(relation))
                        })
                        .unwrap();
                    assert_eq!(*relation, change.relation);
                }
            }
            // One partition by itself.
            let got = read(&tables, &wanted("high"), 30).await;
            assert_eq!(got.rows.len(), 100);
            assert_eq!(&*got.rows[0].0.table, if via_root { "root" } else { "high" });
            // A partition that is dropped takes its rows along.
            let survey = super::survey(&tables, &wanted("root")).await;
            db.sql.run("drop table low").await;
            let mut rows = 0;
            for range in &survey.ranges {
                let ask = super::ask(&wanted("root"), &survey, range, 1_000);
                let page = super::page(&tables, &ask).await;
                rows += page.rows.len();
            }
            assert_eq!(rows, 201);
            source.close().await.unwrap();
        }
    }
}

fn column_of(read: &super::Read, name: &str) -> Vec<String> {
    let text =
        |(relation, row): &(std::sync::Arc<model::relation::Relation>, model::page::Row)| match row
            .value(relation.column(name).unwrap())
        {
            model::page::Value::Text(text) => text.to_owned(),
            other => panic!("{other:?}"),
        };
    read.rows.iter().map(text).collect()
}

/// What the publication leaves out, a backfill does not bring either.
#[tokio::test]
async fn b162_a_backfill_brings_what_is_published() {
    for bin in majors() {
        let mut db = crate::values::database(bin).await;
        db.sql
            .run(
                "create table t (id int primary key, secret text, note text, kind int,
                     twice int generated always as (kind * 2) stored);
                 create table child () inherits (t);
                 create table other (id int primary key);
                 create view v as select * from t;
                 create publication p for table t (id, kind, note) where (id > 3)",
            )
            .await;
        let chosen = |options| Options { publication: "p".to_owned(), ..options };
        let mut source = support::connect(chosen(db.options())).await;
        db.sql
            .run(
                "insert into t select n, 's', 'n', 1 from generate_series(1, 9) n;
                 insert into child select n, 's', 'n', 1 from generate_series(1, 9) n",
            )
            .await;
        let (changes, _) = support::read(&mut *source, 1).await;
        let tables = Tables::new(chosen(options(&db)), None);
        let got = read(&tables, &wanted("t"), 2).await;
        assert_eq!(column(&got, 0), ["4", "5", "6", "7", "8", "9"], "and none of the child's");
        assert_eq!(got.rows[0].0, changes[0].relation);
        assert_eq!(code(tables.survey(&wanted("other")).await), "backfill_not_published");
        assert_eq!(code(tables.survey(&wanted("v")).await), "backfill_table_kind");
        assert_eq!(code(tables.survey(&wanted("nothing")).await), "table_missing");
        source.close().await.unwrap();
    }
}
