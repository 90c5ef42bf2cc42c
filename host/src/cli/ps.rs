//! `tidegate ps`: what the apps are doing now; and ending one of it.

use serde_json::json;

use super::Failure;
use super::args::{PsArgs, PsVerb};
use super::client::{Client, part, show};
use crate::hosting::types::RequestView;

pub(super) fn run(args: &PsArgs) -> Result<(), Failure> {
    if let Some(PsVerb::Cancel { id, at }) = &args.verb {
        return cancel(&Client::new(at)?, id);
    }
    let client = Client::new(&args.at)?;
    let mut requests: Vec<RequestView> = client.get("/v1/requests")?;
    if let Some(app) = &args.app {
        requests.retain(|request| request.app == *app);
    }
    if client.json {
        return show::json(&requests);
    }
    requests.sort_by_key(|request| std::cmp::Reverse(request.age_ms));
    let row = |request: &RequestView| {
        [
            request.id.clone(),
            request.app.clone(),
            request.version.to_string(),
            request.worker.to_string(),
            request.kind.clone(),
            show::span(request.age_ms.saturating_mul(1000)),
            show::span(request.cpu_us),
            request.waits_for.clone(),
            request.request.clone(),
        ]
    };
    let heads = ["ID", "APP", "VERSION", "WORKER", "KIND", "AGE", "CPU", "WAITS FOR", "REQUEST"];
    show::table(heads, requests.iter().map(row).collect())
}

fn cancel(client: &Client, id: &str) -> Result<(), Failure> {
    client.command("DELETE", &format!("/v1/requests/{}", part(id)?))?;
    if client.json {
        show::json(&json!({ "cancelled": id }))
    } else {
        show::print(&format!("{id}: cancelled\n"))
    }
}
