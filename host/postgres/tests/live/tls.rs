//! TLS, channel binding, and the ways to reach a server.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use model::source::{Event, SourceError};
use postgres::{
    Address, ChannelBinding, ClientCertificate, Options, Password, Roots, SslMode, Tls,
};
use tempfile::TempDir;

use crate::certificates::{Authority, self_signed};
use crate::cluster::{Cluster, Database};
use crate::connect::failure;
use crate::log;
use crate::support::{connect, next, try_connect};

const MODES: [SslMode; 5] =
    [SslMode::Disable, SslMode::Prefer, SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull];

/// A server with certificates, and what its clients have.
struct Setup {
    db: Database,
    dir: TempDir,
}

impl Setup {
    /// Certificates of the server: `good`, `old`, `other` and `own`; `good` is in use.
    async fn start(certificate: &str) -> Self {
        let authority = Authority::new("authority");
        let client = authority.issue("by_certificate", &[]);
        let stranger = Authority::new("stranger");
        let false_client = stranger.issue("by_certificate", &[]);
        let mut files = vec![("root.crt", authority.pem.clone())];
        let own = self_signed(&["localhost"]);
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        put("authority", &authority.pem);
        put("stranger", &stranger.pem);
        put("own", &own.certificate);
        put("empty", "");
        for (name, identity) in [("client", &client), ("false_client", &false_client)] {
            put(&format!("{name}.crt"), &identity.certificate);
            put(&format!("{name}.key"), &identity.key);
        }
        let server = match certificate {
            "good" => authority.issue("server", &["localhost", "127.0.0.1", "::1"]),
            "expired" => authority.issue_expired("server", &["localhost"]),
            "other" => authority.issue("server", &["db.example.com"]),
            _ => own,
        };
        files.extend([("server.crt", server.certificate), ("server.key", server.key)]);
        let settings = ["wal_level=logical", "ssl=on", "ssl_ca_file=root.crt"];
        let cluster = Arc::new(Cluster::start_tls(&settings, &files).await);
        let mut db = Database::create_in(cluster).await;
        db.sql
            .run(
                "create role by_trust login replication superuser;
                 create role by_plain login replication superuser;
                 create role by_certificate login replication superuser;
                 create role by_scram login replication superuser password 'hunter2';
                 create table t (n int primary key);",
            )
            .await;
        Self { db, dir }
    }

    fn options(&self, user: &str, tls: Tls) -> Options {
        Options { user: user.to_owned(), host: "localhost".to_owned(), tls, ..self.db.options() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn roots(&self, name: &str) -> Option<Roots> {
        Some(Roots::File(self.path(name)))
    }

    fn client(&self, name: &str) -> Option<ClientCertificate> {
        let certificate = self.path(&format!("{name}.crt"));
        Some(ClientCertificate { certificate, key: self.path(&format!("{name}.key")) })
    }

    /// Whether all connections of the source are encrypted: `t`, or `f` if none is.
    async fn encrypted(&mut self, options: Options) -> String {
        let mut source = connect(options).await;
        self.db.sql.run("insert into t select count(*) from t").await;
        // The catalog is asked over SQL, rows come over replication.
        while !matches!(next(&mut *source).await, Event::Changes(batch) if !batch.commits.is_empty())
        {
        }
        let query = "select string_agg(distinct ssl::text, ' ') || count(*)
                     from pg_stat_ssl join pg_stat_activity using (pid)
                     where application_name = 'sequin'";
        let encrypted = self.db.sql.value(query).await;
        source.close().await.unwrap();
        let (flag, count) = encrypted.split_at(encrypted.len() - 1);
        assert_eq!(count, "2", "{encrypted}");
        flag.to_owned()
    }
}

/// Why there is no connection, in words. It is for good.
async fn said(options: Options) -> String {
    match try_connect(options).await {
        Err(error @ SourceError::Definite { code: "tls_certificate", .. }) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("connected"),
    }
}

fn mode(mode: SslMode) -> Tls {
    Tls { mode, ..Tls::default() }
}

#[tokio::test]
async fn every_mode_against_a_server_with_tls() {
    log::listen();
    let mut setup = Setup::start("good").await;
    for (mode, expected) in MODES.into_iter().zip(["false", "true", "true", "true", "true"]) {
        let verifies = matches!(mode, SslMode::VerifyCa | SslMode::VerifyFull);
        let roots = verifies.then(|| setup.roots("authority")).flatten();
        let options = setup.options("by_trust", Tls { mode, roots, ..Tls::default() });
        assert_eq!(setup.encrypted(options).await, expected, "{mode:?}");
    }
    assert_eq!(log::lines("IDENTITY IS NOT VERIFIED").len(), 2, "of each connection of `require`");

    // Addresses can be in a certificate too.
    let tls = Tls { roots: setup.roots("authority"), ..mode(SslMode::VerifyFull) };
    let options = setup.options("by_trust", tls);
    let options = Options { host: "127.0.0.1".to_owned(), ..options };
    assert_eq!(setup.encrypted(options).await, "true");
    // A Unix socket has no TLS, whatever is said.
    let socket = Options {
        host: setup.db.options().host,
        ..setup.options("by_trust", mode(SslMode::Require))
    };
    assert_eq!(setup.encrypted(socket).await, "false");
}

#[tokio::test]
async fn every_mode_against_a_server_without_tls() {
    let mut db = Database::create().await;
    db.sql
        .run(
            "do $$ begin create role by_trust login replication superuser;
             exception when duplicate_object then null; end $$",
        )
        .await;
    let options = |tls| Options {
        user: "by_trust".to_owned(),
        host: "127.0.0.1".to_owned(),
        tls,
        ..db.options()
    };
    for mode in [SslMode::Disable, SslMode::Prefer] {
        connect(options(Tls { mode, ..Tls::default() })).await.close().await.unwrap();
    }
    assert_eq!(failure(options(mode(SslMode::Require))).await, Ok("tls_refused"));
    // Without somebody to trust, nothing can be verified.
    assert_eq!(failure(options(mode(SslMode::VerifyCa))).await, Ok("connect_options"));
    let binding = Tls { channel_binding: ChannelBinding::Require, ..Tls::default() };
    assert_eq!(failure(options(binding)).await, Ok("authentication"));
}

#[tokio::test]
async fn a_certificate_of_somebody_else_is_refused() {
    let mut setup = Setup::start("good").await;
    let verified = [SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull];
    for mode in verified {
        let tls = Tls { mode, roots: setup.roots("stranger"), ..Tls::default() };
        let said = said(setup.options("by_trust", tls)).await;
        assert!(said.contains("nobody we trust") && said.contains("sslrootcert"), "{said}");
    }
    // As libpq: `prefer` prefers, and goes on without.
    let tls = Tls { roots: setup.roots("stranger"), ..mode(SslMode::Prefer) };
    assert_eq!(setup.encrypted(setup.options("by_trust", tls)).await, "false");
    // Nobody of the public authorities issued it.
    let tls = Tls { roots: Some(Roots::System), ..mode(SslMode::VerifyFull) };
    let failed = failure(setup.options("by_trust", tls)).await.unwrap();
    assert!(matches!(failed, "tls_certificate" | "connect_options"), "{failed}");
    for file in ["empty", "missing"] {
        let tls = Tls { roots: setup.roots(file), ..mode(SslMode::VerifyFull) };
        assert_eq!(failure(setup.options("by_trust", tls)).await, Ok("connect_options"), "{file}");
    }
}

#[tokio::test]
async fn a_certificate_for_another_host_or_time_is_refused() {
    let mut setup = Setup::start("other").await;
    let tls = |mode, setup: &Setup| Tls { mode, roots: setup.roots("authority"), ..Tls::default() };
    let full = setup.options("by_trust", tls(SslMode::VerifyFull, &setup));
    let said_of_name = said(full).await;
    assert!(said_of_name.contains("for another host"), "{said_of_name}");
    assert!(said_of_name.contains("db.example.com"), "{said_of_name}");
    let chain = setup.options("by_trust", tls(SslMode::VerifyCa, &setup));
    assert_eq!(setup.encrypted(chain).await, "true");

    let mut setup = Setup::start("expired").await;
    for mode in [SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull] {
        let options = setup.options("by_trust", tls(mode, &setup));
        let said = said(options).await;
        assert!(said.contains("has expired"), "{said}");
    }
    assert_eq!(setup.encrypted(setup.options("by_trust", mode(SslMode::Require))).await, "true");
}

#[tokio::test]
async fn a_self_signed_certificate_can_be_trusted_itself() {
    let mut setup = Setup::start("own").await;
    let tls = |roots: Option<Roots>| Tls { roots, ..mode(SslMode::VerifyFull) };
    let trusted = setup.options("by_trust", tls(setup.roots("own")));
    assert_eq!(setup.encrypted(trusted.clone()).await, "true");
    // Its names still count.
    let address = Options { host: "127.0.0.1".to_owned(), ..trusted };
    assert_eq!(failure(address).await, Ok("tls_certificate"));
    let other = setup.options("by_trust", tls(setup.roots("authority")));
    assert_eq!(failure(other).await, Ok("tls_certificate"));
}

#[tokio::test]
async fn a_client_certificate_logs_in() {
    let mut setup = Setup::start("good").await;
    let tls = |client| Tls { client, ..mode(SslMode::Require) };
    let options = setup.options("by_certificate", tls(setup.client("client")));
    assert_eq!(setup.encrypted(options).await, "true");
    let none = setup.options("by_certificate", tls(None));
    let said_of_none = said(none).await;
    assert!(said_of_none.contains("sslcert"), "{said_of_none}");
    let stranger = setup.options("by_certificate", tls(setup.client("false_client")));
    assert_eq!(failure(stranger).await, Ok("tls_certificate"));
    let missing = setup.options("by_certificate", tls(setup.client("missing")));
    assert_eq!(failure(missing).await, Ok("connect_options"));
    // pg_hba.conf takes this role without TLS only.
    let plain = setup.options("by_plain", mode(SslMode::Require));
    assert_eq!(failure(plain).await, Ok("authentication"));
    let plain = setup.options("by_plain", mode(SslMode::Prefer));
    assert_eq!(setup.encrypted(plain).await, "false");
}

#[tokio::test]
async fn scram_is_bound_to_the_channel_if_it_shall_be() {
    let mut setup = Setup::start("good").await;
    let with = |mode, channel_binding, password: &str| {
        let tls = Tls { mode, channel_binding, ..Tls::default() };
        let password = Some(Password::new(password));
        Options { password, ..setup.options("by_scram", tls) }
    };
    use ChannelBinding::{Disable, Prefer, Require};
    let good = [
        with(SslMode::Require, Require, "hunter2"),
        with(SslMode::Require, Prefer, "hunter2"),
        with(SslMode::Require, Disable, "hunter2"),
    ];
    let bad = [
        with(SslMode::Require, Require, "hunter3"),
        // Nothing proves that the server sees the same session.
        Options { user: "by_trust".to_owned(), ..with(SslMode::Require, Require, "hunter2") },
    ];
    let plain = with(SslMode::Disable, Prefer, "hunter2");
    for options in good {
        let binding = options.tls.channel_binding;
        assert_eq!(setup.encrypted(options).await, "true", "{binding:?}");
    }
    assert_eq!(setup.encrypted(plain).await, "false");
    for options in bad {
        assert_eq!(failure(options).await, Ok("authentication"));
    }
}

#[tokio::test]
async fn hosts_are_tried_in_order() {
    let mut setup = Setup::start("good").await;
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // It takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port_of = |listener: &std::net::TcpListener| listener.local_addr().unwrap().port();
    let (dead_port, silent_port) = (port_of(&dead), port_of(&silent));
    drop(dead);
    let real = setup.options("by_trust", mode(SslMode::Require));
    let address = |port| Address { host: "127.0.0.1".to_owned(), port };
    let options = Options {
        host: "127.0.0.1".to_owned(),
        port: dead_port,
        more_hosts: vec![address(silent_port), address(real.port)],
        connect_timeout: Duration::from_secs(6),
        ..real
    };
    assert_eq!(setup.encrypted(options.clone()).await, "true");
    let none = Options { more_hosts: vec![address(dead_port)], ..options };
    let error = failure(none).await.unwrap_err();
    assert!(error.matches(&dead_port.to_string()).count() >= 2, "{error}");
}

#[tokio::test]
async fn urls_reach_real_servers() {
    let mut setup = Setup::start("good").await;
    let (port, database) = (setup.db.cluster.port, setup.db.name.clone());
    let socket = encode(Path::new(&setup.db.options().host));
    let ca = encode(&setup.path("authority"));
    let mut urls = vec![
        (format!("postgresql://by_scram:hunter2@localhost:{port}/{database}"), "true"),
        (
            format!(
                "postgres://by_scram:h%75nter2@127.0.0.1:{port}/{database}?sslmode=verify-full\
                 &sslrootcert={ca}&channel_binding=require&keepalives_idle=9&connect_timeout=9"
            ),
            "true",
        ),
        (format!("postgres://by_plain@localhost:{port}/{database}?sslmode=disable"), "false"),
        (format!("postgresql:///{database}?host={socket}&port={port}&user=postgres"), "false"),
        (format!("postgresql://postgres@{socket}:{port}/{database}"), "false"),
    ];
    // A machine may have no IPv6.
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        urls.push((format!("postgres://by_trust@[::1]:{port}/{database}?ssl=true"), "true"));
    }
    for (url, expected) in urls {
        let parsed = Options::from_url(&url).unwrap();
        let defaults = setup.db.options();
        let options = Options {
            slot: defaults.slot,
            slot_create: true,
            publication: defaults.publication,
            publication_create: defaults.publication_create,
            ..parsed
        };
        assert_eq!(setup.encrypted(options).await, expected, "{url}");
    }
}

fn encode(path: &Path) -> String {
    path.display().to_string().replace('/', "%2F")
}
