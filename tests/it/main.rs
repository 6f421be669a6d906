//! The tests against real servers and the real engine, linked once.

mod bench;
mod checker;
mod configuration;
mod crash;
mod file;
mod fixtures;
mod harness;
mod image;
mod isolation;
mod messages;
mod outage;
mod plugin_cli;
mod plugins;
mod proxy;
mod pull;
mod reload;
mod sequin_yaml;
mod source;
mod stdout;
mod story;
mod stream;
mod tables;
mod tail;
mod typesense;
mod webhook;
mod world;
