//! Folders of the host that a component sees.

use std::path::{Path, PathBuf};

use super::problem::ValueError;

/// A folder of the host, and where the guest finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The folder.
    pub host: PathBuf,
    /// The path that the guest knows it by: absolute, with nothing in it to be resolved.
    pub guest: String,
    /// Whether the guest may change what is in it.
    pub write: bool,
}

impl Mount {
    /// Reads `HOST:GUEST`, `HOST:GUEST:ro` and `HOST:GUEST:rw`. The host's path may hold colons itself.
    pub(crate) fn parse(text: &str) -> Result<Self, ValueError> {
        let (paths, write) = match text.strip_suffix(":rw") {
            Some(paths) => (paths, true),
            None => (text.strip_suffix(":ro").unwrap_or(text), false),
        };
        let help = "as in `./public:/public`, or `data:/data:rw` for a folder that the guest may write to";
        let Some((host, guest)) = paths.rsplit_once(":/") else {
            let message = match paths.rsplit_once(':') {
                Some((_, guest)) => format!("the guest's path `{guest}` does not begin with `/`"),
                None => format!("`{text}` is not `HOST:GUEST`"),
            };
            return Err(ValueError::new(message).help(help));
        };
        if let Some((_, mode)) = guest.split_once(':') {
            return Err(ValueError::new(format!("`{mode}` is neither `ro` nor `rw`")).help(help));
        }
        let host = Self::check_host_path(host).map_err(|error| error.help(help))?;
        Ok(Self { host, guest: Self::check_guest(&format!("/{guest}"))?, write })
    }

    /// A path of the host that can be looked for.
    pub(super) fn check_host_path(text: &str) -> Result<PathBuf, ValueError> {
        if text.is_empty() || text.contains('\0') {
            return Err(ValueError::new("the path of the folder is missing"));
        }
        Ok(PathBuf::from(text))
    }

    /// A path as a guest knows it. A slash at its end means nothing.
    pub(super) fn check_guest(text: &str) -> Result<String, ValueError> {
        let error = |what: &str| {
            ValueError::new(format!("the guest's path `{}` {what}", text.escape_default()))
                .help("as in `/public`; `/` is everything")
        };
        let Some(inner) = text.strip_prefix('/') else { return Err(error("does not begin with `/`")) };
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        if inner.is_empty() && text.len() <= 1 {
            return Ok("/".to_owned());
        }
        for part in inner.split('/') {
            match part {
                "" => return Err(error("has an empty part")),
                "." | ".." => return Err(error("holds `.` or `..`")),
                part if part.contains('\0') => return Err(error("contains a NUL byte")),
                _ => {}
            }
        }
        Ok(format!("/{inner}"))
    }

    /// Finds out whether the host has the folder.
    pub(crate) fn check_host(&self) -> Result<(), ValueError> {
        let shown = self.host.display();
        match std::fs::metadata(&self.host) {
            Ok(meta) if meta.is_dir() => Ok(()),
            Ok(_) => Err(ValueError::new(format!("`{shown}` is not a folder"))
                .help("a mount is a folder, with all that is in it")),
            Err(error) => Err(ValueError::new(format!("`{shown}`: {error}"))
                .help("the folder has to be there before the server starts")),
        }
    }

    /// Adds it to others. Two on one path would hide each other.
    pub(crate) fn add_to(self, mounts: &mut Vec<Self>) -> Result<(), ValueError> {
        if let Some(other) = mounts.iter().find(|other| other.guest == self.guest) {
            let message =
                format!("`{}` is the guest's path of `{}` already", self.guest, other.host.display());
            return Err(ValueError::new(message));
        }
        mounts.push(self);
        Ok(())
    }

    /// The same, with the folder taken from `folder` on.
    pub(super) fn relative_to(self, folder: &Path) -> Self {
        Self { host: folder.join(self.host).components().collect(), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_name_a_folder_a_path_and_what_may_be_done() {
        let table = [
            ("public:/public", "public", "/public", false),
            ("./p:/a/b/", "./p", "/a/b", false),
            ("data:/data:rw", "data", "/data", true),
            ("data:/data:ro", "data", "/data", false),
            ("/srv/a:b:/", "/srv/a:b", "/", false),
        ];
        for (text, host, guest, write) in table {
            let expected = Mount { host: host.into(), guest: guest.into(), write };
            assert_eq!(Mount::parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn wrong_flags_are_told_apart() {
        let table = [
            ("public", "`public` is not `HOST:GUEST`"),
            ("", "`` is not `HOST:GUEST`"),
            ("public:public", "the guest's path `public` does not begin with `/`"),
            ("public:/public:rx", "`rx` is neither `ro` nor `rw`"),
            (":/public", "the path of the folder is missing"),
            ("public:/a/../b", "holds `.` or `..`"),
            ("public:/a/./b", "holds `.` or `..`"),
            ("public:/..", "holds `.` or `..`"),
            ("public:/a//b", "has an empty part"),
            ("public://", "has an empty part"),
        ];
        for (text, message) in table {
            let error = Mount::parse(text).unwrap_err();
            assert!(error.message.contains(message), "{text}: {error:?}");
            assert!(error.help.is_some(), "{text}");
        }
    }

    #[test]
    fn two_on_one_path_are_refused() {
        let mut mounts = Vec::new();
        Mount::parse("a:/x").unwrap().add_to(&mut mounts).unwrap();
        Mount::parse("b:/x/y").unwrap().add_to(&mut mounts).unwrap();
        let error = Mount::parse("c:/x/").unwrap().add_to(&mut mounts).unwrap_err();
        assert!(error.message.contains("`/x` is the guest's path of `a` already"), "{error:?}");
        assert_eq!(mounts.len(), 2);
    }
}
