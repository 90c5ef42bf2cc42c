//! Clients that other people wrote.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tidegate_tests::wait::poll_for;
use tidegate_tests::{Addr, Server};

#[test]
fn pythons_http_client_is_served() {
    let python =
        Command::new("python3").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !python.is_ok_and(|status| status.success()) {
        println!("python3 is not installed: its http.client was not tried");
        return;
    }
    let server = Server::builder().guest("echo").start();
    let Addr::Tcp(addr) = server.addr() else { panic!("TCP by default") };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/http_client.py");
    let mut child = Command::new("python3")
        .arg(script)
        .args([addr.ip().to_string(), addr.port().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let ended = poll_for(Duration::from_secs(60), || child.try_wait().unwrap());
    if ended.is_none() {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "ok", "{:?}: {told}", output.status);
}
