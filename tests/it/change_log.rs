//! Damage to the files of the change log between two runs of the program.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use tests::{Cluster, Receiver, Sequin, until};
use tokio_postgres::Client;

use crate::world::{LATER, engine, hook, plugin, settled, streaming, yaml};

/// A sink whose component is not there: all that it gets is in the change log, until it is.
struct Logged {
    sequin: Sequin,
    receiver: Receiver,
    client: Client,
    component: PathBuf,
    _dir: tempfile::TempDir,
    _postgres: Cluster,
}

impl Logged {
    async fn start() -> Result<Self> {
        let postgres = Cluster::start().await?;
        let client = postgres.client("postgres").await?;
        client.batch_execute("CREATE TABLE t (id bigint PRIMARY KEY, shown boolean)").await?;
        let receiver = Receiver::start().await?;
        let dir = tempfile::tempdir()?;
        let component = dir.path().join("filter.wasm");
        let rest = format!(
            "functions:
  - {{name: shown, type: filter, file: '{}', config: {{column: shown}}}}
{}    filter: shown
",
            component.display(),
            hook("hook", "", "")
        );
        let config = yaml(postgres.port(), &receiver.url(), &rest);
        let sequin = engine(&config).start().await?;
        streaming(&sequin).await?;
        Ok(Self { sequin, receiver, client, component, _dir: dir, _postgres: postgres })
    }

    async fn insert(&self, from: u32, to: u32) -> Result<()> {
        let sql = format!("INSERT INTO t SELECT n, true FROM generate_series({from}, {to}) n");
        Ok(self.client.batch_execute(&sql).await?)
    }

    /// The newest file with changes of the stream.
    fn segment(&self) -> Result<PathBuf> {
        let mut found = Vec::new();
        let mut directories = vec![self.sequin.data_dir()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory)? {
                let path = entry?.path();
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                if path.is_dir() {
                    directories.push(path);
                } else if name.starts_with("s-") && std::fs::metadata(&path)?.len() > 1_000 {
                    found.push(path);
                }
            }
        }
        found.into_iter().max().context("a segment")
    }

    fn ids(&self) -> Vec<u64> {
        let messages = self.receiver.messages().into_iter();
        let mut ids: Vec<_> =
            messages.filter_map(|message| message["record"]["id"].as_u64()).collect();
        ids.sort_unstable();
        ids
    }

    async fn arrive(&self, ids: std::ops::RangeInclusive<u64>) -> Result<()> {
        let wanted: Vec<u64> = ids.collect();
        let arrived = until("the rows", LATER, async || {
            let ids = self.ids();
            Ok(if ids == wanted { Ok(()) } else { Err(format!("{} rows", ids.len())) })
        });
        arrived.await.with_context(|| format!("the engine said:\n{}", self.sequin.log()))
    }
}

/// What a kill left half written behind what was confirmed is cut off, and comes from the server.
#[tokio::test(flavor = "multi_thread")]
async fn b197_a_torn_tail_of_the_change_log_is_fetched_again() -> Result<()> {
    let mut world = Logged::start().await?;
    world.insert(1, 1_000).await?;
    settled(&world.client).await?;
    world.sequin.kill9().await?;
    world.insert(1_001, 1_100).await?;
    let segment = world.segment()?;
    let mut bytes = std::fs::read(&segment)?;
    // Its own last bytes once more: a record that does not begin where one should.
    bytes.extend_from_within(bytes.len() - 500..);
    std::fs::write(&segment, bytes)?;
    std::fs::copy(plugin("public-rows"), &world.component)?;
    world.sequin.restart().await?;
    world.arrive(1..=1_100).await?;
    settled(&world.client).await
}

/// What was confirmed is nowhere else: nothing is read until somebody accepts the loss, which is
/// named.
#[tokio::test(flavor = "multi_thread")]
async fn b197_damage_below_what_was_confirmed_is_a_named_loss() -> Result<()> {
    let mut world = Logged::start().await?;
    world.insert(1, 1_000).await?;
    settled(&world.client).await?;
    world.sequin.terminate().await?;
    let segment = world.segment()?;
    let mut bytes = std::fs::read(&segment)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes)?;
    std::fs::copy(plugin("public-rows"), &world.component)?;
    world.insert(1_001, 1_100).await?;
    world.sequin.restart().await?;
    let log = until("the loss to be told", LATER, async || {
        let log = world.sequin.log();
        Ok(if log.contains("change_log_damaged") { Ok(log) } else { Err(log) })
    })
    .await?;
    assert!(log.contains("was synced up to") && log.contains("accept-loss sequin_it"), "{log}");
    assert_eq!(world.sequin.metric("sequin_slot_connected", &[]).await?, 0.0);
    assert_eq!(world.ids(), [] as [u64; 0], "nothing goes past the gap by itself");

    world.sequin.terminate().await?;
    let accepted = world.sequin.command(&["accept-loss", "sequin_it"]).await?;
    assert!(accepted.status.success(), "{}", String::from_utf8_lossy(&accepted.stderr));
    world.sequin.restart().await?;
    until("what comes behind it", LATER, async || {
        let ids = world.ids();
        let behind = ids.iter().filter(|id| **id > 1_000).count();
        Ok(if behind == 100 { Ok(()) } else { Err(format!("{behind} rows")) })
    })
    .await?;
    settled(&world.client).await
}
