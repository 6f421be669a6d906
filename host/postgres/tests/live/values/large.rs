//! Values as large as they get.

use model::page::Value;

use super::encodings::{definite, skip};
use super::{database, ends};
use crate::support::{broken, connect, read, read_texts};

const MEGABYTE: usize = 1_000_000;

/// The most memory that this process ever had, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("read our own status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    let kilobytes = line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number");
    kilobytes * 1024
}

#[tokio::test]
async fn b034_a_value_of_200_megabytes_comes_whole_in_bounded_memory() {
    let mut db = database(ends().remove(0)).await;
    db.sql
        .run(
            "create table t (id int primary key, body text);
             alter table t alter body set storage external;",
        )
        .await;
    let mut source = connect(db.options()).await;
    let before = peak();
    db.sql.run("insert into t values (1, repeat('0123456789', 20000000))").await;
    db.sql.run("insert into t values (2, 'behind')").await;
    let (changes, _) = read(&mut *source, 2).await;
    let Value::Text(text) = changes[0].after.as_ref().unwrap().value(1) else { panic!() };
    // The frame and its page: twice the value, 400 MB. Of a buffer that grew by doubling, what was
    // never written takes no memory.
    let more = peak() - before;
    assert!(text == "0123456789".repeat(20 * MEGABYTE));
    assert_eq!(crate::support::text(&changes[1]), "insert t (2, behind)");
    assert!(more < 500 * MEGABYTE, "{} MB", more / MEGABYTE);
}

#[tokio::test]
async fn b034_a_row_that_the_server_cannot_send_is_a_named_state_with_a_remedy() {
    // As text a `bytea` is twice as large. The values come from where they are stored already: one
    // statement could not hold them all.
    let one = ("create table t (id int, a bytea)", 540, "select 2, v from stored");
    let many = (
        "create table t (id int, a bytea, b bytea, c bytea, d bytea, e bytea, f bytea)",
        90,
        "select 2, v, v, v, v, v, v from stored",
    );
    let [oldest, newest] = &ends()[..] else { panic!("two majors") };
    for (bin, (table, megabytes, row)) in [(oldest, one), (oldest, many), (newest, many)] {
        let mut db = database(bin.clone()).await;
        let bytes = megabytes * MEGABYTE;
        db.sql
            .run(&format!(
                "create table stored (v bytea); {table};
                 insert into stored select convert_to(repeat('x', {bytes}), 'UTF8')"
            ))
            .await;
        let mut source = connect(db.options()).await;
        db.sql.run("insert into t values (1)").await;
        db.sql.run(&format!("insert into t {row}")).await;
        db.sql.run("insert into t values (3)").await;
        let (code, help) = definite(broken(&mut *source).await);
        assert_eq!(code, "row_too_large_for_server", "{help}");
        skip(&mut db, &help).await;
        let mut source = connect(db.options()).await;
        let texts = read_texts(&mut *source, 1).await;
        assert!(texts[0].starts_with("insert t (3, null"), "{texts:?}");
    }
}
