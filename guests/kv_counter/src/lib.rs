//! Page views: each request for a page counts, and the count outlives it. The app needs `kv = true`.

use serde::{Deserialize, Serialize};
use tidegate_sdk::{Json, Request, Result, Router, StatusCode, handler, kv};

/// In front of the key of each count.
const VIEWS: &str = "views:";

#[handler]
fn app() -> Router {
    Router::new().get("/views", all).get("/views/*", view).delete("/views/*", reset)
}

fn key(request: &Request) -> String {
    format!("{VIEWS}/{}", request.param("*").unwrap_or_default())
}

/// Counts a view. However many come at once, on whichever worker, each is counted once.
fn view(request: Request) -> Result<String> {
    let views = kv::increment(&key(&request), 1)?;
    Ok(format!("{views}\n"))
}

fn reset(request: Request) -> Result<StatusCode> {
    kv::delete(&key(&request))?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Page {
    path: String,
    views: u64,
}

/// All pages, those that are viewed most first.
fn all(_request: Request) -> Result<Json<Vec<Page>>> {
    let mut pages = Vec::new();
    for key in kv::keys(VIEWS) {
        let key = key?;
        // One that was reset meanwhile has none.
        let views = kv::get_string(&key)?.unwrap_or_default();
        let path = key.trim_start_matches(VIEWS).to_owned();
        pages.push(Page { path, views: views.parse().unwrap_or(0) });
    }
    pages.sort_by(|a, b| b.views.cmp(&a.views).then_with(|| a.path.cmp(&b.path)));
    Ok(Json(pages))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_sdk::test::{self, Exchange};

    /// The pages below a path. What other tests count meanwhile is in the same store.
    fn pages(app: &test::App, below: &str) -> Vec<(String, u64)> {
        let pages: Vec<Page> = serde_json::from_str(app.get("/views").assert_status(200).text()).unwrap();
        let pages = pages.into_iter().filter(|page| page.path.starts_with(below));
        pages.map(|page| (page.path, page.views)).collect()
    }

    #[test]
    fn views_are_counted_by_page() {
        let app = test::app(app());
        assert_eq!(app.get("/views/count/a").assert_status(200).text(), "1\n");
        assert_eq!(app.get("/views/count/a").text(), "2\n");
        assert_eq!(app.get("/views/count/b/c").text(), "1\n");
        assert_eq!(pages(&app, "/count/"), [("/count/a".to_owned(), 2), ("/count/b/c".to_owned(), 1)]);
    }

    #[test]
    fn a_page_is_reset() {
        let app = test::app(app());
        assert_eq!(app.get("/views/reset/a").text(), "1\n");
        assert_eq!(app.get("/views/reset/a").text(), "2\n");
        app.send(Exchange::new("DELETE", "/views/reset/a")).assert_status(204);
        assert!(pages(&app, "/reset/").is_empty());
        assert_eq!(app.get("/views/reset/a").text(), "1\n");
    }
}
