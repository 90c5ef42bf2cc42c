//! `tidegate canary`: what a canary does, and what becomes of it.

use serde_json::json;

use super::Failure;
use super::args::CanaryArgs;
use super::client::{Client, part, show};
use super::deploy::outcome;
use crate::hosting::types::{AppView, CanaryRule, CanaryView, Deployed};

pub(super) fn run(args: &CanaryArgs) -> Result<(), Failure> {
    let client = Client::new(&args.at)?;
    let app = part(&args.app)?;
    let path = format!("/v1/apps/{app}/canary");
    let changes = args.version.is_some()
        || args.header.is_some()
        || args.cookie.is_some()
        || args.failure_percent.is_some()
        || args.requests_min.is_some();
    let percent = match args.change.as_str() {
        "promote" | "abort" if changes => {
            let message = format!("`{}` ends the canary: there is nothing else to say about it", args.change);
            return Err(Failure::usage(message, None));
        }
        "promote" => return done(&client, &client.change("POST", &format!("{path}/promote"), None)?, false),
        "abort" => return done(&client, &client.change("DELETE", &path, None)?, false),
        "status" if !changes => return status(&client, app),
        "status" => None,
        other => Some(percent(other)?),
    };
    let view: AppView = client.get(&format!("/v1/apps/{app}"))?;
    let (version, rule) = changed(args, percent, view.canary.as_ref())?;
    done(&client, &client.change("PUT", &path, Some(&json!({ "version": version, "rule": rule })))?, true)
}

fn percent(text: &str) -> Result<u8, Failure> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok().filter(|percent| *percent <= 100);
    number.ok_or_else(|| {
        let message = format!("`{}` is nothing that a canary does", text.escape_debug());
        Failure::usage(message, Some("`status`, `promote`, `abort`, or hundredths from 0 to 100".to_owned()))
    })
}

/// The rule of the one that is under way with what the flags change, or that of a new one.
fn changed(
    args: &CanaryArgs,
    percent: Option<u8>,
    now: Option<&CanaryView>,
) -> Result<(u64, CanaryRule), Failure> {
    let same = now.filter(|now| args.version.is_none_or(|version| version == now.version));
    let Some(version) = args.version.or(same.map(|now| now.version)) else {
        let message = format!("`{}` has no canary", args.app.escape_debug());
        let help = "begin one with `--version N`, or with `tidegate deploy --canary PERCENT`".to_owned();
        return Err(Failure::usage(message, Some(help)));
    };
    let first = CanaryRule::default;
    let mut rule = same.map_or_else(first, |now| now.rule.clone());
    rule.percent = percent.unwrap_or(rule.percent);
    rule.failure_percent = args.failure_percent.unwrap_or(rule.failure_percent);
    rule.requests_min = args.requests_min.unwrap_or(rule.requests_min);
    rule.header = args.header.clone().or(rule.header);
    rule.cookie = args.cookie.clone().or(rule.cookie);
    Ok((version, rule))
}

fn done(client: &Client, deployed: &Deployed, canary: bool) -> Result<(), Failure> {
    if client.json { show::json(deployed) } else { show::print(&format!("{}\n", outcome(deployed, canary))) }
}

fn status(client: &Client, app: &str) -> Result<(), Failure> {
    let view: AppView = client.get(&format!("/v1/apps/{app}"))?;
    if client.json {
        return show::json(&view.canary);
    }
    let active = show::dash(view.active);
    show::print(&match view.canary {
        None => format!("{app}: no canary; version {active} serves\n"),
        Some(canary) => format!("{app}: {}; others get version {active}\n", sentence(&canary)),
    })
}

/// What a canary does, in words.
pub(super) fn sentence(canary: &CanaryView) -> String {
    let CanaryView { version, rule, requests, failures } = canary;
    let mut whom = Vec::new();
    if rule.percent > 0 {
        whom.push(format!("{}% of requests", rule.percent));
    }
    whom.extend(
        rule.header.as_ref().map(|header| format!("those with the header {}", show::one_line(header))),
    );
    whom.extend(
        rule.cookie.as_ref().map(|cookie| format!("those with the cookie {}", show::one_line(cookie))),
    );
    let whom = if whom.is_empty() { "no requests".to_owned() } else { whom.join(" and ") };
    format!(
        "version {version} gets {whom}: {requests} so far, {failures} failed (rolled back above {}%, from {} requests on)",
        rule.failure_percent, rule.requests_min
    )
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Cli, Verb};

    fn args(words: &[&str]) -> CanaryArgs {
        let words = [&["tidegate", "canary", "shop"], words].concat();
        match Cli::try_parse_from(words).unwrap().verb {
            Verb::Canary(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_rule_changes_by_what_is_said() {
        let rule = CanaryRule {
            percent: 5,
            header: Some("x: 1".into()),
            cookie: None,
            failure_percent: 9,
            requests_min: 3,
        };
        let now = CanaryView { version: 4, rule: rule.clone(), requests: 10, failures: 1 };
        let (version, changed_rule) = changed(&args(&["20"]), Some(20), Some(&now)).unwrap();
        assert_eq!((version, changed_rule), (4, CanaryRule { percent: 20, ..rule }));
        let (version, rule) = changed(&args(&["1", "--version", "7"]), Some(1), Some(&now)).unwrap();
        assert_eq!((version, rule.percent, rule.header, rule.failure_percent), (7, 1, None, 5));
        assert!(changed(&args(&["1"]), Some(1), None).unwrap_err().to_string().contains("no canary"));
        assert!(
            sentence(&now).starts_with("version 4 gets 5% of requests and those with the header x: 1: 10 so")
        );
    }

    #[test]
    fn percents() {
        assert_eq!((percent("5").unwrap(), percent("100%").unwrap()), (5, 100));
        for bad in ["101", "-1", "promot", ""] {
            assert_eq!(percent(bad).unwrap_err().status(), 2, "{bad}");
        }
    }
}
