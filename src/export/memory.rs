//! The guest's memory as the front end shares it.
//!
//! Knows: regions, where the front end has them in its own address space, where the guest does.
//! Must not know: what lies in them. Invariant: a [`MemoryTable`] is a value; every change makes a
//! new [`GuestMemory`], and whoever still uses the old one keeps it mapped with their `Arc`.

use std::fs::File;
use std::io;
use std::sync::Arc;

use vhost::vhost_user::message::{VhostUserMemoryRegion, VhostUserSingleMemoryRegion};
use vm_memory::bitmap::Bitmap;
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{
    GuestAddress, GuestMemoryBackend, GuestMemoryRegion, GuestRegionMmap, GuestUsize, MmapRegion,
};

use super::dirty::{DirtyLog, RegionLog};
use super::mapping::{Mapping, PROTECTION, Sharer};
use crate::block::MemoryOwner;

/// Guest memory, mapped into this process, whose written pages are logged while a guest migrates.
#[cfg(not(feature = "fuzzing"))]
pub(super) type GuestMemory = vm_memory::GuestMemoryMmap<RegionLog>;
/// The same, telling the fuzz targets who touches it.
#[cfg(feature = "fuzzing")]
pub(super) type GuestMemory = super::fuzzing::watch::Watched;

/// The most regions that may be added (`GET_MAX_MEM_SLOTS`); QEMU refuses a back end whose number
/// shrinks across a reconnect.
pub(super) const MEMORY_SLOTS_MAX: u64 = 509;

/// Where one region lies in the front end's address space and in the guest's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    user_addr: u64,
    guest_addr: u64,
    bytes: u64,
}

/// The memory table of one connection.
#[derive(Debug, Clone)]
pub(super) struct MemoryTable {
    memory: Arc<GuestMemory>,
    places: Vec<Place>,
    log: Arc<DirtyLog>,
    sharer: Arc<Sharer>,
}

impl MemoryTable {
    /// No memory at all; what comes is this front end's, and its pages are marked in this log.
    pub(super) fn new(log: Arc<DirtyLog>, sharer: Arc<Sharer>) -> Self {
        Self { memory: Arc::new(GuestMemory::new()), places: Vec::new(), log, sharer }
    }

    /// The memory to use for what starts now.
    pub(super) fn memory(&self) -> &Arc<GuestMemory> {
        &self.memory
    }

    /// SET_MEM_TABLE: these regions and no others.
    pub(super) fn with_only(
        &self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
    ) -> io::Result<Self> {
        if regions.len() != files.len() {
            return Err(invalid("as many descriptors as regions are needed"));
        }
        let mut table = Self::new(self.log.clone(), self.sharer.clone());
        for (region, file) in regions.iter().zip(files) {
            table = table.with(region, &file)?;
        }
        Ok(table)
    }

    /// ADD_MEM_REG: one more region.
    pub(super) fn with_added(
        &self,
        region: &VhostUserSingleMemoryRegion,
        file: File,
    ) -> io::Result<Self> {
        if self.places.len() as u64 >= MEMORY_SLOTS_MAX {
            return Err(invalid("no memory slot is free"));
        }
        self.with(region, &file)
    }

    fn with(&self, region: &VhostUserMemoryRegion, file: &File) -> io::Result<Self> {
        let place = Place {
            user_addr: region.user_addr,
            guest_addr: region.guest_phys_addr,
            bytes: region.memory_size,
        };
        if place.user_addr.checked_add(place.bytes).is_none() {
            return Err(invalid("region wraps around the address space"));
        }
        let mapped = Mapping::new(file, region.mmap_offset, region.memory_size, &self.sharer)?;
        let (start, bytes) = (mapped.start(), mapped.bytes());
        let log = RegionLog::new(self.log.clone(), place.guest_addr, mapped);
        let builder = MmapRegionBuilder::new_with_bitmap(bytes, log);
        // SAFETY: mapped for that many bytes as long as the log, which the region keeps.
        let mapped = unsafe { builder.with_raw_mmap_pointer(start) };
        let mapped = mapped.with_mmap_prot(PROTECTION).build().map_err(io::Error::other)?;
        let region = GuestRegionMmap::new(mapped, GuestAddress(place.guest_addr))
            .ok_or_else(|| invalid("region wraps around the guest's address space"))?;
        let memory = self.memory.insert_region(Arc::new(region)).map_err(io::Error::other)?;
        let mut places = self.places.clone();
        places.push(place);
        Ok(Self { memory: Arc::new(memory), places, ..self.clone() })
    }

    /// REM_MEM_REG: without the region at this place.
    pub(super) fn without(&self, region: &VhostUserSingleMemoryRegion) -> io::Result<Self> {
        let size: GuestUsize = region.memory_size;
        let (memory, _) = self
            .memory
            .remove_region(GuestAddress(region.guest_phys_addr), size)
            .map_err(io::Error::other)?;
        let mut places = self.places.clone();
        places.retain(|place| place.guest_addr != region.guest_phys_addr);
        Ok(Self { memory: Arc::new(memory), places, ..self.clone() })
    }

    /// The first guest address behind all regions.
    pub(super) fn end(&self) -> u64 {
        self.places.iter().map(|place| place.guest_addr + place.bytes).max().unwrap_or(0)
    }

    /// The guest address of what the front end has at this address of its own.
    pub(super) fn to_guest(&self, user_addr: u64) -> Option<u64> {
        self.places.iter().find_map(|place| {
            let offset = user_addr.checked_sub(place.user_addr)?;
            (offset < place.bytes).then(|| place.guest_addr + offset)
        })
    }
}

/// A handle whose count of users is a queue's own: every request is one, and queues would share it.
pub(super) fn own_handle(memory: &GuestMemory) -> Arc<GuestMemory> {
    Arc::new(memory.clone())
}

impl MemoryOwner for GuestMemory {
    /// All regions are one front end's, which has taken away some memory or none.
    fn is_intact(&self) -> bool {
        self.iter().next().is_none_or(|region| MmapRegion::bitmap(region).is_intact())
    }
}

/// Mark guest memory that was written behind `vm-memory`'s back (by the kernel, into iovecs).
pub(super) fn mark_dirty(memory: &GuestMemory, addr: u64, bytes: u64) {
    let (mut at, mut left) = (addr, bytes);
    while left > 0 {
        let Some((region, offset)) = memory.to_region_addr(GuestAddress(at)) else {
            return;
        };
        let step = left.min(region.len() - offset.0);
        let (Ok(offset), Ok(length)) = (usize::try_from(offset.0), usize::try_from(step)) else {
            return;
        };
        region.bitmap().mark_dirty(offset, length);
        at += step;
        left -= step;
    }
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}
