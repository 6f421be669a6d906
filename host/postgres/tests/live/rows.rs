//! What becomes of rows and transactions.

use model::change::Operation;

use crate::cluster::Database;
use crate::support::{connect, key, read, read_texts, text};

#[tokio::test]
async fn b001_b003_b004_b006_changes_under_default_identity() {
    let mut db = Database::create().await;
    db.sql.run("create table t (id int primary key, name text, note text)").await;
    let mut source = connect(db.options()).await;
    db.sql.run("insert into t values (1, 'a', null)").await;
    db.sql.run("update t set name = 'b' where id = 1").await;
    db.sql.run("update t set id = 2 where id = 1").await;
    db.sql.run("delete from t where id = 2").await;
    let now = db.sql.value("select (extract(epoch from now()) * 1e6)::int8").await;
    let (changes, commits) = read(&mut *source, 4).await;
    assert_eq!(
        changes.iter().map(text).collect::<Vec<_>>(),
        [
            "insert t (1, a, null)",
            "update t (1, b, null)",
            "update t [1, _, _] -> (2, b, null)",
            "delete t [2, _, _]",
        ]
    );
    for (change, commit) in changes.iter().zip(&commits) {
        assert_eq!(change.position.ordinal, 0);
        assert_eq!(change.position.commit_lsn, commit.commit_lsn);
        assert!(commit.end_lsn > commit.commit_lsn);
        assert_eq!((&*change.relation.schema, &*change.relation.table), ("public", "t"));
        assert_eq!(key(change), ["id"]);
        let age_us = now.parse::<i64>().unwrap() - change.transaction.committed_at_us;
        assert!((0..60_000_000).contains(&age_us), "{age_us}");
    }
    source.close().await.unwrap();
}

#[tokio::test]
async fn b002_b005_b069_changes_under_full_identity() {
    let mut db = Database::create().await;
    db.sql.run("create table t (id int primary key, name text, long text)").await;
    db.sql.run("alter table t replica identity full").await;
    db.sql.run("alter table t alter long set storage external").await;
    let mut source = connect(db.options()).await;
    db.sql.run("insert into t values (1, 'a', repeat('x', 9000))").await;
    db.sql.run("update t set name = 'b'").await;
    db.sql.run("delete from t").await;
    let (changes, _) = read(&mut *source, 3).await;
    let long = "x".repeat(9000);
    assert_eq!(
        changes.iter().map(text).collect::<Vec<_>>(),
        [
            format!("insert t (1, a, {long})"),
            format!("update t (1, a, {long}) -> (1, b, {long})"),
            format!("delete t (1, b, {long})"),
        ]
    );
    assert_eq!(key(&changes[1]), ["id"], "the primary key, not every column");
}

#[tokio::test]
async fn b070_an_unchanged_long_value_is_told_from_null() {
    let mut db = Database::create().await;
    db.sql.run("create table t (id int primary key, n int, long text)").await;
    db.sql.run("alter table t alter long set storage external").await;
    db.sql.run("insert into t values (1, 1, repeat('x', 9000))").await;
    let mut source = connect(db.options()).await;
    db.sql.run("update t set n = 2").await;
    db.sql.run("update t set long = null").await;
    assert_eq!(read_texts(&mut *source, 2).await, ["update t (1, 2, ?)", "update t (1, 2, null)"]);
}

#[tokio::test]
async fn b007_b008_b009_b010_keys_of_all_kinds() {
    let mut db = Database::create().await;
    db.sql
        .run(
            "create table compound (c int, b text, a int, primary key (a, c));
             create table unique_only (a int not null unique, b int);
             alter table unique_only replica identity using index unique_only_a_key;
             create table none (a int);
             create table nothing (a int primary key);
             alter table nothing replica identity nothing;
             create table including (a int, b int, primary key (a) include (b));
             alter table including replica identity full;
             create table full_none (a int);
             alter table full_none replica identity full;",
        )
        .await;
    let mut source = connect(db.options()).await;
    db.sql
        .run("insert into compound values (1, 'x', 2); update compound set b = 'y', c = 3;")
        .await;
    db.sql.run("insert into unique_only values (1, 1); update unique_only set a = 2;").await;
    db.sql.run("delete from unique_only").await;
    db.sql.run("insert into none values (1); insert into nothing values (1);").await;
    db.sql.run("insert into full_none values (1); delete from full_none").await;
    db.sql.run("insert into including values (1, 2)").await;
    let (changes, _) = read(&mut *source, 6).await;
    let got: Vec<_> = changes.iter().map(|change| (text(change), key(change).join(" "))).collect();
    let expected = [
        ("insert compound (1, x, 2)", "c a"),
        ("update compound [1, _, 2] -> (3, y, 2)", "c a"),
        ("insert unique_only (1, 1)", "a"),
        ("update unique_only [1, _] -> (2, 1)", "a"),
        ("delete unique_only [2, _]", "a"),
        ("insert none (1)", ""),
        ("insert nothing (1)", "a"),
        ("insert full_none (1)", ""),
        ("delete full_none (1)", ""),
        ("insert including (1, 2)", "a"),
    ];
    assert_eq!(got, expected.map(|(text, key)| (text.to_owned(), key.to_owned())));
}

#[tokio::test]
async fn b011_one_transaction_has_one_commit_and_rising_ordinals() {
    let mut db = Database::create().await;
    db.sql.run("create table a (n int primary key); create table b (like a including all);").await;
    db.sql.run("create table c (like a including all)").await;
    let mut source = connect(db.options()).await;
    db.sql
        .run(
            "do $$ begin for n in 0..999 loop
                 execute format('insert into %I values ($1)', (array['a','b','c'])[n % 3 + 1]) using n;
             end loop; end $$",
        )
        .await;
    let (changes, commits) = read(&mut *source, 1).await;
    assert_eq!(changes.len(), 1000);
    for (n, change) in changes.iter().enumerate() {
        assert_eq!(change.position.commit_lsn, commits[0].commit_lsn);
        assert_eq!(change.position.ordinal, n as u64);
        assert_eq!(text(change), format!("insert {} ({n})", ["a", "b", "c"][n % 3]));
    }
}

#[tokio::test]
async fn b012_interleaved_transactions_follow_commit_order() {
    let mut db = Database::create().await;
    db.sql.run("create table t (n int primary key)").await;
    let mut source = connect(db.options()).await;
    let mut other = db.cluster.session(&db.name).await;
    db.sql.run("begin; insert into t values (1);").await;
    other.run("begin; insert into t values (2);").await;
    db.sql.run("insert into t values (3)").await;
    other.run("insert into t values (4); commit;").await;
    db.sql.run("commit").await;
    let (changes, commits) = read(&mut *source, 2).await;
    let texts: Vec<_> = changes.iter().map(text).collect();
    assert_eq!(texts, ["insert t (2)", "insert t (4)", "insert t (1)", "insert t (3)"]);
    assert!(commits[0].commit_lsn < commits[1].commit_lsn);
    assert!(changes.is_sorted_by(|a, b| a.position < b.position));
}

#[tokio::test]
async fn b013_b014_b015_what_was_rolled_back_or_empty_is_not_delivered() {
    let mut db = Database::create().await;
    db.sql.run("create table t (n int primary key)").await;
    let mut source = connect(db.options()).await;
    db.sql.run("begin; insert into t values (1); rollback;").await;
    db.sql
        .run(
            "begin; insert into t values (2); savepoint s; insert into t values (3);
             rollback to s; insert into t values (4); commit;",
        )
        .await;
    db.sql.run("begin; select 1; commit;").await;
    let (changes, _) = read(&mut *source, 1).await;
    assert_eq!(changes.iter().map(text).collect::<Vec<_>>(), ["insert t (2)", "insert t (4)"]);
    assert_eq!(changes.iter().map(|c| c.position.ordinal).collect::<Vec<_>>(), [0, 1]);
}

#[tokio::test]
async fn b019_b020_b024_b025_truncates_and_messages_keep_their_place() {
    let mut db = Database::create().await;
    db.sql.run("create table a (n int primary key); create table b (n int primary key);").await;
    let mut source = connect(db.options()).await;
    db.sql
        .run(
            "begin; insert into a values (1); truncate a, b;
             select pg_logical_emit_message(true, 'someone', 'hello');
             select pg_logical_emit_message(false, 'someone', 'else');
             insert into a values (1); commit;",
        )
        .await;
    let (changes, _) = read(&mut *source, 1).await;
    let mut got: Vec<_> = changes.iter().map(|c| (c.position.ordinal, text(c))).collect();
    // The order of the truncated tables is the server's.
    got[1..3].sort_by(|a, b| a.1.cmp(&b.1));
    let texts: Vec<&str> = got.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, ["insert a (1)", "truncate a", "truncate b", "insert a (1)"]);
    let ordinals: Vec<u64> = changes.iter().map(|c| c.position.ordinal).collect();
    assert_eq!(ordinals, [0, 1, 2, 4], "the transactional message counts");
    assert_eq!(changes[1].operation, Operation::Truncate);
}

#[tokio::test]
async fn b028_a_value_over_many_reads_is_whole() {
    let mut db = Database::create().await;
    db.sql.run("create table t (n int primary key, v bytea)").await;
    let mut source = connect(db.options()).await;
    db.sql.run("insert into t values (1, decode(repeat('00ff10', 1000000), 'hex'))").await;
    let texts = read_texts(&mut *source, 1).await;
    assert_eq!(texts, [format!("insert t (1, \\x{})", "00ff10".repeat(1_000_000))]);
}

#[tokio::test]
async fn b074_b075_b076_b077_b078_b080_a_backlog_keeps_the_tables_of_its_time() {
    let mut db = Database::create().await;
    db.sql.run("create type mood as enum ('sad', 'ok')").await;
    db.sql.run("create table t (id int primary key, a int, b text, m mood)").await;
    connect(db.options()).await.close().await.unwrap();
    for statement in [
        "insert into t values (1, 10, 'x', 'ok')",
        "alter table t add c int default 5",
        "insert into t values (2, 20, 'y', 'sad')",
        "alter table t drop a",
        "insert into t values (3, 'z', null, 6)",
        "alter table t rename b to bb",
        "insert into t values (4, 'z', null, 7)",
        "alter table t alter c type text using c || '!'",
        "insert into t values (5, 'z', null, 'seven')",
        "drop table t",
        "create table t (id text primary key)",
        "insert into t values ('six')",
        "drop table t",
        "drop type mood",
    ] {
        db.sql.run(statement).await;
    }
    let mut source = connect(db.options()).await;
    let (got, _) = read(&mut *source, 6).await;
    let texts: Vec<String> = got
        .iter()
        .map(|change| {
            let columns: Vec<&str> = change.relation.columns.iter().map(|c| &*c.name).collect();
            format!("{} of {}", text(change), columns.join(" "))
        })
        .collect();
    assert_eq!(
        texts,
        [
            "insert t (1, 10, x, ok) of id a b m",
            "insert t (2, 20, y, sad, 5) of id a b m c",
            "insert t (3, z, null, 6) of id b m c",
            "insert t (4, z, null, 7) of id bb m c",
            "insert t (5, z, null, seven) of id bb m c",
            "insert t (six) of id",
        ]
    );
    assert_ne!(got[4].relation.oid, got[5].relation.oid);
    assert!(got.iter().all(|change| key(change) == ["id"]));
}

#[tokio::test]
async fn b084_rows_of_partitions_carry_their_root() {
    let mut db = Database::create().await;
    db.sql
        .run(
            "create table root (id int primary key) partition by range (id);
             create table low partition of root for values from (0) to (10);
             create table high partition of root for values from (10) to (20);",
        )
        .await;
    let mut source = connect(db.options()).await;
    db.sql.run("insert into root values (1); insert into high values (11);").await;
    db.sql.run("update root set id = 12 where id = 1").await;
    let texts = read_texts(&mut *source, 2).await;
    assert_eq!(
        texts,
        ["insert root (1)", "insert root (11)", "delete root [1]", "insert root (12)"]
    );
}
