//! The threads that run guests.
//!
//! Guarantees that a guest never runs on a thread of the runtime, that a call waits without blocking
//! the caller, that calls are served in the order in which they came, and that a panic in one is
//! answered and takes no thread with it. It knows no plugin: a job is any closure.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::limits::Limits;
use crate::memory::IDLE_MAX;

/// What a thread has beside the guest's stack: for the host's part of a call, compared with which a
/// usual thread is generous.
const HOST_STACK_BYTES: usize = 2 << 20;

/// What the scheduler gives the least time to.
const NICE_MAX: i32 = 19;

/// Threads of a plugin that waits: one batch at a time for each sink that uses it, mostly.
const APART: usize = 2;

type Job = Box<dyn FnOnce() + Send>;

/// Access to the threads; they end when the last copy is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    jobs: mpsc::Sender<Job>,
    idle: Arc<Semaphore>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Lost {
    #[error("the host panicked: {0}")]
    Panic(String),
    #[error("the host has no threads")]
    Closed,
}

impl Pool {
    pub(crate) fn start(limits: &Limits) -> std::io::Result<Self> {
        let idle = Arc::new(Semaphore::new(IDLE_MAX));
        Self::of_threads("plugin", limits.threads.get(), limits, idle, || ())
    }

    /// One thread, which runs when no other wants to: the lowest priority that there is.
    /// Instances that wait have their room with those of the others.
    pub(crate) fn aside(&self, limits: &Limits) -> std::io::Result<Self> {
        let step_back = || {
            // On Linux this is about the calling thread. If it is refused it runs as the others do.
            if let Err(error) = rustix::process::setpriority_process(None, NICE_MAX) {
                tracing::warn!(%error, "a thread for shadows has the priority of the others");
            }
        };
        Self::of_threads("plugin-aside", 1, limits, self.idle(), step_back)
    }

    /// Threads of its own for a plugin that waits for what is outside.
    pub(crate) fn apart(&self, limits: &Limits, is_aside: bool) -> std::io::Result<Self> {
        if is_aside {
            return self.aside(limits);
        }
        Self::of_threads("plugin-waits", APART, limits, self.idle(), || ())
    }

    fn of_threads(
        name: &str,
        threads: usize,
        limits: &Limits,
        idle: Arc<Semaphore>,
        first: impl Fn() + Copy + Send + 'static,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = mpsc::channel(limits.queue_max.get());
        let receiver = Arc::new(Mutex::new(receiver));
        for number in 0..threads {
            let receiver = Arc::clone(&receiver);
            std::thread::Builder::new()
                .name(format!("{name}-{number}"))
                .stack_size(HOST_STACK_BYTES + limits.stack_bytes_max)
                .spawn(move || {
                    first();
                    work(&receiver);
                })?;
        }
        Ok(Self { jobs: sender, idle })
    }

    /// The room for instances that wait for their next batch, of all plugins together.
    pub(crate) fn idle(&self) -> Arc<Semaphore> {
        Arc::clone(&self.idle)
    }

    /// Runs `job` on one of the threads. Dropped before a thread took it, it is not run at all.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Lost> {
        let (answer, answered) = oneshot::channel();
        let job = move || {
            if answer.is_closed() {
                return;
            }
            let result = catch_unwind(AssertUnwindSafe(job));
            // Nobody may be waiting any more.
            answer.send(result.map_err(|payload| Lost::Panic(text(&*payload)))).ok();
        };
        self.jobs.send(Box::new(job)).await.map_err(|_| Lost::Closed)?;
        answered.await.map_err(|_| Lost::Closed)?
    }
}

fn work(jobs: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        // One thread waits in the channel, the others for the lock; a job runs without it.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        match job {
            Some(job) => job(),
            None => return,
        }
    }
}

fn text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a text").to_owned()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_answered_and_the_thread_lives_on() {
        let limits = Limits { threads: NonZeroUsize::MIN, ..Limits::default() };
        let pool = Pool::start(&limits).unwrap();
        let thread = pool.run(|| std::thread::current().id()).await.unwrap();
        let lost = pool.run(|| panic!("one job")).await.map(|(): ()| ());
        assert_eq!(lost, Err(Lost::Panic("one job".to_owned())));
        assert_eq!(pool.run(|| std::thread::current().id()).await, Ok(thread));
        let name = pool.run(|| std::thread::current().name().map(str::to_owned)).await;
        assert_eq!(name.unwrap().as_deref(), Some("plugin-0"));
    }

    #[tokio::test]
    async fn what_runs_aside_has_the_lowest_priority_and_the_others_their_own() {
        let pool = Pool::start(&Limits::default()).unwrap();
        let aside = pool.aside(&Limits::default()).unwrap();
        let priority = || rustix::process::getpriority_process(None).unwrap();
        let usual = priority();
        assert_eq!(aside.run(priority).await, Ok(NICE_MAX));
        assert_eq!(pool.run(priority).await, Ok(usual));
        assert_ne!(usual, NICE_MAX, "or this test says nothing");
    }

    #[tokio::test]
    async fn a_job_that_nobody_waits_for_is_not_run() {
        let limits = Limits { threads: NonZeroUsize::MIN, ..Limits::default() };
        let pool = Pool::start(&limits).unwrap();
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let (ran, runs) = std::sync::mpsc::channel::<&str>();
        let first = pool.run(move || held.recv().is_ok());
        let dropped = {
            let ran = ran.clone();
            pool.run(move || ran.send("dropped").is_ok())
        };
        let mut first = Box::pin(first);
        let mut dropped = Box::pin(dropped);
        // Polled once, each job is in the queue.
        let poll = |future: std::pin::Pin<&mut dyn Future<Output = Result<bool, Lost>>>| {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(future.poll(&mut context).is_pending());
        };
        poll(first.as_mut());
        poll(dropped.as_mut());
        drop(dropped);
        hold.send(()).unwrap();
        assert_eq!(first.await, Ok(true));
        assert_eq!(pool.run(move || ran.send("last").is_ok()).await, Ok(true));
        assert_eq!(runs.iter().collect::<Vec<_>>(), ["last"]);
    }
}
