//! A real OCI registry (the CNCF's `distribution`) with a directory of its own, which asks who is there.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

use crate::process::{Process, Signal};
use crate::{env, http, ports, until};

const START: Duration = Duration::from_secs(60);

/// Of [`Registry::PASSWORD`], as `htpasswd -B` writes it.
const HASH: &str = "$2b$04$QzPqwRvEwLXH7m25zsZIAuLt.c.V5SHnu3crC1wfkS5immL44JJUq";

/// A registry, running unless it was killed.
pub struct Registry {
    // Before the directory: it must be gone when that is removed.
    process: Option<Process>,
    port: u16,
    dir: TempDir,
}

impl Registry {
    /// Who it lets in.
    pub const USERNAME: &str = "harness";
    /// And by what.
    pub const PASSWORD: &str = "hunter2";

    /// Starts an empty one and waits until it answers; None, having said so, where there is none.
    pub async fn start() -> Result<Option<Self>> {
        let Some(bin) = env::find_executable("docker-registry") else {
            println!("skipped: docker-registry is not installed");
            return Ok(None);
        };
        let dir = tempfile::Builder::new().prefix("sequin-registry-").tempdir()?;
        let mut registry = Self { process: None, port: 0, dir };
        let client = http::client()?;
        until("the registry to start", START, async || {
            registry.port = ports::free()?;
            let path = |name: &str| registry.dir.path().join(name);
            std::fs::write(path("users"), format!("{}:{HASH}\n", Self::USERNAME))?;
            let config = format!(
                "version: 0.1\nlog: {{level: warn}}\nstorage: {{filesystem: {{rootdirectory: '{}'}}}}\n\
                 auth: {{htpasswd: {{realm: harness, path: '{}'}}}}\nhttp: {{addr: '127.0.0.1:{}'}}\n",
                path("data").display(),
                path("users").display(),
                registry.port
            );
            std::fs::write(path("config.yml"), config)?;
            let log = File::create(path("log"))?;
            let mut command = Command::new(&bin);
            command.arg("serve").arg(path("config.yml"));
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            let mut process = Process::spawn("the registry", &mut command, Signal::KILL)?;
            let url = format!("http://127.0.0.1:{}/v2/", registry.port);
            let ended = until("the registry to answer", START, async || {
                if let Some(status) = process.exited()? {
                    return Ok(Ok(Some(status)));
                }
                // It asks who that is.
                let answer = client.get(&url).send().await?;
                Ok(if answer.status() == 401 { Ok(None) } else { Err(answer.status().to_string()) })
            });
            Ok(match ended.await? {
                Some(status) => Err(format!("ended: {status}")),
                None => {
                    registry.process = Some(process);
                    Ok(())
                }
            })
        })
        .await?;
        Ok(Some(registry))
    }

    /// What a component of this name and tag is called in it.
    #[must_use]
    pub fn reference(&self, name: &str, tag: &str) -> String {
        format!("127.0.0.1:{}/team/{name}:{tag}", self.port)
    }

    /// Kills it.
    pub async fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill().await?;
        }
        Ok(())
    }
}
