//! What is instantiated when the outermost component is: its definitions are gone through as an engine would, without
//! running anything. Components instantiate others, also such as they were given, so that a small file may come to very
//! many instances: the steps are counted.

use std::collections::HashMap;

use super::parse::{Body, DEPTH_MAX, Named, Op, Sort};
use super::{Needs, Unread};

/// Definitions and arguments that are gone through.
pub(super) const STEPS_MAX: u32 = 1_000_000;
/// Bytes of a name that count for as much as a step.
const NAME_BYTES_A_STEP: usize = 64;

/// What an item of an index space is.
#[derive(Clone, Copy, Debug)]
enum Value {
    Module(Needs),
    /// A body, and the frame that it was defined in.
    Component(usize, usize),
    /// The number of its exports.
    Instance(usize),
    /// A function of a component's own, and not of the host's.
    Lifted,
    /// It comes from outside, or the file is not valid.
    Unknown,
}

type Exports<'a> = HashMap<&'a str, Value>;

/// A component that is being instantiated, or was.
#[derive(Debug, Default)]
struct Frame {
    modules: Vec<Value>,
    components: Vec<Value>,
    instances: Vec<Value>,
    functions: Vec<Value>,
    /// The frame of the component around it.
    outer: Option<usize>,
}

impl Frame {
    fn space(&mut self, sort: Sort) -> &mut Vec<Value> {
        match sort {
            Sort::Module => &mut self.modules,
            Sort::Component => &mut self.components,
            Sort::Instance => &mut self.instances,
            Sort::Function => &mut self.functions,
        }
    }
}

struct Count<'a, 'b> {
    bodies: &'b [Body<'a>],
    frames: Vec<Frame>,
    instances: Vec<Exports<'a>>,
    steps: u32,
    needs: Needs,
    /// Something was instantiated that comes from outside.
    open: bool,
    /// No instance of a module was made since the last adapter: the next one may be in the same instance.
    adapting: bool,
}

/// What the outermost of these components takes. None: it instantiates what it imports.
pub(super) fn needs(bodies: &[Body<'_>]) -> Result<Option<Needs>, Unread> {
    let (frames, instances) = (Vec::new(), Vec::new());
    let needs = Needs::default();
    let (open, adapting) = (false, false);
    let mut count = Count { bodies, frames, instances, steps: 0, needs, open, adapting };
    count.instantiate(0, None, &Exports::new(), 0)?;
    Ok((!count.open).then_some(count.needs))
}

impl<'a> Count<'a, '_> {
    fn step(&mut self) -> Result<(), Unread> {
        self.look_up("")
    }

    /// A step that looks a name up: the longer it is the more it counts.
    fn look_up(&mut self, name: &str) -> Result<(), Unread> {
        let cost = 1 + u32::try_from(name.len() / NAME_BYTES_A_STEP).unwrap_or(u32::MAX);
        self.steps = self.steps.saturating_add(cost);
        if self.steps > STEPS_MAX { Err(Unread::Endless) } else { Ok(()) }
    }

    /// Returns what the instance exports.
    fn instantiate(
        &mut self,
        body: usize,
        outer: Option<usize>,
        given: &Exports<'a>,
        depth: u32,
    ) -> Result<Exports<'a>, Unread> {
        if depth > DEPTH_MAX {
            return Err(Unread::Deep);
        }
        self.step()?;
        let bodies = self.bodies;
        let frame = self.frames.len();
        self.frames.push(Frame { outer, ..Frame::default() });
        let mut exports = Exports::new();
        for op in bodies.get(body).into_iter().flatten() {
            self.look_up(match op {
                Op::Import(_, name) | Op::Export((name, _, _)) | Op::Alias(_, _, name) => name,
                _ => "",
            })?;
            let (sort, value) = match op {
                Op::Module(needs) => (Sort::Module, Value::Module(*needs)),
                Op::Component(body) => (Sort::Component, Value::Component(*body, frame)),
                Op::Import(sort, name) => (*sort, given.get(name).copied().unwrap_or(Value::Unknown)),
                Op::Export((name, sort, index)) => {
                    let value = self.get(frame, *sort, *index);
                    exports.insert(name, value);
                    (*sort, value)
                }
                Op::Alias(sort, instance, name) => {
                    let exports = match self.get(frame, Sort::Instance, *instance) {
                        Value::Instance(number) => self.instances.get(number),
                        _ => None,
                    };
                    (*sort, exports.and_then(|exports| exports.get(name)).copied().unwrap_or(Value::Unknown))
                }
                Op::Outer(sort, count, index) => {
                    let mut around = Some(frame);
                    // No more than the depth of components in each other.
                    for _ in 0..(*count).min(DEPTH_MAX + 1) {
                        around = around.and_then(|frame| self.frames.get(frame)?.outer);
                    }
                    let value = around.map_or(Value::Unknown, |frame| self.get(frame, *sort, *index));
                    (*sort, value)
                }
                Op::Bundle(named) => {
                    let exports = self.named(frame, named)?;
                    (Sort::Instance, self.instance(exports))
                }
                Op::Instantiate(component, args) => {
                    let given = self.named(frame, args)?;
                    let value = match self.get(frame, Sort::Component, *component) {
                        Value::Component(body, outer) => {
                            let exports = self.instantiate(body, Some(outer), &given, depth + 1)?;
                            self.instance(exports)
                        }
                        _ => {
                            self.open = true;
                            Value::Unknown
                        }
                    };
                    (Sort::Instance, value)
                }
                Op::Lift => (Sort::Function, Value::Lifted),
                Op::Lower(function) => {
                    // Between two components the engine puts an adapter. It begins another instance for an adapter that
                    // needs one before it; between two of those, an instance of a module was made that has the first.
                    if matches!(self.get(frame, Sort::Function, *function), Value::Lifted) && !self.adapting {
                        self.adapting = true;
                        self.needs.core_instances = self.needs.core_instances.saturating_add(1);
                    }
                    continue;
                }
                Op::Core(module) => {
                    self.adapting = false;
                    match self.get(frame, Sort::Module, *module) {
                        Value::Module(needs) => self.needs.add(&needs),
                        _ => self.open = true,
                    }
                    continue;
                }
            };
            self.frames[frame].space(sort).push(value);
        }
        Ok(exports)
    }

    fn instance(&mut self, exports: Exports<'a>) -> Value {
        self.instances.push(exports);
        Value::Instance(self.instances.len() - 1)
    }

    fn named(&mut self, frame: usize, named: &[Named<'a>]) -> Result<Exports<'a>, Unread> {
        let mut found = Exports::new();
        for (name, sort, index) in named {
            self.look_up(name)?;
            found.insert(name, self.get(frame, *sort, *index));
        }
        Ok(found)
    }

    fn get(&mut self, frame: usize, sort: Sort, index: u32) -> Value {
        let frame = self.frames.get_mut(frame);
        frame.and_then(|frame| frame.space(sort).get(index as usize).copied()).unwrap_or(Value::Unknown)
    }
}
