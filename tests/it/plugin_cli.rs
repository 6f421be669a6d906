//! `sequin plugin`, as the author of a plugin calls it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::process::{Process, Signal};
use tests::{Cluster, Sequin, Tail, until};

use crate::world::{SOON, plugin};

const MESSAGE: &str = r#"{"record": {"id": 1, "is_public": true}, "action": "insert", "metadata": {"table_schema": "public", "table_name": "t"}}"#;
const PUBLIC: [&str; 2] = ["--config", r#"{"column": "is_public"}"#];

/// Runs `sequin plugin` to its end with this on its standard input.
fn run(arguments: &[&str], input: &str) -> Result<(Option<i32>, String, String)> {
    let home = Sequin::builder().prepare()?;
    let mut command = home.executable();
    command.arg("plugin").args(arguments);
    ended(&mut command, input)
}

/// Its status, what it printed, and what it said.
fn ended(command: &mut Command, input: &str) -> Result<(Option<i32>, String, String)> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("start sequin plugin")?;
    let mut stdin = child.stdin.take().context("its standard input")?;
    let input = input.to_owned();
    // Whether it reads all of it is its own affair.
    let writing = std::thread::spawn(move || stdin.write_all(input.as_bytes()).ok());
    let Output { status, stdout, stderr } = child.wait_with_output().context("wait for it")?;
    writing.join().ok();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((status.code(), text(stdout), text(stderr)))
}

/// `keep insert public.t`, …
fn outcomes(text: &str) -> Result<Vec<String>> {
    let brief = |line: &str| {
        let line: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let word = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        Ok(format!("{} {} {}", word("outcome"), word("action"), word("table")))
    };
    text.lines().map(brief).collect()
}

/// The whole lines without what differs between two streams of the same rows.
fn same(text: &str) -> Result<Vec<Value>> {
    let line = |line: &str| {
        let mut line: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let object = line.as_object_mut().context("an object")?;
        object.retain(|name, _| !name.starts_with("commit_"));
        Ok(line)
    };
    text.lines().map(line).collect()
}

/// A live stream of two tables through a filter: each row is judged as it comes.
#[tokio::test(flavor = "multi_thread")]
async fn plugin_run_judges_a_live_stream() -> Result<()> {
    let postgres = Cluster::start().await?;
    let client = postgres.client("postgres").await?;
    let schema = "CREATE TABLE t (id bigint PRIMARY KEY, is_public boolean);
                  CREATE TABLE u (id bigint PRIMARY KEY, is_public boolean)";
    client.batch_execute(schema).await?;
    let (reader, writer) = std::io::pipe()?;
    let url = postgres.url("postgres");
    let mut tail = Tail::spawn(&url, &["--types"], Some(writer.into()))?;
    tail.reading().await?;
    let home = Sequin::builder().prepare()?;
    let file = |name: &str| home.config_path().with_file_name(name);
    let mut command = home.executable();
    command.args(["plugin", "run", &plugin("public-rows")]).args(PUBLIC).stdin(reader);
    command.stdout(File::create(file("out"))?).stderr(File::create(file("err"))?);
    let mut running = Process::spawn("sequin plugin run", &mut command, Signal::KILL)?;
    // The pipe ends when the last who could write to it is gone.
    drop(command);

    let printed = async |count: usize| {
        until(&format!("{count} outcomes"), SOON, async || {
            let text = std::fs::read_to_string(file("out"))?;
            let whole = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
            let outcomes = outcomes(whole)?;
            Ok(if outcomes.len() >= count { Ok(outcomes) } else { Err(text) })
        })
        .await
    };
    client.batch_execute("INSERT INTO t VALUES (1, true)").await?;
    assert_eq!(printed(1).await?, ["keep insert public.t"], "while the stream goes on");
    let sql = "BEGIN; INSERT INTO t VALUES (2, false); INSERT INTO u VALUES (1, true);
               UPDATE t SET is_public = null WHERE id = 1; DELETE FROM u; TRUNCATE t; COMMIT";
    client.batch_execute(sql).await?;
    let expected = [
        "keep insert public.t",
        "evict insert public.t",
        "keep insert public.u",
        "evict update public.t",
        "keep delete public.u",
        "keep truncate public.t",
    ];
    assert_eq!(printed(6).await?, expected);
    tail.signal(Signal::TERM)?;
    assert!(tail.wait(SOON).await?.success(), "{}", tail.stderr()?);
    let status = running.wait(SOON).await?;
    let said = std::fs::read_to_string(file("err"))?;
    assert!(status.success(), "{status}: {said}");
    assert!(said.contains("4 kept, 0 dropped, 2 evicted, 0 failed"), "{said}");
    Ok(())
}

/// Messages as webhooks get them, without types, make of rows what those with types make of them.
#[tokio::test(flavor = "multi_thread")]
async fn plugin_run_needs_no_types_for_what_json_tells() -> Result<()> {
    let postgres = Cluster::start().await?;
    let client = postgres.client("postgres").await?;
    let schema = "CREATE TABLE t (id bigint PRIMARY KEY, is_public boolean, name text, size int,
                      weight float8, price numeric, seen timestamptz, flags jsonb, langs text[])";
    client.batch_execute(schema).await?;
    let url = postgres.url("postgres");
    let tails = [Tail::start(&url, &["--types"]).await?, Tail::start(&url, &[]).await?];
    let sql = r#"
        INSERT INTO t VALUES (1, true, 'a', 5, 1.5, 2.50, '2024-05-01 10:00+02', '["wc"]', '{de}'),
            (2, false, null, -1, 'NaN', 0.1, null, null, null), (3, null, '', 0, 0, 12345678901234567890, 'infinity', '[]', '{}');
        ALTER TABLE t ALTER name SET STORAGE EXTERNAL;
        UPDATE t SET name = repeat('x', 9000) WHERE id = 1; UPDATE t SET size = 7 WHERE id = 1;
        DELETE FROM t WHERE id = 2; TRUNCATE t"#;
    client.batch_execute(sql).await?;
    let mut recorded = Vec::new();
    for tail in &tails {
        let messages = tail.until_messages(7, SOON).await?;
        recorded.push(messages.iter().map(|message| format!("{message}\n")).collect::<String>());
    }
    assert!(recorded[0].contains("\"columns\"") && !recorded[1].contains("\"columns\""));
    for (name, config) in [
        ("public-rows", json!({"column": "is_public"})),
        ("public-rows", json!({"all": [{"column": "size", "at_least": 0}]})),
        ("feature-flags", json!({"column": "flags", "flags": ["wc"]})),
        ("pick", json!({"rename": {"name": "title"}, "drop": ["size"]})),
    ] {
        let config = config.to_string();
        let judged = |text: &str| run(&["run", &plugin(name), "--config", &config], text);
        let (with, without) = (judged(&recorded[0])?, judged(&recorded[1])?);
        // Which nulls of a deleted row were not sent, only the key tells, which is among the types.
        let but_deletes = |text: &str| -> Result<Vec<Value>> {
            Ok(same(text)?.into_iter().filter(|line| line["action"] != "delete").collect())
        };
        assert_eq!(but_deletes(&with.1)?.len(), 6);
        assert_eq!(
            but_deletes(&with.1)?,
            but_deletes(&without.1)?,
            "{name} {config}: {}{}",
            with.2,
            without.2
        );
        assert_eq!((with.0, without.0), (Some(0), Some(0)), "{name} {config}: {}", with.2);
        assert_eq!(with.1.lines().count(), 7, "{}", with.1);
    }
    Ok(())
}

#[test]
fn plugin_run_tells_what_is_wrong_and_where() -> Result<()> {
    let public = plugin("public-rows");
    let dir = tempfile::tempdir()?;
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).map(|()| path.display().to_string())
    };
    let config = file("config.json", "{\n  \"column\": \"is_public\",\n}")?;
    let messages = file("messages.jsonl", &format!("{MESSAGE}\n\n{MESSAGE}\n{{}}\n{MESSAGE}\n"))?;
    let text = MESSAGE.replace("true", "\"x\"");
    let of_public = |more: &[&str]| -> Vec<String> {
        [&["run", &public][..], more].concat().iter().map(|&text| text.to_owned()).collect()
    };
    let public_with = |more: &[&str]| of_public(&[&PUBLIC[..], more].concat());
    for (arguments, input, code, printed, texts) in [
        (public_with(&[]), MESSAGE, 0, 1, &["1 kept"][..]),
        (public_with(&["-"]), MESSAGE, 0, 1, &["1 kept"]),
        (public_with(&[]), "", 0, 0, &["0 kept"]),
        (public_with(&[]), &text, 1, 1, &["1 failed"]),
        // What stands before a wrong line is judged; the others are not.
        (public_with(&[&messages]), "", 64, 2, &["messages.jsonl:4: ", "without `record`"]),
        (public_with(&[]), "{}", 64, 0, &["standard input:1: "]),
        (public_with(&["/nowhere.jsonl"]), "", 64, 0, &["/nowhere.jsonl: No such file"]),
        (of_public(&["--config", "{"]), "", 64, 0, &["--config is no JSON: ", "line 1"]),
        (of_public(&["--config-file", &config]), "", 64, 0, &["config.json is no JSON", "line 3"]),
        (
            of_public(&["--config", "{\"x\": 1}"]),
            "",
            64,
            0,
            &["config of plugin public-rows", "`x`"],
        ),
        (of_public(&["--config", "{}", "--config-file", "x"]), "", 64, 0, &["cannot be used with"]),
        (public_with(&["--role", "transform"]), "", 64, 0, &["no transform", "made for filter"]),
        (public_with(&["--role", "judge"]), "", 64, 0, &["filter, route, transform"]),
        (vec!["run".into(), plugin("every-verdict")], "", 64, 0, &["--role filter|transform"]),
        (vec!["run".into(), "/nowhere.wasm".into()], "", 64, 0, &["/nowhere.wasm: No such file"]),
        ([&["bench".to_owned()], &public_with(&[])[1..]].concat(), "", 64, 0, &["no messages"]),
    ] {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (status, out, said) = run(&arguments, input)?;
        assert_eq!((status, out.lines().count()), (Some(code), printed), "{arguments:?}: {said}");
        for text in texts {
            assert!(said.contains(text), "{arguments:?} does not say {text}: {said}");
        }
    }
    let bench = ["bench", &public, "--seconds", "0.01", "--batch", "8"];
    let (status, out, said) = run(&[&bench[..], &PUBLIC].concat(), MESSAGE)?;
    assert_eq!((status, out.contains("ns a row")), (Some(0), true), "{said}");
    Ok(())
}

/// A plugin that never ends costs its row, and the command ends.
#[test]
fn plugin_run_of_a_hostile_plugin_fails_its_row_alone() -> Result<()> {
    let config = r#"{"column": "name", "when": "spin"}"#;
    let message =
        |name: &str| MESSAGE.replace("\"is_public\": true", &format!("\"name\": \"{name}\""));
    let input = [message("fine"), message("spin"), message("fine")].join("\n");
    let (status, out, said) = run(&["run", &plugin("spin"), "--config", config], &input)?;
    assert_eq!(status, Some(1), "{said}");
    let (keep, error) = ("keep insert public.t", "error insert public.t");
    assert_eq!(outcomes(&out)?, [keep, error, keep]);
    assert!(out.contains("\"reason\":\"plugin_deadline\""), "{out}");
    Ok(())
}

#[test]
fn plugin_inspect_tells_good_from_hostile_components() -> Result<()> {
    let (status, out, said) = run(&["inspect", &plugin("public-rows")], "")?;
    assert_eq!(status, Some(0), "{said}");
    let told: Value = serde_json::from_str(&out)?;
    assert_eq!((&told["name"], &told["roles"]), (&json!("public-rows"), &json!(["filter"])));
    assert!(told["digest"].as_str().unwrap().starts_with("sha256:"), "{out}");
    assert_eq!(told["config_schema"]["type"], "object", "{out}");

    let (status, out, said) = run(&["inspect", &plugin("wants-clock")], "")?;
    assert_eq!(status, Some(64));
    assert!(said.contains("wasi:clocks/monotonic-clock"), "{said}");
    let told: Value = serde_json::from_str(&out)?;
    assert_eq!(told["name"], "wants-clock", "what it is is told all the same");

    let dir = tempfile::tempdir()?;
    for (name, bytes, text) in [
        ("module", &b"\0asm\x01\0\0\0"[..], "sequin plugin build"),
        ("script", b"#!/bin/sh\n", "its first bytes are not those of WebAssembly"),
        ("cut", b"\0asm\x0d\0\x01\0\x00\xff\xff\xff\xff\x0f", "not a component that can be used"),
        ("empty", b"\0asm\x0d\0\x01\0", "no sequin:plugin/lifecycle"),
    ] {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes)?;
        let (status, out, said) = run(&["inspect", &path.display().to_string()], "")?;
        assert_eq!((status, out.as_str(), said.contains(text)), (Some(64), "", true), "{said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn plugin_run_ends_when_nobody_reads_any_more() -> Result<()> {
    let home = Sequin::builder().prepare()?;
    let (reader, writer) = std::io::pipe()?;
    let (messages, mut input) = std::io::pipe()?;
    let mut command = home.executable();
    command.args(["plugin", "run", &plugin("public-rows")]).args(PUBLIC);
    command.stdin(messages).stdout(writer).stderr(Stdio::null());
    let mut running = Process::spawn("sequin plugin run", &mut command, Signal::KILL)?;
    drop(command);
    writeln!(input, "{MESSAGE}")?;
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line)?;
    assert_eq!(outcomes(&line)?, ["keep insert public.t"]);
    // The reader is gone; the next line finds that out, though more could come.
    writeln!(input, "{MESSAGE}")?;
    let status = running.wait(SOON).await?;
    assert!(status.success(), "{status}");
    drop(input);
    Ok(())
}

#[test]
fn plugin_run_on_a_terminal_says_what_it_waits_for() -> Result<()> {
    let home = Sequin::builder().prepare()?;
    let sequin = home.executable();
    let line = format!(
        "{} plugin run {} --config '{}'",
        sequin.get_program().to_string_lossy(),
        plugin("public-rows"),
        PUBLIC[1]
    );
    // script(1), which every Debian has, gives it a terminal; ^D ends what is typed there.
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    let (status, out, said) = ended(&mut script, "\u{4}")?;
    assert_eq!(status, Some(0), "{out}{said}");
    assert!(out.contains("sequin tail --types"), "{out}");
    Ok(())
}

/// From nothing to outcomes: `new`, `cargo test`, `build`, `run`.
#[test]
fn plugin_new_tests_builds_and_runs() -> Result<()> {
    let home = Sequin::builder().prepare()?;
    let dir = home.config_path().with_file_name("mine");
    let path = |name: &str| dir.join(name).display().to_string();
    let repository = tests::repository();
    // Where the tests of the SDK have built it already, with the same versions.
    let target = repository.join("plugins/target");
    let sdk = repository.join("sdk/rust").display().to_string();
    let here = |program: Command, arguments: &[&str]| -> Result<String> {
        let mut command = program;
        command.args(arguments).env("CARGO_TARGET_DIR", &target).env("CARGO_NET_OFFLINE", "true");
        let (status, out, said) = ended(&mut command, "")?;
        ensure!(status == Some(0), "{arguments:?}: {status:?} {out}{said}");
        Ok(out)
    };
    let dir_arguments = |role| ["plugin", "new", role, "--role", role, "--sdk"];
    let mine = dir.as_path();
    std::fs::create_dir(mine)?;
    for role in ["filter", "transform", "route"] {
        let mut new = home.executable();
        new.current_dir(mine);
        here(new, &[&dir_arguments(role)[..], &[sdk.as_str()]].concat())?;
        std::fs::copy(repository.join("plugins/Cargo.lock"), mine.join(role).join("Cargo.lock"))?;
        let mut cargo = Command::new("cargo");
        cargo.current_dir(mine.join(role));
        let tested = here(cargo, &["test", "--quiet"])?;
        assert!(tested.contains("1 passed"), "{tested}");
    }
    let built = here(home.executable(), &["plugin", "build", &path("filter")])?;
    assert!(built.contains("filter 0.1.0, filter") && built.contains("sha256:"), "{built}");
    let again = here(home.executable(), &["plugin", "build", &path("filter")])?;
    assert!(again.contains("(unchanged)"), "{again}");
    let component = path("filter/filter.wasm");
    let bytes = std::fs::read(&component)?;
    let bytes = String::from_utf8_lossy(&bytes);
    let root = repository.display().to_string();
    assert!(!bytes.contains(&root) && !bytes.contains(&path("")), "this machine's paths are in it");
    let (messages, config) = (path("filter/messages.jsonl"), path("filter/config.json"));
    let arguments = ["plugin", "run", &component, &messages, "--config-file", &config];
    let expected = ["keep insert", "evict insert", "evict update", "keep delete"];
    let expected = expected.map(|outcome| format!("{outcome} public.poi"));
    assert_eq!(outcomes(&here(home.executable(), &arguments)?)?, expected);
    Ok(())
}

#[test]
fn plugin_build_says_what_is_missing() -> Result<()> {
    let home = Sequin::builder().prepare()?;
    let dir = home.config_path().with_file_name("crate");
    std::fs::create_dir_all(dir.join("src"))?;
    let build = |manifest: &str, code: &str, path: Option<&str>| {
        std::fs::write(dir.join("Cargo.toml"), format!("{manifest}\n[workspace]\n"))?;
        std::fs::write(dir.join("src/lib.rs"), code)?;
        let mut command = home.executable();
        command.args(["plugin", "build", &dir.display().to_string()]);
        if let Some(path) = path {
            command.env("PATH", path);
        }
        let (status, _, said) = ended(&mut command, "")?;
        assert_eq!(status, Some(64), "{said}");
        anyhow::Ok(said)
    };
    let package = "[package]\nname = \"p\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
    let library = &format!("{package}[lib]\ncrate-type = [\"cdylib\"]\n");
    let says = |said: String, text: &str| assert!(said.contains(text), "{said}");
    says(build(library, "", Some("/nowhere"))?, "cargo is not found");
    says(build("[package", "", None)?, "cargo cannot read");
    says(build(package, "", None)?, "crate-type");
    says(build(library, "fn broken(", None)?, "does not build");
    says(build(library, "", None)?, "p is no plugin: it does not depend on sequin-plugin");
    let import = "#[link(wasm_import_module = \"env\")]
        unsafe extern \"C\" { safe fn now() -> u64; }
        #[unsafe(no_mangle)] pub extern \"C\" fn f() -> u64 { now() }";
    says(build(library, import, None)?, "no component can be made of p");
    assert!(!dir.join("p.wasm").exists(), "nothing that cannot be used is written");

    // A compiler that has no library for the target.
    let bin = dir.join("bin");
    std::fs::create_dir(&bin)?;
    let script = |name: &str, text: &str| {
        let path = bin.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n"))?;
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
    };
    let mut cargo = Command::new("cargo");
    cargo.current_dir(&dir).args(["metadata", "--no-deps", "--format-version=1"]);
    std::fs::write(bin.join("metadata"), cargo.output()?.stdout)?;
    let here = bin.display();
    script("cargo", &format!("[ \"$1\" = metadata ] && exec cat {here}/metadata; exit 101"))?;
    script("rustc", "echo /nowhere")?;
    let path = format!("{here}:/usr/bin:/bin");
    says(build(library, "", Some(&path))?, "rustup target add wasm32-unknown-unknown");
    Ok(())
}

/// What a plugin used is told at the end: fuel is the same each time, and rows that fail alone are
/// part of it.
#[test]
fn b278_a_dry_run_tells_what_the_plugin_used() -> Result<()> {
    let messages = format!("{MESSAGE}\n").repeat(300);
    let public = plugin("public-rows");
    let stats = |more: &[&str]| -> Result<String> {
        let arguments = [&["run", &public][..], &PUBLIC, more].concat();
        let (code, out, said) = run(&arguments, &messages)?;
        ensure!(code == Some(0) && out.lines().count() == 300, "{code:?}: {said}");
        Ok(said)
    };
    let said = stats(&["--stats"])?;
    let line = said.lines().last().context("nothing was said")?;
    let number = |before: &str, after: &str| -> Result<f64> {
        let (_, rest) = line.split_once(before).with_context(|| line.to_owned())?;
        let (number, _) = rest.split_once(after).with_context(|| line.to_owned())?;
        Ok(number.parse()?)
    };
    assert!(line.starts_with("300 rows in "), "{line}");
    assert!(number("a row: ", " \u{b5}s of CPU time")? > 0.0, "{line}");
    // Each row is looked at, in far less than a thousand instructions.
    assert!((10.0..10_000.0).contains(&number("count the fuel), ", " fuel")?), "{line}");
    assert!(number("of an instance: ", " KiB")? >= 1_024.0, "{line}");
    assert!(!stats(&[])?.contains("fuel"), "nobody asked");
    Ok(())
}
