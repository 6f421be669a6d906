//! Recorded bytes, and many small changes to them, in every run of the tests. What libFuzzer finds in
//! hours is kept beside the recordings, as `regression-…`.

use std::panic::catch_unwind;
use std::path::Path;

use fastrand::Rng;

use super::mutate::mutate;

/// The same changes each time: a failure is one for everybody.
const SEED: u64 = 29;

/// The files of a target: name and bytes.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    assert!(files.len() > 5, "cargo x fuzz record");
    files
}

/// Each file, and so many changed ones of each: few enough for a few seconds, unoptimised.
fn replay(target: &str, mutations: usize, run: fn(&[u8])) {
    let files = corpus(target);
    let mut dice = Rng::with_seed(SEED);
    for (name, bytes) in &files {
        assert!(catch_unwind(|| run(bytes)).is_ok(), "{target}/{name}");
        for mutation in 0..mutations {
            let (_, other) = &files[dice.usize(..files.len())];
            let input = mutate(bytes, other, &mut dice);
            let held = catch_unwind(|| run(&input)).is_ok();
            assert!(held, "{target}/{name}, seed {SEED}, mutation {mutation}: {input:?}");
        }
    }
}

#[test]
fn b028_b029_whatever_a_server_says_the_conversation_ends() {
    replay("frame", 400, super::frame);
}

#[test]
fn b029_b030_whatever_messages_come_batches_are_in_order() {
    replay("tuple", 600, super::tuple);
}

#[test]
fn b029_b052_whatever_a_value_is_its_text_keeps_its_kind() {
    replay("value", 1000, super::value);
}

#[test]
fn recordings_are_decoded_to_their_end() {
    for (name, bytes) in corpus("tuple").iter().filter(|(name, _)| name.starts_with("pg")) {
        let outcome = super::tuple::run(bytes);
        assert_eq!(outcome.fault, None, "{name}");
        assert!(outcome.changes > 0, "{name}");
    }
    let streamed = |(name, bytes): &(String, Vec<u8>)| {
        let log = super::frame::run(bytes);
        assert!(!log.is_empty() || name.ends_with("scram"), "{name}");
        log.iter().any(|line| line.contains("'d'"))
    };
    assert!(corpus("frame").iter().filter(|file| streamed(file)).count() > 6);
}
