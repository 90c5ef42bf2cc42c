//! `tidegate compile`, hidden: the child process that the server starts to compile a module under limits.

use super::Failure;

pub(super) fn run() -> Result<(), Failure> {
    Ok(crate::guest::compile::compile_child()?)
}
