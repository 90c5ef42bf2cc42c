//! The imports of `wasi:keyvalue` 0.2.0-draft2, by hand: how the component model's canonical ABI passes texts, lists and
//! results of them for these few functions.
//!
//! `shapes.bin` is what tells the linker of components their types: the world of `host/wit/deps/keyvalue.wit` with `store`
//! and `atomics`, as `wit_component::metadata::encode` writes it. A component that calls none of this imports none of it.
//!
//! What makes it sound: a result is read from an area as large and aligned as the type says, which the host has written by
//! then; what it points to was allocated by `cabi_realloc`, and is owned from there on.
#![allow(unsafe_code)]

/// Where a result is written: the largest takes 24 bytes, the strictest an alignment of 8.
#[repr(C, align(8))]
struct Area([u32; 6]);

#[allow(dead_code, reason = "the linker reads it")]
#[unsafe(link_section = "component-type:tidegate-sdk:keyvalue:0.2.0-draft2")]
static SHAPES: [u8; include_bytes!("shapes.bin").len()] = *include_bytes!("shapes.bin");

mod imports {
    #[link(wasm_import_module = "wasi:keyvalue/store@0.2.0-draft2")]
    unsafe extern "C" {
        pub(super) fn open(name: *const u8, len: usize, result: *mut u8);
        #[link_name = "[method]bucket.get"]
        pub(super) fn get(bucket: i32, key: *const u8, len: usize, result: *mut u8);
        #[link_name = "[method]bucket.set"]
        pub(super) fn set(
            bucket: i32,
            key: *const u8,
            len: usize,
            value: *const u8,
            value_len: usize,
            result: *mut u8,
        );
        #[link_name = "[method]bucket.delete"]
        pub(super) fn delete(bucket: i32, key: *const u8, len: usize, result: *mut u8);
        #[link_name = "[method]bucket.exists"]
        pub(super) fn exists(bucket: i32, key: *const u8, len: usize, result: *mut u8);
        #[link_name = "[method]bucket.list-keys"]
        pub(super) fn list_keys(bucket: i32, is_some: i32, cursor: *const u8, len: usize, result: *mut u8);
        #[link_name = "[resource-drop]bucket"]
        pub(super) safe fn drop_bucket(bucket: i32);
    }

    #[link(wasm_import_module = "wasi:keyvalue/atomics@0.2.0-draft2")]
    unsafe extern "C" {
        pub(super) fn increment(bucket: i32, key: *const u8, len: usize, delta: i64, result: *mut u8);
        #[link_name = "[static]cas.new"]
        pub(super) fn new_cas(bucket: i32, key: *const u8, len: usize, result: *mut u8);
        #[link_name = "[method]cas.current"]
        pub(super) fn current(cas: i32, result: *mut u8);
        pub(super) fn swap(cas: i32, value: *const u8, len: usize, result: *mut u8);
        #[link_name = "[resource-drop]cas"]
        pub(super) safe fn drop_cas(cas: i32);
    }
}

/// The draft's `error`.
#[derive(Debug)]
pub(super) enum Error {
    NoSuchStore,
    AccessDenied,
    Other(String),
}

type Result<T> = std::result::Result<T, Error>;

impl Area {
    /// Has an import write its result here.
    fn of(import: impl FnOnce(*mut u8)) -> Self {
        let mut area = Self([0; 6]);
        import((&raw mut area.0).cast());
        area
    }

    /// The byte that says which case it is, at a place that is aligned to four bytes.
    fn case(&self, at: usize) -> u8 {
        self.0[at / 4].to_le_bytes()[0]
    }

    fn number(&self, at: usize) -> u32 {
        self.0[at / 4]
    }

    /// The bytes of a list that stands here, which are ours from now on. Each place is taken once.
    fn bytes(&self, at: usize) -> Vec<u8> {
        // SAFETY: the callers name places where the host has written a list, or a text, of its own allocation.
        unsafe { owned(self.number(at), self.number(at + 4)) }
    }

    fn text(&self, at: usize) -> String {
        // The component model lets nothing else through.
        String::from_utf8(self.bytes(at)).unwrap_or_default()
    }

    /// An `error` that stands here.
    fn error(&self, at: usize) -> Error {
        match self.case(at) {
            0 => Error::NoSuchStore,
            1 => Error::AccessDenied,
            _ => Error::Other(self.text(at + 4)),
        }
    }

    /// A result whose payload begins at `at`.
    fn result<T>(&self, at: usize, ok: impl FnOnce(&Self) -> T) -> Result<T> {
        if self.case(0) == 0 { Ok(ok(self)) } else { Err(self.error(at)) }
    }

    /// An `option<list<u8>>` that stands here.
    fn maybe(&self, at: usize) -> Option<Vec<u8>> {
        (self.case(at) != 0).then(|| self.bytes(at + 4))
    }
}

/// # Safety
/// There are so many bytes at `ptr`, allocated for them by `cabi_realloc`, and nobody else's.
unsafe fn owned(ptr: u32, len: u32) -> Vec<u8> {
    let len = len as usize;
    if len == 0 {
        return Vec::new();
    }
    // SAFETY: the caller's promise; `cabi_realloc` is the global allocator's.
    unsafe { Vec::from_raw_parts(ptr as *mut u8, len, len) }
}

/// A bucket.
pub(super) struct Bucket(i32);

impl Drop for Bucket {
    fn drop(&mut self) {
        imports::drop_bucket(self.0);
    }
}

/// A compare-and-swap.
pub(super) struct Cas(i32);

impl Drop for Cas {
    fn drop(&mut self) {
        imports::drop_cas(self.0);
    }
}

/// A page of keys, with the cursor of the next one.
pub(super) struct Page {
    pub(super) keys: Vec<String>,
    pub(super) cursor: Option<String>,
}

/// Why a swap did not happen.
pub(super) enum NotSwapped {
    Error(Error),
    /// The value was not what it was.
    Changed,
}

impl Bucket {
    /// The one that a host gives without being asked for another. It is not inlined, so that the section with the shapes is
    /// linked wherever this is.
    #[inline(never)]
    pub(super) fn open() -> Result<Self> {
        let name = "default";
        // SAFETY: pointer and length are those of a text; the area takes the result.
        let area = Area::of(|to| unsafe { imports::open(name.as_ptr(), name.len(), to) });
        area.result(4, |area| Self(area.number(4).cast_signed()))
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        // SAFETY: as in `open`.
        let area = Area::of(|to| unsafe { imports::get(self.0, key.as_ptr(), key.len(), to) });
        area.result(4, |area| area.maybe(4))
    }

    pub(super) fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        // SAFETY: as in `open`.
        let area = Area::of(|to| unsafe {
            imports::set(self.0, key.as_ptr(), key.len(), value.as_ptr(), value.len(), to);
        });
        area.result(4, |_| ())
    }

    pub(super) fn delete(&self, key: &str) -> Result<()> {
        // SAFETY: as in `open`.
        let area = Area::of(|to| unsafe { imports::delete(self.0, key.as_ptr(), key.len(), to) });
        area.result(4, |_| ())
    }

    pub(super) fn exists(&self, key: &str) -> Result<bool> {
        // SAFETY: as in `open`.
        let area = Area::of(|to| unsafe { imports::exists(self.0, key.as_ptr(), key.len(), to) });
        area.result(4, |area| area.case(4) != 0)
    }

    pub(super) fn list_keys(&self, cursor: Option<&str>) -> Result<Page> {
        let (is_some, text) = (i32::from(cursor.is_some()), cursor.unwrap_or_default());
        // SAFETY: as in `open`.
        let area = Area::of(|to| unsafe {
            imports::list_keys(self.0, is_some, text.as_ptr(), text.len(), to);
        });
        area.result(4, |area| {
            // Each text is two numbers of four bytes.
            let (ptr, count) = (area.number(4), area.number(8) as usize);
            let mut keys = Vec::with_capacity(count);
            if count > 0 {
                // SAFETY: the host has allocated a list of so many pairs of numbers there, aligned as they are, and each
                // names the bytes of a text; all of it is ours.
                let list = unsafe { Vec::from_raw_parts(ptr as *mut [u32; 2], count, count) };
                // SAFETY: likewise.
                let key = |[ptr, len]: [u32; 2]| String::from_utf8(unsafe { owned(ptr, len) });
                keys.extend(list.into_iter().filter_map(|pair| key(pair).ok()));
            }
            let cursor = area.maybe(12).and_then(|cursor| String::from_utf8(cursor).ok());
            Page { keys, cursor }
        })
    }

    pub(super) fn increment(&self, key: &str, delta: i64) -> Result<i64> {
        // SAFETY: as in `open`.
        let area = Area::of(|to| unsafe { imports::increment(self.0, key.as_ptr(), key.len(), delta, to) });
        area.result(8, |area| {
            let [low, high] = [area.number(8), area.number(12)].map(u64::from);
            (low | high << 32).cast_signed()
        })
    }

    pub(super) fn cas(&self, key: &str) -> Result<Cas> {
        // SAFETY: as in `open`.
        let area = Area::of(|to| unsafe { imports::new_cas(self.0, key.as_ptr(), key.len(), to) });
        area.result(4, |area| Cas(area.number(4).cast_signed()))
    }
}

impl Cas {
    pub(super) fn current(&self) -> Result<Option<Vec<u8>>> {
        // SAFETY: the area takes the result.
        let area = Area::of(|to| unsafe { imports::current(self.0, to) });
        area.result(4, |area| area.maybe(4))
    }

    pub(super) fn swap(self, value: &[u8]) -> std::result::Result<(), NotSwapped> {
        let handle = self.0;
        // The import takes it over.
        std::mem::forget(self);
        // SAFETY: pointer and length are those of a slice; the area takes the result.
        let area = Area::of(|to| unsafe { imports::swap(handle, value.as_ptr(), value.len(), to) });
        match (area.case(0), area.case(4)) {
            (0, _) => Ok(()),
            (_, 0) => Err(NotSwapped::Error(area.error(8))),
            _ => {
                drop(Self(area.number(8).cast_signed()));
                Err(NotSwapped::Changed)
            }
        }
    }
}
