//! What a hostile server may send, taken apart by the code that reads it: one function for each way
//! in, and what must hold whatever comes in.
//!
//! A function returns, or it panics: then something does not hold. They are called with recorded
//! bytes and changed ones by the tests, in short, and by the fuzz targets in `host/postgres/fuzz`,
//! for as long as one likes. No part of the product: the feature `fuzz` makes them public.

mod facts;
mod frame;
mod json;
mod tuple;
mod value;

/// A conversation from its first byte: login, commands, the stream.
///
/// A byte of options (see `frame`), one that says how many bytes come at once, and what the server
/// says.
///
/// # Panics
/// If it does not end in the same way however it is cut up, or takes more memory than it has bytes
/// for.
pub fn frame(input: &[u8]) {
    frame::run(input);
}

/// Messages of pgoutput, through the whole decoder.
///
/// What the catalog would answer (see `facts`), a byte that says how often a batch is sealed, and
/// messages, each behind its length in two bytes.
///
/// # Panics
/// If a batch is not what it must be, or depends on when it is sealed; if a question is asked
/// twice, or a message that was refused leaves a trace.
pub fn tuple(input: &[u8]) {
    tuple::run(input);
}

/// One value of any type.
///
/// What the catalog would answer (see `facts`), the type's id, and the text.
///
/// # Panics
/// If what is written is not what its kind promises, or longer than a page allows for.
pub fn value(input: &[u8]) {
    value::run(input);
}

#[cfg(test)]
mod mutate;
#[cfg(test)]
mod tests;
