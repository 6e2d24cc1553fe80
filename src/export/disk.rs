//! A disk: a node as guests see it.
//!
//! Knows: the node under it, the options the operator chose, and whom to tell. Must not know:
//! sockets or rings. Invariants: everything here may be used by every worker at once; what is offered
//! to guests is settled when the disk is made.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::ending::Ending;
use super::late::Late;
use super::ordinals::Ordinals;
use super::passed::Closers;
use super::polling::PollShare;
use super::stats::Stats;
use crate::block::{Geometry, Node};
use crate::errno::Errno;
use crate::fault::IoType;

/// Bytes of the serial number that GET_ID returns (`VIRTIO_BLK_ID_BYTES`).
pub const SERIAL_BYTES: u32 = 20;
/// The most queues a disk may have.
pub const NUM_QUEUES_MAX: u16 = 256;
/// The most descriptors a queue may have: QEMU's `VIRTQUEUE_MAX_SIZE`.
pub const QUEUE_SIZE_MAX: u16 = 1024;

/// A disk's serial number, at most 20 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Serial([u8; SERIAL_BYTES as usize]);

/// A serial number that the device cannot carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("serial '{0}' is not 1 to {SERIAL_BYTES} printable ASCII characters")]
pub struct BadSerial(String);

impl Serial {
    /// A serial number of 1 to 20 printable ASCII characters.
    ///
    /// # Errors
    /// Anything else.
    pub fn new(text: &str) -> Result<Self, BadSerial> {
        let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if text.is_empty() || text.len() > SERIAL_BYTES as usize || !printable {
            return Err(BadSerial(text.to_owned()));
        }
        let mut padded = [0; SERIAL_BYTES as usize];
        padded[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self(padded))
    }

    /// The serial number of a disk that was given none: as much of its id as fits.
    #[must_use]
    pub fn from_id(id: &str) -> Self {
        let text: String =
            id.chars().filter(|c| (' '..='~').contains(c)).take(SERIAL_BYTES as usize).collect();
        Self::new(&text).unwrap_or(Self([0; SERIAL_BYTES as usize]))
    }

    /// As GET_ID returns it: padded with NUL.
    #[must_use]
    pub fn padded(&self) -> &[u8; SERIAL_BYTES as usize] {
        &self.0
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: String = self.0.iter().take_while(|b| **b != 0).map(|b| *b as char).collect();
        write!(f, "{text:?}")
    }
}

/// What the operator chose for a disk.
#[derive(Debug, Clone)]
pub struct DiskOptions {
    /// The name that monitors and logs use.
    pub id: String,
    /// What GET_ID returns.
    pub serial: Serial,
    /// The guest's logical block size in bytes: a power of two from 512 to 4096.
    pub logical_block_bytes: u32,
    /// Virtqueues, 1 to [`NUM_QUEUES_MAX`].
    pub num_queues: u16,
    /// The guest may write, if the node can.
    pub writable: bool,
    /// The cache shows as write-back when the guest starts (virtio `writeback`).
    pub writeback: bool,
    /// What becomes of requests that a fault holds when their ring stops.
    pub held_on_stop: HeldOnStop,
    /// The disk's faults outlive the process.
    pub remembers_faults: bool,
    /// How much of a queue's thread's time may go into looking for requests before it sleeps.
    pub poll: PollShare,
}

/// What becomes of requests that a fault holds when their ring stops and the front end stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HeldOnStop {
    /// They fail with an I/O error.
    #[default]
    Fail,
    /// They stay unanswered in the front end's log of requests in flight, and are held again when
    /// the ring starts. Where the front end has no such log they fail.
    Keep,
}

/// A request that the image or a fault failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoFailure {
    /// What the request wanted.
    pub iotype: IoType,
    /// Why it failed.
    pub errno: Errno,
}

/// Whom a disk tells what happens to it. Called on the data path: must not block.
pub trait Observer: Send + Sync {
    /// A front end has connected.
    fn connected(&self, disk_id: &str);
    /// The front end has gone.
    fn disconnected(&self, disk_id: &str);
    /// A request failed, by the image or by decision.
    fn io_failed(&self, disk_id: &str, failure: IoFailure);
}

/// A node as guests see it, shared by its export and all its workers.
pub struct Disk {
    /// What the operator chose.
    pub options: DiskOptions,
    /// What it has done so far.
    pub stats: Stats,
    pub(super) observer: Arc<dyn Observer>,
    node: Arc<dyn Node>,
    offered: Geometry,
    pub(super) ordinals: Ordinals,
    connected: AtomicBool,
    /// Workers of earlier sessions, or of rings that were stopped, that are still at the image; of every
    /// disk over it.
    pub(super) late: Arc<Late>,
    /// Goes with the last worker.
    kept: Option<Box<dyn Any + Send + Sync>>,
    /// How far the end of the service has come.
    pub(super) ending: Ending,
    /// Of what front ends passed.
    pub(super) closers: Arc<Closers>,
}

impl Disk {
    /// A disk over a node, which usually has the fault filter on top.
    #[must_use]
    pub fn new(options: DiskOptions, node: Arc<dyn Node>, observer: Arc<dyn Observer>) -> Self {
        let offered = offer(&options, node.geometry());
        Self {
            stats: Stats::new(options.num_queues),
            options,
            observer,
            node,
            offered,
            ordinals: Ordinals::default(),
            connected: AtomicBool::new(false),
            late: Arc::default(),
            kept: None,
            ending: Ending::default(),
            closers: Arc::default(),
        }
    }

    /// The same over an image that other disks show too, now or earlier: `late` is of all of them, or what
    /// one has given up would land on what another wrote.
    #[must_use]
    pub fn sharing(self, late: Arc<Late>) -> Self {
        Self { late, ..self }
    }

    /// The same, keeping this until the last of its workers has left the image, which may be long after
    /// its export has stopped.
    #[must_use]
    pub fn keeping(self, kept: impl Any + Send + Sync) -> Self {
        Self { kept: Some(Box::new(kept)), ..self }
    }

    /// What guests see: what they were offered, at the node's present size. A disk that was offered
    /// for writing is read-only while its node is.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        let now = self.node.geometry();
        let read_only = self.offered.read_only || now.read_only;
        Geometry { size_bytes: now.size_bytes, read_only, ..self.offered }
    }

    /// The geometry that feature bits and configuration space tell of: the node's when the disk
    /// was made, because neither may change under a driver. Its size is not the present one.
    pub(super) fn offered(&self) -> &Geometry {
        &self.offered
    }

    /// Size in sectors of 512 bytes, rounded down to whole logical blocks.
    #[must_use]
    pub fn capacity_sectors(&self) -> u64 {
        let size_bytes = self.geometry().size_bytes;
        (size_bytes - size_bytes % u64::from(self.options.logical_block_bytes)) / 512
    }

    /// Whether a front end is connected now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    pub(super) fn node(&self) -> &Arc<dyn Node> {
        &self.node
    }

    /// Number no request from now on below this: an earlier process took those.
    pub fn skip_ordinals_below(&self, ordinal: u64) {
        self.ordinals.skip_below(ordinal);
    }

    /// A ring is going to start. `goes_on`: its driver was answered before; `is_first`: no other
    /// ring runs.
    pub(super) fn ring_starts(&self, goes_on: bool, is_first: bool) {
        if !goes_on && is_first {
            if self.node.begin_anew() {
                // Those failed. If another queue goes on after all, it is as it was before.
                self.ordinals.forget_any();
            }
        } else if goes_on && !self.ordinals.any() && self.node.lose_earlier() {
            log::error!(
                "disk {}: the guest was served by an earlier process, and this disk is in memory: what \
                 was written is gone, and every request fails until the guest is reset (--blk-file \
                 keeps a disk)",
                self.options.id
            );
        }
    }

    pub(super) fn set_connected(&self, connected: bool) {
        if self.connected.swap(connected, Ordering::Relaxed) == connected {
            return;
        }
        if connected {
            self.observer.connected(&self.options.id);
        } else {
            self.observer.disconnected(&self.options.id);
        }
    }
}

/// A node's geometry, read-only if the node or the disk is; then nothing can be discarded, whatever
/// the node says.
fn offer(options: &DiskOptions, geometry: Geometry) -> Geometry {
    if options.writable && !geometry.read_only {
        return geometry;
    }
    Geometry { read_only: true, can_discard: false, can_unmap_zeroes: false, ..geometry }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Disk");
        debug.field("options", &self.options).field("node", &self.node);
        debug.field("keeps", &self.kept.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_is_up_to_twenty_printable_characters() {
        assert_eq!(&Serial::new("abc").unwrap().padded()[..4], b"abc\0");
        assert!(Serial::new("12345678901234567890").is_ok());
        for bad in ["", "123456789012345678901", "tab\t", "ümlaut"] {
            assert!(Serial::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(
            Serial::from_id("a-very-long-disk-identifier").padded(),
            b"a-very-long-disk-ide"
        );
    }
}

/// A disk for the tests of this folder.
#[cfg(test)]
pub(super) mod example {
    use super::*;

    struct Nobody;

    impl Observer for Nobody {
        fn connected(&self, _: &str) {}
        fn disconnected(&self, _: &str) {}
        fn io_failed(&self, _: &str, _: IoFailure) {}
    }

    /// An ordinary disk over a node, which never polls.
    pub(in crate::export) fn disk(node: Arc<dyn Node>) -> Disk {
        let options = DiskOptions {
            id: "disk0".into(),
            serial: Serial::new("SERIAL").unwrap(),
            logical_block_bytes: 512,
            num_queues: 1,
            writable: true,
            writeback: true,
            held_on_stop: HeldOnStop::Fail,
            remembers_faults: false,
            poll: PollShare::percent(0).unwrap(),
        };
        Disk::new(options, node, Arc::new(Nobody))
    }
}
