//! Versions of plugins on the command line: `sequin plugin push`, `promote` and the like.

use std::path::PathBuf;

use clap::Args;

use super::RoleName;

#[derive(Debug, Args)]
pub(crate) struct PushArguments {
    /// The component.
    pub(crate) file: PathBuf,
    /// Its name, if it does not say it itself.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Its version, likewise.
    #[arg(long)]
    pub(crate) version: Option<String>,
    /// What is to be remembered of it.
    #[arg(long, default_value = "")]
    pub(crate) comment: String,
    /// Who pushes it; by default the user of this system.
    #[arg(long, value_name = "WHO")]
    pub(crate) by: Option<String>,
    /// A detached signature of the file, in base64, as `cosign sign-blob` writes it; repeatable. Else
    /// FILE.sig, if it is there.
    #[arg(long = "signature", value_name = "FILE")]
    pub(crate) signatures: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct PublishArguments {
    /// The component.
    pub(crate) file: PathBuf,
    /// `registry.example.com/team/name:1.2.3`, or `oci-layout:DIRECTORY` with `:TAG` behind it.
    pub(crate) to: String,
    /// A detached signature of the file, in base64; repeatable. Else FILE.sig, if it is there.
    #[arg(long = "signature", value_name = "FILE")]
    pub(crate) signatures: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct PullArguments {
    /// `registry.example.com/team/name:1.2.3`, or `oci-layout:DIRECTORY` with `:TAG` behind it.
    pub(crate) from: String,
    /// The file to write.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// `sha256:` and 64 hexadecimal digits: what the component must be.
    #[arg(long)]
    pub(crate) digest: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ByHandArguments {
    /// The name or the id of the sink.
    pub(crate) sink: String,
    /// Which of its chains; needed if it has several.
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: Option<RoleName>,
    /// Why; it is kept, and told with the hold.
    #[arg(long, default_value = "")]
    pub(crate) reason: String,
    /// Who; by default the user of this system.
    #[arg(long, value_name = "WHO")]
    pub(crate) by: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PromoteArguments {
    #[command(flatten)]
    pub(crate) by_hand: ByHandArguments,
    /// NAME@VERSION or sha256:…
    #[arg(long, value_name = "VERSION")]
    pub(crate) to: String,
    /// Which function of the chain; needed if it has several.
    #[arg(long, value_name = "NAME")]
    pub(crate) function: Option<String>,
    /// Another configuration, too, as JSON.
    #[arg(long, value_name = "JSON")]
    pub(crate) config: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArguments {
    #[command(flatten)]
    pub(crate) by_hand: ByHandArguments,
    /// The generation; without, the newest that was other than what runs.
    #[arg(long, value_name = "GENERATION")]
    pub(crate) to: Option<u64>,
}
