//! Free TCP ports on the loopback interface.
//!
//! A port is free when asked for; nobody holds it until the server it is for binds it. What makes a
//! collision unlikely is that ports are drawn at random, and below the range from which the system
//! takes the local ends of outgoing connections.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use anyhow::{Context as _, Result};

/// Above the well-known services, below the ephemeral ports of Linux (from 32768).
const RANGE: Range<u16> = 15_000..32_000;

/// More than would ever be taken.
const ATTEMPTS: u16 = 200;

/// A port that nothing listens on.
pub fn free() -> Result<u16> {
    (0..ATTEMPTS)
        .map(|_| random())
        .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .context("find a free port")
}

fn random() -> u16 {
    // A fresh `RandomState` has keys of its own, so hashing anything is a random number.
    let offset = RandomState::new().hash_one(0) % u64::from(RANGE.end - RANGE.start);
    RANGE.start + u16::try_from(offset).unwrap_or_default()
}
