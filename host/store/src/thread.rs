//! A thread that waits for the disk, so that no other does.

use std::sync::mpsc;

use model::BoxFuture;
use model::store::StoreError;
use tokio::sync::oneshot;

/// Work that waits: each caller awaits its answer, so there are never more than a few.
const QUEUE_MAX: usize = 256;

type Job = Box<dyn FnOnce() + Send>;

/// Ends with what it is part of.
pub(crate) struct Thread {
    jobs: mpsc::SyncSender<Job>,
}

impl Thread {
    pub(crate) fn new(name: &str) -> Result<Self, StoreError> {
        let (jobs, queue) = mpsc::sync_channel::<Job>(QUEUE_MAX);
        let work = move || {
            while let Ok(job) = queue.recv() {
                job();
            }
        };
        let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(work);
        spawned.map_err(|error| StoreError::Unavailable(format!("no thread: {error}")))?;
        Ok(Self { jobs })
    }

    /// Does the work there. It is done also when nobody awaits the answer any more.
    pub(crate) fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move || drop(answer.send(work())));
        let sent = self.jobs.try_send(job);
        Box::pin(async move {
            let gone =
                || StoreError::Unavailable("the thread that writes to the disk is gone".to_owned());
            match sent {
                Ok(()) => answered.await.map_err(|_| gone())?,
                Err(mpsc::TrySendError::Full(_)) => {
                    Err(StoreError::Unavailable("the disk is too slow: too much waits".into()))
                }
                Err(mpsc::TrySendError::Disconnected(_)) => Err(gone()),
            }
        })
    }
}
