//! The same for sinks without a server: what they have taken is where they left it.

use std::path::Path;
use std::sync::{Arc, Mutex};

use model::batch::Batch;
use model::message::Effect;
use model::route::{Route, RouteValue};
use model::sink::{Sink, SinkKind, Verdict};

use super::{BATCHING, message, writes};
use crate::stdout::Stdout;

type Arrived = Box<dyn Fn() -> Vec<String>>;

/// A sink, and what has arrived.
struct Subject {
    name: &'static str,
    sink: Arc<dyn Sink>,
    arrived: Arrived,
}

/// Where a test looks at what is printed.
#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn subjects(dir: &Path) -> [Subject; 3] {
    let path = dir.join("events.ndjson");
    let options = options::file::Ready { path: path.clone(), sync: true, rotate_bytes: None };
    let in_file = move || lines(&std::fs::read_to_string(&path).unwrap_or_default());
    let screen = Screen::default();
    let stdout = Arc::new(Stdout::new(screen.clone(), BATCHING));
    let printed = move || lines(std::str::from_utf8(&screen.0.lock().unwrap()).unwrap());
    [
        Subject {
            name: "file",
            sink: crate::file(options, BATCHING),
            arrived: Box::new(in_file) as Arrived,
        },
        Subject { name: "stdout", sink: stdout, arrived: Box::new(printed) },
        Subject {
            name: "benchmark",
            sink: crate::benchmark(BATCHING),
            arrived: Box::new(Vec::new),
        },
    ]
}

fn lines(text: &str) -> Vec<String> {
    assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_batch_is_judged_message_by_message_and_arrives_in_order() {
    let dir = tempfile::tempdir().unwrap();
    for Subject { name, sink, arrived } in subjects(dir.path()) {
        let policy = sink.batch_policy();
        assert!(policy.messages_max > 0 && policy.requests_max > 0 && policy.bytes_max > 0);
        assert_eq!(sink.kind(), SinkKind::Log, "{name}");
        sink.check().await.expect(name);
        assert!(arrived().is_empty(), "{name}: a check writes nothing");
        let verdicts = sink.deliver(&writes(1..=3)).await.unwrap();
        assert_eq!(verdicts, vec![Verdict::Delivered; 3], "{name}");
        sink.deliver(&writes(4..=4)).await.unwrap();
        let payload = |number| message(number, Effect::Write).payload.to_string();
        let wanted = if name == "benchmark" { vec![] } else { (1..=4).map(payload).collect() };
        assert_eq!(arrived(), wanted, "{name}");
    }
}

#[tokio::test]
async fn a_message_is_one_line_however_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    for Subject { name, sink, arrived } in subjects(dir.path()) {
        let mut message = (*message(1, Effect::Write)).clone();
        message.payload = "{\"a\":\r\n{\n\"b\": \"x\\ny\"}}".into();
        sink.deliver(&Batch::new(vec![Arc::new(message)]).unwrap()).await.unwrap();
        let wanted = if name == "benchmark" { &[][..] } else { &[r#"{"a":  { "b": "x\ny"}}"#] };
        assert_eq!(arrived(), wanted, "{name}");
    }
}

#[tokio::test]
async fn there_is_nowhere_else_to_send_to() {
    let dir = tempfile::tempdir().unwrap();
    let route = Route::new([("path".into(), RouteValue::Text("/x".into()))]);
    for Subject { name, sink, .. } in subjects(dir.path()) {
        assert_eq!(&*sink.check_route(&route).expect_err(name).field, "path");
    }
}
