//! `bench peers`: other engines on the same log, beside ours.

use anyhow::Result;

#[derive(clap::Args)]
pub(crate) struct Arguments {}

pub(crate) async fn run(_arguments: Arguments) -> Result<()> {
    Ok(())
}
