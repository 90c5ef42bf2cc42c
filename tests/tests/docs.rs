//! The docs lead somewhere: every relative link names a file that is there and, where it has one, an anchor in it; every
//! row of the page for people from Node and Go names what shows it.

use std::fs;
use std::path::{Path, PathBuf};

use tidegate_tests::artifacts::workspace;
use tidegate_tests::markdown::{Page, code_spans};

/// Every page that a reader may come to: those of the root, of `docs` and its folders, of the tests and of the guests.
fn pages() -> Vec<PathBuf> {
    let root = workspace();
    let mut found = Vec::new();
    let mut folders = vec![root.join("docs"), root.join("tests"), root.join("guests")];
    let readmes = fs::read_dir(root.join("guests")).unwrap().flatten();
    folders.extend(readmes.map(|entry| entry.path()).filter(|path| path.is_dir()));
    folders.extend([root.to_path_buf(), root.join("docs/decisions")]);
    for folder in folders {
        let entries = fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path());
        found.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    found.sort();
    found
}

fn parse(path: &Path) -> Page {
    Page::parse(&fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// What is wrong with a link of a page, if anything.
fn trouble(page: &Path, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() { page.to_path_buf() } else { page.parent().unwrap().join(file) };
    if !target.exists() {
        return Some("there is no such file".to_owned());
    }
    let is_page = target.extension().is_some_and(|extension| extension == "md");
    let dangling = is_page && !anchor.is_empty() && !parse(&target).anchors.iter().any(|a| a == anchor);
    dangling.then(|| "there is no such heading".to_owned())
}

#[test]
fn every_relative_link_leads_somewhere() {
    let pages = pages();
    assert!(pages.len() > 15, "{pages:?}");
    let mut troubles = Vec::new();
    for path in &pages {
        for link in &parse(path).links {
            troubles.extend(trouble(path, link).map(|why| format!("{}: {link}: {why}", path.display())));
        }
    }
    assert!(troubles.is_empty(), "{troubles:#?}");
}

#[test]
fn every_idiom_is_shown_by_something() {
    let path = workspace().join("docs/from-node-and-go.md");
    let page = parse(&path);
    let mut troubles = Vec::new();
    for (heading, least) in [("Node", 40), ("Express", 25), ("Go", 50)] {
        let rows = page.rows_below(heading);
        assert!(rows.len() > least, "{} rows for {heading}", rows.len());
        for row in rows.iter().skip(1) {
            let [theirs, _, shown] = row else { panic!("{row:?} does not have three cells") };
            troubles.extend(unshown(&path, shown).map(|why| format!("{theirs}: {why}")));
        }
    }
    assert!(troubles.is_empty(), "{troubles:#?}");
}

/// Why the last cell of a row shows nothing: it is to be one link to a source file, and a test that it names is in it.
fn unshown(page: &Path, cell: &str) -> Option<String> {
    let links = Page::parse(cell).links;
    let [link] = links.as_slice() else { return Some(format!("{cell:?} is not one link")) };
    let target = page.parent().unwrap().join(link);
    let Ok(source) = fs::read_to_string(&target) else { return Some(format!("{link} is not there")) };
    let missing = |name: &&str| !source.contains(&format!("fn {name}("));
    code_spans(cell).into_iter().find(missing).map(|name| format!("no test in {link} is called {name}"))
}
