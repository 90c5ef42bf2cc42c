//! `/N` logs N lines, 10,000 by default. The host drops what is above the app's rate, counts it, and answers as ever.

use tidegate_sdk::{Request, handler, info};

#[handler]
fn chat(request: Request) -> String {
    let lines: u32 = request.path_below_mount().trim_start_matches('/').parse().unwrap_or(10_000);
    for i in 0..lines {
        info!("line {i}: still talking");
    }
    format!("logged {lines} lines\n")
}
