//! A real Typesense server with a directory of its own.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::{Method, RequestBuilder, StatusCode, Url};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Process, Signal};
use crate::{env, http, ports, until};

/// An empty server takes half a second, one with data four, on a busy machine more.
const START: Duration = Duration::from_secs(60);

const API_KEY: &str = "harness";

/// A server, running unless it was killed.
pub struct Server {
    // Before the directory: the server must be gone when that is removed.
    process: Option<Process>,
    bin: PathBuf,
    port: u16,
    peering_port: u16,
    client: reqwest::Client,
    dir: TempDir,
}

impl Server {
    /// Starts an empty server and waits until it is healthy.
    pub async fn start() -> Result<Self> {
        let bin = env::path("TYPESENSE_BIN")
            .or_else(|| env::find_executable("typesense-server"))
            .context("find Typesense: run `cargo x test`, or set TYPESENSE_BIN")?;
        let dir = tempfile::Builder::new().prefix("sequin-typesense-").tempdir()?;
        let client = http::client()?;
        let mut server = Self { process: None, bin, port: 0, peering_port: 0, client, dir };
        until("Typesense to start", START, async || {
            server.port = ports::free()?;
            server.peering_port = ports::free()?;
            server.launch().await
        })
        .await?;
        Ok(server)
    }

    /// Its address, without a slash at the end; the same after `start_again`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn api_key(&self) -> &'static str {
        API_KEY
    }

    /// Creates a collection from its schema.
    pub async fn create_collection(&self, schema: &Value) -> Result<()> {
        let request = self.request(Method::POST, &["collections"])?.body(schema.to_string());
        let (status, text) = answer(request).await?;
        ensure!(status == StatusCode::CREATED, "create a collection: {status} {text}");
        Ok(())
    }

    /// Changes the schema of a collection.
    pub async fn change_collection(&self, collection: &str, change: &Value) -> Result<()> {
        let request = self.request(Method::PATCH, &["collections", collection])?;
        let (status, text) = answer(request.body(change.to_string())).await?;
        ensure!(status.is_success(), "change a collection: {status} {text}");
        Ok(())
    }

    /// Makes a key that permits these actions on all collections.
    pub async fn create_key(&self, actions: &[&str]) -> Result<String> {
        let body = serde_json::json!({
            "description": "harness", "actions": actions, "collections": ["*"],
        });
        let request = self.request(Method::POST, &["keys"])?.body(body.to_string());
        let (status, text) = answer(request).await?;
        ensure!(status == StatusCode::CREATED, "create a key: {status} {text}");
        let key: Value = serde_json::from_str(&text)?;
        Ok(key["value"].as_str().context("a key has a value")?.to_owned())
    }

    /// A document, if it is there.
    pub async fn document(&self, collection: &str, id: &str) -> Result<Option<Value>> {
        let path = ["collections", collection, "documents", id];
        let (status, text) = answer(self.request(Method::GET, &path)?).await?;
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        ensure!(status.is_success(), "read a document: {status} {text}");
        Ok(Some(serde_json::from_str(&text)?))
    }

    /// Creates documents, as somebody else would.
    pub async fn import(&self, collection: &str, documents: &[Value]) -> Result<()> {
        let path = ["collections", collection, "documents", "import"];
        let lines: Vec<String> = documents.iter().map(Value::to_string).collect();
        let request = self.request(Method::POST, &path)?.body(lines.join("\n"));
        let (status, text) = answer(request).await?;
        let all = text.lines().filter(|line| line.contains("\"success\":true")).count();
        ensure!(status.is_success() && all == documents.len(), "import: {status} {text}");
        Ok(())
    }

    /// Removes a document, as somebody else would.
    pub async fn remove(&self, collection: &str, id: &str) -> Result<()> {
        let path = ["collections", collection, "documents", id];
        let (status, text) = answer(self.request(Method::DELETE, &path)?).await?;
        ensure!(status.is_success(), "remove a document: {status} {text}");
        Ok(())
    }

    /// All documents of a collection.
    pub async fn documents(&self, collection: &str) -> Result<Vec<Value>> {
        let path = ["collections", collection, "documents", "export"];
        let (status, text) = answer(self.request(Method::GET, &path)?).await?;
        ensure!(status.is_success(), "export documents: {status} {text}");
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// Refuses every write with 422, while staying healthy; or ends that.
    pub async fn skip_writes(&self, skip: bool) -> Result<()> {
        let body = serde_json::json!({ "skip-writes": skip }).to_string();
        let (status, text) = answer(self.request(Method::POST, &["config"])?.body(body)).await?;
        ensure!(status.is_success(), "configure: {status} {text}");
        Ok(())
    }

    /// Kills it.
    pub async fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill().await?;
        }
        Ok(())
    }

    /// Starts it again on its data and its port, and waits until it is healthy.
    pub async fn start_again(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "Typesense is running");
        until("Typesense to start again", START, async || self.launch().await).await
    }

    /// One attempt: starts the server and waits until it is healthy, or says that it ended.
    async fn launch(&mut self) -> Result<Result<(), String>> {
        let data = self.dir.path().join("data");
        std::fs::create_dir_all(&data).context("create a directory for Typesense")?;
        let log = File::options().create(true).append(true).open(self.dir.path().join("log"))?;
        let mut command = Command::new(&self.bin);
        command
            .arg(format!("--data-dir={}", data.display()))
            .arg(format!("--api-key={API_KEY}"))
            .arg(format!("--api-port={}", self.port))
            .arg(format!("--peering-port={}", self.peering_port))
            .args(["--api-address=127.0.0.1", "--peering-address=127.0.0.1"])
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut process = Process::spawn("Typesense", &mut command, Signal::KILL)?;
        let exit = until("Typesense to be healthy", START, async || {
            if let Some(status) = process.exited()? {
                return Ok(Ok(Some(status)));
            }
            let (status, text) = answer(self.request(Method::GET, &["health"])?).await?;
            Ok(if status.is_success() { Ok(None) } else { Err(format!("{status} {text}")) })
        })
        .await?;
        Ok(match exit {
            Some(status) => Err(format!("ended: {status}")),
            None => {
                self.process = Some(process);
                Ok(())
            }
        })
    }

    fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder> {
        let mut url = Url::parse(&self.url())?;
        // Each part is escaped: an id may hold anything.
        url.path_segments_mut().ok().context("an address has a path")?.extend(path);
        Ok(self.client.request(method, url).header("x-typesense-api-key", API_KEY))
    }
}

async fn answer(request: RequestBuilder) -> Result<(StatusCode, String)> {
    let response = request.send().await.context("ask Typesense")?;
    let status = response.status();
    Ok((status, response.text().await.context("read from Typesense")?))
}
