//! A sink that answers as told and remembers what reached it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use model::BoxFuture;
use model::batch::{Batch, BatchPolicy, Grouping};
use model::message::Message;
use model::route::{Route, RouteError};
use model::sent::{Request, Text};
use model::sink::{Retry, Sink, SinkError, SinkKind, Verdict};

/// How a request goes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    /// How long it takes.
    pub(crate) after: Duration,
    /// The request as a whole fails.
    pub(crate) error: Option<SinkError>,
    /// The messages get through all the same: the answer was lost.
    pub(crate) lost: bool,
    /// These messages of it are rejected, by index.
    pub(crate) rejected: Vec<(usize, Retry)>,
    /// The sink's code is at fault.
    pub(crate) panics: bool,
}

type Script = Box<dyn FnMut(&Batch) -> Answer + Send>;

/// The sink. `script` decides how each request goes.
pub(crate) struct Recording {
    policy: BatchPolicy,
    kind: SinkKind,
    script: Mutex<Script>,
    /// Messages that got through, in order, repeats included.
    received: Mutex<Vec<Arc<Message>>>,
    /// Sizes of the requests.
    requests: Mutex<Vec<usize>>,
    /// It takes the routing key `topic`, which must not be `nowhere`, and one topic in a request.
    routed: bool,
}

impl Recording {
    pub(crate) fn new(
        grouping: Grouping,
        messages_max: usize,
        script: impl FnMut(&Batch) -> Answer + Send + 'static,
    ) -> Arc<Self> {
        Self::of_kind(SinkKind::Log, grouping, messages_max, script)
    }

    /// An index that accepts everything.
    pub(crate) fn index() -> Arc<Self> {
        Self::of_kind(SinkKind::State, Grouping::Apart, 10, |_| Answer::default())
    }

    /// An index that refuses everything for good.
    pub(crate) fn refusing_index() -> Arc<Self> {
        Self::of_kind(SinkKind::State, Grouping::Apart, 1, |_| Answer {
            rejected: vec![(0, Retry::Never)],
            ..Answer::default()
        })
    }

    pub(crate) fn of_kind(
        kind: SinkKind,
        grouping: Grouping,
        messages_max: usize,
        script: impl FnMut(&Batch) -> Answer + Send + 'static,
    ) -> Arc<Self> {
        let policy = BatchPolicy {
            messages_max,
            bytes_max: 1 << 20,
            message_bytes_max: None,
            request_overhead: 0,
            message_overhead: 0,
            linger: Duration::from_millis(5),
            requests_max: 4,
            grouping,
            one_route: false,
        };
        Arc::new(Self {
            policy,
            kind,
            script: Mutex::new(Box::new(script)),
            received: Mutex::default(),
            requests: Mutex::default(),
            routed: false,
        })
    }

    /// The same, with a topic for each message.
    pub(crate) fn routed(self: Arc<Self>) -> Arc<Self> {
        let Ok(sink) = Arc::try_unwrap(self) else { panic!("in use already") };
        let policy = BatchPolicy { one_route: true, ..sink.policy };
        Arc::new(Self { routed: true, policy, ..sink })
    }

    /// The same, and it takes no message that has more bytes.
    pub(crate) fn bounded(self: Arc<Self>, message_bytes_max: usize) -> Arc<Self> {
        let Ok(sink) = Arc::try_unwrap(self) else { panic!("in use already") };
        let policy = BatchPolicy { message_bytes_max: Some(message_bytes_max), ..sink.policy };
        Arc::new(Self { policy, ..sink })
    }

    /// Accepts everything.
    pub(crate) fn willing() -> Arc<Self> {
        Self::new(Grouping::Apart, 10, |_| Answer::default())
    }

    pub(crate) fn received(&self) -> Vec<Arc<Message>> {
        self.received.lock().unwrap().clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.received.lock().unwrap().len()
    }

    pub(crate) fn requests(&self) -> Vec<usize> {
        self.requests.lock().unwrap().clone()
    }
}

/// A failure that another attempt may not meet.
pub(crate) fn refusal() -> Option<SinkError> {
    Some(SinkError::later("503"))
}

impl Sink for Recording {
    fn kind(&self) -> SinkKind {
        self.kind
    }

    fn batch_policy(&self) -> BatchPolicy {
        self.policy
    }

    fn check(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async { Ok(()) })
    }

    fn check_route(&self, route: &Route) -> Result<(), RouteError> {
        let wrong = |field: &str, message: &str| {
            Err(RouteError { field: field.into(), message: message.to_owned() })
        };
        match route.keys().find(|(key, _)| *key != "topic" || !self.routed) {
            Some((key, _)) => wrong(key, "is no routing key of this sink"),
            None if route.text("topic")? == Some("nowhere") => wrong("topic", "does not exist"),
            None => Ok(()),
        }
    }

    fn deliver<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Vec<Verdict>, SinkError>> {
        let mut routes = batch.messages().iter().map(|message| &message.route);
        let first = routes.next();
        assert!(!self.policy.one_route || routes.all(|route| Some(route) == first), "one route");
        let answer = (self.script.lock().unwrap())(batch);
        Box::pin(async move {
            tokio::time::sleep_until(tokio::time::Instant::now() + answer.after).await;
            assert!(!answer.panics, "as planned");
            self.requests.lock().unwrap().push(batch.messages().len());
            if let Some(requests) = batch.requests() {
                requests.note(Request {
                    method: "POST".to_owned(),
                    url: String::new(),
                    headers: Vec::new(),
                    body: Text::of(b""),
                    answer: None,
                });
            }
            let mut verdicts = vec![Verdict::Delivered; batch.messages().len()];
            for (index, retry) in &answer.rejected {
                verdicts[*index] = Verdict::Rejected { retry: *retry, error: "no".into() };
            }
            let through = answer.error.is_none() || answer.lost;
            for (message, verdict) in batch.messages().iter().zip(&verdicts) {
                if through && *verdict == Verdict::Delivered {
                    self.received.lock().unwrap().push(Arc::clone(message));
                }
            }
            match answer.error {
                Some(error) => Err(error),
                None => Ok(verdicts),
            }
        })
    }
}
