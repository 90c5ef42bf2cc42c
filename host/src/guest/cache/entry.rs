//! What an entry is called, and what proves that it is as it was written.

use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io;
use std::os::unix::fs::FileExt;

use wasmtime::Engine;

use super::folder::FolderError;

/// What an entry is called after: this format, this version of tidegate, the engine's settings, the module.
const ID_CONTEXT: &str = "tidegate 2026-11-20 ids of compiled guests";
/// Begins a trailer. The last byte is the version of the format.
const MAGIC: [u8; 8] = *b"tgcache\x01";
/// Bytes that are read at once.
const BLOCK_BYTES: usize = 128 * 1024;
/// Bytes of a trailer before its seal.
const HEAD_BYTES: usize = MAGIC.len() + blake3::OUT_LEN;
/// Bytes of a trailer.
pub(super) const TRAILER_BYTES: usize = HEAD_BYTES + blake3::OUT_LEN;

/// What an entry holds: one guest, compiled for one kind of engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryId(blake3::Hash);

impl EntryId {
    /// The entry, for `engine`, of the guest whose bytes have this hash.
    pub(crate) fn new(engine: &Engine, wasm: &blake3::Hash) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(ID_CONTEXT);
        hasher.update(&MAGIC);
        hasher.update(env!("CARGO_PKG_VERSION").as_bytes());
        engine.precompile_compatibility_hash().hash(&mut Bytes(&mut hasher));
        // Of one length: it stays apart from what is before it.
        hasher.update(wasm.as_bytes());
        Self(hasher.finalize())
    }

    /// Its file's name.
    pub(super) fn name(&self) -> String {
        self.0.to_hex().to_string()
    }
}

/// True for what [`EntryId::name`] makes.
pub(super) fn is_name(name: &str) -> bool {
    name.len() == 2 * blake3::OUT_LEN && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Takes what is hashed as bytes, all of them: a hash of 64 bits would be too small to trust.
struct Bytes<'a>(&'a mut blake3::Hasher);

impl Hasher for Bytes<'_> {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Not what anybody asks for.
    fn finish(&self) -> u64 {
        0
    }
}

/// Why an entry is not loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Defect {
    /// Not a file that only we write.
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("it can not be read: {0}")]
    Read(#[from] io::Error),
    #[error("it is too short")]
    Short,
    #[error("it is not of this format")]
    Format,
    #[error("it is the entry of another module")]
    Other,
    #[error("its seal does not fit: it was changed, or written with another key")]
    Seal,
}

/// Seals entries, and verifies seals.
pub(super) struct Seal([u8; blake3::KEY_LEN]);

impl std::fmt::Debug for Seal {
    /// Not the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal")
    }
}

impl Seal {
    pub(super) fn new(key: &[u8; blake3::KEY_LEN]) -> Self {
        Self(*key)
    }

    /// What stands behind `code` in the entry `id`.
    pub(super) fn trailer(&self, id: &EntryId, code: &[u8]) -> [u8; TRAILER_BYTES] {
        let mut trailer = [0; TRAILER_BYTES];
        let (head, seal) = trailer.split_at_mut(HEAD_BYTES);
        head[..MAGIC.len()].copy_from_slice(&MAGIC);
        head[MAGIC.len()..].copy_from_slice(id.0.as_bytes());
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(code).update(head);
        seal.copy_from_slice(hasher.finalize().as_bytes());
        trailer
    }

    /// Reads an entry to its end.
    pub(super) fn verify(&self, file: &File, id: &EntryId) -> Result<(), Defect> {
        let len = file.metadata()?.len();
        let code_len = len.checked_sub(TRAILER_BYTES as u64).filter(|len| *len > 0).ok_or(Defect::Short)?;
        let mut trailer = [0; TRAILER_BYTES];
        file.read_exact_at(&mut trailer, code_len)?;
        let (head, seal) = trailer.split_at(HEAD_BYTES);
        let (magic, of) = head.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(Defect::Format);
        }
        if of != id.0.as_bytes() {
            return Err(Defect::Other);
        }
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        let mut block = vec![0; BLOCK_BYTES.min(usize::try_from(code_len).unwrap_or(BLOCK_BYTES))];
        let mut at = 0;
        while at < code_len {
            let wanted = usize::try_from(code_len - at).unwrap_or(BLOCK_BYTES).min(BLOCK_BYTES);
            file.read_exact_at(&mut block[..wanted], at)?;
            hasher.update(&block[..wanted]);
            at += wanted as u64;
        }
        // Compared in constant time.
        if hasher.update(head).finalize() == *seal { Ok(()) } else { Err(Defect::Seal) }
    }
}
