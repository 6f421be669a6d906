//! The OpenAPI document, and that what is asked by it is answered as it says.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{Sequin, http};

use crate::world::World;

/// The document that an engine serves.
pub(crate) async fn document(sequin: &Sequin) -> Result<Value> {
    let url = format!("{}/api/openapi.json", sequin.url());
    let answer = http::client()?.get(url).send().await?;
    ensure!(answer.status().is_success(), "{}", answer.status());
    serde_json::from_str(&answer.text().await?).context("the document is JSON")
}

/// Its operations, by method and path.
pub(crate) fn operations(document: &Value) -> Result<Vec<(String, String)>> {
    let paths = document["paths"].as_object().context("the document has paths")?;
    let of = |(path, item): (&String, &Value)| {
        let methods: Vec<String> =
            item.as_object().into_iter().flatten().map(|it| it.0.clone()).collect();
        methods.into_iter().map(|method| (method.to_uppercase(), path.clone())).collect::<Vec<_>>()
    };
    Ok(paths.iter().flat_map(of).collect())
}

/// What schemathesis finds when it asks with a fixed seed: nothing. `more` are its options.
async fn asked(sequin: &Sequin, config: &str, more: &[&str]) -> Result<()> {
    let bin = tests::schemathesis()
        .context("find schemathesis: run `cargo x test`, or set SCHEMATHESIS_BIN")?;
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("schemathesis.toml");
    std::fs::write(&file, config)?;
    let run = tokio::process::Command::new(bin)
        .arg("--config-file")
        .arg(&file)
        .arg("run")
        .arg(format!("{}/api/openapi.json", sequin.url()))
        .args(["--checks", CHECKS, "--seed", "1", "--continue-on-failure", "--no-color"])
        .args(more)
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let said =
        [run.stdout, run.stderr].map(|it| String::from_utf8_lossy(&it).into_owned()).concat();
    let (code, log) = (run.status, sequin.log());
    let tail: String = log.lines().rev().take(20).map(|line| format!("{line}\n")).collect();
    ensure!(run.status.success(), "{code}\n{said}\nthe engine said last:\n{tail}");
    println!("{said}");
    Ok(())
}

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
    response_headers_conformance,response_schema_conformance";

/// Whatever is asked, nothing fails that should not, and nothing is answered that is not in the document.
#[tokio::test(flavor = "multi_thread")]
async fn every_operation_answers_as_the_document_says() -> Result<()> {
    let world = World::start("CREATE TABLE t (id bigint PRIMARY KEY, name text)", "").await?;
    // What leads to what is there; nothing is taken away.
    let config = "
[parameters]
\"path.sink\" = \"hook\"
\"path.id_or_name\" = \"hook\"
";
    // A tail goes on, and a recording waits: of a sink that is there they do what they are for.
    let (tail, record) = ("sinks_tail", "sinks_record");
    let without = ["--exclude-operation-id", "health_tail", "--exclude-operation-id", tail];
    let without = [&without[..], &["--exclude-operation-id", record]].concat();
    let thorough = ["--max-examples", "200", "--phases"];
    // First, as long as nothing has a name that is guessed.
    let only = ["--include-operation-id", tail, "--include-operation-id", record];
    let only = [&only[..], &thorough, &["coverage,fuzzing"]].concat();
    asked(&world.sequin, "", &only).await?;
    let more = ["--max-examples", "20", "--phases", "fuzzing", "--exclude-method", "DELETE"];
    asked(&world.sequin, config, &[&without[..], &more].concat()).await?;
    let all = [&without[..], &thorough, &["examples,coverage,fuzzing,stateful"]].concat();
    asked(&world.sequin, "", &all).await
}

/// Each operation has a name of its own, says what it needs, and no answer by default.
#[tokio::test(flavor = "multi_thread")]
async fn the_document_names_each_operation_once_and_has_a_page() -> Result<()> {
    let sequin = crate::world::engine("sinks: []\n").start().await?;
    let document = document(&sequin).await?;
    assert_eq!(document["openapi"], "3.1.0");
    let mut ids = Vec::new();
    for (method, path) in operations(&document)? {
        let operation = &document["paths"][&path][method.to_lowercase()];
        ids.push(operation["operationId"].as_str().context("an id")?.to_owned());
        let answers = operation["responses"].as_object().context("answers")?;
        assert!(answers.keys().all(|status| status.parse::<u16>().is_ok()), "{method} {path}");
        assert!(answers.keys().any(|status| status.starts_with('2')), "{method} {path}");
    }
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all, "{ids:?}");
    let page = http::client()?.get(format!("{}/api/docs/", sequin.url())).send().await?;
    assert!(page.status().is_success());
    assert!(page.text().await?.contains("swagger-ui"));
    Ok(())
}
