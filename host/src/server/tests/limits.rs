//! Limits that change while requests run and wait, and that no deploy gets around.

use super::*;
use crate::config::{TenantLimits, TenantSettings};

/// A time that no server here comes to.
const LATER: crate::clock::Nanos = 1 << 60;

fn acme(limits: TenantLimits) -> Vec<TenantSettings> {
    vec![TenantSettings { limits, ..TenantSettings::new("acme".to_owned()) }]
}

#[test]
fn higher_limits_let_those_in_who_wait() {
    let (_folder, mut app, server) = start_one(|app| app.limits.concurrency = 1);
    let seat = Arc::clone(&served(&server, "app").seat);
    let [mut first, mut second, mut third] = std::array::from_fn(|_| Client::connect(&server));
    first.begin();
    wait_until("the first runs", || seat.gate.counts() == (1, 0));
    second.begin();
    wait_until("the second waits", || seat.gate.counts() == (1, 1));
    app.limits.concurrency = 2;
    server.deployer().deploy(std::slice::from_ref(&app)).unwrap();
    wait_until("the second runs", || seat.gate.counts() == (2, 0));
    // Lower ones end nobody, and let nobody in until there is room.
    app.limits.concurrency = 1;
    server.deployer().deploy(std::slice::from_ref(&app)).unwrap();
    third.begin();
    wait_until("the third waits", || seat.gate.counts() == (2, 1));
    first.finish().version();
    wait_until("one has left", || seat.gate.counts() == (1, 1));
    second.finish().version();
    wait_until("the third runs", || seat.gate.counts() == (1, 0));
    third.finish().version();
    end(server);
}

#[test]
fn a_deploy_is_no_way_to_more_requests_or_connections() {
    let (folder, mut app, server) = start_one(|app| {
        app.limits.requests_per_s = Some(3);
        app.limits.connections_max = Some(1);
        app.limits.cpu_percent = Some(10);
    });
    let before = Arc::clone(&served(&server, "app").seat);
    for _ in 0..3 {
        before.quota.take_request(LATER).unwrap();
    }
    before.quota.charge(LATER, 200_000_000);
    let busy = before.connect().unwrap();
    let until = before.quota.throttled_until(LATER);
    assert!(busy.is_some() && until.is_some());

    write(folder.path(), "app", 2);
    server.deployer().deploy(std::slice::from_ref(&app)).unwrap();
    let after = Arc::clone(&served(&server, "app").seat);
    assert!(after.quota.take_request(LATER).is_err());
    assert!(after.connect().is_err());
    assert_eq!(after.quota.throttled_until(LATER), until);

    // But other limits hold at once.
    (app.limits.requests_per_s, app.limits.connections_max) = (Some(1_000), Some(2));
    app.limits.cpu_percent = None;
    server.deployer().deploy(std::slice::from_ref(&app)).unwrap();
    assert!(after.quota.take_request(LATER + 1_000_000).is_ok(), "a thousandth of a second is enough now");
    assert!(after.connect().unwrap().is_some());
    assert_eq!(after.quota.throttled_until(LATER), None);
    end(server);
}

#[test]
fn rates_follow_a_deploy() {
    let (_folder, mut app, server) = start_one(|app| app.limits.requests_per_s = Some(1));
    let mut client = Client::connect(&server);
    wait_until("there are too many", || client.get("/").status == 429);
    app.limits.requests_per_s = None;
    server.deployer().deploy(std::slice::from_ref(&app)).unwrap();
    for _ in 0..100 {
        assert_eq!(client.get("/").status, 200);
    }
    end(server);
}

#[test]
fn a_tenants_limits_change_under_its_apps() {
    let folder = tempfile::tempdir().unwrap();
    let apps = ["one", "two"].map(|name| {
        write(folder.path(), name, 1);
        let route = format!("/{name}");
        AppSettings { tenant: Some("acme".to_owned()), ..app(folder.path(), name, &[&route]) }
    });
    let server = start(apps.to_vec(), None);
    let deployer = server.deployer();
    deployer.set_tenants(&acme(TenantLimits { concurrency: Some(1), ..TenantLimits::default() }));
    let [one, two] = ["one", "two"].map(|name| Arc::clone(&served(&server, name).seat));
    let [mut first, mut second] = std::array::from_fn(|_| Client::connect(&server));
    let begin = |client: &mut Client, path: &str| {
        client.send(&format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab"));
    };
    begin(&mut first, "/one");
    wait_until("the first runs", || one.gate.counts() == (1, 0));
    begin(&mut second, "/two");
    wait_until("the second waits", || two.gate.counts() == (0, 1));

    // Another version of either is the tenant's as well.
    write(folder.path(), "two", 2);
    deployer.deploy(&apps).unwrap();
    assert!(Arc::ptr_eq(&served(&server, "two").seat, &two));
    let tenant = |seat: &crate::tenants::registry::Seat| Arc::clone(seat.quota.tenant.as_ref().unwrap());
    assert!(Arc::ptr_eq(&tenant(&one), &tenant(&two)));
    assert_eq!(two.gate.counts(), (0, 1));
    deployer.set_tenants(&acme(TenantLimits { concurrency: Some(2), ..TenantLimits::default() }));
    wait_until("the second runs", || two.gate.counts() == (1, 0));
    assert_eq!(first.finish().version().0, 1);
    assert_eq!(second.finish().version().0, 1);
    wait_until("nobody runs", || tenant(&one).gate.counts() == (0, 0));

    // An app that is another's from now on is another app: nothing of the one before holds for it.
    let other = AppSettings { tenant: None, ..apps[1].clone() };
    deployer.deploy(&[apps[0].clone(), other]).unwrap();
    assert_eq!(served(&server, "two").seat.tenant(), None);
    end(server);
}
