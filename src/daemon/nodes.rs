//! Nodes by name, and the images behind them.
//!
//! Knows: how `blockdev-add` writes an image, and which nodes exist. Must not know: who shows a
//! node to whom (`disks`). Invariant: a node that something stands on is never removed.

use std::sync::Arc;
use std::time::Duration;

use super::fault::blkdebug;
use super::limits::{SIZE_MAX_BYTES, check_node_name};
use crate::block::{
    Aio, CacheMode, ImageKind, Locking, MemoryImage, Node, NullImage, OpenError, RawImage,
    RawOptions, Reopening,
};
use crate::export::Late;
use crate::fault::engine::BlkdebugSetup;
use crate::guard::{self, Want};
use crate::qapi::QmpError;
use crate::qapi::types::{
    BlockdevAioOptions, BlockdevCacheOptions, BlockdevDiscardOptions, BlockdevDriver,
    BlockdevOptions, BlockdevOptionsBlkdebug, BlockdevOptionsFile, BlockdevOptionsVariant,
    BlockdevRef, OnOffAuto,
};

/// The size of a null node that says none: QEMU's `NULL_DEFAULT_SIZE`, in bytes.
const NULL_SIZE_DEFAULT: i64 = 1 << 30;
/// What holds a node's bytes.
#[derive(Debug, Clone)]
pub(super) enum Store {
    Raw(Arc<RawImage>),
    Memory(Arc<MemoryImage>),
    Null(Arc<NullImage>),
}

impl Store {
    pub(super) fn node(&self) -> Arc<dyn Node> {
        match self {
            Self::Raw(image) => image.clone(),
            Self::Memory(image) => image.clone(),
            Self::Null(image) => image.clone(),
        }
    }

    /// Its path, or what it is.
    pub(super) fn description(&self) -> String {
        match self {
            Self::Raw(image) => image.path().display().to_string(),
            Self::Memory(_) => "memory".to_owned(),
            Self::Null(_) => "null-co://".to_owned(),
        }
    }

    /// Whether the host's page cache is left out, and whether flushes are ignored.
    pub(super) fn cache(&self) -> (bool, bool) {
        match self {
            Self::Raw(image) => (image.direct(), image.no_flush()),
            Self::Memory(_) | Self::Null(_) => (false, false),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Raw(a), Self::Raw(b)) => Arc::ptr_eq(a, b),
            (Self::Memory(a), Self::Memory(b)) => Arc::ptr_eq(a, b),
            (Self::Null(a), Self::Null(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// A node that has a name.
#[derive(Debug, Clone)]
pub(super) struct NodeEntry {
    pub(super) name: String,
    pub(super) driver: BlockdevDriver,
    pub(super) store: Store,
    /// Workers that are late at the store, of all disks that show it or did.
    pub(super) late: Arc<Late>,
    /// The named node below, where there is one.
    below: Option<String>,
    /// The rules that every disk over this node meets.
    pub(super) blkdebug: Option<Arc<Blkdebug>>,
    read_only: bool,
}

/// A `blkdebug` node somewhere between a disk and its image.
#[derive(Debug)]
pub(super) struct Blkdebug {
    pub(super) setup: BlkdebugSetup,
    /// As the operator wrote it.
    options: BlockdevOptionsBlkdebug,
}

impl NodeEntry {
    pub(super) fn is_read_only(&self) -> bool {
        self.read_only || self.store.node().geometry().read_only
    }
}

/// The nodes, in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Nodes(Vec<NodeEntry>);

impl Nodes {
    pub(super) fn iter(&self) -> impl Iterator<Item = &NodeEntry> {
        self.0.iter()
    }

    /// The node of this name.
    pub(super) fn find(&self, name: &str) -> Option<&NodeEntry> {
        self.0.iter().find(|entry| entry.name == name)
    }

    /// The node of this name; QEMU's text if there is none (`bdrv_lookup_bs`).
    pub(super) fn get(&self, name: &str) -> Result<&NodeEntry, QmpError> {
        self.find(name).ok_or_else(|| {
            QmpError::generic(format!("Cannot find device='' nor node-name='{name}'"))
        })
    }

    /// Whether the name may be given to a new node.
    pub(super) fn check_name(&self, name: &str) -> Result<(), QmpError> {
        check_node_name(name).map_err(|expected| {
            QmpError::generic(format!("Invalid node-name: '{name}': {expected}"))
        })?;
        match self.find(name) {
            Some(_) => Err(QmpError::generic(format!("Duplicate nodes with node-name='{name}'"))),
            None => Ok(()),
        }
    }

    pub(super) fn insert(&mut self, entry: NodeEntry) {
        self.0.push(entry);
    }

    /// Take a node out; the caller has made sure that no disk shows it.
    pub(super) fn remove(&mut self, name: &str) -> Result<NodeEntry, QmpError> {
        let index = self.0.iter().position(|entry| entry.name == name).ok_or_else(|| {
            QmpError::generic(format!("Failed to find node with node-name='{name}'"))
        })?;
        if let Some(above) = self.0.iter().find(|entry| entry.below.as_deref() == Some(name)) {
            return Err(QmpError::generic(format!(
                "Node '{name}' is in use by the node '{}'",
                above.name
            )));
        }
        Ok(self.0.remove(index))
    }

    /// What a node was opened again with.
    pub(super) fn set_read_only(&mut self, name: &str, read_only: bool) {
        if let Some(entry) = self.0.iter_mut().find(|entry| entry.name == name) {
            entry.read_only = read_only;
        }
    }

    /// The names of all nodes over the same store as this one, itself included.
    pub(super) fn over_store_of(&self, name: &str) -> Vec<String> {
        let Some(entry) = self.find(name) else {
            return Vec::new();
        };
        let same = self.0.iter().filter(|other| other.store.is_same(&entry.store));
        same.map(|other| other.name.clone()).collect()
    }
}

/// A node that does not exist yet: its image is opened outside every lock.
#[derive(Debug)]
pub(super) enum Blueprint {
    /// A store of its own.
    Raw(Box<RawOptions>),
    Memory(u64),
    Null(u64),
    /// A name for what another node has.
    Over(String),
}

/// What a node's options describe.
pub(super) fn blueprint(options: &BlockdevOptions) -> Result<Blueprint, QmpError> {
    match &options.variant {
        BlockdevOptionsVariant::File(file) => Ok(raw(ImageKind::File, options, file)),
        BlockdevOptionsVariant::HostDevice(file) => Ok(raw(ImageKind::HostDevice, options, file)),
        BlockdevOptionsVariant::Raw(over) => blueprint_over("file", &over.file, options),
        BlockdevOptionsVariant::Blkdebug(over) => blueprint_over("image", &over.image, options),
        BlockdevOptionsVariant::NullCo(null) => {
            let size = null.size.unwrap_or(NULL_SIZE_DEFAULT);
            Ok(Blueprint::Null(check_size("size", size)?))
        }
        BlockdevOptionsVariant::Memory(memory) => {
            let size = i64::try_from(memory.size).map_err(|_| {
                QmpError::generic(format!(
                    "Parameter 'size' expects at most {SIZE_MAX_BYTES}, not {}",
                    memory.size
                ))
            })?;
            Ok(Blueprint::Memory(check_size("size", size)?))
        }
    }
}

fn blueprint_over(
    member: &str,
    child: &BlockdevRef,
    options: &BlockdevOptions,
) -> Result<Blueprint, QmpError> {
    match child {
        BlockdevRef::Reference(name) => Ok(Blueprint::Over(name.clone())),
        BlockdevRef::Definition(below) if below.node_name.is_some() => {
            Err(QmpError::generic(format!(
                "Parameter '{member}.node-name' has no use here: add that node first, then refer \
                 to it"
            )))
        }
        BlockdevRef::Definition(below) => blueprint(&inherit(below, options)),
    }
}

/// The node that these options put another in front of, if they do.
fn child(options: &BlockdevOptions) -> Option<&BlockdevRef> {
    match &options.variant {
        BlockdevOptionsVariant::Raw(over) => Some(&over.file),
        BlockdevOptionsVariant::Blkdebug(over) => Some(&over.image),
        BlockdevOptionsVariant::File(_)
        | BlockdevOptionsVariant::HostDevice(_)
        | BlockdevOptionsVariant::NullCo(_)
        | BlockdevOptionsVariant::Memory(_) => None,
    }
}

/// The named node that these options stand on, if any.
pub(super) fn below(options: &BlockdevOptions) -> Option<&str> {
    match child(options)? {
        BlockdevRef::Reference(name) => Some(name),
        BlockdevRef::Definition(below) => self::below(below),
    }
}

/// Every `blkdebug` node that these options describe, from above.
fn blkdebugs(options: &BlockdevOptions) -> Vec<&BlockdevOptionsBlkdebug> {
    let own = match &options.variant {
        BlockdevOptionsVariant::Blkdebug(own) => Some(own),
        _ => None,
    };
    let below = match child(options) {
        Some(BlockdevRef::Definition(below)) => blkdebugs(below),
        Some(BlockdevRef::Reference(_)) | None => Vec::new(),
    };
    own.into_iter().chain(below).collect()
}

/// The rules that disks over a new node meet.
fn blkdebug_of(
    name: &str,
    options: &BlockdevOptions,
    below: Option<&NodeEntry>,
    store: &Store,
) -> Result<Option<Arc<Blkdebug>>, QmpError> {
    let inherited = below.and_then(|below| below.blkdebug.clone());
    let own = blkdebugs(options);
    match (own.as_slice(), inherited) {
        ([], inherited) => Ok(inherited),
        ([options], None) => {
            let align_bytes = store.node().geometry().request_alignment.into();
            let setup = blkdebug::parse_node(options, align_bytes)?;
            blkdebug::warn(&format!("node {name}"), &setup.rules);
            Ok(Some(Arc::new(Blkdebug { setup, options: (*options).clone() })))
        }
        _ => Err(QmpError::generic(format!(
            "Node '{name}' has a blkdebug node over another: put all rules into one"
        ))),
    }
}

/// Options that a child without its own takes from its parent, as in QEMU's
/// `bdrv_inherited_options`.
fn inherit(below: &BlockdevOptions, above: &BlockdevOptions) -> BlockdevOptions {
    BlockdevOptions {
        node_name: None,
        read_only: below.read_only.or(above.read_only),
        cache: below.cache.clone().or_else(|| above.cache.clone()),
        discard: below.discard.or(above.discard),
        variant: below.variant.clone(),
    }
}

/// A size that a disk may have: QEMU's text for one that it may not.
pub(super) fn check_size(name: &str, size: i64) -> Result<u64, QmpError> {
    match u64::try_from(size) {
        Ok(bytes) if bytes > 0 && bytes.is_multiple_of(512) => Ok(bytes),
        Ok(bytes) if bytes > 0 => Err(QmpError::generic(format!(
            "Parameter '{name}' expects a multiple of 512, not {bytes}"
        ))),
        _ => Err(QmpError::generic(format!("Parameter '{name}' expects a >0 size"))),
    }
}

fn raw(kind: ImageKind, options: &BlockdevOptions, file: &BlockdevOptionsFile) -> Blueprint {
    let cache =
        options.cache.clone().unwrap_or(BlockdevCacheOptions { direct: None, no_flush: None });
    let direct = cache.direct == Some(true);
    Blueprint::Raw(Box::new(RawOptions {
        path: file.filename.clone().into(),
        read_only: options.read_only == Some(true),
        cache: if direct { CacheMode::Direct } else { CacheMode::Buffered },
        no_flush: cache.no_flush == Some(true),
        aio: match file.aio {
            None => Aio::Auto,
            Some(BlockdevAioOptions::Threads) => Aio::Threads,
            Some(BlockdevAioOptions::IoUring) => Aio::IoUring,
        },
        lock_wait: Duration::ZERO,
        locking: match file.locking {
            None | Some(OnOffAuto::Auto) => Locking::Auto,
            Some(OnOffAuto::On) => Locking::On,
            Some(OnOffAuto::Off) => Locking::Off,
        },
        discard: options.discard == Some(BlockdevDiscardOptions::Unmap),
        expect: Some(kind),
        // A disk over the image may want larger blocks; that is checked when it is made.
        block_bytes: 512,
    }))
}

/// An image's error, with what the daemon gave up where that may be the reason.
fn cannot_open(error: &OpenError) -> QmpError {
    let why = error.denied().map(|path| guard::explanation(path, Want::All)).unwrap_or_default();
    QmpError::generic(format!("{error}{why}"))
}

/// Build a node, opening its image. `lock_wait` is how long another's lock on it is waited for.
pub(super) fn build(
    name: &str,
    options: &BlockdevOptions,
    below: Option<&NodeEntry>,
    lock_wait: Duration,
) -> Result<NodeEntry, QmpError> {
    let read_only = options.read_only == Some(true);
    let (store, late) = match blueprint(options)? {
        Blueprint::Raw(raw) => {
            let raw = RawOptions { lock_wait, ..*raw };
            let image = RawImage::open(raw).map_err(|error| cannot_open(&error))?;
            (Store::Raw(Arc::new(image)), Arc::default())
        }
        Blueprint::Memory(bytes) => {
            (Store::Memory(Arc::new(MemoryImage::new(bytes))), Arc::default())
        }
        Blueprint::Null(bytes) => (Store::Null(Arc::new(NullImage::new(bytes))), Arc::default()),
        Blueprint::Over(name) => {
            let below = below.ok_or_else(|| {
                QmpError::generic(format!("Cannot find device='{name}' nor node-name='{name}'"))
            })?;
            (below.store.clone(), below.late.clone())
        }
    };
    Ok(NodeEntry {
        name: name.to_owned(),
        driver: options.variant.driver(),
        blkdebug: blkdebug_of(name, options, below, &store)?,
        store,
        late,
        below: below.map(|entry| entry.name.clone()),
        read_only,
    })
}

/// The first half of opening a node again; nothing has changed yet. `None` where there is nothing to
/// open.
pub(super) fn prepare_reopen(
    entry: &NodeEntry,
    options: &BlockdevOptions,
) -> Result<Option<Reopening>, QmpError> {
    let unchangeable = |option: &str| {
        QmpError::generic(format!("Cannot change the option '{option}' of node '{}'", entry.name))
    };
    if options.variant.driver() != entry.driver {
        return Err(QmpError::generic(format!(
            "Cannot change the option 'driver' of node '{}', which is '{}'",
            entry.name,
            entry.driver.as_str()
        )));
    }
    if let [asked] = blkdebugs(options).as_slice()
        && entry.blkdebug.as_ref().is_none_or(|known| !is_same_but_image(&known.options, asked))
    {
        return Err(QmpError::generic(format!(
            "Cannot change the rules of node '{}': use block-fault-blkdebug-add",
            entry.name
        )));
    }
    match (blueprint(options)?, &entry.store) {
        (Blueprint::Raw(raw), Store::Raw(image)) if entry.below.is_none() => {
            image.prepare_reopen(*raw).map(Some).map_err(|error| cannot_open(&error))
        }
        (Blueprint::Memory(size_bytes), store @ Store::Memory(_))
        | (Blueprint::Null(size_bytes), store @ Store::Null(_)) => {
            if store.node().geometry().size_bytes != size_bytes {
                return Err(unchangeable("size"));
            }
            Ok(None)
        }
        (Blueprint::Over(name), _) if entry.below.as_deref() == Some(name.as_str()) => Ok(None),
        _ => Err(unchangeable("file")),
    }
}

fn is_same_but_image(a: &BlockdevOptionsBlkdebug, b: &BlockdevOptionsBlkdebug) -> bool {
    *a == BlockdevOptionsBlkdebug { image: a.image.clone(), ..b.clone() }
}
