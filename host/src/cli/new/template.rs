//! The templates: real files, with `{{name}}` and `{{sdk}}` where the project's own words belong.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};

use super::sdk;

/// What all Rust templates begin with.
static RUST: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/templates/rust");

/// Something to begin with.
pub(super) struct Template {
    /// As `--template` names it.
    pub(super) name: &'static str,
    files: Dir<'static>,
    language: Language,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Language {
    Rust,
    C,
}

/// All that there are.
pub(super) static TEMPLATES: [Template; 5] = [
    Template {
        name: "hello",
        files: include_dir!("$CARGO_MANIFEST_DIR/templates/hello"),
        language: Language::Rust,
    },
    Template {
        name: "router",
        files: include_dir!("$CARGO_MANIFEST_DIR/templates/router"),
        language: Language::Rust,
    },
    Template {
        name: "stream",
        files: include_dir!("$CARGO_MANIFEST_DIR/templates/stream"),
        language: Language::Rust,
    },
    Template {
        name: "sse",
        files: include_dir!("$CARGO_MANIFEST_DIR/templates/sse"),
        language: Language::Rust,
    },
    Template { name: "c", files: include_dir!("$CARGO_MANIFEST_DIR/templates/c"), language: Language::C },
];

impl Template {
    /// Whether a project of this template depends on the SDK.
    pub(super) fn needs_sdk(&self) -> bool {
        self.language == Language::Rust
    }

    /// The files of a project. `sdk` is a path as it is to stand in a Cargo.toml.
    pub(super) fn files(&self, name: &str, sdk: &str) -> BTreeMap<PathBuf, String> {
        let mut files = BTreeMap::new();
        match self.language {
            Language::Rust => collect(&RUST, &mut files),
            Language::C => {
                files.insert(PathBuf::from("tidegate.h"), sdk::HEADER.to_owned());
            }
        }
        // A template's own file stands in for the common one.
        collect(&self.files, &mut files);
        let sdk = toml::Value::from(sdk).to_string();
        for text in files.values_mut() {
            *text = text.replace("{{name}}", name).replace("{{sdk}}", &sdk);
        }
        files
    }
}

fn collect(dir: &Dir<'_>, files: &mut BTreeMap<PathBuf, String>) {
    for file in dir.files() {
        let text = String::from_utf8_lossy(file.contents()).into_owned();
        files.insert(Path::new(file.path()).to_path_buf(), text);
    }
    for inner in dir.dirs() {
        collect(inner, files);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::manifest;

    #[test]
    fn every_template_is_complete() {
        for template in &TEMPLATES {
            let files = template.files("my-shop", "vendor/tidegate-sdk");
            let text = |name: &str| {
                let text = files.get(Path::new(name));
                text.unwrap_or_else(|| panic!("{}: {name}", template.name)).as_str()
            };
            assert!(text("README.md").starts_with("# my-shop\n"));
            assert!(text(".gitignore").contains("*.wasm"));
            if template.needs_sdk() {
                let cargo: toml::Table = text("Cargo.toml").parse().unwrap();
                assert_eq!(cargo["package"]["name"].as_str(), Some("my-shop"));
                assert_eq!(
                    cargo["dependencies"]["tidegate-sdk"]["path"].as_str(),
                    Some("vendor/tidegate-sdk")
                );
                // They differ in nothing but what they depend on.
                let common =
                    String::from_utf8_lossy(RUST.get_file("Cargo.toml").unwrap().contents()).into_owned();
                for line in common.lines().filter(|line| !line.contains("{{")) {
                    assert!(text("Cargo.toml").contains(line), "{}: {line}", template.name);
                }
                assert!(
                    text("src/lib.rs").contains("#[handler]") && text("src/lib.rs").contains("test::app(")
                );
            }
            for (path, text) in &files {
                assert!(!text.contains("{{name}}") && !text.contains("{{sdk}}"), "{}", path.display());
            }
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(manifest::MANIFEST);
            std::fs::write(&path, text(manifest::MANIFEST)).unwrap();
            let project = manifest::load_project(&path).unwrap();
            assert_eq!(project.settings.apps[0].name, "my-shop");
            assert_eq!(project.build.is_some(), !template.needs_sdk());
        }
    }

    #[test]
    fn what_is_commented_out_in_the_manifests_is_right() {
        for template in &TEMPLATES {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(manifest::MANIFEST);
            let files = template.files("shop", "vendor/tidegate-sdk");
            let text = &files[Path::new(manifest::MANIFEST)];
            let setting =
                |line: &&str| line.starts_with("# ") && (line.contains(" = ") || line.starts_with("# ["));
            let number = text.lines().filter(setting).count();
            assert!(number >= 2, "{text}");
            let uncommented: Vec<&str> =
                text.lines().map(|line| if setting(&line) { &line[2..] } else { line }).collect();
            std::fs::write(&path, uncommented.join("\n")).unwrap();
            manifest::load_project(&path).unwrap();
        }
    }

    #[test]
    fn an_sdk_elsewhere_is_written_as_toml() {
        let files = TEMPLATES[0].files("shop", "/tmp/a \"b\"\\c");
        let cargo: toml::Table = files[Path::new("Cargo.toml")].parse().unwrap();
        assert_eq!(cargo["dependencies"]["tidegate-sdk"]["path"].as_str(), Some("/tmp/a \"b\"\\c"));
    }
}
