//! `tidegate versions`: what is kept of an app.

use super::Failure;
use super::args::OfAppArgs;
use super::client::{Client, part, show};
use crate::hosting::types::VersionView;

pub(super) fn run(args: &OfAppArgs) -> Result<(), Failure> {
    let client = Client::new(&args.at)?;
    let versions: Vec<VersionView> = client.get(&format!("/v1/apps/{}/versions", part(&args.app)?))?;
    if client.json {
        return show::json(&versions);
    }
    let row = |version: &VersionView| {
        [
            version.version.to_string(),
            version.state.clone(),
            show::time(version.created_ms),
            version.kind.clone(),
            show::kib(version.module_bytes),
            version.module.chars().take(12).collect(),
            version.by.clone(),
            show::dash(version.reason.as_ref().or(version.note.as_ref())),
        ]
    };
    let heads = ["VERSION", "STATE", "DEPLOYED", "KIND", "SIZE", "MODULE", "BY", "NOTE"];
    show::table(heads, versions.iter().map(row).collect())
}
