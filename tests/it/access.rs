//! Who may use the API.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use anyhow::{Context as _, Result};
use tests::{Sequin, http, until};
use tokio::io::AsyncWriteExt as _;

use crate::openapi::{document, operations};
use crate::world::{LATER, engine, hook, yaml};

const TOKEN: &str = "0123456789abcdef";

#[tokio::test(flavor = "multi_thread")]
async fn b261_nothing_of_the_api_is_told_without_the_token() -> Result<()> {
    let sequin = engine(&yaml(1, "http://127.0.0.1:1", &hook("hook", "", "")))
        .env("SEQUIN_API_TOKEN", TOKEN)
        .start()
        .await?;
    let client = http::client()?;
    let mut operations = operations(&document(&sequin).await?)?;
    assert!(operations.len() > 60, "{operations:?}");
    operations.push(("GET".to_owned(), "/api/nothing".to_owned()));
    for (method, path) in operations {
        let path = path.replace("{sink}", "hook").replace("{which}", "hook");
        let path = path.replace("{id_or_name}", "hook").replace(['{', '}'], "");
        let ask = || client.request(method.parse().unwrap(), format!("{}{path}", sequin.url()));
        for request in [ask(), ask().bearer_auth("0123456789abcdeF"), ask().body("{")] {
            assert_eq!(request.send().await?.status().as_u16(), 401, "{method} {path}");
        }
        let answer = ask().bearer_auth(TOKEN).send().await?.status().as_u16();
        assert!(answer != 401 && answer != 405, "{method} {path}: {answer}");
    }
    assert_eq!(sequin.health().await?.0, 200);
    Ok(())
}

/// A token for CI may do what it is for, and ends when it is revoked.
#[tokio::test(flavor = "multi_thread")]
async fn b261_a_token_may_what_it_is_for_until_it_is_revoked() -> Result<()> {
    let config = "sinks: []\n";
    let mut sequin = engine(config).env("SEQUIN_API_TOKEN", TOKEN).start().await?;
    let made =
        sequin.command(&["token", "create", "ci", "--scope", "read", "--scope", "config"]).await?;
    let token = String::from_utf8(made.stdout)?.trim().to_owned();
    assert!(token.starts_with("sequin_"), "{token} {}", String::from_utf8_lossy(&made.stderr));
    assert!(!sequin.log().contains(&token));
    sequin.set_env("SEQUIN_API_TOKEN", &token);
    let run = async |arguments: &[&str]| {
        let output = sequin.command(arguments).await?;
        let said = String::from_utf8([output.stdout, output.stderr].concat())?;
        Ok::<_, anyhow::Error>((output.status.code(), said))
    };
    assert_eq!(run(&["config", "plan", "{config}"]).await?.0, Some(0));
    let (status, said) = run(&["plugin", "collect"]).await?;
    assert!(status == Some(64) && said.contains("needs the scope `plugins`"), "{said}");
    let (status, said) = run(&["config", "export", "--show-sensitive"]).await?;
    assert!(status == Some(64) && said.contains("needs the scope `admin`"), "{said}");
    assert_eq!(run(&["token", "list"]).await?.0, Some(64));
    // Whose token it is is proven, whoever they say they are.
    let made = http::client()?.post(format!("{}/api/destinations/http_endpoints", sequin.url()));
    let made = made.bearer_auth(&token).header("content-type", "application/json");
    let endpoint = r#"{"name": "e", "url": "https://example.com"}"#;
    let made = made.header("sequin-by", "ann").body(endpoint).send().await?;
    let status = made.status();
    assert!(status.is_success(), "{status} {}", made.text().await?);
    // Also after a restart, of which the engine's own token is another.
    sequin.set_env("SEQUIN_API_TOKEN", TOKEN);
    sequin.restart().await?;
    let as_ci = |token: &str| {
        let mut command = sequin.executable();
        command.args(["config", "drift"]).env("SEQUIN_API_TOKEN", token);
        tokio::process::Command::from(command).kill_on_drop(true).status()
    };
    assert!(as_ci(&token).await?.success());
    let listed = sequin.command(&["token", "list"]).await?;
    let listed = String::from_utf8(listed.stdout)?;
    assert!(listed.contains("\"name\":\"ci\"") && !listed.contains(&token), "{listed}");
    assert!(sequin.command(&["token", "revoke", "ci"]).await?.status.success());
    assert_eq!(as_ci(&token).await?.code(), Some(64));
    let deeds = String::from_utf8(sequin.command(&["plugin", "audit"]).await?.stdout)?;
    assert!(deeds.contains("token_create") && deeds.contains("token_revoke"), "{deeds}");
    assert!(deeds.contains("\"by\":\"ann (token ci)\""), "{deeds}");
    Ok(())
}

/// Tokens that the engine's own file names: for what their scopes say, as long as it names them, and out
/// of reach of the API.
#[tokio::test(flavor = "multi_thread")]
async fn b261_tokens_of_the_file_are_what_it_says_and_no_apply_changes_them() -> Result<()> {
    let file = |scopes: &str, rest: &str| {
        format!("api_tokens: [{{name: ci, token: '${{CI_TOKEN}}', scopes: [{scopes}]}}]\n{rest}")
    };
    let ci = "ci-0123456789abcdef";
    let sinks = "sinks: []\n";
    let mut sequin = engine(&file("read, config", sinks)).env("CI_TOKEN", ci).start().await?;
    let run = async |sequin: &Sequin, token: &str, arguments: &[&str]| {
        let mut command = sequin.executable();
        command.args(arguments).env("SEQUIN_API_TOKEN", token);
        let output = tokio::process::Command::from(command).kill_on_drop(true).output().await?;
        let said = String::from_utf8([output.stdout, output.stderr].concat())?;
        Ok::<_, anyhow::Error>((output.status.code(), said))
    };
    let applied = sequin.config_path().with_file_name("applied.yaml");
    let path = applied.display().to_string();
    std::fs::write(&applied, "http_endpoints: [{name: e, url: 'https://example.com'}]\n")?;
    let apply = ["config", "apply", path.as_str(), "--auto-approve", "--prune"];
    let (code, said) = run(&sequin, ci, &apply).await?;
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = run(&sequin, ci, &["plugin", "collect"]).await?;
    assert!(code == Some(64) && said.contains("needs the scope `plugins`"), "{said}");
    let (_, said) = run(&sequin, ci, &["config", "export"]).await?;
    assert!(said.contains("name: ci") && !said.contains(ci), "{said}");
    // Neither more for itself, nor another one.
    for more in
        [file("admin", ""), "api_tokens: [{name: me, token: 0123456789abcdef}]\n".to_owned()]
    {
        std::fs::write(&applied, more)?;
        let (code, said) = run(&sequin, ci, &apply).await?;
        assert!(code == Some(64) && said.contains("tokens_fixed"), "{said}");
    }
    let listed = sequin.command(&["token", "list"]).await?;
    let listed = String::from_utf8(listed.stdout)?;
    assert!(listed.contains("\"declared\":true") && !listed.contains(ci), "{listed}");
    let revoked = sequin.command(&["token", "revoke", "ci"]).await?;
    assert!(String::from_utf8(revoked.stderr)?.contains("declared"), "only the file ends it");
    assert!(!sequin.log().contains(ci));
    // The file says something else: it counts.
    sequin.write_config(&file("read", "sinks: []\n# other\n"))?;
    until("the token to have lost a scope", LATER, async || {
        let (code, said) = run(&sequin, ci, &apply).await?;
        Ok(if code == Some(64) && said.contains("needs the scope") { Ok(()) } else { Err(said) })
    })
    .await?;
    sequin.write_config(sinks)?;
    sequin.set_env("SEQUIN_API_TOKEN", TOKEN);
    sequin.restart().await?;
    assert_eq!(run(&sequin, ci, &["config", "drift"]).await?.0, Some(64));
    Ok(())
}

/// Engines by names: which one is asked, and that no token is told or readable by others.
#[tokio::test(flavor = "multi_thread")]
async fn b261_a_context_says_which_engine_is_asked_and_with_which_token() -> Result<()> {
    let there = engine("sinks: []\n").env("SEQUIN_API_TOKEN", TOKEN).start().await?;
    // Commands run as on a machine without an engine.
    let here = engine("").prepare()?;
    let run = async |arguments: &[&str], env: &[(&str, &str)], input: &str| {
        let mut command = here.executable();
        command.args(arguments).envs(env.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
        let mut stdin = child.stdin.take().context("its input")?;
        stdin.write_all(input.as_bytes()).await?;
        drop(stdin);
        let output = child.wait_with_output().await?;
        let said = String::from_utf8([output.stdout, output.stderr].concat())?;
        Ok::<_, anyhow::Error>((output.status.code(), said))
    };
    let drift = ["config", "drift"];
    assert_ne!(run(&drift, &[], "").await?.0, Some(0), "nothing is here");
    let url = there.url();
    let add = ["context", "add", "prod", &url, "--token-stdin"];
    assert_eq!(run(&add, &[], &format!("{TOKEN}\n")).await?.0, Some(0));
    assert_eq!(run(&drift, &[], "").await?.0, Some(0));
    let (_, listed) = run(&["context", "list"], &[], "").await?;
    assert!(listed.contains("\"current\":true") && !listed.contains(TOKEN), "{listed}");
    // By variable and by file; and which one a command means.
    run(&["context", "add", "env", &url, "--token-env", "MINE"], &[], "").await?;
    let which = ("SEQUIN_CONTEXT", "env");
    let (code, said) = run(&drift, &[which], "").await?;
    assert!(code == Some(64) && said.contains("MINE, which is not set"), "{said}");
    assert_eq!(run(&drift, &[which, ("MINE", TOKEN)], "").await?.0, Some(0));
    let wrong = here.config_path().with_file_name("wrong");
    std::fs::write(&wrong, "0123456789abcdeF\n")?;
    let file = wrong.display().to_string();
    run(&["context", "add", "file", &url, "--token-file", &file], &[], "").await?;
    assert_eq!(run(&["context", "use", "file"], &[], "").await?.0, Some(0));
    let (code, said) = run(&drift, &[], "").await?;
    assert!(code == Some(64) && said.contains("show a token"), "{said}");
    // What is set for a command wins.
    let direct = [("SEQUIN_URL", url.as_str()), ("SEQUIN_API_TOKEN", TOKEN)];
    assert_eq!(run(&drift, &direct, "").await?.0, Some(0));
    let (code, said) = run(&["context", "use", "nope"], &[], "").await?;
    assert!(code == Some(64) && said.contains("there are: env, file, prod"), "{said}");
    let kept = here.config_path().with_file_name("contexts.json");
    assert_eq!(std::fs::metadata(&kept)?.permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&kept, PermissionsExt::from_mode(0o644))?;
    let (code, said) = run(&drift, &[], "").await?;
    assert!(code == Some(64) && said.contains("chmod 600"), "{said}");
    Ok(())
}

/// A token that is for some things only: others are not there for it, and no plan of it changes them.
#[tokio::test(flavor = "multi_thread")]
async fn b260_b261_a_token_is_for_the_resources_that_its_patterns_name() -> Result<()> {
    let config = yaml(1, "http://127.0.0.1:1", &hook("poi-search", "", ""));
    let mut sequin = engine(&config).env("SEQUIN_API_TOKEN", TOKEN).start().await?;
    let create = ["token", "create", "team", "--scope", "read", "--scope", "config"];
    let mut team: Vec<&str> = create.to_vec();
    team.extend(["--resource", "sink:team-*", "--resource", "http_endpoint:team-*"]);
    let token = String::from_utf8(sequin.command(&team).await?.stdout)?.trim().to_owned();
    let bad = sequin.command(&["token", "create", "x", "--resource", "table:a"]).await?;
    assert!(String::from_utf8(bad.stderr)?.contains("of no kind that there is"));
    let run = async |sequin: &Sequin, arguments: &[&str]| {
        let mut command = sequin.executable();
        command.args(arguments).env("SEQUIN_API_TOKEN", &token);
        let output = tokio::process::Command::from(command).kill_on_drop(true).output().await?;
        let said = String::from_utf8([output.stdout, output.stderr].concat())?;
        Ok::<_, anyhow::Error>((output.status.code(), said))
    };
    let file = sequin.config_path().with_file_name("team.yaml");
    let path = file.display().to_string();
    let apply = ["config", "apply", path.as_str(), "--auto-approve", "--owner", "team"];
    let of = |name: &str, url: &str| format!("http_endpoints: [{{name: {name}, url: '{url}'}}]\n");
    std::fs::write(&file, of("team-a", "https://example.com"))?;
    let (code, said) = run(&sequin, &apply).await?;
    assert_eq!(code, Some(0), "{said}");
    std::fs::write(&file, of("receiver", "https://example.com"))?;
    for arguments in [&["config", "plan", path.as_str(), "--owner", "team"][..], &apply] {
        let (code, said) = run(&sequin, arguments).await?;
        assert!(code == Some(64) && said.contains("limited"), "{said}");
    }
    // Another's things are not there.
    let (code, said) = run(&sequin, &["sink", "list", "--json"]).await?;
    assert!(code == Some(0) && said.is_empty(), "{said}");
    let (code, said) = run(&sequin, &["sink", "show", "poi-search"]).await?;
    assert!(code == Some(64) && said.contains("there is no sink"), "{said}");
    let (code, said) = run(&sequin, &["sink", "pause", "poi-search"]).await?;
    assert!(code == Some(64) && said.contains("there is no sink"), "{said}");
    let (code, said) = run(&sequin, &["config", "export"]).await?;
    assert!(code == Some(64) && said.contains("limited"), "{said}");
    let listed = sequin.command(&["token", "list"]).await?;
    let listed = String::from_utf8(listed.stdout)?;
    assert!(
        listed.contains("\"resources\":[\"sink:team-*\",\"http_endpoint:team-*\"]"),
        "{listed}"
    );
    // Also after a restart.
    sequin.restart().await?;
    let (code, said) = run(&sequin, &apply).await?;
    assert!(code == Some(64) && said.contains("limited"), "{said}");
    Ok(())
}
