//! Where the server is, and what to show it.

use std::env;
use std::fmt;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::Failure;
use crate::cli::serve::SOCKET;
use crate::config::StateFolder;

const ADDR_VARIABLE: &str = "TIDEGATE_ADMIN";
const TOKEN_VARIABLE: &str = "TIDEGATE_TOKEN";
/// How long a server may take to be there.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where an admin side listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Unix(PathBuf),
    /// Host and port.
    Tcp(String),
}

impl Place {
    /// The one that was named, else the one of the environment, else the one of a server that was told nothing.
    pub(super) fn find(named: Option<&str>) -> Result<Self, Failure> {
        if let Some(text) = named {
            return Self::parse(text, "--admin");
        }
        if let Some(text) = env::var_os(ADDR_VARIABLE).filter(|text| !text.is_empty()) {
            return Self::parse(&text.to_string_lossy(), ADDR_VARIABLE);
        }
        let Some(folder) = StateFolder::User.hosting_folder() else {
            let message = "there is no usual place: neither XDG_STATE_HOME nor HOME names a folder";
            return Err(Failure::usage(message, Some("name the server with `--admin ADDR`".to_owned())));
        };
        Ok(Self::Unix(folder.join(SOCKET)))
    }

    fn parse(text: &str, place: &str) -> Result<Self, Failure> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let plain = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        let port = plain.rsplit_once(':').and_then(|(host, port)| {
            port.parse::<u16>().ok().filter(|_| !host.is_empty() && !host.contains('/'))
        });
        if port.is_some() {
            return Ok(Self::Tcp(plain.to_owned()));
        }
        let message = format!("{place}: `{text}` is not the address of an admin side");
        Err(Failure::usage(
            message,
            Some("as in `unix:/run/tidegate/admin.sock` or `127.0.0.1:9000`".to_owned()),
        ))
    }

    /// A connection, and what it is to a Host field.
    pub(super) fn connect(&self) -> io::Result<(OwnedFd, String)> {
        match self {
            Self::Unix(path) => Ok((UnixStream::connect(path)?.into(), "localhost".to_owned())),
            Self::Tcp(place) => {
                let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
                for addr in place.to_socket_addrs()? {
                    match TcpStream::connect_timeout(&addr, PATIENCE) {
                        // The address and not the name: a server takes no other (DNS rebinding).
                        Ok(stream) => return Ok((stream.into(), addr.to_string())),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(place) => f.write_str(place),
        }
    }
}

/// The token to show, if there is one.
pub(super) fn token(file: Option<&Path>) -> Result<Option<String>, Failure> {
    let text = match file {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| {
                Failure::usage(format!("--token-file: `{}`: {error}", path.display()), None)
            })?;
            Some(text)
        }
        None => env::var(TOKEN_VARIABLE).ok(),
    };
    let token = text.map(|text| text.trim().to_owned()).filter(|token| !token.is_empty());
    if token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
        // It is not repeated.
        return Err(Failure::usage("the token holds characters that a header cannot carry", None));
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        for (text, shown) in [
            ("unix:/run/a:b.sock", "unix:/run/a:b.sock"),
            ("127.0.0.1:9000", "127.0.0.1:9000"),
            ("[::1]:9000", "[::1]:9000"),
            ("http://admin.example:80/", "admin.example:80"),
        ] {
            assert_eq!(Place::parse(text, "--admin").unwrap().to_string(), shown);
        }
        for bad in ["", "unix:", ":9000", "127.0.0.1", "https://a.example:1", "a/b:1", "localhost:x"] {
            let failure = Place::parse(bad, "--admin").unwrap_err();
            assert_eq!(failure.status(), 2, "{bad}");
            assert!(failure.to_string().contains("--admin"), "{failure}");
        }
    }

    #[test]
    fn a_token_is_read_and_never_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "  hush-0123456789\n").unwrap();
        assert_eq!(token(Some(&path)).unwrap().as_deref(), Some("hush-0123456789"));
        std::fs::write(&path, "hush hush").unwrap();
        let told = token(Some(&path)).unwrap_err().to_string();
        assert!(told.contains("cannot carry") && !told.contains("hush"), "{told}");
        assert!(
            token(Some(&folder.path().join("missing"))).unwrap_err().to_string().contains("--token-file")
        );
    }
}
