//! The source against a real server, started for this: rows as they come out of the port.

// `cfg(test)` is always so here; clippy knows by it that helpers are tests too.
#[cfg(test)]
mod backfill;
#[cfg(test)]
mod certificates;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod connect;
#[cfg(test)]
mod enrichment;
#[cfg(test)]
mod log;
#[cfg(test)]
mod lookup;
#[cfg(test)]
mod majors;
#[cfg(test)]
mod partitions;
#[cfg(test)]
mod record;
#[cfg(test)]
mod rows;
#[cfg(test)]
mod schema;
#[cfg(test)]
mod slots;
#[cfg(test)]
mod stream;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod values;
