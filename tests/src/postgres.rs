//! A private PostgreSQL cluster.
//!
//! Each value is a cluster of its own (about 0.7 s to start): tests may restart, break and misconfigure
//! it, and slots never meet. It is durable against being killed, not against a power cut. Runs as an
//! ordinary user, or as root, when the server runs as `nobody`, for PostgreSQL refuses root.

mod certificates;

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use crate::process::{Process, Signal};
use crate::{env, ports, until};

/// `nobody`, and its group: who the server is when we are root.
const NOBODY: u32 = 65534;

/// For logical replication, and for small machines. Keepalives come at half of `wal_sender_timeout`.
const CONFIGURATION: &str = "
wal_level = logical
max_wal_senders = 50
max_replication_slots = 50
max_connections = 200
listen_addresses = '127.0.0.1'
shared_buffers = 64MB
fsync = off
wal_sender_timeout = 10s
";

/// `initdb` and a first start, on a busy machine.
const START: Duration = Duration::from_secs(60);

/// A fast shutdown waits for replication to be told everything.
const STOP: Duration = Duration::from_secs(30);

pub use certificates::Certificates;

/// What a cluster is like. By default it is of the first version found, and trusts everybody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup<'a> {
    /// Its major version: 16, 17 or 18.
    pub major: Option<u32>,
    /// Settings that override those of the harness.
    pub settings: &'a [(&'a str, &'a str)],
    /// Whether it takes TLS connections over TCP, and no others. The certificates are in
    /// [`Cluster::certificates`].
    pub tls: bool,
    /// Beside TLS: whether it takes TCP connections without it, too.
    pub plain: bool,
    /// The password of `postgres` over TCP, by SCRAM.
    pub password: Option<&'a str>,
}

/// A cluster, running unless it was stopped or killed.
pub struct Cluster {
    // Before the directory: the server must be gone when that is removed.
    process: Option<Process>,
    bin: PathBuf,
    port: u16,
    password: Option<String>,
    certificates: Option<Certificates>,
    dir: TempDir,
}

impl Cluster {
    /// Creates a cluster and waits until it answers.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// The same, with settings that override those of the harness.
    pub async fn start_with(settings: &[(&str, &str)]) -> Result<Self> {
        Self::start_as(Setup { settings, ..Setup::default() }).await
    }

    /// The same, of a major version: 16, 17 or 18.
    pub async fn start_major(major: u32) -> Result<Self> {
        Self::start_as(Setup { major: Some(major), ..Setup::default() }).await
    }

    /// The same, in any way.
    pub async fn start_as(setup: Setup<'_>) -> Result<Self> {
        let bin = bin(setup.major)?;
        // Directly below /tmp: the path of a socket must be shorter than about 100 bytes.
        let dir = tempfile::Builder::new()
            .prefix("sequin-pg-")
            .tempdir_in("/tmp")
            .context("create a directory for PostgreSQL")?;
        if is_root() {
            chown(dir.path(), Some(NOBODY), Some(NOBODY)).context("give it to the server")?;
        }
        let password = setup.password.map(str::to_owned);
        let mut cluster = Self { process: None, bin, port: 0, password, certificates: None, dir };
        cluster.initialise(setup).await?;
        until("PostgreSQL to start", START, async || {
            cluster.port = ports::free()?;
            cluster.launch().await
        })
        .await?;
        Ok(cluster)
    }

    /// A standby that follows this cluster, which is stopped and started again for the copy.
    pub async fn standby(&mut self) -> Result<Self> {
        self.stop().await?;
        let dir = tempfile::Builder::new().prefix("sequin-pg-").tempdir_in("/tmp")?;
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(self.data()).arg(dir.path());
        let copied = tokio::process::Command::from(copy).kill_on_drop(true).status().await?;
        ensure!(copied.success(), "the data of the primary cannot be copied");
        if is_root() {
            chown(dir.path(), Some(NOBODY), Some(NOBODY)).context("give it to the server")?;
        }
        self.start_again().await?;
        let (bin, password) = (self.bin.clone(), self.password.clone());
        let mut standby = Self { process: None, bin, port: 0, password, certificates: None, dir };
        std::fs::write(standby.data().join("standby.signal"), "")?;
        let path = standby.data().join("postgresql.conf");
        let mut file = File::options().append(true).open(path).context("open postgresql.conf")?;
        let (socket, port) = (self.socket_dir().display(), self.port);
        writeln!(
            file,
            "primary_conninfo = 'host={socket} port={port} user=postgres dbname=postgres'\n\
             hot_standby_feedback = on\nwal_receiver_status_interval = 1s"
        )?;
        until("the standby to start", START, async || {
            standby.port = ports::free()?;
            standby.launch().await
        })
        .await?;
        Ok(standby)
    }

    /// Its TCP port, the same after `start_again`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its Unix socket is.
    pub fn socket_dir(&self) -> &Path {
        self.dir.path()
    }

    /// A connection string for a database, over TCP.
    pub fn url(&self, database: &str) -> String {
        let password = self.password.as_ref().map(|password| format!(":{password}"));
        let password = password.unwrap_or_default();
        format!("postgres://postgres{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// What a client needs for TLS.
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// A connection to a database, over the Unix socket. A task drives it until the client is
    /// dropped.
    pub async fn client(&self, database: &str) -> Result<Client> {
        let (socket, port) = (self.socket_dir().display(), self.port);
        connect(&format!("host={socket} port={port} user=postgres dbname='{database}'")).await
    }

    /// Creates an empty database.
    pub async fn create_database(&self, name: &str) -> Result<()> {
        let statement = format!("create database \"{}\"", name.replace('"', "\"\""));
        self.client("postgres").await?.batch_execute(&statement).await?;
        Ok(())
    }

    /// Shuts it down as an operator would (`fast`).
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.signal(Signal::INT)?;
            process.wait(STOP).await?;
        }
        Ok(())
    }

    /// Kills the server. Its sessions notice and end by themselves.
    pub async fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill().await?;
        }
        Ok(())
    }

    /// Starts it again on its data and its port, and waits until it answers.
    pub async fn start_again(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "PostgreSQL is running");
        // Sessions of a killed server may still hold its shared memory: then it refuses to start.
        until("PostgreSQL to start again", START, async || self.launch().await).await
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    async fn initialise(&mut self, setup: Setup<'_>) -> Result<()> {
        let mut initdb = self.command("initdb");
        initdb.arg("-D").arg(self.data());
        initdb.args(["-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"]);
        if let Some(password) = setup.password {
            let path = self.dir.path().join("password");
            std::fs::write(&path, password)?;
            initdb.arg("--pwfile").arg(path);
        }
        let output = tokio::process::Command::from(initdb).kill_on_drop(true).output();
        let output = tokio::time::timeout(START, output)
            .await
            .context("wait for initdb")?
            .context("start initdb")?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "initdb failed: {}", stderr.trim());

        let path = self.data().join("postgresql.conf");
        let mut file = File::options().append(true).open(path).context("open postgresql.conf")?;
        file.write_all(CONFIGURATION.as_bytes())?;
        for (name, value) in setup.settings {
            writeln!(file, "{name} = '{}'", value.replace('\'', "''"))?;
        }
        if setup.tls {
            writeln!(file, "ssl = on\nssl_ca_file = 'root.crt'")?;
            self.certificates = Some(Certificates::make(self.dir.path(), &self.data())?);
            let key = self.data().join("server.key");
            std::fs::set_permissions(&key, Permissions::from_mode(0o600))?;
            if is_root() {
                chown(&key, Some(NOBODY), Some(NOBODY))?;
            }
        }
        if setup.tls || setup.password.is_some() {
            let kind = if setup.tls && !setup.plain { "hostssl" } else { "host" };
            let method = if setup.password.is_some() { "scram-sha-256" } else { "trust" };
            let access = format!(
                "local all all trust\n{kind} all all samehost {method}\n\
                 {kind} replication all samehost {method}\n"
            );
            std::fs::write(self.data().join("pg_hba.conf"), access)?;
        }
        Ok(())
    }

    /// One attempt: starts the server and waits until it answers, or says why it ended.
    async fn launch(&mut self) -> Result<Result<(), String>> {
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(self.dir.path());
        command.args(["-p", &self.port.to_string()]);
        command.stdin(std::process::Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Immediate shutdown: nothing of it is wanted any more.
        let mut process = Process::spawn("PostgreSQL", &mut command, Signal::QUIT)?;
        let exit = until("PostgreSQL to answer", START, async || {
            if let Some(status) = process.exited()? {
                return Ok(Ok(Some(status)));
            }
            // Over the socket in our own directory, so that no other server can answer for it.
            self.client("postgres").await?.simple_query("select 1").await?;
            Ok(Ok(None))
        })
        .await?;
        Ok(match exit {
            Some(status) => {
                let log = self.log();
                let lines: Vec<_> = log.lines().rev().take(5).collect();
                Err(format!(
                    "{status}: {}",
                    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
                ))
            }
            None => {
                self.process = Some(process);
                Ok(())
            }
        })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        // Where it was started from may be closed to the user it runs as.
        command.current_dir(self.dir.path()).env("LC_ALL", "C").env("TZ", "UTC");
        for name in ["PGDATA", "PGPORT", "PGHOST", "PGUSER", "PGDATABASE", "PGOPTIONS"] {
            command.env_remove(name);
        }
        if is_root() {
            // The standard library drops the supplementary groups too when root changes the user.
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }
}

/// Whether this process is root's.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Where the server's programs are.
fn bin(major: Option<u32>) -> Result<PathBuf> {
    let variable = major.map_or("PG_BIN".to_owned(), |major| format!("PG_BIN_{major}"));
    let found = || Some(env::find_executable("postgres")?.parent()?.to_path_buf());
    let bin = env::path(&variable)
        .or_else(|| major.is_none().then(found).flatten())
        .with_context(|| format!("find PostgreSQL: run `cargo x test`, or set {variable}"))?;
    for program in ["initdb", "postgres"] {
        if !bin.join(program).is_file() {
            bail!("{program} is not in {}: run `cargo x test`, or set {variable}", bin.display());
        }
    }
    Ok(bin)
}

#[expect(clippy::disallowed_methods, reason = "a connection has to be driven by a task")]
async fn connect(url: &str) -> Result<Client> {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.context("connect to PostgreSQL")?;
    // Its error reaches the client's next query.
    tokio::spawn(connection);
    Ok(client)
}

#[cfg(test)]
mod tests;
