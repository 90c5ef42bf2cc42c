//! Files of certificates that an app trusts.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::super::problem::ValueError;

/// What no bundle of roots is larger than: the web's are some 200 KiB.
const BYTES_MAX: u64 = 4 << 20;

/// The certificates in a file, each of which can be a root.
///
/// # Errors
/// It cannot be read, or something in it is no certificate; there is at least one else.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ValueError> {
    let shown = path.display();
    let wrong = |what: &str| ValueError::new(format!("`{shown}` {what}"));
    let unreadable = |error| wrong(&format!("cannot be read: {error}"));
    // A pipe may never say anything.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(wrong("is not a file").help("name a file of PEM certificates"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(wrong("is larger than 4 MiB").help("name a file of PEM certificates"));
    }
    let mut roots = RootCertStore::empty();
    let mut found = Vec::new();
    for (number, certificate) in CertificateDer::pem_slice_iter(&bytes).enumerate() {
        let number = number + 1;
        let certificate =
            certificate.map_err(|error| wrong(&format!("is damaged at certificate {number}: {error}")))?;
        roots
            .add(certificate.clone())
            .map_err(|error| wrong(&format!("has no certificate at number {number}: {error}")))?;
        found.push(certificate);
    }
    if found.is_empty() {
        let der = "it looks like DER: `openssl x509 -inform der -in FILE` makes PEM of it";
        let help = match bytes.first() {
            // A sequence, as every certificate is one.
            Some(0x30) => der,
            _ => "a certificate begins with `-----BEGIN CERTIFICATE-----`",
        };
        return Err(wrong("has no PEM certificate in it").help(help));
    }
    Ok(found)
}

/// A certificate for tests that read files. Its key was thrown away when it was made, and nobody verifies it.
#[cfg(test)]
pub(crate) const PEM: &str = "\
-----BEGIN CERTIFICATE-----
MIIBhDCCASugAwIBAgIUXvRio+1Yp13WKpwTgsOkT6B4TBQwCgYIKoZIzj0EAwIw
GDEWMBQGA1UEAwwNdGlkZWdhdGUgdGVzdDAeFw0yNjExMjExNzI5MjFaFw0yNjEx
MjMxNzI5MjFaMBgxFjAUBgNVBAMMDXRpZGVnYXRlIHRlc3QwWTATBgcqhkjOPQIB
BggqhkjOPQMBBwNCAARy4decwfN8r8IijnOSxuRYlGmn7BXsow+S0ZRCLqwEnUhA
KbGHQI/B8q9pcrQqEPQkNaNG19kMUjVAau/N31ZGo1MwUTAdBgNVHQ4EFgQU4d53
iDIy3UyPq4aSVOC1Kv7/cM4wHwYDVR0jBBgwFoAU4d53iDIy3UyPq4aSVOC1Kv7/
cM4wDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNHADBEAiBDrr/HK9cxE2pD
82FJja6erW72UiFnucQWp2D+KnBkUgIgQCPisAZopI31pTMzsxITHQeoIjTRXRrq
d7aKZjfxUWM=
-----END CERTIFICATE-----
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_certificates() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            certificates(&path)
        };
        assert_eq!(read(PEM.as_bytes()).unwrap().len(), 1);
        let der = read(PEM.as_bytes()).unwrap().remove(0);
        assert_eq!(read(format!("# two\n{PEM}\ntext\n{PEM}").as_bytes()).unwrap().len(), 2);

        let table: [(&[u8], &str, &str); 6] = [
            (b"", "has no PEM certificate", "-----BEGIN"),
            (b"hello", "has no PEM certificate", "-----BEGIN"),
            (&der, "has no PEM certificate", "openssl x509 -inform der"),
            (b"-----BEGIN CERTIFICATE-----\nAAAA\n", "is damaged at certificate 1", ""),
            (
                b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
                "has no certificate at number 1",
                "",
            ),
            (
                b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
                "has no PEM certificate",
                "-----BEGIN CERTIFICATE",
            ),
        ];
        for (bytes, message, help) in table {
            let error = read(bytes).unwrap_err();
            assert!(error.message.contains(message), "{error:?}");
            assert!(error.help.unwrap_or_default().contains(help));
        }
        let missing = certificates(&folder.path().join("nope.pem")).unwrap_err();
        assert!(missing.message.contains("cannot be read: No such file"), "{missing:?}");
        assert!(certificates(folder.path()).unwrap_err().message.contains("is not a file"));
        assert!(certificates(Path::new("/dev/zero")).unwrap_err().message.contains("is not a file"));
        File::create(&path).unwrap().set_len(BYTES_MAX + 1).unwrap();
        assert!(certificates(&path).unwrap_err().message.contains("larger than 4 MiB"));
    }
}
