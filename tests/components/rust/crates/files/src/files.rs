//! Files as `std` has them.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};

use crate::Said;

pub(crate) fn name(error: io::Error) -> String {
    format!("{:?}", error.kind())
}

pub(crate) fn done(result: io::Result<()>) -> Said {
    result.map(|()| b"ok".to_vec()).map_err(name)
}

pub(crate) fn read(path: &str) -> Said {
    fs::read(path).map_err(name)
}

/// The names in a folder, in order.
pub(crate) fn list(path: &str) -> Said {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(name)? {
        names.push(entry.map_err(name)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names.join(" ").into_bytes())
}

pub(crate) fn write(path: &str) -> Said {
    done(fs::write(path, "written"))
}

pub(crate) fn append(path: &str) -> Said {
    let file = OpenOptions::new().append(true).open(path);
    done(file.and_then(|mut file| file.write_all(b" and more")))
}

pub(crate) fn remove(path: &str) -> Said {
    done(fs::remove_file(path))
}

/// `FROM,TO`.
pub(crate) fn rename(paths: &str) -> Said {
    let (from, to) = paths.split_once(',').ok_or("no comma")?;
    done(fs::rename(from, to))
}

pub(crate) fn make_folder(path: &str) -> Said {
    done(fs::create_dir(path))
}

pub(crate) fn size(path: &str) -> Said {
    fs::metadata(path).map(|meta| meta.len().to_string().into_bytes()).map_err(name)
}

/// Reads a file until somebody puts an end to it.
pub(crate) fn again(path: &str) -> Said {
    loop {
        fs::read(path).map_err(name)?;
    }
}
