//! The binary: everything is in the library behind it.

use std::process::ExitCode;

fn main() -> ExitCode {
    tidegate::cli::main()
}
