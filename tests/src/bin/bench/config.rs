//! `bench config`: what a plan and an apply take, of many sinks over many tables.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::{Cluster, Sequin, http};
use tokio::time::Instant;

use crate::table::Figure;
use crate::{proc, say};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Sinks.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    sinks: u32,
    /// Tables that they are of.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    tables: u32,
    /// Of each measurement.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    repeats: u32,
}

/// An engine and how it is asked.
struct Asked {
    sequin: Sequin,
    client: reqwest::Client,
}

impl Asked {
    /// The answer, and milliseconds until it was there.
    async fn ask(&self, what: &str, yaml: &str) -> Result<(Value, f64)> {
        let asked = self.client.post(format!("{}/api/config/{what}", self.sequin.url()));
        let asked = asked.header("content-type", "application/json");
        let began = Instant::now();
        let answer = asked.body(json!({ "yaml": yaml }).to_string()).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        let took = began.elapsed().as_secs_f64() * 1_000.0;
        ensure!(status.is_success(), "{what}: {status} {text}");
        Ok((serde_json::from_str(&text)?, took))
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<()> {
    let Arguments { sinks, tables, repeats } = arguments;
    let postgres = Cluster::start().await?;
    let client = postgres.client("postgres").await?;
    let mut sql = String::new();
    for table in 0..tables {
        writeln!(sql, "CREATE TABLE t{table} (id bigint PRIMARY KEY, name text);")?;
    }
    client.batch_execute(&sql).await.context("make the tables")?;
    let sequin = Sequin::builder().without_config().env("SEQUIN_BIND", "127.0.0.1").quiet();
    let asked = Asked { sequin: sequin.start().await?, client: http::client()? };
    say(&format!("machine: {}", proc::machine()));
    say(&format!("{sinks} sinks over {tables} tables, {repeats} times, in ms:"));
    let tell = |what: &str, figures: &[f64]| {
        say(&format!("  {what:<44} {}", Figure::of(figures.iter().copied()).show(1.0, 0)));
    };
    let all = yaml(postgres.port(), sinks, tables, None);
    let plan = async |yaml: &str, changes: usize| -> Result<Vec<f64>> {
        let mut figures = Vec::new();
        for _ in 0..repeats {
            let (plan, took) = asked.ask("plan", yaml).await?;
            let count = plan["changes"].as_array().map_or(0, Vec::len);
            ensure!(count == changes, "{count} changes, not {changes}: {}", plan["warnings"]);
            figures.push(took);
        }
        Ok(figures)
    };
    // And a database and an endpoint.
    tell("a plan that makes all of them", &plan(&all, sinks as usize + 2).await?);
    tell("an apply that makes all of them", &[asked.ask("apply", &all).await?.1]);
    tell("a plan in which nothing is other", &plan(&all, 0).await?);
    let mut applied = Vec::new();
    for round in 0..repeats {
        let one = yaml(postgres.port(), sinks, tables, Some(round + 2));
        if round == 0 {
            tell("a plan in which one sink is other", &plan(&one, 1).await?);
        }
        applied.push(asked.ask("apply", &one).await?.1);
    }
    tell("an apply in which one sink is other", &applied);
    say(&format!("load at the end: {}", proc::load()));
    Ok(())
}

/// `changed`: the size of a batch of the first sink.
fn yaml(postgres: u16, sinks: u32, tables: u32, changed: Option<u32>) -> String {
    let mut text = format!(
        "databases:
  - name: main
    hostname: 127.0.0.1
    port: {postgres}
    database: postgres
    username: postgres
    password: postgres
    slot: {{name: bench, create_if_not_exists: true}}
    publication: {{name: bench, create_if_not_exists: true}}
http_endpoints:
  - {{name: hook, url: 'http://127.0.0.1:1'}}
sinks:\n"
    );
    for sink in 0..sinks {
        let (table, batch) = (sink % tables, if sink == 0 { changed.unwrap_or(1) } else { 1 });
        text += &format!(
            "  - name: sink-{sink}
    database: main
    source: {{include_tables: [public.t{table}]}}
    batch_size: {batch}
    tables: [{{name: public.t{table}, group_column_names: [name]}}]
    destination: {{type: webhook, http_endpoint: hook, http_endpoint_path: '/{sink}'}}\n"
        );
    }
    text
}
