//! `--name value` arguments with defaults: all that these programs need.

use std::env;
use std::fmt::Debug;
use std::str::FromStr;

use anyhow::{Context as _, bail};

/// The arguments of this program.
pub struct Args {
    pairs: Vec<(String, String)>,
    known: Vec<String>,
}

impl Args {
    /// Reads the command line.
    pub fn parse() -> anyhow::Result<Self> {
        Self::from(env::args().skip(1))
    }

    fn from(mut words: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut pairs = Vec::new();
        while let Some(word) = words.next() {
            let Some(name) = word.strip_prefix("--") else { bail!("{word:?}: expected --name value") };
            let value = words.next().with_context(|| format!("--{name} needs a value"))?;
            pairs.push((name.to_owned(), value));
        }
        Ok(Self { pairs, known: Vec::new() })
    }

    /// The value of `--name`, if it is there.
    pub fn optional<T>(&mut self, name: &str) -> anyhow::Result<Option<T>>
    where
        T: FromStr<Err: Debug>,
    {
        self.known.push(format!("--{name}"));
        let Some((_, text)) = self.pairs.iter().rev().find(|(n, _)| n == name) else { return Ok(None) };
        match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(error) => bail!("--{name} {text:?}: {error:?}"),
        }
    }

    /// The value of `--name`, or `default`.
    pub fn get<T>(&mut self, name: &str, default: T) -> anyhow::Result<T>
    where
        T: FromStr<Err: Debug>,
    {
        Ok(self.optional(name)?.unwrap_or(default))
    }

    /// Refuses what nobody asked for.
    pub fn done(self) -> anyhow::Result<()> {
        match self.pairs.iter().find(|(name, _)| !self.known.contains(&format!("--{name}"))) {
            Some((name, _)) => bail!("unknown: --{name}; there are {}", self.known.join(" ")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> anyhow::Result<Args> {
        Args::from(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn values_defaults_and_errors() {
        let mut given = args("--requests 5 --slow 2").unwrap();
        assert_eq!(given.get("requests", 1_u64).unwrap(), 5);
        assert_eq!(given.get("rounds", 3_u64).unwrap(), 3);
        assert!(given.done().is_err_and(|error| error.to_string().contains("--slow")));
        assert!(args("requests").is_err());
        assert!(args("--requests").is_err());
        assert!(args("--requests x").unwrap().get("requests", 1_u64).is_err());
    }
}
