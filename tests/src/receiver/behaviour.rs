//! What a receiver does with a request: a decision without I/O.

use std::time::Duration;

use serde_json::Value;

/// How a receiver treats requests, until told otherwise.
#[derive(Clone, Debug, Default)]
pub enum Behaviour {
    /// Accepts everything.
    #[default]
    Ok,
    /// Answers everything with this status.
    Status(u16),
    /// Answers every n-th request with 500.
    FailEvery(u64),
    /// Answers the first n requests with 500.
    FailFirst(u64),
    /// Fails so many of a hundred requests, drawn from the seed: some before anything is taken in,
    /// some after (a lost response), each by an answer of 500 or by closing the connection.
    Flaky { seed: u64, percent: u8 },
    /// Accepts, but answers only after so long, and takes in nothing of a sender that has gone.
    Hang(Duration),
    /// Takes in at once, and answers after so long.
    Slow(Duration),
    /// Sends every request elsewhere (307), to a path where it would be accepted.
    Redirect,
    /// Answers everything with this status, and when to come back.
    RetryAfter { seconds: u64, status: u16 },
}

/// Where `Redirect` points.
pub(super) const ELSEWHERE: &str = "/elsewhere";

/// What to do with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Accept,
    /// With a 2xx other than 200.
    AcceptWith(u16),
    AcceptAfter(Duration),
    /// It was taken in; say so after a while.
    AcceptThenWait(Duration),
    Refuse(u16),
    RetryAfter {
        seconds: u64,
        status: u16,
    },
    Redirect,
    /// Close the connection; nothing was taken in.
    Drop,
    /// It was taken in; say that it failed.
    AcceptThenRefuse,
    /// It was taken in; close the connection.
    AcceptThenDrop,
}

type Predicate = Box<dyn Fn(&Value) -> Option<u16> + Send>;

/// The behaviour, and how far it has got.
#[derive(Default)]
pub(super) struct Policy {
    behaviour: Behaviour,
    /// Requests decided by this behaviour.
    count: u64,
    pub predicate: Option<Predicate>,
}

impl Policy {
    pub(super) fn set(&mut self, behaviour: Behaviour) {
        self.behaviour = behaviour;
        self.count = 0;
    }

    pub(super) fn decide(&mut self, path: &str, body: &Value) -> Decision {
        if let Some(status) = self.predicate.as_ref().and_then(|predicate| predicate(body)) {
            return Decision::Refuse(status);
        }
        self.count += 1;
        match self.behaviour {
            Behaviour::Ok => Decision::Accept,
            Behaviour::Status(status @ 200..300) => Decision::AcceptWith(status),
            Behaviour::Status(status) => Decision::Refuse(status),
            Behaviour::FailEvery(n) if self.count.is_multiple_of(n) => Decision::Refuse(500),
            Behaviour::FailFirst(n) if self.count <= n => Decision::Refuse(500),
            Behaviour::FailEvery(_) | Behaviour::FailFirst(_) => Decision::Accept,
            Behaviour::Flaky { seed, percent } => flaky(seed, self.count, percent),
            Behaviour::Hang(duration) => Decision::AcceptAfter(duration),
            Behaviour::Slow(duration) => Decision::AcceptThenWait(duration),
            Behaviour::Redirect if path == ELSEWHERE => Decision::Accept,
            Behaviour::Redirect => Decision::Redirect,
            Behaviour::RetryAfter { seconds, status } => Decision::RetryAfter { seconds, status },
        }
    }
}

fn flaky(seed: u64, count: u64, percent: u8) -> Decision {
    let random = mix(seed, count);
    if random % 100 >= u64::from(percent) {
        return Decision::Accept;
    }
    match random / 100 % 4 {
        0 => Decision::Refuse(500),
        1 => Decision::Drop,
        2 => Decision::AcceptThenRefuse,
        _ => Decision::AcceptThenDrop,
    }
}

/// The n-th number of splitmix64: every request's fate depends on the seed and its count alone.
fn mix(seed: u64, n: u64) -> u64 {
    let mut z = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decisions(behaviour: Behaviour, count: usize) -> Vec<Decision> {
        let mut policy = Policy::default();
        policy.set(behaviour);
        (0..count).map(|_| policy.decide("/", &Value::Null)).collect()
    }

    #[test]
    fn every_nth_and_the_first_n_fail() {
        use Decision::{Accept, Refuse};
        let every = decisions(Behaviour::FailEvery(2), 4);
        assert_eq!(every, [Accept, Refuse(500), Accept, Refuse(500)]);
        let first = decisions(Behaviour::FailFirst(2), 3);
        assert_eq!(first, [Refuse(500), Refuse(500), Accept]);
    }

    #[test]
    fn flaky_is_the_same_for_a_seed_and_fails_in_every_way() {
        let all = decisions(Behaviour::Flaky { seed: 7, percent: 30 }, 1000);
        assert_eq!(all, decisions(Behaviour::Flaky { seed: 7, percent: 30 }, 1000));
        let count = |wanted| all.iter().filter(|decision| **decision == wanted).count();
        assert!((650..750).contains(&count(Decision::Accept)));
        assert!(count(Decision::Refuse(500)) > 30 && count(Decision::Drop) > 30);
        assert!(count(Decision::AcceptThenRefuse) > 30 && count(Decision::AcceptThenDrop) > 30);
    }
}
