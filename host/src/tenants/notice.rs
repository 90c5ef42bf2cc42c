//! A page that stands for all apps while there is none to serve: `dev` shows what the compiler complains of, a first
//! start that it is one.

use std::fmt;

/// What is served instead of the apps. HTML for clients that prefer it, as browsers do, and plain text for the others.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    /// 200 to 599.
    pub(crate) status: u16,
    /// What it is called in answers, logs and metrics.
    pub(crate) code: &'static str,
    /// A whole document.
    pub(crate) html: String,
    pub(crate) text: String,
}

impl fmt::Debug for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notice").field("status", &self.status).finish_non_exhaustive()
    }
}
