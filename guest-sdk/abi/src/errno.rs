//! WASI errno values. An import returns them negative; [`crate::names::ERROR`] returns them as they are.

/// An errno of WASI preview 1.
pub type Errno = i32;

macro_rules! errnos {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        $(#[doc = $text] pub const $name: Errno = $value;)*

        /// The symbol and a short text, for messages.
        ///
        /// ```
        /// use tidegate_abi::errno::{EAGAIN, describe};
        ///
        /// assert_eq!(describe(EAGAIN).0, "EAGAIN");
        /// assert_eq!(describe(-1).0, "EUNKNOWN");
        /// ```
        #[must_use]
        pub const fn describe(errno: Errno) -> (&'static str, &'static str) {
            match errno {
                $($value => (stringify!($name), $text),)*
                _ => ("EUNKNOWN", "an error this version has no name for"),
            }
        }
    };
}

errnos! {
    SUCCESS = 0, "no error";
    EACCES = 2, "the app may not: its manifest has no rule for it";
    EADDRNOTAVAIL = 4, "no address of this machine leads there";
    EAFNOSUPPORT = 5, "this machine has no addresses of that family";
    EAGAIN = 6, "nothing to read yet, or no room to write yet: poll, then try again";
    EALREADY = 7, "done already: a second head, or a second finish";
    EBADF = 8, "no such handle, or not one for this direction";
    EBUSY = 10, "too much of its kind is under way: later";
    ECANCELED = 11, "the request was cancelled";
    ECONNABORTED = 13, "the response was aborted";
    ECONNREFUSED = 14, "nobody listens there";
    ECONNRESET = 15, "the peer is gone";
    EDQUOT = 19, "as much is used as may be: bytes through sockets, or the key-value store's quota";
    EFAULT = 21, "a pointer outside memory";
    EFBIG = 22, "more than the body's declared length, or than the body limit";
    EHOSTUNREACH = 23, "no way to that machine";
    EILSEQ = 25, "bytes that are not valid here: no number, or no text";
    EINVAL = 28, "an argument, name or value that is not valid";
    EIO = 29, "input or output failed";
    EMFILE = 33, "too many are open, or opened within a second";
    EMSGSIZE = 35, "too large for one call";
    ENETUNREACH = 40, "no way to that network";
    ENOENT = 44, "no such name or key";
    ENOSPC = 51, "no room left";
    ENOSYS = 52, "not offered by this host";
    ENOTSUP = 58, "not supported on this handle";
    EOVERFLOW = 61, "the sum does not fit into 64 bits";
    EPERM = 63, "not allowed";
    EPIPE = 64, "written after the end";
    EPROTO = 65, "called out of order: the response head comes first";
    ETIMEDOUT = 73, "the peer was too slow";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_value() {
        assert_eq!(describe(EAGAIN).0, "EAGAIN");
        assert_eq!(describe(EPIPE).0, "EPIPE");
        assert_eq!(describe(9999).0, "EUNKNOWN");
    }
}
