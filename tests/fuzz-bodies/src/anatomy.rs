//! What is looked at of a guest before it is compiled: a file that is valid is never called damaged, and what an instance
//! of a module takes is what its sections say.

use tidegate::fuzzing::{Anatomy, anatomy as look};
use wasmparser::{Parser, Payload, Validator, WasmFeatures};

use crate::input::Choices;

const INPUT_BYTES_MAX: usize = 16 * 1024;
const PAGE_BYTES: u64 = 64 * 1024;

/// Sections of a valid module, counted by hand.
fn counted(wasm: &[u8]) -> [u64; 5] {
    let mut needs = [1, 0, 0, 0, 0_u64];
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.expect("a valid module") {
            Payload::MemorySection(memories) => {
                for memory in memories {
                    let memory = memory.expect("a valid memory");
                    let page = memory.page_size_log2.map_or(PAGE_BYTES, |log2| 1 << log2);
                    needs[1] += 1;
                    needs[3] = needs[3].saturating_add(memory.initial.saturating_mul(page));
                }
            }
            Payload::TableSection(tables) => {
                for table in tables {
                    needs[2] += 1;
                    needs[4] = needs[4].saturating_add(table.expect("a valid table").ty.initial);
                }
            }
            _ => {}
        }
    }
    needs
}

/// Whether each section, behind the eight bytes of the header, has as many bytes as it says.
fn sections_are_whole(wasm: &[u8]) -> bool {
    let mut at = 8;
    while at < wasm.len() {
        let (mut size, mut shift) = (0_usize, 0);
        loop {
            at += 1;
            let Some(&byte) = wasm.get(at) else { return false };
            size |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 || shift > 28 {
                break;
            }
        }
        at = at.saturating_add(1).saturating_add(size);
    }
    at == wasm.len()
}

/// The whole input is a file.
pub fn anatomy(input: &[u8]) {
    let wasm = Choices::new(input).rest(INPUT_BYTES_MAX);
    let (module, component) = (look(false, wasm), look(true, wasm));
    assert_eq!((look(false, wasm), look(true, wasm)), (module, component), "looked at again");
    let is_component = Parser::is_component(wasm);
    let found = if is_component { component } else { module };
    // The validator is not made for what lies too deep.
    if matches!(found, Anatomy::Bounded) {
        return;
    }
    if Validator::new_with_features(WasmFeatures::all()).validate_all(wasm).is_err() {
        return;
    }
    // The validator lets the last section of a component end early where it is a component; we do not.
    if !sections_are_whole(wasm) {
        return;
    }
    assert_ne!(found, Anatomy::Damaged, "a valid file");
    match found {
        Anatomy::Whole { needs, names } if !is_component => {
            assert_eq!((needs, names), (Some(counted(wasm)), [0, 0]));
        }
        Anatomy::Whole { needs: Some([instances, memories, tables, bytes, elements]), .. } => {
            assert!(instances > 0 || memories + tables == 0, "whose memories?");
            assert!((memories > 0 || bytes == 0) && (tables > 0 || elements == 0));
        }
        _ => {}
    }
}
