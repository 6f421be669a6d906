//! What is paid for once in a while: a component, an instance, the first row after a pause, a trap.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ::plugin::measure::Direct;
use ::plugin::{Host, Limits, Program, Role};
use anyhow::{Context as _, Result, ensure};
use model::plugin::{Fault, Plugin, Rows};
use rustix::time::ClockId;
use tokio::runtime::{Builder, Runtime};

use super::{Arguments, CASES, component, config, now_ns, rows};
use crate::say;
use crate::table::{Figure, align};

/// Instances of a figure.
const INSTANCES: u32 = 200;

/// Calls after a pause, of a figure.
const PAUSES: u32 = 20;

/// Long enough for threads to be asleep.
const PAUSE: Duration = Duration::from_millis(2);

/// What the guilty row is called.
const GUILTY: &str = "trap";

pub(super) fn run(arguments: &Arguments, rows: &Rows) -> Result<()> {
    let runtime = Builder::new_current_thread().build().context("start the runtime")?;
    let one = rows::calls(rows, 1).swap_remove(0);
    let mut lines = vec![[
        "plugin".to_owned(),
        "wasm kB".to_owned(),
        "compile ms".to_owned(),
        "from cache ms".to_owned(),
        "instance + configure us CPU".to_owned(),
        "one row after idle us CPU".to_owned(),
        "us by the clock".to_owned(),
    ]];
    for (name, role) in CASES {
        if !arguments.only.is_empty() && !arguments.only.iter().any(|only| only == name) {
            continue;
        }
        let component = component(name)?;
        let costs = [(); 5].map(|()| Vec::new());
        let [mut compiled, mut cached, mut started, mut cpu, mut wall] = costs;
        for _ in 0..arguments.repeats {
            let (compile, load) = loads(&component)?;
            compiled.push(compile);
            cached.push(load);
            let host = Host::new(Limits::default())?;
            let program = host.load(&component)?;
            started.push(start(&program, role, name)?);
            let plugin = host.bind(name, &program, role, "webhook", &config(name))?;
            let (cpu_us, wall_us) = after_idle(&runtime, &*plugin, &one)?;
            cpu.push(cpu_us);
            wall.push(wall_us);
        }
        let show = |costs: Vec<f64>, digits| Figure::of(costs.into_iter()).show(1.0, digits);
        lines.push([
            name.to_owned(),
            (component.len() / 1_000).to_string(),
            show(compiled, 0),
            show(cached, 2),
            show(started, 1),
            show(cpu, 0),
            show(wall, 0),
        ]);
    }
    say("\nonce in a while:");
    say(&align(&lines));
    for size in [64, 256] {
        say(&trap(arguments, &runtime, size)?);
    }
    Ok(())
}

/// Milliseconds by the clock to load a component: compiled, and from the cache.
fn loads(component: &[u8]) -> Result<(f64, f64)> {
    let cache = tempfile::tempdir()?;
    // `tempfile` makes it for us alone, as the cache wants it.
    let load = || {
        let host = Host::new(Limits::default())?.with_cache(cache.path())?;
        let before = now_ns(ClockId::Monotonic);
        let program = host.load(component)?;
        let spent = now_ns(ClockId::Monotonic) - before;
        drop(program);
        anyhow::Ok(spent as f64 / 1e6)
    };
    Ok((load()?, load()?))
}

/// CPU microseconds to make an instance, configure it and drop it.
fn start(program: &Arc<Program>, role: Role, name: &str) -> Result<f64> {
    let direct = Direct::new(program, role, &config(name), &Limits::default(), false)?;
    let before = now_ns(ClockId::ThreadCPUTime);
    for _ in 0..INSTANCES {
        direct.start()?;
    }
    let spent = now_ns(ClockId::ThreadCPUTime) - before;
    Ok(spent as f64 / f64::from(INSTANCES) / 1e3)
}

/// Microseconds for one row after a pause, through the threads of the host: CPU time of the whole
/// process, and by the clock. Medians: a pause on a busy machine is followed by anything.
fn after_idle(runtime: &Runtime, plugin: &dyn Plugin, one: &Rows) -> Result<(f64, f64)> {
    let (mut cpu, mut wall) = (Vec::new(), Vec::new());
    for _ in 0..PAUSES {
        thread::park_timeout(PAUSE);
        let rows = one.clone();
        let before = [ClockId::ProcessCPUTime, ClockId::Monotonic].map(now_ns);
        let outcomes = runtime.block_on(plugin.run(rows));
        let after = [ClockId::ProcessCPUTime, ClockId::Monotonic].map(now_ns);
        ensure!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        cpu.push((after[0] - before[0]) as f64 / 1e3);
        wall.push((after[1] - before[1]) as f64 / 1e3);
    }
    Ok((Figure::of(cpu.into_iter()).median(), Figure::of(wall.into_iter()).median()))
}

/// A batch in which one row traps, so that all run again singly, beside one in which none does.
fn trap(arguments: &Arguments, runtime: &Runtime, size: usize) -> Result<String> {
    let host = Host::new(Limits::default())?;
    let program = host.load(&component("target/bad/trap")?)?;
    let config = format!(r#"{{"column": "name", "when": "{GUILTY}"}}"#);
    let plugin = host.bind("trap", &program, Role::Transform, "webhook", &config)?;
    let innocent = rows::rows(size)?;
    let guilty = rows::with_name(size, size / 2, GUILTY)?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..arguments.repeats {
        for (rows, failures, costs) in [(&innocent, 0, &mut without), (&guilty, 1, &mut with)] {
            let rows = rows.clone();
            let before = now_ns(ClockId::ProcessCPUTime);
            let outcomes = runtime.block_on(plugin.run(rows));
            costs.push((now_ns(ClockId::ProcessCPUTime) - before) as f64 / 1e3);
            let failed: Vec<_> = outcomes.iter().filter_map(|one| one.as_ref().err()).collect();
            ensure!(
                failed.len() == failures && failed.iter().all(|e| e.fault == Fault::Trap),
                "{failed:?}"
            );
        }
    }
    let [with, without] = [with, without].map(|costs| Figure::of(costs.into_iter()).show(1.0, 0));
    Ok(format!("  a batch of {size}, CPU us: {without}; one row of it traps, all rerun: {with}"))
}
