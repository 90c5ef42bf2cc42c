//! What is looked at of a guest before it is compiled, and what is held against what its app wants of it.

use std::fs;
use std::path::Path;

use anyhow::Context;
use tidegate_abi::names;

use super::{Facts, Kind, LoadError, Needs, Unread, Wants};
use crate::config::AppLimits;
use crate::guest::engine::{MEMORIES_PER_MODULE_MAX, TABLES_PER_MODULE_MAX};
use crate::guest::limiter::CORE_INSTANCES_MAX;
use crate::guest::{anatomy, offer};

/// Bytes of the largest module that is read.
pub(super) const WASM_BYTES_MAX: usize = 256 << 20;

/// Holds what a guest is there for against what it exports.
///
/// # Errors
/// It lacks an export; the text says which.
pub(super) fn check_wants(facts: &Facts, wants: Wants) -> Result<(), LoadError> {
    let Facts { kind, http, connections, command, .. } = *facts;
    let refuse = |text: String| Err(LoadError::Exports(kind, text));
    if wants.connections && !connections {
        return refuse(match kind {
            Kind::Module => format!(
                "raw connections lead to it (`[[listen]]`, `--listen-tcp`), and it does not export a function `{}` of type \
                 `(i32) -> i32`",
                names::CONNECTION
            ),
            Kind::Component => "raw connections lead to it (`[[listen]]`, `--listen-tcp`), which only modules serve; a \
                                component listens by itself, where `sockets.listen` (`--allow-listen`) lets it"
                .to_owned(),
        });
    }
    let by_itself = command && wants.sockets || connections && wants.connections;
    if http && !wants.http && !by_itself {
        return refuse("nothing leads to it: give it `routes`, as in `routes = [\"/*\"]`".to_owned());
    }
    if http || !wants.http && by_itself || wants.http_by_default && by_itself {
        return Ok(());
    }
    refuse(match kind {
        Kind::Module => format!(
            "routes lead to it, and it does not export a function `{}` of type `() -> i32`; for raw connections alone: \
             `[[listen]]` with `tcp` and `app` in the manifest, or `--listen-tcp`",
            names::HANDLE
        ),
        Kind::Component => offer::no_handler(std::iter::once(offer::COMMAND_SHOWN)),
    })
}

/// What is in a file that is to be a guest. A pipe or a device may never end, and what is larger than any module is none:
/// neither is read.
///
/// # Errors
/// It cannot be read, is no regular file, or too large.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    let metadata = fs::metadata(path).with_context(|| format!("`{shown}` cannot be read"))?;
    anyhow::ensure!(metadata.is_file(), "`{shown}` is not a regular file");
    if metadata.len() > WASM_BYTES_MAX as u64 {
        return Err(anyhow::Error::new(LoadError::TooLarge).context(format!("`{shown}`")));
    }
    fs::read(path).with_context(|| format!("`{shown}` cannot be read"))
}

/// Tells modules, components and other files apart by their first bytes.
///
/// # Errors
/// It is neither.
pub(crate) fn kind(wasm: &[u8]) -> Result<Kind, LoadError> {
    let text = wasm.trim_ascii_start();
    match wasm {
        _ if wasm.len() > WASM_BYTES_MAX => Err(LoadError::TooLarge),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Ok(Kind::Module),
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => Ok(Kind::Component),
        _ if text.starts_with(b"(") || text.starts_with(b";;") => Err(LoadError::Text(binary_maker(text))),
        [] => Err(LoadError::CutShort(0)),
        _ if b"\0asm".starts_with(wasm) || wasm.len() < 8 && wasm.starts_with(b"\0asm") => {
            Err(LoadError::CutShort(wasm.len()))
        }
        _ => Err(LoadError::NotWasm),
    }
}

/// What makes a binary of this text. Older tools know modules only.
fn binary_maker(text: &[u8]) -> &'static str {
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_start);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with(b";;")).unwrap_or_default();
    if first.starts_with(b"(component") { "wasm-tools parse" } else { "wat2wasm" }
}

/// Looks at a guest before it is compiled: what could never be served is refused here. Returns what an instance takes.
///
/// # Errors
/// What it imports is not there, it exports no handler, or it needs more than there is.
pub(crate) fn check(kind: Kind, wasm: &[u8], limits: &AppLimits) -> Result<Needs, LoadError> {
    let anatomy = match anatomy::of(kind, wasm) {
        Ok(anatomy) => anatomy,
        // The compiler says where it is damaged. Should it take the guest in spite of that, nobody knows its needs.
        Err(Unread::Damaged(_)) => return Ok(Needs::UNKNOWN),
        Err(error) => return Err(LoadError::Unread(error)),
    };
    if kind == Kind::Component {
        let missing = offer::missing(&anatomy.imports);
        if !missing.is_empty() {
            return Err(LoadError::Missing(missing));
        }
        if !anatomy.exports.iter().any(|export| offer::serves(export) || offer::runs(export)) {
            let names = anatomy.exports.iter().map(|export| export.name);
            return Err(LoadError::Exports(kind, offer::no_handler(names)));
        }
    }
    let needs = anatomy.needs.unwrap_or(Needs::UNKNOWN);
    check_needs(&needs, limits)?;
    Ok(needs)
}

/// Holds what an instance begins with against what a Store may hold, and the app's limits.
pub(super) fn check_needs(needs: &Needs, limits: &AppLimits) -> Result<(), LoadError> {
    for (what, count, limit) in [
        ("core instances", needs.core_instances, CORE_INSTANCES_MAX),
        ("linear memories", needs.memories, MEMORIES_PER_MODULE_MAX),
        ("tables", needs.tables, TABLES_PER_MODULE_MAX),
    ] {
        if count > limit.into() {
            return Err(LoadError::Parts { what, count, limit });
        }
    }
    if needs.memory_bytes > limits.memory_bytes {
        return Err(LoadError::Memory { needed: needs.memory_bytes, limit: limits.memory_bytes });
    }
    if needs.table_elements > limits.table_elements as u64 {
        return Err(LoadError::Table { needed: needs.table_elements, limit: limits.table_elements });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart_by_their_first_bytes() {
        let component = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];
        assert!(matches!(kind(b"\0asm\x01\0\0\0"), Ok(Kind::Module)));
        assert!(matches!(kind(&component), Ok(Kind::Component)));
        assert!(matches!(kind(b"  (module)"), Err(LoadError::Text("wat2wasm"))));
        assert!(matches!(kind(b";; mine\n\n (component)"), Err(LoadError::Text("wasm-tools parse"))));
        assert!(matches!(kind(b"\x7fELF"), Err(LoadError::NotWasm)));
        assert!(matches!(kind(b"hello"), Err(LoadError::NotWasm)));
        for len in 0..8 {
            assert!(matches!(kind(&component[..len]), Err(LoadError::CutShort(n)) if n == len));
        }
        assert!(matches!(kind(b"\0asm\x02\0\0\0"), Err(LoadError::NotWasm)));
    }

    #[test]
    fn too_little_memory_is_told_with_what_would_do() {
        let told = |needed, limit| LoadError::Memory { needed, limit }.to_string();
        assert_eq!(
            told((1 << 20) + 1, 1 << 20),
            "this guest needs 1.1 MiB of memory to begin with, and its limit is 1 MiB: raise `memory` (`--limit \
             memory=2MiB`, or `limits.memory` in the manifest)"
        );
        assert!(
            told(3 << 30, 1000 << 10)
                .contains("its limit is 1000 KiB: raise `memory` (`--limit memory=3GiB`")
        );
    }
}
