//! The core of it all, on every major version: over TLS, with SCRAM and channel binding.

use std::sync::Arc;

use postgres::{ChannelBinding, Options, Password, Roots, SslMode, Tls};

use crate::certificates::Authority;
use crate::cluster::{Cluster, Database, majors};
use crate::connect::failure;
use crate::support::{connect, read_texts};

#[tokio::test]
async fn every_major_is_read_over_a_bound_channel() {
    let authority = Authority::new("authority");
    let dir = tempfile::tempdir().unwrap();
    let roots = dir.path().join("authority.crt");
    std::fs::write(&roots, &authority.pem).unwrap();
    let server = authority.issue("server", &["localhost"]);
    let files = [("server.crt", server.certificate), ("server.key", server.key)];
    for bin in majors() {
        let place = bin.display().to_string();
        let cluster = Cluster::start_with(bin, &["wal_level=logical", "ssl=on"], &files).await;
        let mut db = Database::create_in(Arc::new(cluster)).await;
        db.sql
            .run(
                "create role by_scram login replication superuser password 'hunter2';
                 create table t (id int primary key, name text, long text);
                 alter table t alter long set storage external;",
            )
            .await;
        let options = Options {
            host: "localhost".to_owned(),
            user: "by_scram".to_owned(),
            password: Some(Password::new("hunter2")),
            tls: Tls {
                mode: SslMode::VerifyFull,
                roots: Some(Roots::File(roots.clone())),
                client: None,
                channel_binding: ChannelBinding::Require,
            },
            ..db.options()
        };
        let missing = Options { publication_create: None, ..options.clone() };
        db.drop_publication().await;
        assert_eq!(failure(missing.clone()).await, Ok("publication_missing"), "{place}");
        let mut source = connect(options).await;
        db.sql.run("insert into t values (1, 'a', repeat('x', 9000))").await;
        db.sql.run("update t set name = 'b'").await;
        db.sql.run("update t set id = 2").await;
        db.sql.run("begin; delete from t; insert into t values (3, null, ''); commit").await;
        db.sql
            .run("alter table t add more bool[]; insert into t values (4, 'd', 'e', '{t}')")
            .await;
        let long = "x".repeat(9000);
        assert_eq!(
            read_texts(&mut *source, 5).await,
            [
                format!("insert t (1, a, {long})"),
                "update t (1, b, ?)".to_owned(),
                "update t [1, _, _] -> (2, b, ?)".to_owned(),
                "delete t [2, _, _]".to_owned(),
                "insert t (3, null, )".to_owned(),
                "insert t (4, d, e, [true])".to_owned(),
            ],
            "{place}"
        );
        source.close().await.unwrap();
        // Everything is there now.
        connect(missing).await.close().await.unwrap();
    }
}
