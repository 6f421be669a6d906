//! `sequin tail`: the changes of a database on standard output, one message a line.
//!
//! Reads one stream with nothing behind it: no engine, no store. What was written out is what is
//! confirmed. Without `--slot` and `--publication` it makes both for the run, and leaves neither.
//!
//! Standard output is written on a thread that may wait for its reader as long as it likes, so a
//! signal is heard and the stream kept alive meanwhile.

mod print;
mod select;
mod stop;

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use engine::confirm::Confirm;
use model::backoff::Backoff;
use model::source::{Connect as _, Event, Missing, Source, SourceError};
use postgres::{Connector, Options};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::cli::TailArguments;
use crate::settings::{Settings, environment};
use crate::{Failure, telemetry, tell};
use print::{Printed, Printer};
use select::Choice;
use stop::{Stop, at};

/// Between attempts to open the stream of a slot again.
const RECONNECT: Backoff =
    Backoff { first: Duration::from_millis(250), cap: Duration::from_secs(15) };

/// After a signal, for the rest of the transaction that is being written and for whoever reads it.
const PARTING: Duration = Duration::from_secs(5);

pub(crate) fn run(arguments: &TailArguments) -> Result<(), Failure> {
    // One line a change is what is wanted to be seen.
    let quiet =
        |name: &str| environment(name).or_else(|| (name == "LOG_LEVEL").then(|| "warn".to_owned()));
    let mut settings = Settings::read(&quiet).map_err(Failure::Usage)?;
    let options = options(arguments)?;
    let choice = Choice::new(arguments);
    telemetry::start(&mut settings);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .thread_name("tail")
        .build()
        .context("start the runtime")?;
    let done = runtime.block_on(tail(arguments, options, choice));
    // A write that nobody takes must not keep the process.
    runtime.shutdown_background();
    done
}

/// Names are checked before anything is opened.
fn options(arguments: &TailArguments) -> Result<Options, Failure> {
    let random = format!("sequin_tail_{:012x}", fastrand::u64(..1 << 48));
    let slot = arguments.slot.as_ref().unwrap_or(&random);
    let publication = arguments.publication.as_ref().unwrap_or(&random);
    let usage = |error| Failure::Usage(format!("error: {}", text(&error)));
    let mut options = Options::from_url(&arguments.database_url).map_err(usage)?;
    options.slot.clone_from(slot);
    options.publication.clone_from(publication);
    options.slot_temporary = arguments.slot.is_none();
    options.check().map_err(usage)?;
    Ok(options)
}

/// Makes the publication if none was named, and drops it whatever happens in between.
async fn tail(arguments: &TailArguments, options: Options, choice: Choice) -> Result<(), Failure> {
    let mut stop = Stop::listen(arguments.seconds)?;
    if arguments.publication.is_some() {
        return follow(arguments, options, &choice, &mut stop).await.map_err(Failure::Failed);
    }
    let created = postgres::create_publication(&options, choice.subject()).await;
    let followed = match &created {
        Ok(()) => follow(arguments, options.clone(), &choice, &mut stop).await,
        Err(error) => Err(anyhow!(text(error))),
    };
    // After a broken connection nobody knows whether it was made.
    if matches!(created, Ok(()) | Err(SourceError::Transient(_)))
        && let Err(error) = postgres::drop_publication(&options).await
    {
        let sql = postgres::drop_statement(&options);
        tell(&format!(
            "warning: the publication of this run may still be there ({error})\nhelp: run {sql}"
        ));
    }
    followed.map_err(Failure::Failed)
}

/// Prints until it is told to stop.
async fn follow(
    arguments: &TailArguments,
    options: Options,
    choice: &Choice,
    stop: &mut Stop,
) -> anyhow::Result<()> {
    let temporary = options.slot_temporary;
    let database = options.database.clone();
    let mut printer = Printer::new(&options, arguments.count, arguments.types);
    let connector = Connector::new(options);
    let mut confirm = Confirm::default();
    let mut origin: Option<String> = None;
    let mut attempts = 0;
    let mut dice = fastrand::Rng::new();
    loop {
        let connected = tokio::select! {
            biased;
            () = stop.requested() => return Ok(()),
            connected = connector.connect(Missing::Create) => connected,
        };
        let broken = match connected {
            Ok(mut source) => {
                attempts = 0;
                if origin.is_none() {
                    tell(&format!("reading the changes of {database}; Ctrl-C ends it"));
                }
                check_origin(&mut origin, source.origin())?;
                stop.begin();
                match stream(source.as_mut(), choice, &mut printer, &mut confirm, stop).await {
                    Ok(()) => {
                        match source.close().await {
                            Err(error) if !temporary => {
                                warn!(%error, "what was printed last may be printed again");
                            }
                            _ => {}
                        }
                        return Ok(());
                    }
                    Err(Broken::Output(error)) => {
                        // What was written before is confirmed.
                        source.close().await.ok();
                        return Err(error);
                    }
                    Err(Broken::Source(error)) => error,
                }
            }
            Err(error) if origin.is_none() => return Err(anyhow!(text(&error))),
            Err(error) => error,
        };
        match broken {
            SourceError::Definite { .. } => return Err(anyhow!(text(&broken))),
            SourceError::Transient(reason) if temporary => {
                return Err(anyhow!(
                    "the stream broke: {reason} (stream_broken)\nhelp: changes from now on are \
                     missed, for the temporary slot is gone; start again, or use a slot that stays \
                     (--slot)"
                ));
            }
            SourceError::Transient(reason) => {
                attempts += 1;
                warn!(reason, "no stream; trying again");
                let until = Instant::now() + RECONNECT.delay(attempts, dice.f64());
                tokio::select! {
                    biased;
                    () = stop.requested() => return Ok(()),
                    () = sleep_until(until) => {}
                }
            }
        }
    }
}

/// Positions of another server mean nothing here.
fn check_origin(known: &mut Option<String>, origin: &str) -> anyhow::Result<()> {
    match known {
        Some(known) if known != origin => Err(anyhow!(
            "the server is another one now: {origin} instead of {known} (origin)\nhelp: start again"
        )),
        Some(_) => Ok(()),
        None => {
            *known = Some(origin.to_owned());
            Ok(())
        }
    }
}

/// Why a stream is not read any more.
enum Broken {
    Source(SourceError),
    Output(anyhow::Error),
}

/// Prints one connection's changes. `Ok` when there is nothing more to print.
async fn stream(
    source: &mut dyn Source,
    choice: &Choice,
    printer: &mut Printer,
    confirm: &mut Confirm,
    stop: &mut Stop,
) -> Result<(), Broken> {
    // Until when the open transaction may end, once it is to stop.
    let mut parting: Option<Instant> = None;
    loop {
        let event = tokio::select! {
            biased;
            () = stop.requested(), if parting.is_none() => {
                if printer.between_transactions() {
                    return Ok(());
                }
                parting = Some(Instant::now() + PARTING);
                continue;
            }
            () = at(parting) => return Ok(()),
            event = source.next() => event.map_err(Broken::Source)?,
        };
        match event {
            Event::Idle(position) => confirm.idle(position),
            Event::Changes(batch) => {
                let printing = printer.print(&batch, choice);
                let printed = tokio::select! {
                    biased;
                    printed = printing => printed.map_err(Broken::Output)?,
                    () = late(stop, parting) => return Ok(()),
                };
                if printed == Printed::Closed {
                    return Ok(());
                }
                for commit in batch.commits {
                    // A transaction that was cut is not confirmed.
                    match printed {
                        Printed::UpTo(cut) if commit.commit_lsn >= cut.commit_lsn => break,
                        _ => confirm.commit(commit),
                    }
                }
                if matches!(printed, Printed::UpTo(_)) {
                    source.confirm(confirm.advance(None));
                    return Ok(());
                }
            }
        }
        source.confirm(confirm.advance(None));
        if printer.is_done() && parting.is_none() {
            // So that a slot passes the transaction, if nothing more of it comes.
            parting = Some(Instant::now() + PARTING);
        }
        if parting.is_some() && printer.between_transactions() {
            return Ok(());
        }
    }
}

/// A while after it was told to stop.
async fn late(stop: &mut Stop, parting: Option<Instant>) {
    let time = match parting {
        Some(time) => time,
        None => {
            stop.requested().await;
            Instant::now() + PARTING
        }
    };
    sleep_until(time).await;
}

/// An error as a command says it.
fn text(error: &SourceError) -> String {
    match error {
        SourceError::Transient(reason) => reason.clone(),
        SourceError::Definite { code, message, help } => {
            format!("{message} ({code})\nhelp: {help}")
        }
    }
}
