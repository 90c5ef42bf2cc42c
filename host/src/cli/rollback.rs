//! `tidegate rollback`: back to a version that is kept.

use serde_json::json;

use super::Failure;
use super::args::RollbackArgs;
use super::client::{Client, part, show};
use super::deploy::outcome;
use crate::hosting::types::Deployed;

pub(super) fn run(args: &RollbackArgs) -> Result<(), Failure> {
    let client = Client::new(&args.at)?;
    let path = format!("/v1/apps/{}/rollback", part(&args.app)?);
    let deployed: Deployed = client.change("POST", &path, Some(&json!({ "version": args.version })))?;
    if client.json { show::json(&deployed) } else { show::print(&format!("{}\n", outcome(&deployed, false))) }
}
