//! A project: a folder in which a module is made, by cargo or by a command of its own, and what its `tidegate.toml` says
//! about serving it.

use std::path::{Path, PathBuf};

use crate::config::manifest::{self, MANIFEST};
use crate::config::{AppSettings, BuildSettings, BuildTarget, Settings};

use super::build::cargo::Crate;
use super::{Failure, serve};

/// A folder whose module can be built.
#[derive(Debug)]
pub(super) struct Project {
    /// As it was named.
    pub(super) folder: PathBuf,
    /// What its app is called where the manifest does not say: the crate, or the folder.
    pub(super) name: String,
    /// How the module is made.
    pub(super) maker: Maker,
    /// The folder's manifest, when there is one.
    settings: Option<Settings>,
}

/// How the module of a project is made.
#[derive(Debug)]
pub(super) enum Maker {
    /// By cargo.
    Cargo(Crate),
    /// By the command of `[build]`.
    Command(BuildSettings),
}

impl Project {
    /// Looks at a folder. A command in its manifest's `[build]` wins over a Cargo.toml. `target` is what was asked for,
    /// if it was: it wins over the manifest's.
    ///
    /// # Errors
    /// There is nothing to build in it, its manifest is wrong, or what it becomes is not for us to say.
    pub(super) fn open(folder: &Path, target: Option<BuildTarget>) -> Result<Self, Failure> {
        let path = folder.join(MANIFEST);
        let manifest = if path.is_file() { Some(manifest::load_project(&path)?) } else { None };
        let (settings, build, usual) = match manifest {
            Some(read) => (Some(read.settings), read.build, read.target),
            None => (None, None, None),
        };
        let (name, maker) = match build {
            Some(_) if target.is_some() => {
                let message = "`--target` is for Rust crates: what this project becomes, the command of its `[build]` says";
                return Err(Failure::usage(message, Some(format!("see `{}`", path.display()))));
            }
            Some(build) => (name_of(folder), Maker::Command(build)),
            None => {
                let handler = Crate::open(folder, target.or(usual).unwrap_or_default())?;
                (handler.package.clone(), Maker::Cargo(handler))
            }
        };
        Ok(Self { folder: folder.to_path_buf(), name, maker, settings })
    }

    /// What to serve once `module` is built.
    ///
    /// # Errors
    /// The manifest has several apps, and none of them is this project's.
    pub(super) fn settings(&self, module: &Path) -> Result<Settings, Failure> {
        let Some(mut settings) = self.settings.clone() else {
            return serve::of_module(module.to_path_buf(), &self.name);
        };
        if settings.apps.is_empty() {
            settings.apps = serve::of_module(module.to_path_buf(), &self.name)?.apps;
            return Ok(settings);
        }
        let only = settings.apps.len() == 1;
        let mut found = false;
        for app in &mut settings.apps {
            if only || self.is_ours(app) {
                app.source = module.to_path_buf();
                found = true;
            }
        }
        if !found {
            let message = format!(
                "none of the {} apps of `{}` is this project's",
                settings.apps.len(),
                self.folder.join(MANIFEST).display()
            );
            let help = format!("call one of them `{}`, or leave out its `source`", self.name);
            return Err(Failure::usage(message, Some(help)));
        }
        Ok(settings)
    }

    /// Where the module belongs when it is built to be served from there.
    pub(super) fn module(&self) -> PathBuf {
        if let Maker::Command(build) = &self.maker {
            return plain(&build.output);
        }
        let apps = self.settings.as_ref().map_or(&[][..], |settings| &settings.apps);
        let ours = match apps {
            [only] => Some(only),
            several => several.iter().find(|app| self.is_ours(app)),
        };
        match ours {
            Some(app) if !app.source.as_os_str().is_empty() => plain(&app.source),
            _ => plain(&self.folder.join(format!("{}.wasm", self.name))),
        }
    }

    fn is_ours(&self, app: &AppSettings) -> bool {
        let built = match &self.maker {
            Maker::Command(build) => app.source == build.output,
            Maker::Cargo(_) => false,
        };
        built || app.source.as_os_str().is_empty() || app.name == self.name
    }
}

/// A path without the current folder at its front, which goes without saying.
fn plain(path: &Path) -> PathBuf {
    path.strip_prefix(".").unwrap_or(path).to_path_buf()
}

/// The name of a folder, also when it is written as `.` or `..`.
fn name_of(folder: &Path) -> String {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    whole.file_name().map_or_else(|| "app".to_owned(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILD: &str = "[build]\ncommand = \"make\"\noutput = \"out.wasm\"\n";

    fn project(manifest: &str) -> (tempfile::TempDir, Project) {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("shop");
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(inside.join(MANIFEST), manifest).unwrap();
        let project = Project::open(&inside, None).unwrap();
        (folder, project)
    }

    fn apps(project: &Project) -> Vec<(String, PathBuf)> {
        let settings = project.settings(Path::new("new.wasm")).unwrap();
        settings.apps.into_iter().map(|app| (app.name, app.source)).collect()
    }

    #[test]
    fn the_app_of_a_project_gets_its_module() {
        let (folder, alone) = project(BUILD);
        assert_eq!(alone.module(), folder.path().join("shop/out.wasm"));
        assert_eq!(apps(&alone), [("shop".to_owned(), PathBuf::from("new.wasm"))]);

        let (_folder, one) =
            project(&format!("{BUILD}[[app]]\nname = \"x\"\nsource = \"y.wasm\"\nroutes = [\"/x\"]\n"));
        assert_eq!(apps(&one), [("x".to_owned(), PathBuf::from("new.wasm"))]);
        assert_eq!(one.settings(Path::new("new.wasm")).unwrap().apps[0].routes, ["/x"]);
    }

    #[test]
    fn of_several_apps_it_is_the_one_that_names_it() {
        let app =
            |name: &str, rest: &str| format!("[[app]]\nname = \"{name}\"\nroutes = [\"/{name}\"]\n{rest}\n");
        let other = app("other", "source = \"other.wasm\"");
        for ours in
            [app("a", ""), app("b", "source = \"out.wasm\""), app("shop", "source = \"elsewhere.wasm\"")]
        {
            let (folder, several) = project(&format!("{BUILD}{other}{ours}"));
            let apps = apps(&several);
            assert_eq!(apps[0].1, folder.path().join("shop/other.wasm"));
            assert_eq!(apps[1].1, PathBuf::from("new.wasm"), "{ours}");
        }
        let more = app("more", "source = \"more.wasm\"");
        let (_folder, none) = project(&format!("{BUILD}{other}{more}"));
        let told = none.settings(Path::new("new.wasm")).unwrap_err().to_string();
        assert!(told.contains("none of the 2 apps") && told.contains("call one of them `shop`"), "{told}");
    }
}
