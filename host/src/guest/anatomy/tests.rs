//! What is counted is what an engine instantiates, and no file is too much.

use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, ResourceLimiter, Store};

use super::*;

fn anatomy(wat: &str) -> (Vec<u8>, Needs) {
    let wasm = wat::parse_str(wat).unwrap_or_else(|error| panic!("{wat}: {error}"));
    let needs = of(Kind::Component, &wasm).unwrap().needs.unwrap();
    (wasm, needs)
}

/// What a Store lets an instance have.
struct Allowed {
    instances: usize,
    memories: usize,
    tables: usize,
}

impl ResourceLimiter for Allowed {
    fn memory_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.instances
    }

    fn memories(&self) -> usize {
        self.memories
    }

    fn tables(&self) -> usize {
        self.tables
    }
}

fn instantiates(engine: &Engine, component: &Component, allowed: Allowed) -> bool {
    let mut store = Store::new(engine, allowed);
    store.limiter(|allowed| allowed);
    Linker::new(engine).instantiate(&mut store, component).is_ok()
}

/// Modules and components in components, given to each other, taken out of each other, and multiplied.
const COMPONENTS: [(&str, [u64; 3]); 9] = [
    ("(component)", [0, 0, 0]),
    (
        "(component (core module $m (memory 1) (table 1 funcref)) (core instance (instantiate $m))
            (core instance (instantiate $m)))",
        [2, 2, 2],
    ),
    // A bundle of exports is no instance.
    (
        r#"(component (core module $m (func (export "f"))) (core instance $i (instantiate $m))
            (core instance (export "f" (func $i "f"))))"#,
        [1, 0, 0],
    ),
    // Nested, and each instance of the inner one has two.
    (
        "(component
            (component $inner (core module $m (memory 1))
                (core instance (instantiate $m)) (core instance (instantiate $m)))
            (component $middle (alias outer 1 $inner (component $i)) (instance (instantiate $i)) (instance (instantiate $i)))
            (instance (instantiate $middle)) (instance (instantiate $middle)) (instance (instantiate $inner)))",
        [10, 10, 0],
    ),
    // A module of the component around.
    (
        "(component (core module $m (table 1 funcref))
            (component $c (alias outer 1 $m (core module $o)) (core instance (instantiate $o)))
            (instance (instantiate $c)))",
        [1, 0, 1],
    ),
    // A module that was given.
    (
        r#"(component (core module $m (memory 1))
            (component $c (import "m" (core module $g)) (core instance (instantiate $g)) (core instance (instantiate $g)))
            (instance (instantiate $c (with "m" (core module $m)))))"#,
        [2, 2, 0],
    ),
    // A component that was given and instantiates what it is given.
    (
        r#"(component
            (component $one (core module $m) (core instance (instantiate $m)))
            (component $twice (import "c" (component $c)) (instance (instantiate $c)) (instance (instantiate $c)))
            (instance (instantiate $twice (with "c" (component $one)))))"#,
        [2, 0, 0],
    ),
    // A component that comes out of an instance, and out of a bundle.
    (
        r#"(component
            (component $shop
                (component $goods (core module $m (memory 1)) (core instance (instantiate $m)))
                (export "goods" (component $goods)))
            (instance $s (instantiate $shop))
            (alias export $s "goods" (component $c))
            (instance (instantiate $c))
            (instance $b (export "again" (component $c)))
            (alias export $b "again" (component $d))
            (instance (instantiate $d)))"#,
        [2, 2, 0],
    ),
    // An export has a number of its own.
    (
        r#"(component
            (component $c
                (component $empty)
                (export $e "e" (component $empty))
                (component $full (core module $m) (core instance (instantiate $m)))
                (instance (instantiate $e)) (instance (instantiate $full)))
            (instance (instantiate $c)))"#,
        [1, 0, 0],
    ),
];

#[test]
fn as_many_as_the_engine_makes() {
    let engine = Engine::default();
    for (wat, expected) in COMPONENTS {
        let (wasm, needs) = anatomy(wat);
        assert_eq!([needs.core_instances, needs.memories, needs.tables], expected, "{wat}");
        let component = Component::new(&engine, &wasm).unwrap_or_else(|error| panic!("{wat}: {error:#}"));
        let [instances, memories, tables] = expected.map(|n| usize::try_from(n).unwrap());
        let allowed = |[instances, memories, tables]: [usize; 3]| Allowed { instances, memories, tables };
        let exactly = [instances, memories, tables];
        assert!(instantiates(&engine, &component, allowed(exactly)), "{wat}");
        for index in 0..3 {
            let mut fewer = exactly;
            if fewer[index] > 0 {
                fewer[index] -= 1;
                assert!(!instantiates(&engine, &component, allowed(fewer)), "{wat}: {fewer:?}");
            }
        }
    }
}

/// Components that call each other: as many links as that, each with one core module.
fn chain(links: usize) -> String {
    let inner = r#"(component $first
        (core module $m (func (export "f") (param i32) (result i32) local.get 0))
        (core instance $i (instantiate $m))
        (func (export "f") (param "n" u32) (result u32) (canon lift (core func $i "f"))))
      (component $link
        (import "f" (func $f (param "n" u32) (result u32)))
        (core func $low (canon lower (func $f)))
        (core module $m (import "" "f" (func $f (param i32) (result i32)))
          (func (export "f") (param i32) (result i32) local.get 0 call $f))
        (core instance $i (instantiate $m (with "" (instance (export "f" (func $low))))))
        (func (export "f") (param "n" u32) (result u32) (canon lift (core func $i "f"))))
      (instance $i0 (instantiate $first))"#;
    let links: String = (1..=links)
        .map(|n| format!(r#"(instance $i{n} (instantiate $link (with "f" (func $i{} "f"))))"#, n - 1))
        .collect();
    format!("(component {inner} {links})")
}

/// The same within one component: each module's instance gives what the next one calls, and has a memory, if any.
fn ladder(rungs: usize, memory: bool) -> String {
    let defined = if memory { r#"(memory (export "m") 1)"# } else { "" };
    let option =
        |n: usize| if memory { format!(r#"(memory (core memory $i{n} "m"))"#) } else { String::new() };
    let mut wat = format!(
        r#"(component
            (core module $first {defined} (func (export "f") (param i32) (result i32) local.get 0))
            (core module $rung (import "" "f" (func $f (param i32) (result i32))) {defined}
              (func (export "f") (param i32) (result i32) local.get 0 call $f))
            (core instance $i0 (instantiate $first))"#
    );
    for n in 0..rungs {
        wat += &format!(
            r#"(func $f{n} (param "n" u32) (result u32) (canon lift (core func $i{n} "f")))
               (core func $low{n} (canon lower (func $f{n}) {}))
               (core instance $i{} (instantiate $rung (with "" (instance (export "f" (func $low{n}))))))"#,
            option(n),
            n + 1
        );
    }
    wat + ")"
}

/// What the engine puts between components is counted too, and never too little.
#[test]
fn adapters_between_components_are_counted() {
    let engine = Engine::default();
    let chains = [1, 2, 7].map(|links| (chain(links), links));
    let ladders = [1, 2, 7].map(|rungs| (ladder(rungs, false), rungs));
    let with_memories = [1, 2, 7].map(|rungs| (ladder(rungs, true), rungs));
    for (wat, links) in [chains, ladders, with_memories].concat() {
        let (wasm, needs) = anatomy(&wat);
        let component = Component::new(&engine, &wasm).unwrap();
        let instances = usize::try_from(needs.core_instances).unwrap();
        let memories = usize::try_from(needs.memories).unwrap();
        let allowed = |instances| Allowed { instances, memories, tables: 0 };
        assert_eq!(instances, 2 * links + 1, "{wat}");
        assert!(instantiates(&engine, &component, allowed(instances)), "{wat}");
        assert!(!instantiates(&engine, &component, allowed(instances - 1)), "{wat}");
    }
}

/// Functions of the host's need no adapter, whoever hands them on.
#[test]
fn what_the_host_gives_needs_no_adapter() {
    let (_, needs) = anatomy(
        r#"(component
            (import "a:b/c" (instance $host (export "f" (func))))
            (component $inner
                (import "i" (instance $i (export "f" (func))))
                (core func $low (canon lower (func $i "f")))
                (core module $m (import "" "f" (func)))
                (core instance (instantiate $m (with "" (instance (export "f" (func $low)))))))
            (instance (instantiate $inner (with "i" (instance $host)))))"#,
    );
    assert_eq!(needs.core_instances, 1);
}

/// An interface may be imported under any number of names; what that comes to is bounded.
#[test]
fn a_type_that_is_imported_many_times_is_counted_each_time() {
    let members: String = (0..500).map(|n| format!(r#"(export "f{n}" (func))"#)).collect();
    let imports = |count: usize| -> String {
        (0..count).map(|n| format!(r#"(import "a:b/c{n}" (instance (type $t)))"#)).collect()
    };
    let of = |count| {
        let wasm =
            wat::parse_str(format!("(component (type $t (instance {members})) {})", imports(count))).unwrap();
        super::of(Kind::Component, &wasm)
            .map(|anatomy| anatomy.imports.len())
            .map_err(|error| error.to_string())
    };
    assert_eq!(of(39), Ok(39));
    assert_eq!(of(40).unwrap_err(), "it imports more than 20000 things");
}

/// Looking a long name up costs as much as many short ones.
#[test]
fn long_names_use_the_steps_up() {
    let name = "n".repeat(90_000);
    let aliases = r#"(alias export $b "NAME" (component))"#.replace("NAME", &name).repeat(40);
    let bundle = format!(r#"(component $c) (instance $b (export "{name}" (component $c)))"#);
    let one = format!("(component $one {bundle} {aliases})");
    let many = "(instance (instantiate $one))".repeat(30);
    let wasm = wat::parse_str(format!("(component {one} {many})")).unwrap();
    assert!(matches!(of(Kind::Component, &wasm), Err(Unread::Endless)));
}

#[test]
fn bytes_and_elements_are_summed_up() {
    let (_, needs) = anatomy(
        "(component
            (core module $m (memory 2) (memory 3 9) (table 7 funcref) (table 5 funcref))
            (core instance (instantiate $m)) (core instance (instantiate $m)))",
    );
    assert_eq!((needs.memory_bytes, needs.table_elements), (10 << 16, 24));
    let module = wat::parse_str("(module (memory 1) (func) (table 2 funcref))").unwrap();
    let needs = of(Kind::Module, &module).unwrap().needs.unwrap();
    assert_eq!((needs.memory_bytes, needs.tables, needs.core_instances), (1 << 16, 1, 1));
}

#[test]
fn imports_and_exports_are_named() {
    let wasm = wat::parse_str(
        r#"(component
            (import "wasi:io/poll@0.2.0" (instance $poll
                (type $unneeded (record (field "x" u32)))
                (export "record" (type (eq $unneeded)))
                (export "pollable" (type $p (sub resource)))
                (export "same" (type (eq $p)))
                (export "[method]pollable.ready" (func (param "self" (borrow $p)) (result bool)))))
            (alias export $poll "pollable" (type $pollable))
            (import "again" (type (eq $pollable)))
            (import "lone" (func (param "x" u32)))
            (import "wasi:clocks/wall-clock@0.2.0" (instance (export "now" (func (result u64)))))
            (core module $m (func (export "f")))
            (core instance $i (instantiate $m))
            (func (export "run") (canon lift (core func $i "f")))
            (export "poll" (instance $poll)))"#,
    )
    .unwrap();
    let Anatomy { imports, exports, needs } = of(Kind::Component, &wasm).unwrap();
    let item = |name, kind| Item { name, kind };
    let interface =
        |name, items: &[Item<'static>]| Import { name, what: Imported::Interface(Rc::from(items)) };
    let expected = [
        interface(
            "wasi:io/poll@0.2.0",
            &[item("pollable", ItemKind::Resource), item("[method]pollable.ready", ItemKind::Function)],
        ),
        Import { name: "again", what: Imported::Nothing },
        Import { name: "lone", what: Imported::Other("a function") },
        interface("wasi:clocks/wall-clock@0.2.0", &[item("now", ItemKind::Function)]),
    ];
    assert_eq!(imports, expected);
    let exports: Vec<_> = exports.iter().map(|export| export.name).collect();
    assert_eq!(exports, ["poll", "run"]);
    assert_eq!(needs.unwrap().core_instances, 1);
}

#[test]
fn what_instantiates_its_imports_shows_no_needs() {
    let wasm =
        wat::parse_str(r#"(component (import "m" (core module $m)) (core instance (instantiate $m)))"#);
    let wasm = wasm.unwrap();
    let anatomy = of(Kind::Component, &wasm).unwrap();
    assert_eq!((anatomy.needs, anatomy.imports.len()), (None, 1));
}

/// Each component instantiates the one before it ten times: 10 to the 12th of a file of a few KiB.
#[test]
fn instances_without_end_are_not_counted_to_the_end() {
    let mut wat = "(component (component $c0 (core module $m) (core instance (instantiate $m)))".to_owned();
    for n in 1..13 {
        let instance = format!("(instance (instantiate $c{}))", n - 1);
        let alias = format!("(alias outer 1 $c{} (component $c{0}))", n - 1);
        wat += &format!("(component $c{n} {alias} {})", instance.repeat(10));
    }
    wat += "(instance (instantiate $c12)))";
    let wasm = wat::parse_str(&wat).unwrap();
    assert!(wasm.len() < 4_096);
    assert!(matches!(of(Kind::Component, &wasm), Err(Unread::Endless)));
}

/// A section with this inside.
fn section(id: u8, inside: &[u8]) -> Vec<u8> {
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    bytes.push(id);
    let mut len = inside.len();
    while len >= 0x80 {
        bytes.push((len & 0x7f) as u8 | 0x80);
        len >>= 7;
    }
    bytes.push(len as u8);
    bytes.extend_from_slice(inside);
    bytes
}

/// wasmparser follows types within types down the stack.
#[test]
fn types_deep_in_each_other_do_not_use_up_the_stack() {
    let nested = |depth: usize| {
        let mut inside = vec![1];
        inside.extend([0x42, 1, 1].repeat(depth));
        inside.extend([0x42, 0]);
        section(7, &inside)
    };
    assert!(of(Kind::Component, &nested(50)).is_ok());
    assert!(matches!(of(Kind::Component, &nested(1_000_000)), Err(Unread::Deep)));
}

#[test]
fn components_deep_in_each_other_are_refused() {
    let mut inner = b"\0asm\x0d\0\x01\0".to_vec();
    for _ in 0..200 {
        inner = section(4, &inner);
    }
    assert!(matches!(of(Kind::Component, &inner), Err(Unread::Deep)));
}

#[test]
fn more_items_than_anybody_has_are_refused() {
    // Types of one byte each.
    let mut inside = vec![0x80, 0x89, 0x7a];
    inside.extend([0x7f].repeat(2_000_000));
    assert!(matches!(of(Kind::Component, &section(7, &inside)), Err(Unread::Many)));
}

/// Cut off anywhere, or with any byte another, a component is read or refused, and nothing else happens.
#[test]
fn damage_is_borne() {
    for (wat, _) in COMPONENTS {
        let whole = wat::parse_str(wat).unwrap();
        for cut in 0..whole.len() {
            let _ = of(Kind::Component, &whole[..cut]);
            let mut other = whole.clone();
            for byte in [0x00, 0x01, 0x42, 0x7f, 0x80, 0xff] {
                other[cut] = byte;
                let _ = of(Kind::Component, &other);
                let _ = of(Kind::Module, &other);
            }
        }
    }
}
