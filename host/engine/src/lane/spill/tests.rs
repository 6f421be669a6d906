use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use model::BoxFuture;
use model::batch::{BatchPolicy, Grouping};
use model::lsn::Lsn;
use model::message::Effect;
use model::store::{Scrap, StoreError};

use super::*;
use crate::spilled::Shared;

/// What was written is kept beside it here.
#[derive(Debug)]
struct Nowhere;

/// A run, and the number of its write.
type Writing = (Run, u64);

impl Scrap for Nowhere {
    fn get(&self, _: u64, _: usize) -> BoxFuture<'_, Result<Vec<u8>, StoreError>> {
        Box::pin(async { Err(StoreError::Unavailable("nowhere".into())) })
    }
}

fn message(number: u64, groups: Groups) -> Message {
    let position = Position::new(Lsn(number), 0);
    Message {
        position,
        output: 0,
        groups,
        rows: groups,
        relation: None,
        operation: None,
        effect: Effect::Write,
        key: None,
        payload: "payload".into(),
        partial: false,
        route: None,
        idempotency_key: model::message::idempotency_key(position, 0),
        scope: "scope".into(),
    }
}

struct Bench {
    lanes: Lanes,
    policy: BatchPolicy,
    now: Instant,
    admitted: u64,
    shared: Shared,
    /// What was written, by the number of the write.
    paper: HashMap<u64, Vec<u8>>,
}

impl Bench {
    fn new(grouping: Grouping) -> Self {
        let policy = BatchPolicy {
            messages_max: 3,
            bytes_max: 1_000_000,
            message_bytes_max: None,
            request_overhead: 0,
            message_overhead: 0,
            linger: Duration::ZERO,
            requests_max: 8,
            grouping,
            one_route: false,
        };
        let (lanes, now) = (Lanes::new(&policy), Instant::now());
        Self { lanes, policy, now, admitted: 0, shared: Shared::default(), paper: HashMap::new() }
    }

    fn admit(&mut self, groups: Groups) {
        self.admitted += 1;
        self.lanes.admit(Arc::new(message(self.admitted, groups)), None, self.now, self.now);
    }

    /// Numbers of the messages of the next batch, from 1.
    fn take(&mut self) -> Vec<u64> {
        let taken = self.lanes.take(&self.policy, self.now);
        taken.map_or_else(Vec::new, |taken| {
            taken.messages.iter().map(|message| message.position.commit_lsn.0).collect()
        })
    }

    fn fail(&mut self, number: u64) {
        self.lanes.fail(Ticket(number - 1), self.now + Duration::from_secs(60));
    }

    fn settle(&mut self, number: u64) {
        self.lanes.settle(Ticket(number - 1));
    }

    fn heal(&mut self) {
        self.now += Duration::from_secs(60);
        self.lanes.wake(self.now);
    }

    /// What was begun to be written.
    fn write(&mut self, bytes_max: usize) -> Vec<Writing> {
        let (runs, _) = self.lanes.spillable(bytes_max);
        let written = runs.into_iter().map(|run| {
            let mut writer = Writer::new(&mut self.shared);
            self.lanes.write(&run, &mut writer);
            let number = self.paper.len() as u64;
            self.paper.insert(number, writer.finish());
            (run, number)
        });
        written.collect()
    }

    fn wrote(&mut self, written: Vec<Writing>) -> usize {
        let mut spilled = 0;
        for (run, number) in written {
            let bytes = self.paper[&number].len();
            if self.lanes.spill(&run, Arc::new(Nowhere), number, bytes) {
                spilled += run.len();
            }
        }
        spilled
    }

    fn spill(&mut self) -> usize {
        let written = self.write(usize::MAX);
        self.wrote(written)
    }

    fn fill(&mut self, wanted: &Wanted) {
        let read = self.shared.read(&self.paper[&wanted.piece.from]).unwrap();
        let messages = read.into_iter().map(|(ticket, it)| (ticket, Arc::new(it), None));
        assert!(self.lanes.fill(wanted, messages.collect()));
    }

    fn fill_one(&mut self) {
        let wanted = self.lanes.wanted(1);
        assert_eq!(wanted.len(), 1);
        self.fill(&wanted[0]);
    }
}

const ONE: Groups = Groups::One(GroupKey(1));
const TWO: Groups = Groups::One(GroupKey(2));
const BOTH: Groups = Groups::Two(GroupKey(1), GroupKey(2));

/// 1 has failed, and these wait behind it.
fn blocked(behind: &[Groups]) -> Bench {
    let mut bench = Bench::new(Grouping::Apart);
    bench.admit(ONE);
    assert_eq!(bench.take(), [1]);
    bench.fail(1);
    behind.iter().for_each(|groups| bench.admit(*groups));
    bench
}

#[tokio::test]
async fn b093_what_waits_behind_a_failed_message_leaves_memory_and_comes_back_in_its_place() {
    let mut bench = blocked(&[ONE, TWO, ONE]);
    assert_eq!(bench.spill(), 2);
    bench.admit(ONE);
    bench.admit(ONE);
    assert_eq!((bench.spill(), bench.lanes.spilled(), bench.lanes.len()), (2, 4, 6));
    bench.admit(ONE);
    assert_eq!(bench.lanes.entries.len(), 3, "two heads and what was not written");
    assert_eq!(bench.take(), [3]);
    assert!(!bench.lanes.is_wanting());
    bench.heal();
    assert_eq!(bench.take(), [1]);
    bench.settle(1);
    assert_eq!(bench.take(), [0; 0], "nothing overtakes what is on the disk");
    for (piece, numbers) in [[2, 4], [5, 6]].iter().enumerate() {
        bench.fill_one();
        for number in numbers {
            assert_eq!(bench.take(), [*number], "{piece}");
            bench.settle(*number);
        }
    }
    assert_eq!(bench.take(), [7]);
    assert_eq!((bench.lanes.spilled(), bench.lanes.spilled_cost()), (0, 0));
}

#[tokio::test]
async fn what_moved_while_it_was_written_stays_in_memory() {
    let mut bench = blocked(&[ONE, ONE]);
    let written = bench.write(usize::MAX);
    bench.heal();
    assert_eq!(bench.take(), [1]);
    assert_eq!(bench.wrote(written), 0, "its head is under way");
    bench.fail(1);
    let written = bench.write(usize::MAX);
    assert!(bench.lanes.take_out(Ticket(1)), "somebody discards 2");
    assert_eq!(bench.wrote(written), 0);
    bench.settle(2);
    assert_eq!(bench.spill(), 1);
    assert_eq!(bench.lanes.len(), 2);
}

#[tokio::test]
async fn b091_a_truncate_waits_for_what_is_on_the_disk() {
    let mut bench = blocked(&[ONE]);
    assert_eq!(bench.spill(), 1);
    bench.admit(Groups::All);
    bench.admit(TWO);
    bench.heal();
    assert_eq!(bench.take(), [1]);
    bench.settle(1);
    assert_eq!(bench.take(), [0; 0]);
    bench.fill_one();
    assert_eq!(bench.take(), [2]);
    bench.settle(2);
    assert_eq!(bench.take(), [3]);
    bench.settle(3);
    assert_eq!(bench.take(), [4]);
}

#[tokio::test]
async fn b122_what_is_on_the_disk_is_newer_than_a_letter() {
    let mut bench = blocked(&[ONE, ONE]);
    assert_eq!(bench.spill(), 2);
    let letter = message(9, ONE);
    assert!(bench.lanes.has_newer(&letter, Position::new(Lsn(2), 0)), "3 is there");
    assert!(!bench.lanes.has_newer(&letter, Position::new(Lsn(3), 0)));
    assert!(!bench.lanes.has_newer(&message(9, TWO), Position::ZERO));
}

#[tokio::test]
async fn what_has_a_history_or_several_groups_stays_in_memory() {
    let mut bench = blocked(&[ONE, BOTH, TWO, ONE, ONE]);
    bench.lanes.part(Ticket(4), 1);
    assert_eq!(bench.spill(), 2, "2 and 6: 4 waits behind 3, which has not failed");
    bench.heal();
    let mut sent = Vec::new();
    while !bench.lanes.is_empty() {
        let batch = bench.take();
        for number in &batch {
            bench.settle(*number);
        }
        sent.extend(batch.iter().copied());
        if batch.is_empty() {
            bench.fill_one();
        }
    }
    assert_eq!(sent, [1, 2, 3, 4, 5, 6]);
}

/// Whatever fails, spills and comes back in whatever order: each group is settled in its order, and
/// all of it is.
#[tokio::test]
async fn b089_b092_b093_random_spills_keep_the_order_of_each_group() {
    let (mut spilled, mut stale) = (0, 0);
    for seed in 0..400 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let together = dice.bool();
        let mut bench = Bench::new(if together { Grouping::Together } else { Grouping::Apart });
        let (mut under_way, mut writing, mut reading) = (Vec::new(), Vec::new(), Vec::new());
        let mut lasts: BTreeMap<u64, u64> = BTreeMap::new();
        let (mut settled, mut truncated) = (0, 0);
        let mut steps = 0;
        while settled < 150 {
            steps += 1;
            assert!(steps < 20_000, "seed {seed}: {settled}, {:?}", bench.lanes);
            if bench.admitted < 150 {
                let key = |dice: &mut fastrand::Rng| GroupKey(dice.u64(0..4));
                bench.admit(match dice.u8(0..20) {
                    0 => Groups::All,
                    1 => Groups::None,
                    2 => Groups::among([Some(key(&mut dice)), Some(key(&mut dice)), None, None]),
                    _ => Groups::One(key(&mut dice)),
                });
            }
            match dice.u8(0..6) {
                0 => under_way.extend(Some(bench.take()).filter(|batch| !batch.is_empty())),
                1 if !under_way.is_empty() => {
                    let batch = under_way.swap_remove(dice.usize(..under_way.len()));
                    let fails = dice.u8(0..3) == 0;
                    for number in batch {
                        // Of a request that fails as a whole, or of each by itself.
                        if fails || !together && dice.u8(0..4) == 0 {
                            bench.fail(number);
                            continue;
                        }
                        let groups = bench.lanes.get(Ticket(number - 1)).unwrap().0.groups;
                        for key in groups.keys() {
                            let last = lasts.insert(key.0, number).unwrap_or(0);
                            assert!(last < number, "seed {seed}: {last} before {number}");
                        }
                        // A truncate goes behind all that is before it, and before all behind it.
                        if groups == Groups::All {
                            assert_eq!(settled, number - 1, "seed {seed}");
                        }
                        truncated = truncated.max(u64::from(groups == Groups::All) * number);
                        assert!(number >= truncated, "seed {seed}: {number} behind {truncated}");
                        bench.settle(number);
                        settled += 1;
                    }
                }
                2 => {
                    let written = bench.write(dice.usize(1..5_000));
                    writing.extend(written);
                }
                3 if !writing.is_empty() => {
                    let written = writing.swap_remove(dice.usize(..writing.len()));
                    let count = written.0.len();
                    let went = bench.wrote(vec![written]);
                    assert!(went == count || went == 0);
                    spilled += went;
                    stale += count - went;
                }
                4 => reading.extend(bench.lanes.wanted(1)),
                _ if !reading.is_empty() => {
                    let wanted: Wanted = reading.swap_remove(dice.usize(..reading.len()));
                    bench.fill(&wanted);
                }
                _ => bench.heal(),
            }
        }
        assert!(bench.lanes.is_empty() && bench.lanes.spilled_cost() == 0);
    }
    assert!(spilled > 5_000 && stale > 1_000, "{spilled} {stale}");
}
