//! `docs/tutorial-plugin.md`: its commands, one block after the other, in an empty directory, with a
//! database that has the demo's tables.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{Cluster, Sequin, until};

use crate::languages::tools;
use crate::world::{LATER, SOON, streaming};

/// What a block of the page is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Block {
    /// Commands.
    Shell(String),
    /// The file that the text calls `sequin.yaml`.
    Yaml(String),
}

/// The fenced blocks, in their order.
fn blocks(page: &str) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let mut rest = page;
    while let Some((_, fenced)) = rest.split_once("\n```") {
        let (language, text) = fenced.split_once('\n').context("a block without an end")?;
        let (text, after) = text.split_once("\n```").context("a block without an end")?;
        blocks.push(match language {
            "sh" => Block::Shell(text.to_owned()),
            "yaml" => Block::Yaml(text.to_owned()),
            other => anyhow::bail!("a block of {other:?}: nobody would try it"),
        });
        rest = after;
    }
    Ok(blocks)
}

/// Somebody who follows the page.
struct Newcomer {
    sequin: Sequin,
    postgres: Cluster,
    dir: PathBuf,
    path: String,
    /// What the page says to export.
    exports: BTreeMap<String, String>,
}

impl Newcomer {
    async fn new() -> Result<Self> {
        let postgres = Cluster::start().await?;
        let client = postgres.client("postgres").await?;
        let schema = std::fs::read_to_string(tests::repository().join("demo/schema.sql"))?;
        client.batch_execute(&schema).await?;
        // Nothing of the engine's is set but its ports: what else is needed, the page says.
        let sequin = Sequin::builder().prepare()?;
        let dir = sequin.config_path().parent().context("a directory")?.to_path_buf();
        std::fs::remove_file(sequin.config_path())?;
        let program = sequin.executable();
        let bin = Path::new(program.get_program()).parent().context("its directory")?;
        let tools = tests::search_path_behind(&tools()?.join("bin"));
        let path = format!("{}:{}", bin.display(), tools.to_string_lossy());
        Ok(Self { sequin, postgres, dir, path, exports: BTreeMap::new() })
    }

    /// A shell in the directory, with what the page exports.
    fn shell(&self, commands: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-e", "-c", commands]).env_clear().current_dir(&self.dir);
        let program = self.sequin.executable();
        let given = program.get_envs().filter_map(|(name, value)| Some((name, value?)));
        shell.envs(given.filter(|(name, _)| *name != "SEQUIN_DATA_DIR"));
        shell.envs(&self.exports).env("PATH", &self.path).stdin(Stdio::null());
        shell
    }

    async fn run(&self, commands: &str) -> Result<Output> {
        let mut shell = tokio::process::Command::from(self.shell(commands));
        let output = tokio::time::timeout(LATER, shell.kill_on_drop(true).output());
        let output = output.await.with_context(|| format!("wait for {commands}"))??;
        let said = [output.stdout.clone(), output.stderr.clone()].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        let log = self.sequin.log();
        ensure!(output.status.success(), "{commands}: {}: {said}\n{log}", output.status);
        Ok(output)
    }

    /// `export NAME=VALUE` lines, with this test's database in place of the reader's.
    fn export(&mut self, lines: &str) -> Result<()> {
        let printing = format!("{lines}\nenv");
        let shell = self.shell(&printing).output()?;
        let all = String::from_utf8(shell.stdout)?;
        for line in lines.lines() {
            let name = line.strip_prefix("export ").and_then(|line| line.split_once('='));
            let (name, _) = name.with_context(|| format!("{line} exports nothing"))?;
            let value = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            let value = value.with_context(|| format!("{name} is not exported"))?.to_owned();
            let database = || self.postgres.url("postgres");
            let value = if name == "DATABASE_URL" { database() } else { value };
            self.sequin.set_env(name, &value);
            self.exports.insert(name.to_owned(), value);
        }
        Ok(())
    }

    /// `name_lower` of what was delivered of each point of interest last, by its name.
    fn delivered(&self) -> Result<BTreeMap<String, String>> {
        let text = std::fs::read_to_string(self.dir.join("messages.jsonl")).unwrap_or_default();
        // The last line may be on its way.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut delivered = BTreeMap::new();
        for line in text.get(..whole).unwrap_or_default().lines() {
            let message: Value = serde_json::from_str(line).context(line.to_owned())?;
            let of = |name: &str| message["record"][name].as_str().unwrap_or_default().to_owned();
            delivered.insert(of("name"), of("name_lower"));
        }
        Ok(delivered)
    }

    /// Waits until every point of interest was delivered with such a `name_lower`.
    async fn until_delivered(&self, what: &str, is_so: impl Fn(&str, &str) -> bool) -> Result<()> {
        let client = self.postgres.client("postgres").await?;
        let rows = client.query("SELECT name FROM poi", &[]).await?;
        let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        until(what, SOON, async || {
            let delivered = self.delivered()?;
            let good = |name: &String| delivered.get(name).is_some_and(|lower| is_so(name, lower));
            let all = !names.is_empty() && names.iter().all(good);
            Ok(if all { Ok(()) } else { Err(format!("{delivered:?}\n{}", self.sequin.log())) })
        })
        .await
    }
}

#[test]
fn what_is_no_block_of_the_page_is_not_taken_for_one() {
    let page = "a\n\n```sh\nx\ny\n```\n`b`\n\n```yaml\nc: 1\n```\n";
    let expected = [Block::Shell("x\ny".to_owned()), Block::Yaml("c: 1".to_owned())];
    assert_eq!(blocks(page).unwrap(), expected);
    assert!(blocks("a\n```console\nx\n```\n").is_err());
    assert!(blocks("a\n```sh\nx\n").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn b270_b278_the_tutorial_does_what_it_says() -> Result<()> {
    let page = std::fs::read_to_string(tests::repository().join("docs/tutorial-plugin.md"))?;
    let mut newcomer = Newcomer::new().await?;
    let mut did = Vec::new();
    let mut blocks = blocks(&page)?.into_iter();
    while let Some(block) = blocks.next() {
        let commands = match block {
            Block::Yaml(text) => {
                newcomer.sequin.write_config(&format!("{text}\n"))?;
                continue;
            }
            Block::Shell(commands) => commands,
        };
        if commands.starts_with("export ") {
            newcomer.export(&commands)?;
            continue;
        }
        if commands.starts_with("sequin serve") {
            // What `launch` runs.
            ensure!(commands == "sequin serve --config sequin.yaml", "{commands}");
            newcomer.sequin.launch()?;
            streaming(&newcomer.sequin).await?;
            did.push(commands);
            continue;
        }
        let said = if commands.contains("plugin record") {
            // What is recorded happens meanwhile, from another terminal: once it listens.
            let Some(Block::Shell(meanwhile)) = blocks.next() else {
                anyhow::bail!("nothing happens while it is recorded")
            };
            let recording = newcomer.run(&commands);
            let happening = async {
                loop {
                    if let Err(error) = newcomer.run(&meanwhile).await {
                        break error;
                    }
                }
            };
            tokio::select! {
                recorded = recording => recorded?,
                error = happening => return Err(error),
            }
        } else {
            newcomer.run(&commands).await?
        };
        let said = String::from_utf8(said.stdout)?;
        if commands.contains("plugin new") {
            // What `sequin plugin build` would download; `languages` compares the versions.
            let modules = tools()?.join("js/node_modules");
            std::os::unix::fs::symlink(modules, newcomer.dir.join("shout/node_modules"))?;
        }
        newcomer.check(&commands, &said).await.with_context(|| commands.clone())?;
        did.push(commands);
    }
    // A page that was shortened proves less.
    let all = did.join("\n");
    let needed = ["new", "build", "test", "record", "bench", "push", "rollout", "rollback"];
    for deed in needed {
        ensure!(all.contains(&format!("sequin plugin {deed} ")), "{deed} is gone from the page");
    }
    Ok(())
}

impl Newcomer {
    /// What the page promises of these commands.
    async fn check(&self, commands: &str, said: &str) -> Result<()> {
        let spaced = |name: &str, lower: &str| lower == name.to_lowercase();
        let trimmed = |name: &str, lower: &str| lower == name.trim().to_lowercase();
        if commands.contains("INSERT INTO poi") {
            self.until_delivered("the inserted rows", spaced).await?;
        }
        if commands.contains("plugin test shout --fixtures") {
            let live = self.dir.join("shout/fixtures/live/outcomes.jsonl");
            let live = std::fs::read_to_string(live)?;
            ensure!(live.contains("\"name_lower\":\" mill "), "{live}");
        }
        if commands.contains("rollout shadow") {
            until("the shadow to have seen rows", SOON, async || {
                let output = self.run("sequin plugin rollout report pois --json").await?;
                let report: Value = serde_json::from_slice(&output.stdout)?;
                let seen = report["compared"]["changed"].as_u64() > Some(0);
                Ok(if seen { Ok(()) } else { Err(report.to_string()) })
            })
            .await?;
            self.until_delivered("what the old version makes", spaced).await?;
        }
        if commands.contains("rollout report") {
            ensure!(said.contains("/columns/name_lower"), "{said}");
        }
        if commands.contains("rollout promote") {
            self.until_delivered("what the new version makes", trimmed).await?;
        }
        if commands.contains("rollout list") {
            // The page says: within seconds.
            until("the rollout to be completed", SOON, async || {
                let output = self.run(commands).await?;
                let said = String::from_utf8(output.stdout)?;
                Ok(if said.contains("completed") { Ok(()) } else { Err(said) })
            })
            .await?;
        }
        if commands.contains("plugin rollback") {
            self.until_delivered("what the old version makes", spaced).await?;
        }
        if commands.contains("plugin audit") {
            ensure!(said.contains("the space was wanted"), "{said}");
        }
        if commands.contains("plugin release") {
            // Nothing is held, so that the file's version runs again.
            until("the file to decide", SOON, async || {
                self.run("psql \"$DATABASE_URL\" -c 'UPDATE poi SET updated_at = now()'").await?;
                let delivered = self.delivered()?;
                let good = delivered.iter().all(|(name, lower)| trimmed(name, lower));
                Ok(if good { Ok(()) } else { Err(format!("{delivered:?}")) })
            })
            .await?;
        }
        Ok(())
    }
}
