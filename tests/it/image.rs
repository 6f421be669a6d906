//! The image that the Dockerfile makes, built with buildah and run without a container engine.
//!
//! The stage that compiles is left out: what it makes is taken from this machine, and the base is a
//! file system with the libraries that the executable is linked to and nothing else. So this proves
//! the last stage, and that nothing more is needed in a base.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::process::{Process, Signal};
use tests::{Cluster, Receiver, Sequin, http, ports, until};

use crate::world::{LATER, SOON, hook, yaml};

/// `USER` of the Dockerfile.
const USER: &str = "10001";
const IMAGE: &str = "localhost/sequin";
const BASE: &str = "localhost/base";
const OUT: &str = "localhost/out";

/// A store of images and containers in a directory of its own.
struct Buildah {
    dir: tempfile::TempDir,
}

impl Buildah {
    /// None, having said why, where images cannot be built.
    fn find() -> Result<Option<Self>> {
        let Some(program) = tests::find_executable("buildah") else {
            println!("skipped: buildah is not installed");
            return Ok(None);
        };
        if !tests::is_root() {
            println!("skipped: {} can run what it builds as root only", program.display());
            return Ok(None);
        }
        let dir = tempfile::Builder::new().prefix("sequin-image-").tempdir()?;
        // What is mounted into the container is read there by somebody else.
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755))?;
        Ok(Some(Self { dir }))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Plain copies instead of mounts, and no namespaces: so it works within a container, too.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(self.path("root")).arg("--runroot").arg(self.path("runroot"));
        command.args(["--storage-driver", "vfs"]).args(arguments);
        command.env("BUILDAH_ISOLATION", "chroot").env_remove("STORAGE_OPTS");
        command
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments).output().context("run buildah")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "buildah {arguments:?}: {}\n{said}", output.status);
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// An image of one layer with what is in a directory.
    fn import(&self, name: &str, directory: &Path) -> Result<()> {
        let container = self.run(&["from", "scratch"])?;
        self.run(&["copy", "--quiet", &container, &directory.display().to_string(), "/"])?;
        self.run(&["commit", "--quiet", "--rm", &container, name])?;
        Ok(())
    }

    /// The image of the Dockerfile, with this executable.
    fn build(&self, executable: &Path) -> Result<()> {
        let base = self.path("base");
        for library in libraries(executable)? {
            copy(&library, &base.join(library.strip_prefix("/")?))?;
        }
        self.import(BASE, &base)?;
        let out = self.path("out/out");
        for directory in ["certs", "config", "data", "plugins"] {
            std::fs::create_dir_all(out.join(directory))?;
        }
        copy(executable, &out.join("sequin"))?;
        // Any authority will do; without one, no client for HTTPS can be made.
        let authority = rcgen::generate_simple_self_signed([String::from("authority")])?;
        std::fs::write(out.join("certs/ca-certificates.crt"), authority.cert.pem())?;
        let filter = crate::world::plugin("public-rows");
        copy(Path::new(&filter), &out.join("plugins/public-rows.wasm"))?;
        self.import(OUT, &self.path("out"))?;
        let root = tests::repository().display().to_string();
        let [base, out] = [("BASE", BASE), ("OUT", OUT)].map(|(name, of)| format!("{name}={of}"));
        // Docker's format: the other one has no health check.
        let mut build = vec!["bud", "--quiet", "--pull-never", "--format", "docker"];
        build.extend(["--build-arg", &base, "--build-arg", &out, "--tag", IMAGE, &root]);
        self.run(&build)?;
        Ok(())
    }
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to.parent().context("find its directory")?)?;
    std::fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
    Ok(())
}

/// What the loader needs for an executable, and the loader.
fn libraries(executable: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(executable).output().context("run ldd")?;
    let text = String::from_utf8(output.stdout)?;
    let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
    let paths: Vec<PathBuf> = paths.map(PathBuf::from).collect();
    ensure!(!paths.is_empty(), "ldd names no library:\n{text}");
    Ok(paths)
}

/// The process in the container: a child of some child of buildah's, so it is found by its port.
fn process(port: u16) -> Result<Option<i32>> {
    let port = format!("SERVER_PORT={port}");
    for entry in std::fs::read_dir("/proc")? {
        let dir = entry?.path();
        let Some(pid) = dir.file_name().and_then(|name| name.to_str()?.parse().ok()) else {
            continue;
        };
        let name = std::fs::read_to_string(dir.join("comm")).unwrap_or_default();
        let environment = std::fs::read(dir.join("environ")).unwrap_or_default();
        if name == "sequin\n" && environment.split(|&b| b == 0).any(|v| v == port.as_bytes()) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

/// What is running in the container, which outlives buildah if that is killed.
struct Contained {
    pid: rustix::process::Pid,
    port: u16,
}

impl Drop for Contained {
    fn drop(&mut self) {
        if process(self.port).is_ok_and(|pid| pid == Some(self.pid.as_raw_nonzero().get())) {
            rustix::process::kill_process(self.pid, Signal::KILL).ok();
        }
    }
}

/// The image runs as nobody special with what it brings along, is healthy by its own check, delivers
/// a row through one of its plugins, and ends in order.
#[tokio::test(flavor = "multi_thread")]
async fn the_image_serves_as_an_ordinary_user_and_stops_in_order() -> Result<()> {
    let Some(buildah) = Buildah::find()? else { return Ok(()) };
    let engine = Sequin::builder().prepare()?;
    buildah.build(Path::new(engine.executable().get_program()))?;
    let container = buildah.run(&["from", "--pull-never", IMAGE])?;
    let about: Value = serde_json::from_str(&buildah.run(&["inspect", &container])?)?;
    let about = &about["Docker"]["config"];
    let words = |name: &str| -> Vec<String> {
        let words = about[name].as_array().into_iter().flatten();
        words.filter_map(|word| word.as_str().map(str::to_owned)).collect()
    };
    assert!(about["User"].as_str().unwrap_or_default().starts_with(USER), "{about}");
    assert_eq!(words("Entrypoint"), ["sequin"]);
    assert_eq!(words("Cmd"), ["serve"]);
    let check = about["Healthcheck"]["Test"].clone();
    assert_eq!(check, serde_json::json!(["CMD", "sequin", "health"]), "{about}");

    let postgres = Cluster::start().await?;
    let client = postgres.client("postgres").await?;
    client.batch_execute("CREATE TABLE t (id int PRIMARY KEY, is_public boolean)").await?;
    let receiver = Receiver::start().await?;
    let filter = "functions:
  - {name: public, type: filter, plugin: public-rows@0.1.0, config: {column: is_public}}
";
    let sink = hook("hook", "", "    filter: public\n    batch_size: 10\n");
    let config = buildah.path("config");
    std::fs::create_dir(&config)?;
    let text = yaml(postgres.port(), &receiver.url(), &format!("{filter}{sink}"));
    std::fs::write(config.join("sequin.yaml"), text)?;

    let (port, metrics) = (ports::free()?, ports::free()?);
    let mount = format!("{}:/etc/sequin:ro", config.display());
    let [port_is, metrics_is] =
        [("SERVER_PORT", port), ("SEQUIN_METRICS_PORT", metrics)].map(|(n, p)| format!("{n}={p}"));
    // `buildah run` has no entry point of its own accord.
    let inside = |command: &[&str], more: &[&str]| {
        let mut arguments =
            vec!["run", "--env", &port_is, "--env", &metrics_is, "--volume", &mount];
        arguments.extend(more.iter().chain(&[container.as_str(), "--"]).chain(command));
        buildah.command(&arguments)
    };
    let before = inside(&["sequin", "health"], &[]).output()?;
    assert!(!before.status.success(), "healthy without an engine: {before:?}");

    let mut serve = inside(&["sequin", "serve"], &["--env", "SEQUIN_BIND=127.0.0.1"]);
    serve.stdin(Stdio::null()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    let mut run = Process::spawn("buildah", &mut serve, Signal::TERM)?;
    let url = format!("http://127.0.0.1:{port}/health");
    let http = http::client()?;
    let mut ended = None;
    until("the container to be healthy", LATER, async || {
        ended = run.exited()?;
        if ended.is_some() {
            return Ok(Ok(()));
        }
        Ok(match http.get(&url).send().await {
            Ok(answer) if answer.status() == 200 => Ok(()),
            other => Err(format!("{other:?}")),
        })
    })
    .await?;
    ensure!(ended.is_none(), "the container ended: {ended:?}");
    let pid = process(port)?.context("find the engine among the processes")?;
    let pid = rustix::process::Pid::from_raw(pid).context("a process has a number")?;
    let contained = Contained { pid, port };
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))?;
    let user = status.lines().find(|line| line.starts_with("Uid:")).unwrap_or_default();
    assert_eq!(user.split_whitespace().nth(2), Some(USER), "its effective user");

    // The health check, as Docker runs it: in the same container, with the same environment.
    let healthy = inside(&["sequin", "health"], &[]).output()?;
    assert!(healthy.status.success(), "{healthy:?}");
    client.batch_execute("INSERT INTO t VALUES (1, false), (2, true)").await?;
    let messages = receiver.until_messages(1, SOON).await?;
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert_eq!(messages[0]["record"]["id"], 2, "the filter of the image keeps what is public");

    rustix::process::kill_process(pid, Signal::TERM)?;
    let ended = run.wait(Duration::from_secs(30)).await?;
    assert!(ended.success(), "SIGTERM ends it in order: {ended}");
    drop(contained);
    Ok(())
}
