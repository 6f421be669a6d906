//! The benchmarks run: small, and nothing is said of their figures.

use anyhow::{Result, ensure};
use tokio::process::Command;

/// Every reader reads the whole log over every transport (they check that themselves), and the
/// tables say so.
#[tokio::test(flavor = "multi_thread")]
async fn the_benchmark_of_the_source_measures_every_reader() -> Result<()> {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    bench.args(["source", "--rows", "2000", "--repeats", "1"]);
    let output = bench.kill_on_drop(true).output().await?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {complaint}\n{said}", output.status);
    assert!(said.contains("machine: ") && said.contains("server: PostgreSQL "), "{said}");
    assert_eq!(said.matches("rows from memory, CPU us/row").count(), 2, "{said}");
    for transactions in ["batched", "single"] {
        for transport in ["unix", "tcp", "tls"] {
            let title = format!("{transactions} transactions, {transport}:");
            let table = said.split(&title).nth(1).unwrap_or_else(|| panic!("{title} in {said}"));
            for reader in ["drain", "decode", "json"] {
                let line = table.lines().find(|line| line.trim_start().starts_with(reader));
                let cells: Vec<_> = line.unwrap_or_default().split_whitespace().collect();
                // Client CPU, which every run has, however short.
                let client = cells.get(3).and_then(|cell| cell.parse::<f64>().ok());
                assert!(client.is_some_and(|client| client > 0.0), "{title} {reader}: {said}");
            }
        }
    }
    Ok(())
}
