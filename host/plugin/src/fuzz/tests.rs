//! The corpus of answers, and small changes to it, without the fuzzer. What `sandbox/bytes.rs` does is
//! the same for components, which begin with the plugins.

use std::path::Path;

use fastrand::Rng;

use super::*;

/// The same changes each time: a failure is one for everybody.
const SEED: u64 = 266;

fn corpus() -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/describe");
    let mut files: Vec<_> = dir.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 3, "{}", dir.display());
    files.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Each input, and some that differ from it in a few bytes.
#[test]
fn b273_answers_of_the_corpus_and_what_is_like_them() {
    let mut dice = Rng::with_seed(SEED);
    for input in corpus() {
        describe(&input);
        for _ in 0..2_000 {
            let mut bytes = input.clone();
            for _ in 0..dice.usize(1..=3) {
                let at = dice.usize(..bytes.len());
                match dice.u8(..3) {
                    0 => bytes[at] ^= 1 << dice.u8(..8),
                    1 => bytes[at] = dice.u8(..),
                    _ => drop(bytes.drain(at..bytes.len().min(at + 4))),
                }
                if bytes.is_empty() {
                    bytes.push(0);
                }
            }
            describe(&bytes);
        }
    }
}

/// Else the replay would look at refusals alone.
#[test]
fn the_corpus_has_what_is_taken() {
    let answers = corpus();
    let taken = answers.iter().filter(|bytes| {
        let mut bytes = Bytes(bytes);
        // As `describe` reads them.
        bytes.text();
        bytes.list(Bytes::text);
        bytes.byte();
        let tables = bytes.list(|bytes| {
            let table = bytes.text();
            bytes.list(Bytes::text);
            bytes.list(Bytes::text);
            bytes.list(Bytes::text);
            table
        });
        bytes.byte();
        let role = bytes.role();
        let rows = usize::from(bytes.byte() % 5) + 1;
        let reply = bytes.reply();
        !tables.is_empty()
            && reply::outcomes(role, rows, reply).is_ok_and(|all| all.iter().all(Result::is_ok))
    });
    assert!(taken.count() >= 2);
}
