//! Small random changes to recorded bytes.

use fastrand::Rng;

/// What lengths, counts and tags go wrong with.
const NUMBERS: [u32; 9] = [0, 1, 3, 0x7F, 0xFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF];

/// What some text or message begins, ends or hangs together with.
const WORDS: [&[u8]; 18] = [
    b"{",
    b"}",
    b"\"",
    b"\\",
    b",",
    b"NULL",
    b"[1:2]=",
    b"1 day",
    b"00:00:01",
    b"e+1",
    b" BC",
    b"infinity",
    b"\xC5\xBE",
    b"\0",
    b"BCDIKMNORTUY",
    b"nut",
    b"99999999999",
    b" 9223372036854775807 years",
];

/// No input is longer: time goes into many, not into long ones.
const BYTES_MAX: usize = 8 * 1024;

/// Changes the input in one to four places; `other` is another one to take pieces of.
pub(super) fn mutate(input: &[u8], other: &[u8], dice: &mut Rng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..dice.usize(1..=4) {
        once(&mut bytes, other, dice);
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn once(bytes: &mut Vec<u8>, other: &[u8], dice: &mut Rng) {
    let at = dice.usize(..=bytes.len());
    let piece = |bytes: &[u8], dice: &mut Rng| {
        let start = dice.usize(..=bytes.len());
        let end = dice.usize(start..=bytes.len().min(start + 64));
        bytes[start..end].to_vec()
    };
    match dice.u8(..8) {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << dice.u8(..8);
            }
        }
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = dice.u8(..);
            }
        }
        2 => {
            let number = NUMBERS[dice.usize(..NUMBERS.len())].to_be_bytes();
            let number = &number[dice.usize(..4)..];
            let end = bytes.len().min(at + number.len());
            bytes.splice(at..end, number.iter().copied());
        }
        3 => {
            let word = WORDS[dice.usize(..WORDS.len())];
            bytes.splice(at..at, word.iter().copied());
        }
        4 => bytes.truncate(at),
        5 => {
            let end = bytes.len().min(at + dice.usize(1..=16));
            bytes.drain(at..end);
        }
        6 => {
            let piece = piece(bytes, dice);
            bytes.splice(at..at, piece);
        }
        _ => {
            let piece = piece(other, dice);
            bytes.splice(at..at, piece);
        }
    }
}
