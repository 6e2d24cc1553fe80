//! The 48 events of blkdebug.
//!
//! Knows: QEMU's `BlkdebugEvent`, names and order, and which of them a raw disk raises. Must not
//! know: rules or requests. Invariant: a name that QEMU accepts is an event here, and no other.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! events {
    ($($variant:ident $name:literal $raised:literal),* $(,)?) => {
        /// A point of a request's life inside QEMU's block layer (`BlkdebugEvent`).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[allow(missing_docs)] // The names are the documentation: they are QEMU's.
        pub enum Event { $($variant),* }

        impl Event {
            /// Every event, in QEMU's order.
            pub const ALL: [Self; 48] = [$(Self::$variant),*];

            /// QEMU's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// Whether this disk ever raises it, as `raw` over `blkdebug` does.
            ///
            /// The others belong to image formats and to copy-on-read; rules on them are accepted
            /// and never run.
            #[must_use]
            pub const fn is_raised(self) -> bool {
                match self { $(Self::$variant => $raised),* }
            }
        }
    };
}

events! {
    L1Update "l1_update" false,
    L1GrowAllocTable "l1_grow_alloc_table" false,
    L1GrowWriteTable "l1_grow_write_table" false,
    L1GrowActivateTable "l1_grow_activate_table" false,
    L2Load "l2_load" false,
    L2Update "l2_update" false,
    L2UpdateCompressed "l2_update_compressed" false,
    L2AllocCowRead "l2_alloc_cow_read" false,
    L2AllocWrite "l2_alloc_write" false,
    ReadAio "read_aio" true,
    ReadBackingAio "read_backing_aio" false,
    ReadCompressed "read_compressed" false,
    WriteAio "write_aio" true,
    WriteCompressed "write_compressed" false,
    VmstateLoad "vmstate_load" false,
    VmstateSave "vmstate_save" false,
    CowRead "cow_read" false,
    CowWrite "cow_write" false,
    ReftableLoad "reftable_load" false,
    ReftableGrow "reftable_grow" false,
    ReftableUpdate "reftable_update" false,
    RefblockLoad "refblock_load" false,
    RefblockUpdate "refblock_update" false,
    RefblockUpdatePart "refblock_update_part" false,
    RefblockAlloc "refblock_alloc" false,
    RefblockAllocHookup "refblock_alloc_hookup" false,
    RefblockAllocWrite "refblock_alloc_write" false,
    RefblockAllocWriteBlocks "refblock_alloc_write_blocks" false,
    RefblockAllocWriteTable "refblock_alloc_write_table" false,
    RefblockAllocSwitchTable "refblock_alloc_switch_table" false,
    ClusterAlloc "cluster_alloc" false,
    ClusterAllocBytes "cluster_alloc_bytes" false,
    ClusterFree "cluster_free" false,
    FlushToOs "flush_to_os" true,
    FlushToDisk "flush_to_disk" true,
    PwritevRmwHead "pwritev_rmw_head" true,
    PwritevRmwAfterHead "pwritev_rmw_after_head" true,
    PwritevRmwTail "pwritev_rmw_tail" true,
    PwritevRmwAfterTail "pwritev_rmw_after_tail" true,
    Pwritev "pwritev" true,
    PwritevZero "pwritev_zero" true,
    PwritevDone "pwritev_done" true,
    EmptyImagePrepare "empty_image_prepare" false,
    L1ShrinkWriteTable "l1_shrink_write_table" false,
    L1ShrinkFreeL2Clusters "l1_shrink_free_l2_clusters" false,
    CorWrite "cor_write" false,
    ClusterAllocSpace "cluster_alloc_space" false,
    None "none" true,
}

/// A word that is no event; the text is QEMU's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid parameter value: {0}")]
pub struct BadEvent(pub String);

impl FromStr for Event {
    type Err = BadEvent;

    fn from_str(name: &str) -> Result<Self, BadEvent> {
        let event = Self::ALL.into_iter().find(|event| event.name() == name);
        event.ok_or_else(|| BadEvent(name.to_owned()))
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back_and_dots_are_refused() {
        for event in Event::ALL {
            assert_eq!(event.name().parse(), Ok(event));
        }
        let dotted = "l1_grow.alloc_table".parse::<Event>().unwrap_err();
        assert_eq!(dotted.to_string(), "invalid parameter value: l1_grow.alloc_table");
    }

    #[test]
    fn a_raw_disk_raises_twelve_events() {
        assert_eq!(Event::ALL.into_iter().filter(|event| event.is_raised()).count(), 12);
    }
}
