//! Where a secret comes from. The value is read when it is needed and stands in no setting, so that nothing that shows
//! settings can show it.

use std::fmt;
use std::path::{Path, PathBuf};

use super::problem::ValueError;

/// Bytes of the longest secret: what an environment variable may reasonably be.
const BYTES_MAX: u64 = 64 << 10;

/// The source of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// A file: its text, without one line break at the end.
    File(PathBuf),
    /// A variable of the server's own environment.
    Env(String),
}

impl SecretSource {
    /// Reads `file:PATH` or `env:NAME`.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let help = "as in `file:/run/secrets/db` or `env:DB_PASSWORD`";
        match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() && !path.contains('\0') => {
                Ok(Self::File(PathBuf::from(path)))
            }
            Some(("env", name)) if !name.is_empty() && !name.contains(['=', '\0']) => {
                Ok(Self::Env(name.to_owned()))
            }
            // The text may be the secret itself, written down by mistake: it is not repeated.
            _ => Err(ValueError::new("this is no source of a secret").help(help)),
        }
    }

    /// The same, with a relative path taken from `folder` on.
    #[must_use]
    pub fn relative_to(self, folder: &Path) -> Self {
        match self {
            Self::File(path) => Self::File(folder.join(path)),
            variable @ Self::Env(_) => variable,
        }
    }

    /// The secret.
    ///
    /// # Errors
    /// There is no such file or variable, or it does not hold text without NUL bytes. The text says which, and never what it holds.
    pub(crate) fn read(&self) -> Result<String, ValueError> {
        let text = match self {
            Self::File(path) => {
                let shown = path.display();
                let meta = std::fs::metadata(path);
                let meta = meta.map_err(|error| ValueError::new(format!("the secret `{shown}`: {error}")))?;
                if !meta.is_file() || meta.len() > BYTES_MAX {
                    let message = format!("the secret `{shown}` is not a file of at most 64 KiB");
                    return Err(ValueError::new(message));
                }
                let text = std::fs::read(path)
                    .map_err(|error| ValueError::new(format!("the secret `{shown}`: {error}")))?;
                let text = String::from_utf8(text)
                    .map_err(|_| ValueError::new(format!("the secret `{shown}` is not UTF-8 text")))?;
                match text.strip_suffix('\n') {
                    Some(line) => line.strip_suffix('\r').unwrap_or(line).to_owned(),
                    None => text,
                }
            }
            Self::Env(name) => std::env::var(name).map_err(|_| {
                ValueError::new(format!("the variable `{name}` that holds a secret is not set"))
                    .help("it is read from the server's own environment")
            })?,
        };
        if text.contains('\0') {
            return Err(ValueError::new(format!("the secret of `{self}` holds a NUL byte")));
        }
        Ok(text)
    }
}

impl fmt::Display for SecretSource {
    /// As [`Self::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Env(name) => write!(f, "env:{name}"),
        }
    }
}

/// Who may speak to the admin side over TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSettings {
    /// What the audit calls whoever shows it.
    pub name: String,
    /// The token itself.
    pub secret: SecretSource,
    /// Whose apps it is for. None: everybody's.
    pub tenant: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources() {
        let shown = |text: &str| SecretSource::parse(text).unwrap().to_string();
        assert_eq!(shown("file:a/b:c"), "file:a/b:c");
        assert_eq!(shown("env:A"), "env:A");
        for bad in ["hunter2", "file:", "env:", "env:A=B", "", "File:x"] {
            let error = SecretSource::parse(bad).unwrap_err();
            assert!(bad.is_empty() || !error.message.contains(bad), "a secret is not repeated: {error:?}");
        }
        let relative = SecretSource::parse("file:x").unwrap().relative_to(Path::new("/srv"));
        assert_eq!(relative.to_string(), "file:/srv/x");
    }

    #[test]
    fn one_line_break_at_the_end_is_not_the_secrets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for (text, secret) in [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a"), ("", "")] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(SecretSource::File(path.clone()).read().unwrap(), secret);
        }
        std::fs::write(&path, b"hush\0hush").unwrap();
        let error = SecretSource::File(path.clone()).read().unwrap_err();
        assert!(error.message.contains("NUL") && !error.message.contains("hush"));
        assert!(SecretSource::File(folder.path().to_owned()).read().is_err());
        let error = SecretSource::Env("TIDEGATE_TEST_NO_SUCH".into()).read().unwrap_err();
        assert!(error.message.contains("TIDEGATE_TEST_NO_SUCH"));
    }
}
