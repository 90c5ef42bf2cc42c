//! TLS of an app's outbound requests: whom it trusts, and its sessions.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::failure::Failure;
use crate::config::sockets::certificates;

/// Servers whose sessions are remembered, for an app.
const SESSIONS_MAX: usize = 128;

/// Whom an app trusts: the web's roots, and its own. Made with the app, used when it first needs it.
#[derive(Default)]
pub(crate) struct Trust {
    own: Vec<CertificateDer<'static>>,
    /// A file of its own that could be read when the settings were checked, and not when the app was made.
    unreadable: Option<Arc<str>>,
    config: OnceLock<Result<Arc<ClientConfig>, Failure>>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("own", &self.own.len()).finish_non_exhaustive()
    }
}

impl Trust {
    /// Of an app with these roots beside the web's.
    #[cfg(test)]
    pub(super) fn with(own: Vec<CertificateDer<'static>>) -> Self {
        Self { own, ..Self::default() }
    }

    /// Of an app whose own roots are in these files. It reads them: not on a loop. If one cannot be read, every handshake
    /// fails and says so.
    pub(crate) fn read(files: &[PathBuf]) -> Self {
        let mut trust = Self::default();
        for file in files {
            match certificates(file) {
                Ok(found) => trust.own.extend(found),
                Err(error) => trust.unreadable = Some(error.message.into()),
            }
        }
        trust
    }

    fn config(&self) -> Result<Arc<ClientConfig>, Failure> {
        self.config.get_or_init(|| self.make()).clone()
    }

    fn make(&self) -> Result<Arc<ClientConfig>, Failure> {
        if let Some(why) = &self.unreadable {
            return Err(Failure::TlsCertificateError(Arc::clone(why)));
        }
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for certificate in &self.own {
            roots.add(certificate.clone())?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::in_memory_sessions(SESSIONS_MAX);
        Ok(Arc::new(config))
    }

    /// The client's side of a connection to `host`, an IPv6 address in its brackets.
    pub(super) fn begin(&self, host: &str) -> Result<Box<ClientConnection>, Failure> {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Failure::DestinationNotFound)?;
        Ok(Box::new(ClientConnection::new(self.config()?, name)?))
    }
}
