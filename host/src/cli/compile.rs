//! `tidegate compile`, hidden: the child process that the server starts to compile a module under limits.

use super::Failure;
use super::args::CompileArgs;

pub(super) fn run(args: &CompileArgs) -> Result<(), Failure> {
    Ok(crate::guest::compile::compile_child(args.parent, args.dev)?)
}
