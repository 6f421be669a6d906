//! Real components in a real host: what plugins can do, and what hostile ones cannot.
//!
//! One binary, as each links wasmtime. The components are built by `cargo x plugins`.

// `cfg(test)` is always so here; clippy knows by it that helpers are tests too.
#[cfg(test)]
mod behave;
#[cfg(test)]
mod bind;
#[cfg(test)]
mod bytes;
#[cfg(test)]
mod capabilities;
#[cfg(test)]
mod compiled;
#[cfg(test)]
mod cost;
#[cfg(test)]
mod crowd;
#[cfg(test)]
mod describe;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod log;
#[cfg(test)]
mod reads;
#[cfg(test)]
mod split;
#[cfg(test)]
mod support;
#[cfg(test)]
mod warm;
