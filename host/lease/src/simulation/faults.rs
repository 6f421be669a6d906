//! What becomes of the lead when something goes wrong.

use super::*;

/// A world in which one leads, and what it is to be tried with.
fn worlds(runs: u64) -> impl Iterator<Item = (u64, World)> {
    (0..runs).map(|seed| {
        let mut world = World::new(seed, Timing::default());
        world.run(20_000);
        assert_eq!((world.changes, world.longest_gap < 1_500), (0, true), "seed {seed}");
        world.longest_gap = 0;
        (seed, world)
    })
}

#[test]
fn b212_of_nodes_that_begin_together_one_leads() {
    for (seed, world) in worlds(2_000) {
        assert_eq!(world.truth.epoch, 1, "seed {seed}");
    }
}

#[test]
fn b214_b215_nothing_that_becomes_of_the_coordinator_moves_the_lead_or_holds_it_up() {
    for (seed, mut world) in worlds(2_000) {
        let leader = world.leader();
        for _ in 0..world.rng.u8(1..12) {
            for node in 0..NODES {
                let fault = world.any_fault();
                world.link(Service::Coordinator, &[node], fault);
            }
            match world.rng.u8(0..4) {
                0 => world.coordinator = None,
                1 => world.copy = world.coordinator,
                2 => world.coordinator = world.copy,
                _ => {}
            }
            let after = world.rng.u64(1..120_000);
            world.run(world.now + after);
        }
        world.link(Service::Coordinator, &[0, 1, 2], Link::Up);
        world.run(world.now + 2_000);
        let phase = world.nodes.get(leader).unwrap().machine.phase();
        assert_eq!(phase, Phase::Leading, "within 2 s, seed {seed}");
        world.settle();
        let seen = (world.leader(), world.changes, world.longest_gap);
        assert_eq!(seen, (leader, 0, 0), "seed {seed}");
    }
}

#[test]
fn b194_a_truth_that_is_away_stops_nobody_whom_the_coordinator_knows() {
    for (seed, mut world) in worlds(1_000) {
        let leader = world.leader();
        for _ in 0..world.rng.u8(1..6) {
            for node in 0..NODES {
                let fault = world.any_fault();
                world.link(Service::Truth, &[node], fault);
            }
            let after = world.rng.u64(1..600_000);
            world.run(world.now + after);
        }
        world.settle();
        let seen = (world.leader(), world.changes, world.longest_gap);
        assert_eq!(seen, (leader, 0, 0), "seed {seed}");
    }
}

#[test]
fn b217_whatever_cannot_be_reached_two_work_only_where_nobody_can_know() {
    for (_, mut world) in worlds(2_000) {
        world.may_overlap = true;
        for _ in 0..world.rng.u8(1..12) {
            for service in [Service::Truth, Service::Coordinator] {
                for node in 0..NODES {
                    let fault = world.any_fault();
                    world.link(service, &[node], fault);
                }
            }
            if world.rng.bool() {
                world.coordinator = world.copy;
            }
            let after = world.rng.u64(1..90_000);
            world.run(world.now + after);
        }
        world.settle();
    }
}

#[test]
fn b216_b217_one_that_is_cut_off_or_frozen_never_works_beside_its_successor() {
    for (seed, mut world) in worlds(2_000) {
        let leader = world.leader();
        let fault = world.rng.choice([Link::Refused, Link::Hangs, Link::Deaf]).unwrap();
        let frozen = world.rng.bool();
        if frozen {
            world.node(leader).frozen = true;
        } else {
            world.link(Service::Truth, &[leader], fault);
            world.link(Service::Coordinator, &[leader], fault);
        }
        let ttl = ms(world.timing.ttl);
        // One that is deaf is heard until it stops by itself.
        let heard = if !frozen && fault == Link::Deaf { ttl } else { 0 };
        let for_ms = heard + world.rng.u64(ttl + 3_000..4 * ttl);
        world.run(world.now + for_ms);
        assert_ne!(world.leader(), leader, "seed {seed}");
        world.thaw(leader);
        world.settle();
        let seen = (world.changes, world.truth.epoch);
        assert_eq!(seen, (1, 2), "seed {seed}");
    }
}

#[test]
fn b213_after_a_kill_another_leads_within_two_seconds_of_the_lease() {
    for (seed, mut world) in worlds(2_000) {
        for _ in 0..3 {
            let leader = world.leader();
            world.node(leader).is_dead = true;
            let back = world.now + world.rng.u64(0..30_000);
            world.at(back, Due::Back { node: leader });
            world.run(world.now + 60_000);
        }
        let most = ms(world.timing.ttl) + 2_000;
        assert!(world.longest_gap <= most, "{} ms, seed {seed}", world.longest_gap);
        world.settle();
    }
}

#[test]
fn b218_a_hand_over_takes_less_than_two_seconds() {
    for (seed, mut world) in worlds(2_000) {
        let away = world.rng.bool();
        if away {
            world.link(Service::Coordinator, &[0, 1, 2], Link::Hangs);
            world.run(world.now + 60_000);
        }
        let leader = world.leader();
        world.event(leader, Event::Stop);
        world.run(world.now + 5_000);
        assert_ne!(world.leader(), leader);
        assert!(world.longest_gap < 2_000, "{} ms, seed {seed}", world.longest_gap);
    }
}
