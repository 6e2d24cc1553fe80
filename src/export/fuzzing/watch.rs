//! Who touches which guest byte, and which heads come and go.
//!
//! Knows: accesses to guest memory, with their direction, before they happen. Must not know: what
//! they are for. Invariant: watching changes no access.

use std::cell::RefCell;
use std::ops::Deref;
use std::sync::Arc;

use vm_memory::bitmap::BS;
use vm_memory::guest_memory::{GuestMemorySliceIterator, Result};
use vm_memory::{
    GuestAddress, GuestMemory, GuestMemoryBackend, GuestMemoryMmap, GuestRegionCollectionError,
    GuestRegionMmap, Permissions,
};

use crate::export::dirty::RegionLog;

/// Something that happened on this thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Guest memory is about to be read.
    Read {
        /// From here on.
        at: u64,
        /// So many bytes.
        bytes: usize,
    },
    /// Guest memory is about to be written.
    Write {
        /// From here on.
        at: u64,
        /// So many bytes.
        bytes: usize,
    },
    /// A worker is about to walk and parse this head.
    Taking {
        /// Of this queue.
        queue: u16,
        /// The head.
        head: u16,
    },
    /// It has: what it reads from now on is not for that.
    Taken,
    /// A worker puts this head on the used ring.
    Answered {
        /// Of this queue.
        queue: u16,
        /// The head.
        head: u16,
    },
}

type Watcher = Box<dyn FnMut(Event)>;

thread_local! {
    static WATCHER: RefCell<Option<Watcher>> = const { RefCell::new(None) };
}

/// Tell this watcher of what happens on this thread, and no other any more.
pub fn watch(watcher: Option<Watcher>) {
    WATCHER.set(watcher);
}

/// Tell the watcher. What the watcher does itself it is not told.
pub(in crate::export) fn tell(event: Event) {
    WATCHER.with(|watcher| {
        if let Ok(mut watcher) = watcher.try_borrow_mut()
            && let Some(watcher) = watcher.as_mut()
        {
            watcher(event);
        }
    });
}

type Mapped = GuestMemoryMmap<RegionLog>;

/// Guest memory that tells who touches it.
#[derive(Debug, Clone, Default)]
pub(in crate::export) struct Watched(Mapped);

impl From<Mapped> for Watched {
    fn from(memory: Mapped) -> Self {
        Self(memory)
    }
}

impl Deref for Watched {
    type Target = Mapped;

    fn deref(&self) -> &Mapped {
        &self.0
    }
}

type Region = Arc<GuestRegionMmap<RegionLog>>;

impl Watched {
    /// How many of so many bytes can be touched before one that is not there.
    fn present(&self, addr: GuestAddress, count: usize) -> usize {
        let slices = GuestMemoryBackend::get_slices(&self.0, addr, count);
        slices.map_while(std::result::Result::ok).map(|slice| slice.len()).sum()
    }

    pub(in crate::export) fn new() -> Self {
        Self::default()
    }

    pub(in crate::export) fn insert_region(
        &self,
        region: Region,
    ) -> std::result::Result<Self, GuestRegionCollectionError> {
        self.0.insert_region(region).map(Self)
    }

    pub(in crate::export) fn remove_region(
        &self,
        base: GuestAddress,
        bytes: u64,
    ) -> std::result::Result<(Self, Region), GuestRegionCollectionError> {
        self.0.remove_region(base, bytes).map(|(memory, region)| (Self(memory), region))
    }
}

impl GuestMemory for Watched {
    type PhysicalMemory = Mapped;
    type Bitmap = RegionLog;

    fn check_range(&self, addr: GuestAddress, count: usize, access: Permissions) -> bool {
        GuestMemory::check_range(&self.0, addr, count, access)
    }

    fn get_slices<'a>(
        &'a self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Result<impl GuestMemorySliceIterator<'a, BS<'a, RegionLog>>> {
        let (at, bytes) = (addr.0, self.present(addr, count));
        tell(match access {
            Permissions::Read => Event::Read { at, bytes },
            _ => Event::Write { at, bytes },
        });
        GuestMemory::get_slices(&self.0, addr, count, access)
    }
}
