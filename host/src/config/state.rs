//! Where a server keeps what outlives it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::problem::ValueError;

/// What the folder is called in the user's cache folder.
const NAME: &str = "tidegate";

/// The state folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StateFolder {
    /// `tidegate` in the user's cache folder (XDG base directories): in `$XDG_CACHE_HOME`, else in `~/.cache`.
    #[default]
    User,
    /// This one.
    At(PathBuf),
}

impl StateFolder {
    /// Reads a path.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        if text.is_empty() || text.contains('\0') {
            return Err(ValueError::new("the path of the state folder is missing"));
        }
        Ok(Self::At(PathBuf::from(text)))
    }

    /// The same, with a relative path taken from `folder` on.
    #[must_use]
    pub fn relative_to(self, folder: &Path) -> Self {
        match self {
            Self::At(path) => Self::At(folder.join(path)),
            Self::User => Self::User,
        }
    }

    /// The path. None: the environment names no folder of the user's.
    pub(crate) fn folder(&self) -> Option<PathBuf> {
        self.folder_in(|name| env::var_os(name))
    }

    /// The path, for a server that hosts apps: what it keeps is no cache. In `$XDG_STATE_HOME`, else in `~/.local/state`.
    pub(crate) fn hosting_folder(&self) -> Option<PathBuf> {
        self.hosting_folder_in(|name| env::var_os(name))
    }

    fn hosting_folder_in(&self, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
        let folder = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        match self {
            Self::At(path) => Some(path.clone()),
            Self::User => folder("XDG_STATE_HOME")
                .or_else(|| folder("HOME").map(|home| home.join(".local/state")))
                .map(|state| state.join(NAME)),
        }
    }

    fn folder_in(&self, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
        // The specification wants relative paths ignored.
        let folder = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        match self {
            Self::At(path) => Some(path.clone()),
            Self::User => folder("XDG_CACHE_HOME")
                .or_else(|| folder("HOME").map(|home| home.join(".cache")))
                .map(|cache| cache.join(NAME)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_cache_folder_is_found_as_others_find_it() {
        let table = [
            (Some("/c"), Some("/home/x"), Some("/c/tidegate")),
            (None, Some("/home/x"), Some("/home/x/.cache/tidegate")),
            (Some(""), Some("/home/x"), Some("/home/x/.cache/tidegate")),
            (Some("relative"), Some("/home/x"), Some("/home/x/.cache/tidegate")),
            (Some("relative"), Some("relative"), None),
            (None, None, None),
        ];
        for (cache, home, expected) in table {
            let variable = |name: &str| match name {
                "XDG_CACHE_HOME" => cache.map(OsString::from),
                _ => home.map(OsString::from),
            };
            assert_eq!(
                StateFolder::User.folder_in(variable),
                expected.map(PathBuf::from),
                "{cache:?} {home:?}"
            );
            assert_eq!(StateFolder::At("s".into()).folder_in(variable), Some("s".into()));
        }
    }

    #[test]
    fn a_path_is_taken_from_a_folder() {
        let at = |text: &str| StateFolder::parse(text).unwrap().relative_to(Path::new("/srv"));
        assert_eq!(at("state"), StateFolder::At("/srv/state".into()));
        assert_eq!(at("/state"), StateFolder::At("/state".into()));
        assert_eq!(StateFolder::User.relative_to(Path::new("/srv")), StateFolder::User);
        assert!(StateFolder::parse("").is_err());
    }
}
