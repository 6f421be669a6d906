//! `sequin plugin test`, `bench`, `record` and `dev`: what authors and their CI call.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tests::process::{Process, Signal};
use tests::{Sequin, until};

use crate::world::{LATER, SOON, World, plugin};

/// Status, what was printed, and what was said.
type Ended = (Option<i32>, String, String);

/// Runs `sequin plugin`.
fn run(arguments: &[&str]) -> Result<Ended> {
    let home = Sequin::builder().prepare()?;
    let mut command = home.executable();
    command.arg("plugin").args(arguments).stdin(Stdio::null());
    let output = command.output().context("run sequin plugin")?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((output.status.code(), text(output.stdout), text(output.stderr)))
}

fn repository_fixture(name: &str) -> PathBuf {
    tests::repository().join("plugins").join(name).join("fixtures")
}

/// A copy of a first-party plugin's fixture.
fn copied(name: &str, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for file in ["messages.jsonl", "outcomes.jsonl", "config.json"] {
        std::fs::copy(repository_fixture(name).join(file), to.join(file))?;
    }
    Ok(())
}

/// Fixtures hold, in the engine's batches and in others; a difference is told by field.
#[test]
fn b272_b278_plugin_test_compares_with_what_is_expected() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let fixtures = dir.path().join("fixtures");
    copied("pick", &fixtures.join("one"))?;
    copied("pick", &fixtures.join("two"))?;
    let (component, path) = (plugin("pick"), fixtures.display().to_string());
    let test = ["test", &component, "--fixtures", &path];
    let (status, printed, said) = run(&test)?;
    assert_eq!(status, Some(0), "{printed}{said}");
    assert_eq!(printed, "ok    one: 14 messages\nok    two: 14 messages\n");

    // One value, one line more than there are messages, and white space, which means nothing.
    let outcomes = fixtures.join("two/outcomes.jsonl");
    let good = std::fs::read_to_string(&outcomes)?;
    let bad = good.replacen("\"size\":-2147483648", "\"size\": -2147483647", 1);
    assert_ne!(bad, good, "the fixture has that value");
    let bad = bad.replacen("\"id\":1,", "\"id\": 1 ,", 1);
    std::fs::write(&outcomes, format!("{bad}{{}}\n"))?;
    let (status, printed, said) = run(&test)?;
    assert_eq!(status, Some(1), "{printed}{said}");
    let expected = "ok    one: 14 messages\nFAIL  two: 14 messages; 1 with another outcome than \
                    expected; 1 expected that never came\n  message 1: record.numbers.size: \
                    -2147483647 -> -2147483648\n";
    assert_eq!(printed, expected);

    let (status, printed, _) = run(&[&test[..], &["--json"]].concat())?;
    let told: Value = serde_json::from_str(&printed)?;
    assert_eq!((status, &told["passed"]), (Some(1), &json!(false)));
    assert_eq!(told["fixtures"][0]["passed"], json!(true));
    let difference = json!({
        "path": "record.numbers.size", "expected": "-2147483647", "found": "-2147483648",
    });
    assert_eq!(told["fixtures"][1]["wrong"][0]["differences"], json!([difference]));
    assert_eq!(told["fixtures"][1]["left_over"], json!(1));

    let (status, printed, said) = run(&[&test[..], &["--update"]].concat())?;
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(printed, "unchanged  one: 14 messages\nwritten  two: 14 messages\n");
    assert_eq!(std::fs::read_to_string(&outcomes)?, good);
    Ok(())
}

/// State shows in batches that are cut otherwise, also where nothing is expected yet.
#[test]
fn b272_plugin_test_finds_state_that_is_carried() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let fixture = dir.path().join("fixtures");
    copied("pick", &fixture)?;
    std::fs::remove_file(fixture.join("outcomes.jsonl"))?;
    let config = json!({"column": "name", "when": "no row has this"});
    std::fs::write(fixture.join("config.json"), config.to_string())?;
    let (component, path) = (plugin("stateful"), fixture.display().to_string());
    let test = ["test", &component, "--fixtures", &path, "--update"];
    let (status, printed, said) = run(&test)?;
    assert_eq!(status, Some(1), "{printed}{said}");
    assert!(printed.contains("whose outcome depends on the others"), "{printed}");
    assert!(printed.contains("message 1, one by one: record.seen: 1 -> "), "{printed}");
    assert!(!fixture.join("outcomes.jsonl").exists(), "what is no answer is not expected");
    Ok(())
}

/// What cannot be tested is no difference: another status, and what to do.
#[test]
fn plugin_test_tells_what_is_broken() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let fixture = dir.path().join("fixture");
    copied("pick", &fixture)?;
    let at = fixture.display().to_string();
    let empty = tempfile::tempdir()?;
    let nothing = empty.path().display().to_string();
    let (pick, every) = (plugin("pick"), plugin("every-verdict"));
    let broken = |arguments: &[&str], texts: &[&str]| -> Result<()> {
        let (status, printed, said) = run(&[&["test"][..], arguments].concat())?;
        assert_eq!((status, printed.as_str()), (Some(2), ""), "{arguments:?}: {said}");
        for text in texts {
            assert!(said.contains(text), "{arguments:?} does not say {text}: {said}");
        }
        Ok(())
    };
    broken(&[&nothing], &["no component in", "sequin plugin build"])?;
    broken(&["/nowhere.wasm", "--fixtures", &at], &["/nowhere.wasm: No such file"])?;
    broken(&[&pick, "--fixtures", &nothing], &["no fixtures", "sequin plugin record"])?;
    broken(&[&every, "--fixtures", &at], &["choose with --role", &at])?;
    std::fs::write(fixture.join("fixture.json"), r#"{"role": "judge"}"#)?;
    broken(&[&pick, "--fixtures", &at], &["fixture.json: role: `judge` is no role"])?;
    std::fs::write(fixture.join("fixture.json"), r#"{"roel": "filter"}"#)?;
    broken(&[&pick, "--fixtures", &at], &["fixture.json: unknown field `roel`"])?;
    std::fs::remove_file(fixture.join("fixture.json"))?;
    std::fs::write(fixture.join("config.json"), r#"{"tabels": {}}"#)?;
    broken(&[&pick, "--fixtures", &at], &["`tabels`", &at])?;
    std::fs::write(fixture.join("messages.jsonl"), "{}\n")?;
    broken(&[&pick, "--fixtures", &at], &["messages.jsonl: line 1: ", "without `record`"])
}

/// What a plugin is granted has stand-ins in its fixtures: what is not there is not granted, and what
/// is there is the same in any batch.
#[test]
fn b269_b278_plugin_test_answers_for_what_is_outside() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let fixture = dir.path().join("fixtures");
    std::fs::create_dir_all(&fixture)?;
    let write = |name: &str, text: &str| std::fs::write(fixture.join(name), text);
    let lines = [
        "clock",
        "random 4",
        "secret token",
        "put a 2; get a; get b",
        "http GET https://rates.test/eur",
        "http GET https://rates.test/usd",
        "rows public.rates rate code eur usd gbp",
        "http GET https://other.test/",
    ];
    let message = |(id, line): (usize, &&str)| {
        let metadata = json!({"table_schema": "public", "table_name": "t"});
        let record = json!({"id": id, "name": line});
        json!({"action": "insert", "record": record, "changes": null, "metadata": metadata})
    };
    let messages: Vec<String> =
        lines.iter().enumerate().map(|it| message(it).to_string()).collect();
    write("messages.jsonl", &messages.join("\n"))?;
    write("config.json", r#"{"column": "name"}"#)?;
    let (component, path) = (plugin("asks"), fixture.display().to_string());
    let test = ["test", &component, "--fixtures", &path];
    let broken = |wanted: &[&str]| -> Result<()> {
        let (status, printed, said) = run(&test)?;
        assert!(
            status == Some(2) && wanted.iter().all(|text| said.contains(text)),
            "{printed}{said}"
        );
        Ok(())
    };
    broken(&[
        "`clock` (it imports sequin:plugin/clock@0.2.0)",
        "outside.json of the fixture says",
    ])?;
    write("outside.json", r#"{"klock": 1}"#)?;
    broken(&["outside.json: unknown field `klock`, expected one of `clock`"])?;
    let outside = json!({
        "clock": 1_700_000_000_000_000_i64,
        "random": 1,
        "secrets": {"token": "not the real one"},
        "kv": {"a": "1", "b": "1"},
        "http": [
            {"url": "https://rates.test/eur", "body": "1.50"},
            {"url": "https://rates.test/usd", "failure": "timeout"},
        ],
        "lookup": {"public.rates": [{"code": "eur", "rate": "1.50"}, {"code": "usd", "rate": null}]},
    });
    write("outside.json", &outside.to_string())?;
    let (status, printed, said) = run(&[&test[..], &["--update"]].concat())?;
    assert_eq!(status, Some(0), "{printed}{said}");
    let outcomes = std::fs::read_to_string(fixture.join("outcomes.jsonl"))?;
    let answers: Vec<Value> =
        outcomes.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let answers: Vec<&str> =
        answers.iter().map(|it| it["record"]["answer"].as_str().unwrap_or_default()).collect();
    let expected = [
        "1700000000000000",
        "[88, 192, 203, 199]",
        "not the real one",
        "put; 2; 1",
        "200 1.50",
        "Timeout: no answer from https://rates.test/usd",
        r#"[Some([Some("1.50")]), Some([None]), None]"#,
        "Denied: outside.json has no answer to GET https://other.test/",
    ];
    assert_eq!(answers, expected, "{outcomes}");
    let (status, printed, _) = run(&test)?;
    assert_eq!((status, printed.as_str()), (Some(0), "ok    fixtures: 8 messages\n"));
    // So do the other commands.
    let file = |name: &str| fixture.join(name).display().to_string();
    let (messages, config, outside) =
        (file("messages.jsonl"), file("config.json"), file("outside.json"));
    let alone = ["run", &component, &messages, "--config-file", &config];
    let (status, _, said) = run(&alone)?;
    assert!(status == Some(64) && said.contains("`--outside FILE`"), "{said}");
    let (status, printed, said) = run(&[&alone[..], &["--outside", &outside]].concat())?;
    assert_eq!((status, printed.as_str()), (Some(0), outcomes.as_str()), "{said}");
    Ok(())
}

/// What a sink's functions are asked about is recorded while it delivers, and nothing ruled out
/// leaves the engine: neither in the file nor on the way to it.
#[tokio::test(flavor = "multi_thread")]
async fn b278_plugin_record_takes_live_messages_without_what_is_ruled_out() -> Result<()> {
    let table = "CREATE TABLE t (id bigint PRIMARY KEY, value text, mail text)";
    let world = World::start(table, "").await?;
    let dir = tempfile::tempdir()?;
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (out, rules) = (path("fixtures/live/messages.jsonl"), path("rules.json"));
    std::fs::write(&rules, r#"{"public.t": {"mail": "hash"}}"#)?;
    let record = ["plugin", "record", "hook", "--count", "3", "--seconds", "60", "--out", &out];
    let scrubbed = [&record[..], &["--scrub", &rules]].concat();
    let insert = async {
        // Until the recording has begun, and has what it waits for.
        for id in 1.. {
            let sql = format!(
                "INSERT INTO t VALUES ({id}, 'v', 'anna@example.org'), (-{id}, null, null)"
            );
            world.client.batch_execute(&sql).await?;
            world.receiver.until_messages(2 * id, SOON).await?;
        }
        anyhow::Ok(())
    };
    let output = tokio::select! {
        output = world.sequin.command(&scrubbed) => output?,
        failed = insert => { failed?; anyhow::bail!("it inserts for ever") }
    };
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("3 messages recorded"), "{said}");
    let text = std::fs::read_to_string(&out)?;
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(!text.contains("anna"), "{text}");
    let messages: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let known: Vec<&Value> = messages.iter().filter(|it| it["record"]["value"] == "v").collect();
    let mail = known.first().context("a message with a mail")?["record"]["mail"].clone();
    assert!(mail.as_str().is_some_and(|mail| mail.starts_with('h')), "{mail}");
    assert!(known.iter().all(|it| it["record"]["mail"] == mail), "the same for the same: {text}");
    assert_eq!(messages[0]["metadata"]["columns"][2]["type"], "text", "{text}");

    // It is a fixture as it is.
    std::fs::write(dir.path().join("fixtures/live/config.json"), r#"{"set": {"source": "app"}}"#)?;
    let (component, fixtures) = (plugin("pick"), path("fixtures"));
    let test = ["test", &component, "--fixtures", &fixtures];
    let (status, printed, said) = run(&[&test[..], &["--update"]].concat())?;
    assert_eq!(status, Some(0), "{printed}{said}");
    let (status, printed, _) = run(&test)?;
    assert_eq!((status, printed.as_str()), (Some(0), "ok    live: 3 messages\n"));

    // What cannot be scrubbed is not recorded; who is not there is told.
    std::fs::write(&rules, r#"{"public.t": {"mial": "hash"}}"#)?;
    let other = path("other.jsonl");
    let wrong = ["plugin", "record", "hook", "--count", "1", "--out", &other, "--scrub", &rules];
    let insert = async {
        loop {
            let count = world.receiver.messages().len();
            world.client.batch_execute("UPDATE t SET value = 'w' WHERE id = 1").await?;
            world.receiver.until_messages(count + 1, SOON).await?;
        }
        #[expect(unreachable_code, reason = "the type of what fails")]
        anyhow::Ok(())
    };
    let output = tokio::select! {
        output = world.sequin.command(&wrong) => output?,
        failed = insert => { failed?; anyhow::bail!("it updates for ever") }
    };
    let said = String::from_utf8(output.stderr)?;
    assert!(output.status.code() == Some(64) && said.contains("column `mial`"), "{said}");
    assert!(!Path::new(&other).exists());
    let nobody = world.sequin.command(&["plugin", "record", "nobody"]).await?;
    let said = String::from_utf8(nobody.stderr)?;
    assert!(nobody.status.code() == Some(64) && said.contains("these do: hook"), "{said}");
    Ok(())
}

/// Fuel and bytes of a message against those of a base: the same on every machine, so that a gate
/// can stand on them.
#[test]
fn plugin_bench_holds_a_plugin_to_its_base() -> Result<()> {
    let pick = plugin("pick");
    let file = |name: &str| repository_fixture("pick").join(name).display().to_string();
    let dir = tempfile::tempdir()?;
    let dear = dir.path().join("dear.json");
    std::fs::write(&dear, r#"{"set": {"version": 1}}"#)?;
    let (messages, dear) = (file("messages.jsonl"), dear.display().to_string());
    let bench = |component: &str, more: &[&str]| {
        let first = ["bench", component, &messages, "--seconds", "0.01", "--batch", "8"];
        run(&[&first[..], more].concat())
    };
    let config = ["--config-file", &dear];
    let (status, printed, said) = bench(&pick, &[&config[..], &["--base", &pick]].concat())?;
    assert_eq!(status, Some(0), "{printed}{said}");
    assert!(printed.contains("fuel") && printed.contains("+0.0%"), "{printed}");
    // By its name in the plugin directory: one that does next to nothing.
    let dir = tests::repository().join("plugins/target/bad");
    let home = Sequin::builder().prepare()?;
    let mut command = home.executable();
    command.env("SEQUIN_PLUGIN_DIR", &dir).stdin(Stdio::null());
    let told = run(&["inspect", &plugin("stateful")])?.1;
    let told: Value = serde_json::from_str(&told)?;
    let name = format!("stateful@{}", told["version"].as_str().context("a version")?);
    let stateful = r#"{"column": "name", "when": "none"}"#;
    command.args(["plugin", "bench", &plugin("every-verdict"), &messages, "--config", stateful]);
    command.args(["--role", "transform", "--seconds", "0.01", "--batch", "8", "--base", &name]);
    let output = command.output()?;
    let text = String::from_utf8([output.stdout, output.stderr].concat())?;
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("worse") && text.contains("than the base, by more than 10%"), "{text}");
    let (status, _, said) = bench(&pick, &[&config[..], &["--base", "/nowhere.wasm"]].concat())?;
    assert!(status == Some(2) && said.contains("no such file"), "{said}");
    let (status, _, said) =
        bench(&pick, &[&config[..], &["--base", &pick, "--max-regression", "x"]].concat())?;
    assert!(status == Some(64) && said.contains("no percentage"), "{said}");
    Ok(())
}

/// A project in a directory is built again when a file is saved, and what differs is shown; Ctrl-C
/// ends it.
#[tokio::test(flavor = "multi_thread")]
async fn plugin_dev_builds_tests_and_shows_what_differs() -> Result<()> {
    let tools = crate::languages::tools()?;
    let home = Sequin::builder().prepare()?;
    let dir = home.config_path().with_file_name("mine");
    let mut new = home.executable();
    new.current_dir(dir.parent().context("above")?);
    new.args(["plugin", "new", "mine", "--lang", "js"]).stdout(Stdio::null());
    anyhow::ensure!(new.status()?.success(), "no project");
    std::os::unix::fs::symlink(tools.join("js/node_modules"), dir.join("node_modules"))?;
    let log = home.config_path().with_file_name("dev.log");
    let mut command = home.executable();
    let path = tests::search_path_behind(&tools.join("bin"));
    command.args(["plugin", "dev"]).current_dir(&dir).env("PATH", path).stdin(Stdio::null());
    let file = std::fs::File::create(&log)?;
    command.stdout(file.try_clone()?).stderr(file);
    let mut dev = Process::spawn("sequin plugin dev", &mut command, Signal::KILL)?;
    let said = async |text: &str, times: usize| {
        until(&format!("{times} times {text}"), LATER, async || {
            let log = std::fs::read_to_string(&log)?;
            Ok(if log.matches(text).count() >= times { Ok(()) } else { Err(log) })
        })
        .await
    };
    said("waiting for a file", 1).await?;
    said("ok    first: 4 messages", 1).await?;
    let source = std::fs::read_to_string(dir.join("plugin.js"))?;
    std::fs::write(dir.join("plugin.js"), source.replace("toLowerCase", "toUpperCase"))?;
    said("message 1: record.name_lower: \"old mill\" -> \"OLD MILL\"", 1).await?;
    // What does not build is told, and mended.
    std::fs::write(dir.join("plugin.js"), "import {")?;
    said("does not build", 1).await?;
    std::fs::write(dir.join("plugin.js"), &source)?;
    said("ok    first: 4 messages", 2).await?;
    said("waiting for a file", 4).await?;
    dev.signal(Signal::INT)?;
    let status = dev.wait(SOON).await?;
    anyhow::ensure!(status.success(), "{status}");
    Ok(())
}
