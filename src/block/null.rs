//! A disk without an image, as QEMU's `null-co` with `read-zeroes`.
//!
//! Knows: its size. Invariant: reads give zeroes, whatever was written.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::buffers::fill_zero;
use super::immediate::{ImmediateChannel, Served, Store, end_within};
use super::{Channel, Geometry, Node, OpKind};
use crate::errno::Errno;

/// A disk that forgets.
///
/// ```
/// use blkfault::block::{Node, NullImage};
///
/// let disk = NullImage::new(1 << 30);
/// assert_eq!(disk.geometry().size_bytes, 1 << 30);
/// ```
#[derive(Debug)]
pub struct NullImage {
    nothing: Arc<Nothing>,
}

#[derive(Debug)]
struct Nothing {
    size_bytes: AtomicU64,
}

impl NullImage {
    /// A disk of this size.
    #[must_use]
    pub fn new(size_bytes: u64) -> Self {
        Self { nothing: Arc::new(Nothing { size_bytes: AtomicU64::new(size_bytes) }) }
    }
}

impl Node for NullImage {
    fn geometry(&self) -> Geometry {
        Geometry {
            size_bytes: self.nothing.size_bytes.load(Ordering::Acquire),
            request_alignment: 1,
            physical_block_bytes: 512,
            read_only: false,
            can_discard: true,
            can_unmap_zeroes: true,
        }
    }

    fn channel(&self) -> io::Result<Box<dyn Channel>> {
        Ok(Box::new(ImmediateChannel::new(self.nothing.clone())?))
    }

    fn resize(&self, size_bytes: u64) -> Result<(), Errno> {
        self.nothing.size_bytes.store(size_bytes, Ordering::Release);
        Ok(())
    }
}

impl Store for Nothing {
    fn serve(&self, kind: &OpKind, done_bytes: u64, work_bytes_max: u64) -> Result<Served, Errno> {
        let size_bytes = self.size_bytes.load(Ordering::Acquire);
        let within = |offset, bytes| end_within(offset, bytes, size_bytes).map(|_| Served::ENDED);
        match kind {
            OpKind::Read { offset_bytes, into } => {
                within(*offset_bytes, into.bytes())?;
                let end = into.bytes().min(done_bytes.saturating_add(work_bytes_max));
                for slice in into.slices_within(done_bytes..end) {
                    fill_zero(slice);
                }
                Ok(Served::up_to(end, into.bytes(), end - done_bytes))
            }
            OpKind::Write { offset_bytes, from, .. } => within(*offset_bytes, from.bytes()),
            OpKind::Discard { offset_bytes, bytes }
            | OpKind::WriteZeroes { offset_bytes, bytes, .. } => within(*offset_bytes, *bytes),
            OpKind::Flush | OpKind::GetId => Ok(Served::ENDED),
        }
    }
}
