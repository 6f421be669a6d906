//! `bench plugin`: what a row costs in each first-party plugin, beside the same work without one.
//!
//! A call is made on this thread as a thread of the pool makes it, from changes to outcomes, and
//! paid for in CPU time of the thread. The ways are interleaved: each of a round in turn.

mod native;
mod once;
mod rows;

use std::hint::black_box;
use std::path::PathBuf;

use ::plugin::measure::Direct;
use ::plugin::{Host, Limits, Metering, Role};
use anyhow::{Context as _, Result, anyhow};
use model::plugin::{Outcome, Rows};
use rustix::time::{ClockId, clock_gettime};

use crate::table::{Figure, align};
use crate::{proc, say};
use rows::{FEATURES, FIELDS, FLAGS, LANGUAGES};

/// From one row, after idle, to more than the engine hands over at once, which is 256.
const SIZES: [usize; 5] = [1, 8, 64, 256, 1_024];

const ROWS: usize = 1_024;

/// Calls of a figure, at most: of small batches fewer rows tell as much.
const CALLS_MAX: usize = 2_048;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Rows of each figure in each round.
    #[arg(long, default_value_t = 20_480, value_parser = clap::value_parser!(u32).range(1..))]
    rows: u32,
    /// Rounds.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    repeats: u32,
    /// Only these plugins.
    #[arg(long, value_delimiter = ',', value_parser = CASES.map(|case| case.0))]
    only: Vec<String>,
    /// Only the ways with this in their name, such as `warm` or `fresh, epochs`, for a profiler.
    #[arg(long)]
    way: Option<String>,
}

/// The first-party plugins.
const CASES: [(&str, Role); 4] = [
    ("public-rows", Role::Filter),
    ("feature-flags", Role::Transform),
    ("localised-fields", Role::Transform),
    ("pick", Role::Transform),
];

const METERINGS: [(Metering, &str); 4] = [
    (Metering::None, "no limit"),
    (Metering::Epochs, "epochs"),
    (Metering::Fuel, "fuel"),
    (Metering::EpochsAndFuel, "epochs + fuel"),
];

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let rows = rows::rows(ROWS)?;
    say(&format!("machine: {}", proc::machine()));
    say(&format!("rows: 20 columns, {} bytes as JSON on average", rows::json_bytes(&rows)));
    let named = |name: &str| arguments.only.iter().any(|only| only == name);
    let hosts = METERINGS.map(|(metering, name)| {
        let limits = limits(metering);
        anyhow::Ok((Host::new(limits.clone())?, limits, name))
    });
    let hosts = hosts.into_iter().collect::<Result<Vec<_>>>()?;
    for (name, role) in CASES {
        if arguments.only.is_empty() || named(name) {
            let mut ways = ways(name, role, &hosts, &rows)?;
            if let Some(part) = &arguments.way {
                ways.retain(|way| way.name.contains(part));
            }
            say(&format!("\n{name}, CPU ns/row (product: epochs, fresh):"));
            say(&measure(arguments, &rows, ways)?);
        }
    }
    once::run(arguments, &rows)?;
    say(&format!("\nload at the end: {}", proc::load()));
    Ok(())
}

/// The product's, but for what is measured here.
fn limits(metering: Metering) -> Limits {
    Limits { metering, ..Limits::default() }
}

/// A component of `cargo x plugins`.
fn component(path: &str) -> Result<Vec<u8>> {
    let path: PathBuf = tests::repository().join("plugins").join(path).with_extension("wasm");
    let read = std::fs::read(&path);
    read.with_context(|| format!("read {} (run `cargo x plugins`)", path.display()))
}

fn config(name: &str) -> String {
    let quoted = |names: &[&str]| format!("{names:?}");
    match name {
        "public-rows" => r#"{"column": "is_public"}"#.to_owned(),
        "feature-flags" => {
            let flags = quoted(&FEATURES[..FLAGS]);
            format!(r#"{{"column": "features", "flags": {flags}, "prefix": "has_"}}"#)
        }
        "localised-fields" => format!(
            r#"{{"column": "translations", "fields": {}, "languages": {}}}"#,
            quoted(&FIELDS),
            quoted(&LANGUAGES)
        ),
        _ => r#"{
            "rename": {"description": "text"},
            "nest": {"address": ["street", "city", "postcode"]},
            "set": {"source": "app"}
        }"#
        .to_owned(),
    }
}

/// Does the work, and drops what came of it.
type Call = dyn Fn(&Rows) -> Result<()>;

/// A way to do the work, and what it cost per row: by [`SIZES`], by round.
struct Way {
    name: String,
    call: Box<Call>,
    costs: [Vec<f64>; SIZES.len()],
}

impl Way {
    fn new(name: String, call: impl Fn(&Rows) -> Result<()> + 'static) -> Self {
        Self { name, call: Box::new(call), costs: Default::default() }
    }
}

/// The native one first, then each metering, warm and fresh.
fn ways(name: &str, role: Role, hosts: &[(Host, Limits, &str)], rows: &Rows) -> Result<Vec<Way>> {
    let (component, config) = (component(name)?, config(name));
    let work = native::work(name)?;
    let expected = work(rows)?;
    let mut ways = vec![Way::new("native".to_owned(), move |rows| {
        black_box(work(rows)?);
        Ok(())
    })];
    for (warm, kept) in [(true, "warm"), (false, "fresh")] {
        for (host, limits, metering) in hosts {
            let program = host.load(&component)?;
            let direct = Direct::new(&program, role, &config, limits, warm)?;
            let outcomes: Vec<Outcome> = direct.run(rows)?.into_iter().collect::<Result<_, _>>()?;
            native::ensure_same(&expected, &outcomes)?;
            ways.push(Way::new(format!("{kept}, {metering}"), move |rows| {
                let outcomes = direct.run(rows)?;
                let failed = outcomes.iter().find_map(|outcome| outcome.as_ref().err());
                failed.map_or(Ok(()), |error| Err(anyhow!("a row failed: {error}")))?;
                black_box(outcomes);
                Ok(())
            }));
        }
    }
    Ok(ways)
}

fn measure(arguments: &Arguments, rows: &Rows, mut ways: Vec<Way>) -> Result<String> {
    for (at, size) in SIZES.into_iter().enumerate() {
        let calls = rows::calls(rows, size);
        let count = (arguments.rows as usize / size).clamp(1, CALLS_MAX);
        for way in &ways {
            // Once round before anything counts.
            calls.iter().take(count).try_for_each(&way.call)?;
        }
        for _ in 0..arguments.repeats {
            for way in &mut ways {
                let before = now_ns(ClockId::ThreadCPUTime);
                calls.iter().cycle().take(count).try_for_each(&way.call)?;
                let spent = now_ns(ClockId::ThreadCPUTime) - before;
                way.costs[at].push(spent as f64 / (count * size) as f64);
            }
        }
    }
    let mut lines = vec![[
        "rows a call".to_owned(),
        SIZES[0].to_string(),
        SIZES[1].to_string(),
        SIZES[2].to_string(),
        SIZES[3].to_string(),
        SIZES[4].to_string(),
    ]];
    lines.extend(ways.into_iter().map(|way| {
        let [a, b, c, d, e] = way.costs.map(|costs| Figure::of(costs.into_iter()).show(1.0, 0));
        [way.name, a, b, c, d, e]
    }));
    Ok(align(&lines))
}

fn now_ns(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
