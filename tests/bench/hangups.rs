//! 10,000 requests whose client hangs up while the guest waits on a socket: no socket, no descriptor and no memory is
//! left behind, and no place in the app.

use tidegate_tests::App;
use tidegate_tests::bench::args::Args;
use tidegate_tests::bench::hangups::{Plan, run};
use tidegate_tests::bench::{finish, judge, raise_fd_limit, warn_if_unoptimised};

fn main() -> anyhow::Result<()> {
    let mut args = Args::parse()?;
    let plan = Plan { requests: args.get("requests", 10_000)?, at_once: args.get("at-once", 200)? };
    args.done()?;
    warn_if_unoptimised();
    raise_fd_limit()?;

    let redis = |guest: &str| {
        let app = App::guest(guest);
        run(&plan, |upstream| app.env("REDIS", upstream.addr()).connect(upstream.addr()), "/get/key")
    };
    let (socket, component) = (redis("redis_module")?, redis("redis_std")?);
    let fetch = run(
        &plan,
        |upstream| {
            let app = App::guest("proxy").env("UPSTREAM", format!("http://{}", upstream.addr()));
            app.connect(upstream.addr())
        },
        "/",
    )?;
    let mut good = true;
    let waits = [
        ("a module that waits on a socket", socket),
        ("a component that waits on a socket", component),
        ("a module that waits on an upstream", fetch),
    ];
    for (what, report) in waits {
        println!("{} hang-ups on {what} in {:.2?}", plan.requests, report.took);
        good &= judge("sockets left at the other side", report.open as f64, "", 0.0);
        let (fds, fds_after) = report.fds;
        good &= judge("descriptors more than before", fds_after.saturating_sub(fds) as f64, "", 0.0);
        let (rss, rss_after) = report.rss;
        let grown = rss_after.saturating_sub(rss) as f64 / rss as f64 * 100.0;
        good &= judge("memory more than before", grown, "%", 10.0);
    }
    finish(good)
}
