//! Three nodes, one slot, and whatever can become of what they ask: from seeds, in virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use fastrand::Rng;
use model::store::Epoch;

use crate::words::{Action, Event, Phase, Register, Taken, Told};
use crate::{Machine, Timing};

mod faults;

const NODES: usize = 3;
/// Virtual time, in ms.
type Ms = u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Service {
    Truth,
    Coordinator,
}

/// How a service can be reached from a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Up,
    /// Refuses at once.
    Refused,
    /// Nothing comes back.
    Hangs,
    /// What is asked is done, and the answer is lost.
    Deaf,
    /// Everything takes long, and some of it too long.
    Slow,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// A question reaches its service.
    Arrives {
        node: usize,
        question: u64,
        asked: Asked,
        answer_in: Option<Ms>,
    },
    /// Its answer reaches the node.
    Answered {
        node: usize,
        question: u64,
        service: Service,
        answer: Answer,
    },
    Tick {
        node: usize,
        wanted: u64,
    },
    Probe,
    Drained {
        node: usize,
    },
    Back {
        node: usize,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    Look,
    LookAtCoordinator,
    Take(u64),
    RenewTruth(u64),
    RenewCoordinator(u64),
    Release(u64),
}

/// Events have no order, and the queue wants one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    None(Asked),
    Register(u64, Ms, bool),
    Free,
    Won(u64),
    Refused(u64, Ms, bool),
    Holds(Option<u64>),
    Ours(Service),
    Superseded(Service, u64),
    Nothing,
}

struct Node {
    machine: Machine,
    /// Of its clock: in parts of a thousand.
    rate: u64,
    /// The last question to each service; those before are given up.
    last: [u64; 2],
    links: [Link; 2],
    frozen: bool,
    /// What happened to it meanwhile.
    missed: Vec<Event>,
    wanted: u64,
    is_dead: bool,
}

#[derive(Clone, Copy, Default)]
struct Row {
    epoch: u64,
    until: Ms,
    is_released: bool,
}

struct World {
    rng: Rng,
    now: Ms,
    timing: Timing,
    queue: BinaryHeap<Reverse<(Ms, u64, Due)>>,
    next: u64,
    nodes: Vec<Node>,
    truth: Row,
    /// Epoch, and when it expires.
    coordinator: Option<(u64, Ms)>,
    /// What it held when it was copied.
    copy: Option<(u64, Ms)>,
    /// Who works, by the last look, and since when nobody does.
    working: Option<usize>,
    idle_since: Option<Ms>,
    longest_gap: Ms,
    changes: u32,
    /// Whether two may work at once: where nobody can know better, and the store refuses one of them.
    may_overlap: bool,
}

fn ms(duration: Duration) -> Ms {
    u64::try_from(duration.as_millis()).unwrap()
}

impl World {
    fn new(seed: u64, timing: Timing) -> Self {
        let rng = Rng::with_seed(seed);
        let mut world = Self {
            rng,
            now: 0,
            timing,
            queue: BinaryHeap::new(),
            next: 0,
            nodes: Vec::new(),
            truth: Row { is_released: true, ..Row::default() },
            coordinator: None,
            copy: None,
            working: None,
            idle_since: None,
            longest_gap: 0,
            changes: 0,
            may_overlap: false,
        };
        for node in 0..NODES {
            let rate = world.rng.u64(990..=1010);
            world.nodes.push(Node {
                machine: Machine::new(timing, true, Duration::ZERO),
                rate,
                last: [0; 2],
                links: [Link::Up; 2],
                frozen: false,
                missed: Vec::new(),
                wanted: 0,
                is_dead: false,
            });
            world.at(0, Due::Tick { node, wanted: 0 });
        }
        world.at(1_000, Due::Probe);
        world
    }

    fn at(&mut self, when: Ms, due: Due) {
        self.next += 1;
        self.queue.push(Reverse((when, self.next, due)));
    }

    fn node(&mut self, node: usize) -> &mut Node {
        self.nodes.get_mut(node).unwrap()
    }

    fn local(&self, node: usize) -> Duration {
        Duration::from_millis(self.now * self.nodes.get(node).unwrap().rate / 1_000)
    }

    /// Until that time, with an eye on who works at every step.
    fn run(&mut self, until: Ms) {
        while let Some(Reverse((when, _, _))) = self.queue.peek()
            && *when <= until
        {
            let Reverse((when, _, due)) = self.queue.pop().unwrap();
            // What ends by itself between two events ends at its time.
            self.now = when;
            self.watch();
            self.happen(due);
            self.watch();
        }
        self.now = until;
        self.watch();
    }

    fn works(&self, node: usize) -> bool {
        let it = self.nodes.get(node).unwrap();
        !it.frozen
            && !it.is_dead
            && it.machine.shown_until().is_some_and(|until| self.local(node) < until)
    }

    fn watch(&mut self) {
        let working: Vec<usize> = (0..NODES).filter(|node| self.works(*node)).collect();
        assert!(self.may_overlap || working.len() <= 1, "{working:?} work at {} ms", self.now);
        // Of several, the one whose writes count.
        let counts = |node: &&usize| {
            let epoch = self.nodes.get(**node).unwrap().machine.epoch();
            epoch == Some(Epoch(self.truth.epoch))
        };
        match working.iter().find(counts).copied() {
            Some(node) => {
                if let Some(since) = self.idle_since.take() {
                    self.longest_gap = self.longest_gap.max(self.now - since);
                }
                if self.working.is_some_and(|before| before != node) {
                    self.changes += 1;
                }
                self.working = Some(node);
            }
            None => self.idle_since = self.idle_since.or(Some(self.now)),
        }
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Tick { node, wanted } => {
                if self.node(node).wanted == wanted {
                    self.event(node, Event::Tick);
                }
            }
            Due::Probe => {
                self.at(self.now + 1_000, Due::Probe);
                for node in 0..NODES {
                    let link = self.node(node).links[1];
                    if matches!(link, Link::Up | Link::Slow) {
                        self.event(node, Event::CoordinatorProbed);
                    }
                }
            }
            Due::Drained { node } => self.event(node, Event::Drained),
            Due::Back { node } => {
                let (now, timing) = (self.local(node), self.timing);
                let it = self.node(node);
                it.is_dead = false;
                it.machine = Machine::new(timing, true, now);
                self.event(node, Event::Tick);
            }
            Due::Arrives { node, question, asked, answer_in } => {
                let answer = self.serve(asked);
                let service = service(asked);
                if let Some(answer_in) = answer_in {
                    let answered = Due::Answered { node, question, service, answer };
                    self.at(self.now + answer_in, answered);
                }
            }
            Due::Answered { node, question, service, answer } => {
                let last = &mut self.node(node).last[service as usize];
                if *last == question {
                    *last = 0;
                    if let Some(event) = event(answer) {
                        self.event(node, event);
                    }
                }
            }
        }
    }

    fn event(&mut self, node: usize, event: Event) {
        let it = self.node(node);
        if it.is_dead {
            return;
        }
        if it.frozen {
            it.missed.push(event);
            return;
        }
        let (now, jitter) = (self.local(node), self.rng.u8(..));
        let actions = self.node(node).machine.on(now, event, jitter);
        for action in actions {
            let asked = match action {
                Action::Look => Asked::Look,
                Action::LookAtCoordinator => Asked::LookAtCoordinator,
                Action::Take(epoch) => Asked::Take(epoch.0),
                Action::RenewTruth(epoch) => Asked::RenewTruth(epoch.0),
                Action::RenewCoordinator(epoch) => Asked::RenewCoordinator(epoch.0),
                Action::Release(epoch) => Asked::Release(epoch.0),
                Action::Drain(_) => {
                    let drained = self.now + self.rng.u64(0..500);
                    self.at(drained, Due::Drained { node });
                    continue;
                }
                Action::Lead(..) | Action::Halt(..) => continue,
            };
            self.ask(node, asked);
        }
        let rate = self.node(node).rate;
        if let Some(wake) = self.node(node).machine.wake_at() {
            self.next += 1;
            let wanted = self.next;
            self.node(node).wanted = wanted;
            // Not a moment early by its own clock.
            let wake = (ms(wake) * 1_000).div_ceil(rate).max(self.now) + 1;
            self.at(wake, Due::Tick { node, wanted });
        }
    }

    fn ask(&mut self, node: usize, asked: Asked) {
        self.next += 1;
        let (question, service) = (self.next, service(asked));
        let give_up = match service {
            Service::Truth => ms(self.timing.truth_max),
            Service::Coordinator => ms(self.timing.coordinator_max),
        };
        self.node(node).last[service as usize] = question;
        let link = self.node(node).links[service as usize];
        let slow = if link == Link::Slow { give_up } else { 20 };
        let (there, back) = (self.rng.u64(0..slow), self.rng.u64(0..slow));
        let failed = Due::Answered { node, question, service, answer: Answer::None(asked) };
        match link {
            Link::Up | Link::Slow if there + back < give_up => {
                let answer_in = Some(back);
                self.at(self.now + there, Due::Arrives { node, question, asked, answer_in });
            }
            Link::Up | Link::Slow | Link::Deaf => {
                let arrives = Due::Arrives { node, question, asked, answer_in: None };
                self.at(self.now + there, arrives);
                self.at(self.now + give_up, failed);
            }
            Link::Refused => self.at(self.now + 1, failed),
            Link::Hangs => self.at(self.now + give_up, failed),
        }
    }

    fn serve(&mut self, asked: Asked) -> Answer {
        let (now, ttl) = (self.now, ms(self.timing.ttl));
        let truth = &mut self.truth;
        let remaining = truth.until.saturating_sub(now);
        match asked {
            Asked::Look if truth.epoch == 0 => Answer::Free,
            Asked::Look => Answer::Register(truth.epoch, remaining, truth.is_released),
            Asked::Take(epoch) if truth.epoch == epoch && (remaining == 0 || truth.is_released) => {
                *truth = Row { epoch: epoch + 1, until: now + ttl, is_released: false };
                Answer::Won(epoch + 1)
            }
            Asked::Take(_) => Answer::Refused(truth.epoch, remaining, truth.is_released),
            Asked::RenewTruth(epoch) if truth.epoch == epoch && !truth.is_released => {
                truth.until = now + ttl;
                Answer::Ours(Service::Truth)
            }
            Asked::RenewTruth(_) => Answer::Superseded(Service::Truth, truth.epoch),
            Asked::Release(epoch) => {
                if truth.epoch == epoch {
                    (truth.until, truth.is_released) = (now, true);
                }
                if self.coordinator.is_some_and(|it| it.0 == epoch) {
                    self.coordinator = None;
                }
                Answer::Nothing
            }
            Asked::LookAtCoordinator => {
                Answer::Holds(self.coordinator.filter(|it| it.1 > now).map(|it| it.0))
            }
            Asked::RenewCoordinator(epoch) => {
                match self.coordinator.filter(|it| it.1 > now && it.0 > epoch) {
                    Some((later, _)) => Answer::Superseded(Service::Coordinator, later),
                    None => {
                        self.coordinator = Some((epoch, now + ttl));
                        Answer::Ours(Service::Coordinator)
                    }
                }
            }
        }
    }

    fn link(&mut self, service: Service, nodes: &[usize], link: Link) {
        for node in nodes {
            self.node(*node).links[service as usize] = link;
        }
    }

    fn thaw(&mut self, node: usize) {
        self.node(node).frozen = false;
        let mut missed = std::mem::take(&mut self.node(node).missed);
        self.rng.shuffle(&mut missed);
        for event in missed.into_iter().chain([Event::Tick]) {
            self.watch();
            self.event(node, event);
        }
    }

    fn leader(&self) -> usize {
        (0..NODES).find(|node| self.works(*node)).expect("somebody works")
    }

    /// Everything can be reached again: one leads before long, and everybody says so.
    fn settle(&mut self) {
        for service in [Service::Truth, Service::Coordinator] {
            self.link(service, &[0, 1, 2], Link::Up);
        }
        let frozen = (0..NODES).filter(|node| self.nodes.get(*node).unwrap().frozen);
        for node in frozen.collect::<Vec<_>>() {
            self.thaw(node);
        }
        self.run(self.now + 3 * ms(self.timing.ttl));
        self.may_overlap = false;
        self.run(self.now + 2 * ms(self.timing.ttl));
        let leader = self.leader();
        assert_eq!(self.nodes.get(leader).unwrap().machine.phase(), Phase::Leading);
        assert_eq!(self.coordinator.map(|it| it.0), Some(self.truth.epoch));
    }

    fn any_fault(&mut self) -> Link {
        let faults = [Link::Refused, Link::Hangs, Link::Deaf, Link::Slow, Link::Up];
        self.rng.choice(faults).unwrap()
    }
}

fn service(asked: Asked) -> Service {
    match asked {
        Asked::LookAtCoordinator | Asked::RenewCoordinator(_) => Service::Coordinator,
        _ => Service::Truth,
    }
}

fn event(answer: Answer) -> Option<Event> {
    let register = |epoch, remaining, is_released| Register {
        epoch: Epoch(epoch),
        remaining: Duration::from_millis(remaining),
        is_released,
    };
    let told = |service, told| match service {
        Service::Truth => Event::TruthRenewed(Some(told)),
        Service::Coordinator => Event::CoordinatorRenewed(Some(told)),
    };
    Some(match answer {
        Answer::None(Asked::Look) => Event::Looked(None),
        Answer::None(Asked::Take(_)) => Event::Taken(None),
        Answer::None(Asked::RenewTruth(_)) => Event::TruthRenewed(None),
        Answer::None(Asked::LookAtCoordinator) => Event::CoordinatorLooked(None),
        Answer::None(Asked::RenewCoordinator(_)) => Event::CoordinatorRenewed(None),
        Answer::None(Asked::Release(_)) | Answer::Nothing => return None,
        Answer::Register(epoch, remaining, is_released) => {
            Event::Looked(Some(Some(register(epoch, remaining, is_released))))
        }
        Answer::Free => Event::Looked(Some(None)),
        Answer::Won(epoch) => Event::Taken(Some(Taken::Won(Epoch(epoch)))),
        Answer::Refused(epoch, remaining, is_released) => {
            let register = register(epoch, remaining, is_released);
            Event::Taken(Some(Taken::Refused(register)))
        }
        Answer::Holds(epoch) => Event::CoordinatorLooked(Some(epoch.map(Epoch))),
        Answer::Ours(service) => told(service, Told::Ours),
        Answer::Superseded(service, epoch) => told(service, Told::Superseded(Epoch(epoch))),
    })
}
