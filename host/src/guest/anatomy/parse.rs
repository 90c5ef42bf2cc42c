//! From the bytes of a component to what is defined in it, in order.
//!
//! Types are read here and not by wasmparser, which follows types within types down the stack, however deep a file has
//! them.

use std::rc::Rc;

use wasmparser::{
    BinaryReader, CanonicalFunction, Chunk, ComponentAlias, ComponentExternName, ComponentExternalKind,
    ComponentImport, ComponentInstance, ComponentOuterAliasKind, ComponentType, ComponentTypeRef, CoreType,
    FromReader, Instance, Parser, Payload, TypeBounds,
};

use super::{Export, Import, Imported, Item, ItemKind, Needs, Unread};

/// Components in components, and types in types.
pub(super) const DEPTH_MAX: u32 = 100;
/// Definitions, arguments and declarations of types. The largest component that is known has some ten thousand.
pub(super) const ITEMS_MAX: usize = 1_000_000;
/// Members of all interfaces that a component imports, each counted for every import of its type.
pub(super) const IMPORTED_MAX: usize = 20_000;
/// Bytes of a page of memory, where a module does not choose others.
const PAGE_BYTES: u64 = 64 * 1024;

/// The kinds of things whose paths lead to core instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Module,
    Component,
    Instance,
    /// Of components: what core code calls another component by.
    Function,
}

impl Sort {
    fn of(kind: ComponentExternalKind) -> Option<Self> {
        match kind {
            ComponentExternalKind::Module => Some(Self::Module),
            ComponentExternalKind::Component => Some(Self::Component),
            ComponentExternalKind::Instance => Some(Self::Instance),
            ComponentExternalKind::Func => Some(Self::Function),
            _ => None,
        }
    }
}

/// A thing under a name.
pub(super) type Named<'a> = (&'a str, Sort, u32);

/// A definition. All but [`Self::Core`] and [`Self::Lower`] add one thing to an index space.
#[derive(Debug)]
pub(super) enum Op<'a> {
    Module(Needs),
    /// The component of another body.
    Component(usize),
    Import(Sort, &'a str),
    /// An export is a thing of its own, too.
    Export(Named<'a>),
    /// The export of an instance.
    Alias(Sort, u32, &'a str),
    /// Something of a component around this one, so many levels up.
    Outer(Sort, u32, u32),
    Instantiate(u32, Vec<Named<'a>>),
    Bundle(Vec<Named<'a>>),
    /// An instance of a module.
    Core(u32),
    /// A function of core code becomes one of the component.
    Lift,
    /// A function is made callable for core code.
    Lower(u32),
}

/// The definitions of one component.
pub(super) type Body<'a> = Vec<Op<'a>>;

/// All components of a file, the outermost first, and what that one imports and exports.
type Parsed<'a> = (Vec<Body<'a>>, Vec<Import<'a>>, Vec<Export<'a>>);

pub(super) fn component(wasm: &[u8]) -> Result<Parsed<'_>, Unread> {
    let mut walk = Walk::default();
    walk.body(Parser::new(0), wasm, 0)?;
    Ok((walk.bodies, walk.imports, walk.exports))
}

/// What an instance of a module takes.
pub(super) fn module(wasm: &[u8]) -> Result<Needs, Unread> {
    module_within(Parser::new(0), wasm)
}

fn module_within(mut parser: Parser, mut bytes: &[u8]) -> Result<Needs, Unread> {
    let mut needs = Needs { core_instances: 1, ..Needs::default() };
    loop {
        match next(&mut parser, &mut bytes)? {
            Payload::MemorySection(memories) => {
                for memory in memories {
                    let memory = memory?;
                    let page = memory.page_size_log2.and_then(|log2| 1u64.checked_shl(log2));
                    needs.memories += 1;
                    let bytes = memory.initial.saturating_mul(page.unwrap_or(PAGE_BYTES));
                    needs.memory_bytes = needs.memory_bytes.saturating_add(bytes);
                }
            }
            Payload::TableSection(tables) => {
                for table in tables {
                    needs.tables += 1;
                    needs.table_elements = needs.table_elements.saturating_add(table?.ty.initial);
                }
            }
            Payload::CodeSectionStart { size, range, .. } => {
                parser.skip_section();
                bytes = bytes.get(size as usize..).ok_or_else(|| cut(range.end))?;
            }
            Payload::End(_) => return Ok(needs),
            _ => {}
        }
    }
}

/// The next part of a file that is all there.
fn next<'a>(parser: &mut Parser, bytes: &mut &'a [u8]) -> Result<Payload<'a>, Unread> {
    match parser.parse(bytes, true)? {
        Chunk::Parsed { consumed, payload } => {
            *bytes = bytes.get(consumed..).unwrap_or_default();
            Ok(payload)
        }
        Chunk::NeedMoreData(_) => Err(cut(0)),
    }
}

/// The error of a file that ends too early: what reading beyond its end gives.
fn cut(offset: usize) -> Unread {
    match BinaryReader::new(&[], offset).read_u8() {
        Err(error) => Unread::Damaged(error),
        Ok(_) => Unread::Many,
    }
}

#[derive(Default)]
struct Walk<'a> {
    bodies: Vec<Body<'a>>,
    items: usize,
    /// The outermost component's types: of instances what has to be there, None for all others.
    types: Vec<Option<Rc<[Item<'a>]>>>,
    /// Members of what was imported so far.
    imported: usize,
    imports: Vec<Import<'a>>,
    exports: Vec<Export<'a>>,
}

impl<'a> Walk<'a> {
    fn item(&mut self) -> Result<(), Unread> {
        self.items += 1;
        if self.items > ITEMS_MAX { Err(Unread::Many) } else { Ok(()) }
    }

    /// Reads one component with all that are in it. Returns its number.
    fn body(&mut self, mut parser: Parser, mut bytes: &'a [u8], depth: u32) -> Result<usize, Unread> {
        if depth > DEPTH_MAX {
            return Err(Unread::Deep);
        }
        let number = self.bodies.len();
        self.bodies.push(Body::new());
        let mut ops = Body::new();
        let whole = bytes;
        let begin = parser.offset();
        loop {
            let payload = next(&mut parser, &mut bytes)?;
            match payload {
                Payload::ModuleSection { parser: inner, unchecked_range } => {
                    self.item()?;
                    let part = within(&mut bytes, &unchecked_range)?;
                    ops.push(Op::Module(module_within(inner, part)?));
                }
                Payload::ComponentSection { parser: inner, unchecked_range } => {
                    self.item()?;
                    let part = within(&mut bytes, &unchecked_range)?;
                    ops.push(Op::Component(self.body(inner, part, depth + 1)?));
                }
                Payload::InstanceSection(instances) => {
                    for instance in instances {
                        self.item()?;
                        if let Instance::Instantiate { module_index, .. } = instance? {
                            ops.push(Op::Core(module_index));
                        }
                    }
                }
                Payload::ComponentTypeSection(types) => {
                    let range = types.range();
                    let offset = usize::try_from(begin).unwrap_or(usize::MAX);
                    let section = range.start.checked_sub(offset).zip(range.end.checked_sub(offset));
                    let section = section.and_then(|(start, end)| whole.get(start..end));
                    let reader = BinaryReader::new(section.ok_or_else(|| cut(range.start))?, range.start);
                    self.types(reader, depth == 0)?;
                }
                Payload::End(_) => {
                    self.bodies[number] = ops;
                    return Ok(number);
                }
                payload => self.definitions(payload, depth == 0, &mut ops)?,
            }
        }
    }

    fn definitions(
        &mut self,
        payload: Payload<'a>,
        outermost: bool,
        ops: &mut Body<'a>,
    ) -> Result<(), Unread> {
        match payload {
            Payload::ComponentInstanceSection(instances) => {
                for instance in instances {
                    self.item()?;
                    ops.push(self.instance(instance?)?);
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases {
                    self.item()?;
                    self.alias(&alias?, outermost, ops);
                }
            }
            Payload::ComponentImportSection(imports) => {
                for import in imports {
                    self.item()?;
                    let import = import?;
                    if outermost {
                        self.import(&import)?;
                    }
                    ops.extend(Sort::of(import.ty.kind()).map(|sort| Op::Import(sort, import.name.name)));
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports {
                    self.item()?;
                    let export = export?;
                    let name = export.name.name;
                    if outermost {
                        self.exports.push(Export { name, kind: export.kind });
                        self.unknown_type(export.kind);
                    }
                    ops.extend(Sort::of(export.kind).map(|sort| Op::Export((name, sort, export.index))));
                }
            }
            Payload::ComponentCanonicalSection(functions) => {
                for function in functions {
                    self.item()?;
                    match function? {
                        CanonicalFunction::Lift { .. } => ops.push(Op::Lift),
                        CanonicalFunction::Lower { func_index, .. } => ops.push(Op::Lower(func_index)),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn instance(&mut self, instance: ComponentInstance<'a>) -> Result<Op<'a>, Unread> {
        let mut named = Vec::new();
        let mut add = |name, kind, index| {
            self.item()?;
            named.extend(Sort::of(kind).map(|sort| (name, sort, index)));
            Ok::<_, Unread>(())
        };
        match instance {
            ComponentInstance::Instantiate { component_index, args } => {
                args.iter().try_for_each(|arg| add(arg.name, arg.kind, arg.index))?;
                Ok(Op::Instantiate(component_index, named))
            }
            ComponentInstance::FromExports(exports) => {
                exports.iter().try_for_each(|export| add(export.name.name, export.kind, export.index))?;
                Ok(Op::Bundle(named))
            }
        }
    }

    fn alias(&mut self, alias: &ComponentAlias<'a>, outermost: bool, ops: &mut Body<'a>) {
        match *alias {
            ComponentAlias::InstanceExport { kind, instance_index, name } => {
                ops.extend(Sort::of(kind).map(|sort| Op::Alias(sort, instance_index, name)));
                if outermost {
                    self.unknown_type(kind);
                }
            }
            ComponentAlias::Outer { kind, count, index } => {
                let sort = match kind {
                    ComponentOuterAliasKind::CoreModule => Sort::Module,
                    ComponentOuterAliasKind::Component => Sort::Component,
                    ComponentOuterAliasKind::Type | ComponentOuterAliasKind::CoreType => {
                        if outermost && kind == ComponentOuterAliasKind::Type {
                            self.unknown_type(ComponentExternalKind::Type);
                        }
                        return;
                    }
                };
                ops.push(Op::Outer(sort, count, index));
            }
            ComponentAlias::CoreInstanceExport { .. } => {}
        }
    }

    /// Something that may be a type has taken the next number of types.
    fn unknown_type(&mut self, kind: ComponentExternalKind) {
        if kind == ComponentExternalKind::Type {
            self.types.push(None);
        }
    }

    fn import(&mut self, import: &ComponentImport<'a>) -> Result<(), Unread> {
        let what = match import.ty {
            ComponentTypeRef::Instance(index) => {
                let items = self.types.get(index as usize).cloned().flatten();
                Imported::Interface(items.unwrap_or_default())
            }
            ComponentTypeRef::Type(TypeBounds::Eq(_)) => Imported::Nothing,
            ComponentTypeRef::Type(TypeBounds::SubResource) => Imported::Other("a resource"),
            ComponentTypeRef::Func(_) => Imported::Other("a function"),
            ComponentTypeRef::Module(_) => Imported::Other("a module"),
            ComponentTypeRef::Component(_) => Imported::Other("a component"),
            ComponentTypeRef::Value(_) => Imported::Other("a value"),
        };
        // A type may be imported any number of times.
        self.imported += if let Imported::Interface(items) = &what { items.len() + 1 } else { 1 };
        if self.imported > IMPORTED_MAX {
            return Err(Unread::Imports);
        }
        self.unknown_type(import.ty.kind());
        self.imports.push(Import { name: import.name.name, what });
        Ok(())
    }

    /// Reads a section of types.
    fn types(&mut self, mut reader: BinaryReader<'a>, outermost: bool) -> Result<(), Unread> {
        for _ in 0..reader.read_var_u32()? {
            let instance = self.ty(&mut reader, 0, outermost)?;
            if outermost {
                self.types.push(instance.map(Rc::from));
            }
        }
        Ok(())
    }

    /// Reads a type. Of that of an instance it says what has to be there, if `wanted`.
    fn ty(
        &mut self,
        reader: &mut BinaryReader<'a>,
        depth: u32,
        wanted: bool,
    ) -> Result<Option<Vec<Item<'a>>>, Unread> {
        self.item()?;
        if depth > DEPTH_MAX {
            return Err(Unread::Deep);
        }
        let is_instance = match peek(reader)? {
            0x41 => false,
            0x42 => true,
            _ => {
                // None of the others has a type within.
                reader.read::<ComponentType<'_>>()?;
                return Ok(None);
            }
        };
        reader.read_u8()?;
        let mut items = Vec::new();
        for _ in 0..reader.read_var_u32()? {
            self.item()?;
            match reader.read_u8()? {
                0x00 => {
                    reader.read::<CoreType<'_>>()?;
                }
                0x01 => {
                    self.ty(reader, depth + 1, false)?;
                }
                0x02 => {
                    reader.read::<ComponentAlias<'_>>()?;
                }
                0x03 if !is_instance => {
                    reader.read::<ComponentImport<'_>>()?;
                }
                0x04 => {
                    let name = ComponentExternName::from_reader(reader)?.name;
                    let kind = match reader.read()? {
                        ComponentTypeRef::Func(_) => Some(ItemKind::Function),
                        ComponentTypeRef::Type(TypeBounds::SubResource) => Some(ItemKind::Resource),
                        ComponentTypeRef::Type(TypeBounds::Eq(_)) => None,
                        _ => Some(ItemKind::Other),
                    };
                    if wanted {
                        items.extend(kind.map(|kind| Item { name, kind }));
                    }
                }
                byte => return Err(unexpected(byte, reader)),
            }
        }
        Ok(is_instance.then_some(items))
    }
}

fn peek(reader: &BinaryReader<'_>) -> Result<u8, Unread> {
    Ok(reader.clone().read_u8()?)
}

/// The error of a declaration that begins with a byte which means nothing: what reading it as one gives.
fn unexpected(byte: u8, reader: &BinaryReader<'_>) -> Unread {
    let offset = reader.original_position().saturating_sub(1);
    match BinaryReader::new(&[byte], offset).read::<wasmparser::InstanceTypeDeclaration<'_>>() {
        Err(error) => Unread::Damaged(error),
        Ok(_) => cut(offset),
    }
}

/// The bytes of a module or a component in another, which are passed over.
fn within<'a>(bytes: &mut &'a [u8], range: &std::ops::Range<usize>) -> Result<&'a [u8], Unread> {
    let (part, rest) = bytes.split_at_checked(range.len()).ok_or_else(|| cut(range.end))?;
    *bytes = rest;
    Ok(part)
}
