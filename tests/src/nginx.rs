//! A real nginx of the test's own, with one worker, as an upstream and as the reverse proxy that ours is held against.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::daemon::{self, Daemon};
use crate::server::pinned;

/// What it prints once its sockets are bound.
const READY: &str = "event method";

/// Its temporary folders, all of which default to places of the system.
const FOLDERS: [&str; 5] = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];

/// A running nginx, as a single process; ended when dropped.
pub struct Nginx {
    daemon: Daemon,
}

impl Nginx {
    /// Answers every request with 200 and `body`, on a core of its choice or on any. `None`, and a word on standard error,
    /// where it is not installed.
    pub fn answering(body: &str, cpu: Option<usize>) -> Option<Self> {
        Self::start(cpu, &format!("location / {{ default_type text/plain; return 200 {body:?}; }}"), "")
    }

    /// Serves the files of its folder `www` ([`Self::folder`]), and takes files that are PUT there, of any size.
    pub fn files(cpu: Option<usize>) -> Option<Self> {
        let site =
            "location / { root www; dav_methods PUT; create_full_put_path on; }\nclient_max_body_size 0;";
        Self::start(cpu, site, "")
    }

    /// Passes everything on to `upstream`, over connections that it keeps.
    pub fn proxy(upstream: SocketAddr, cpu: Option<usize>) -> Option<Self> {
        let site = "location / { proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection \"\"; }";
        // The default is a thousand requests a connection: not what is compared.
        let behind =
            format!("upstream behind {{ server {upstream}; keepalive 64; keepalive_requests 1000000000; }}");
        Self::start(cpu, site, &behind)
    }

    /// Passes everything on to `upstream`, an address or `unix:PATH`, and says for whom.
    pub fn telling(upstream: &str) -> Option<Self> {
        let says = "proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; \
            proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header X-Request-Id $request_id;";
        Self::start(None, &format!("location / {{ proxy_pass http://{upstream}; {says} }}"), "")
    }

    fn start(cpu: Option<usize>, site: &str, beside: &str) -> Option<Self> {
        let program = daemon::find("nginx", "nginx-light")?;
        let daemon = pinned(cpu, || {
            Daemon::start(READY, |addr, folder| {
                let config = folder.join("nginx.conf");
                fs::write(&config, configuration(addr, folder, site, beside)).expect("writing nginx.conf");
                fs::create_dir(folder.join("www")).expect("a folder for files");
                let mut command = Command::new(&program);
                command.arg("-p").arg(folder).arg("-c").arg(config).args(["-e", "stderr"]);
                command
            })
        });
        Some(Self { daemon })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.daemon.addr()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// The folder it runs in.
    pub fn folder(&self) -> &Path {
        self.daemon.folder()
    }
}

/// One process and not a master with a worker: whoever ends it ends all of it.
fn configuration(addr: SocketAddr, folder: &Path, site: &str, beside: &str) -> String {
    let temporary: String = FOLDERS.map(|name| format!("{name}_temp_path temp_{name};\n")).concat();
    format!(
        "daemon off;\nmaster_process off;\nerror_log stderr notice;\npid {};\n\
         events {{ worker_connections 2048; }}\n\
         http {{\naccess_log off;\nkeepalive_requests 1000000000;\nkeepalive_timeout 300s;\n{temporary}{beside}\n\
         server {{ listen {addr} backlog=4096;\n{site}\n}}\n}}\n",
        folder.join("nginx.pid").display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Addr, Client, check};

    fn client(nginx: &Nginx) -> Client {
        Client::connect(&Addr::Tcp(nginx.addr())).unwrap()
    }

    #[test]
    fn a_proxy_in_front_of_an_answer() {
        let Some(behind) = Nginx::answering("from behind", None) else { return };
        let front = Nginx::proxy(behind.addr(), None).unwrap();
        check::ok(&client(&front).get("a", "/any").unwrap(), b"from behind");
    }

    #[test]
    fn files_that_are_put_can_be_had() {
        let Some(nginx) = Nginx::files(None) else { return };
        let mut client = client(&nginx);
        client.send("PUT /new/file HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello").unwrap();
        assert_eq!(client.response().unwrap().status(), 201);
        check::ok(&client.get("a", "/new/file").unwrap(), b"hello");
        assert_eq!(fs::read(nginx.folder().join("www/new/file")).unwrap(), b"hello");
    }
}
