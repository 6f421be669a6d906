//! Login, preparation, and each way in which they fail.

use std::time::Duration;

use model::lsn::Lsn;
use model::source::SourceError;
use postgres::{Create, Options, Password};

use crate::cluster::{Cluster, Database};
use crate::log;
use crate::support::{connect, read_texts, try_connect};

/// The code of the definite error, or the text of the transient one.
pub(crate) async fn failure(options: Options) -> Result<&'static str, String> {
    match try_connect(options).await {
        Ok(_) => panic!("connected"),
        Err(SourceError::Definite { code, message, help }) => {
            assert!(!message.is_empty() && !help.is_empty(), "{code}");
            assert!(!format!("{message} {help}").contains("hunter"), "{message} {help}");
            Ok(code)
        }
        Err(SourceError::Transient(text)) => {
            assert!(!text.contains("hunter"), "{text}");
            Err(text)
        }
    }
}

#[tokio::test]
async fn b190_b254_what_is_missing_is_named_or_created() {
    let mut db = Database::create().await;
    db.drop_publication().await;
    let full = db.options();
    let none = Options { slot_create: false, publication_create: None, ..full.clone() };
    assert_eq!(failure(none.clone()).await, Ok("publication_missing"));
    let create = full.publication_create.clone();
    let publication = Options { publication_create: create, ..none.clone() };
    assert_eq!(failure(publication.clone()).await, Ok("slot_missing"));
    let made =
        "select puballtables, pubviaroot from pg_publication where pubname = 'Sequin''s \"p\"'";
    assert_eq!(db.sql.run(made).await, [["t", "t"]]);
    assert_eq!(
        db.sql
            .value("select count(*) from pg_replication_slots where database = current_database()")
            .await,
        "0"
    );

    let source = connect(full).await;
    let slot = db.slot();
    let kind =
        format!("select plugin, temporary from pg_replication_slots where slot_name = '{slot}'");
    assert_eq!(db.sql.run(&kind).await, [["pgoutput", "f"]]);
    let identifier = db.sql.value("select system_identifier from pg_control_system()").await;
    let origin = source.origin();
    assert!(origin.starts_with(&format!("{identifier}/1/{}/{slot}/", db.name)), "{origin}");
    let end: Lsn = db.sql.value("select pg_current_wal_flush_lsn()::text").await.parse().unwrap();
    let position = source.server_position().unwrap();
    assert!(position > Lsn::ZERO && position <= end);
    source.close().await.unwrap();
    // Everything is there: nothing needs to be allowed.
    connect(none).await.close().await.unwrap();
}

#[tokio::test]
async fn the_owners_own_statement_creates_the_publication() {
    let mut db = Database::create().await;
    db.sql.run("create table t (n int primary key); create table u (n int primary key);").await;
    let mut options = db.options();
    options.publication = "own".to_owned();
    for (statement, expected) in [
        ("create publication other for table t", "publication_init_sql"),
        ("create publication own for table t; drop table u", "publication_init_sql"),
        ("create publication own for table missing", "publication_init_sql"),
    ] {
        options.publication_create = Some(Create::Sql(statement.to_owned()));
        assert_eq!(failure(options.clone()).await, Ok(expected), "{statement}");
    }
    options.publication_create = Some(Create::Sql("create publication own for table t".to_owned()));
    let mut source = connect(options).await;
    db.sql.run("insert into u values (1); insert into t values (2);").await;
    assert_eq!(read_texts(&mut *source, 1).await, ["insert t (2)"]);
}

/// To publish them would break the applications that write them, at once.
#[tokio::test]
async fn b008_b254_nothing_is_published_that_its_own_writers_could_not_write_any_more() {
    let mut db = Database::create().await;
    db.drop_publication().await;
    db.sql
        .run(
            "create table bare_1 (n int);
             create table bare_2 (n int primary key);
             alter table bare_2 replica identity nothing;
             create table parted (n int) partition by list (n);
             create table leaf partition of parted for values in (1);
             create table good_1 (n int primary key);
             create table good_2 (n int);
             alter table good_2 replica identity full;
             create table good_3 (n int not null unique);
             alter table good_3 replica identity using index good_3_n_key;
             insert into bare_1 values (1);",
        )
        .await;
    let SourceError::Definite { code, message, help } =
        try_connect(db.options()).await.map(drop).unwrap_err()
    else {
        panic!("transient");
    };
    assert_eq!(code, "replica_identity");
    assert!(message.ends_with(": public.bare_1, public.bare_2, public.leaf"), "{message}");
    assert!(help.contains("REPLICA IDENTITY FULL") && help.contains("init_sql"), "{help}");
    assert_eq!(db.sql.value("select count(*) from pg_publication").await, "0");
    db.sql.run("update bare_1 set n = 2").await;
    // The session is of use as before.
    db.sql.run("drop table bare_1, bare_2, parted").await;
    let apart = Create::AllTables { via_partition_root: false };
    let options = Options { publication_create: Some(apart), ..db.options() };
    connect(options).await.close().await.unwrap();
    let made = "select puballtables, pubviaroot from pg_publication";
    assert_eq!(db.sql.run(made).await, [["t", "f"]]);
}

#[tokio::test]
async fn tables_without_a_replica_identity_are_named_in_a_warning() {
    log::listen();
    let mut db = Database::create().await;
    db.sql.run("create table bare_1 (n int); create table good_1 (n int primary key)").await;
    connect(db.options()).await.close().await.unwrap();
    let [warning] = &log::lines("public.bare_1")[..] else { panic!("no warning") };
    assert!(warning.starts_with("WARN") && !warning.contains("good_"), "{warning}");
    // Inserts alone need no identity.
    let mut options = db.options();
    options.publication = "inserts".to_owned();
    db.sql.run("create publication inserts for all tables with (publish = 'insert')").await;
    connect(options).await.close().await.unwrap();
    assert_eq!(log::lines("public.bare_1").len(), 1);
}

#[tokio::test]
async fn a_slot_that_is_not_ours_is_refused() {
    let mut db = Database::create().await;
    let options = db.options();
    let slot = db.slot();
    db.sql.run(&format!("select pg_create_physical_replication_slot('{slot}')")).await;
    assert_eq!(failure(options.clone()).await, Ok("slot_plugin"));
    db.sql.run(&format!("select pg_drop_replication_slot('{slot}')")).await;
    db.sql
        .run(&format!("select pg_create_logical_replication_slot('{slot}', 'test_decoding')"))
        .await;
    assert_eq!(failure(options.clone()).await, Ok("slot_plugin"));
    db.sql.run(&format!("select pg_drop_replication_slot('{slot}')")).await;
    let other = Options { database: "postgres".to_owned(), ..options.clone() };
    db.sql.run(&format!("select pg_create_logical_replication_slot('{slot}', 'pgoutput')")).await;
    assert_eq!(failure(other).await, Ok("slot_database"));

    // In use: whoever has it is named, and the next attempt may find it free.
    let first = connect(options.clone()).await;
    let pid = format!("select active_pid from pg_replication_slots where slot_name = '{slot}'");
    let pid = db.sql.value(&pid).await;
    let error = failure(options.clone()).await.unwrap_err();
    assert!(error.contains(&format!("process {pid}, application sequin")), "{error}");
    first.close().await.unwrap();
    connect(options).await.close().await.unwrap();
}

#[tokio::test]
async fn every_way_to_log_in_works_and_a_wrong_password_is_definite() {
    let mut db = Database::create().await;
    let n = &db.name;
    db.sql
        .run(&format!(
            "do $$ begin
                 create role by_scram login replication superuser;
                 create role by_md5 login replication superuser;
                 create role by_password login replication superuser;
                 create role by_trust login replication superuser;
             exception when duplicate_object then null; end $$;
             alter role by_scram password 'hunter2';
             set password_encryption to md5;
             alter role by_md5 password 'hunter2';
             alter role by_password password 'hunter2';
             comment on database {n} is '';"
        ))
        .await;
    for user in ["by_scram", "by_md5", "by_password", "by_trust"] {
        let mut options = db.options();
        options.host = "127.0.0.1".to_owned();
        options.user = user.to_owned();
        options.password = Some(Password::new("hunter2"));
        connect(options.clone()).await.close().await.unwrap();
        if user != "by_trust" {
            options.password = Some(Password::new("hunter3"));
            assert_eq!(failure(options.clone()).await, Ok("authentication"), "{user}");
            options.password = None;
            assert_eq!(failure(options).await, Ok("authentication"), "{user} without a password");
        }
    }
}

#[tokio::test]
async fn missing_rights_and_databases_are_definite() {
    let mut db = Database::create().await;
    let name = db.name.clone();
    db.sql
        .run(&format!("create role r_{name} login; create role rr_{name} login replication"))
        .await;
    let options = db.options();
    let powerless = Options { user: format!("r_{name}"), ..options.clone() };
    assert_eq!(failure(powerless).await, Ok("privilege"));
    // May replicate, but not publish all tables.
    db.drop_publication().await;
    let replicator = Options { user: format!("rr_{name}"), ..options.clone() };
    assert_eq!(failure(replicator).await, Ok("privilege"));
    let nowhere = Options { database: "no_such_database".to_owned(), ..options.clone() };
    assert_eq!(failure(nowhere).await, Ok("database_missing"));
    let nobody = Options { user: "no_such_role".to_owned(), ..options.clone() };
    assert_eq!(failure(nobody).await, Ok("authentication"));
    let misnamed = Options { slot: "No-Slot".to_owned(), ..options };
    assert_eq!(failure(misnamed).await, Ok("slot_name"));
}

#[tokio::test]
async fn a_server_that_is_away_or_silent_is_transient() {
    let db = Database::create().await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    let mut options = Options { host: "127.0.0.1".to_owned(), port, ..db.options() };
    options.connect_timeout = Duration::from_millis(200);
    // It listens and never answers.
    let error = failure(options.clone()).await.unwrap_err();
    assert!(error.contains("log in"), "{error}");
    drop(free);
    let error = failure(options).await.unwrap_err();
    assert!(error.contains(&port.to_string()), "{error}");
    let nowhere = Options { host: "/nonexistent".to_owned(), ..db.options() };
    assert!(failure(nowhere).await.is_err());
}

#[tokio::test]
async fn a_server_that_does_not_log_for_decoding_is_definite() {
    let mut cluster = Cluster::start(&["wal_level=replica"]).await;
    let db = Database::create().await;
    let mut options = db.options();
    options.host = "127.0.0.1".to_owned();
    options.port = cluster.port;
    options.user = "by_trust".to_owned();
    options.database = "postgres".to_owned();
    let mut admin = cluster.session("postgres").await;
    admin.run("create role by_trust login superuser").await;
    assert_eq!(failure(options).await, Ok("wal_level"));
    drop(admin);
    cluster.stop();
}
