//! The bytes of a segment: a head, and records one after the other.
//!
//! Numbers are little-endian. The head has 36 bytes: `SQCL`, the version, three bytes of nothing, the
//! position from which on the changes of earlier segments are void, the epoch of the process, how long
//! the segment before it is, a checksum. A record has its length and checksum, the span of its
//! positions, and a chunk.

use model::lsn::Lsn;
use model::position::Position;
use model::store::Epoch;

/// Bytes of a segment's head.
pub(super) const HEAD: u64 = 36;
/// Bytes of a record before what it holds.
pub(super) const RECORD_HEAD: usize = 40;
/// No record is longer: a page of a stream is far below, and a length beyond it is damage.
const RECORD_MAX: usize = 2 << 30;

const MAGIC: &[u8; 4] = b"SQCL";
const VERSION: u8 = 1;

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Changes of transactions from here on are void in all segments before it.
    pub(super) refetched: Lsn,
    pub(super) epoch: Epoch,
    /// Where the segment before it ends.
    pub(super) previous_len: u64,
}

impl Head {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD as usize);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[VERSION, 0, 0, 0]);
        out.extend_from_slice(&self.refetched.0.to_le_bytes());
        out.extend_from_slice(&self.epoch.0.to_le_bytes());
        out.extend_from_slice(&self.previous_len.to_le_bytes());
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        out
    }

    /// None if these are no head of a version that is known here.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (head, checksum) = bytes.split_at_checked(HEAD as usize - 4)?;
        let is_ours = head.starts_with(MAGIC)
            && head.get(4) == Some(&VERSION)
            && checksum.get(..4)? == crc32fast::hash(head).to_le_bytes();
        let [refetched, epoch, previous_len] = numbers(head.get(8..)?)?;
        let (refetched, epoch) = (Lsn(refetched), Epoch(epoch));
        is_ours.then_some(Self { refetched, epoch, previous_len })
    }
}

fn numbers<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    let (numbers, _) = bytes.as_chunks::<8>();
    let mut out = [0; N];
    for (n, to) in out.iter_mut().enumerate() {
        *to = u64::from_le_bytes(*numbers.get(n)?);
    }
    Some(out)
}

/// The front of a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordHead {
    pub(super) len: usize,
    checksum: u32,
    pub(super) span: (Position, Position),
}

/// A record to be appended.
pub(super) fn record((low, high): (Position, Position), chunk: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(RECORD_HEAD + chunk.len());
    out.extend_from_slice(&(chunk.len() as u32).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    for number in [low.commit_lsn.0, low.ordinal, high.commit_lsn.0, high.ordinal] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(chunk);
    let checksum = out.get(8..).map(crc32fast::hash).unwrap_or_default();
    if let Some(place) = out.get_mut(4..8) {
        place.copy_from_slice(&checksum.to_le_bytes());
    }
    out
}

impl RecordHead {
    /// None if this cannot be one.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (front, rest) = bytes.split_at_checked(8)?;
        let (len, checksum) = front.split_at_checked(4)?;
        let word = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_le_bytes);
        let (len, checksum) = (word(len)? as usize, word(checksum)?);
        let [low_lsn, low, high_lsn, high] = numbers(rest)?;
        let span = (Position::new(Lsn(low_lsn), low), Position::new(Lsn(high_lsn), high));
        (len <= RECORD_MAX).then_some(Self { len, checksum, span })
    }

    /// Whether these are the bytes of the record: its front and what it holds.
    pub(super) fn fits(&self, record: &[u8]) -> bool {
        record.get(8..).is_some_and(|bytes| crc32fast::hash(bytes) == self.checksum)
    }

    /// All of it, in bytes.
    pub(super) fn total(&self) -> u64 {
        (RECORD_HEAD + self.len) as u64
    }
}
