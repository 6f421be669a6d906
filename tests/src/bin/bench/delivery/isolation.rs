//! Six healthy sinks, and five of the same beside a sixth whose destination is not there.

use std::time::Duration;

use anyhow::Result;
use tests::{ports, until};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::door::Door;
use super::engine::{Engine, LONG};
use super::{Arguments, Peaks, insert, percentile, write};
use crate::say;
use crate::server::Server;
use crate::table::{Figure, align};

/// Sinks that are measured.
const FIVE: usize = 5;

/// 500 rows a second, five at a time.
const PROBE_ROWS: i64 = 5;
const PROBE_TICK: Duration = Duration::from_millis(10);

/// An engine, its five doors, and what was measured.
struct Side {
    engine: Engine,
    doors: Vec<Door>,
    next_id: i64,
    rows_per_second: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
}

impl Side {
    async fn start(
        server: &Server,
        table: &'static str,
        memory_mb: u32,
        sixth: &str,
    ) -> Result<Self> {
        super::table(server, table).await?;
        let mut doors = Vec::new();
        for _ in 0..FIVE {
            doors.push(Door::start().await?);
        }
        let mut urls: Vec<String> = doors.iter().map(Door::url).collect();
        urls.push(sixth.to_owned());
        let mut engine = Engine::prepare(server, table, memory_mb, &urls)?;
        engine.start(server).await?;
        let (rows_per_second, p50, p99) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { engine, doors, next_id: 1, rows_per_second, p50, p99 })
    }

    /// A burst, as fast as it goes, and then rows at an even pace that are timed.
    async fn slice(&mut self, server: &Server, burst: i64, probes: i64) -> Result<()> {
        let (table, first) = (self.engine.table, self.next_id);
        let before: Vec<u64> = self.doors.iter().map(Door::count).collect();
        let began = Instant::now();
        write(&server.client, table, first, burst).await?;
        self.until_counts(&before, burst.unsigned_abs()).await?;
        self.rows_per_second.push(burst as f64 / began.elapsed().as_secs_f64());
        let first = first + burst;
        self.doors.iter().for_each(|door| door.time_from(first));
        let mut ticks = interval(PROBE_TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let before: Vec<u64> = self.doors.iter().map(Door::count).collect();
        let mut written = 0;
        while written < probes {
            ticks.tick().await;
            let next = first + written;
            insert(&server.client, table, next, next + PROBE_ROWS - 1).await?;
            written += PROBE_ROWS;
        }
        self.until_counts(&before, written.unsigned_abs()).await?;
        let mut taken: Vec<u64> = self.doors.iter().flat_map(Door::taken_us).collect();
        self.doors.iter().for_each(|door| door.time_from(i64::MAX));
        self.p50.push(percentile(&mut taken, 50));
        self.p99.push(percentile(&mut taken, 99));
        self.next_id = first + written;
        self.engine.look();
        Ok(())
    }

    async fn until_counts(&self, before: &[u64], more: u64) -> Result<()> {
        until("five sinks to have the rows", LONG, async || {
            let counts = self.doors.iter().zip(before);
            let behind = counts.filter(|(door, before)| door.count() < **before + more).count();
            Ok(if behind == 0 { Ok(()) } else { Err(format!("{behind} are behind")) })
        })
        .await
    }
}

pub(super) async fn run(server: &Server, arguments: &Arguments, peaks: &mut Peaks) -> Result<()> {
    let burst = (arguments.rows / 20).clamp(1_000, 50_000);
    let sixth = Door::start().await?;
    let memory = arguments.memory_mb;
    let mut healthy = Side::start(server, "six_healthy", memory, &sixth.url()).await?;
    let nobody = format!("http://127.0.0.1:{}", ports::free()?);
    let mut beside = Side::start(server, "five_and_a_dead_one", memory, &nobody).await?;
    for round in 0..arguments.slices {
        // Nobody is always first.
        let sides = [&mut healthy, &mut beside];
        let [first, second] = if round % 2 == 0 {
            sides
        } else {
            let [a, b] = sides;
            [b, a]
        };
        first.slice(server, burst, arguments.probes).await?;
        second.slice(server, burst, arguments.probes).await?;
    }
    let logged = beside.engine.metric("sequin_changes_logged_count").await?;
    let show =
        |values: &[f64], scale, digits| Figure::of(values.iter().copied()).show(scale, digits);
    let line = |name: &str, side: &Side| {
        [
            name.to_owned(),
            show(&side.rows_per_second, 1_000.0, 1),
            show(&side.p50, 1.0, 1),
            show(&side.p99, 1.0, 1),
        ]
    };
    let ratio = |of: fn(&Side) -> &Vec<f64>| {
        let pairs = of(&beside).iter().zip(of(&healthy));
        Figure::of(pairs.map(|(beside, healthy)| beside / healthy)).show(1.0, 2)
    };
    let rows = [
        ["five sinks", "k rows/s", "p50 ms", "p99 ms"].map(str::to_owned),
        line("beside a healthy sixth", &healthy),
        line("beside a dead sixth", &beside),
        [
            "ratio, slice by slice".to_owned(),
            ratio(|s| &s.rows_per_second),
            ratio(|s| &s.p50),
            ratio(|s| &s.p99),
        ],
    ];
    say(&format!(
        "\nfive sinks of six, slices of {burst} rows at once and {} at 500 rows/s, commit to received \
         ({logged} changes logged for the dead one):",
        arguments.probes
    ));
    say(&align(&rows));
    healthy.engine.stop(server, "six healthy sinks", peaks).await?;
    beside.engine.stop(server, "five and a dead one", peaks).await
}
