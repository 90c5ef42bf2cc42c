//! The bare mio+httparse loop, to be measured by hand: `baseline [--response FILE]`.

use std::path::PathBuf;

use anyhow::Context as _;
use tidegate_tests::bench::args::Args;
use tidegate_tests::bench::baseline;

fn main() -> anyhow::Result<()> {
    let mut args = Args::parse()?;
    let template = match args.optional::<PathBuf>("response")? {
        Some(path) => std::fs::read(&path).with_context(|| path.display().to_string())?,
        None => baseline::RESPONSE.to_vec(),
    };
    args.done()?;
    baseline::serve(template)
}
