//! Uploads of plugins: what is taken, and what is refused with which reason.

use std::io::Write as _;
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tests::{Sequin, http, until};

use crate::world::{SOON, engine, hook, plugin, yaml};

/// Runs a command of this engine; its answer, one JSON value a line.
pub(crate) async fn answer(sequin: &Sequin, arguments: &[&str]) -> Result<Vec<Value>> {
    let output = sequin.command(arguments).await?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.success(), "{arguments:?}: {said}\n{}", sequin.log());
    let told = String::from_utf8(output.stdout)?;
    Ok(told.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

/// Pushes bytes; what is told of the version.
pub(crate) async fn push(sequin: &Sequin, bytes: &[u8]) -> Result<Value> {
    let file = file(bytes);
    let told = answer(sequin, &["plugin", "push", file.path().to_str().unwrap()]).await?;
    Ok(told[0].clone())
}

pub(crate) fn file(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::with_suffix(".wasm").unwrap();
    file.write_all(bytes).unwrap();
    file.flush().unwrap();
    file
}

/// A first-party plugin that says that it is another version.
pub(crate) fn tagged(name: &str, version: &str) -> Vec<u8> {
    let bytes = std::fs::read(plugin(name)).unwrap();
    let kept = sections(&bytes).filter(|(id, name, _)| (*id, *name) != (0, "version"));
    let bytes = bytes[..8].iter().copied().chain(kept.flat_map(|(_, _, whole)| whole.to_vec()));
    with_section(&bytes.collect::<Vec<_>>(), "version", version.as_bytes())
}

/// The same with a custom section more.
pub(crate) fn with_section(bytes: &[u8], name: &str, data: &[u8]) -> Vec<u8> {
    let mut content = leb(name.len());
    content.extend(name.as_bytes());
    content.extend(data);
    section(bytes, 0, &content)
}

fn section(bytes: &[u8], id: u8, content: &[u8]) -> Vec<u8> {
    let mut all = bytes.to_vec();
    all.push(id);
    all.extend(leb(content.len()));
    all.extend(content);
    all
}

fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        bytes.push(if number == 0 { low } else { low | 0x80 });
        if number == 0 {
            return bytes;
        }
    }
}

/// The sections at the top: id, the name of a custom one, and all of it.
fn sections(bytes: &[u8]) -> impl Iterator<Item = (u8, &str, &[u8])> {
    let mut at = 8;
    std::iter::from_fn(move || {
        let id = *bytes.get(at)?;
        let (length, head) = unleb(&bytes[at + 1..]);
        let (start, end) = (at + 1 + head, at + 1 + head + length);
        let (name, head) = if id == 0 { unleb(&bytes[start..]) } else { (0, 0) };
        let name = std::str::from_utf8(&bytes[start + head..start + head + name]).unwrap_or("");
        let whole = &bytes[at..end];
        at = end;
        Some((id, name, whole))
    })
}

fn unleb(bytes: &[u8]) -> (usize, usize) {
    let length = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    let low = bytes[..length].iter().rev();
    (low.fold(0, |sum, byte| sum << 7 | usize::from(byte & 0x7f)), length)
}

/// An engine whose database is away: uploads need none.
async fn idle(rest: &str, env: &[(&str, &str)]) -> Result<Sequin> {
    let config = yaml(1, "http://127.0.0.1:1", &(hook("hook", "", "") + rest));
    let mut engine = engine(&config);
    for (name, value) in env {
        engine = engine.env(name, value);
    }
    engine.start().await
}

/// Posts bytes; status and summary.
async fn post(sequin: &Sequin, query: &str, bytes: Vec<u8>) -> Result<(u16, String)> {
    let url = format!("{}/api/plugins?{query}", sequin.url());
    let answer = http::client()?.post(url).body(bytes).send().await?;
    let status = answer.status().as_u16();
    let body: Value = serde_json::from_str(&answer.text().await?).unwrap_or_default();
    let said = body["summary"].as_str().unwrap_or_default().to_owned();
    Ok((status, said))
}

#[tokio::test(flavor = "multi_thread")]
async fn b269_b271_what_is_hostile_or_broken_is_refused_with_its_reason() -> Result<()> {
    let sequin = idle("", &[]).await?;
    let good = tagged("public-rows", "2.0.0");
    let twice = with_section(&good, "version", b"3.0.0");
    let foreign = with_section(&tagged("pick", "2.0.0"), "x", b"");
    let named = |name: &str| format!("name={name}");
    let half = good[..good.len() / 2].to_vec();
    let lies = std::fs::read(plugin("liar"))?;
    let clock = std::fs::read(plugin("wants-clock"))?;
    let core = b"\0asm\x01\0\0\0".to_vec();
    let empty = b"\0asm\x0d\0\x01\0".to_vec();
    // A section in a section in a section, deeper than anybody reads.
    let mut deep = empty.clone();
    for _ in 0..2_000 {
        deep = section(&empty, 4, &deep);
    }
    let deep = section(&good, 4, &deep);
    let many = (0..200_000).fold(empty.clone(), |mut all, _| {
        all.extend([0, 2, 1, b'x']);
        all
    });
    let digest = format!("digest=sha256:{}", "0".repeat(64));
    let cases = [
        (String::new(), Vec::new(), "invalid_component"),
        (String::new(), b"#!/bin/sh\n".to_vec(), "invalid_component"),
        (String::new(), core, "core_module"),
        (String::new(), empty, "no_role"),
        (String::new(), half, "invalid_component"),
        (String::new(), deep, "invalid_component"),
        (String::new(), many, "invalid_component"),
        (String::new(), twice, "invalid_component"),
        (String::new(), clock, "import_refused"),
        (digest, good.clone(), "digest_mismatch"),
        (named("others-rows"), good.clone(), "metadata_mismatch"),
        ("version=9.0.0".to_owned(), good.clone(), "metadata_mismatch"),
        (named("pick"), good.clone(), "metadata_mismatch"),
        (String::new(), lies.clone(), "unknown_world"),
    ];
    for (query, bytes, code) in cases {
        let length = bytes.len();
        let (status, said) = post(&sequin, &query, bytes).await?;
        assert_eq!(status, 422, "{query} {length}: {said}");
        assert!(said.starts_with(&format!("{code}: ")), "{query} {length}: {code}: {said}");
    }
    // A client that goes on writing may find the connection closed before it reads the answer.
    if let Ok((status, said)) = post(&sequin, "", vec![0; (64 << 20) + 1]).await {
        assert!(status == 413 && said.starts_with("too_large: "), "{status} {said}");
    }
    // A name that is nearly another's.
    push(&sequin, &foreign).await?;
    assert_eq!(answer(&sequin, &["plugin", "list"]).await?.len(), 1, "nothing else was taken");
    assert_eq!(sequin.health().await?.0, 200);
    Ok(())
}

/// What is made to keep a compiler busy ends in a process of its own, and the engine goes on.
#[tokio::test(flavor = "multi_thread")]
async fn b271_a_compile_bomb_ends_at_its_limit() -> Result<()> {
    let sequin = idle("", &[("SEQUIN_PLUGIN_COMPILE_SECONDS", "1")]).await?;
    let bomb = section(&tagged("public-rows", "2.0.0"), 1, &busy_module());
    let (status, said) = post(&sequin, "", bomb).await?;
    assert!(status == 422 && said.starts_with("compile_limit: "), "{status} {said}");
    assert_eq!(sequin.health().await?.0, 200);
    assert_eq!(answer(&sequin, &["plugin", "list"]).await?, [Value::Null; 0]);
    Ok(())
}

/// A core module of 4,000 functions of 1,000 multiplications each.
fn busy_module() -> Vec<u8> {
    const FUNCTIONS: usize = 4_000;
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    module = section(&module, 1, &[1, 0x60, 1, 0x7f, 1, 0x7f]);
    let mut functions = leb(FUNCTIONS);
    functions.extend(std::iter::repeat_n(0, FUNCTIONS));
    module = section(&module, 3, &functions);
    let mut body = vec![0];
    for _ in 0..1_000 {
        body.extend([0x20, 0, 0x20, 0, 0x6c, 0x21, 0]);
    }
    body.extend([0x20, 0, 0x0b]);
    let mut code = leb(FUNCTIONS);
    for _ in 0..FUNCTIONS {
        code.extend(leb(body.len()));
        code.extend(&body);
    }
    section(&module, 10, &code)
}

/// Once signatures are asked for, what has none is refused at the upload and at the start.
#[tokio::test(flavor = "multi_thread")]
async fn b271_what_is_not_signed_is_neither_taken_nor_run() -> Result<()> {
    let keys = tempfile::tempdir()?;
    let openssl = |arguments: &[&str]| -> Result<()> {
        let output = Command::new("openssl").args(arguments).current_dir(&keys).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    for name in ["ci", "other"] {
        let key = format!("{name}.pem");
        openssl(&["genpkey", "-algorithm", "ed25519", "-out", &key])?;
        openssl(&["pkey", "-in", &key, "-pubout", "-out", &format!("{name}.pub")])?;
    }
    let public = std::fs::read_to_string(keys.path().join("ci.pub"))?;
    let public: String = public.lines().filter(|line| !line.starts_with('-')).collect();
    let policy = format!(
        "plugins:
  signatures:
    keys: [{{name: ci, public_key: {public}}}]
    require: [{{plugin: public-rows, any_of: [ci]}}]
"
    );
    let sequin = idle(&policy, &[]).await?;
    let signed = tagged("public-rows", "2.0.0");
    let path = keys.path().join("plugin.wasm");
    std::fs::write(&path, &signed)?;
    let sign = |key: &str| -> Result<()> {
        let key = format!("{key}.pem");
        openssl(&[
            "pkeyutl",
            "-sign",
            "-rawin",
            "-inkey",
            &key,
            "-in",
            "plugin.wasm",
            "-out",
            "s",
        ])?;
        openssl(&["base64", "-in", "s", "-out", "plugin.wasm.sig"])
    };
    let file = path.to_str().unwrap();
    let refused = async |code: &str| -> Result<()> {
        let output = sequin.command(&["plugin", "push", file]).await?;
        let said = String::from_utf8(output.stderr)?;
        assert!(said.contains(&format!("error: {code}: ")), "{said}");
        Ok(())
    };
    refused("unsigned").await?;
    sign("other")?;
    refused("bad_signature").await?;
    sign("ci")?;
    std::fs::write(&path, tagged("pick", "2.0.0"))?;
    refused("unsigned").await?;
    std::fs::write(&path, &signed)?;
    let told = answer(&sequin, &["plugin", "push", file]).await?;
    assert_eq!((&told[0]["created"], &told[0]["signatures"]), (&json!(true), &json!(1)));

    // At the start, too: a file without its signature does not run, and one with it does.
    let function = |file: &str| {
        format!(
            "functions:\n  - {{name: f, type: filter, file: '{file}', config: {{column: a}}}}\n"
        )
    };
    let config = |file: &str| {
        let sink = hook("hook", "", "    filter: f\n") + &function(file) + &policy;
        engine(&yaml(1, "http://127.0.0.1:1", &sink))
    };
    // It answers before the engine has begun: what a sink is, is known once its slot is tried.
    let begun = async |sequin: &Sequin| {
        until("the engine to begin", SOON, async || {
            let log = sequin.log();
            Ok(if log.contains("no stream; trying again") { Ok(()) } else { Err(log) })
        })
        .await?;
        sequin.metric("sequin_sink_up", &[("consumer_name", "hook")]).await
    };
    let stands = async |file: &str, why: &str| -> Result<()> {
        let sequin = config(file).start().await?;
        assert_eq!(begun(&sequin).await?, 0.0, "{}", sequin.log());
        assert!(sequin.log().contains(why), "{}", sequin.log());
        Ok(())
    };
    stands(&plugin("public-rows"), "unsigned: `public-rows` must be signed by ci").await?;
    let sequin = config(file).start().await?;
    assert_eq!(begun(&sequin).await?, 1.0, "{}", sequin.log());
    let mut changed = signed.clone();
    let last = changed.len() - 1;
    changed[last] ^= 1;
    std::fs::write(&path, changed)?;
    stands(file, "bad_signature: ").await
}
