//! What a file is, as far as it shows without compiling it.
//!
//! The file may be anything: whatever is in it, this says what it found and never fails.

use serde::Serialize;
use tidegate_abi::names;
use wasmparser::{
    BinaryReaderError, ComponentExternalKind, Data, DataKind, ExternalKind, FuncType, GlobalType,
    KnownCustom, MemoryType, Operator, Parser, Payload, TableType, TypeRef, ValType, Validator, WasmFeatures,
};

use crate::guest::anatomy::{self, Anatomy, Imported, ItemKind, Needs, Unread};
use crate::guest::offer;
use crate::guest::program;

/// Words on who made a file: a component has those of all modules in it.
const PRODUCERS_MAX: usize = 20;
/// Imports that are listed, and bytes of a name of one. A file of some KiB may have any number of either.
const IMPORTS_MAX: usize = 1_000;
const NAME_BYTES_MAX: usize = 200;
/// Bytes of a page of memory, where a module does not choose others.
const PAGE_BYTES: u64 = 64 * 1024;

/// What kind of file it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Module,
    Component,
    /// WebAssembly in its text format.
    Text,
    #[default]
    Other,
}

/// What was found.
#[derive(Debug, Default, Serialize)]
pub(super) struct Facts {
    pub(super) kind: Kind,
    pub(super) bytes: usize,
    /// Why it is not valid WebAssembly.
    pub(super) invalid: Option<String>,
    /// Who made it: `language Rust`, `processed-by rustc 1.95.0`.
    pub(super) producers: Vec<String>,
    pub(super) memories: Vec<Memory>,
    pub(super) tables: Vec<Table>,
    /// The module's own stack, in its memory; None where that does not show.
    pub(super) stack_bytes: Option<u64>,
    pub(super) functions: u32,
    pub(super) code_bytes: u64,
    pub(super) data_bytes: u64,
    /// Proposals that it is not valid without.
    pub(super) features: Vec<&'static str>,
    pub(super) imports: Vec<Import>,
    /// Imports besides, which are not listed.
    pub(super) more_imports: usize,
    pub(super) exports: Vec<Export>,
    /// What an instance takes, all its core instances together; None where that does not show.
    pub(super) needs: Option<Needs>,
    pub(super) sections: Vec<Section>,
}

/// A linear memory.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Memory {
    pub(super) initial_bytes: u64,
    /// None: as much as it may have.
    pub(super) maximum_bytes: Option<u64>,
    pub(super) shared: bool,
    pub(super) is_64: bool,
    pub(super) imported: bool,
}

/// A table.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Table {
    pub(super) elements: u64,
    pub(super) maximum: Option<u64>,
}

/// Something that it wants from its host.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Import {
    pub(super) module: String,
    pub(super) name: String,
    /// `(i32, i64) -> i32`, or `memory`, `table` and the like; of a component `function`, `resource` and the like.
    pub(super) shape: String,
    /// The same for programs, where it is a function of plain numbers.
    #[serde(skip)]
    pub(super) function: Option<FuncType>,
}

/// Something that it offers.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Export {
    pub(super) name: String,
    pub(super) shape: String,
    /// It is what the server calls.
    pub(super) serves: bool,
    /// What it is called for.
    pub(super) role: Option<Role>,
}

/// What the server calls something for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Role {
    /// To answer a request.
    Requests,
    /// To serve a raw connection.
    Connections,
    /// To run by itself.
    Command,
}

/// A custom section.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) bytes: usize,
}

impl Facts {
    /// Looks at a file.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let mut facts = Self { kind: kind(bytes), bytes: bytes.len(), ..Self::default() };
        if !matches!(facts.kind, Kind::Module | Kind::Component) {
            return facts;
        }
        // wasmparser follows types within types down the stack: what is too deep, or not to be told, it never sees.
        let (anatomy, safe) = match facts.kind {
            Kind::Module => (anatomy::of(program::Kind::Module, bytes), true),
            _ => {
                let anatomy = anatomy::of(program::Kind::Component, bytes);
                let safe = anatomy.is_ok();
                (anatomy, safe)
            }
        };
        match anatomy {
            Ok(anatomy) => facts.take(&anatomy),
            Err(Unread::Damaged(error)) => facts.invalid = Some(invalid(&error)),
            Err(error) => facts.invalid = Some(error.to_string()),
        }
        if safe {
            let valid = Validator::new_with_features(WasmFeatures::all()).validate_all(bytes);
            facts.invalid = valid.err().as_ref().map(invalid);
        }
        let mut walk = Walk::default();
        // A file that is cut off or damaged shows what comes before that.
        let _ = walk.through(bytes, &mut facts);
        if facts.kind == Kind::Module && facts.invalid.is_none() {
            facts.features = features(bytes);
        }
        facts
    }

    fn take(&mut self, anatomy: &Anatomy<'_>) {
        self.needs = anatomy.needs;
        for import in &anatomy.imports {
            match &import.what {
                Imported::Nothing => self.imported(import.name, "", "type", None),
                Imported::Other(what) => {
                    let shape = what.split_once(' ').map_or(*what, |(_, what)| what);
                    self.imported(import.name, "", shape, None);
                }
                Imported::Interface(items) if items.is_empty() => {
                    self.imported(import.name, "", "types", None);
                }
                Imported::Interface(items) => {
                    for item in items.iter() {
                        let shape = match item.kind {
                            ItemKind::Function => "function",
                            ItemKind::Resource => "resource",
                            ItemKind::Other => "item",
                        };
                        self.imported(import.name, item.name, shape, None);
                    }
                }
            }
        }
        for export in &anatomy.exports {
            let shape = match export.kind {
                ComponentExternalKind::Instance => "interface",
                ComponentExternalKind::Func => "function",
                _ => "item",
            };
            let role = match export {
                _ if offer::serves(export) => Some(Role::Requests),
                _ if offer::runs(export) => Some(Role::Command),
                _ => None,
            };
            self.exports.push(Export::new(export.name, shape.to_owned(), role));
        }
    }

    fn imported(&mut self, module: &str, name: &str, shape: &str, function: Option<FuncType>) {
        if self.imports.len() == IMPORTS_MAX {
            self.more_imports += 1;
            return;
        }
        let (module, name) = (cut(module), cut(name));
        self.imports.push(Import { module, name, shape: shape.to_owned(), function });
    }

    /// The version of the ABI that its imports are of.
    pub(super) fn abi(&self) -> Option<u32> {
        self.imports.iter().find_map(|import| import.module.strip_prefix("tidegate_v")?.parse().ok())
    }

    /// Whether there is something to be called for this.
    pub(super) fn has_role(&self, role: Role) -> bool {
        self.exports.iter().any(|export| export.role == Some(role))
    }

    /// The export of a name.
    pub(super) fn export(&self, name: &str) -> Option<&Export> {
        self.exports.iter().find(|export| export.name == name)
    }
}

/// A name of a bounded length.
fn cut(name: &str) -> String {
    let end = name.floor_char_boundary(NAME_BYTES_MAX);
    let more = if end < name.len() { "..." } else { "" };
    format!("{}{more}", &name[..end])
}

fn invalid(error: &BinaryReaderError) -> String {
    format!("{} (at byte {})", error.message(), error.offset())
}

fn kind(bytes: &[u8]) -> Kind {
    let text = bytes.trim_ascii_start();
    match bytes {
        [0, b'a', b's', b'm', _, _, 0, 0, ..] => Kind::Module,
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => Kind::Component,
        _ if text.starts_with(b"(module") || text.starts_with(b"(component") || text.starts_with(b";;") => {
            Kind::Text
        }
        _ => Kind::Other,
    }
}

/// What is known on the way through a file.
#[derive(Default)]
struct Walk {
    types: Vec<Option<FuncType>>,
    /// The types of functions, imported ones first.
    functions: Vec<u32>,
    globals: Vec<GlobalType>,
    /// The first mutable global that is a 32-bit number, as linkers put the stack's pointer there.
    stack_pointer: Option<u64>,
    /// Where the lowest piece of data goes.
    data_start: Option<u64>,
    depth: u32,
}

impl Walk {
    fn through(&mut self, bytes: &[u8], facts: &mut Facts) -> wasmparser::Result<()> {
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload?;
            match &payload {
                // Modules and components in a component: who made them is told, what is in them is their own business.
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => self.depth += 1,
                Payload::End(_) if self.depth > 0 => self.depth -= 1,
                Payload::CustomSection(section) => custom(section, self.depth == 0, facts)?,
                _ if facts.kind == Kind::Component => {}
                _ => self.module(payload, facts)?,
            }
        }
        // The stack lies below the data, and nothing is below the stack, if it was told to overflow into a trap.
        if let Some(top) = self.stack_pointer
            && self.data_start.is_some_and(|data| data >= top)
        {
            facts.stack_bytes = Some(top);
        }
        Ok(())
    }

    fn module(&mut self, payload: Payload<'_>, facts: &mut Facts) -> wasmparser::Result<()> {
        match payload {
            Payload::TypeSection(types) => {
                for group in types {
                    for inner in group?.into_types() {
                        let function = match inner.composite_type.inner {
                            wasmparser::CompositeInnerType::Func(function) => Some(function),
                            _ => None,
                        };
                        self.types.push(function);
                    }
                }
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    self.import(&import?, facts);
                }
            }
            Payload::FunctionSection(functions) => {
                facts.functions = functions.count();
                for function in functions {
                    self.functions.push(function?);
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    facts.memories.push(Memory::of(memory?, false));
                }
            }
            Payload::TableSection(tables) => {
                for table in tables {
                    facts.tables.push(Table::of(table?.ty));
                }
            }
            Payload::GlobalSection(globals) => {
                for global in globals {
                    let global = global?;
                    self.globals.push(global.ty);
                    if global.ty.mutable
                        && global.ty.content_type == ValType::I32
                        && self.stack_pointer.is_none()
                    {
                        self.stack_pointer = constant(&global.init_expr);
                    }
                }
            }
            Payload::DataSection(pieces) => {
                for piece in pieces {
                    self.data(&piece?, facts);
                }
            }
            Payload::CodeSectionStart { size, .. } => facts.code_bytes = u64::from(size),
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    let shape = match export.kind {
                        ExternalKind::Func | ExternalKind::FuncExact => self.shape(export.index),
                        ExternalKind::Memory => "memory".to_owned(),
                        ExternalKind::Table => "table".to_owned(),
                        ExternalKind::Global => "global".to_owned(),
                        ExternalKind::Tag => "tag".to_owned(),
                    };
                    let role = match (export.name, shape.as_str()) {
                        HANDLE => Some(Role::Requests),
                        CONNECTION => Some(Role::Connections),
                        _ => None,
                    };
                    facts.exports.push(Export::new(export.name, shape, role));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn import(&mut self, import: &wasmparser::Import<'_>, facts: &mut Facts) {
        let mut function = None;
        let shape = match import.ty {
            TypeRef::Func(index) | TypeRef::FuncExact(index) => {
                self.functions.push(index);
                function = self.types.get(index as usize).cloned().flatten();
                function.as_ref().map_or_else(|| "function".to_owned(), signature)
            }
            TypeRef::Memory(memory) => {
                facts.memories.push(Memory::of(memory, true));
                "memory".to_owned()
            }
            TypeRef::Table(table) => {
                facts.tables.push(Table::of(table));
                "table".to_owned()
            }
            TypeRef::Global(global) => {
                self.globals.push(global);
                "global".to_owned()
            }
            TypeRef::Tag(_) => "tag".to_owned(),
        };
        facts.imported(import.module, import.name, &shape, function);
    }

    fn data(&mut self, piece: &Data<'_>, facts: &mut Facts) {
        facts.data_bytes += piece.data.len() as u64;
        if let DataKind::Active { offset_expr, .. } = &piece.kind
            && let Some(start) = constant(offset_expr)
        {
            self.data_start = Some(self.data_start.map_or(start, |lowest| lowest.min(start)));
        }
    }

    fn shape(&self, function: u32) -> String {
        let index = self.functions.get(function as usize);
        let function = index.and_then(|index| self.types.get(*index as usize)).and_then(Option::as_ref);
        function.map_or_else(|| "function".to_owned(), signature)
    }
}

impl Export {
    fn new(name: &str, shape: String, role: Option<Role>) -> Self {
        Self { name: name.to_owned(), shape, serves: role.is_some(), role }
    }
}

impl Memory {
    fn of(ty: MemoryType, imported: bool) -> Self {
        let page = ty.page_size_log2.map_or(PAGE_BYTES, |log2| 1u64.checked_shl(log2).unwrap_or(PAGE_BYTES));
        Self {
            initial_bytes: ty.initial.saturating_mul(page),
            maximum_bytes: ty.maximum.map(|pages| pages.saturating_mul(page)),
            shared: ty.shared,
            is_64: ty.memory64,
            imported,
        }
    }
}

impl Table {
    fn of(ty: TableType) -> Self {
        Self { elements: ty.initial, maximum: ty.maximum }
    }
}

/// The number that an expression of one constant is.
fn constant(expression: &wasmparser::ConstExpr<'_>) -> Option<u64> {
    match expression.get_operators_reader().read().ok()? {
        Operator::I32Const { value } => Some(u64::from(value.cast_unsigned())),
        _ => None,
    }
}

/// `(i32, i64) -> i32`.
fn signature(function: &FuncType) -> String {
    let list = |types: &[ValType]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let results = match function.results() {
        [one] => one.to_string(),
        several => format!("({})", list(several)),
    };
    format!("({}) -> {results}", list(function.params()))
}

fn custom(
    section: &wasmparser::CustomSectionReader<'_>,
    outermost: bool,
    facts: &mut Facts,
) -> wasmparser::Result<()> {
    if outermost {
        facts.sections.push(Section { name: section.name().to_owned(), bytes: section.data().len() });
    }
    if let KnownCustom::Producers(fields) = section.as_known() {
        for field in fields {
            let field = field?;
            for value in field.values {
                let value = value?;
                let text = format!("{} {} {}", field.name, value.name, value.version).trim_end().to_owned();
                if facts.producers.len() < PRODUCERS_MAX && !facts.producers.contains(&text) {
                    facts.producers.push(text);
                }
            }
        }
    }
    Ok(())
}

/// What every engine of the last years has.
const BASE: WasmFeatures = WasmFeatures::WASM2
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::GC_TYPES)
    .difference(WasmFeatures::SIMD);

/// What goes beyond that, and could be said about a module.
const BEYOND: [(WasmFeatures, &str); 13] = [
    (WasmFeatures::SIMD, "simd"),
    (WasmFeatures::RELAXED_SIMD, "relaxed-simd"),
    (WasmFeatures::THREADS, "threads"),
    (WasmFeatures::SHARED_EVERYTHING_THREADS, "shared-everything-threads"),
    (WasmFeatures::TAIL_CALL, "tail-call"),
    (WasmFeatures::MULTI_MEMORY, "multi-memory"),
    (WasmFeatures::EXCEPTIONS, "exceptions"),
    (WasmFeatures::LEGACY_EXCEPTIONS, "legacy-exceptions"),
    (WasmFeatures::MEMORY64, "memory64"),
    (WasmFeatures::GC, "gc"),
    (WasmFeatures::FUNCTION_REFERENCES, "function-references"),
    (WasmFeatures::CUSTOM_PAGE_SIZES, "custom-page-sizes"),
    (WasmFeatures::WIDE_ARITHMETIC, "wide-arithmetic"),
];

/// The proposals that a valid module is not valid without.
fn features(bytes: &[u8]) -> Vec<&'static str> {
    let valid_with = |features| Validator::new_with_features(features).validate_all(bytes).is_ok();
    if valid_with(BASE) {
        return Vec::new();
    }
    let without = |feature: WasmFeatures| WasmFeatures::all().difference(feature);
    BEYOND.iter().filter(|(feature, _)| !valid_with(without(*feature))).map(|(_, name)| *name).collect()
}

/// What a handler exports, and how that looks.
pub(super) const HANDLE: (&str, &str) = (names::HANDLE, "() -> i32");
/// And what it exports to serve raw connections.
pub(super) const CONNECTION: (&str, &str) = (names::CONNECTION, "(i32) -> i32");

#[cfg(test)]
mod tests;
