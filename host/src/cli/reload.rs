//! `tidegate reload`: the server reads its manifest again.

use super::Failure;
use super::args::ReloadArgs;
use super::client::{Client, show};
use super::deploy::outcome;
use crate::hosting::types::Deployed;

pub(super) fn run(args: &ReloadArgs) -> Result<(), Failure> {
    let client = Client::new(&args.at)?;
    let all: Vec<Deployed> = client.change("POST", "/v1/reload", None)?;
    if client.json {
        return show::json(&all);
    }
    let lines: String = all.iter().map(|deployed| format!("{}\n", outcome(deployed, false))).collect();
    show::print(if lines.is_empty() { "nothing has changed\n" } else { &lines })
}
