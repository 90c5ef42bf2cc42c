//! Components and the host's files: what mounts give, that they give no more, and that neither a disk nor a client that
//! leaves in the middle of it holds anything up. Sockets, which are denied.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use tempfile::TempDir;
use tidegate_tests::check::{logged_problem, ok};
use tidegate_tests::pattern::Pattern;
use tidegate_tests::rust_component::rust_component;
use tidegate_tests::server::Builder;
use tidegate_tests::wait::until;
use tidegate_tests::{App, Server};

/// A folder with something of everything in it, and beside it a secret.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("inside");
    fs::create_dir_all(inside.join("sub")).unwrap();
    fs::write(folder.path().join("secret"), "secret").unwrap();
    fs::write(inside.join("a.txt"), "text").unwrap();
    fs::write(inside.join("sub/b.txt"), "below").unwrap();
    symlink("a.txt", inside.join("near")).unwrap();
    symlink("../secret", inside.join("out")).unwrap();
    symlink(folder.path().join("secret"), inside.join("far")).unwrap();
    symlink("..", inside.join("up")).unwrap();
    mknodat(CWD, inside.join("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    folder
}

fn serve(folder: &Path, mode: &str) -> Server {
    builder().option("--mount", &format!("{}:/files{mode}", folder.join("inside").display())).start()
}

fn builder() -> Builder {
    Server::builder().module(rust_component("files")).option("--workers", "1")
}

#[track_caller]
fn says(server: &Server, target: &str, expected: &str) {
    let response = server.get("files.test", target);
    assert_eq!(response.text(), expected, "{target}");
    ok(&response, expected.as_bytes());
}

/// The names of its threads.
fn names(server: &Server) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap().flatten();
    tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok()).collect()
}

fn file_threads(server: &Server) -> usize {
    names(server).iter().filter(|name| *name == "files\n").count()
}

/// Whether a file of this name is open in the server.
fn has_open(server: &Server, name: &str) -> bool {
    let open = fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().flatten();
    open.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|path| path.ends_with(name))
}

#[test]
fn a_mount_is_read() {
    let folder = folder();
    let server = serve(folder.path(), "");
    says(&server, "/folders", "/files");
    says(&server, "/read?/files/a.txt", "text");
    says(&server, "/read?/files/sub/b.txt", "below");
    says(&server, "/read?/files/sub/../a.txt", "text");
    says(&server, "/read?/files/near", "text");
    says(&server, "/size?/files/a.txt", "4");
    says(&server, "/list?/files", "a.txt far near out pipe sub up");
    says(&server, "/read?/files/none", "error NotFound");
    says(&server, "/read?/elsewhere", "error NotFound");
}

#[test]
fn a_mount_is_only_read_unless_it_says_so() {
    let folder = folder();
    let server = serve(folder.path(), "");
    let denied = [
        "/write?/files/new",
        "/write?/files/a.txt",
        "/append?/files/a.txt",
        "/remove?/files/a.txt",
        "/rename?/files/a.txt,/files/c.txt",
        "/mkdir?/files/more",
    ];
    for target in denied {
        says(&server, target, "error PermissionDenied");
    }
    let denied_by_name = [
        "/truncate?/files/a.txt",
        "/open-for-writing?/files/a.txt",
        "/times?/files/a.txt",
        "/symlink?a.txt,/files/soft",
        "/link?/files/a.txt,/files/hard",
    ];
    for target in denied_by_name {
        says(&server, target, "error not-permitted");
    }
    says(&server, "/list?/files", "a.txt far near out pipe sub up");
    says(&server, "/read?/files/a.txt", "text");
}

#[test]
fn a_mount_that_says_so_is_written_to() {
    let folder = folder();
    let server = serve(folder.path(), ":rw");
    for target in [
        "/write?/files/new",
        "/append?/files/new",
        "/rename?/files/new,/files/sub/old",
        "/mkdir?/files/more",
        "/link?/files/a.txt,/files/hard",
        "/symlink?a.txt,/files/soft",
        "/times?/files/a.txt",
        "/open-for-writing?/files/a.txt",
        "/truncate?/files/a.txt",
        "/remove?/files/soft",
    ] {
        says(&server, target, "ok");
    }
    let inside = folder.path().join("inside");
    assert_eq!(fs::read_to_string(inside.join("sub/old")).unwrap(), "written and more");
    assert_eq!(fs::read_to_string(inside.join("hard")).unwrap(), "", "truncated by its other name");
    assert!(inside.join("more").is_dir() && !inside.join("soft").exists());
}

/// Whatever the path: nothing outside of the folder is read, written or seen.
#[test]
fn nothing_leads_out_of_a_mount() {
    let folder = folder();
    let server = serve(folder.path(), ":rw");
    let before = fs::read_dir(folder.path()).unwrap().count();
    for path in
        ["/files/../secret", "/files/out", "/files/far", "/files/up/secret", "/files/sub/../../secret"]
    {
        for action in ["read", "size", "write", "append"] {
            says(&server, &format!("/{action}?{path}"), "error PermissionDenied");
        }
    }
    for target in [
        "/list?/files/up",
        "/remove?/files/../secret",
        "/mkdir?/files/../new",
        "/rename?/files/a.txt,/files/../stolen",
        "/rename?/files/../secret,/files/stolen",
    ] {
        says(&server, target, "error PermissionDenied");
    }
    says(&server, "/symlink?/etc/passwd,/files/passwd", "error not-permitted");
    // A link out may be made; the host's own programs beware. The guest does not get past it.
    says(&server, "/symlink?../secret,/files/mine", "ok");
    says(&server, "/read?/files/mine", "error PermissionDenied");
    assert_eq!(fs::read_to_string(folder.path().join("secret")).unwrap(), "secret");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), before);
}

#[test]
fn without_mounts_there_are_no_files() {
    let server = builder().start();
    says(&server, "/folders", "");
    says(&server, "/read?/files/a.txt", "error NotFound");
    says(&server, "/list?/", "error NotFound");
    assert_eq!(file_threads(&server), 0);
}

/// Opening a pipe that nobody writes to waits for ever.
#[test]
fn a_pipe_is_not_opened() {
    let folder = folder();
    let server = serve(folder.path(), ":rw");
    for _ in 0..10 {
        says(&server, "/read?/files/pipe", "error PermissionDenied");
        says(&server, "/append?/files/pipe", "error PermissionDenied");
    }
    says(&server, "/read?/files/a.txt", "text");
}

#[test]
fn a_guest_holds_only_so_much_open() {
    let folder = folder();
    let server = serve(folder.path(), "");
    says(&server, "/read?/files/a.txt", "text");
    let before = server.fd_count();
    // One more is held by the stream of a file that was closed.
    says(&server, "/hold-files?/files/a.txt", "63 and quota");
    says(&server, "/hold-streams?/files/a.txt", "32 and quota");
    says(&server, "/hold-listings?/files/sub", "16 and quota");
    until("descriptors are given back", || server.fd_count() <= before);
}

/// More requests than there are threads, for more than a body's buffer holds; another app goes on beside them.
#[test]
fn many_read_at_once_and_nobody_waits_for_them() {
    let folder = folder();
    let text = Pattern::new(7).take(1 << 20);
    fs::write(folder.path().join("inside/large"), &text).unwrap();
    let mount = format!("mounts = [{{ host = {:?}, guest = \"/files\" }}]", folder.path().join("inside"));
    let manifest = |name: &str, source: &Path, more: &str| {
        format!("[[app]]\nname = {name:?}\nsource = {source:?}\nroutes = [\"{name}.test/*\"]\n{more}\n")
    };
    let apps = [
        manifest("files", &rust_component("files"), &mount),
        manifest("hello", &rust_component("hello"), ""),
    ];
    let server = Server::builder().manifest(apps.concat()).option("--workers", "1").start();
    thread::scope(|scope| {
        let readers: Vec<_> = (0..100)
            .map(|_| scope.spawn(|| ok(&server.get("files.test", "/read?/files/large"), &text)))
            .collect();
        let mut asked = 0;
        while asked < 20 || readers.iter().any(|reader| !reader.is_finished()) {
            ok(&server.get("hello.test", "/"), b"Hello World\n");
            asked += 1;
        }
    });
    assert!(file_threads(&server) <= 4, "{} threads", file_threads(&server));
    assert!(names(&server).iter().all(|name| !name.starts_with("tokio")), "{:?}", names(&server));
    until("threads end that have nothing to do", || file_threads(&server) == 0);
}

/// In the middle of reading, the clients go; and later guests meet their limit.
#[test]
fn what_is_cancelled_leaves_nothing_behind() {
    let folder = folder();
    fs::write(folder.path().join("inside/large"), vec![b'x'; 4 << 20]).unwrap();
    let server = builder()
        .option("--mount", &format!("{}:/files", folder.path().join("inside").display()))
        .option("--limit", "wall=2s")
        .start();
    says(&server, "/read?/files/a.txt", "text");
    until("threads end that have nothing to do", || file_threads(&server) == 0);
    let (files, all) = (server.fd_count(), names(&server).len());
    for _ in 0..10 {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let mut client = server.client();
                client.send_get("files.test", "/again?/files/large").unwrap();
                client
            })
            .collect();
        until("the file is read", || has_open(&server, "large"));
        for client in clients {
            client.reset().unwrap();
        }
        says(&server, "/read?/files/a.txt", "text");
    }
    logged_problem(&server, &server.get("files.test", "/again?/files/large"), 504, "wall-limit");
    until("the file is closed", || !has_open(&server, "large"));
    until("descriptors are given back", || server.fd_count() <= files);
    until("threads end", || names(&server).len() <= all);
    let panics: Vec<_> = server.stderr().lines().into_iter().filter(|line| line.contains("panic")).collect();
    assert!(panics.is_empty(), "{panics:#?}");
    says(&server, "/read?/files/a.txt", "text");
}

/// Where the process may write no more, the guest is told so, and the server lives on.
#[test]
fn a_file_that_is_too_large_for_the_process_is_an_error() {
    let folder = folder();
    let mut server = serve(folder.path(), ":rw");
    says(&server, "/write?/files/large", "ok");
    let limit = Rlimit { current: Some(3), maximum: Some(3) };
    let pid = Pid::from_raw(server.pid().cast_signed()).unwrap();
    prlimit(Some(pid), Resource::Fsize, limit).unwrap();
    says(&server, "/overfill?/files/large", "error file-too-large");
    assert!(server.is_running());
    says(&server, "/read?/files/large", "xxx");
}

/// A stream for writing takes what it says it takes; more is a mistake that costs the request.
#[test]
fn no_more_is_written_than_a_stream_permits() {
    let folder = folder();
    let server = serve(folder.path(), ":rw");
    says(&server, "/overfill?/files/a.txt", "ok");
    says(&server, "/size?/files/a.txt", "65536");
    logged_problem(&server, &server.get("files.test", "/overfill-more?/files/a.txt"), 500, "guest-trap");
    says(&server, "/size?/files/a.txt", "0");
}

/// The same instance for many requests: what one left open does not outlive its place.
#[test]
fn a_reused_instance_goes_on_reading() {
    let folder = folder();
    let mount = format!("{}:/files", folder.path().join("inside").display());
    let server = builder().option("--mount", &mount).option("--reuse", "1000").start();
    let mut client = server.client();
    for _ in 0..200 {
        ok(&client.get("files.test", "/read?/files/a.txt").unwrap(), b"text");
        ok(&client.get("files.test", "/list?/files/sub").unwrap(), b"b.txt");
    }
}

#[test]
fn a_server_with_files_stops_when_it_is_told_to() {
    let folder = folder();
    let mut server = serve(folder.path(), "");
    says(&server, "/read?/files/a.txt", "text");
    server.signal(Signal::TERM);
    assert!(server.wait_exit(Duration::from_secs(30)).success());
}

#[test]
fn modules_have_no_mounts() {
    let folder = folder();
    let mount = format!("{}:/files", folder.path().join("inside").display());
    let (status, said) = Server::builder().guest("hello").option("--mount", &mount).start_refused();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("mounts are for components: build it with `--target component`"), "{said}");
}

#[test]
fn a_folder_that_is_missing_is_told_before_anything_is_served() {
    let app = App::guest("hello").line("mounts = [{ host = \"none\", guest = \"/x\" }]");
    let (status, said) = Server::builder().app(app).start_refused();
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("tidegate.toml:6:20: host: `") && said.contains("none`: "), "{said}");
}

#[test]
fn sockets_are_denied() {
    let server = builder().start();
    says(&server, "/connect?127.0.0.1:80", "error PermissionDenied");
    says(&server, "/connect?[::1]:80", "error PermissionDenied");
    says(&server, "/bind?127.0.0.1:0", "error udp PermissionDenied");
    let said = server.get("files.test", "/resolve?localhost").text();
    assert!(said.starts_with("error ") && said.contains("Non-recoverable"), "{said}");
}
