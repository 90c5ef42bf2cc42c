//! Goes through a parsed document and collects what is wrong, with the place of each.
//!
//! Nothing here stops at the first problem: a value that cannot be read is told and left at its default.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::keys::Key;
use crate::config::problem::{ConfigError, Problem, ValueError};
use crate::config::suggest::did_you_mean;
use crate::config::units::Given;

/// Problems that are told of one document. Nobody reads more, and to find the place of each goes through all of the text.
const PROBLEMS_MAX: usize = 100;

/// A value of the document and the bytes it stands at.
pub(super) type Value<'t> = Spanned<DeValue<'t>>;

pub(super) struct Walk<'w> {
    text: &'w str,
    file: &'w str,
    folder: &'w Path,
    /// With the byte each stands at, to be told in the order of the file.
    problems: Vec<(usize, Problem)>,
}

impl<'w> Walk<'w> {
    pub(super) fn new(text: &'w str, file: &'w str, folder: &'w Path) -> Self {
        Self { text, file, folder, problems: Vec::new() }
    }

    /// Where relative paths begin.
    pub(super) fn folder(&self) -> &'w Path {
        self.folder
    }

    pub(super) fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    /// All problems, in the order of the file.
    pub(super) fn finish(mut self) -> ConfigError {
        self.problems.sort_by_key(|(at, _)| *at);
        ConfigError { problems: self.problems.into_iter().map(|(_, problem)| problem).collect() }
    }

    pub(super) fn problem(&mut self, span: Range<usize>, error: ValueError) {
        if self.problems.len() >= PROBLEMS_MAX {
            return;
        }
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let place = format!("{}:{}:{column}", self.file, self.line(span.start));
        self.problems.push((span.start, error.at(place)));
    }

    /// The line of a byte, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
    }

    pub(super) fn table<'d, 't>(&mut self, value: &'d Value<'t>) -> Option<&'d DeTable<'t>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            let kind = value.get_ref().type_str();
            self.problem(value.span(), ValueError::new(format!("a table is expected here, not {kind}")));
        }
        table
    }

    /// Tells every key that is not known.
    pub(super) fn check_keys(&mut self, table: &DeTable<'_>, known: &[&str]) {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                let error = ValueError::new(format!("unknown key `{name}`"));
                self.problem(key.span(), error.help(did_you_mean(name, known.iter().copied())));
            }
        }
    }

    /// Reads the value of a key, when it is there.
    pub(super) fn read<V>(
        &mut self,
        table: &DeTable<'_>,
        key: &str,
        read: impl FnOnce(Given<'_>) -> Result<V, ValueError>,
    ) -> Option<V> {
        let value = table.get(key)?;
        match read(given(value)) {
            Ok(read) => Some(read),
            Err(error) => {
                let message = format!("{key}: {}", error.message);
                self.problem(value.span(), ValueError { message, ..error });
                None
            }
        }
    }

    /// The same for a reader that stores the value itself.
    pub(super) fn set(
        &mut self,
        table: &DeTable<'_>,
        key: &str,
        set: impl FnOnce(Given<'_>) -> Result<(), ValueError>,
    ) {
        let _ = self.read(table, key, set);
    }

    /// Reads a table of keyed settings.
    pub(super) fn keys<T>(&mut self, value: &Value<'_>, keys: &[Key<T>], target: &mut T) {
        let Some(table) = self.table(value) else { return };
        let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
        self.check_keys(table, &names);
        for key in keys {
            self.set(table, key.name, |given| (key.set)(target, given));
        }
    }

    /// The strings of a list that may not be empty, each with its place.
    pub(super) fn strings<'d>(&mut self, value: &'d Value<'_>) -> Vec<(Range<usize>, &'d str)> {
        let Some(array) = value.get_ref().as_array() else {
            let error =
                ValueError::new(format!("a list is expected here, not {}", value.get_ref().type_str()));
            let error = match value.get_ref().as_str() {
                Some(text) => error.help(format!("write `[\"{text}\"]`")),
                None => error,
            };
            self.problem(value.span(), error);
            return Vec::new();
        };
        if array.is_empty() {
            self.problem(value.span(), ValueError::new("the list is empty"));
        }
        let mut strings = Vec::new();
        for entry in array.iter() {
            match entry.get_ref().as_str() {
                Some(text) => strings.push((entry.span(), text)),
                None => {
                    let kind = entry.get_ref().type_str();
                    self.problem(
                        entry.span(),
                        ValueError::new(format!("a string is expected here, not {kind}")),
                    );
                }
            }
        }
        strings
    }
}

/// A value as the readers of settings take it.
fn given<'d>(value: &'d Value<'_>) -> Given<'d> {
    match value.get_ref() {
        DeValue::String(text) => Given::Text(text),
        DeValue::Integer(number) => {
            // Beyond 64 bits it is out of every range anyway.
            Given::Number(i64::from_str_radix(number.as_str(), number.radix()).unwrap_or(i64::MAX))
        }
        other => Given::Other(other.type_str()),
    }
}
