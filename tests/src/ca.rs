//! A certificate authority of the test's own, and what servers show that it has signed, or has not.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;

/// An authority; its certificate lies in a file for as long as it lives.
pub struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// What a server shows of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Signed by the authority, and good for years to come.
    Good,
    /// Signed by it, and no longer valid.
    Expired,
    /// Signed by it, and not yet valid.
    NotYet,
    /// Signed by nobody else.
    SelfSigned,
}

impl Ca {
    /// A new one, which nobody knows yet.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "an authority of a test");
        let issuer = CertifiedIssuer::self_signed(params, key()).expect("a certificate for the authority");
        let folder = tempfile::tempdir().expect("a folder for the authority");
        fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("writing ca.pem");
        Self { issuer, folder }
    }

    /// Its certificate, as `sockets.ca` of a manifest wants it.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The folder of that file.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The settings of a server that says it is each of `names`: names of hosts, or addresses.
    pub fn server(&self, names: &[&str], shown: Shown) -> Arc<ServerConfig> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).expect("names for a certificate");
        params.distinguished_name.push(DnType::CommonName, "a server of a test");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        match shown {
            Shown::Good | Shown::SelfSigned => {}
            Shown::Expired => params.not_after = date_time_ymd(2001, 1, 1),
            Shown::NotYet => params.not_before = date_time_ymd(3000, 1, 1),
        }
        let own = key();
        let certificate = match shown {
            Shown::SelfSigned => params.self_signed(&own),
            _ => params.signed_by(&own, &self.issuer),
        };
        let certificate = certificate.expect("a certificate for the server");
        settings(certificate.der().clone(), &own)
    }
}

impl Default for Ca {
    fn default() -> Self {
        Self::new()
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn settings(certificate: CertificateDer<'static>, key: &KeyPair) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("protocol versions").with_no_client_auth();
    let mut config = builder.with_single_cert(vec![certificate], key).expect("a certificate and its key");
    // A client that offers HTTP/2 as well is told that this is not it.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

    use super::*;
    use crate::Upstream;

    /// What a client says that trusts `ca` and expects `name`.
    fn ask(ca: &Ca, upstream: &Upstream, name: &str) -> std::io::Result<String> {
        let mut roots = RootCertStore::empty();
        roots.add(ca.issuer.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_root_certificates(roots).with_no_client_auth();
        let name = name.to_owned().try_into().unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = StreamOwned::new(connection, TcpStream::connect(upstream.addr())?);
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
        let mut answer = vec![0; 15];
        stream.read_exact(&mut answer)?;
        Ok(String::from_utf8(answer).unwrap())
    }

    #[test]
    fn only_what_is_good_is_accepted() {
        let ca = Ca::new();
        let names = ["up.test", "127.0.0.1"];
        let good = Upstream::answering_tls(ca.server(&names, Shown::Good), "hello");
        assert_eq!(ask(&ca, &good, "up.test").unwrap(), "HTTP/1.1 200 OK");
        assert_eq!(ask(&ca, &good, "127.0.0.1").unwrap(), "HTTP/1.1 200 OK");
        assert!(ask(&ca, &good, "other.test").is_err());
        assert!(ask(&Ca::new(), &good, "up.test").is_err());
        for shown in [Shown::Expired, Shown::NotYet, Shown::SelfSigned] {
            let upstream = Upstream::answering_tls(ca.server(&names, shown), "hello");
            assert!(ask(&ca, &upstream, "up.test").is_err(), "{shown:?}");
        }
    }
}
