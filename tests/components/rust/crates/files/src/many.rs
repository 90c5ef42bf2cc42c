//! As many as the host gives: how many were had, and what it said then.

use wasip2::filesystem::types::{DescriptorFlags, OpenFlags};

use crate::Said;
use crate::raw::{name, open};

/// Far more than any host gives.
const ENOUGH: usize = 2_000;

fn count<T>(mut take: impl FnMut() -> Result<T, String>) -> Said {
    let mut had = Vec::new();
    while had.len() < ENOUGH {
        match take() {
            Ok(one) => had.push(one),
            Err(error) => return Ok(format!("{} and {error}", had.len()).into_bytes()),
        }
    }
    Ok(format!("{} and no end", had.len()).into_bytes())
}

/// Streams are left open beside them, so that a file is not closed with its descriptor.
pub(crate) fn files(path: &str) -> Said {
    let first = open(path, OpenFlags::empty(), DescriptorFlags::READ)?;
    let stream = first.read_via_stream(0).map_err(name)?;
    drop(first);
    let said = count(|| open(path, OpenFlags::empty(), DescriptorFlags::READ));
    drop(stream);
    said
}

pub(crate) fn streams(path: &str) -> Said {
    let file = open(path, OpenFlags::empty(), DescriptorFlags::READ)?;
    count(|| file.read_via_stream(0).map_err(name))
}

pub(crate) fn listings(path: &str) -> Said {
    let folder = open(path, OpenFlags::DIRECTORY, DescriptorFlags::READ)?;
    count(|| folder.read_directory().map_err(name))
}
