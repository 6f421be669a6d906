//! The segments of a log and what is known of them.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::chunk::{RelationHash, Written};
use model::lsn::Lsn;
use model::store::{Address, Logged, Part, StoreError, Synced};

use super::disk::{Disk, DiskFile};
use super::segment::{HEAD, Head, RECORD_HEAD, RecordHead, record};
use super::{Opening, failed};

/// What both threads work with. Only the writing one changes what is known; locks are not held while
/// the disk is waited for.
pub(super) struct State {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    opening: Opening,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    stream: Segments,
    kept: Segments,
    /// Relation versions that have their file.
    relations: HashSet<RelationHash>,
}

/// By number, rising.
type Segments = BTreeMap<u32, Segment>;

#[derive(Clone)]
struct Segment {
    file: Arc<dyn DiskFile>,
    /// What is valid of it, in bytes.
    len: u64,
    /// Changes of transactions from here on are void.
    void_from: Lsn,
    /// It may have bytes that are not on the disk.
    dirty: bool,
}

fn address(number: u32, offset: u64) -> Address {
    Address(u64::from(number) << 32 | offset)
}

fn place(address: Address) -> (u32, u64) {
    ((address.0 >> 32) as u32, address.0 & u64::from(u32::MAX))
}

/// The file of a segment.
fn file_name(part: Part, number: u32) -> String {
    let letter = match part {
        Part::Stream => 's',
        Part::Kept => 'k',
    };
    format!("{letter}-{number:08}.log")
}

fn relation_name(hash: RelationHash) -> String {
    format!("r-{hash:?}")
}

impl Known {
    fn of(&self, part: Part) -> &Segments {
        match part {
            Part::Stream => &self.stream,
            Part::Kept => &self.kept,
        }
    }

    fn of_mut(&mut self, part: Part) -> &mut Segments {
        match part {
            Part::Stream => &mut self.stream,
            Part::Kept => &mut self.kept,
        }
    }
}

impl State {
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        directory: PathBuf,
        opening: Opening,
    ) -> Result<Self, StoreError> {
        let mut known = Known::default();
        let files = disk.list(&directory).map_err(failed)?;
        let names = files.iter().filter_map(|path| path.file_name()?.to_str());
        let mut numbers: [Vec<u32>; 2] = [Vec::new(), Vec::new()];
        let mut relations = Vec::new();
        for name in names {
            let number =
                |letter: &str| name.strip_prefix(letter)?.strip_suffix(".log")?.parse::<u32>().ok();
            let [stream, kept] = &mut numbers;
            stream.extend(number("s-"));
            kept.extend(number("k-"));
            relations.extend(name.strip_prefix("r-").and_then(hash_of));
        }
        let state = Self { disk, directory, opening, known: Mutex::default() };
        for hash in relations {
            match state.relation(hash) {
                Ok(_) => {
                    known.relations.insert(hash);
                }
                // A process that ended while it wrote, or a full disk, left a part of it: whoever
                // needs it next writes it anew.
                Err(StoreError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        for (part, numbers) in [Part::Stream, Part::Kept].into_iter().zip(&mut numbers) {
            numbers.sort_unstable();
            *known.of_mut(part) = state.read_segments(part, numbers)?;
            let end = end(known.of(part));
            let synced = match part {
                Part::Stream => opening.synced.stream,
                Part::Kept => opening.synced.kept,
            };
            // Of what was trimmed nothing is missing.
            let is_lost = !known.of(part).is_empty() || synced > Address::default();
            if end < synced && is_lost && place(synced).1 > HEAD {
                return Err(StoreError::Damaged {
                    what: format!(
                        "the change log in {} was synced up to {synced:?} of {part:?}, and what \
                         can be read of it ends at {end:?}: changes that the server has no more \
                         are missing",
                        state.directory.display()
                    ),
                    next: end,
                });
            }
        }
        *state.lock() = known;
        for part in [Part::Stream, Part::Kept] {
            // Says that changes of earlier processes are void from here on, before any of ours is
            // appended, and for the processes to come.
            if !state.lock().of(part).is_empty() {
                state.begin_segment(part, opening.refetched)?;
            }
        }
        Ok(state)
    }

    /// The segments of these numbers, rising, each cut where it ends.
    fn read_segments(&self, part: Part, numbers: &[u32]) -> Result<Segments, StoreError> {
        let mut segments = Segments::new();
        let (mut void_from, mut next_len) = (self.opening.refetched, None);
        for number in numbers.iter().rev() {
            let path = self.directory.join(file_name(part, *number));
            let file = self.disk.open(&path).map_err(failed)?;
            let mut head = vec![0; HEAD as usize];
            let head = file.read(&mut head, 0).ok().and_then(|()| Head::from_bytes(&head));
            let Some(head) = head else {
                if next_len.is_none() {
                    // Begun by a process that was killed before it wrote anything to it.
                    continue;
                }
                return Err(StoreError::Damaged {
                    what: format!("{} of the change log cannot be read", path.display()),
                    next: address(number + 1, 0),
                });
            };
            let len = match next_len {
                Some(len) => len,
                None => self.valid_len(file.as_ref())?,
            };
            segments.insert(*number, Segment { file, len, void_from, dirty: true });
            void_from = void_from.min(head.refetched);
            next_len = Some(head.previous_len);
        }
        Ok(segments)
    }

    /// Up to where a file has whole records.
    fn valid_len(&self, file: &dyn DiskFile) -> Result<u64, StoreError> {
        let end = file.len().map_err(failed)?;
        let mut at = HEAD;
        while let Some(record) = read_record(file, at, end) {
            at += record.0.total();
        }
        Ok(at)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins the next segment of a part. Changes from `refetched` on are void in those before it.
    fn begin_segment(&self, part: Part, refetched: Lsn) -> Result<(), StoreError> {
        let last = self.lock().of(part).last_key_value().map(|(n, it)| (*n, it.clone()));
        if let Some((_, segment)) = &last {
            // Where it ends is told by the next one, so it has to reach there.
            segment.file.sync().map_err(failed)?;
        }
        let (number, previous_len) = last.map_or((1, 0), |(number, it)| (number + 1, it.len));
        let path = self.directory.join(file_name(part, number));
        let file = self.disk.create(&path).map_err(failed)?;
        let epoch = self.opening.epoch;
        let head = Head { refetched, epoch, previous_len };
        file.write(&head.to_bytes(), 0).map_err(failed)?;
        // Before it is in use: a process to come must find it, or it would read what is void.
        file.sync().map_err(failed)?;
        self.disk.sync_directory(&self.directory).map_err(failed)?;
        let segment = Segment { file, len: HEAD, void_from: Lsn(u64::MAX), dirty: false };
        self.lock().of_mut(part).insert(number, segment);
        Ok(())
    }

    fn keep_relation(&self, hash: RelationHash, bytes: &[u8]) -> Result<(), StoreError> {
        if self.lock().relations.contains(&hash) {
            return Ok(());
        }
        let file = self.disk.create(&self.directory.join(relation_name(hash))).map_err(failed)?;
        file.write(bytes, 0).map_err(failed)?;
        file.sync().map_err(failed)?;
        self.disk.sync_directory(&self.directory).map_err(failed)?;
        self.lock().relations.insert(hash);
        Ok(())
    }

    pub(super) fn append(&self, part: Part, chunk: &Written) -> Result<Address, StoreError> {
        for (hash, relation) in &chunk.relations {
            self.keep_relation(*hash, &relation.to_bytes())?;
        }
        let is_full = self
            .lock()
            .of(part)
            .last_key_value()
            .is_none_or(|(_, it)| it.len >= self.opening.segment_bytes);
        if is_full {
            // What this process appended stays valid.
            self.begin_segment(part, Lsn(u64::MAX))?;
        }
        let last = self.lock().of(part).last_key_value().map(|(n, it)| (*n, it.clone()));
        let Some((number, segment)) = last else {
            return Err(StoreError::Unavailable("the change log has no segment".to_owned()));
        };
        let record = record(chunk.span, &chunk.bytes);
        // What a failed attempt leaves is written over by the next.
        segment.file.write(&record, segment.len).map_err(failed)?;
        if let Some(known) = self.lock().of_mut(part).get_mut(&number) {
            known.len = segment.len + record.len() as u64;
            known.dirty = true;
        }
        Ok(address(number, segment.len))
    }

    pub(super) fn sync(&self) -> Result<Synced, StoreError> {
        for part in [Part::Stream, Part::Kept] {
            let dirty: Vec<_> = {
                let known = self.lock();
                let dirty = known.of(part).iter().filter(|(_, segment)| segment.dirty);
                dirty.map(|(number, segment)| (*number, Arc::clone(&segment.file))).collect()
            };
            for (number, file) in dirty {
                file.sync().map_err(failed)?;
                if let Some(segment) = self.lock().of_mut(part).get_mut(&number) {
                    segment.dirty = false;
                }
            }
        }
        let known = self.lock();
        Ok(Synced { stream: end(&known.stream), kept: end(&known.kept) })
    }

    pub(super) fn read(&self, part: Part, from: Address) -> Result<Option<Logged>, StoreError> {
        let (mut number, mut offset) = place(from);
        loop {
            // The segment of the address, or the first one behind it.
            let found = {
                let known = self.lock();
                let found = known.of(part).range(number..).next();
                found.map(|(number, segment)| (*number, segment.clone()))
            };
            let Some((found, segment)) = found else { return Ok(None) };
            if found != number {
                (number, offset) = (found, HEAD);
            }
            offset = offset.max(HEAD);
            if offset >= segment.len {
                (number, offset) = (number + 1, HEAD);
                continue;
            }
            let Some((head, bytes)) = read_record(segment.file.as_ref(), offset, segment.len)
            else {
                return Err(StoreError::Damaged {
                    what: format!(
                        "{} of the change log is damaged at byte {offset}: what follows in this \
                         file cannot be read",
                        self.directory.join(file_name(part, number)).display()
                    ),
                    next: address(number + 1, HEAD),
                });
            };
            return Ok(Some(Logged {
                address: address(number, offset),
                next: address(number, offset + head.total()),
                span: head.span,
                void_from: segment.void_from,
                bytes,
            }));
        }
    }

    pub(super) fn relation(&self, hash: RelationHash) -> Result<Vec<u8>, StoreError> {
        let path = self.directory.join(relation_name(hash));
        let file = self.disk.open(&path).map_err(failed)?;
        let len = usize::try_from(file.len().map_err(failed)?).unwrap_or(usize::MAX);
        let mut bytes = vec![0; len.min(RELATION_BYTES_MAX)];
        file.read(&mut bytes, 0).map_err(failed)?;
        if RelationHash::of(&bytes) != hash {
            let what = format!("{} of the change log is damaged", path.display());
            return Err(StoreError::Damaged { what, next: Address::default() });
        }
        Ok(bytes)
    }

    pub(super) fn trim(&self, part: Part, below: Address) -> Result<(), StoreError> {
        loop {
            let first = {
                let known = self.lock();
                let mut segments = known.of(part).iter();
                let first = segments.next().map(|(number, segment)| (*number, segment.len));
                // The last one stays: it says where the addresses go on.
                first.filter(|_| segments.next().is_some())
            };
            let Some((number, _)) = first.filter(|(number, len)| address(*number, *len) <= below)
            else {
                return Ok(());
            };
            self.disk.remove(&self.directory.join(file_name(part, number))).map_err(failed)?;
            self.lock().of_mut(part).remove(&number);
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        let known = self.lock();
        [&known.stream, &known.kept].into_iter().flat_map(BTreeMap::values).map(|it| it.len).sum()
    }

    pub(super) fn end(&self, part: Part) -> Address {
        end(self.lock().of(part))
    }

    /// Nothing is left below this.
    pub(super) fn first(&self, part: Part) -> Address {
        let known = self.lock();
        known.of(part).keys().next().map_or_else(Address::default, |number| address(*number, 0))
    }

    pub(super) fn first_end(&self, part: Part) -> Option<Address> {
        let known = self.lock();
        let mut segments = known.of(part).iter();
        let first = segments.next().map(|(number, segment)| address(*number, segment.len));
        first.filter(|_| segments.next().is_some())
    }
}

/// No table has so many columns, in bytes of what is kept of it.
const RELATION_BYTES_MAX: usize = 16 << 20;

fn hash_of(name: &str) -> Option<RelationHash> {
    let mut hash = [0; 16];
    if name.len() != 32 {
        return None;
    }
    for (n, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(name.get(2 * n..2 * n + 2)?, 16).ok()?;
    }
    Some(RelationHash(hash))
}

fn end(segments: &Segments) -> Address {
    segments.last_key_value().map_or_else(Address::default, |(n, it)| address(*n, it.len))
}

/// The record at `at` of a file that is valid up to `end`, and its chunk.
fn read_record(file: &dyn DiskFile, at: u64, end: u64) -> Option<(RecordHead, Vec<u8>)> {
    let mut front = [0; RECORD_HEAD];
    if at + front.len() as u64 > end {
        return None;
    }
    file.read(&mut front, at).ok()?;
    let head = RecordHead::from_bytes(&front)?;
    if at + head.total() > end {
        return None;
    }
    let mut record = vec![0; RECORD_HEAD + head.len];
    file.read(&mut record, at).ok()?;
    head.fits(&record).then(|| (head, record.split_off(RECORD_HEAD)))
}
