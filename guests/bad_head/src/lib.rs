//! Tries to send a head with a line break in a value, past the SDK, which cannot say such a thing. The host sends nothing
//! of it; its client gets a 502.

use tidegate_abi::fields;

#[link(wasm_import_module = "tidegate_v1")]
unsafe extern "C" {
    fn respond(status: u32, head: *const u8, head_len: usize, body: *const u8, body_len: usize) -> i32;
}

#[unsafe(no_mangle)]
extern "C" fn tidegate_handle() -> i32 {
    let split: [(&[u8], &[u8]); 1] = [(b"x-split", b"a\r\nset-cookie: b=c")];
    let mut head = [0; 128];
    let Some(len) = fields::pack(split.into_iter(), &mut head) else { return 1 };
    // SAFETY: pointers and lengths are those of arrays that outlive the call, which only reads them.
    let result = unsafe { respond(200, head.as_ptr(), len, b"hi\n".as_ptr(), 3) };
    // 0 all the same: what is to be seen is what the host makes of a head that it refused.
    if result < 0 { 0 } else { 1 }
}
