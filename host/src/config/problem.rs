//! What is wrong with a setting, said to the person who wrote it: the place, the fault, and a way out.

use std::fmt;

/// Why a value cannot be used. Whoever asked knows where the value stood and makes a [`Problem`] of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError {
    /// What is wrong, as a clause in lower case.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl ValueError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None }
    }

    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// The problem of this value at a place.
    pub(crate) fn at(self, place: impl Into<String>) -> Problem {
        Problem { place: Some(place.into()), message: self.message, help: self.help }
    }
}

impl From<ValueError> for Problem {
    fn from(error: ValueError) -> Self {
        Self { place: None, message: error.message, help: error.help }
    }
}

/// One thing that is wrong with a manifest or a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `FILE:LINE:COLUMN`, or the flag.
    pub place: Option<String>,
    /// What is wrong, as a clause in lower case.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl fmt::Display for Problem {
    /// `error: PLACE: MESSAGE`, and a line `help: ...` where there is one. What stands in it may be anything a file
    /// or a command line holds, so control characters are shown and not sent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("error: ")?;
        if let Some(place) = &self.place {
            write!(f, "{}: ", escaped(place))?;
        }
        f.write_str(&escaped(&self.message))?;
        if let Some(help) = &self.help {
            write!(f, "\nhelp: {}", escaped(help))?;
        }
        Ok(())
    }
}

/// Everything found wrong at once. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// In the order of the file.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    /// One problem with a flag, or of no place at all.
    pub(crate) fn one(problem: impl Into<Problem>) -> Self {
        Self { problems: vec![problem.into()] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.problems.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Text with its control characters escaped, apart from the line feeds of a message that has several lines.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && character != '\n' {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_shown_as_error_and_help() {
        let first = ValueError::new("no `\u{1b}[2J`").help("write `b`").at("x.toml:1:2");
        let second = Problem::from(ValueError::new("two"));
        let error = ConfigError { problems: vec![first, second] };
        assert_eq!(error.to_string(), "error: x.toml:1:2: no `\\u{1b}[2J`\nhelp: write `b`\nerror: two");
    }
}
