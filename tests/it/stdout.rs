//! Messages as lines of standard output.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use tests::process::{Process, Signal};
use tests::{Cluster, until};

use crate::world::{LATER, engine, yaml};

const STDOUT: &str = "sinks:
  - {name: printed, database: source, destination: {type: stdout}}
";

/// Nothing but messages is on standard output; a reader that goes away is told, and the engine does
/// not end by it, nor wait for it when it stops.
#[tokio::test(flavor = "multi_thread")]
async fn standard_output_has_messages_alone_and_a_reader_that_is_gone_is_told() -> Result<()> {
    let postgres = Cluster::start().await?;
    let client = postgres.client("postgres").await?;
    client.batch_execute("CREATE TABLE t (id bigint PRIMARY KEY)").await?;
    let sequin = engine(&yaml(postgres.port(), "http://127.0.0.1:1", STDOUT)).prepare()?;
    let dir = tempfile::tempdir()?;
    let (log, out) = (dir.path().join("log"), dir.path().join("out"));
    let start = |stdout: Stdio| -> Result<Process> {
        let mut command = sequin.executable();
        command.arg("serve").arg("--config").arg(sequin.config_path()).stdin(Stdio::null());
        command.stdout(stdout).stderr(std::fs::File::create(&log)?);
        Process::spawn("sequin", &mut command, Signal::KILL)
    };
    let streams = async || {
        until("the slot to stream", LATER, async || {
            let connected = sequin.metric("sequin_slot_connected", &[]).await?;
            Ok(if connected == 1.0 { Ok(()) } else { Err("not connected".to_owned()) })
        })
        .await
    };

    let mut process = start(std::fs::File::create(&out)?.into())?;
    streams().await?;
    client.batch_execute("INSERT INTO t SELECT generate_series(1, 50)").await?;
    until("the lines", LATER, async || {
        let lines = std::fs::read_to_string(&out)?.lines().count();
        Ok(if lines >= 50 { Ok(()) } else { Err(format!("{lines} lines")) })
    })
    .await?;
    process.signal(Signal::TERM)?;
    assert!(process.wait(Duration::from_secs(20)).await?.success());
    let text = std::fs::read_to_string(&out)?;
    let ids: Result<Vec<_>, _> = text.lines().map(serde_json::from_str::<Value>).collect();
    let mut ids: Vec<_> = ids?.iter().map(|it| it["record"]["id"].as_i64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=50).collect::<Vec<_>>());

    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let mut process = start(writer.into())?;
    streams().await?;
    client.batch_execute("INSERT INTO t VALUES (51)").await?;
    until("it to be told", LATER, async || {
        let log = std::fs::read_to_string(&log)?;
        let told = log.contains("standard output is closed");
        Ok(if told { Ok(()) } else { Err(log) })
    })
    .await?;
    process.signal(Signal::TERM)?;
    assert!(process.wait(Duration::from_secs(20)).await?.success());
    Ok(())
}
