//! The tests against real servers and the real engine, linked once.

mod bench;
mod checker;
mod configuration;
mod crash;
mod harness;
mod isolation;
mod messages;
mod plugin_cli;
mod plugins;
mod proxy;
mod reload;
mod source;
mod story;
mod stream;
mod tables;
mod tail;
mod webhook;
mod world;
