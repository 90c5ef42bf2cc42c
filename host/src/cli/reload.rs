//! `tidegate reload`: the server reads its manifest again.

use super::Failure;
use super::args::ReloadArgs;
use super::client::{Client, show};
use super::deploy::outcome;
use crate::hosting::types::Deployed;

/// Said where no version was made. Who has changed an address waits for it otherwise.
const NOTHING: &str =
    "no app has a new version; `[server]` and `[[listen]]` are taken up by a restart or an upgrade\n";

pub(super) fn run(args: &ReloadArgs) -> Result<(), Failure> {
    let client = Client::new(&args.at)?;
    let all: Vec<Deployed> = client.change("POST", "/v1/reload", None)?;
    if client.json {
        return show::json(&all);
    }
    let lines: String = all.iter().map(|deployed| format!("{}\n", outcome(deployed, false))).collect();
    // An app that went is not in the answer.
    show::print(if lines.is_empty() { NOTHING } else { &lines })
}
