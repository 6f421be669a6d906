//! A private server: found, initialised, started and thrown away.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use postgres::Options;
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::time::{interval, timeout};
use tokio_postgres::{NoTls, SimpleQueryMessage};

/// For everything that a test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// `nobody`, since the server refuses to run as root.
const NOBODY: u32 = 65534;

pub(crate) struct Cluster {
    directory: tempfile::TempDir,
    bin: PathBuf,
    pub(crate) port: u16,
    server: Option<Child>,
}

/// The server that the tests of this process share, while any of them runs.
static SHARED: Mutex<Weak<Cluster>> = Mutex::const_new(Weak::new());

/// Distinguishes the databases of this process.
static NEXT: AtomicU32 = AtomicU32::new(0);

impl Cluster {
    pub(crate) async fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().await;
        if let Some(cluster) = shared.upgrade() {
            return cluster;
        }
        let cluster = Arc::new(Self::start(&["wal_level=logical"]).await);
        *shared = Arc::downgrade(&cluster);
        cluster
    }

    pub(crate) async fn start(settings: &[&str]) -> Self {
        Self::start_with(find(), settings, &[]).await
    }

    /// With certificates. The names of `files` are those that settings know: relative to the data.
    pub(crate) async fn start_tls(settings: &[&str], files: &[(&str, String)]) -> Self {
        Self::start_with(find(), settings, files).await
    }

    /// With the server programs of a directory.
    pub(crate) async fn start_with(
        bin: PathBuf,
        settings: &[&str],
        files: &[(&str, String)],
    ) -> Self {
        let directory = tempfile::tempdir().expect("make a directory");
        if is_root(directory.path()) {
            chown(directory.path(), Some(NOBODY), Some(NOBODY)).expect("give it to nobody");
        }
        let mut cluster = Self { directory, bin, port: free_port(), server: None };
        let initdb = cluster
            .command("initdb")
            .args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync", "-D"])
            .arg(cluster.data())
            .output()
            .expect("run initdb");
        assert!(initdb.status.success(), "{}", String::from_utf8_lossy(&initdb.stderr));
        let mut access = "local all all trust\n\
                      local replication all trust\n\
                      host all by_scram samehost scram-sha-256\n\
                      host all by_md5 samehost md5\n\
                      host all by_password samehost password\n\
                      hostnossl all by_plain samehost trust\n\
                      host all by_trust samehost trust\n"
            .to_owned();
        // A server that was built without TLS would not take this line.
        if !files.is_empty() {
            access.push_str("hostssl all by_certificate samehost cert\n");
        }
        std::fs::write(cluster.data().join("pg_hba.conf"), access).expect("write pg_hba.conf");
        for (name, text) in files {
            let path = cluster.data().join(name);
            std::fs::write(&path, text).expect("write a file of the server");
            let mode = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(&path, mode).expect("keep it from others");
            if is_root(&path) {
                chown(&path, Some(NOBODY), Some(NOBODY)).expect("give it to nobody");
            }
        }
        cluster.run(settings).await;
        cluster
    }

    /// A standby that follows this server, which is stopped and started for it: there is no
    /// pg_basebackup for most majors.
    pub(crate) async fn standby(&mut self, settings: &[&str]) -> Self {
        self.stop();
        let directory = tempfile::tempdir().expect("make a directory");
        let copied = Command::new("cp").arg("-a").arg(self.data()).arg(directory.path()).status();
        assert!(copied.expect("run cp").success());
        if is_root(directory.path()) {
            chown(directory.path(), Some(NOBODY), Some(NOBODY)).expect("give it to nobody");
        }
        let mut standby =
            Self { directory, bin: self.bin.clone(), port: free_port(), server: None };
        let signal = standby.data().join("standby.signal");
        std::fs::write(&signal, "").expect("make it a standby");
        self.run(settings).await;
        let host = self.directory.path().display();
        let primary = format!("primary_conninfo=host={host} port={} user=postgres", self.port);
        standby.run(&[settings, &[&*primary, "hot_standby_feedback=on"]].concat()).await;
        standby
    }

    /// Starts the server, anew if it runs.
    pub(crate) async fn run(&mut self, settings: &[&str]) {
        self.stop();
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(self.directory.path());
        command.args(["-p", &self.port.to_string(), "-h", "127.0.0.1,::1"]);
        let fixed =
            ["fsync=off", "shared_buffers=32MB", "max_wal_senders=50", "max_replication_slots=50"];
        for setting in fixed.iter().chain(settings) {
            command.args(["-c", setting]);
        }
        let log = std::fs::File::create(self.log()).expect("make a log");
        command.stderr(log);
        self.server = Some(command.spawn().expect("start postgres"));
        let socket = self.directory.path().join(format!(".s.PGSQL.{}", self.port));
        until("the server answers", async || {
            let exit = self.server.as_mut().and_then(|server| server.try_wait().ok().flatten());
            if let Some(status) = exit {
                let said = std::fs::read_to_string(self.log()).unwrap_or_default();
                panic!("the server ended with {status}: {said}");
            }
            UnixStream::connect(&socket).await.is_ok()
                && self.try_session("postgres").await.is_some()
        })
        .await;
    }

    /// Makes a locale that sessions of this server can be set to. Categories that the source does not
    /// have are the machine's own.
    pub(crate) fn make_locale(&self, name: &str, source: &str, characters: &str) {
        let locales = self.locales();
        std::fs::create_dir_all(&locales).expect("make a directory");
        let file = |name: &str, text: &str| {
            let path = locales.join(name);
            std::fs::write(&path, text).expect("write a file");
            path
        };
        let (source, characters) = (file("source", source), file("characters", characters));
        let mut localedef = Command::new("localedef");
        localedef.args(["-c", "--no-archive", "-i"]).arg(source).arg("-f").arg(characters);
        // It complains of what the source does not have.
        let output = localedef.arg(locales.join(name)).output().expect("run localedef");
        let made = locales.join(name).join("LC_MONETARY").is_file();
        assert!(made, "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn stop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let mut pg_ctl = self.command("pg_ctl");
        pg_ctl.args(["stop", "-m", "fast", "-t", "20", "-D"]).arg(self.data());
        if !pg_ctl.status().is_ok_and(|status| status.success()) {
            server.kill().ok();
        }
        server.wait().expect("the server is gone");
    }

    /// Shuts the server down as an operator would, while others may use it.
    pub(crate) async fn stop_fast(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let pid = server.id().to_string();
        let signalled = Command::new("kill").args(["-INT", &pid]).status();
        assert!(signalled.expect("run kill").success());
        until("the server is gone", async || server.try_wait().expect("look after it").is_some())
            .await;
    }

    /// Over the Unix socket, with leave to create what is missing.
    pub(crate) fn options(&self, database: &str, slot: &str) -> Options {
        let host = self.directory.path().display().to_string();
        let mut options = Options::new(host, "postgres", database, slot, "Sequin's \"p\"");
        options.port = self.port;
        options.slot_create = true;
        options.publication_create = Some(postgres::Create::AllTables { via_partition_root: true });
        options
    }

    pub(crate) async fn session(&self, database: &str) -> Session {
        self.try_session(database).await.expect("open a session")
    }

    /// None as long as it does not let us in.
    pub(crate) async fn try_session(&self, database: &str) -> Option<Session> {
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.directory.path()).port(self.port).user("postgres").dbname(database);
        let (client, connection) = config.connect(NoTls).await.ok()?;
        Some(Session {
            client,
            connection: Box::pin(async {
                connection.await.ok();
            }),
        })
    }

    fn locales(&self) -> PathBuf {
        self.directory.path().join("locales")
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        // Where a test may make some; the C library brings C by itself.
        command.env("LOCPATH", self.locales());
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if is_root(Path::new("/proc/self")) {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

/// As SQL quotes it.
const PUBLICATION: &str = "\"Sequin's \"\"p\"\"\"";

/// A database of its own on the shared server, with a slot and a publication to match.
pub(crate) struct Database {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) name: String,
    pub(crate) sql: Session,
}

impl Database {
    pub(crate) async fn create() -> Self {
        Self::create_in(Cluster::shared().await).await
    }

    pub(crate) async fn create_in(cluster: Arc<Cluster>) -> Self {
        let name = format!("db_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        cluster.session("postgres").await.run(&format!("create database {name}")).await;
        let mut sql = cluster.session(&name).await;
        // Before the slot, and for whatever tables a test makes.
        sql.run(&format!(
            "create publication {PUBLICATION} for all tables \
             with (publish_via_partition_root = true)"
        ))
        .await;
        Self { cluster, name, sql }
    }

    /// For tests of how it is made.
    pub(crate) async fn drop_publication(&mut self) {
        self.sql.run(&format!("drop publication {PUBLICATION}")).await;
    }

    /// Over the Unix socket, with leave to create what is missing.
    pub(crate) fn options(&self) -> Options {
        self.cluster.options(&self.name, &self.slot())
    }

    pub(crate) fn slot(&self) -> String {
        format!("slot_{}", self.name)
    }
}

/// A session that is driven while it is used.
pub(crate) struct Session {
    client: tokio_postgres::Client,
    connection: std::pin::Pin<Box<dyn Future<Output = ()>>>,
}

impl Session {
    /// Runs statements; returns the rows of the last ones, a missing value as `NULL`.
    pub(crate) async fn run(&mut self, sql: &str) -> Vec<Vec<String>> {
        let Self { client, connection } = self;
        let answer = tokio::select! {
            answer = client.simple_query(sql) => answer,
            () = connection => panic!("the session broke"),
        };
        let answer = answer.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        answer
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row),
                _ => None,
            })
            .map(|row| (0..row.len()).map(|n| row.get(n).unwrap_or("NULL").to_owned()).collect())
            .collect()
    }

    /// The only value of a query.
    pub(crate) async fn value(&mut self, sql: &str) -> String {
        let rows = self.run(sql).await;
        rows.first().and_then(|row| row.first()).cloned().unwrap_or_else(|| "(no row)".to_owned())
    }
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let mut often = interval(Duration::from_millis(20));
    let held = timeout(PATIENCE, async {
        while !condition().await {
            often.tick().await;
        }
    });
    held.await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

/// A port that nothing listens on. It lies below the range from which the system takes the local ends
/// of connections (from 32768), and is drawn at random: nobody holds it until the server binds it,
/// and a server that is restarted wants the same again.
fn free_port() -> u16 {
    let random = || {
        // A fresh `RandomState` has keys of its own, so hashing anything is a random number.
        let offset = RandomState::new().hash_one(0) % 17_000;
        15_000 + u16::try_from(offset).unwrap_or_default()
    };
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(random).take(200).find(is_free).expect("find a free port")
}

fn is_root(path: &Path) -> bool {
    std::fs::metadata(path).expect("look at a file of ours").uid() == 0
}

/// The programs of each major that there is: `cargo x test` names 16 to 18.
pub(crate) fn majors() -> Vec<PathBuf> {
    let further = ["PG_BIN_16", "PG_BIN_17", "PG_BIN_18"];
    #[expect(clippy::disallowed_methods, reason = "a test without settings to read it from")]
    let further = further.iter().filter_map(std::env::var_os).map(PathBuf::from);
    std::iter::once(find()).chain(further).collect()
}

/// The programs of a server that has an extension: `cargo x test` names it.
pub(crate) fn with_extension(name: &str) -> PathBuf {
    let variable = format!("PG_BIN_{name}");
    #[expect(clippy::disallowed_methods, reason = "a test without settings to read it from")]
    let bin = std::env::var_os(&variable);
    bin.unwrap_or_else(|| panic!("set {variable} to what `cargo x services` says")).into()
}

/// The newest server programs of this machine, or those that `PG_BIN` names.
fn find() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "a test without settings to read it from")]
    if let Some(bin) = std::env::var_os("PG_BIN") {
        return bin.into();
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("postgresql is installed");
    let found = versions.filter_map(|entry| {
        let entry = entry.ok()?;
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        let bin = entry.path().join("bin");
        bin.join("initdb").is_file().then_some((version, bin))
    });
    found.max().expect("install the package `postgresql`, or set PG_BIN").1
}
