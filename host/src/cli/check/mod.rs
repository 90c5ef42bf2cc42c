//! `tidegate check`: what a guest is, what it needs, and whether it would be served.
//!
//! What it finds by looking explains; whether it would be served is decided by loading it as a server does.

mod imports;
mod inspect;
mod report;

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use tidegate_abi::names;

use super::args::CheckArgs;
use super::build::{self, Profile};
use super::child::Children;
use super::project::Project;
use super::{Failure, serve};
use crate::config::manifest::{self, MANIFEST};
use crate::config::{AppSettings, BuildTarget, Given, ServerSettings, Settings, TcpListen, about_bytes};
use crate::guest::offer;
use crate::server::{LoadFailures, try_load};
use imports::{Grant, Judge, Means, Verdict};
use inspect::{CONNECTION, Facts, HANDLE, Kind, Role};
use report::{Allowed, Objection, Report};

/// What no module is larger than, as those who compile them see it too. What is larger is not read at all.
const MODULE_BYTES_MAX: u64 = 1 << 30;

pub(super) fn run(args: &CheckArgs) -> Result<(), Failure> {
    let Settings { server, apps, tcp, .. } = settings(&args.subject, args.target)?;
    // Loading may have something to say: that it takes long, or that what it compiles can not be kept.
    let _log = serve::open_log(&server)?;
    let judge = Judge::new().map_err(|error| anyhow::anyhow!("{error:#}"))?;
    let mut reports = Vec::new();
    for app in apps {
        reports.push(check(&judge, &server, app, &tcp)?);
    }
    let mut text = String::new();
    if args.json {
        let all: Vec<String> = reports.iter().map(Report::json).collect::<Result<_, _>>().context("JSON")?;
        // One module is one object, also where there could be more.
        text =
            if let [one] = all.as_slice() { format!("{one}\n") } else { format!("[{}]\n", all.join(",\n")) };
    } else {
        let all: Vec<String> = reports.iter().map(ToString::to_string).collect();
        text.push_str(&all.join("\n\n"));
    }
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("standard output")?;
    if reports.iter().all(|report| report.servable) { Ok(()) } else { Err(Failure::Said(1)) }
}

/// The apps to check: of a file, that file; of a project, what it builds; of a manifest without one, its apps.
fn settings(subject: &Path, target: Option<BuildTarget>) -> Result<Settings, Failure> {
    if subject.file_name().is_some_and(|name| name == MANIFEST) && subject.is_file() {
        let folder = subject.parent().filter(|folder| !folder.as_os_str().is_empty());
        return settings(folder.unwrap_or(Path::new(".")), target);
    }
    if !subject.is_dir() {
        nothing_to_build(subject, target)?;
        // What `serve` takes for a manifest is one here.
        if subject.extension().is_some_and(|extension| extension == "toml") {
            return Ok(manifest::load(subject)?);
        }
        let stem = subject.file_stem().unwrap_or_default().to_string_lossy();
        return serve::of_module(subject.to_path_buf(), &stem);
    }
    let path = subject.join(MANIFEST);
    let builds = || -> Result<bool, Failure> {
        let project = manifest::load_project(&path)?;
        Ok(project.build.is_some() || project.target.is_some())
    };
    if path.is_file() && !subject.join("Cargo.toml").is_file() && !builds()? {
        nothing_to_build(subject, target)?;
        return Ok(manifest::load(&path)?);
    }
    let project = Project::open(subject, target)?;
    let module = build::build(&project, Profile::Release, &Children::of_terminal());
    let module = module.map_err(|broken| broken.failure)?;
    project.settings(&module)
}

/// Refuses to be told what to build where nothing is built.
fn nothing_to_build(subject: &Path, target: Option<BuildTarget>) -> Result<(), Failure> {
    if target.is_none() {
        return Ok(());
    }
    let message = format!("`--target` is for what is built, and nothing is built of `{}`", subject.display());
    Err(Failure::usage(message, Some("name the folder of a crate, or leave it out".to_owned())))
}

/// What stands against a module that was just built, as far as it shows without loading it.
pub(super) fn complaints(module: &Path) -> Result<Vec<Objection>, Failure> {
    let facts = Facts::of(&read(module)?);
    let judge = Judge::new().map_err(|error| anyhow::anyhow!("{error:#}"))?;
    let mut app = AppSettings::new(String::new(), module.to_path_buf());
    // Where it is reached is the manifest's to say, and a module for raw connections alone goes without routes.
    if facts.has_role(Role::Connections) {
        app.routes.clear();
    }
    Ok(objections(&facts, &verdicts(&judge, &facts, &app), &app))
}

/// `tcp` are the raw listeners of all apps.
fn check(
    judge: &Judge,
    server: &ServerSettings,
    app: AppSettings,
    tcp: &[TcpListen],
) -> Result<Report, Failure> {
    let shown = app.source.display().to_string();
    let bytes = read(&app.source)?;
    let facts = Facts::of(&bytes);
    let verdicts = verdicts(judge, &facts, &app);
    let mut objections = objections(&facts, &verdicts, &app);
    let limits = (&app.limits).into();
    let allowed = Allowed::of(&app, tcp);
    let refused = try_load(server, app, tcp).err();
    let servable = refused.is_none();
    if servable {
        objections.clear();
    }
    if let Some(error) = refused
        && objections.is_empty()
    {
        objections.push(Objection { what: reason(&error), help: String::new() });
    }
    Ok(Report { file: shown, servable, objections, abi: facts.abi(), facts, verdicts, limits, allowed })
}

/// What becomes of each import.
fn verdicts(judge: &Judge, facts: &Facts, app: &AppSettings) -> Vec<Verdict> {
    let means = Means::of(app);
    let verdict = |import| match facts.kind {
        Kind::Component => imports::of_component(import, means),
        _ => judge.verdict(import, means),
    };
    facts.imports.iter().map(verdict).collect()
}

/// What is in a file, if it is one: a pipe or a device may never end, and what is larger than any module is none.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let shown = path.display();
    let unreadable = |error| Failure::usage(format!("`{shown}` cannot be read: {error}"), None);
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(Failure::usage(format!("`{shown}` is not a regular file"), None));
    }
    if metadata.len() > MODULE_BYTES_MAX {
        return Err(Failure::usage(format!("`{shown}` is larger than a module may be, 1 GiB"), None));
    }
    fs::read(path).map_err(unreadable)
}

/// Why a server would not take it, without the app and the file.
fn reason(error: &anyhow::Error) -> String {
    match error.downcast_ref::<LoadFailures>() {
        Some(LoadFailures(all)) => {
            // The outermost names the app and the file.
            let reason = |error: &anyhow::Error| {
                let causes: Vec<_> = error.chain().skip(1).map(ToString::to_string).collect();
                if causes.is_empty() { error.to_string() } else { causes.join(": ") }
            };
            all.iter().map(reason).collect::<Vec<_>>().join("\n")
        }
        None => format!("{error:#}"),
    }
}

/// What stands against a file, in words that say what to do.
fn objections(facts: &Facts, verdicts: &[Verdict], app: &AppSettings) -> Vec<Objection> {
    let mut found = Vec::new();
    let mut object = |what: String, help: &str| found.push(Objection { what, help: help.to_owned() });
    match facts.kind {
        Kind::Module | Kind::Component => {}
        Kind::Text => {
            object(
                "it is WebAssembly in its text format".to_owned(),
                "turn it into a binary first: `wat2wasm`, or for a component `wasm-tools parse`",
            );
            return found;
        }
        Kind::Other => {
            let what = match facts.bytes {
                0 => "it is empty",
                _ => "it is no WebAssembly: it does not begin with the bytes `\\0asm` and a version",
            };
            object(what.to_owned(), "name the `.wasm` that was built, or a folder to build");
            return found;
        }
    }
    if let Some(why) = &facts.invalid {
        object(format!("it is not valid: {why}"), "the file is damaged, or made by a tool that is");
        return found;
    }
    if facts.kind == Kind::Component {
        against_component(facts, app, &mut found);
    } else {
        against_module(facts, app, &mut found);
    }
    found.extend(absent(facts, verdicts));
    found
}

/// What stands against a module, its imports aside.
fn against_module(facts: &Facts, app: &AppSettings, found: &mut Vec<Objection>) {
    let mut object = |what: String, help: &str| found.push(Objection { what, help: help.to_owned() });
    let (handle, shape) = HANDLE;
    match facts.export(handle) {
        Some(export) if export.shape == shape => {}
        Some(export) => {
            object(format!("its export `{handle}` is {}, and is to be {shape}", export.shape), "");
        }
        // Raw connections alone lead to it, and that it serves.
        None if facts.has_role(Role::Connections) && app.routes.is_empty() => {}
        None if facts.has_role(Role::Connections) => object(
            format!("it serves raw connections alone (it exports `{}` and not `{handle}`)", CONNECTION.0),
            "name an address for them: `--listen-tcp 127.0.0.1:7000`, or a `[[listen]]` in the manifest; and leave out \
             `routes`",
        ),
        None if is_core_of_component(facts) => object(
            "it is the core of a component".to_owned(),
            "make that of it: `wasm-tools component new`, or `jco new`",
        ),
        None if facts.export(names::START).is_some() => object(
            format!("it is a command: it exports `{}` and not `{handle}`", names::START),
            "in Rust: crate-type = [\"cdylib\"] and #[tidegate_sdk::handler]; in C: -mexec-model=reactor; in other languages: a \
             component of the world `wasi:http/proxy`",
        ),
        None => object(
            format!("it does not export `{handle}`"),
            "in Rust: #[tidegate_sdk::handler] on a function; in C: TIDEGATE_EXPORT(\"tidegate_handle\"); or a component \
             that exports `wasi:http/incoming-handler@0.2.x`",
        ),
    }
    let (connection, shape) = CONNECTION;
    if let Some(export) = facts.export(connection)
        && export.shape != shape
    {
        object(format!("its export `{connection}` is {}, and is to be {shape}", export.shape), "");
    }
    if facts.export(names::MEMORY).is_none_or(|export| export.shape != "memory") {
        object(format!("it does not export its memory as `{}`", names::MEMORY), "");
    }
    for memory in &facts.memories {
        if memory.shared {
            object(
                "its memory is shared between threads".to_owned(),
                "a handler is one thread: build without threads",
            );
        }
        if memory.is_64 {
            object("its memory has 64-bit addresses".to_owned(), "build for wasm32, not wasm64");
        }
    }
    let needed = facts.memories.iter().map(|memory| memory.initial_bytes).fold(0, u64::saturating_add);
    found.extend(too_much_memory(needed, app));
}

/// True for what a tool was to make a component of, by the names of interfaces in it.
fn is_core_of_component(facts: &Facts) -> bool {
    let of_interface = |name: &str| name.contains(':') && name.contains('/') && name.contains('@');
    facts.imports.iter().any(|import| of_interface(&import.module))
        || facts.exports.iter().any(|export| of_interface(&export.name))
}

fn too_much_memory(needed: u64, app: &AppSettings) -> Option<Objection> {
    let limit = app.limits.memory_bytes;
    (needed > limit).then(|| Objection {
        what: format!(
            "it needs {} of memory to begin with, and its limit is {}",
            about_bytes(needed),
            Given::size_told(limit)
        ),
        help: format!(
            "raise `memory`: `--limit memory={}`, or `limits.memory` in the manifest",
            Given::size_text(needed.next_multiple_of(1 << 20))
        ),
    })
}

/// What stands against a component, its imports aside.
fn against_component(facts: &Facts, app: &AppSettings, found: &mut Vec<Objection>) {
    let runs =
        facts.has_role(Role::Command) && (!app.sockets.connect.is_empty() || !app.sockets.listen.is_empty());
    if !facts.has_role(Role::Requests) && !runs {
        let names = facts.exports.iter().map(|export| export.name.as_str());
        found.push(Objection { what: offer::no_handler(names), help: String::new() });
    }
    found.extend(facts.needs.and_then(|needs| too_much_memory(needs.memory_bytes, app)));
}

/// The imports that are not there. Of an interface of which nothing is there, it is named alone.
fn absent(facts: &Facts, verdicts: &[Verdict]) -> Vec<Objection> {
    let mut found: Vec<Objection> = Vec::new();
    for (import, verdict) in facts.imports.iter().zip(verdicts) {
        if verdict.grant != Grant::Unknown {
            continue;
        }
        let whole = facts.kind == Kind::Component && offer::interface(&import.module).is_none();
        let what = if whole {
            format!("it imports `{}`, which is not there", import.module)
        } else {
            format!("it imports `{}` of `{}`, which is not there", import.name, import.module)
        };
        // One after the other, as they stand in the file.
        if found.last().is_none_or(|last| last.what != what) {
            found.push(Objection { what, help: verdict.help.clone() });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rule;

    /// What is objected to a module in text format.
    fn objected(wat: &str) -> Vec<String> {
        let judge = Judge::new().unwrap();
        let facts = Facts::of(&wat::parse_str(wat).unwrap());
        let app = AppSettings::new("x".into(), "x.wasm".into());
        let verdicts = verdicts(&judge, &facts, &app);
        let found = objections(&facts, &verdicts, &app);
        found.into_iter().map(|objection| format!("{} / {}", objection.what, objection.help)).collect()
    }

    #[test]
    fn what_does_without_requests_is_left_alone() {
        let judge = Judge::new().unwrap();
        let connections = r#"(module (memory (export "memory") 1)
            (func (export "tidegate_connection") (param i32) (result i32) (i32.const 0)))"#;
        let command = r#"(component (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)))"#;
        let table = [
            (connections, false, true, "it serves raw connections alone"),
            (connections, false, false, ""),
            (command, false, true, "it is a command"),
            (command, true, true, ""),
        ];
        for (wat, has_sockets, has_routes, expected) in table {
            let facts = Facts::of(&wat::parse_str(wat).unwrap());
            let mut app = AppSettings::new("x".into(), "x.wasm".into());
            if has_sockets {
                app.sockets.listen.push(Rule::parse_listen("localhost:1").unwrap());
            }
            if !has_routes {
                app.routes.clear();
            }
            let found = objections(&facts, &verdicts(&judge, &facts, &app), &app);
            let what = found.first().map_or("", |objection| objection.what.as_str());
            assert!(what.starts_with(expected) && what.is_empty() == expected.is_empty(), "{wat}: {found:?}");
        }
    }

    #[test]
    fn what_may_never_end_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.wasm");
        let told = |path: &Path| read(path).unwrap_err().to_string();
        assert!(told(&path).contains("cannot be read: No such file"));
        assert!(told(Path::new("/dev/zero")).contains("not a regular file"));
        // Without blocks on the disk.
        let file = fs::File::create(&path).unwrap();
        file.set_len(MODULE_BYTES_MAX + 1).unwrap();
        assert!(told(&path).contains("larger than a module may be"));
        file.set_len(4).unwrap();
        assert_eq!(read(&path).unwrap().len(), 4);
    }

    #[test]
    fn where_a_module_is_reached_is_not_the_builds_matter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.wasm");
        let told = |export: &str, params: &str| {
            let wat = format!(
                r#"(module (memory (export "memory") 1) (func (export "{export}") {params} (result i32) (i32.const 0)))"#
            );
            fs::write(&path, wat::parse_str(wat).unwrap()).unwrap();
            complaints(&path).unwrap().len()
        };
        assert_eq!(told("tidegate_connection", "(param i32)"), 0);
        assert_eq!(told("tidegate_handle", ""), 0);
        assert_eq!(told("run", ""), 1);
    }

    #[test]
    fn what_is_no_module_is_told_apart() {
        let what = |bytes: &[u8]| {
            let app = AppSettings::new("x".into(), "x.wasm".into());
            objections(&Facts::of(bytes), &[], &app).remove(0).what
        };
        assert_eq!(what(b""), "it is empty");
        assert!(what(b"\0asm").ends_with("`\\0asm` and a version"), "cut off within its first eight bytes");
    }

    #[test]
    fn objections_name_what_is_wrong_and_the_way_out() {
        let good =
            r#"(memory (export "memory") 1) (func (export "tidegate_handle") (result i32) (i32.const 0))"#;
        assert!(objected(&format!("(module {good})")).is_empty());
        let table: [(&str, &[&str]); 9] = [
            (
                r#"(memory (export "memory") 1) (func (export "_start"))"#,
                &["it is a command: it exports `_start` and not `tidegate_handle` / in Rust: crate-type"],
            ),
            (r#"(memory (export "memory") 1)"#, &["it does not export `tidegate_handle` / in Rust: #["]),
            (
                r#"(memory (export "memory") 1) (func (export "wasi:http/incoming-handler@0.2.3#handle"))"#,
                &["it is the core of a component / make that of it: `wasm-tools component new`"],
            ),
            (
                r#"(memory (export "memory") 1) (func (export "tidegate_handle"))"#,
                &["its export `tidegate_handle` is () -> (), and is to be () -> i32"],
            ),
            (
                r#"(func (export "tidegate_handle") (result i32) (i32.const 0))"#,
                &["it does not export its memory as `memory`"],
            ),
            (
                r#"(memory (export "memory") 1 2 shared) (func (export "tidegate_handle") (result i32) (i32.const 0))"#,
                &["its memory is shared"],
            ),
            (
                r#"(memory (export "memory") i64 1) (func (export "tidegate_handle") (result i32) (i32.const 0))"#,
                &["64-bit addresses / build for wasm32"],
            ),
            (
                r#"(memory (export "memory") 2000) (func (export "tidegate_handle") (result i32) (i32.const 0))"#,
                &[
                    "it needs 125 MiB of memory to begin with, and its limit is 64 MiB / raise `memory`: `--limit memory=125MiB`",
                ],
            ),
            (
                r#"(import "env" "x" (func)) (memory (export "memory") 1)"#,
                &[
                    "it does not export `tidegate_handle`",
                    "it imports `x` of `env`, which is not there / output of",
                ],
            ),
        ];
        for (inside, expected) in table {
            let found = objected(&format!("(module {inside})"));
            assert_eq!(found.len(), expected.len(), "{inside}: {found:?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(found.contains(expected), "{inside}: {found}");
            }
        }
    }
}
