//! The one engine that all workers share, and the settings that compiled code depends on.

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

/// The settings that compiled code depends on: the same in the server and in the child that compiles.
fn tunables() -> Config {
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
        .wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config
}

/// The engine that guests run on.
///
/// # Errors
/// The address space for the pools could not be reserved.
pub(crate) fn serving() -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_stacks(INSTANCES_MAX)
        .total_core_instances(INSTANCES_MAX)
        .total_memories(INSTANCES_MAX)
        .total_tables(INSTANCES_MAX * TABLES_PER_PLACE)
        .max_memories_per_module(MEMORIES_PER_MODULE_MAX)
        .max_tables_per_module(TABLES_PER_MODULE_MAX)
        .max_memory_size(4 << 30)
        .table_elements(TABLE_ELEMENTS_MAX)
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(MEMORY_KEEP_RESIDENT_BYTES)
        .table_keep_resident(TABLE_KEEP_RESIDENT_BYTES)
        .async_stack_keep_resident(STACK_KEEP_RESIDENT_BYTES);
    let mut config = tunables();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

/// The engine of the child that compiles: the same code comes out, nothing is reserved for running it.
///
/// # Errors
/// The settings are not valid on this machine.
pub(crate) fn compiling() -> wasmtime::Result<Engine> {
    Engine::new(&tunables())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_compiles_the_other_loads() {
        let compiler = compiling().unwrap();
        let server = serving().unwrap();
        let code = compiler.precompile_module(&wat::parse_str("(module)").unwrap()).unwrap();
        assert_eq!(Engine::detect_precompiled(&code), Some(wasmtime::Precompiled::Module));
        assert_eq!(
            compiler.precompile_compatibility_hash_value(),
            server.precompile_compatibility_hash_value()
        );
    }

    trait HashValue {
        fn precompile_compatibility_hash_value(&self) -> u64;
    }

    impl HashValue for Engine {
        fn precompile_compatibility_hash_value(&self) -> u64 {
            use std::hash::{DefaultHasher, Hash, Hasher};
            let mut hasher = DefaultHasher::new();
            self.precompile_compatibility_hash().hash(&mut hasher);
            hasher.finish()
        }
    }
}
