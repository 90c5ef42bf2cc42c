//! When something that matters has changed.
//!
//! What the system tells is taken as a hint to look, and no more: editors write aside and rename, save twice, delete and
//! create again, and all of it comes down to files that are not what they were. So the truth is a [`Snapshot`], taken
//! again after each hint once it is quiet, or twice a second where nobody tells.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::{self, DirEntry, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};

use crate::observe::log::say;

/// So long nothing must happen before it counts as quiet.
const QUIET: Duration = Duration::from_millis(60);
/// Who never is quiet is looked at all the same.
const QUIET_MAX: Duration = Duration::from_millis(500);
/// Between two looks where nobody tells.
const POLL: Duration = Duration::from_millis(500);

/// What wakes a `dev` that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// It may be worth while to look.
    Hint,
    /// A signal came.
    Stop,
}

/// What is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Roots {
    /// Folders with all that is below them, and single files. What is not there yet may come.
    pub(super) paths: Vec<PathBuf>,
    /// Files and folders below `paths` that never count: what the build makes, and what is written while it is served.
    pub(super) made: Vec<PathBuf>,
    /// The same, by whatever path.
    pub(super) apart: BTreeSet<Id>,
}

impl Roots {
    /// Whether a file, or a folder with all that is below it, never counts.
    fn leaves_out(&self, path: &Path, meta: &Metadata) -> bool {
        self.apart.contains(&Id::of(meta)) || self.made.iter().any(|made| made == path)
    }
}

/// What a file or folder is, by whatever path: its device and its inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id(u64, u64);

impl Id {
    pub(super) fn of(meta: &Metadata) -> Self {
        Self(meta.dev(), meta.ino())
    }
}

/// A file's identity and state, as far as they show without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    len: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self { inode: meta.ino(), len: meta.len(), modified: (meta.mtime(), meta.mtime_nsec()) }
    }
}

/// All files that count, as they were at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot(BTreeMap<PathBuf, Stamp>);

impl Snapshot {
    /// What came, went or changed between this one and a later one.
    pub(super) fn changes(&self, later: &Self) -> BTreeSet<PathBuf> {
        let gone = self.0.keys().filter(|path| !later.0.contains_key(*path));
        let new =
            later.0.iter().filter(|(path, stamp)| self.0.get(*path) != Some(stamp)).map(|(path, _)| path);
        gone.chain(new).cloned().collect()
    }
}

/// What waiting came to.
#[derive(Debug)]
pub(super) enum Waited {
    /// How things are now, and when the first hint came.
    Changed(Snapshot, Instant),
    /// Nothing has changed for as long as was asked.
    Quiet,
    /// A signal came.
    Stopped,
}

/// Looks at files, and has the system tell when to.
pub(super) struct Watch {
    roots: Roots,
    /// None: nobody tells.
    watcher: Option<RecommendedWatcher>,
    /// The folders that the system tells about, by inode: one that is made anew is another.
    folders: HashMap<PathBuf, u64>,
    inbox: Receiver<Event>,
    /// Set while a hint is on its way, so that there is one of them and not thousands.
    hinted: Arc<AtomicBool>,
}

impl Watch {
    /// Hints go through `events` into `inbox`, where others may send [`Event::Stop`].
    pub(super) fn new(events: Sender<Event>, inbox: Receiver<Event>, poll: bool) -> Self {
        let hinted = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&hinted);
        let tell = move |event: notify::Result<notify::Event>| {
            // Who only reads changes nothing, and a compiler reads a lot. An error is worth a look.
            let matters = event.map_or(true, |event| !event.kind.is_access());
            if matters && !flag.swap(true, Ordering::AcqRel) {
                // Nobody waits any more: it ends.
                let _ = events.send(Event::Hint);
            }
        };
        let mut watch =
            Self { roots: Roots::default(), watcher: None, folders: HashMap::new(), inbox, hinted };
        if !poll {
            match notify::recommended_watcher(tell) {
                Ok(watcher) => watch.watcher = Some(watcher),
                Err(error) => watch.fall_back(&error),
            }
        }
        watch
    }

    /// Goes on without being told.
    fn fall_back(&mut self, error: &notify::Error) {
        say(format_args!(
            "note: the system does not tell of changes ({error}): looking for them every {} ms",
            POLL.as_millis()
        ));
        self.watcher = None;
        self.folders.clear();
    }

    /// From now on these files count. `before` is how those that counted until now were at last; the answer is how things
    /// are, and what changed since then among them. A file that did not count has not changed.
    pub(super) fn widen(&mut self, roots: Roots, before: Snapshot) -> (Snapshot, BTreeSet<PathBuf>) {
        if roots == self.roots {
            return (before, BTreeSet::new());
        }
        let old = std::mem::replace(&mut self.roots, roots);
        let now = self.look();
        let counted = |path: &PathBuf| {
            before.0.contains_key(path) || old.paths.iter().any(|root| path.starts_with(root))
        };
        // What is there and was not seen is left out by now; it did not go.
        let counts = |path: &PathBuf| {
            self.roots.paths.iter().any(|root| path.starts_with(root))
                && (now.0.contains_key(path) || !path.exists())
        };
        let changed = before.changes(&now).into_iter().filter(|path| counted(path) && counts(path)).collect();
        (now, changed)
    }

    /// How things are now. Every folder is put under watch before it is read, so that nothing falls in between.
    pub(super) fn look(&mut self) -> Snapshot {
        let roots = self.roots.clone();
        let mut seen = Seen {
            roots: &roots,
            snapshot: Snapshot::default(),
            folders: HashSet::new(),
            read: HashSet::new(),
        };
        for path in &roots.paths {
            if !path.is_dir() {
                self.above(path, &mut seen);
            }
            match fs::metadata(path) {
                Ok(meta) if meta.is_dir() => self.folder(path, &mut seen),
                Ok(meta) => seen.file(path, &meta),
                Err(_) => {}
            }
        }
        let gone: Vec<PathBuf> =
            self.folders.keys().filter(|path| !seen.folders.contains(*path)).cloned().collect();
        for path in gone {
            self.folders.remove(&path);
            // It is gone from the system's list already if the folder is.
            let _ = self.watcher.as_mut().map(|watcher| watcher.unwatch(&path));
        }
        seen.snapshot
    }

    /// Files are renamed into place: their folder is what tells. Where that is gone, too, as when a project is moved away
    /// and back, the nearest one above it tells that it comes again.
    fn above(&mut self, path: &Path, seen: &mut Seen<'_>) {
        loop {
            let mut folders = path.ancestors().skip(1).map(or_here);
            let there =
                |folder| fs::metadata(folder).ok().filter(Metadata::is_dir).map(|meta| (folder, meta));
            let Some((folder, meta)) = folders.find_map(there) else { return };
            if !seen.folders.insert(folder.to_path_buf()) {
                return;
            }
            self.tell_about(folder, &meta);
            // A nearer one may have come before this was told about.
        }
    }

    fn folder(&mut self, folder: &Path, seen: &mut Seen<'_>) {
        let Ok(meta) = fs::metadata(folder) else { return };
        if !seen.read.insert(folder.to_path_buf()) {
            return;
        }
        seen.folders.insert(folder.to_path_buf());
        self.tell_about(folder, &meta);
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && counts_as_folder(&entry) => {
                    let (path, meta) = (entry.path(), entry.metadata());
                    // Which are there because they were named are another matter.
                    if !meta.is_ok_and(|meta| seen.roots.leaves_out(&path, &meta)) {
                        self.folder(&path, seen);
                    }
                }
                Ok(kind) if !kind.is_dir() && counts_as_file(&entry) => {
                    if let Ok(meta) = fs::metadata(entry.path()) {
                        seen.file(&entry.path(), &meta);
                    }
                }
                _ => {}
            }
        }
    }

    /// Has the system tell about a folder.
    fn tell_about(&mut self, folder: &Path, meta: &Metadata) {
        let Some(watcher) = self.watcher.as_mut() else { return };
        if self.folders.get(folder) == Some(&meta.ino()) {
            return;
        }
        if self.folders.insert(folder.to_path_buf(), meta.ino()).is_some() {
            // The folder of this name that was watched is another one, and gone.
            let _ = watcher.unwatch(folder);
        }
        match watcher.watch(folder, RecursiveMode::NonRecursive) {
            Ok(()) => {}
            // It went away meanwhile; the folder around it tells.
            Err(_) if !folder.exists() => {
                self.folders.remove(folder);
            }
            Err(error) => self.fall_back(&error),
        }
    }

    /// Waits until something is not as it was in `before`, for so long at most.
    pub(super) fn wait(&mut self, before: &Snapshot, within: Option<Duration>) -> Waited {
        let deadline = within.map(|within| Instant::now() + within);
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let next = self.watcher.is_none().then_some(POLL).into_iter().chain(left).min();
            let event = match next {
                Some(next) => self.inbox.recv_timeout(next),
                None => self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let since = Instant::now();
            match event {
                Ok(Event::Hint) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return Waited::Stopped,
            }
            if event.is_ok() && !self.settle(since) {
                return Waited::Stopped;
            }
            let now = self.look();
            if !before.changes(&now).is_empty() {
                return Waited::Changed(now, since);
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Waited::Quiet;
            }
        }
    }

    /// Waits until it is quiet. False: a signal came.
    fn settle(&self, since: Instant) -> bool {
        loop {
            self.hinted.store(false, Ordering::Release);
            let left = QUIET_MAX.saturating_sub(since.elapsed());
            if left.is_zero() {
                return true;
            }
            match self.inbox.recv_timeout(QUIET.min(left)) {
                Ok(Event::Hint) => {}
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => return true,
            }
        }
    }
}

/// An empty path is the current folder to us, and an error to the system.
fn or_here(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

/// A snapshot in the making.
struct Seen<'r> {
    snapshot: Snapshot,
    /// The folders that tell.
    folders: HashSet<PathBuf>,
    /// Those of them that were read with all that is below.
    read: HashSet<PathBuf>,
    roots: &'r Roots,
}

impl Seen<'_> {
    fn file(&mut self, path: &Path, meta: &Metadata) {
        if !self.roots.leaves_out(path, meta) {
            self.snapshot.0.insert(path.to_path_buf(), Stamp::of(meta));
        }
    }
}

/// What tools keep for themselves is no source: caches (which carry a tag), repositories, other people's packages.
fn counts_as_folder(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let name = name.to_string_lossy();
    let hidden = name.starts_with('.') && name != ".cargo";
    !hidden && name != "target" && name != "node_modules" && !entry.path().join("CACHEDIR.TAG").exists()
}

/// What editors leave beside a file is no source, and neither are logs, nor the lock file that cargo writes by itself.
fn counts_as_file(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let name = name.to_string_lossy();
    let of_editor = name.starts_with(['.', '#'])
        || name.ends_with('~')
        || name.bytes().all(|byte| byte.is_ascii_digit())
        || [".swp", ".swx", ".swo", ".tmp", ".bak", ".orig", ".rej", ".log"]
            .iter()
            .any(|end| name.ends_with(end));
    !of_editor && name != "Cargo.lock"
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    struct Scene {
        folder: tempfile::TempDir,
        watch: Watch,
        events: Sender<Event>,
    }

    fn scene(poll: bool) -> Scene {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("src")).unwrap();
        fs::write(folder.path().join("src/lib.rs"), "one").unwrap();
        let (events, inbox) = mpsc::channel();
        let mut watch = Watch::new(events.clone(), inbox, poll);
        let made = vec![folder.path().join("out.wasm")];
        let paths = vec![folder.path().to_path_buf()];
        watch.widen(Roots { paths, made, ..Roots::default() }, Snapshot::default());
        Scene { folder, watch, events }
    }

    impl Scene {
        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        /// What changed by the time that it is noticed.
        fn noticed(&mut self, before: &Snapshot) -> Vec<String> {
            let Waited::Changed(now, _) = self.watch.wait(before, None) else { panic!("nothing") };
            let root = self.folder.path();
            let name = |path: PathBuf| path.strip_prefix(root).unwrap().display().to_string();
            before.changes(&now).into_iter().map(name).collect()
        }
    }

    #[test]
    fn every_way_to_save_is_noticed() {
        for poll in [false, true] {
            let mut scene = scene(poll);
            let lib = scene.path("src/lib.rs");
            let ways: [&dyn Fn(&Scene); 5] = [
                &|_| fs::write(&lib, "in place, and longer").unwrap(),
                &|scene| {
                    let aside = scene.path("src/.lib.rs.swp");
                    fs::write(&aside, "written aside").unwrap();
                    fs::rename(aside, &lib).unwrap();
                },
                &|_| {
                    fs::rename(&lib, lib.with_extension("rs~")).unwrap();
                    fs::write(&lib, "the old one was moved away").unwrap();
                },
                &|_| {
                    fs::remove_file(&lib).unwrap();
                    fs::write(&lib, "made anew").unwrap();
                },
                &|_| {
                    fs::write(&lib, "twice").unwrap();
                    fs::write(&lib, "twice in a row").unwrap();
                },
            ];
            for save in ways {
                let before = scene.watch.look();
                save(&scene);
                assert_eq!(scene.noticed(&before), ["src/lib.rs"], "poll: {poll}");
            }
            let before = scene.watch.look();
            fs::remove_file(&lib).unwrap();
            assert_eq!(scene.noticed(&before), ["src/lib.rs"]);
        }
    }

    #[test]
    fn new_folders_are_looked_into_and_old_ones_forgotten() {
        let mut scene = scene(false);
        let mut before = scene.watch.look();
        fs::create_dir_all(scene.path("src/a/b")).unwrap();
        fs::write(scene.path("src/a/b/mod.rs"), "").unwrap();
        assert_eq!(scene.noticed(&before), ["src/a/b/mod.rs"]);
        // The folder that was not there before tells, too.
        before = scene.watch.look();
        fs::write(scene.path("src/a/b/mod.rs"), "more").unwrap();
        assert_eq!(scene.noticed(&before), ["src/a/b/mod.rs"]);

        before = scene.watch.look();
        fs::remove_dir_all(scene.path("src/a")).unwrap();
        assert_eq!(scene.noticed(&before), ["src/a/b/mod.rs"]);
        before = scene.watch.look();
        fs::create_dir_all(scene.path("src/a")).unwrap();
        fs::write(scene.path("src/a/mod.rs"), "").unwrap();
        assert_eq!(scene.noticed(&before), ["src/a/mod.rs"]);
    }

    #[test]
    fn what_is_no_source_does_not_count() {
        let mut scene = scene(false);
        let before = scene.watch.look();
        for name in ["target/debug", ".git/objects", "cache", ".cargo", "node_modules/x"] {
            fs::create_dir_all(scene.path(name)).unwrap();
        }
        fs::write(scene.path("cache/CACHEDIR.TAG"), "").unwrap();
        for name in [
            "target/debug/x.rs",
            ".git/objects/x",
            "cache/x.rs",
            "node_modules/x/x.js",
            "src/.lib.rs.swp",
            "src/lib.rs~",
            "src/#lib.rs#",
            "src/4913",
            "Cargo.lock",
            "dev.log",
            "out.wasm",
        ] {
            fs::write(scene.path(name), "x").unwrap();
        }
        assert_eq!(before, scene.watch.look());
        fs::write(scene.path(".cargo/config.toml"), "").unwrap();
        assert_eq!(scene.noticed(&before), [".cargo/config.toml"]);
    }

    #[test]
    fn what_is_written_while_it_is_served_does_not_count() {
        let mut scene = scene(false);
        for folder in ["data/sub", "named"] {
            fs::create_dir_all(scene.path(folder)).unwrap();
        }
        fs::write(scene.path("dev.out"), "").unwrap();
        std::os::unix::fs::symlink("named", scene.path("link")).unwrap();
        let before = scene.watch.look();
        let id = |name: &str| Id::of(&fs::metadata(scene.path(name)).unwrap());
        let roots = Roots {
            paths: vec![scene.folder.path().to_path_buf()],
            made: vec![scene.path("data")],
            apart: BTreeSet::from([id("dev.out"), id("named")]),
        };
        let (before, changed) = scene.watch.widen(roots, before);
        assert!(changed.is_empty(), "{changed:?}");
        for name in ["data/x", "data/sub/x", "named/x", "dev.out"] {
            fs::write(scene.path(name), "written").unwrap();
        }
        assert_eq!(before, scene.watch.look());
        // What is named counts, wherever it is.
        let mut roots = scene.watch.roots.clone();
        roots.paths.push(scene.path("data"));
        let (before, _) = scene.watch.widen(roots, before);
        fs::write(scene.path("data/sub/x"), "written again").unwrap();
        assert_eq!(scene.noticed(&before), ["data/sub/x"]);
    }

    #[test]
    fn single_files_are_looked_at_alone() {
        let mut scene = scene(false);
        let file = scene.path("Makefile");
        let before = scene.watch.look();
        let roots = Roots { paths: vec![file.clone()], ..Roots::default() };
        let (before, changed) = scene.watch.widen(roots, before);
        assert!(changed.is_empty(), "{changed:?}");
        fs::write(scene.path("src/lib.rs"), "two").unwrap();
        fs::write(scene.path("other"), "").unwrap();
        assert_eq!(before, scene.watch.look());
        fs::write(&file, "all:").unwrap();
        assert_eq!(scene.noticed(&before), ["Makefile"]);
    }

    #[test]
    fn a_file_may_be_named_beside_its_folder() {
        let mut scene = scene(false);
        let paths = vec![scene.path("src/lib.rs"), scene.path("src"), scene.path("Makefile")];
        let before = scene.watch.look();
        let (before, _) = scene.watch.widen(Roots { paths, ..Roots::default() }, before);
        fs::write(scene.path("src/other.rs"), "").unwrap();
        assert_eq!(scene.noticed(&before), ["src/other.rs"]);
    }

    #[test]
    fn what_is_gone_with_the_folders_above_it_may_come_back() {
        for poll in [false, true] {
            let mut scene = scene(poll);
            let (above, aside) = (scene.path("a"), scene.path("b"));
            fs::create_dir_all(above.join("shop/src")).unwrap();
            fs::write(above.join("shop/src/lib.rs"), "").unwrap();
            let paths = vec![above.join("shop/src"), above.join("shop/tidegate.toml")];
            let (whole, _) = scene.watch.widen(Roots { paths, ..Roots::default() }, Snapshot::default());
            fs::rename(&above, &aside).unwrap();
            assert_eq!(scene.noticed(&whole), ["a/shop/src/lib.rs"], "poll: {poll}");
            let gone = scene.watch.look();
            fs::rename(&aside, &above).unwrap();
            assert_eq!(scene.noticed(&gone), ["a/shop/src/lib.rs"], "poll: {poll}");
            let back = scene.watch.look();
            fs::write(above.join("shop/src/lib.rs"), "edited").unwrap();
            assert_eq!(scene.noticed(&back), ["a/shop/src/lib.rs"], "poll: {poll}");
        }
    }

    #[test]
    fn nothing_is_lost_when_more_counts() {
        let mut scene = scene(false);
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join("dep.rs"), "").unwrap();
        let before = scene.watch.look();
        // Between the last look and the widening.
        fs::write(scene.path("src/new.rs"), "").unwrap();
        fs::write(scene.path("src/lib.rs"), "changed").unwrap();
        let mut roots = scene.watch.roots.clone();
        roots.paths.push(other.path().to_path_buf());
        let (now, changed) = scene.watch.widen(roots.clone(), before);
        assert_eq!(changed, BTreeSet::from(["src/lib.rs", "src/new.rs"].map(|name| scene.path(name))));
        assert_eq!(scene.watch.widen(roots, now.clone()), (now.clone(), BTreeSet::new()));
        fs::write(other.path().join("dep.rs"), "changed").unwrap();
        let Waited::Changed(later, _) = scene.watch.wait(&now, None) else { panic!("nothing") };
        assert_eq!(now.changes(&later), BTreeSet::from([other.path().join("dep.rs")]));
    }

    #[test]
    fn waiting_may_have_an_end() {
        for poll in [false, true] {
            let mut scene = scene(poll);
            let before = scene.watch.look();
            for within in [Duration::ZERO, Duration::from_millis(20)] {
                assert!(matches!(scene.watch.wait(&before, Some(within)), Waited::Quiet));
            }
            fs::write(scene.path("src/lib.rs"), "changed").unwrap();
            assert!(matches!(scene.watch.wait(&before, Some(Duration::ZERO)), Waited::Changed(..)));
        }
    }

    #[test]
    fn a_signal_ends_waiting() {
        for poll in [false, true] {
            let mut scene = scene(poll);
            let before = scene.watch.look();
            let events = scene.events.clone();
            let sender = thread::spawn(move || events.send(Event::Stop));
            assert!(matches!(scene.watch.wait(&before, None), Waited::Stopped));
            sender.join().unwrap().unwrap();
        }
    }
}
