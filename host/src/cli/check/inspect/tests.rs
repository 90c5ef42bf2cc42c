use super::*;

fn facts(wat: &str) -> Facts {
    Facts::of(&wat::parse_str(wat).unwrap())
}

#[test]
fn what_is_listed_of_imports_is_bounded() {
    let long = "n".repeat(90_000);
    let members: String = (0..5_000).map(|n| format!(r#"(export "f{n}" (func))"#)).collect();
    let component = format!(r#"(component (import "wasi:io/poll@0.2.0+{long}" (instance {members})))"#);
    let functions = r#"(import "NAME" "NAME" (func))"#.replace("NAME", &long).repeat(5);
    for (wat, count) in [(component, 5_000), (format!("(module {functions})"), 5)] {
        let facts = Facts::of(&wat::parse_str(wat).unwrap());
        assert_eq!(facts.imports.len() + facts.more_imports, count);
        assert!(facts.imports.len() <= IMPORTS_MAX);
        assert!(facts.imports.iter().all(|import| import.module.len() + import.name.len() < 500));
    }
}

#[test]
fn files_are_told_apart() {
    let table: [(&[u8], Kind); 6] = [
        (b"\0asm\x01\0\0\0", Kind::Module),
        (b"\0asm\x0d\0\x01\0", Kind::Component),
        (b" (module)", Kind::Text),
        (b"\x7fELF", Kind::Other),
        (b"", Kind::Other),
        (b"\0asm", Kind::Other),
    ];
    for (bytes, expected) in table {
        assert_eq!(Facts::of(bytes).kind, expected, "{bytes:?}");
    }
}

#[test]
fn everything_in_a_module_is_found() {
    let facts = facts(
        r#"(module
            (import "tidegate_v1" "respond" (func (param i32 i32 i32 i32 i32) (result i32)))
            (import "env" "g" (global i32))
            (memory (export "memory") 2 16)
            (table 7 9 funcref)
            (global (mut i32) (i32.const 65536))
            (data (i32.const 65536) "hello")
            (func (export "tidegate_handle") (result i32) (i32.const 0))
            (func (export "tidegate_connection") (param i32) (result i32) (i32.const 0))
            (func (export "two") (param i64 f32) (result i32 i32) unreachable))"#,
    );
    assert_eq!((facts.kind, facts.invalid.as_ref(), facts.abi()), (Kind::Module, None, Some(1)));
    let memory = &facts.memories[0];
    assert_eq!((memory.initial_bytes, memory.maximum_bytes), (2 << 16, Some(1 << 20)));
    assert_eq!((facts.tables[0].elements, facts.tables[0].maximum), (7, Some(9)));
    assert_eq!((facts.stack_bytes, facts.data_bytes, facts.functions), (Some(65536), 5, 3));
    assert_eq!(facts.imports[0].shape, "(i32, i32, i32, i32, i32) -> i32");
    assert_eq!(facts.imports[1].shape, "global");
    assert_eq!(facts.export("tidegate_handle").unwrap().shape, "() -> i32");
    assert_eq!(facts.export("tidegate_connection").unwrap().role, Some(Role::Connections));
    assert!(facts.has_role(Role::Requests) && !facts.has_role(Role::Command));
    assert_eq!(facts.export("two").unwrap().role, None);
    assert_eq!(facts.export("two").unwrap().shape, "(i64, f32) -> (i32, i32)");
    assert_eq!(facts.export("memory").unwrap().shape, "memory");
    assert!(facts.features.is_empty());
}

#[test]
fn a_stack_above_the_data_does_not_show() {
    let facts =
        facts(r#"(module (memory 2) (global (mut i32) (i32.const 70000)) (data (i32.const 1024) "x"))"#);
    assert_eq!(facts.stack_bytes, None);
}

#[test]
fn proposals_are_named() {
    let table: [(&str, &[&str]); 7] = [
        ("(module (memory 1 2 shared))", &["threads"]),
        ("(module (memory i64 1))", &["memory64"]),
        ("(module (memory 1) (memory 1))", &["multi-memory"]),
        ("(module (func (result v128) (v128.const i64x2 0 0)))", &["simd"]),
        ("(module (func (return_call 0)))", &["tail-call"]),
        ("(module (tag) (func (throw 0)))", &["exceptions"]),
        ("(module (type (struct (field i32))))", &["gc"]),
    ];
    for (wat, expected) in table {
        assert_eq!(facts(wat).features, expected, "{wat}");
    }
}

#[test]
fn what_is_damaged_shows_what_is_left() {
    let whole = wat::parse_str(r#"(module (import "a" "b" (func)) (func (export "c")))"#).unwrap();
    // Before and between the first two sections what is left is a smaller module, anywhere else it is damaged.
    let damaged = (8..whole.len()).filter(|cut| Facts::of(&whole[..*cut]).invalid.is_some()).count();
    assert_eq!(damaged, whole.len() - 8 - 3, "{whole:?}");
    assert_eq!(Facts::of(&whole[..7]).kind, Kind::Other);
    let mut bad = whole;
    let last = bad.len() - 1;
    bad[last] = 0xff;
    let facts = Facts::of(&bad);
    assert!(facts.invalid.unwrap().contains("(at byte"));
    assert_eq!(facts.imports.len(), 1);
}

#[test]
fn a_component_shows_its_interfaces() {
    let facts = facts(
        r#"(component
            (import "wasi:io/streams@0.2.0" (instance (export "f" (func))))
            (import "wasi:io/types@0.2.0" (instance))
            (import "lone" (func))
            (core module $m (memory 3) (table 2 funcref)
                (func (export "hidden")) (@producers (language "Rust" "")))
            (core instance (instantiate $m))
            (core module (@producers (language "Rust" "") (processed-by "x" "1")))
            (export "wasi:http/incoming-handler@0.2.0" (instance 0))
            (export "wasi:cli/run@0.2.6" (instance 0))
            (export "wasi:cli/run@0.3.0" (instance 0)))"#,
    );
    assert_eq!(facts.kind, Kind::Component);
    let imports: Vec<_> = facts.imports.iter().map(|i| [i.module.as_str(), &i.name, &i.shape]).collect();
    let expected = [
        ["wasi:io/streams@0.2.0", "f", "function"],
        ["wasi:io/types@0.2.0", "", "types"],
        ["lone", "", "function"],
    ];
    assert_eq!(imports, expected);
    let roles: Vec<_> = facts.exports.iter().map(|export| export.role).collect();
    assert_eq!(roles, [Some(Role::Requests), Some(Role::Command), None]);
    assert!(facts.exports[0].name == "wasi:http/incoming-handler@0.2.0" && facts.exports[0].serves);
    assert_eq!(facts.producers, ["language Rust", "processed-by x 1"]);
    let needs = facts.needs.unwrap();
    assert_eq!((needs.core_instances, needs.memory_bytes, needs.table_elements), (1, 3 << 16, 2));
}

/// wasmparser alone would use up the stack on this.
#[test]
fn types_deep_in_each_other_are_said_to_be() {
    let mut inside = vec![1];
    inside.extend([0x42, 1, 1].repeat(500_000));
    inside.extend([0x42, 0]);
    let mut bytes = b"\0asm\x0d\0\x01\0\x07".to_vec();
    // 1,500,003 in LEB128.
    bytes.extend([0xe3, 0xc6, 0x5b]);
    bytes.extend(inside);
    let facts = Facts::of(&bytes);
    assert!(
        facts.invalid.as_ref().is_some_and(|why| why.contains("deep in each other")),
        "{:?}",
        facts.invalid
    );
}
