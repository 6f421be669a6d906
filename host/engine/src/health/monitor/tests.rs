use std::sync::Mutex;
use std::sync::atomic::Ordering;

use model::BoxFuture;
use model::source::{Held, Oldest, Seen};
use model::store::{HealthRecord, StoreError};

use super::*;
use crate::budget::Budget;
use crate::health::{Check, Health};
use crate::status::{ConfigStatus, Fault, SinkStatus, SlotStatus};

const MINUTE: Duration = Duration::from_secs(60);

/// Records in memory.
#[derive(Default)]
struct Memory(Mutex<HealthRecord>);

impl HealthRecords for Memory {
    fn load(&self) -> BoxFuture<'_, Result<HealthRecord, StoreError>> {
        Box::pin(async { Ok(self.0.lock().unwrap().clone()) })
    }

    fn record(
        &self,
        _epoch: Epoch,
        erroring: Vec<(String, i64)>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.0.lock().unwrap().erroring = erroring;
        Box::pin(async { Ok(()) })
    }

    fn dismiss<'a>(
        &'a self,
        _epoch: Epoch,
        _entity: &'a str,
        _notice: &'a str,
        _is_dismissed: bool,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}

/// A slot with one sink, and who judges them.
struct Rig {
    slot: Arc<SlotStatus>,
    sink: Arc<SinkStatus>,
    held: Held,
    status: Arc<Status>,
    records: Arc<Memory>,
    monitor: Monitor,
}

/// The paused clock, from one o'clock in the morning of 1970 on.
fn clock_us() -> i64 {
    thread_local! { static START: Instant = Instant::now(); }
    START.with(|start| 3_600_000_000 + i64::try_from(start.elapsed().as_micros()).unwrap())
}

fn rig() -> Rig {
    clock_us();
    let sink = SinkStatus { id: "i".into(), name: "poi".into(), ..SinkStatus::default() };
    let sink = Arc::new(sink);
    let slot = SlotStatus {
        name: "s".into(),
        database: "d".into(),
        sinks: vec![Arc::clone(&sink)].into(),
        ..SlotStatus::default()
    };
    let slot = Arc::new(slot);
    let status = Arc::new(Status {
        slots: vec![Arc::clone(&slot)].into(),
        budget: Budget::new(1),
        config: ConfigStatus::default(),
        health: Health::default(),
    });
    let records = Arc::<Memory>::default();
    let monitor = monitor(&status, &records);
    Rig { slot, sink, held: Held::default(), status, records, monitor }
}

fn monitor(status: &Arc<Status>, records: &Arc<Memory>) -> Monitor {
    Monitor::new(Arc::clone(status), Arc::<Memory>::clone(records), Epoch(1), clock_us)
}

impl Rig {
    /// The stream is open, and the server was asked.
    fn connect(&self) {
        self.slot.fault.set(None);
        self.slot.connects.add(1);
        self.slot.held.set(Some(self.held.clone()));
        self.slot.connected.store(true, Ordering::Relaxed);
        self.held.set(Seen::default());
    }

    fn fail(&self, code: &'static str) {
        self.slot.connected.store(false, Ordering::Relaxed);
        self.slot.held.set(None);
        let (message, help) = (format!("{code} it is"), String::new());
        self.slot.fault.set(Some(Fault { code, message, help }));
    }

    /// Judges every second for so long.
    async fn pass(&mut self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            self.monitor.turn().await;
            let next = Instant::now() + INTERVAL;
            if next > end {
                return;
            }
            tokio::time::sleep_until(next).await;
        }
    }

    async fn now(&mut self) {
        self.pass(Duration::ZERO).await;
    }

    fn slot(&self) -> Entity {
        self.status.health.entities()[0].clone()
    }

    fn sink(&self) -> Entity {
        self.status.health.entities()[1].clone()
    }

    fn check(&self, slug: &str) -> Check {
        let (slot, sink) = (self.slot(), self.sink());
        let mut all = slot.checks.iter().chain(&sink.checks);
        all.find(|check| check.slug == slug).unwrap().clone()
    }

    fn code(&self, slug: &str) -> (Level, &'static str) {
        let check = self.check(slug);
        (check.level, check.problem.map_or("", |problem| problem.code))
    }
}

#[tokio::test(start_paused = true)]
async fn b223_what_depends_on_a_source_that_is_unreachable_waits() {
    let mut rig = rig();
    rig.connect();
    rig.sink.delivered.add(1);
    rig.now().await;
    for slug in ["reachable", "replication_configuration", "replication_messages"] {
        assert_eq!(rig.check(slug).level, Level::Healthy, "{slug}");
    }
    assert_eq!((rig.slot().level, rig.sink().level), (Level::Healthy, Level::Healthy));
    rig.fail(Fault::UNREACHED);
    rig.now().await;
    assert_eq!(rig.code("reachable"), (Level::Error, "unreachable"));
    for slug in [
        "replication_configuration",
        "replication_connected",
        "replication_messages",
        "replication_lag",
        "wal_retention",
        "slot_health",
        "messages_ingested",
        "messages_filtered",
    ] {
        assert_eq!(rig.check(slug).level, Level::Waiting, "{slug}");
    }
    assert_eq!((rig.slot().level, rig.sink().level), (Level::Error, Level::Waiting));
    // Reached, and not as it should be: that is another check's.
    rig.fail("slot_missing");
    rig.now().await;
    assert_eq!(rig.code("reachable").0, Level::Healthy);
    assert_eq!(rig.code("replication_configuration"), (Level::Error, "slot_missing"));
    assert_eq!(rig.check("replication_connected").level, Level::Waiting);
}

#[tokio::test(start_paused = true)]
async fn b224_a_new_slot_that_is_not_heard_of_within_five_minutes_has_an_error() {
    let mut rig = rig();
    rig.pass(5 * MINUTE - INTERVAL).await;
    assert_eq!((rig.code("reachable"), rig.slot().level), ((Level::Waiting, ""), Level::Waiting));
    rig.pass(2 * INTERVAL).await;
    assert_eq!(rig.code("reachable"), (Level::Error, "reachability_unknown"));
    rig.connect();
    rig.now().await;
    assert_eq!(rig.code("reachable"), (Level::Healthy, ""));
}

#[tokio::test(start_paused = true)]
async fn b225_neither_row_nor_heartbeat_for_ten_minutes_is_an_error_and_rows_alone_are_none() {
    let mut rig = rig();
    rig.held.expect_beats();
    rig.connect();
    rig.pass(10 * MINUTE - INTERVAL).await;
    assert_eq!(rig.code("replication_messages"), (Level::Healthy, ""));
    rig.pass(2 * INTERVAL).await;
    assert_eq!(rig.code("replication_messages"), (Level::Error, "no_heartbeat"));
    // A heartbeat is enough,
    rig.held.beat(Instant::now().into_std());
    rig.pass(10 * MINUTE - INTERVAL).await;
    assert_eq!(rig.code("replication_messages"), (Level::Healthy, ""));
    // and so are rows.
    for _ in 0..4 {
        rig.slot.ingested.add(1);
        rig.pass(9 * MINUTE).await;
        assert_eq!(rig.code("replication_messages"), (Level::Healthy, ""));
    }
    rig.pass(2 * MINUTE).await;
    assert_eq!(rig.code("replication_messages"), (Level::Error, "no_heartbeat"));
    // On a standby none can be written, and where none is wanted none is missed.
    rig.held.set(Seen { is_standby: true, ..Seen::default() });
    rig.now().await;
    assert_eq!(rig.code("replication_messages"), (Level::Healthy, ""));
}

#[tokio::test(start_paused = true)]
async fn b226_lag_above_the_limit_is_a_warning_with_bytes() {
    let mut rig = rig();
    rig.connect();
    rig.held.set(Seen { behind: 2_499_999_999, ..Seen::default() });
    rig.now().await;
    assert_eq!(rig.code("replication_lag"), (Level::Healthy, ""));
    let lag = Some(Duration::from_secs(77));
    rig.held.set(Seen { behind: 2_500_000_001, lag, ..Seen::default() });
    rig.now().await;
    assert_eq!(rig.code("replication_lag"), (Level::Warning, "replication_lag_high"));
    let message = rig.check("replication_lag").problem.unwrap().message;
    assert!(message.contains("2500000001 bytes") && message.contains("77 s"), "{message}");
    assert_eq!(rig.slot().level, Level::Warning);
}

#[tokio::test(start_paused = true)]
async fn b227_a_slot_near_its_end_warns_before_the_loss() {
    let mut rig = rig();
    rig.connect();
    let status = |status: &str| Some(status.to_owned());
    let reserved = Seen { wal_status: status("reserved"), safe: Some(1 << 40), ..Seen::default() };
    let mut code = async |seen: Seen| {
        rig.held.set(seen);
        rig.now().await;
        rig.code("wal_retention")
    };
    let (healthy, warning) = ((Level::Healthy, ""), (Level::Warning, "wal_retention_low"));
    assert_eq!(code(reserved.clone()).await, healthy);
    assert_eq!(code(Seen { wal_status: status("extended"), ..reserved.clone() }).await, warning);
    let low = Seen { safe: Some(1 << 29), behind: 9, ..reserved.clone() };
    assert_eq!(code(low.clone()).await, warning);
    assert_eq!(code(Seen { behind: 0, ..low }).await, healthy, "it follows the log");
    let fast = Seen { behind: 9, written_per_second: Some(1 << 30), ..reserved.clone() };
    assert_eq!(code(fast.clone()).await, warning, "by the forecast");
    let lost = Seen { wal_status: status("unreserved"), ..reserved.clone() };
    assert_eq!(code(lost).await, (Level::Error, "wal_unreserved"));
    let age = Duration::from_secs(4_000);
    let oldest = Some(Oldest { who: "process 7".to_owned(), age });
    let long = Seen { oldest: oldest.clone(), ..reserved };
    assert_eq!(code(long).await, (Level::Notice, "long_transaction"));
    code(Seen { oldest, ..fast }).await;
    let message = rig.check("wal_retention").problem.unwrap().message;
    for part in ["1099511627776 more bytes", "in 1024 s", "open for 4000 s", "process 7"] {
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn b228_a_table_without_its_old_rows_is_a_notice_until_it_is_dismissed() {
    let mut rig = rig();
    rig.connect();
    let tables = ["public.a".to_owned(), "public.b".to_owned()];
    let seen = Seen { tables_without_old_rows: tables.into(), ..Seen::default() };
    rig.held.set(seen);
    rig.now().await;
    let notices =
        |rig: &Rig| -> Vec<String> { rig.slot().checks.iter().filter_map(Check::notice).collect() };
    let all = ["replica_identity_not_full:public.a", "replica_identity_not_full:public.b"];
    assert_eq!(notices(&rig), all);
    assert_eq!(rig.slot().level, Level::Healthy, "a notice counts for nothing");
    let record = (rig.slot().key(), all[0].to_owned());
    rig.records.0.lock().unwrap().dismissed = vec![record.clone()];
    rig.status.health.dismiss(&record.0, &record.1, true);
    rig.now().await;
    assert_eq!(notices(&rig), all[1..]);
    rig.status.health.dismiss(&record.0, &record.1, false);
    rig.now().await;
    assert_eq!(notices(&rig), all);
    // After a restart.
    rig.monitor = monitor(&rig.status, &rig.records);
    rig.now().await;
    assert_eq!(notices(&rig), all[1..]);
}

#[tokio::test(start_paused = true)]
async fn b229_a_paused_or_disabled_sink_is_paused_whatever_its_checks_say() {
    let mut rig = rig();
    rig.connect();
    rig.sink.last_error.set("503".to_owned());
    rig.sink.paused.set(1);
    rig.status.config.disabled.set(vec![Arc::new(("x".into(), "off".into()))]);
    rig.pass(MINUTE).await;
    assert_eq!(rig.sink().level, Level::Paused);
    let off = rig.status.health.entities().pop().unwrap();
    assert_eq!((off.name.as_str(), off.level), ("off", Level::Paused));
    assert_eq!(rig.status.health.flips(), [], "nobody is woken");
}

#[tokio::test(start_paused = true)]
async fn b230_since_when_a_sink_fails_survives_a_restart() {
    let mut rig = rig();
    rig.connect();
    rig.sink.delivered.add(1);
    rig.pass(MINUTE).await;
    let began = clock_us();
    rig.sink.last_error.set("503".to_owned());
    rig.pass(10 * MINUTE).await;
    assert_eq!(rig.sink().erroring_since_us, Some(began));
    // The next process knows nothing of the sink at first, then it fails again.
    rig.sink.last_error.set(None);
    rig.slot.connected.store(false, Ordering::Relaxed);
    rig.monitor = monitor(&rig.status, &rig.records);
    rig.pass(MINUTE).await;
    assert_eq!(rig.sink().erroring_since_us, Some(began), "not known is not over");
    rig.connect();
    rig.sink.last_error.set("503".to_owned());
    rig.pass(MINUTE).await;
    assert_eq!(rig.sink().erroring_since_us, Some(began));
    assert_eq!(rig.status.health.flips().len(), 1, "and it is not told again");
    rig.sink.last_error.set(None);
    rig.pass(MINUTE).await;
    assert_eq!(rig.sink().erroring_since_us, None);
    assert_eq!(rig.records.0.lock().unwrap().erroring, []);
}

#[tokio::test(start_paused = true)]
async fn b231_one_alert_and_one_resolve_for_each_flip() {
    let mut rig = rig();
    rig.connect();
    rig.pass(MINUTE).await;
    // Too short to be told.
    rig.fail(Fault::UNREACHED);
    rig.pass(Duration::from_secs(3)).await;
    rig.connect();
    rig.pass(MINUTE).await;
    assert_eq!(rig.status.health.flips(), []);
    let began = clock_us();
    rig.fail(Fault::UNREACHED);
    rig.pass(5 * MINUTE).await;
    // Another error of the same is no other alert.
    rig.fail("slot_missing");
    rig.pass(5 * MINUTE).await;
    let flips = rig.status.health.flips();
    assert_eq!(flips.len(), 1, "{flips:?}");
    assert!(flips[0].is_alert && flips[0].kind == Kind::Slot);
    assert_eq!(flips[0].erroring_since_us, began);
    assert_eq!(flips[0].problem.as_ref().unwrap().code, "unreachable");
    rig.connect();
    rig.pass(5 * MINUTE).await;
    let flips = rig.status.health.flips();
    assert_eq!(flips.len(), 2);
    assert!(!flips[0].is_alert, "the newest first");
    assert_eq!((flips[0].erroring_since_us, flips[0].level), (began, Level::Healthy));
    let health = &rig.status.health;
    assert_eq!((health.alerts.get(), health.resolved.get()), (1, 1));
    // For who follows them: each once, in their order.
    let (all, told, missed) = health.flips_after(0);
    assert_eq!((all.len(), all[0].is_alert, told, missed), (2, true, 2, 0));
    assert_eq!(health.flips_after(1), (vec![flips[0].clone()], 2, 0));
    assert_eq!(health.flips_after(2), (Vec::new(), 2, 0));
    for _ in 0..crate::health::FLIPS_MAX {
        health.tell(flips[0].clone());
    }
    assert_eq!(health.flips_after(0).2, 2, "what was not kept is counted");
}
