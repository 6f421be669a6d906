//! The chaos campaign: the real engine between real servers, under load, while everything goes wrong
//! that a seeded die draws; then the check that nothing was lost and nothing came out of order.
//!
//! `cargo x chaos` builds what it needs and starts it. The faults and the load follow the seed; what
//! they meet follows the machine, so that a seed that failed is tried again more than once.

mod disk;
mod faults;
mod judge;
mod load;
mod world;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use tests::{process, until};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_postgres::Client;

use faults::Faults;
use load::Load;
use world::World;

/// Between two faults.
const TICK: Duration = Duration::from_secs(1);

/// After the faults, until every sink has everything. Minutes of a campaign may be in the change log.
const DRAIN: Duration = Duration::from_secs(240);

#[derive(Parser)]
#[command(name = "cargo x chaos", about = "Everything goes wrong, and nothing is lost")]
struct Arguments {
    /// How long things go wrong.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The faults and the load; drawn by lot if it is not given.
    #[arg(long)]
    seed: Option<u64>,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
    // Ctrl-C is for the campaign: it stops its servers itself, in order.
    process::use_own_groups();
    tokio::select! {
        done = run(seed, arguments.seconds) => done,
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::FAILURE),
    }
}

async fn run(seed: u64, seconds: u64) -> Result<ExitCode> {
    say(&format!("seed {seed}, {seconds} s of faults"));
    let mut world = World::start().await?;
    let url = world.postgres.url("postgres");
    let mut load = Load::start(&url, seed);
    let mut faults = Faults::new(seed);
    let campaign = campaign(&mut world, &mut faults, Duration::from_secs(seconds)).await;
    // Whatever the campaign says, the load ends, and what is there is judged.
    let drained = match campaign {
        Ok(()) => drain(&mut world, &mut faults, &mut load).await,
        Err(error) => Err(error.context("the campaign broke off")),
    };
    say(&format!("faults: {}", faults.summary()));
    say(&format!("load: {} transactions", load.committed()));
    let mut wrong = Vec::new();
    match drained {
        Ok(client) => {
            let verdict = judge::judge(&world, &client).await?;
            verdict.lines.iter().for_each(|line| say(line));
            say(&format!("logged: {} changes since the last start", logged(&world).await));
            wrong.extend(verdict.wrong);
        }
        Err(error) => wrong.push(format!("{error:#}")),
    }
    if let Err(error) = stop(&mut world).await {
        wrong.push(format!("{error:#}"));
    }
    if wrong.is_empty() {
        say(&format!("nothing lost, nothing out of order (seed {seed})"));
        return Ok(ExitCode::SUCCESS);
    }
    wrong.iter().for_each(|word| say(&format!("WRONG {word}")));
    let log = std::env::temp_dir().join(format!("chaos-{seed}.log"));
    std::fs::write(&log, world.sequin.log())?;
    say(&format!("the engine's log is in {}", log.display()));
    say(&format!("again: cargo x chaos --seconds {seconds} --seed {seed}"));
    Ok(ExitCode::FAILURE)
}

/// A fault a second, for so long.
async fn campaign(world: &mut World, faults: &mut Faults, lasts: Duration) -> Result<()> {
    let began = Instant::now();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while began.elapsed() < lasts {
        ticks.tick().await;
        faults.heal(world).await?;
        ensure_runs(world)?;
        let at = began.elapsed().as_secs_f64();
        if let Some(did) = faults.strike(world).await.with_context(|| format!("at {at:.1} s"))? {
            say(&format!("{at:6.1} s  {did}"));
        }
        ensure_runs(world)?;
    }
    Ok(())
}

/// It never ends by itself, whatever goes wrong around it.
fn ensure_runs(world: &mut World) -> Result<()> {
    let ended = world.sequin.exited()?;
    ensure!(ended.is_none(), "the engine ended by itself: {ended:?}");
    Ok(())
}

/// Ends faults and load, and waits until all sinks have everything.
async fn drain(world: &mut World, faults: &mut Faults, load: &mut Load) -> Result<Client> {
    faults.end(world).await?;
    load.end().await;
    let began = Instant::now();
    let client = world.postgres.client("postgres").await?;
    let row = client.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).await?;
    let target: String = row.get(0);
    let sql = "SELECT confirmed_flush_lsn::text, confirmed_flush_lsn >= $1::text::pg_lsn
               FROM pg_replication_slots WHERE slot_name = 'chaos'";
    let sinks = world.sinks();
    until("every sink to have everything", DRAIN, async || {
        ensure_runs(world)?;
        let row = client.query_one(sql, &[&target]).await?;
        let (confirmed, reached): (String, bool) = (row.get(0), row.get(1));
        let mut behind = Vec::new();
        for sink in &sinks {
            let labels = [("consumer_name", *sink)];
            if world.sequin.metric("sequin_sink_caught_up", &labels).await? != 1.0 {
                let pending = world.sequin.metric("sequin_messages_pending", &labels).await?;
                behind.push(format!("{sink} ({pending} pending)"));
            }
        }
        Ok(if reached && behind.is_empty() {
            Ok(())
        } else {
            Err(format!("slot {confirmed} of {target}, behind: {}", behind.join(", ")))
        })
    })
    .await?;
    say(&format!("drained in {:.1} s", began.elapsed().as_secs_f64()));
    Ok(client)
}

async fn logged(world: &World) -> f64 {
    world.sequin.metric("sequin_changes_logged_count", &[]).await.unwrap_or(f64::NAN)
}

async fn stop(world: &mut World) -> Result<()> {
    if world.sequin.exited()?.is_none() {
        let status = world.sequin.terminate().await?;
        ensure!(status.success(), "the engine stopped with {status}");
    }
    Ok(())
}

/// One line on the terminal. Where nobody reads any more there is nothing to say.
fn say(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}
