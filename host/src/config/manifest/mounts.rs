//! The `mounts` of an app.

use super::Purpose;
use super::walk::{Value, Walk};
use crate::config::mount::Mount;
use crate::config::problem::ValueError;

const EXAMPLE: &str = "as in `mounts = [{ host = \"./public\", guest = \"/public\" }]`";

/// Reads a list of tables, each a mount.
pub(super) fn read(walk: &mut Walk<'_>, value: &Value<'_>, purpose: Purpose) -> Vec<Mount> {
    let Some(array) = value.get_ref().as_array() else {
        let message = format!("a list is expected here, not {}", value.get_ref().type_str());
        walk.problem(value.span(), ValueError::new(message).help(EXAMPLE));
        return Vec::new();
    };
    let mut mounts = Vec::new();
    for value in array.iter() {
        let Some(mount) = mount(walk, value, purpose) else { continue };
        if let Err(error) = mount.add_to(&mut mounts) {
            walk.problem(value.span(), error);
        }
    }
    mounts
}

fn mount(walk: &mut Walk<'_>, value: &Value<'_>, purpose: Purpose) -> Option<Mount> {
    let table = walk.table(value)?;
    walk.check_keys(table, &["host", "guest", "write"]);
    for key in ["host", "guest"] {
        if !table.contains_key(key) {
            walk.problem(value.span(), ValueError::new(format!("the mount has no `{key}`")).help(EXAMPLE));
        }
    }
    let write = match table.get("write") {
        None => false,
        Some(value) => value.get_ref().as_bool().unwrap_or_else(|| {
            walk.problem(value.span(), ValueError::new("`true` or `false` is expected here"));
            false
        }),
    };
    let guest = walk.read(table, "guest", |given| Mount::check_guest(given.text()?));
    let folder = walk.folder();
    let host = walk.read(table, "host", |given| {
        let host = Mount::check_host_path(given.text()?)?;
        let mount = Mount { host, guest: String::new(), write }.relative_to(folder);
        if purpose == Purpose::Serve {
            mount.check_host()?;
        }
        Ok(mount)
    });
    Some(Mount { guest: guest?, ..host? })
}
