//! The action that deploys from GitHub, as far as it runs anywhere: its script, with a `gh` that records
//! what it is asked.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tests::{Cluster, Receiver, Sequin};

use crate::world::{engine, hook, streaming, yaml};

const TOKEN: &str = "a-token-of-sixteen";

struct Runner<'a> {
    sequin: &'a Sequin,
    dir: &'a Path,
}

impl Runner<'_> {
    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.join(name)).unwrap_or_default()
    }

    /// Status and all that it said.
    async fn run(&self, env: &[(&str, &str)]) -> Result<(i32, String)> {
        let program = self.sequin.executable();
        let program = program.get_program().to_str().context("a path")?.to_owned();
        let script = tests::repository().join(".github/actions/deploy/deploy.sh");
        // The `gh` that is there comes first.
        let mut command = Command::new("sh");
        command
            .args(["-c", "PATH=\"$PWD:$PATH\" exec \"$0\""])
            .arg(script)
            .current_dir(self.dir)
            .env("SEQUIN", program)
            .env("SEQUIN_URL", self.sequin.url())
            .env("SEQUIN_API_TOKEN", TOKEN)
            .env("GITHUB_OUTPUT", self.dir.join("output"))
            .env("GITHUB_STEP_SUMMARY", self.dir.join("summary"))
            .env("GITHUB_ACTOR", "octocat")
            .env("GITHUB_SHA", "abc123")
            .envs(env.iter().copied());
        let output = tokio::process::Command::from(command).kill_on_drop(true).output().await?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code().unwrap_or(-1), String::from_utf8(said)?))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_action_comments_with_the_plan_and_applies_it_on_main() -> Result<()> {
    let postgres = Cluster::start().await?;
    let receiver = Receiver::start().await?;
    let sequin = engine("").without_config().env("SEQUIN_API_TOKEN", TOKEN).start().await?;
    let dir = tempfile::tempdir()?;
    let gh = dir.path().join("gh");
    std::fs::write(
        &gh,
        "#!/bin/sh\necho \"$@\" > asked\nwhile [ $# -gt 1 ]; do shift; done\ncat \"$1\" > comment\n",
    )?;
    std::fs::set_permissions(&gh, std::fs::Permissions::from_mode(0o755))?;
    let text = yaml(postgres.port(), &receiver.url(), &hook("hook", "", ""));
    std::fs::write(dir.path().join("sequin.yaml"), &text)?;
    let runner = Runner { sequin: &sequin, dir: dir.path() };

    let pull_request = [("PULL_REQUEST", "7"), ("GH_TOKEN", "t")];
    let (status, said) = runner.run(&pull_request).await?;
    ensure!(status == 0, "{status} {said}");
    assert!(runner.read("asked").starts_with("pr comment 7 --edit-last"));
    let comment = runner.read("comment");
    assert!(comment.contains("+ sink `hook` is created"), "{comment}");
    assert!(!comment.contains("hidden-token"), "{comment}");
    assert!(runner.read("output").contains("changes=true\nplan="), "{}", runner.read("output"));
    assert_eq!(runner.read("summary"), comment);
    let exported = async || {
        let shown = sequin.command(&["config", "export"]).await?;
        Ok::<_, anyhow::Error>(String::from_utf8(shown.stdout)?)
    };
    assert!(!exported().await?.contains("hook"), "a plan changes nothing");

    let (status, said) = runner.run(&[]).await?;
    ensure!(status == 0, "{status} {said}");
    streaming(&sequin).await?;
    assert!(exported().await?.contains("hook"));
    let deeds = sequin.command(&["plugin", "audit"]).await?;
    let deeds = String::from_utf8(deeds.stdout)?;
    assert!(deeds.contains("octocat") && deeds.contains("commit abc123"), "{deeds}");
    // Again it does nothing; and what is wrong ends it, in both.
    std::fs::remove_file(dir.path().join("output"))?;
    let (status, said) = runner.run(&[]).await?;
    assert!(status == 0 && said.contains("Nothing to do"), "{status} {said}");
    assert!(runner.read("output").contains("changes=false"));
    std::fs::write(dir.path().join("sequin.yaml"), text.replace("sinks:", "sinkz:"))?;
    for env in [&pull_request[..], &[]] {
        let (status, said) = runner.run(env).await?;
        assert!(status == 64 && said.contains("sinkz"), "{status} {said}");
    }
    let (status, said) = runner.run(&[("SEQUIN_API_TOKEN", "another-token-of-it")]).await?;
    assert!(status == 64, "{status} {said}");
    Ok(())
}
