//! The tests against real servers and the real engine, linked once.

mod harness;
