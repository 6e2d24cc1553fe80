//! Nodes for tests: plain memory that may be told to fail, and one whose answers the test holds.
//!
//! Knows: the interface of nodes. Must not know: rings or front ends. Invariant: an op that is held
//! has not been done; it is done when it is let go.

#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test binary uses a part")]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use blkfault::block::{
    Aio, Buffers, Channel, Completion, Geometry, MemoryImage, Node, Op, OpKind, RawImage,
    RawOptions,
};
use blkfault::errno::Errno;
use blkfault::fault::{Io, IoType};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// A way to make a node of this many bytes.
pub type MakeNode = fn(u64) -> Arc<dyn Node>;

/// The nodes that every story about an ordinary disk is told over, by name.
pub const ORDINARY: &[(&str, MakeNode)] = &[
    ("memory that answers at once", |bytes| Arc::new(MemoryNode::new(bytes))),
    ("memory that answers backwards", |bytes| Arc::new(BackwardsNode(MemoryNode::new(bytes)))),
    ("the memory image", |bytes| Arc::new(MemoryImage::new(bytes))),
    ("the raw image, auto", |bytes| raw_image(bytes, Aio::Auto)),
    ("the raw image by threads", |bytes| raw_image(bytes, Aio::Threads)),
];

/// A raw image in a file without a name.
fn raw_image(bytes: u64, aio: Aio) -> Arc<dyn Node> {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.as_file().set_len(bytes).expect("size the file");
    let options = RawOptions { aio, discard: true, ..RawOptions::new(file.path()) };
    Arc::new(RawImage::open(options).expect("open the image"))
}

/// What an op asked for beside its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    pub io: Io,
    pub fua: bool,
    pub may_unmap: bool,
}

/// Memory in which every op ends at once. A clone is another handle on the same memory.
#[derive(Debug, Clone)]
pub struct MemoryNode(Arc<Store>);

#[derive(Debug)]
struct Store {
    geometry: Mutex<Geometry>,
    bytes: Mutex<Vec<u8>>,
    failing: Mutex<Option<(IoType, Errno)>>,
    asked: Mutex<Vec<Asked>>,
}

impl MemoryNode {
    /// Zeroed memory.
    pub fn new(bytes: u64) -> Self {
        let geometry = Geometry {
            size_bytes: bytes,
            request_alignment: 1,
            physical_block_bytes: 4096,
            read_only: false,
            can_discard: true,
            can_unmap_zeroes: true,
        };
        Self(Arc::new(Store {
            geometry: Mutex::new(geometry),
            bytes: Mutex::new(vec![0; usize::try_from(bytes).expect("a small disk")]),
            failing: Mutex::new(None),
            asked: Mutex::new(Vec::new()),
        }))
    }

    /// Change the geometry, as another process or an operator might.
    pub fn change(&self, change: impl FnOnce(&mut Geometry)) {
        change(&mut self.0.geometry.lock().unwrap());
    }

    /// Fail every op of this type from now on.
    pub fn fail(&self, iotype: IoType, errno: Errno) {
        *self.0.failing.lock().unwrap() = Some((iotype, errno));
    }

    /// Fail nothing any more.
    pub fn mend(&self) {
        *self.0.failing.lock().unwrap() = None;
    }

    /// What was asked since the last call, oldest first; the newest 10,000 at most.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.0.asked.lock().unwrap())
    }

    /// The disk's present content.
    pub fn content(&self) -> Vec<u8> {
        self.0.bytes.lock().unwrap().clone()
    }

    fn note(&self, op: &Op) {
        let (fua, may_unmap) = match op.kind {
            OpKind::Write { fua, .. } => (fua, false),
            OpKind::WriteZeroes { fua, may_unmap, .. } => (fua, may_unmap),
            _ => (false, false),
        };
        let mut asked = self.0.asked.lock().unwrap();
        if asked.len() < 10_000 {
            asked.push(Asked { io: op.io(), fua, may_unmap });
        }
    }

    fn run(&self, op: &Op) -> Result<(), Errno> {
        self.note(op);
        let io = op.io();
        if let Some((iotype, errno)) = *self.0.failing.lock().unwrap()
            && iotype == io.iotype
        {
            return Err(errno);
        }
        let mut disk = self.0.bytes.lock().unwrap();
        let end = io.offset_bytes.checked_add(io.bytes).ok_or(Errno::EIO)?;
        let range = usize::try_from(io.offset_bytes).map_err(|_| Errno::EIO)?
            ..usize::try_from(end).map_err(|_| Errno::EIO)?;
        let part = disk.get_mut(range).ok_or(Errno::EIO)?;
        match &op.kind {
            OpKind::Read { into, .. } => copy(into, part, |slice, bytes| slice.copy_from(&*bytes)),
            OpKind::Write { from, .. } => copy(from, part, |slice, bytes| {
                slice.copy_to(bytes);
            }),
            OpKind::Discard { .. } | OpKind::WriteZeroes { .. } => part.fill(0),
            OpKind::Flush | OpKind::GetId => {}
        }
        Ok(())
    }
}

/// Move bytes between guest memory and the disk, piece by piece.
fn copy(
    buffers: &Buffers,
    mut part: &mut [u8],
    step: impl Fn(vm_memory::VolatileSlice<'_>, &mut [u8]),
) {
    for slice in buffers.slices() {
        let (now, rest) = part.split_at_mut(slice.len());
        step(slice, now);
        part = rest;
    }
}

impl Node for MemoryNode {
    fn geometry(&self) -> Geometry {
        *self.0.geometry.lock().unwrap()
    }

    fn channel(&self) -> io::Result<Box<dyn Channel>> {
        Ok(Box::new(AtOnce { node: self.clone(), done: Vec::new() }))
    }

    fn resize(&self, size_bytes: u64) -> Result<(), Errno> {
        let bytes = usize::try_from(size_bytes).map_err(|_| Errno::EFBIG)?;
        self.0.bytes.lock().unwrap().resize(bytes, 0);
        self.0.geometry.lock().unwrap().size_bytes = size_bytes;
        Ok(())
    }
}

struct AtOnce {
    node: MemoryNode,
    done: Vec<Completion>,
}

impl Channel for AtOnce {
    fn submit(&mut self, op: Op) {
        let result = self.node.run(&op);
        self.done.push(op.complete(result));
    }

    fn commit(&mut self) {}

    fn poll(&mut self, done: &mut Vec<Completion>) {
        done.append(&mut self.done);
    }

    fn wake_fds(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }
}

/// Memory that does what was submitted since the last commit from the last to the first, and says
/// so by its wake descriptor.
#[derive(Debug)]
pub struct BackwardsNode(pub MemoryNode);

impl Node for BackwardsNode {
    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }

    fn channel(&self) -> io::Result<Box<dyn Channel>> {
        let inbox = Inbox::new()?;
        Ok(Box::new(Backwards { node: self.0.clone(), submitted: Vec::new(), inbox }))
    }

    fn resize(&self, size_bytes: u64) -> Result<(), Errno> {
        self.0.resize(size_bytes)
    }
}

struct Backwards {
    node: MemoryNode,
    submitted: Vec<Op>,
    inbox: Arc<Inbox>,
}

impl Channel for Backwards {
    fn submit(&mut self, op: Op) {
        self.submitted.push(op);
    }

    fn commit(&mut self) {
        for op in self.submitted.drain(..).rev() {
            let result = self.node.run(&op);
            self.inbox.put(op.complete(result));
        }
    }

    fn poll(&mut self, done: &mut Vec<Completion>) {
        self.inbox.take(done);
    }

    fn wake_fds(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.inbox.wake_fd()]
    }
}

/// Completions on their way to the worker that waits for them.
#[derive(Debug)]
struct Inbox {
    done: Mutex<Vec<Completion>>,
    wake: EventFd,
}

impl Inbox {
    fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self { done: Mutex::default(), wake: EventFd::new(EFD_NONBLOCK)? }))
    }

    fn put(&self, completion: Completion) {
        self.done.lock().unwrap().push(completion);
        self.wake.write(1).expect("wake a worker");
    }

    fn take(&self, done: &mut Vec<Completion>) {
        let _ = self.wake.read();
        done.append(&mut self.done.lock().unwrap());
    }

    fn wake_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the eventfd is open as long as `self`, which the result borrows.
        unsafe { BorrowedFd::borrow_raw(self.wake.as_raw_fd()) }
    }
}

/// Memory in front of which ops are held until the test lets them go, while the gate is shut.
/// A clone is another handle on the same gate.
#[derive(Debug, Clone)]
pub struct HoldingNode {
    /// The memory behind the gate.
    pub memory: MemoryNode,
    gate: Arc<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    shut: Mutex<Held>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Held {
    shut: bool,
    ops: VecDeque<(Op, Arc<Inbox>)>,
}

impl HoldingNode {
    /// Zeroed memory with the gate open.
    pub fn new(bytes: u64) -> Self {
        Self { memory: MemoryNode::new(bytes), gate: Arc::default() }
    }

    /// Hold every op from now on.
    pub fn shut(&self) {
        self.gate.shut.lock().unwrap().shut = true;
    }

    /// Hold nothing any more and let everything go that is held, oldest first.
    pub fn open(&self) {
        self.gate.shut.lock().unwrap().shut = false;
        while self.let_go(0) {}
    }

    /// Let the op at this place go, where the oldest is at 0. False where there is none.
    pub fn let_go(&self, place: usize) -> bool {
        let Some((op, inbox)) = self.gate.shut.lock().unwrap().ops.remove(place) else {
            return false;
        };
        let result = self.memory.run(&op);
        inbox.put(op.complete(result));
        true
    }

    /// Ops held now.
    pub fn held(&self) -> usize {
        self.gate.shut.lock().unwrap().ops.len()
    }

    /// Wait until this many ops are held.
    pub fn wait_held(&self, count: usize) {
        let held = self.gate.shut.lock().unwrap();
        let wait = Duration::from_secs(20);
        let enough = |held: &mut Held| held.ops.len() < count;
        let (held, timeout) = self.gate.changed.wait_timeout_while(held, wait, enough).unwrap();
        assert!(!timeout.timed_out(), "{} of {count} ops arrived in {wait:?}", held.ops.len());
    }
}

impl Node for HoldingNode {
    fn geometry(&self) -> Geometry {
        self.memory.geometry()
    }

    fn channel(&self) -> io::Result<Box<dyn Channel>> {
        Ok(Box::new(Holding { node: self.clone(), inbox: Inbox::new()? }))
    }

    fn resize(&self, size_bytes: u64) -> Result<(), Errno> {
        self.memory.resize(size_bytes)
    }
}

struct Holding {
    node: HoldingNode,
    inbox: Arc<Inbox>,
}

impl Channel for Holding {
    fn submit(&mut self, op: Op) {
        let mut held = self.node.gate.shut.lock().unwrap();
        if held.shut {
            held.ops.push_back((op, self.inbox.clone()));
            self.node.gate.changed.notify_all();
            return;
        }
        drop(held);
        let result = self.node.memory.run(&op);
        self.inbox.put(op.complete(result));
    }

    fn commit(&mut self) {}

    fn poll(&mut self, done: &mut Vec<Completion>) {
        self.inbox.take(done);
    }

    fn wake_fds(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.inbox.wake_fd()]
    }
}
