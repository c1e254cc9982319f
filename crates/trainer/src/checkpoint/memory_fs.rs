//! A file system in memory, for tests: it makes any operation fail, and cuts the power at any instant.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard};

use nearfar_core::Rng;

use super::Fs;

/// A file system in memory that makes any operation fail, and remembers what was not yet on the disk. Clones share one.
///
/// ```
/// use std::path::Path;
/// use nearfar_core::{Purpose, Seed};
/// use nearfar_trainer::checkpoint::{Fs, MemoryFs};
///
/// let fs = MemoryFs::new();
/// fs.write(Path::new("/a"), b"kept")?;
/// fs.sync_file(Path::new("/a"))?;
/// fs.sync_dir(Path::new("/"))?;
/// fs.rename(Path::new("/a"), Path::new("/b"))?; // Not synced.
///
/// let mut rng = Seed(0).rng(Purpose::Generation, 0);
/// let after = fs.power_cut(fs.operations(), &mut rng).disk;
/// let found = after.read_dir(Path::new("/"))?;
/// assert!(found == ["a"] || found == ["b"]);
/// assert_eq!(after.read(Path::new("/").join(&found[0]).as_path(), 100)?, b"kept");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct MemoryFs(Arc<Mutex<Inner>>);

/// What a power cut leaves.
#[derive(Debug)]
pub struct PowerCut {
    /// The file system as it is found afterwards.
    pub disk: MemoryFs,
    /// How many operations had reached neither the disk nor a sync, and were lost.
    pub lost: usize,
}

#[derive(Debug)]
struct Inner {
    /// Files and folders by number; the root is the first.
    nodes: Vec<Node>,
    /// The same when the log began.
    base: Vec<Node>,
    log: Vec<Change>,
    calls: u64,
    fault: Option<(u64, i32)>,
}

#[derive(Clone, Debug)]
enum Node {
    File(Vec<u8>),
    Dir(BTreeMap<String, usize>),
}

#[derive(Clone, Debug)]
enum Change {
    /// Entries of one folder, changed together or not at all: a name is given to a node, or taken away.
    Entries {
        dir: usize,
        entries: Vec<(String, Option<usize>)>,
    },
    /// A file's bytes.
    Bytes {
        file: usize,
        bytes: Vec<u8>,
    },
    Synced(usize),
}

const ROOT: usize = 0;

impl Default for MemoryFs {
    fn default() -> Self {
        Self::of(vec![Node::Dir(BTreeMap::new())])
    }
}

impl MemoryFs {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn of(nodes: Vec<Node>) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            base: nodes.clone(),
            nodes,
            log: Vec::new(),
            calls: 0,
            fault: None,
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("nobody panics with it")
    }

    /// Makes one call fail, the `index`-th from now on (from 0), with an error number of the system, such as 28 for a full disk.
    /// A write that fails leaves half of its bytes.
    pub fn fail(&self, index: u64, errno: i32) {
        let mut inner = self.inner();
        inner.fault = Some((inner.calls + index, errno));
    }

    /// No call fails any more.
    pub fn heal(&self) {
        self.inner().fault = None;
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.inner().calls
    }

    /// How many changes and syncs there were since it was made.
    pub fn operations(&self) -> usize {
        self.inner().log.len()
    }

    /// What is found after the power was cut behind the first `operations` changes and syncs.
    ///
    /// What was synced is there. Of the rest, each change of a folder is there or not, in any combination, and each file has all,
    /// half or none of its bytes, or zeros in their place.
    pub fn power_cut(&self, operations: usize, rng: &mut Rng) -> PowerCut {
        let inner = self.inner();
        let log = &inner.log[..operations.min(inner.log.len())];
        let mut nodes = inner.base.clone();
        for node in &inner.nodes[nodes.len()..] {
            nodes.push(match node {
                Node::File(_) => Node::File(Vec::new()),
                Node::Dir(_) => Node::Dir(BTreeMap::new()),
            });
        }
        let mut lost = 0;
        for (index, change) in log.iter().enumerate() {
            let of = match change {
                Change::Entries { dir, .. } => *dir,
                Change::Bytes { file, .. } => *file,
                Change::Synced(_) => continue,
            };
            let synced = log[index..]
                .iter()
                .any(|later| matches!(later, Change::Synced(node) if *node == of));
            match change {
                Change::Entries { dir, entries } => {
                    if !synced && rng.chance(0.5) {
                        lost += 1;
                        continue;
                    }
                    let Node::Dir(names) = &mut nodes[*dir] else {
                        unreachable!("the log says that it is a folder")
                    };
                    for (name, node) in entries {
                        match node {
                            Some(node) => names.insert(name.clone(), *node),
                            None => names.remove(name),
                        };
                    }
                }
                Change::Bytes { file, bytes } => {
                    let kept = match if synced { 0 } else { rng.below(4) } {
                        0 => bytes.clone(),
                        1 => bytes[..bytes.len() / 2].to_vec(),
                        2 => vec![0; bytes.len()],
                        _ => Vec::new(),
                    };
                    lost += usize::from(kept != *bytes);
                    nodes[*file] = Node::File(kept);
                }
                Change::Synced(_) => {}
            }
        }
        PowerCut {
            disk: Self::of(nodes),
            lost,
        }
    }

    /// Changes bytes of a file behind everybody's back.
    ///
    /// # Errors
    /// When the file is not there.
    pub fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut inner = self.inner();
        let node = inner.find(path)?;
        match &mut inner.nodes[node] {
            Node::File(bytes) => {
                change(bytes);
                Ok(())
            }
            Node::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }
}

impl Inner {
    /// Counts a call; the one that is to fail does.
    fn call(&mut self) -> io::Result<()> {
        let call = self.calls;
        self.calls += 1;
        match self.fault {
            Some((index, errno)) if index == call => Err(io::Error::from_raw_os_error(errno)),
            _ => Ok(()),
        }
    }

    fn names(&self, dir: usize) -> io::Result<&BTreeMap<String, usize>> {
        match &self.nodes[dir] {
            Node::Dir(names) => Ok(names),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        let mut node = ROOT;
        for name in parts(path) {
            let found = self.names(node)?.get(&name);
            node = *found.ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(node)
    }

    /// The folder that a path is in, and its name there.
    fn place(&self, path: &Path) -> io::Result<(usize, String)> {
        let mut parts = parts(path);
        let name = parts.pop().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.find(&parts.iter().collect::<std::path::PathBuf>())?;
        self.names(dir)?;
        Ok((dir, name))
    }

    fn change(&mut self, dir: usize, entries: Vec<(String, Option<usize>)>) {
        if let Node::Dir(names) = &mut self.nodes[dir] {
            for (name, node) in &entries {
                match node {
                    Some(node) => names.insert(name.clone(), *node),
                    None => names.remove(name),
                };
            }
        }
        self.log.push(Change::Entries { dir, entries });
    }

    fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }
}

fn parts(path: &Path) -> Vec<String> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
            _ => None,
        })
        .collect()
}

impl Fs for MemoryFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.call()?;
        let mut node = ROOT;
        for name in parts(path) {
            let found = inner.names(node)?.get(&name).copied();
            node = match found {
                Some(found) => found,
                None => {
                    let made = inner.add(Node::Dir(BTreeMap::new()));
                    inner.change(node, vec![(name, Some(made))]);
                    made
                }
            };
        }
        inner.names(node).map(drop)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.inner();
        let called = inner.call();
        let (dir, name) = inner.place(path)?;
        if inner.names(dir)?.contains_key(&name) {
            return called.and(Err(io::ErrorKind::AlreadyExists.into()));
        }
        let written = if called.is_ok() {
            bytes
        } else {
            &bytes[..bytes.len() / 2]
        };
        let file = inner.add(Node::File(written.to_vec()));
        inner.change(dir, vec![(name, Some(file))]);
        let bytes = written.to_vec();
        inner.log.push(Change::Bytes { file, bytes });
        called
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.call()?;
        let node = inner.find(path)?;
        inner.log.push(Change::Synced(node));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.sync_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.call()?;
        let node = inner.find(from)?;
        let (from_dir, from_name) = inner.place(from)?;
        let (to_dir, to_name) = inner.place(to)?;
        if let Some(&there) = inner.names(to_dir)?.get(&to_name) {
            match (&inner.nodes[node], &inner.nodes[there]) {
                (Node::File(_), Node::File(_)) => {}
                (Node::Dir(_), Node::Dir(names)) if names.is_empty() => {}
                (_, Node::Dir(_)) => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
                (Node::Dir(_), _) => return Err(io::ErrorKind::NotADirectory.into()),
            }
        }
        if from_dir == to_dir {
            inner.change(to_dir, vec![(from_name, None), (to_name, Some(node))]);
        } else {
            inner.change(to_dir, vec![(to_name, Some(node))]);
            inner.change(from_dir, vec![(from_name, None)]);
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.call()?;
        let node = inner.find(path)?;
        if matches!(inner.nodes[node], Node::Dir(_)) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let (dir, name) = inner.place(path)?;
        inner.change(dir, vec![(name, None)]);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.call()?;
        let node = inner.find(path)?;
        if !inner.names(node)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let (dir, name) = inner.place(path)?;
        inner.change(dir, vec![(name, None)]);
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut inner = self.inner();
        inner.call()?;
        let node = inner.find(path)?;
        Ok(inner.names(node)?.keys().cloned().collect())
    }

    fn read(&self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let mut inner = self.inner();
        inner.call()?;
        let node = inner.find(path)?;
        match &inner.nodes[node] {
            Node::File(bytes) => {
                let end = usize::try_from(limit.saturating_add(1)).unwrap_or(usize::MAX);
                Ok(bytes[..bytes.len().min(end)].to_vec())
            }
            Node::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }
}
