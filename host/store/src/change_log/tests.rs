use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard};

use model::change::{Change, Operation, Transaction};
use model::chunk::Writer;
use model::page::{Builder, Extent, Value};
use model::position::Position;
use model::relation::{Column, Identity, Kind, Relation, Rendered};

use super::disk::DiskFile;
use super::*;

/// A disk that forgets what was not synced when the power is cut, and that can be full.
#[derive(Clone, Default)]
struct Lossy(Arc<Mutex<Disks>>);

#[derive(Default)]
struct Disks {
    files: HashMap<PathBuf, Content>,
    room: Option<usize>,
}

#[derive(Clone, Default)]
struct Content {
    written: Vec<u8>,
    synced: Vec<u8>,
    /// Its name is on the disk.
    named: bool,
}

struct LossyFile {
    disk: Lossy,
    path: PathBuf,
}

impl Lossy {
    fn lock(&self) -> MutexGuard<'_, Disks> {
        self.0.lock().unwrap()
    }

    /// Of what was not synced, some is there and some is not: a part of it, or nothing, or garbage.
    fn cut_power(&self, dice: &mut fastrand::Rng) {
        let mut disks = self.lock();
        disks.files.retain(|_, content| content.named);
        for content in disks.files.values_mut() {
            let mut left = content.synced.clone();
            let more = content.written.len().saturating_sub(left.len());
            let kept = if more > 0 { dice.usize(0..=more) } else { 0 };
            let from = left.len().min(content.written.len());
            left.extend_from_slice(&content.written[from..from + kept]);
            if kept > 0 && dice.bool() {
                let at = content.synced.len() + dice.usize(0..kept);
                left[at] ^= 0x55;
            }
            content.written.clone_from(&left);
            content.synced = left;
        }
    }
}

impl Disk for Lossy {
    fn make_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn name(&self, _: &Path, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.lock().files.keys().cloned().collect())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.lock().files.insert(path.to_owned(), Content::default());
        self.open(path)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(LossyFile { disk: self.clone(), path: path.to_owned() }))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.lock().files.remove(path);
        Ok(())
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        for content in self.lock().files.values_mut() {
            content.named = true;
        }
        Ok(())
    }
}

impl LossyFile {
    fn with<T>(&self, work: impl FnOnce(&mut Content) -> T) -> io::Result<T> {
        let mut disks = self.disk.lock();
        let content = disks.files.get_mut(&self.path);
        content.map(work).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl DiskFile for LossyFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|content| content.written.len() as u64)
    }

    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let room = self.disk.lock().room;
        let fits = room.map_or(bytes.len(), |room| room.min(bytes.len()));
        self.disk.lock().room = room.map(|room| room - fits);
        let at = at as usize;
        self.with(|content| {
            let len = content.written.len().max(at + fits);
            content.written.resize(len, 0);
            content.written[at..at + fits].copy_from_slice(&bytes[..fits]);
        })?;
        if fits == bytes.len() { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }

    fn read(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        let at = at as usize;
        self.with(|content| {
            let from = content.written.get(at..at + into.len());
            from.map(|from| into.copy_from_slice(from)).ok_or(io::ErrorKind::UnexpectedEof.into())
        })?
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|content| content.synced = content.written.clone())
    }
}

fn relation(oid: u32) -> Arc<Relation> {
    let (kind, type_name) = (Kind::Text, "text".into());
    Arc::new(Relation {
        oid,
        schema: "public".into(),
        table: "t".into(),
        ancestors: Vec::new(),
        identity: Identity::Default,
        columns: vec![Column { name: "id".into(), kind, type_name, key: true }],
        rendered: Rendered::default(),
    })
}

/// A chunk of one change for sink `a`, of about so many bytes.
fn chunk(lsn: u64, bytes: usize) -> Written {
    let mut builder = Builder::default();
    let first = builder.begin_row();
    builder.copy(Value::Text(&"x".repeat(bytes)));
    let row = builder.end_row(first, Extent::Full);
    let transaction = Arc::new(Transaction::new(Lsn(lsn), 1, 0));
    let position = Position::new(Lsn(lsn), 0);
    builder.change(
        position,
        Operation::Insert,
        relation(lsn as u32 % 3),
        transaction,
        None,
        Some(row),
    );
    let mut writer = Writer::new(vec!["a".into()]);
    let change: Change = builder.finish().remove(0);
    writer.push(&change, [0], |relation| RelationHash::of(&relation.to_bytes()));
    writer.finish().unwrap()
}

async fn open_on(disk: &Lossy, refetched: u64, synced: Option<Synced>) -> OpenLog {
    try_open(disk, refetched, synced).await.unwrap()
}

async fn try_open(
    disk: &Lossy,
    refetched: u64,
    synced: Option<Synced>,
) -> Result<OpenLog, StoreError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let (refetched, synced) = (Lsn(refetched), synced.unwrap_or_default());
    let opening = Opening { epoch: Epoch(1), refetched, synced, segment_bytes: 3_000 };
    open(disk, "/log".into(), "o".into(), opening).await
}

/// What of the part is valid, from its beginning: LSNs.
async fn all(log: &OpenLog, part: Part) -> Vec<u64> {
    let (mut lsns, mut at) = (Vec::new(), Address::default());
    while let Some(logged) = log.read(part, at).await.unwrap() {
        assert!(logged.address >= at && logged.next > logged.address);
        at = logged.next;
        let lsn = logged.span.0.commit_lsn;
        if lsn < logged.void_from {
            lsns.push(lsn.0);
        }
    }
    lsns
}

#[tokio::test]
async fn what_was_appended_is_read_in_order_across_segments_until_it_is_trimmed() {
    let disk = Lossy::default();
    let log = open_on(&disk, 0, None).await;
    let mut addresses = Vec::new();
    for lsn in 1..=6 {
        addresses.push(log.append(Part::Stream, chunk(lsn, 1_000)).await.unwrap());
    }
    log.append(Part::Kept, chunk(3, 10)).await.unwrap();
    assert_eq!(all(&log, Part::Stream).await, [1, 2, 3, 4, 5, 6]);
    assert_eq!(all(&log, Part::Kept).await, [3]);
    let before = log.bytes();
    let first = log.first_end(Part::Stream).unwrap();
    log.trim(Part::Stream, Address(first.0 - 1)).await.unwrap();
    assert_eq!(log.bytes(), before, "something of the segment is needed");
    log.trim(Part::Stream, first).await.unwrap();
    assert!(log.bytes() < before);
    assert_eq!(all(&log, Part::Stream).await, [4, 5, 6]);
    log.trim(Part::Stream, log.end(Part::Stream)).await.unwrap();
    // Where addresses go on is not forgotten.
    let next = log.append(Part::Stream, chunk(7, 10)).await.unwrap();
    assert!(next > addresses[5] && log.read(Part::Stream, next).await.unwrap().is_some());
    let bytes = log.relation(RelationHash::of(&relation(1).to_bytes())).await.unwrap();
    assert_eq!(Relation::from_bytes(&bytes).unwrap(), *relation(1));
}

#[tokio::test]
async fn a_later_process_reads_what_is_below_the_confirmed_position_and_fetches_the_rest_again() {
    let disk = Lossy::default();
    let log = open_on(&disk, 0, None).await;
    for lsn in 1..=5 {
        log.append(Part::Stream, chunk(lsn, 10)).await.unwrap();
    }
    let synced = log.sync().await.unwrap();
    drop(log);
    // The server has sent everything from 4 on again.
    let log = open_on(&disk, 4, Some(synced)).await;
    assert_eq!(all(&log, Part::Stream).await, [1, 2, 3]);
    for lsn in [4, 6] {
        log.append(Part::Stream, chunk(lsn, 10)).await.unwrap();
    }
    assert_eq!(all(&log, Part::Stream).await, [1, 2, 3, 4, 6]);
    drop(log);
    let log = open_on(&disk, 9, None).await;
    assert_eq!(all(&log, Part::Stream).await, [1, 2, 3, 4, 6], "what was void stays so");
}

#[tokio::test]
async fn b182_what_one_process_appends_over_several_segments_is_read_by_the_next() {
    let disk = Lossy::default();
    let log = open_on(&disk, 1, None).await;
    for lsn in 1..=40 {
        log.append(Part::Stream, chunk(lsn, 400)).await.unwrap();
    }
    let synced = log.sync().await.unwrap();
    drop(log);
    assert!(disk.lock().files.len() > 5, "several segments");
    // All of it is confirmed: nothing comes again.
    let log = open_on(&disk, 41, Some(synced)).await;
    assert_eq!(all(&log, Part::Stream).await, (1..=40).collect::<Vec<_>>());
}

#[tokio::test]
async fn b197_only_what_was_not_synced_is_lost_and_damage_below_is_told() {
    for seed in 0..500 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let disk = Lossy::default();
        let (mut synced, mut sure, mut lsn) = (None, Vec::new(), 0);
        let mut sure_kept = 0;
        for _life in 0..4 {
            let log = open_on(&disk, u64::MAX, synced).await;
            let there = all(&log, Part::Stream).await;
            assert!(there.starts_with(&sure), "seed {seed}: {there:?} without {sure:?}");
            assert!(all(&log, Part::Kept).await.len() >= sure_kept, "seed {seed}");
            let mut appended = there;
            let mut kept = all(&log, Part::Kept).await.len();
            for _ in 0..dice.usize(0..24) {
                lsn += 1;
                let bytes = if dice.u8(0..20) == 0 { 2_000 } else { dice.usize(0..200) };
                if dice.u8(0..4) == 0 {
                    log.append(Part::Kept, chunk(lsn, bytes.min(300))).await.unwrap();
                    kept += 1;
                } else {
                    log.append(Part::Stream, chunk(lsn, bytes)).await.unwrap();
                    appended.push(lsn);
                }
                if dice.u8(0..3) == 0 {
                    synced = Some(log.sync().await.unwrap());
                    (sure, sure_kept) = (appended.clone(), kept);
                }
            }
            drop(log);
            disk.cut_power(&mut dice);
        }
    }
}

#[tokio::test]
async fn b197_a_log_that_lost_what_was_synced_is_refused() {
    let disk = Lossy::default();
    let log = open_on(&disk, 0, None).await;
    let first = log.append(Part::Stream, chunk(1, 100)).await.unwrap();
    log.append(Part::Stream, chunk(2, 100)).await.unwrap();
    let synced = log.sync().await.unwrap();
    drop(log);
    let whole = disk.lock().files.clone();
    let path = PathBuf::from("/log").join("s-00000001.log");
    disk.lock().files.get_mut(&path).unwrap().written.truncate(220);
    let refused = try_open(&disk, 9, Some(synced)).await.err().unwrap();
    assert!(matches!(refused, StoreError::Damaged { .. }), "{refused}");
    disk.lock().files.clear();
    let refused = try_open(&disk, 9, Some(synced)).await.err().unwrap();
    assert!(refused.to_string().contains("are missing"), "{refused}");
    // In the middle of it: what is before is read, and where it goes on is told.
    disk.lock().files = whole;
    let log = open_on(&disk, 9, Some(synced)).await;
    disk.lock().files.get_mut(&path).unwrap().written[60] ^= 1;
    let damaged = log.read(Part::Stream, first).await;
    let Err(StoreError::Damaged { next, .. }) = damaged else { panic!("{damaged:?}") };
    assert!(log.read(Part::Stream, next).await.unwrap().is_none());
}

#[tokio::test]
async fn b196_a_full_disk_takes_nothing_and_goes_on_once_there_is_room() {
    let disk = Lossy::default();
    let log = open_on(&disk, 0, None).await;
    log.append(Part::Stream, chunk(1, 100)).await.unwrap();
    disk.lock().room = Some(70);
    for _ in 0..3 {
        let refused = log.append(Part::Stream, chunk(2, 100)).await;
        assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    }
    disk.lock().room = None;
    log.append(Part::Stream, chunk(2, 100)).await.unwrap();
    assert_eq!(all(&log, Part::Stream).await, [1, 2]);
    let synced = log.sync().await.unwrap();
    drop(log);
    let log = open_on(&disk, 9, Some(synced)).await;
    assert_eq!(all(&log, Part::Stream).await, [1, 2]);
}

/// Chaos found it: without this, everything that was logged of the table from then on was lost.
#[tokio::test]
async fn b183_b196_a_relation_of_which_a_kill_left_a_part_is_written_anew() {
    let disk = Lossy::default();
    let log = open_on(&disk, 0, None).await;
    disk.lock().room = Some(10);
    let refused = log.append(Part::Stream, chunk(1, 100)).await;
    assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    drop(log);
    disk.lock().room = None;
    let log = open_on(&disk, 0, None).await;
    log.append(Part::Stream, chunk(1, 100)).await.unwrap();
    let bytes = log.relation(RelationHash::of(&relation(1).to_bytes())).await.unwrap();
    assert_eq!(Relation::from_bytes(&bytes).unwrap(), *relation(1));
}

#[tokio::test]
async fn a_log_in_a_data_directory_is_found_again_and_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let appended = async |lsn| {
        let store = Embedded::open(directory.path()).unwrap();
        let log = ChangeLogs::open(&store, store.epoch(), "o/slot/p", Lsn(99), None).await.unwrap();
        log.append(Part::Stream, chunk(lsn, 10)).await.unwrap();
        log.sync().await.unwrap();
        let mut lsns = Vec::new();
        let mut at = Address::default();
        while let Some(logged) = log.read(Part::Stream, at).await.unwrap() {
            lsns.push(logged.span.0.commit_lsn.0);
            at = logged.next;
        }
        lsns
    };
    assert_eq!(appended(1).await, [1]);
    assert_eq!(appended(2).await, [1, 2]);
    forget(directory.path(), |origin| origin == "another").unwrap();
    assert_eq!(appended(3).await, [1, 2, 3]);
    forget(directory.path(), |origin| origin == "o/slot/p").unwrap();
    assert_eq!(appended(4).await, [4]);
}
