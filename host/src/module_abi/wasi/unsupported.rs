//! The rest of preview 1: there are no files and no sockets behind it.

use wasmtime::{Linker, Result};

use super::{Guest, MODULE, errno};
use crate::guest::cost::enter;
use crate::guest::state::GuestState;

/// Defines functions of the given parameters that return one error number.
macro_rules! refuse {
    ($linker:ident, $errno:expr; $($name:literal ($($ty:ty),*);)*) => {
        $($linker.func_wrap(MODULE, $name, |guest: Guest<'_>, $(_: $ty),*| -> Result<i32> {
            enter(guest.data())?;
            Ok($errno)
        })?;)*
    };
}

pub(super) fn add_to_linker(linker: &mut Linker<GuestState>) -> Result<()> {
    refuse! { linker, errno::BADF;
        "fd_advise" (i32, i64, i64, i32);
        "fd_allocate" (i32, i64, i64);
        "fd_datasync" (i32);
        "fd_fdstat_set_rights" (i32, i64, i64);
        "fd_filestat_set_size" (i32, i64);
        "fd_filestat_set_times" (i32, i64, i64, i32);
        "fd_pread" (i32, i32, i32, i64, i32);
        "fd_prestat_get" (i32, i32);
        "fd_prestat_dir_name" (i32, i32, i32);
        "fd_pwrite" (i32, i32, i32, i64, i32);
        "fd_readdir" (i32, i32, i32, i64, i32);
        "fd_renumber" (i32, i32);
        "fd_sync" (i32);
        "sock_accept" (i32, i32, i32);
        "sock_recv" (i32, i32, i32, i32, i32, i32);
        "sock_send" (i32, i32, i32, i32, i32);
        "sock_shutdown" (i32, i32);
    }
    refuse! { linker, errno::NOTCAPABLE;
        "path_create_directory" (i32, i32, i32);
        "path_filestat_get" (i32, i32, i32, i32, i32);
        "path_filestat_set_times" (i32, i32, i32, i32, i64, i64, i32);
        "path_link" (i32, i32, i32, i32, i32, i32, i32);
        "path_open" (i32, i32, i32, i32, i32, i64, i64, i32, i32);
        "path_readlink" (i32, i32, i32, i32, i32, i32);
        "path_remove_directory" (i32, i32, i32);
        "path_rename" (i32, i32, i32, i32, i32, i32);
        "path_symlink" (i32, i32, i32, i32, i32);
        "path_unlink_file" (i32, i32, i32);
        "proc_raise" (i32);
    }
    Ok(())
}
