//! Guests that talk to a real Redis: a module over the SDK's sockets, a component over `std::net` and a crate that knows
//! nothing of us.

use tidegate_tests::bench::stalled::{self, Plan};
use tidegate_tests::check::{ok, success};
use tidegate_tests::daemon::free_addr;
use tidegate_tests::pattern::Pattern;
use tidegate_tests::{App, Redis, Server, wait};

const GUESTS: [&str; 2] = ["redis_module", "redis_std"];

fn server(guest: &str, redis: &Redis) -> Server {
    let app = App::guest(guest).named("redis").env("REDIS", redis.addr()).connect(redis.addr());
    Server::builder().app(app).app(App::guest("hello")).option("--workers", "1").start()
}

#[test]
fn what_is_set_can_be_had() {
    let Some(redis) = Redis::start() else { return };
    for guest in GUESTS {
        let server = server(guest, &redis);
        redis.command(&["FLUSHALL"]);
        let mut client = server.client();
        let put = "PUT /set/colour HTTP/1.1\r\nHost: redis.test\r\nContent-Length: 4\r\n\r\nblue";
        client.send(put).unwrap();
        success(&client.response().unwrap());
        assert_eq!(redis.command(&["GET", "colour"]).as_deref(), Some("blue"), "{guest}");
        ok(&client.get("redis.test", "/get/colour").unwrap(), b"blue");
        assert_eq!(client.get("redis.test", "/get/nothing").unwrap().status(), 404, "{guest}");
        for count in 1..=20 {
            let response = client.post("redis.test", "/incr/visits", b"").unwrap();
            assert_eq!(response.text().trim(), count.to_string(), "{guest}: {response:?}");
        }
        assert_eq!(redis.command(&["GET", "visits"]).as_deref(), Some("20"), "{guest}");
        // What a request opened is closed with it.
        wait::until("the connections to Redis are closed", || redis.clients() == 0);
    }
}

#[test]
fn a_value_of_a_megabyte_comes_through() {
    let Some(redis) = Redis::start() else { return };
    // Text, since Redis is asked for it as such.
    let value: String =
        Pattern::new(4).take(1_000_000).iter().map(|byte| char::from(b'a' + byte % 26)).collect();
    redis.command(&["SET", "big", &value]);
    for guest in GUESTS {
        let server = server(guest, &redis);
        ok(&server.get("redis.test", "/get/big"), value.as_bytes());
        ok(&server.get("redis.test", "/get/big"), value.as_bytes());
    }
}

#[test]
fn many_at_once_get_what_they_asked_for() {
    let Some(redis) = Redis::start() else { return };
    for guest in GUESTS {
        let server = server(guest, &redis);
        (0..16).for_each(|i| drop(redis.command(&["SET", &format!("key{i}"), &format!("value{i}")])));
        std::thread::scope(|scope| {
            for i in 0..16 {
                let server = &server;
                scope.spawn(move || {
                    let mut client = server.client();
                    let (path, value) = (format!("/get/key{i}"), format!("value{i}"));
                    (0..25).for_each(|_| ok(&client.get("redis.test", &path).unwrap(), value.as_bytes()));
                });
            }
        });
        wait::until("the connections to Redis are closed", || redis.clients() == 0);
    }
}

/// The measurement with 200 of them and a bound for `hello` is the benchmark `stalled`.
#[test]
fn who_waits_for_redis_holds_nobody_up() {
    let Some(redis) = Redis::start() else { return };
    let plan = Plan { waiting: 60, requests: 500, connections: 4, cpu: None };
    for guest in GUESTS {
        let report = stalled::run(&plan, &redis, App::guest(guest));
        assert!(report.is_ok(), "{guest}: {:#}", report.unwrap_err());
    }
}

#[test]
fn a_redis_that_is_not_there_is_an_error_of_the_guest() {
    let addr = free_addr();
    for guest in GUESTS {
        let app = App::guest(guest).named("redis").env("REDIS", addr).connect(addr);
        let server = Server::builder().app(app).app(App::guest("hello")).option("--workers", "1").start();
        let mut client = server.client();
        let response = client.get("redis.test", "/get/colour").unwrap();
        assert!((500..=504).contains(&response.status()), "{guest}: {response:?}");
        // Where it would be is nobody's business.
        assert!(!response.text().contains(&addr.port().to_string()), "{guest}: {response:?}");
        success(&client.get("hello.test", "/").unwrap());
    }
}

#[test]
fn a_redis_that_ends_in_the_middle_is_an_error_of_the_guest() {
    let Some(redis) = Redis::start() else { return };
    let servers = GUESTS.map(|guest| server(guest, &redis));
    let mut clients = servers.each_ref().map(Server::client);
    let files = servers.each_ref().map(Server::fd_count);
    let stalled = redis.stall();
    for client in &mut clients {
        client.send_get("redis.test", "/get/colour").unwrap();
    }
    for (server, files) in servers.iter().zip(files) {
        wait::until("it waits for Redis", || server.fd_count() > files);
    }
    std::mem::forget(stalled);
    drop(redis);
    for (client, guest) in clients.iter_mut().zip(GUESTS) {
        let response = client.response().unwrap();
        assert!((500..=504).contains(&response.status()), "{guest}: {response:?}");
    }
}
