//! The demo: rows of a camping app, edited in Postgres, reach everything that `sequin.yaml` names, and
//! the terminal shows each on its way.
//!
//! `cargo x demo` builds what it needs and starts it. Everything runs in private servers in
//! temporary directories and is gone at the end, also after Ctrl-C.

mod burst;
mod edits;
mod script;
mod world;

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tests::process;
use tokio::time::Instant;

use edits::Editor;
use world::World;

/// Between two edits: time to read what happened.
const PAUSE: Duration = Duration::from_millis(1_500);

/// How far a change may be behind before the demo gives up on it. It takes milliseconds.
pub(crate) const ARRIVAL: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> Result<()> {
    // Ctrl-C is for the demo: it stops its servers itself, in order.
    process::use_own_groups();
    let seconds = seconds()?;
    tokio::select! {
        done = run(seconds) => done?,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.context("wait for Ctrl-C")?;
            say("\n  stopping …");
        }
    }
    say("  everything is stopped and removed");
    Ok(())
}

/// The value of `--seconds`; without it the demo runs until Ctrl-C.
fn seconds() -> Result<Option<Duration>> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        None => Ok(None),
        Some("--seconds") => {
            let number = arguments.next().context("--seconds needs a number")?;
            let number = number.parse().context("--seconds needs a whole number")?;
            Ok(Some(Duration::from_secs(number)))
        }
        Some(other) => anyhow::bail!("{other} is not known; --seconds N is"),
    }
}

async fn run(seconds: Option<Duration>) -> Result<()> {
    let world = World::start().await?;
    world.introduce();
    let mut editor = Editor::new(&world).await?;
    let end = seconds.map(|seconds| Instant::now() + seconds);
    loop {
        let next = Instant::now() + PAUSE;
        if editor.step().await? {
            burst::run(&editor).await?;
        }
        if end.is_some_and(|end| next >= end) {
            break;
        }
        tokio::time::sleep_until(next).await;
    }
    editor.summary();
    world.stop().await
}

/// One line on the terminal. Where nobody reads any more there is nothing to say.
pub(crate) fn say(line: &str) {
    drop(writeln!(std::io::stdout(), "{line}"));
}
