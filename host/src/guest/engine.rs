//! The one engine that all workers share, and the settings that compiled code depends on.

use std::num::NonZeroUsize;

use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    WasmBacktraceDetails,
};

/// Stacks, memories and instances that may be in use at once, over all workers and apps.
pub(crate) const INSTANCES_MAX: u32 = 1_000;
/// Linear memories of one module.
pub(crate) const MEMORIES_PER_MODULE_MAX: u32 = 8;
/// Tables of one module.
pub(crate) const TABLES_PER_MODULE_MAX: u32 = 16;
/// Tables that come with a place in the pools; a module with more takes more places.
pub(crate) const TABLES_PER_PLACE: u32 = 4;
/// Core instances that come with a place in the pools: a component has several, one of Python fourteen.
pub(crate) const CORE_INSTANCES_PER_PLACE: u32 = 16;
/// Bytes of the engine's own state of a component: it grows with what the component imports.
const COMPONENT_BYTES_MAX: usize = 4 << 20;
/// Elements of one table; apps may set less.
pub(crate) const TABLE_ELEMENTS_MAX: usize = 20_000;
/// Stack that WebAssembly may use of a fiber's; the rest is for host calls.
const WASM_STACK_BYTES_MAX: usize = 512 * 1024;
/// A fiber's stack.
const FIBER_STACK_BYTES: usize = 2 * 1024 * 1024;
/// Bytes of a memory that a reset leaves mapped and clears by hand, where the kernel can tell what was written.
const MEMORY_KEEP_RESIDENT_BYTES: usize = 64 * 1024;
/// Likewise for a fiber's stack.
const STACK_KEEP_RESIDENT_BYTES: usize = 64 * 1024;
/// Likewise for a table.
const TABLE_KEEP_RESIDENT_BYTES: usize = 64 * 1024;

/// Frames of a backtrace: in dev many of them are not shown, as they are not the guest's own.
const FRAMES_MAX: Option<NonZeroUsize> = NonZeroUsize::new(20);
const FRAMES_MAX_DEV: Option<NonZeroUsize> = NonZeroUsize::new(45);

/// Whom a server is for. Code that was compiled for one is not loaded by the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The public: nothing of a guest's inside is told, and nothing for that is kept.
    Production,
    /// The author of the guest: the debug information of modules is kept, so that backtraces name files and lines.
    Dev,
}

impl Mode {
    /// `Dev` if `dev`.
    pub(crate) fn of(dev: bool) -> Self {
        if dev { Self::Dev } else { Self::Production }
    }
}

/// The settings that compiled code depends on: the same in the server and in the child that compiles.
fn tunables(mode: Mode) -> Config {
    let (details, frames) = match mode {
        Mode::Production => (WasmBacktraceDetails::Disable, FRAMES_MAX),
        Mode::Dev => (WasmBacktraceDetails::Enable, FRAMES_MAX_DEV),
    };
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .concurrency_support(false)
        .cranelift_opt_level(OptLevel::Speed)
        .memory_reservation(4 << 30)
        .memory_guard_size(32 << 20)
        .memory_init_cow(true)
        .max_wasm_stack(WASM_STACK_BYTES_MAX)
        .async_stack_size(FIBER_STACK_BYTES)
        .wasm_backtrace_details(details)
        .wasm_backtrace_max_frames(frames);
    config
}

/// The engine that guests run on.
///
/// # Errors
/// The address space for the pools could not be reserved.
pub(crate) fn serving(mode: Mode) -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_stacks(INSTANCES_MAX)
        .total_core_instances(INSTANCES_MAX * CORE_INSTANCES_PER_PLACE)
        .total_component_instances(INSTANCES_MAX)
        .max_component_instance_size(COMPONENT_BYTES_MAX)
        .total_memories(INSTANCES_MAX)
        .total_tables(INSTANCES_MAX * TABLES_PER_PLACE)
        .max_memories_per_module(MEMORIES_PER_MODULE_MAX)
        .max_tables_per_module(TABLES_PER_MODULE_MAX)
        .max_memories_per_component(MEMORIES_PER_MODULE_MAX)
        .max_tables_per_component(TABLES_PER_MODULE_MAX)
        .max_memory_size(4 << 30)
        .table_elements(TABLE_ELEMENTS_MAX)
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(MEMORY_KEEP_RESIDENT_BYTES)
        .table_keep_resident(TABLE_KEEP_RESIDENT_BYTES)
        .async_stack_keep_resident(STACK_KEEP_RESIDENT_BYTES);
    let mut config = tunables(mode);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

/// The engine of the child that compiles: the same code comes out, nothing is reserved for running it.
///
/// # Errors
/// The settings are not valid on this machine.
pub(crate) fn compiling(mode: Mode) -> wasmtime::Result<Engine> {
    Engine::new(&tunables(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_compiles_the_other_loads() {
        for mode in [Mode::Production, Mode::Dev] {
            let compiler = compiling(mode).unwrap();
            let server = serving(mode).unwrap();
            let code = compiler.precompile_module(&wat::parse_str("(module)").unwrap()).unwrap();
            assert_eq!(Engine::detect_precompiled(&code), Some(wasmtime::Precompiled::Module));
            assert_eq!(compatibility(&compiler), compatibility(&server));
        }
    }

    #[test]
    fn code_for_authors_is_other_code() {
        let [production, dev] = [Mode::Production, Mode::Dev].map(|mode| compiling(mode).unwrap());
        assert_ne!(compatibility(&production), compatibility(&dev));
    }

    fn compatibility(engine: &Engine) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        hasher.finish()
    }
}
