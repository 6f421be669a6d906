//! Changes into the change log while the only sink is shut, and out of it; and the same after a kill.

use std::time::Duration;

use anyhow::Result;
use tests::until;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::door::Door;
use super::engine::{Engine, LONG, log_end};
use super::{Arguments, Peaks, write};
use crate::say;
use crate::server::Server;
use crate::table::align;

/// Between two looks at the slot.
const LOOK: Duration = Duration::from_millis(100);

/// What it took to read the source's log while nothing was delivered.
struct In {
    seconds: f64,
    /// How often the confirmed position was seen to advance, and the longest time that it did not.
    advances: u32,
    longest: Duration,
    /// What the change log grew by.
    log_bytes: f64,
}

pub(super) async fn run(server: &Server, arguments: &Arguments, peaks: &mut Peaks) -> Result<()> {
    let rows = arguments.rows;
    super::table(server, "through_the_log").await?;
    let door = Door::start().await?;
    let urls = [door.url()];
    let mut engine = Engine::prepare(server, "through_the_log", arguments.memory_mb, &urls)?;
    door.shut(true);
    write(&server.client, engine.table, 1, rows).await?;
    let began = Instant::now();
    engine.start(server).await?;
    let first_in = fill(server, &mut engine, began, 0.0).await?;
    let open = Instant::now();
    let (first, all) = drain(&mut engine, &door, rows, open).await?;

    // Once more, and a kill when all of it is logged.
    door.shut(true);
    let held = engine.metric("sequin_change_log_bytes").await?;
    let began = Instant::now();
    write(&server.client, engine.table, rows + 1, rows).await?;
    let second_in = fill(server, &mut engine, began, held).await?;
    engine.kill().await?;
    let start = Instant::now();
    door.shut(false);
    engine.sequin.launch()?;
    let (killed_first, killed_all) = drain(&mut engine, &door, rows, start).await?;

    let per_second = |seconds: f64| format!("{:.1}", rows as f64 / seconds / 1_000.0);
    let seconds = |duration: Duration| format!("{:.2}", duration.as_secs_f64());
    let line = |name: &str, way: &In, first: Duration, all: Duration| {
        [
            name.to_owned(),
            per_second(way.seconds),
            format!("{} ({} s)", way.advances, seconds(way.longest)),
            format!("{:.0}", way.log_bytes / rows as f64),
            seconds(first),
            seconds(all),
            per_second(all.saturating_sub(first).as_secs_f64()),
            format!("{:.2}", way.seconds / all.saturating_sub(first).as_secs_f64()),
        ]
    };
    let head = [
        "then",
        "in, k rows/s",
        "confirmed (longest)",
        "bytes/row on disk",
        "first, s",
        "all, s",
        "out, k rows/s",
        "out / in",
    ];
    let rows_of_table = [
        head.map(str::to_owned),
        line("the sink comes back", &first_in, first, all),
        line("kill -9, start, sink back", &second_in, killed_first, killed_all),
    ];
    say(&format!("\n{rows} changes through the log and back, one sink:"));
    say(&align(&rows_of_table));
    say(
        "  in: of the first, what was written before; of the second, while it is written. bytes: what the log grew by",
    );
    engine.stop(server, "through the log, and after a kill", peaks).await
}

/// Until the slot is confirmed to the end of the source's log.
async fn fill(server: &Server, engine: &mut Engine, began: Instant, held: f64) -> Result<In> {
    let end = log_end(server).await?;
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut advances, mut longest) = (0, Duration::ZERO);
    let (mut behind, mut moved) = (i64::MAX, began);
    while behind > 0 {
        ticks.tick().await;
        let now = engine.behind(server, &end).await?;
        if now < behind {
            advances += 1;
            longest = longest.max(moved.elapsed());
            (behind, moved) = (now, Instant::now());
        }
        anyhow::ensure!(began.elapsed() < LONG, "the log is not read: {behind} bytes behind");
    }
    let seconds = began.elapsed().as_secs_f64();
    engine.look();
    let log_bytes = engine.metric("sequin_change_log_bytes").await? - held;
    Ok(In { seconds, advances, longest, log_bytes })
}

/// Opens the door; when the first message and when all had come, from `since` on.
async fn drain(
    engine: &mut Engine,
    door: &Door,
    rows: i64,
    since: Instant,
) -> Result<(Duration, Duration)> {
    let before = door.count();
    door.shut(false);
    until("the first message", LONG, async || {
        Ok(if door.count() > before { Ok(()) } else { Err("none".to_owned()) })
    })
    .await?;
    let first = since.elapsed();
    until("all messages", LONG, async || {
        let count = door.count() - before;
        Ok(if count >= rows.unsigned_abs() { Ok(()) } else { Err(format!("{count} of {rows}")) })
    })
    .await?;
    let all = since.elapsed();
    engine.look();
    Ok((first, all))
}
