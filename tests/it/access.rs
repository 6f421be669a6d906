//! Who may use the API.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use anyhow::{Context as _, Result};
use tests::{Sequin, http, until};
use tokio::io::AsyncWriteExt as _;

use crate::world::{LATER, engine, hook, yaml};

const TOKEN: &str = "0123456789abcdef";

/// Every route there is, and one that is none: by method and path.
const ROUTES: [(&str, &str); 66] = [
    ("POST", "/api/config/plan"),
    ("POST", "/api/config/apply"),
    ("GET", "/api/config/export"),
    ("GET", "/api/config/drift"),
    ("GET", "/api/sinks"),
    ("POST", "/api/sinks"),
    ("GET", "/api/sinks/hook"),
    ("PUT", "/api/sinks/hook"),
    ("PATCH", "/api/sinks/hook"),
    ("DELETE", "/api/sinks/hook"),
    ("GET", "/api/postgres_databases"),
    ("DELETE", "/api/postgres_databases/source"),
    ("POST", "/api/postgres_databases/source/test_connection"),
    ("POST", "/api/postgres_databases/source/refresh_tables"),
    ("GET", "/api/destinations/http_endpoints"),
    ("PUT", "/api/destinations/http_endpoints/receiver"),
    ("GET", "/api/functions"),
    ("DELETE", "/api/functions/f"),
    ("GET", "/api/api_keys"),
    ("POST", "/api/api_keys"),
    ("DELETE", "/api/api_keys/ci"),
    ("GET", "/api/health"),
    ("POST", "/api/health/dismiss"),
    ("POST", "/api/sinks/hook/resume"),
    ("POST", "/api/sinks/hook/record"),
    ("GET", "/api/letters"),
    ("GET", "/api/letters/counts"),
    ("GET", "/api/letters/1"),
    ("PATCH", "/api/letters/1"),
    ("POST", "/api/letters/1/discard"),
    ("POST", "/api/letters/1/retry"),
    ("GET", "/api/sinks/hook/letters"),
    ("GET", "/api/sinks/hook/letters/replay"),
    ("POST", "/api/sinks/hook/letters/replay"),
    ("GET", "/api/sinks/hook/messages"),
    ("POST", "/api/sinks/hook/messages/retry"),
    ("POST", "/api/sinks/hook/messages/1/retry"),
    ("POST", "/api/sinks/hook/messages/1/discard"),
    ("GET", "/api/sinks/hook/trace"),
    ("POST", "/api/sinks/hook/trace"),
    ("GET", "/api/sinks/hook/backfills"),
    ("POST", "/api/sinks/hook/backfills"),
    ("GET", "/api/sinks/hook/backfills/1"),
    ("PUT", "/api/sinks/hook/backfills/1"),
    ("PATCH", "/api/sinks/hook/backfills/1"),
    ("GET", "/api/plugins"),
    ("POST", "/api/plugins"),
    ("POST", "/api/plugins/collect"),
    ("GET", "/api/plugins/a/1.0.0"),
    ("DELETE", "/api/plugins/a/1.0.0"),
    ("GET", "/api/bindings"),
    ("GET", "/api/sinks/hook/bindings"),
    ("POST", "/api/sinks/hook/promote"),
    ("POST", "/api/sinks/hook/rollback"),
    ("POST", "/api/sinks/hook/release"),
    ("GET", "/api/audit"),
    ("GET", "/api/sinks/hook/rollouts"),
    ("POST", "/api/sinks/hook/rollouts"),
    ("GET", "/api/sinks/hook/rollouts/1"),
    ("PATCH", "/api/sinks/hook/rollouts/1"),
    ("GET", "/api/functions/costs"),
    ("GET", "/api/sequin_streams/hook/receive"),
    ("POST", "/api/sequin_streams/hook/receive"),
    ("POST", "/api/sequin_streams/hook/ack"),
    ("POST", "/api/http_pull_consumers/hook/nack"),
    ("GET", "/api/nothing"),
];

#[tokio::test(flavor = "multi_thread")]
async fn b261_nothing_of_the_api_is_told_without_the_token() -> Result<()> {
    let sequin = engine(&yaml(1, "http://127.0.0.1:1", &hook("hook", "", "")))
        .env("SEQUIN_API_TOKEN", TOKEN)
        .start()
        .await?;
    let client = http::client()?;
    for (method, path) in ROUTES {
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
