//! Components with small random changes: whatever they are, the host says so and lives on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use fastrand::Rng;
use plugin::{Error, Host, Limits, Program, Role};

use crate::support::{component, named, peak_bytes};

/// The same changes each time: a failure is one for everybody.
const SEED: u64 = 271;

/// What lengths, counts and tags go wrong with; the last is a length in LEB128.
const WORDS: [&[u8]; 8] =
    [b"\0", b"\x01", b"\x7f", b"\x80", b"\xff\xff", b"\0asm", b"[]{\"", b"\xff\xff\xff\xff\x0f"];

/// Longer texts of an error help nobody.
const TEXT_BYTES_MAX: usize = 8 << 10;

/// Changes the component in one to three places.
fn mutate(input: &[u8], dice: &mut Rng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..dice.usize(1..=3) {
        let at = dice.usize(..bytes.len());
        match dice.u8(..10) {
            0..4 => bytes[at] ^= 1 << dice.u8(..8),
            4..6 => bytes[at] = dice.u8(..),
            6 => {
                let word = WORDS[dice.usize(..WORDS.len())];
                let end = bytes.len().min(at + word.len());
                bytes.splice(at..end, word.iter().copied());
            }
            7 => {
                let end = bytes.len().min(at + dice.usize(1..=16));
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            8 => {
                let end = bytes.len().min(at + dice.usize(1..=16));
                bytes.drain(at..end);
            }
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes
}

/// Whatever it says, it says something, and not too much.
fn check(error: &Error) {
    let text = error.to_string();
    assert!(text.len() > 20 && text.len() < TEXT_BYTES_MAX, "{} bytes: {text:.200}", text.len());
}

/// Small components, so that the time goes into many.
fn corpus() -> [Vec<u8>; 4] {
    ["liar", "wants-clock", "wants-everything", "mirror"].map(component)
}

/// Runs over so many changed components of each.
fn replay(mutations: usize, run: impl Fn(&[u8])) {
    let mut dice = Rng::with_seed(SEED);
    let before = peak_bytes();
    for (number, bytes) in corpus().iter().enumerate() {
        for mutation in 0..mutations {
            let input = mutate(bytes, &mut dice);
            let held = catch_unwind(AssertUnwindSafe(|| run(&input))).is_ok();
            assert!(held, "component {number}, seed {SEED}, mutation {mutation}");
        }
    }
    let grown = (peak_bytes() - before) >> 20;
    assert!(grown < 300, "{grown} MiB");
}

#[test]
fn b271_whatever_bytes_are_inspected_something_is_said() {
    let limits = Limits::default();
    replay(400, |bytes| match plugin::inspect(bytes, &limits) {
        Ok(found) => {
            assert!(!found.roles.is_empty());
            let texts = [&found.name, &found.version, &found.description, &found.sdk];
            let texts = texts.into_iter().flatten().chain(&found.imports);
            for text in texts {
                assert!(
                    text.len() <= TEXT_BYTES_MAX && !text.contains(char::is_control),
                    "{text:?}"
                );
            }
        }
        Err(error) => check(&error),
    });
}

#[test]
fn b265_b266_b271_whatever_bytes_are_loaded_bound_and_run_the_host_lives_on() {
    let limits = Limits {
        batch_cpu_max: Duration::from_millis(50),
        row_cpu_max: Duration::from_millis(20),
        memory_bytes_max: 8 << 20,
        output_bytes_max: 1 << 20,
        ..Limits::default()
    };
    let host = Host::new(limits.clone()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    replay(15, |bytes| match host.load(bytes) {
        Ok(program) => {
            // What runs can be inspected, and is what was said.
            let found = plugin::inspect(bytes, &limits).unwrap();
            assert_eq!(found.roles, program.roles().collect::<Vec<_>>());
            assert!(found.refused.is_empty(), "{found:?}");
            runtime.block_on(use_it(&host, &program));
        }
        Err(error) => check(&error),
    });
}

async fn use_it(host: &Host, program: &std::sync::Arc<Program>) {
    if let Err(error) = host.describe("changed", program) {
        check(&error);
    }
    for role in program.roles().collect::<Vec<Role>>() {
        let config = r#"{"reads": [{"table": "*", "columns": ["*"]}], "packed": true}"#;
        match host.bind("changed", program, role, "webhook", config) {
            Ok(plugin) => assert_eq!(plugin.run(named(&["a", "write", "c"])).await.len(), 3),
            Err(error) => check(&error),
        }
    }
}
