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

/// Every plugin does the work of its native twin in every way (the benchmark compares what they make
/// of the rows), and each way has a figure for each size of a call.
#[tokio::test(flavor = "multi_thread")]
async fn the_benchmark_of_plugins_measures_every_way() -> Result<()> {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    bench.args(["plugin", "--rows", "256", "--repeats", "1"]);
    let output = bench.kill_on_drop(true).output().await?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {complaint}\n{said}", output.status);
    let plugins = ["public-rows", "feature-flags", "localised-fields", "pick"];
    let (costs, rare) = said.split_once("once in a while:").unwrap_or_else(|| panic!("{said}"));
    for plugin in plugins {
        let title = format!("\n{plugin}, CPU ns/row");
        let table = costs.split(&title).nth(1).unwrap_or_else(|| panic!("{title} in {said}"));
        // The title, the head, the native way, and four meterings each warm and fresh.
        for line in table.lines().skip(2).take(9) {
            let figures = line.split_whitespace().rev().take(5);
            let above_zero = |cell: &str| cell.parse::<f64>().is_ok_and(|cost| cost > 0.0);
            assert!(figures.clone().count() == 5 && figures.clone().all(above_zero), "{said}");
        }
        assert!(rare.lines().any(|line| line.trim_start().starts_with(plugin)), "{said}");
    }
    assert_eq!(rare.matches("one row of it traps").count(), 2, "{said}");
    Ok(())
}

/// Every way takes every row (the benchmark waits for that), by stage, and rows arrive one by one.
#[tokio::test(flavor = "multi_thread")]
async fn the_benchmark_of_the_engine_measures_every_way() -> Result<()> {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    bench.args(["engine", "--rows", "2000", "--repeats", "1", "--probes", "5"]);
    let output = bench.kill_on_drop(true).output().await?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {complaint}\n{said}", output.status);
    for way in ["null", "plugins", "twelve", "webhook", "typesense", "idle", "beside 2,000 rows/s"]
    {
        let line = said.lines().find(|line| line.trim_start().starts_with(way));
        let line = line.unwrap_or_else(|| panic!("{way} in {said}"));
        let last = line.split_whitespace().next_back().and_then(|cell| cell.parse::<f64>().ok());
        assert!(last.is_some_and(|figure| figure > 0.0), "{line}");
    }
    Ok(())
}

/// Every part runs to its end: five sinks beside a sixth, the change log there and back and after a
/// kill, a backfill, and the memory of each.
#[tokio::test(flavor = "multi_thread")]
async fn the_benchmark_of_delivery_measures_every_part() -> Result<()> {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    bench.args(["delivery", "--rows", "2000", "--slices", "1", "--probes", "50"]);
    let output = bench.kill_on_drop(true).output().await?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {complaint}\n{said}", output.status);
    for part in [
        "ratio, slice by slice",
        "the sink comes back",
        "kill -9, start, sink back",
        "beside the backfill",
        "backfill: completed",
        "through the log, and after a kill",
    ] {
        assert!(said.lines().any(|line| line.trim_start().starts_with(part)), "{part} in {said}");
    }
    Ok(())
}

/// A plan of what runs is empty, and each part has a figure.
#[tokio::test(flavor = "multi_thread")]
async fn the_benchmark_of_the_configuration_measures_every_part() -> Result<()> {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    bench.args(["config", "--sinks", "12", "--tables", "5", "--repeats", "2"]);
    let output = bench.kill_on_drop(true).output().await?;
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {complaint}\n{said}", output.status);
    let figures = said.lines().filter(|line| line.starts_with("  a")).map(|line| {
        line.split_whitespace().last().unwrap_or_default().trim_matches(['(', ')']).to_owned()
    });
    let figures: Vec<_> = figures.collect();
    let is_figure = |text: &String| text.split('-').all(|part| part.parse::<f64>().is_ok());
    assert!(figures.len() == 5 && figures.iter().all(is_figure), "{said}");
    Ok(())
}
