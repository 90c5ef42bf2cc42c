//! The binary carries the SDK and the templates of `tidegate new`. Each file is followed by the compiler, a new one is
//! not: cargo looks at the folders here.

fn main() {
    for path in ["templates", "../guest-sdk", "../Cargo.toml"] {
        println!("cargo::rerun-if-changed={path}");
    }
}
