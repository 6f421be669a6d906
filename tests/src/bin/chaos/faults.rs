//! What goes wrong: a seeded die draws a fault a second; some last for seconds, beside others.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::process::Signal;
use tests::{Behaviour, Way};
use tokio::time::{Instant, sleep_until};

use crate::world::{PICKY, ROUGH, World};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `kill -9` of the engine, and a start.
    Kill,
    /// A graceful stop of the engine, and a start.
    Stop,
    /// The engine hangs for seconds.
    Freeze,
    PostgresRestart,
    PostgresKill,
    /// The connections to Postgres are cut and refused for a while.
    Cut,
    /// They stay open and nothing moves.
    Stall,
    /// A sink's destination answers 500.
    Refuses,
    /// … answers late.
    Late,
    /// … hangs, and takes in nothing of who has gone.
    Hangs,
    /// … fails now and then, before or after it took things in.
    Lies,
    /// … is not there.
    Away,
    /// One in seven rows is refused with 422.
    Picky,
    /// Edits of the configuration.
    BatchSize,
    Guest,
    Pause,
    /// No room for the engine's state.
    DiskFull,
    SearchRefuses,
    SearchKilled,
}

use Fault as F;

const ALL: [Fault; 19] = [
    F::Kill,
    F::Stop,
    F::Freeze,
    F::PostgresRestart,
    F::PostgresKill,
    F::Cut,
    F::Stall,
    F::Refuses,
    F::Late,
    F::Hangs,
    F::Lies,
    F::Away,
    F::Picky,
    F::BatchSize,
    F::Guest,
    F::Pause,
    F::DiskFull,
    F::SearchRefuses,
    F::SearchKilled,
];

const MORE_KILLS: usize = 4;

/// The faults of a campaign, under way and over.
pub(crate) struct Faults {
    die: fastrand::Rng,
    under_way: Vec<(Instant, Fault)>,
    drawn: Vec<Fault>,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Self {
        Self { die: fastrand::Rng::with_seed(seed), under_way: Vec::new(), drawn: Vec::new() }
    }

    /// How often each kind was drawn, as text.
    pub(crate) fn summary(&self) -> String {
        let count = |fault| self.drawn.iter().filter(|drawn| **drawn == fault).count();
        let kinds = ALL.into_iter().map(|fault| (fault, count(fault))).filter(|(_, n)| *n > 0);
        kinds.map(|(fault, n)| format!("{fault:?} {n}")).collect::<Vec<_>>().join(", ")
    }

    /// Draws a fault, does it, and says what it did; `None` if it cannot be done now.
    pub(crate) async fn strike(&mut self, world: &mut World) -> Result<Option<String>> {
        // Beyond the list are more kills: what a restart promises is what is most to be proven.
        let fault = ALL.get(self.die.usize(..ALL.len() + MORE_KILLS)).copied().unwrap_or(F::Kill);
        // Drawn in any case, so that a seed's later faults do not depend on what could be done.
        let lasts = Duration::from_millis(self.die.u64(1_000..6_000));
        let seed = self.die.u64(..);
        if !self.can(world, fault) {
            return Ok(None);
        }
        self.drawn.push(fault);
        let edit = self.begin(world, fault, lasts, seed).await?;
        if !edit {
            self.under_way.push((Instant::now() + lasts, fault));
        }
        Ok(Some(format!("{fault:?} {:.1} s", lasts.as_secs_f64())))
    }

    fn can(&self, world: &World, fault: Fault) -> bool {
        let rough = [F::Refuses, F::Late, F::Hangs, F::Lies, F::Away];
        let line = [F::Cut, F::Stall];
        let search = [F::SearchRefuses, F::SearchKilled];
        let clashes = |other: Fault| {
            other == fault
                || [&rough[..], &line, &search]
                    .iter()
                    .any(|group| group.contains(&fault) && group.contains(&other))
        };
        let possible = match fault {
            F::DiskFull => world.disk.is_some(),
            F::SearchRefuses | F::SearchKilled => world.typesense.is_some(),
            // It may not start without room for its state: that is no fault of the moment.
            F::Kill | F::Stop => !self.is_under_way(F::DiskFull),
            _ => true,
        };
        possible && !self.under_way.iter().any(|(_, other)| clashes(*other))
    }

    fn is_under_way(&self, fault: Fault) -> bool {
        self.under_way.iter().any(|(_, other)| *other == fault)
    }

    /// Begins a fault; whether it is over at once.
    async fn begin(
        &mut self,
        world: &mut World,
        fault: Fault,
        lasts: Duration,
        seed: u64,
    ) -> Result<bool> {
        match fault {
            F::Kill => {
                world.sequin.kill9().await?;
                world.sequin.launch()?;
                world.until_answers().await?;
            }
            F::Stop => {
                let status = world.sequin.terminate().await?;
                ensure!(status.success(), "the engine stopped with {status}");
                world.sequin.launch()?;
                world.until_answers().await?;
            }
            F::Freeze => {
                world.sequin.signal(Signal::STOP)?;
                sleep_until(Instant::now() + lasts).await;
                world.sequin.signal(Signal::CONT)?;
            }
            F::PostgresRestart => {
                // A stalled line would hold up the shutdown, which waits for what it has sent.
                self.end_all(world, &[F::Cut, F::Stall]).await?;
                world.postgres.stop().await?;
                world.postgres.start_again().await?;
            }
            F::PostgresKill => {
                world.postgres.kill().await?;
                world.postgres.start_again().await?;
            }
            F::BatchSize | F::Guest | F::Pause => {
                let edits = &mut world.edits;
                match fault {
                    F::BatchSize => edits.batch_size = if edits.batch_size == 10 { 40 } else { 10 },
                    F::Guest => edits.guest = !edits.guest,
                    _ => edits.paused = true,
                }
                world.write_config()?;
                world.sequin.signal(Signal::HUP)?;
                return Ok(fault != F::Pause);
            }
            F::Cut => world.proxy.cut(),
            F::Stall => world.proxy.stall(Way::Both),
            F::Refuses => world.receivers[ROUGH].set(Behaviour::Status(500)),
            F::Late => {
                world.receivers[ROUGH].set(Behaviour::Slow(Duration::from_millis(seed % 2_000)));
            }
            F::Hangs => world.receivers[ROUGH].set(Behaviour::Hang(Duration::from_secs(3))),
            F::Lies => world.receivers[ROUGH].set(Behaviour::Flaky { seed, percent: 50 }),
            F::Away => world.receivers[ROUGH].stop(),
            F::Picky => world.receivers[PICKY].set_predicate(|body| {
                let messages = body["data"].as_array()?;
                let bad = |message: &serde_json::Value| message["record"]["id"].as_u64();
                let bad = messages.iter().filter_map(bad).any(|id| id % 7 == 0);
                bad.then_some(422)
            }),
            F::DiskFull => world.disk.as_ref().map_or(Ok(()), |disk| disk.fill())?,
            F::SearchRefuses => {
                if let Some(typesense) = &world.typesense {
                    typesense.skip_writes(true).await?;
                }
            }
            F::SearchKilled => {
                if let Some(typesense) = &mut world.typesense {
                    typesense.kill().await?;
                }
            }
        }
        Ok(matches!(fault, F::Kill | F::Stop | F::Freeze | F::PostgresRestart | F::PostgresKill))
    }

    /// Ends what has lasted long enough.
    pub(crate) async fn heal(&mut self, world: &mut World) -> Result<()> {
        let now = Instant::now();
        let over: Vec<Fault> = self
            .under_way
            .iter()
            .filter(|(until, _)| *until <= now)
            .map(|(_, fault)| *fault)
            .collect();
        self.end_all(world, &over).await
    }

    /// Ends everything.
    pub(crate) async fn end(&mut self, world: &mut World) -> Result<()> {
        self.end_all(world, &ALL).await
    }

    async fn end_all(&mut self, world: &mut World, which: &[Fault]) -> Result<()> {
        let ends = |fault: &Fault| which.contains(fault);
        let over: Vec<Fault> =
            self.under_way.iter().map(|(_, fault)| *fault).filter(ends).collect();
        self.under_way.retain(|(_, fault)| !ends(fault));
        for fault in over {
            match fault {
                F::Cut | F::Stall => world.proxy.heal(),
                F::Refuses | F::Late | F::Hangs | F::Lies => {
                    world.receivers[ROUGH].set(Behaviour::Ok);
                }
                F::Away => world.receivers[ROUGH].restart().await?,
                F::Picky => world.receivers[PICKY].clear_predicate(),
                F::Pause => {
                    world.edits.paused = false;
                    world.write_config()?;
                    world.sequin.signal(Signal::HUP)?;
                }
                F::DiskFull => world.disk.as_ref().map_or(Ok(()), |disk| disk.free())?,
                F::SearchRefuses => {
                    if let Some(typesense) = &world.typesense {
                        typesense.skip_writes(false).await?;
                    }
                }
                F::SearchKilled => {
                    if let Some(typesense) = &mut world.typesense {
                        typesense.start_again().await?;
                    }
                }
                F::Kill
                | F::Stop
                | F::Freeze
                | F::PostgresRestart
                | F::PostgresKill
                | F::BatchSize
                | F::Guest => {}
            }
        }
        Ok(())
    }
}
