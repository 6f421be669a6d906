//! A real Redis with a directory of its own, or what speaks as it does.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::postgres::Certificates;
use crate::process::{Process, Signal};
use crate::{env, ports, until};

const START: Duration = Duration::from_secs(30);

/// A server, running unless it was stopped.
pub struct Redis {
    // Before the directory: the server must be gone when that is removed.
    process: Option<Process>,
    bin: PathBuf,
    port: u16,
    /// Of its command line, beside what each has.
    options: Vec<String>,
    dir: TempDir,
    /// Where its certificates are, if it has any.
    _certificates: Option<TempDir>,
}

impl Redis {
    /// Starts an empty server that writes all it is told to its disk, and waits until it answers.
    /// `options` are of its command line.
    pub async fn start(options: &[&str]) -> Result<Self> {
        let bin = Self::bin()?;
        let dir = tempfile::Builder::new().prefix("sequin-redis-").tempdir()?;
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let (port, _certificates) = (ports::free()?, None);
        let mut redis = Self { process: None, bin, port, options, dir, _certificates };
        redis.start_again().await?;
        Ok(redis)
    }

    fn bin() -> Result<PathBuf> {
        // By its name: behind the links of a distribution it is another program.
        let found = env::find_executable("redis-server").map(|_| "redis-server".into());
        env::path("REDIS_BIN")
            .or(found)
            .context("find Redis: run `cargo x test`, or set REDIS_BIN to redis-server")
    }

    /// Starts one that can also be spoken to with TLS, at the port that is given back, by clients that
    /// show a certificate.
    pub async fn start_with_tls() -> Result<(Self, u16, Certificates)> {
        let dir = tempfile::Builder::new().prefix("sequin-redis-tls-").tempdir()?;
        let certificates = Certificates::make(dir.path(), dir.path())?;
        let port = ports::free()?;
        let file = |name: &str| dir.path().join(name).display().to_string();
        let options = [
            ("--tls-port", port.to_string()),
            ("--tls-cert-file", file("server.crt")),
            ("--tls-key-file", file("server.key")),
            ("--tls-ca-cert-file", file("root.crt")),
            ("--tls-auth-clients", "yes".to_owned()),
        ];
        let options: Vec<&str> =
            options.iter().flat_map(|(name, value)| [*name, value.as_str()]).collect();
        let mut redis = Self::start(&options).await?;
        redis._certificates = Some(dir);
        Ok((redis, port, certificates))
    }

    /// Starts a cluster of three that share all keys between them.
    pub async fn cluster() -> Result<[Self; 3]> {
        let node = async || {
            let bus = ports::free()?.to_string();
            Self::start(&["--cluster-enabled", "yes", "--cluster-port", &bus]).await
        };
        let nodes = [node().await?, node().await?, node().await?];
        let [first, ..] = &nodes;
        let all: Vec<String> = nodes.iter().map(|it| format!("127.0.0.1:{}", it.port)).collect();
        let mut create = vec!["--cluster", "create"];
        create.extend(all.iter().map(String::as_str));
        create.push("--cluster-yes");
        let made = first.ask(&create).await?;
        ensure!(made.contains("All 16384 slots covered"), "no cluster: {made}");
        for node in &nodes {
            until("the cluster", START, async || {
                let said = node.ask(&["CLUSTER", "INFO"]).await?;
                Ok(if said.contains("cluster_state:ok") { Ok(()) } else { Err(said) })
            })
            .await?;
        }
        Ok(nodes)
    }

    /// Where it listens on this machine.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts it with what it had written.
    pub async fn start_again(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.dir.path().join("log"))?;
        let mut command = Command::new(&self.bin);
        let is_sentinel = self.options.last().is_some_and(|last| last == "--sentinel");
        if is_sentinel {
            command.args(&self.options);
        } else {
            command
                .args(["--appendonly", "yes", "--appendfsync", "always", "--save", ""])
                .args(&self.options);
        }
        command
            .args(["--bind", "127.0.0.1", "--dir"])
            .arg(self.dir.path())
            .args(["--port", &self.port.to_string()])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.process = Some(Process::spawn("Redis", &mut command, Signal::KILL)?);
        until("Redis to answer", START, async || {
            let said = self.ask(&["PING"]).await?;
            let is_up = said.contains("PONG") || said.contains("NOAUTH");
            Ok(if is_up { Ok(()) } else { Err(said) })
        })
        .await
    }

    /// Starts a server that copies this one.
    pub async fn replica(&self) -> Result<Self> {
        let port = self.port.to_string();
        let replica = Self::start(&["--replicaof", "127.0.0.1", &port]).await?;
        until("the replica to have all", START, async || {
            let said = replica.ask(&["INFO", "replication"]).await?;
            let is_up = said.contains("master_link_status:up");
            Ok(if is_up { Ok(()) } else { Err(said) })
        })
        .await?;
        Ok(replica)
    }

    /// Starts a sentinel that watches this server under the name `main`, alone.
    pub async fn sentinel(&self) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("sequin-sentinel-").tempdir()?;
        let file = dir.path().join("sentinel.conf");
        // Half a second, so that a test need not wait longer.
        let config = format!(
            "sentinel monitor main 127.0.0.1 {} 1\nsentinel down-after-milliseconds main 500\n\
             sentinel failover-timeout main 3000\n",
            self.port
        );
        std::fs::write(&file, config)?;
        let options = [file.display().to_string(), "--sentinel".to_owned()].to_vec();
        let (bin, port) = (self.bin.clone(), ports::free()?);
        let mut sentinel = Self { process: None, bin, port, options, dir, _certificates: None };
        sentinel.start_again().await?;
        Ok(sentinel)
    }

    /// Kills it.
    pub async fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill().await?;
        }
        Ok(())
    }

    /// What `redis-cli` prints for a command, raw.
    pub async fn ask(&self, command: &[&str]) -> Result<String> {
        let cli = self.bin.with_file_name("redis-cli");
        let output = tokio::process::Command::new(cli)
            .args(["-c", "-p", &self.port.to_string(), "--raw"])
            .args(command)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("run redis-cli")?;
        let said = [output.stdout, output.stderr].concat();
        Ok(String::from_utf8_lossy(&said).trim_end().to_owned())
    }

    /// The entries of a stream: the id and the fields of each.
    ///
    /// # Errors
    /// It says something else.
    pub async fn entries(&self, stream: &str) -> Result<Vec<(String, Vec<(String, String)>)>> {
        let cli = self.bin.with_file_name("redis-cli");
        let output = tokio::process::Command::new(cli)
            .args(["-c", "-p", &self.port.to_string(), "--json", "XRANGE", stream, "-", "+"])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("run redis-cli")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let entries: Vec<(String, Vec<String>)> =
            serde_json::from_str(&said).with_context(|| said.clone())?;
        let pairs = |fields: Vec<String>| {
            ensure!(fields.len().is_multiple_of(2), "fields without values: {fields:?}");
            let pair = |pair: &[String]| match pair {
                [name, value] => Some((name.clone(), value.clone())),
                _ => None,
            };
            Ok(fields.chunks(2).filter_map(pair).collect())
        };
        entries.into_iter().map(|(id, fields)| Ok((id, pairs(fields)?))).collect()
    }
}
