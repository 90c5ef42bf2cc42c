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

    fn pages(app: &test::App) -> Vec<(String, u64)> {
        let pages: Vec<Page> = serde_json::from_str(app.get("/views").assert_status(200).text()).unwrap();
        pages.into_iter().map(|page| (page.path, page.views)).collect()
    }

    #[test]
    fn views_are_counted_by_page() {
        let app = test::app(app());
        assert_eq!(app.get("/views/a").assert_status(200).text(), "1\n");
        assert_eq!(app.get("/views/a").text(), "2\n");
        assert_eq!(app.get("/views/b/c").text(), "1\n");
        assert_eq!(pages(&app), [("/a".to_owned(), 2), ("/b/c".to_owned(), 1)]);
    }

    #[test]
    fn a_page_is_reset() {
        // What a handler is to find can be put there.
        kv::set("views:/a", "41").unwrap();
        let app = test::app(app());
        assert_eq!(app.get("/views/a").text(), "42\n");
        app.send(Exchange::new("DELETE", "/views/a")).assert_status(204);
        assert!(pages(&app).is_empty());
        assert_eq!(app.get("/views/a").text(), "1\n");
    }

    #[test]
    fn what_is_no_count_is_an_error() {
        kv::set("views:/a", "many").unwrap();
        test::app(app()).get("/views/a").assert_status(500);
    }
}
