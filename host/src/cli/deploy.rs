//! `tidegate deploy`: a module, the apps of a manifest, or a folder that is built first, into a server that runs.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, anyhow};
use serde_json::{Map, Value, json};

use super::args::{DeployArgs, Flags};
use super::build::{self, Profile};
use super::child::Children;
use super::client::{Client, WORK, part, refused, show};
use super::project::Project;
use super::{Failure, serve};
use crate::config::manifest::{self, MANIFEST};
use crate::config::{AppSettings, did_you_mean, escaped};
use crate::hosting::types::{AppView, Deployed};
use crate::observe::log::say;

/// Settings that are tables: a flag adds to what is in them.
const TABLES: [&str; 5] = ["env", "limits", "secrets", "sockets", "watermarks"];

/// An app to deploy.
#[derive(Debug)]
struct Plan {
    app: String,
    source: PathBuf,
    /// What its `[[app]]` says, if it has one: then nothing else is kept of the version before.
    section: Option<Map<String, Value>>,
}

pub(super) fn run(args: &DeployArgs) -> Result<(), Failure> {
    let client = Client::new(&args.at)?;
    let flags = args.flags();
    let changes = flags.app_map()?;
    if rule(args).is_none() && (args.failure_percent.is_some() || args.requests_min.is_some()) {
        let message =
            "`--failure-percent` and `--requests-min` say when a canary has failed, and this is none";
        return Err(Failure::usage(message, Some("`--canary 5` makes it one".to_owned())));
    }
    let plans = plans(args, &flags)?;
    if plans.len() > 1 && !changes.is_empty() {
        let message = format!("the flags could mean any of the {} apps of the manifest", plans.len());
        return Err(Failure::usage(
            message,
            Some("set it in the manifest, or name one with `--name`".to_owned()),
        ));
    }
    let mut done = Vec::new();
    for plan in &plans {
        let deployed = deploy(&client, args, plan, &changes)?;
        if !client.json {
            let canary = rule(args).is_some();
            show::print(&format!("{}\n", outcome(&deployed, canary)))?;
        }
        done.push(deployed);
    }
    match (client.json, done.as_slice()) {
        (false, _) => Ok(()),
        (true, [one]) => show::json(one),
        (true, several) => show::json(&several),
    }
}

/// What there is to deploy.
fn plans(args: &DeployArgs, flags: &Flags) -> Result<Vec<Plan>, Failure> {
    let (subject, name) = (args.subject.as_path(), flags.app_name());
    let inside = subject.join(MANIFEST);
    let builds = || -> Result<bool, Failure> {
        let crate_here = subject.join("Cargo.toml").is_file();
        Ok(crate_here || (inside.is_file() && manifest::load_project(&inside)?.build.is_some()))
    };
    if subject.is_dir() && builds()? {
        return of_project(args, name);
    }
    if args.target.is_some() {
        let message =
            format!("`--target` is for what is built, and nothing is built of `{}`", subject.display());
        return Err(Failure::usage(message, Some("name the folder of a crate, or leave it out".to_owned())));
    }
    let manifest = if subject.is_dir() { &inside } else { subject };
    // It checks what the subject is, and all of a manifest, before anybody is asked.
    let settings = serve::of_target(subject)?;
    if serve::is_module(manifest) {
        let app = name.map(str::to_owned).or(settings.apps.first().map(|app| app.name.clone()));
        return Ok(vec![Plan { app: app.unwrap_or_default(), source: subject.to_owned(), section: None }]);
    }
    chosen(of_manifest(manifest, &settings.apps)?, name, manifest)
}

/// What a folder makes: built, then as its manifest says, if it has one.
fn of_project(args: &DeployArgs, name: Option<&str>) -> Result<Vec<Plan>, Failure> {
    let project = Project::open(&args.subject, args.target)?;
    let module = build::build(&project, Profile::Release, &Children::of_terminal());
    let module = module.map_err(|broken| broken.failure)?;
    let settings = project.settings(&module)?;
    let manifest = args.subject.join(MANIFEST);
    let mut plans = of_manifest(&manifest, &settings.apps)?;
    plans.retain(|plan| plan.source == module);
    match (plans.as_mut_slice(), name) {
        // One that stands in no manifest has no name yet.
        ([only], Some(name)) if only.section.is_none() => name.clone_into(&mut only.app),
        _ => {}
    }
    chosen(plans, name, &manifest)
}

/// The one that is named, or all of them.
fn chosen(mut plans: Vec<Plan>, name: Option<&str>, manifest: &Path) -> Result<Vec<Plan>, Failure> {
    if let Some(name) = name {
        let names: Vec<String> = plans.iter().map(|plan| plan.app.clone()).collect();
        plans.retain(|plan| plan.app == name);
        if plans.is_empty() {
            let message = format!("there is no app `{name}` in `{}`", manifest.display());
            return Err(Failure::usage(message, Some(did_you_mean(name, names.iter().map(String::as_str)))));
        }
    }
    Ok(plans)
}

/// The apps of a manifest that was found to be right, with their sections as they stand there.
fn of_manifest(path: &Path, apps: &[AppSettings]) -> Result<Vec<Plan>, Failure> {
    let text = if path.is_file() {
        std::fs::read_to_string(path).with_context(|| format!("`{}`", path.display()))?
    } else {
        String::new()
    };
    let mut root: toml::Table = text.parse().context("the manifest")?;
    for other in ["server", "listen", "tenant"] {
        if root.contains_key(other) {
            say(format_args!("note: `{other}` of `{}` is for a server that starts with it", path.display()));
        }
    }
    let mut sections = match root.remove("app") {
        Some(toml::Value::Array(sections)) => sections,
        _ => Vec::new(),
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let folder = std::path::absolute(if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    let folder = folder.context("the manifest's folder")?;
    let mut plans = Vec::new();
    for app in apps {
        // In the manifest's order; one that is nowhere in it has been made up for a project.
        let named =
            |section: &toml::Value| section.get("name").and_then(toml::Value::as_str) == Some(&app.name);
        let at = sections.iter().position(named);
        let section = match at.map(|at| sections.remove(at)) {
            Some(toml::Value::Table(section)) => Some(crate::hosting::settings_of(section, &folder)),
            _ => None,
        };
        plans.push(Plan { app: app.name.clone(), source: app.source.clone(), section });
    }
    Ok(plans)
}

fn deploy(
    client: &Client,
    args: &DeployArgs,
    plan: &Plan,
    changes: &Map<String, Value>,
) -> Result<Deployed, Failure> {
    let app = part(&plan.app)?;
    let now: Option<AppView> = client.find(&format!("/v1/apps/{app}"))?;
    let now = now.map(|now| now.settings).unwrap_or_default();
    let settings = settings(&now, plan.section.as_ref(), changes);
    let module = upload(client, app, &plan.source)?;
    let deploy = json!({
        "module": module,
        "settings": settings,
        "note": args.note,
        "canary": rule(args),
        "inactive": args.inactive,
    });
    let mut steps = Steps { under_way: None, terminal: io::stderr().is_terminal(), told: false };
    let mut last = None;
    let path = format!("/v1/apps/{app}/versions");
    let told = client.lines("POST", &path, Some(&deploy), WORK, &mut |line| {
        match serde_json::from_str::<Value>(line) {
            Ok(mut line) if line.get("step").is_some() => {
                let step = line["step"].take();
                let step = step.as_str().unwrap_or_default();
                match line["seconds"].as_u64() {
                    None => steps.begin(step),
                    Some(seconds) => steps.go_on(step, seconds),
                }
            }
            Ok(line) => last = Some(line),
            Err(_) => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    });
    match told {
        Err(Failure::Failed { error, help: None }) if steps.under_way.is_some() => {
            steps.end("  cut off");
            return Err(Failure::Failed { error, help: Some(cut_off(&plan.app)) });
        }
        told => told?,
    }
    let mut last = last.unwrap_or_default();
    if let Ok(deployed) = serde_json::from_value(last["done"].take()) {
        steps.end("");
        return Ok(deployed);
    }
    steps.end("  failed");
    let error = &last["error"];
    let Some(message) = error["message"].as_str() else {
        let error = anyhow!("the server ended before it said what came of the deploy");
        return Err(Failure::Failed { error, help: Some(cut_off(&plan.app)) });
    };
    Err(refused(error["kind"].as_str().unwrap_or_default(), message, error["help"].as_str()))
}

/// What to do when nobody said what came of a deploy.
fn cut_off(app: &str) -> String {
    format!(
        "it may have ended, or handed over to another: `tidegate versions {}` says whether it was done, and to deploy \
         again does no harm",
        escaped(app)
    )
}

/// Which requests it is for, where that is not all of them.
fn rule(args: &DeployArgs) -> Option<Value> {
    let DeployArgs { canary, canary_header: header, canary_cookie: cookie, .. } = args;
    let any = canary.is_some() || header.is_some() || cookie.is_some();
    any.then(|| {
        let mut rule = json!({ "percent": canary.unwrap_or(0), "header": header, "cookie": cookie });
        // What is left out is the server's to say.
        let judged =
            [("failure_percent", args.failure_percent.map(u32::from)), ("requests_min", args.requests_min)];
        for (key, value) in judged {
            if let Some(value) = value {
                rule[key] = value.into();
            }
        }
        rule
    })
}

/// The settings to send: null takes out what the version `now` has and a section does not.
fn settings(
    now: &Map<String, Value>,
    section: Option<&Map<String, Value>>,
    changes: &Map<String, Value>,
) -> Map<String, Value> {
    let mut settings = Map::new();
    if let Some(section) = section {
        settings.extend(now.keys().map(|key| (key.clone(), Value::Null)));
        // A first version would have some by default.
        settings.insert("routes".to_owned(), Value::Null);
        settings.extend(section.clone());
        // Whose it is does not go by being left out.
        if !section.contains_key("tenant") {
            settings.remove("tenant");
        }
    }
    for (key, value) in changes {
        let base = section.unwrap_or(now).get(key);
        let value = match base {
            Some(base) if TABLES.contains(&key.as_str()) => added(base, value),
            _ => value.clone(),
        };
        settings.insert(key.clone(), value);
    }
    settings
}

/// A table with what a flag adds to it: lists grow, everything else is replaced.
fn added(base: &Value, more: &Value) -> Value {
    match (base, more) {
        (Value::Object(base), Value::Object(more)) => {
            let mut table = base.clone();
            for (key, value) in more {
                let value = table.get(key).map_or_else(|| value.clone(), |base| added(base, value));
                table.insert(key.clone(), value);
            }
            Value::Object(table)
        }
        (Value::Array(base), Value::Array(more)) => {
            let new = more.iter().filter(|value| !base.contains(value));
            Value::Array(base.iter().chain(new).cloned().collect())
        }
        (_, more) => more.clone(),
    }
}

/// Has the server take the module in, unless it has it. Returns its hash.
fn upload(client: &Client, app: &str, source: &Path) -> Result<String, Failure> {
    let shown = source.display();
    let unreadable = |error: io::Error| Failure::usage(format!("`{shown}` cannot be read: {error}"), None);
    let open = || File::open(source).and_then(|file| file.metadata().map(|metadata| (file, metadata.len())));
    let (file, bytes) = open().map_err(unreadable)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file).map_err(unreadable)?;
    let hash = hasher.finalize().to_hex().to_string();
    let size = show::kib(bytes);
    if client.has(&format!("/v1/modules/{hash}"))? {
        say(format_args!("{app}: {shown} ({size}), which the server has"));
        return Ok(hash);
    }
    say(format_args!("{app}: {shown} ({size})"));
    let began = Instant::now();
    let (mut file, bytes) = open().map_err(unreadable)?;
    let taken: Value = client.upload("/v1/modules", &mut file, bytes)?;
    say(format_args!("  {:10} {}", "upload", show::span(micros(began))));
    // The file may have been made anew in the meantime: what was sent is what counts.
    Ok(taken["module"].as_str().map_or(hash, str::to_owned))
}

fn micros(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// Elsewhere than at a terminal it is told so often that a step goes on.
const TELL_EVERY_S: u64 = 10;

/// Steps as they are shown: at a terminal when they begin and while they go on, and each with the time it took when it is
/// over.
struct Steps {
    under_way: Option<(String, Instant)>,
    terminal: bool,
    /// The line at the terminal says for how long the step goes on.
    told: bool,
}

impl Steps {
    fn begin(&mut self, step: &str) {
        self.end("");
        let step = escaped(step);
        if self.terminal {
            // Nobody may be there to see it.
            let _ = write!(io::stderr(), "  {step:10} ");
        }
        self.under_way = Some((step, Instant::now()));
    }

    /// The step that is under way goes on, for so long by now.
    fn go_on(&mut self, step: &str, seconds: u64) {
        let Some((under_way, _)) = self.under_way.as_ref().filter(|(known, _)| *known == escaped(step))
        else {
            return self.begin(step);
        };
        if self.terminal {
            self.told = true;
            let _ = write!(io::stderr(), "\r  {under_way:10} {seconds}s");
        } else if seconds.is_multiple_of(TELL_EVERY_S) {
            say(format_args!("  {under_way:10} goes on, for {seconds}s by now"));
        }
    }

    fn end(&mut self, word: &str) {
        let Some((step, began)) = self.under_way.take() else { return };
        let time = show::span(micros(began));
        if std::mem::take(&mut self.told) {
            say(format_args!("\r\x1b[K  {step:10} {time}{word}"));
        } else if self.terminal {
            say(format_args!("{time}{word}"));
        } else {
            say(format_args!("  {step:10} {time}{word}"));
        }
    }
}

/// What came of it, in a sentence.
pub(super) fn outcome(deployed: &Deployed, canary: bool) -> String {
    let Deployed { app, version, active, before, unchanged, ended } = deployed;
    let app = escaped(app);
    let rest = match (active, before) {
        (Some(active), _) if active != version => format!(", others get version {active}"),
        (None, _) => ", and nobody gets any other".to_owned(),
        (_, Some(before)) if before != version => format!(", before it {before}"),
        _ => String::new(),
    };
    let said = match (unchanged, active) {
        (true, _) => format!("{app}: nothing has changed, it is version {version}"),
        (_, Some(active)) if active == version => format!("{app}: version {version} serves{rest}"),
        _ if canary => format!("{app}: version {version} is the canary{rest}"),
        (_, Some(active)) => format!("{app}: version {version} is kept, version {active} serves"),
        (_, None) => format!("{app}: version {version} is kept, none serves"),
    };
    match ended {
        Some(ended) => format!("{said}; its canary, version {ended}, is over"),
        None => said,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Cli, Verb};

    fn map(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("{other} is no object"),
        }
    }

    #[test]
    fn flags_add_to_what_serves() {
        let now = map(json!({
            "routes": ["/a"],
            "limits": { "memory": "1MiB", "cpu": "1s" },
            "sockets": { "connect": ["a:1"], "listen": [] },
        }));
        let changes = map(json!({
            "routes": ["/b"],
            "limits": { "cpu": "2s" },
            "sockets": { "connect": ["b:1", "a:1"], "listen": [], "ca": [] },
            "weight": 2,
        }));
        let expected = json!({
            "routes": ["/b"],
            "limits": { "memory": "1MiB", "cpu": "2s" },
            "sockets": { "connect": ["a:1", "b:1"], "listen": [], "ca": [] },
            "weight": 2,
        });
        assert_eq!(Value::Object(settings(&now, None, &changes)), expected);
        assert!(settings(&now, None, &Map::new()).is_empty(), "nothing said, nothing changed");
    }

    #[test]
    fn a_manifest_says_all_of_it() {
        let now =
            map(json!({ "routes": ["/a"], "weight": 3, "tenant": "acme", "limits": { "memory": "1MiB" } }));
        let section = map(json!({ "routes": ["/b"], "limits": { "cpu": "1s" } }));
        let changes = map(json!({ "limits": { "wall": "9s" } }));
        let expected = json!({ "routes": ["/b"], "weight": null, "limits": { "cpu": "1s", "wall": "9s" } });
        assert_eq!(Value::Object(settings(&now, Some(&section), &changes)), expected);
    }

    #[test]
    fn rules_of_a_canary() {
        let args = |words: &[&str]| {
            let words = [&["tidegate", "deploy", "shop.wasm"], words].concat();
            match Cli::try_parse_from(words).map(|cli| cli.verb) {
                Ok(Verb::Deploy(args)) => Ok(args),
                Ok(other) => panic!("{other:?}"),
                Err(error) => Err(error.to_string()),
            }
        };
        assert_eq!(rule(&args(&[]).unwrap()), None);
        let all = args(&["--canary", "20%", "--failure-percent", "1", "--requests-min", "100"]).unwrap();
        let expected = json!({
            "percent": 20, "header": null, "cookie": null, "failure_percent": 1, "requests_min": 100
        });
        assert_eq!(rule(&all), Some(expected));
        let plain = args(&["--canary-header", "x-beta"]).unwrap();
        assert_eq!(rule(&plain), Some(json!({ "percent": 0, "header": "x-beta", "cookie": null })));
        for bad in ["101", "-1", "%", "5.5"] {
            assert!(args(&[&format!("--canary={bad}")]).unwrap_err().contains("from 0 to 100"), "{bad}");
        }
        let none = run(&args(&["--requests-min", "9"]).unwrap()).unwrap_err();
        assert_eq!(none.status(), 2);
    }

    #[test]
    fn sentences() {
        let of = |version, active, before, unchanged| Deployed {
            app: "shop".to_owned(),
            version,
            active,
            before,
            unchanged,
            ended: None,
        };
        for (deployed, canary, told) in [
            (of(2, Some(2), Some(1), false), false, "shop: version 2 serves, before it 1"),
            (of(1, Some(1), None, false), false, "shop: version 1 serves"),
            (of(1, Some(1), Some(1), true), false, "shop: nothing has changed, it is version 1"),
            (of(2, Some(1), Some(1), false), true, "shop: version 2 is the canary, others get version 1"),
            (of(2, Some(1), Some(1), false), false, "shop: version 2 is kept, version 1 serves"),
            (of(1, None, None, false), false, "shop: version 1 is kept, none serves"),
        ] {
            assert_eq!(outcome(&deployed, canary), told);
        }
        let ended = Deployed { ended: Some(4), ..of(5, Some(5), Some(5), false) };
        assert_eq!(outcome(&ended, false), "shop: version 5 serves; its canary, version 4, is over");
    }

    #[test]
    fn sections_of_a_manifest_keep_their_order_and_lose_their_relative_paths() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(MANIFEST);
        let text = "[[app]]\nname = \"a\"\nsource = \"a.wasm\"\nroutes = [\"/a\"]\nsecrets = { S = \"file:s\" }\n\
                    [[app]]\nname = \"b\"\nsource = \"b.wasm\"\nroutes = [\"/b\"]\nweight = 2\n";
        std::fs::write(&path, text).unwrap();
        for name in ["a", "b"] {
            std::fs::write(folder.path().join(format!("{name}.wasm")), b"\0asm\x01\0\0\0").unwrap();
        }
        let plans = |name| {
            let plans = of_manifest(&path, &manifest::load(&path).unwrap().apps).unwrap();
            chosen(plans, name, &path)
        };
        let all = plans(None).unwrap();
        let [a, b] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((a.app.as_str(), b.app.as_str()), ("a", "b"));
        assert_eq!(b.section, Some(map(json!({ "routes": ["/b"], "weight": 2 }))));
        let secret = format!("file:{}", folder.path().join("s").display());
        assert_eq!(a.section.as_ref().unwrap()["secrets"], json!({ "S": secret }));
        assert_eq!(plans(Some("b")).unwrap().len(), 1);
        assert!(plans(Some("c")).unwrap_err().to_string().contains("no app `c`"));
    }
}
