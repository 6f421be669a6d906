//! A short campaign of chaos: `cargo x chaos` runs longer ones.

use anyhow::{Result, ensure};
use tokio::process::Command;

/// Kills, stops, a hung engine, a Postgres that restarts and is cut off, destinations that refuse,
/// hang and lie, edits, a full disk: each key has every version, in order, at every sink.
#[tokio::test(flavor = "multi_thread")]
async fn b182_b183_b185_b200_nothing_is_lost_or_reordered_whatever_goes_wrong() -> Result<()> {
    let mut chaos = Command::new(env!("CARGO_BIN_EXE_chaos"));
    // Without Typesense: what that server itself does under these faults is looked at by hand.
    chaos.args(["--seconds", "40", "--seed", "7"]).env_remove("TYPESENSE_BIN");
    let output = chaos.kill_on_drop(true).output().await?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {complaint}\n{said}", output.status);
    assert!(said.contains("nothing lost, nothing out of order"), "{said}");
    Ok(())
}
