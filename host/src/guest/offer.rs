//! What components are offered: the interfaces of WASI 0.2, and a draft, that are linked, function by function, and what is said to
//! those who want something else.
//!
//! A test holds this list to the linkers that serve. What a function does is in `docs/wasi.md`.

#[cfg(test)]
mod tests;

use std::fmt::Write;

use wasmparser::ComponentExternalKind;

use super::anatomy::{Export, Import, Imported, Item, ItemKind};
use crate::config::escaped;

/// The package that a handler exports an interface of, and the interface.
const HANDLER: &str = "wasi:http/incoming-handler";
/// What is said of them.
pub(super) const HANDLER_SHOWN: &str = "wasi:http/incoming-handler@0.2.x";
/// What a component exports that runs by itself.
const COMMAND: &str = "wasi:cli/run";
pub(super) const COMMAND_SHOWN: &str = "wasi:cli/run@0.2.x";
/// The version of `wasi:keyvalue` that is served.
const KEYVALUE_DRAFT: &str = "0.2.0-draft2";
/// Lines of a refusal, and bytes of a name in it. Names are the guest's own.
const LINES_MAX: usize = 30;
const NAME_BYTES_MAX: usize = 120;

/// An interface that components may import.
#[derive(Debug)]
pub(crate) struct Interface {
    pub(crate) name: &'static str,
    /// Between spaces.
    resources: &'static str,
    functions: &'static str,
    /// The one version that is served, of a package without a released one. None: any version 0.2.x.
    draft: Option<&'static str>,
}

impl Interface {
    /// Whether it is served in this version.
    fn serves(&self, version: &str) -> bool {
        self.draft.map_or_else(|| is_served(version), |draft| version == draft)
    }

    pub(crate) fn resources(&self) -> impl Iterator<Item = &'static str> {
        self.resources.split_whitespace()
    }

    /// With `[method]` and the like before them, as components name them.
    pub(crate) fn functions(&self) -> impl Iterator<Item = &'static str> {
        self.functions.split_whitespace()
    }

    /// Whether it has this.
    pub(crate) fn has(&self, item: &Item<'_>) -> bool {
        match item.kind {
            ItemKind::Function => self.functions().any(|name| name == item.name),
            ItemKind::Resource => self.resources().any(|name| name == item.name),
            ItemKind::Other => false,
        }
    }
}

const fn offered(name: &'static str, resources: &'static str, functions: &'static str) -> Interface {
    Interface { name, resources, functions, draft: None }
}

const fn drafted(name: &'static str, resources: &'static str, functions: &'static str) -> Interface {
    Interface { name, resources, functions, draft: Some(KEYVALUE_DRAFT) }
}

/// Everything.
pub(crate) const INTERFACES: &[Interface] = &[
    offered(
        "wasi:http/types",
        "fields incoming-request incoming-body future-trailers response-outparam outgoing-response outgoing-body \
         outgoing-request request-options incoming-response future-incoming-response",
        "[constructor]fields [static]fields.from-list [method]fields.get [method]fields.has [method]fields.set \
         [method]fields.delete [method]fields.append [method]fields.entries [method]fields.clone \
         [method]incoming-request.method [method]incoming-request.path-with-query \
         [method]incoming-request.scheme [method]incoming-request.authority [method]incoming-request.headers \
         [method]incoming-request.consume \
         [method]incoming-body.stream [static]incoming-body.finish \
         [method]future-trailers.subscribe [method]future-trailers.get \
         [static]response-outparam.set [method]response-outparam.send-informational \
         [constructor]outgoing-response [method]outgoing-response.status-code \
         [method]outgoing-response.set-status-code [method]outgoing-response.headers \
         [method]outgoing-response.body \
         [method]outgoing-body.write [static]outgoing-body.finish \
         [constructor]outgoing-request [method]outgoing-request.body [method]outgoing-request.method \
         [method]outgoing-request.set-method [method]outgoing-request.path-with-query \
         [method]outgoing-request.set-path-with-query [method]outgoing-request.scheme \
         [method]outgoing-request.set-scheme [method]outgoing-request.authority \
         [method]outgoing-request.set-authority [method]outgoing-request.headers \
         [constructor]request-options [method]request-options.connect-timeout \
         [method]request-options.set-connect-timeout [method]request-options.first-byte-timeout \
         [method]request-options.set-first-byte-timeout [method]request-options.between-bytes-timeout \
         [method]request-options.set-between-bytes-timeout \
         [method]incoming-response.status [method]incoming-response.headers [method]incoming-response.consume \
         [method]future-incoming-response.subscribe [method]future-incoming-response.get \
         http-error-code",
    ),
    offered("wasi:http/outgoing-handler", "", "handle"),
    offered("wasi:io/error", "error", "[method]error.to-debug-string"),
    offered("wasi:io/poll", "pollable", "[method]pollable.ready [method]pollable.block poll"),
    offered(
        "wasi:io/streams",
        "input-stream output-stream",
        "[method]input-stream.read [method]input-stream.blocking-read [method]input-stream.skip \
         [method]input-stream.blocking-skip [method]input-stream.subscribe \
         [method]output-stream.check-write [method]output-stream.write \
         [method]output-stream.blocking-write-and-flush [method]output-stream.flush \
         [method]output-stream.blocking-flush [method]output-stream.subscribe \
         [method]output-stream.write-zeroes [method]output-stream.blocking-write-zeroes-and-flush \
         [method]output-stream.splice [method]output-stream.blocking-splice",
    ),
    offered("wasi:clocks/monotonic-clock", "", "now resolution subscribe-instant subscribe-duration"),
    offered("wasi:clocks/wall-clock", "", "now resolution"),
    offered("wasi:random/random", "", "get-random-bytes get-random-u64"),
    offered("wasi:random/insecure", "", "get-insecure-random-bytes get-insecure-random-u64"),
    offered("wasi:random/insecure-seed", "", "insecure-seed"),
    offered("wasi:cli/environment", "", "get-environment get-arguments initial-cwd"),
    offered("wasi:cli/exit", "", "exit exit-with-code"),
    offered("wasi:cli/stdin", "", "get-stdin"),
    offered("wasi:cli/stdout", "", "get-stdout"),
    offered("wasi:cli/stderr", "", "get-stderr"),
    offered("wasi:cli/terminal-input", "terminal-input", ""),
    offered("wasi:cli/terminal-output", "terminal-output", ""),
    offered("wasi:cli/terminal-stdin", "", "get-terminal-stdin"),
    offered("wasi:cli/terminal-stdout", "", "get-terminal-stdout"),
    offered("wasi:cli/terminal-stderr", "", "get-terminal-stderr"),
    offered(
        "wasi:filesystem/types",
        "descriptor directory-entry-stream",
        "[method]descriptor.read-via-stream [method]descriptor.write-via-stream \
         [method]descriptor.append-via-stream [method]descriptor.advise [method]descriptor.sync-data \
         [method]descriptor.get-flags [method]descriptor.get-type [method]descriptor.set-size \
         [method]descriptor.set-times [method]descriptor.read [method]descriptor.write \
         [method]descriptor.read-directory [method]descriptor.sync [method]descriptor.create-directory-at \
         [method]descriptor.stat [method]descriptor.stat-at [method]descriptor.set-times-at \
         [method]descriptor.link-at [method]descriptor.open-at [method]descriptor.readlink-at \
         [method]descriptor.remove-directory-at [method]descriptor.rename-at [method]descriptor.symlink-at \
         [method]descriptor.unlink-file-at [method]descriptor.is-same-object \
         [method]descriptor.metadata-hash [method]descriptor.metadata-hash-at \
         [method]directory-entry-stream.read-directory-entry filesystem-error-code",
    ),
    offered("wasi:filesystem/preopens", "", "get-directories"),
    offered("wasi:sockets/network", "network", "network-error-code"),
    offered("wasi:sockets/instance-network", "", "instance-network"),
    offered(
        "wasi:sockets/ip-name-lookup",
        "resolve-address-stream",
        "resolve-addresses [method]resolve-address-stream.resolve-next-address \
         [method]resolve-address-stream.subscribe",
    ),
    offered("wasi:sockets/tcp-create-socket", "", "create-tcp-socket"),
    offered(
        "wasi:sockets/tcp",
        "tcp-socket",
        "[method]tcp-socket.start-bind [method]tcp-socket.finish-bind [method]tcp-socket.start-connect \
         [method]tcp-socket.finish-connect [method]tcp-socket.start-listen [method]tcp-socket.finish-listen \
         [method]tcp-socket.accept [method]tcp-socket.local-address [method]tcp-socket.remote-address \
         [method]tcp-socket.is-listening [method]tcp-socket.address-family \
         [method]tcp-socket.set-listen-backlog-size [method]tcp-socket.keep-alive-enabled \
         [method]tcp-socket.set-keep-alive-enabled [method]tcp-socket.keep-alive-idle-time \
         [method]tcp-socket.set-keep-alive-idle-time [method]tcp-socket.keep-alive-interval \
         [method]tcp-socket.set-keep-alive-interval [method]tcp-socket.keep-alive-count \
         [method]tcp-socket.set-keep-alive-count [method]tcp-socket.hop-limit \
         [method]tcp-socket.set-hop-limit [method]tcp-socket.receive-buffer-size \
         [method]tcp-socket.set-receive-buffer-size [method]tcp-socket.send-buffer-size \
         [method]tcp-socket.set-send-buffer-size [method]tcp-socket.subscribe [method]tcp-socket.shutdown",
    ),
    offered("wasi:sockets/udp-create-socket", "", "create-udp-socket"),
    offered(
        "wasi:sockets/udp",
        "udp-socket incoming-datagram-stream outgoing-datagram-stream",
        "[method]udp-socket.start-bind [method]udp-socket.finish-bind [method]udp-socket.stream \
         [method]udp-socket.local-address [method]udp-socket.remote-address \
         [method]udp-socket.address-family [method]udp-socket.unicast-hop-limit \
         [method]udp-socket.set-unicast-hop-limit [method]udp-socket.receive-buffer-size \
         [method]udp-socket.set-receive-buffer-size [method]udp-socket.send-buffer-size \
         [method]udp-socket.set-send-buffer-size [method]udp-socket.subscribe \
         [method]incoming-datagram-stream.receive [method]incoming-datagram-stream.subscribe \
         [method]outgoing-datagram-stream.check-send [method]outgoing-datagram-stream.send \
         [method]outgoing-datagram-stream.subscribe",
    ),
    drafted(
        "wasi:keyvalue/store",
        "bucket",
        "open [method]bucket.get [method]bucket.set [method]bucket.delete [method]bucket.exists \
         [method]bucket.list-keys",
    ),
    drafted("wasi:keyvalue/atomics", "cas", "[static]cas.new [method]cas.current increment swap"),
    drafted("wasi:keyvalue/batch", "", "get-many set-many delete-many"),
];

/// The interface that is linked for a name with its version: any 0.2.x stands for all of them (WASI's own rule), a draft
/// for itself alone.
pub(crate) fn interface(name: &str) -> Option<&'static Interface> {
    let (base, version) = name.split_once('@')?;
    let found = INTERFACES.iter().find(|interface| interface.name == base)?;
    found.serves(version).then_some(found)
}

/// True for 0.2.x.
fn is_served(version: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let patch = version.strip_prefix("0.2.");
    patch.is_some_and(|patch| number(patch.split_once('+').map_or(patch, |(patch, _)| patch)))
}

/// What of a component's imports is not there, a line each. Empty: all of it is.
pub(crate) fn missing(imports: &[Import<'_>]) -> Vec<String> {
    let mut lines = Vec::new();
    for import in imports {
        let name = shown(import.name);
        let line = match &import.what {
            Imported::Nothing => continue,
            Imported::Other(what) => format!("{name} ({what}){}", with_hint(import.name)),
            Imported::Interface(items) => match interface(import.name) {
                Some(offered) => {
                    for item in items.iter().filter(|item| !offered.has(item)) {
                        lines.push(format!("{name}: {}{}", shown(item.name), with_hint(import.name)));
                    }
                    continue;
                }
                // Types alone need nothing of a host.
                None if items.is_empty() => continue,
                None => format!("{name} (the whole interface){}", with_hint(import.name)),
            },
        };
        lines.push(line);
    }
    lines
}

/// Lines below each other, no more than there is room for.
pub(super) fn listed(lines: &[String]) -> String {
    let mut text = String::new();
    for line in lines.iter().take(LINES_MAX) {
        let _ = write!(text, "\n  {line}");
    }
    if lines.len() > LINES_MAX {
        let _ = write!(text, "\n  and {} more", lines.len() - LINES_MAX);
    }
    text
}

fn with_hint(name: &str) -> String {
    hint(name).map_or_else(String::new, |hint| format!(" - {hint}"))
}

/// What to do about an import that is not there, where there is something to be said.
pub(crate) fn hint(name: &str) -> Option<&'static str> {
    let (base, version) = name.split_once('@').unwrap_or((name, ""));
    let (package, _) = base.split_once('/').unwrap_or((base, ""));
    let known = INTERFACES.iter().any(|interface| interface.name == base);
    match package {
        "wasi:http" | "wasi:io" | "wasi:clocks" | "wasi:random" | "wasi:cli" | "wasi:filesystem"
        | "wasi:sockets" => Some(match version {
            _ if version.starts_with("0.3.") || version == "0.3" => {
                "WASI 0.3 is not served yet: build it for wasi:http 0.2"
            }
            "" => "an interface is imported with its version: build it for wasi:http 0.2",
            _ if version.contains('-') => "a draft of it: build it for a version 0.2.x that was released",
            _ if !is_served(version) => "WASI 0.2 is served: build it for wasi:http 0.2",
            _ if known => {
                "this server knows WASI 0.2.12: use a newer tidegate, or build it for an older WASI"
            }
            _ => "it is not among the interfaces of WASI 0.2 that are served",
        }),
        "wasi:keyvalue" => Some(match version {
            KEYVALUE_DRAFT if known => "this server knows the draft 0.2.0-draft2 of it without that",
            _ if known => "of its drafts 0.2.0-draft2 is served: build it for that one",
            _ => "it is not among the interfaces of it that are served",
        }),
        "wasi:blobstore" | "wasi:config" | "wasi:logging" | "wasi:messaging" => Some("not served yet"),
        _ if package.starts_with("wasi:") => Some("not served"),
        _ if package.contains(':') => {
            Some("of WASI alone: put a component that exports it inside (`wac plug`)")
        }
        _ => Some("a handler imports interfaces of WASI 0.2 and nothing else"),
    }
}

/// True for what is called to answer a request.
pub(crate) fn serves(export: &Export<'_>) -> bool {
    is_instance_of(export, HANDLER)
}

/// True for the interface of a component that runs by itself.
pub(crate) fn runs(export: &Export<'_>) -> bool {
    is_instance_of(export, COMMAND)
}

fn is_instance_of(export: &Export<'_>, interface: &str) -> bool {
    let named = export.name.split_once('@').is_some_and(|(base, v)| base == interface && is_served(v));
    named && export.kind == ComponentExternalKind::Instance
}

/// Why a component with exports of these names, none of which serves, is no handler.
pub(crate) fn no_handler<'a>(names: impl Iterator<Item = &'a str> + Clone) -> String {
    let of = |base: &str| names.clone().find(|name| name.split('@').next() == Some(base));
    if let Some(name) = of(HANDLER) {
        let draft = if name.split_once('@').is_some_and(|(_, version)| version.contains('-')) {
            ", a draft"
        } else {
            ""
        };
        format!("it exports `{}`{draft}; a handler exports `{HANDLER_SHOWN}`", shown(name))
    } else if let Some(name) = of("wasi:http/handler").or_else(|| of("wasi:http/service")) {
        let name = shown(name);
        format!(
            "it exports `{name}` of WASI 0.3, which is not served yet; build it for 0.2: `{HANDLER_SHOWN}`"
        )
    } else if let Some(name) = of(COMMAND) {
        let name = shown(name);
        format!(
            "it is a command (it exports `{name}`); a handler exports `{HANDLER_SHOWN}`. In Rust: crate-type = \
             [\"cdylib\"] and #[tidegate_sdk::handler], or `wstd::http_server`; in other languages: the world \
             `wasi:http/proxy`. To run it by itself, beside \
             handlers: an app with `sockets` and without `routes`, or `--allow-listen`"
        )
    } else {
        let first: Vec<_> = names.clone().take(10).map(|name| format!("`{}`", shown(name))).collect();
        let exports = match names.count() {
            0 => "nothing".to_owned(),
            n if n > first.len() => format!("{} and {} more", first.join(", "), n - first.len()),
            _ => first.join(", "),
        };
        format!("it exports {exports}; a handler exports `{HANDLER_SHOWN}`")
    }
}

/// A guest's own name, as it is shown.
fn shown(name: &str) -> String {
    let end = name.floor_char_boundary(NAME_BYTES_MAX);
    let more = if end < name.len() { "..." } else { "" };
    escaped(&name[..end]).replace('\n', "\\n") + more
}
