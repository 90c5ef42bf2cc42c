//! Every input of every corpus, and the wire vectors, through the bodies of the fuzz targets: what was found once stays
//! found.
//!
//! `TIDEGATE_FUZZ_ROUNDS=N` damages each input so many times besides: a little fuzzing where there is no libFuzzer. A
//! failure prints the input.

use std::any::Any;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tidegate_fuzz_bodies::{Body, TARGETS};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a folder that can be listed").path()).collect();
    files.sort();
    files
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words")
}

fn body(target: &str) -> Body {
    TARGETS.iter().find(|(name, _)| *name == target).unwrap_or_else(|| panic!("no target {target}")).1
}

fn rounds() -> u64 {
    let Ok(text) = std::env::var("TIDEGATE_FUZZ_ROUNDS") else { return 0 };
    text.parse().unwrap_or_else(|_| panic!("TIDEGATE_FUZZ_ROUNDS={text} is not a number"))
}

/// Numbers out of a seed (an xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % n.max(1)
    }
}

/// `input` with some bytes changed, dropped, said again, or taken from another one.
fn damaged(input: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut input = input.to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(input.len() + 1);
        let end = (at + dice.below(12)).min(input.len());
        match dice.below(5) {
            0 if at < input.len() => input[at] = u8::try_from(dice.below(256)).expect("a byte"),
            1 if at < input.len() => input[at] ^= 1 << dice.below(8),
            2 => drop(input.drain(at..end)),
            3 => {
                let again = input[at..end].to_vec();
                input.splice(at..at, again);
            }
            _ => {
                let from = dice.below(other.len() + 1);
                let to = (from + dice.below(24)).min(other.len());
                input.splice(at..at, other[from..to].iter().copied());
            }
        }
    }
    input
}

/// One target's corpus; all inputs that fail are named, not the first alone.
fn replay(target: &str) {
    let (body, folder) = (body(target), folder().join("corpus").join(target));
    let files = files(&folder);
    assert!(files.len() > 3, "{}: a corpus of {} inputs shows nothing", folder.display(), files.len());
    let read = |file: &PathBuf| fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let inputs: Vec<_> = files.iter().map(read).collect();
    let mut failed = Vec::new();
    let mut try_one = |named: String, input: &[u8]| {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(input))) {
            failed.push(format!("{named}: {}", said(&*panic)));
        }
    };
    for (file, input) in files.iter().zip(&inputs) {
        try_one(name(file), input);
    }
    for round in 1..=rounds() {
        let mut dice = Dice(round.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for input in &inputs {
            let other = &inputs[dice.below(inputs.len())];
            let input = damaged(input, other, &mut dice);
            try_one(format!("b\"{}\"", input.escape_ascii()), &input);
        }
    }
    assert!(failed.is_empty(), "{} failures of {target}:\n{}", failed.len(), failed.join("\n"));
}

macro_rules! corpora {
    ($($target:ident)*) => {
        $(
            #[test]
            fn $target() {
                replay(stringify!($target));
            }
        )*

        /// A target that nobody replays, or that has no program for libFuzzer, would be none.
        #[test]
        fn every_target_has_a_corpus_and_a_program() {
            let mut known: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
            known.sort();
            let mut replayed = vec![$(stringify!($target).to_owned()),*];
            replayed.sort();
            assert_eq!(replayed, known);
            assert_eq!(files(&folder().join("corpus")).iter().map(|path| name(path)).collect::<Vec<_>>(), known);
            let programs = files(&folder().join("targets"));
            let programs: Vec<_> =
                programs.iter().map(|path| name(path).trim_end_matches(".rs").to_owned()).collect();
            assert_eq!(programs, known);
            let manifest = fs::read_to_string(folder().join("Cargo.toml")).expect("the manifest of the programs");
            for target in &known {
                let line = format!("path = \"targets/{target}.rs\"");
                assert_eq!(manifest.matches(&line).count(), 1, "{target} in tests/fuzz/Cargo.toml");
            }
        }
    };
}

corpora!(anatomy chunks connection forwarded manifest preamble response router target);

#[derive(Deserialize)]
struct Vectors {
    case: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    input: toml::Value,
}

#[test]
fn wire_vectors_of_requests_through_the_connection() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../host/proto/tests/vectors/http1.toml");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let vectors: Vectors =
        toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let texts: Vec<_> = vectors.case.iter().filter_map(|case| case.input.as_str()).collect();
    assert!(texts.len() > 100, "{} inputs", texts.len());
    let connection = body("connection");
    for text in texts {
        let wire: Vec<u8> = text.chars().map(|c| u8::try_from(c).expect("a byte")).collect();
        // Each way to read and to answer, with and without bounds.
        for (reads, held, narrow) in [(0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0), (2, 0, 0), (2, 1, 1)] {
            connection(&[&[reads, held, 0, narrow, 7], wire.as_slice()].concat());
        }
    }
}
