//! What `check` says, for people and for programs.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::Serialize;

use crate::config::{AppLimits, AppSettings, Mount, Rule, TcpListen, escaped};
use crate::guest::places;

use super::imports::{Grant, Verdict};
use super::inspect::{Facts, Kind, Role};

/// Something that stands against serving a module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Objection {
    pub(in crate::cli) what: String,
    /// What to do about it; may be empty.
    pub(in crate::cli) help: String,
}

/// Everything that is known about a file.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) file: String,
    /// Whether a server would serve it.
    pub(super) servable: bool,
    pub(super) objections: Vec<Objection>,
    /// The version of the ABI that it imports.
    pub(super) abi: Option<u32>,
    #[serde(flatten)]
    pub(super) facts: Facts,
    /// One for each import.
    pub(super) verdicts: Vec<Verdict>,
    /// What its app may use.
    pub(super) limits: Limits,
    #[serde(flatten)]
    pub(super) allowed: Allowed,
}

/// What an app is given besides. Values of variables may be secrets, and are not told.
#[derive(Debug, Default, Serialize)]
pub(super) struct Allowed {
    /// Names.
    pub(super) env: Vec<String>,
    /// `HOST:GUEST:ro`, as the flag takes them.
    pub(super) mounts: Vec<String>,
    /// What it may keep in the key-value store.
    pub(super) kv: Option<String>,
    /// Rules of where it may connect, as the manifest has them.
    pub(super) connect: Vec<String>,
    /// And of where it may listen.
    pub(super) listen: Vec<String>,
    /// Files of certificates that it trusts.
    pub(super) ca: Vec<String>,
    /// Addresses whose raw connections it is handed.
    pub(super) tcp: Vec<String>,
}

impl Allowed {
    /// `tcp` are the raw listeners of all apps.
    pub(super) fn of(app: &AppSettings, tcp: &[TcpListen]) -> Self {
        let rules = |rules: &[Rule]| rules.iter().map(ToString::to_string).collect();
        let mount = |mount: &Mount| {
            let how = if mount.write { "rw" } else { "ro" };
            format!("{}:{}:{how}", mount.host.display(), mount.guest)
        };
        Self {
            env: app.env.iter().map(|(name, _)| name.clone()).collect(),
            mounts: app.mounts.iter().map(mount).collect(),
            kv: app.kv.map(|kv| format!("{} keys, {}", kv.keys, size(kv.bytes))),
            connect: rules(&app.sockets.connect),
            listen: rules(&app.sockets.listen),
            ca: app.sockets.ca.iter().map(|path| path.display().to_string()).collect(),
            tcp: tcp.iter().filter(|tcp| tcp.app == app.name).map(|tcp| tcp.addr.to_string()).collect(),
        }
    }
}

/// The limits of an app, in plain numbers.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Limits {
    pub(super) memory_bytes: u64,
    pub(super) cpu_ms: u64,
    pub(super) wall_ms: u64,
    pub(super) concurrency: u32,
    pub(super) queue: u32,
    pub(super) body_bytes: Option<u64>,
    pub(super) table_elements: usize,
    pub(super) log_bytes_per_s: u64,
    pub(super) sockets: u32,
    /// None is unlimited.
    pub(super) socket_bytes: Option<u64>,
    pub(super) connects_per_s: u32,
    /// None is unlimited, here and below.
    pub(super) requests_per_s: Option<u32>,
    pub(super) connections: Option<u32>,
    pub(super) response_bytes: Option<u64>,
    pub(super) log_lines_per_s: Option<u32>,
    pub(super) cpu_percent: Option<u32>,
}

impl From<&AppLimits> for Limits {
    fn from(limits: &AppLimits) -> Self {
        Self {
            memory_bytes: limits.memory_bytes,
            cpu_ms: ms(limits.cpu),
            wall_ms: ms(limits.wall),
            concurrency: limits.concurrency,
            queue: limits.queue,
            body_bytes: limits.body_bytes,
            table_elements: limits.table_elements,
            log_bytes_per_s: limits.log_bytes_per_s,
            sockets: limits.sockets_max,
            socket_bytes: Some(limits.socket_bytes_max).filter(|bytes| *bytes != u64::MAX),
            connects_per_s: limits.connects_per_s,
            requests_per_s: limits.requests_per_s,
            connections: limits.connections_max,
            response_bytes: limits.response_bytes,
            log_lines_per_s: limits.log_lines_per_s,
            cpu_percent: limits.cpu_percent,
        }
    }
}

impl Report {
    /// The same as an object of JSON, where each import has its verdict with it.
    pub(super) fn json(&self) -> serde_json::Result<String> {
        let mut value = serde_json::to_value(self)?;
        let verdicts = value.as_object_mut().and_then(|object| object.remove("verdicts"));
        let imports = value.get_mut("imports").and_then(serde_json::Value::as_array_mut);
        if let (Some(imports), Some(serde_json::Value::Array(verdicts))) = (imports, verdicts) {
            for (import, verdict) in imports.iter_mut().zip(verdicts) {
                if let (Some(import), serde_json::Value::Object(verdict)) = (import.as_object_mut(), verdict)
                {
                    import.extend(verdict);
                }
            }
        }
        serde_json::to_string_pretty(&value)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is in a file may be anything: nothing of it steers the terminal.
        let mut text = String::new();
        self.write(&mut text)?;
        f.write_str(&escaped(&text))
    }
}

impl Report {
    fn write(&self, f: &mut String) -> fmt::Result {
        let facts = &self.facts;
        let kind = match facts.kind {
            Kind::Module => "a module",
            Kind::Component => "a component",
            Kind::Text => "WebAssembly as text",
            Kind::Other => "no WebAssembly",
        };
        write!(f, "{}: {kind}, {}", self.file, size(facts.bytes as u64))?;
        match self.abi {
            Some(version) => writeln!(f, ", ABI {version}")?,
            None => writeln!(f)?,
        }
        writeln!(f, "would be served: {}", if self.servable { "yes" } else { "no" })?;
        for objection in &self.objections {
            writeln!(f, "  {}", objection.what.replace('\n', "\n  "))?;
            if !objection.help.is_empty() {
                writeln!(f, "    help: {}", objection.help)?;
            }
        }
        if matches!(facts.kind, Kind::Module | Kind::Component) {
            self.write_facts(f)?;
        }
        Ok(())
    }

    fn write_facts(&self, f: &mut String) -> fmt::Result {
        let facts = &self.facts;
        writeln!(f)?;
        let mut row = |name: &str, text: &str| match text {
            "" => Ok(()),
            text => writeln!(f, "{name:<10} {text}"),
        };
        row("made by", &facts.producers.join(", "))?;
        if facts.kind == Kind::Module {
            row("memory", &self.memory())?;
            row("tables", &self.tables())?;
            let (code, data) = (size(facts.code_bytes), size(facts.data_bytes));
            row("code", &format!("{} functions, {code}; data {data}", facts.functions))?;
            row("uses", &facts.features.join(", "))?;
        } else {
            row("memory", &self.sums())?;
        }
        let sections =
            facts.sections.iter().map(|section| format!("{} ({})", section.name, size(section.bytes as u64)));
        row("sections", &sections.collect::<Vec<_>>().join(", "))?;
        row("limits", &self.limits())?;
        row("env", &self.allowed.env.join(", "))?;
        row("mounts", &self.allowed.mounts.join(", "))?;
        row("kv", self.allowed.kv.as_deref().unwrap_or_default())?;
        row("connect", &self.allowed.connect.join(", "))?;
        row("listen", &self.allowed.listen.join(", "))?;
        row("ca", &self.allowed.ca.join(", "))?;
        row("raw TCP", &self.allowed.tcp.join(", "))?;
        row("sockets", &self.sockets())?;
        if !facts.exports.is_empty() {
            writeln!(f, "\nexports")?;
        }
        for export in &facts.exports {
            let role = match export.role {
                Some(Role::Requests) => ", serves",
                Some(Role::Connections) => ", serves raw connections",
                Some(Role::Command) => ", runs by itself",
                None => "",
            };
            writeln!(f, "  {:<44} {}{role}", export.name, export.shape)?;
        }
        if !facts.imports.is_empty() {
            writeln!(f, "\nimports")?;
        }
        if facts.kind == Kind::Component {
            self.write_interfaces(f)?;
        } else {
            for (import, verdict) in facts.imports.iter().zip(&self.verdicts) {
                let name = [import.module.as_str(), import.name.as_str()];
                let name = name.iter().copied().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
                write_import(f, &name, "", verdict)?;
            }
        }
        if facts.more_imports > 0 {
            writeln!(f, "  and {} more", facts.more_imports)?;
        }
        Ok(())
    }

    /// An interface a line, and below it what of it has another verdict than the rest.
    fn write_interfaces(&self, f: &mut String) -> fmt::Result {
        let all: Vec<_> = self.facts.imports.iter().zip(&self.verdicts).collect();
        for group in all.chunk_by(|(one, _), (next, _)| one.module == next.module) {
            let Some(((first, verdict), _)) = group.split_first() else { continue };
            let same = group.iter().filter(|(_, other)| other == verdict).count();
            if same == group.len() {
                let count = match group.iter().filter(|(import, _)| import.shape == "function").count() {
                    0 => first.shape.clone(),
                    1 => "1 function".to_owned(),
                    n => format!("{n} functions"),
                };
                write_import(f, &first.module, &format!(" ({count})"), verdict)?;
                continue;
            }
            writeln!(f, "  {}", first.module)?;
            for (import, verdict) in group {
                write_import(f, &format!("  {}", import.name), "", verdict)?;
            }
        }
        Ok(())
    }

    /// What an instance of a component takes.
    fn sums(&self) -> String {
        let Some(needs) = self.facts.needs else { return String::new() };
        let several = |count: u64, one: &str, many: &str| {
            if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
        };
        format!(
            "{} to begin with in {}; {} of {} elements; {}: {} in the pools",
            size(needs.memory_bytes),
            several(needs.memories, "memory", "memories"),
            several(needs.tables, "table", "tables"),
            needs.table_elements,
            several(needs.core_instances, "core instance", "core instances"),
            several(places::cost(&needs).into(), "place", "places"),
        )
    }

    fn memory(&self) -> String {
        let memories = self.facts.memories.iter().map(|memory| {
            let most =
                memory.maximum_bytes.map_or_else(String::new, |most| format!(", at most {}", size(most)));
            let special =
                [(memory.shared, ", shared"), (memory.is_64, ", 64-bit"), (memory.imported, ", imported")];
            let special: String = special.into_iter().filter(|(set, _)| *set).map(|(_, word)| word).collect();
            format!("{} to begin with{most}{special}", size(memory.initial_bytes))
        });
        let mut text = memories.collect::<Vec<_>>().join("; ");
        if let Some(stack) = self.facts.stack_bytes {
            let _ = write!(text, "; its stack {}", size(stack));
        }
        text
    }

    fn tables(&self) -> String {
        let elements = self.facts.tables.iter().map(|table| format!("{} elements", table.elements));
        elements.collect::<Vec<_>>().join("; ")
    }

    /// The limits of sockets, where it may have any.
    fn sockets(&self) -> String {
        let (allowed, limits) = (&self.allowed, &self.limits);
        if allowed.connect.is_empty() && allowed.listen.is_empty() && allowed.tcp.is_empty() {
            return String::new();
        }
        format!(
            "{} at once, {} connects a second, bytes of a call {}",
            limits.sockets,
            limits.connects_per_s,
            limits.socket_bytes.map_or_else(|| "unlimited".to_owned(), size),
        )
    }

    fn limits(&self) -> String {
        let limits = &self.limits;
        format!(
            "memory {}, cpu {}, wall {}, {} at once and {} waiting, request bodies {}",
            size(limits.memory_bytes),
            time(limits.cpu_ms),
            time(limits.wall_ms),
            limits.concurrency,
            limits.queue,
            limits.body_bytes.map_or_else(|| "unlimited".to_owned(), size),
        )
    }
}

/// What becomes of an import, on a line of its own.
fn write_import(f: &mut String, name: &str, count: &str, verdict: &Verdict) -> fmt::Result {
    let grant = match verdict.grant {
        Grant::Granted => "granted",
        Grant::Denied => "denied",
        Grant::Unknown => "unknown",
    };
    let colon = if verdict.help.is_empty() { "" } else { ": " };
    writeln!(f, "  {name:<44} {grant}{count}{colon}{}", verdict.help)
}

/// Bytes in the unit that suits them.
fn size(bytes: u64) -> String {
    let mut unit = "bytes";
    let mut scaled = bytes as f64;
    for larger in ["KiB", "MiB", "GiB"] {
        if scaled < 1024.0 {
            break;
        }
        (scaled, unit) = (scaled / 1024.0, larger);
    }
    let digits = usize::from(scaled < 10.0 && scaled.fract() > 0.05);
    format!("{scaled:.digits$} {unit}")
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn time(ms: u64) -> String {
    humantime::format_duration(Duration::from_millis(ms)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_in_the_unit_that_suits_them() {
        let table = [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (262_144, "256 KiB"),
            (63_713, "62 KiB"),
            (64 << 20, "64 MiB"),
            (4 << 30, "4 GiB"),
        ];
        for (bytes, expected) in table {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn nothing_in_a_file_steers_the_terminal() {
        let wat = r#"(module (import "\07" "b" (global i32)) (func (export "a\1b[2J\0d")))"#;
        let facts = Facts::of(&wat::parse_str(wat).unwrap());
        let report = Report {
            file: "x\u{1b}.wasm".into(),
            servable: false,
            objections: vec![Objection { what: "\u{1b}".into(), help: "\r".into() }],
            abi: None,
            verdicts: vec![Verdict { grant: Grant::Unknown, help: "none".into() }],
            facts,
            limits: (&AppLimits::default()).into(),
            allowed: Allowed {
                env: vec!["A\r".into()],
                mounts: vec!["\u{1b}:/x:ro".into()],
                kv: None,
                ca: vec!["\u{1b}.pem".into()],
                ..Allowed::default()
            },
        };
        let shown = report.to_string();
        assert!(!shown.contains(|character: char| character.is_control() && character != '\n'), "{shown:?}");
        assert!(shown.contains("a\\u{1b}[2J\\r") && shown.contains("unknown: none"), "{shown}");
        let json: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        assert_eq!(json["imports"][0]["grant"], "unknown");
        assert_eq!(
            (json["servable"].as_bool(), json["limits"]["cpu_ms"].as_u64()),
            (Some(false), Some(10_000))
        );
        assert!(json.get("verdicts").is_none() && json["kind"] == "module");
    }
}
