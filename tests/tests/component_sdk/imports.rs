//! What the components are made of.

use std::fs;

use tidegate_tests::artifacts::{COMPONENTS_ONLY, MODULES_ONLY, component_guest, module_guest, workspace};

/// The crates in `guests`.
fn all() -> Vec<String> {
    let manifest = fs::read_to_string(workspace().join("guests/Cargo.toml")).unwrap();
    let (_, members) = manifest.split_once("members = [").unwrap();
    let (members, _) = members.split_once(']').unwrap();
    let names = members.split(',').map(|name| name.trim().trim_matches('"').to_owned());
    names.filter(|name| !name.is_empty()).collect()
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn every_guest_is_a_component_without_anything_of_tidegate() {
    let guests = all();
    assert!(guests.len() > 15, "{guests:?}");
    let is_both = |name: &&String| ![MODULES_ONLY, COMPONENTS_ONLY].concat().contains(&name.as_str());
    for name in guests.iter().filter(is_both) {
        let bytes = fs::read(component_guest(name)).unwrap();
        // The preamble of a component, as the component model's binary format has it.
        assert_eq!(bytes[..8], *b"\0asm\x0d\0\x01\0", "{name} is no component");
        assert!(has(&bytes, "wasi:http/incoming-handler@0.2."), "{name} has no handler");
        assert!(!has(&bytes, "tidegate_v1"), "{name} imports tidegate's ABI");
        assert!(!has(&bytes, "wasi_snapshot_preview1"), "{name} needs an adapter");
        // The search finds what there is to find.
        assert!(has(&fs::read(module_guest(name)).unwrap(), "tidegate_v1"), "{name}");
    }
}
