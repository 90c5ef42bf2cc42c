//! The limits of an app beyond its gate: the rate of its requests, its clients' connections, the length of its answers, the
//! lines of its log, and its share of the CPU.

use std::thread;
use std::time::{Duration, Instant};

use tidegate_tests::check::{cut, logged_problem, ok, problem, success};
use tidegate_tests::stream::Stream;
use tidegate_tests::wait::{self, PATIENCE};
use tidegate_tests::{Addr, App, Client, Response, Server};

fn one(app: App) -> Server {
    Server::builder().app(app).option("--workers", "1").start()
}

fn retry_after(response: &Response) -> u64 {
    response
        .header("retry-after")
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or_else(|| panic!("{response:?}"))
}

#[test]
fn over_the_rate_a_client_is_told_when_to_come_again_and_then_it_is_served() {
    let server = one(App::guest("hello").limit("requests", "2/s"));
    let mut client = server.client();
    let limited = (0..1_000).map(|_| client.get("hello.test", "/").unwrap()).find(|r| r.status() != 200);
    let limited = limited.expect("a thousand requests are not served at once");
    logged_problem(&server, &limited, 429, "rate-limited");
    // Nobody else asks: who waits as long as it was told is served, on the same connection.
    for _ in 0..3 {
        let limited = wait::poll_for(PATIENCE, || {
            let response = client.get("hello.test", "/").unwrap();
            (response.status() == 429).then_some(response)
        });
        thread::sleep(Duration::from_secs(retry_after(&limited.expect("the burst does not come back"))));
        success(&client.get("hello.test", "/").unwrap());
    }
    // A body that comes with such a request is no obstacle.
    let mut refused = 0;
    while refused < 3 {
        let response = client.post("hello.test", "/", b"a body").unwrap();
        refused += u32::from(response.status() == 429);
    }
}

#[test]
fn connections_are_busy_until_the_last_byte_has_left() {
    let server = one(App::guest("generate").limit("connections", "2"));
    let Addr::Tcp(addr) = *server.addr() else { panic!("TCP by default") };
    let mut slow: Vec<_> = (0..2)
        .map(|_| {
            let mut client =
                Client::over(Stream::connect_with_receive_buffer(addr, 4_096, PATIENCE).unwrap());
            client.send_get("generate.test", "/20000000").unwrap();
            let head = client.head().unwrap();
            let body = client.body(&head).unwrap();
            (client, body)
        })
        .collect();
    let mut other = server.client();
    for _ in 0..3 {
        let refused = other.get("generate.test", "/1").unwrap();
        problem(&refused, 503, "overloaded");
        assert!(retry_after(&refused) >= 1);
    }
    let (mut client, mut body) = slow.pop().unwrap();
    let mut all = Vec::new();
    while client.read_body(&mut body, &mut all, 1 << 20).unwrap() > 0 {}
    assert_eq!(all.len(), 20_000_000);
    // It is idle now, and a connection that is idle is not busy.
    success(&other.get("generate.test", "/1").unwrap());
    success(&client.get("generate.test", "/1").unwrap());
    // One that goes away is not, either.
    drop(slow);
    for _ in 0..20 {
        let served = wait::poll_for(PATIENCE, || {
            (other.get("generate.test", "/1").unwrap().status() == 200).then_some(())
        });
        assert!(served.is_some(), "a connection was not counted out");
    }
}

#[test]
fn an_answer_that_is_larger_than_it_may_be_is_refused_or_cut() {
    let limit = |app: App| app.limit("response", "100KiB");
    let server = Server::builder()
        .app(limit(App::guest("generate")))
        .app(limit(App::guest("echo")))
        .option("--workers", "1")
        .start();
    let mut client = server.client();
    success(&client.get("generate.test", "/102400").unwrap());
    // What had begun is cut; a client never takes it for whole.
    let outcome = server.client().get("generate.test", "/10000000");
    match &outcome {
        Ok(response) if response.status() == 502 => {
            logged_problem(&server, response, 502, "response-too-large")
        }
        _ => {
            cut(&outcome);
            let told =
                |line: &str| line.contains("response-too-large") && line.contains("100 KiB (`response`)");
            assert!(server.wait_for_log(told).is_some(), "{}", server.stderr().tail(20));
        }
    }
    // One that announces its length is refused before anything leaves, and the connection goes on.
    let body = vec![b'x'; 100 << 10];
    ok(&client.post("echo.test", "/", &body).unwrap(), &body);
    success(&client.get("generate.test", "/1").unwrap());
}

#[test]
fn lines_beyond_their_rate_are_dropped_and_counted() {
    let server = one(App::guest("chatty").limit("log_lines", "50/s").limit("log_rate", "1GiB/s"));
    success(&server.get("chatty.test", "/5000"));
    let told = server.wait_for_log(|line| line.contains("log records dropped") && line.contains("dropped="));
    assert!(told.is_some(), "{}", server.stderr().tail(20));
    let lines = server.stderr().count(|line| line.contains("still talking"));
    // A few windows may have passed while it talked.
    assert!((50..=500).contains(&lines), "{lines} lines");
}

/// CPU time that the server uses within so long, as a share of one core.
fn share(server: &Server, within: Duration) -> f64 {
    let (began, before) = (Instant::now(), server.cpu_time());
    thread::sleep(within);
    (server.cpu_time() - before).as_secs_f64() / began.elapsed().as_secs_f64()
}

/// Four loops on two workers have a fifth of one core together, and a request of the app itself has its turn, too.
#[test]
fn an_app_uses_no_more_than_its_share_of_the_cpu_on_all_workers_together() {
    let server = Server::builder()
        .app(App::guest("spin").limit("cpu_share", "20%").limit("cpu", "60s").limit("wall", "120s"))
        .app(App::guest("hello"))
        .app(
            App::guest("spin")
                .named("brief")
                .limit("cpu_share", "10%")
                .limit("cpu", "60s")
                .limit("wall", "2s"),
        )
        .option("--workers", "2")
        .start();
    let mut spins: Vec<Client> = (0..4).map(|_| server.client()).collect();
    let before = server.cpu_time();
    for client in &mut spins {
        client.send_get("spin.test", "/").unwrap();
    }
    // Beyond the burst.
    wait::until("the loops run", || server.cpu_time() - before > Duration::from_millis(150));
    let used = share(&server, Duration::from_secs(3));
    assert!((0.1..0.4).contains(&used), "{used} of a core");
    // Nobody else notices.
    let mut client = server.client();
    for _ in 0..50 {
        success(&client.get("hello.test", "/").unwrap());
    }
    // Who waits for CPU time is ended by the wall clock, whether it has begun or waits in line.
    let began = Instant::now();
    let mut brief: Vec<Client> = (0..4).map(|_| server.client()).collect();
    for client in &mut brief {
        client.send_get("brief.test", "/").unwrap();
    }
    for client in &mut brief {
        let response = client.response().unwrap();
        assert!(matches!(response.status(), 503 | 504), "{response:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

/// Eight requests of 50 ms each: 300 ms more than the burst, at a fifth of a core.
#[test]
fn what_waits_for_cpu_time_has_its_turn_and_no_sooner() {
    let server = Server::builder()
        .app(App::guest("spin").limit("cpu_share", "20%").limit("cpu", "50ms").limit("wall", "60s"))
        .option("--workers", "2")
        .start();
    let began = Instant::now();
    let mut clients: Vec<Client> = (0..8).map(|_| server.client()).collect();
    for client in &mut clients {
        client.send_get("spin.test", "/").unwrap();
    }
    for client in &mut clients {
        problem(&client.response().unwrap(), 504, "cpu-limit");
    }
    assert!(began.elapsed() > Duration::from_millis(1_200), "{:?}", began.elapsed());
}
