//! A filter over an image that says what it was asked and fails when told.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::block::immediate::{ImmediateChannel, Served, Store};
use crate::block::{
    Channel, Completion, FaultFilter, FaultPoint, Geometry, Node, Op, OpKind, OwnedMemory, Resume,
    Snapshot, Ticket, Which,
};
use crate::errno::Errno;
use crate::fault::IoTypes;
use crate::fault::engine::{Change, Place};
use crate::fault::manual::DiskState;
use crate::fault::rule::{Effect, Rule, RuleName, Trigger};

/// An image that remembers the first byte of each sector's last write.
#[derive(Debug, Default)]
pub(super) struct Slate {
    pub(super) fails: Mutex<Option<Errno>>,
    pub(super) sectors: Mutex<BTreeMap<u64, u8>>,
}

impl Store for Slate {
    fn serve(&self, kind: &OpKind, _: u64, _: u64) -> Result<Served, Errno> {
        if let Some(errno) = *self.fails.lock().unwrap() {
            return Err(errno);
        }
        if let OpKind::Write { offset_bytes, from, .. } = kind {
            let mut byte = [0];
            assert!(from.read_at(0, &mut byte));
            self.sectors.lock().unwrap().insert(offset_bytes / 512, byte[0]);
        }
        Ok(Served::ENDED)
    }
}

#[derive(Debug)]
struct SlateNode(Arc<Slate>);

impl Node for SlateNode {
    fn geometry(&self) -> Geometry {
        Geometry {
            size_bytes: 1 << 30,
            request_alignment: 1,
            physical_block_bytes: 4096,
            read_only: false,
            can_discard: true,
            can_unmap_zeroes: true,
        }
    }

    fn channel(&self) -> io::Result<Box<dyn Channel>> {
        Ok(Box::new(ImmediateChannel::new(self.0.clone())?))
    }

    fn resize(&self, _: u64) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }
}

/// A disk with faults.
#[derive(Debug)]
pub(super) struct Rig {
    pub(super) point: Arc<FaultPoint>,
    pub(super) slate: Arc<Slate>,
    pub(super) filter: FaultFilter,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(FaultPoint::new(7))
    }

    /// A disk whose faults are as in another process.
    pub(super) fn over(snapshot: Snapshot) -> Self {
        Self::with(FaultPoint::from_snapshot(snapshot))
    }

    fn with(point: FaultPoint) -> Self {
        let (point, slate) = (Arc::new(point), Arc::new(Slate::default()));
        let filter = FaultFilter::new(Arc::new(SlateNode(slate.clone())), point.clone());
        Self { point, slate, filter }
    }

    pub(super) fn lane(&self, queue: u16) -> Lane {
        Lane { channel: self.filter.channel().unwrap(), queue, done: Vec::new() }
    }

    pub(super) fn enter(&self, state: DiskState) {
        self.point.configure(vec![Change::SetState(state)]).unwrap();
    }

    /// Put a rule behind the others.
    pub(super) fn add(&self, name: &str, trigger: Trigger, effect: Effect) {
        self.point.configure(vec![add(name, trigger, effect)]).unwrap();
    }

    /// Release; tells how many went.
    pub(super) fn resume(&self, which: &Which, action: Resume) -> usize {
        self.point.resume(which, action).gone
    }

    pub(super) fn sector(&self, sector: u64) -> Option<u8> {
        self.slate.sectors.lock().unwrap().get(&sector).copied()
    }

    /// The ordinals of those who are held.
    pub(super) fn held(&self) -> Vec<u64> {
        self.point.held().iter().map(|held| held.ordinal).collect()
    }
}

pub(super) fn add(name: &str, trigger: Trigger, effect: Effect) -> Change {
    let rule = Rule::new(RuleName::new(name).unwrap(), trigger, effect, false).unwrap();
    Change::AddRule { rule: Box::new(rule), place: Place::Last }
}

pub(super) fn hang() -> DiskState {
    DiskState::Hang { iotypes: IoTypes::ALL, on_release: None }
}

/// One queue.
pub(super) struct Lane {
    pub(super) channel: Box<dyn Channel>,
    queue: u16,
    done: Vec<Completion>,
}

impl Lane {
    /// Submit; the ticket is the ordinal.
    pub(super) fn submit(&mut self, ordinal: u64, kind: OpKind) {
        self.channel.submit(Op { ticket: Ticket(ordinal), ordinal, queue: self.queue, kind });
        self.channel.commit();
    }

    pub(super) fn write(&mut self, ordinal: u64, sector: u64, byte: u8) {
        self.submit(ordinal, write(sector, &[byte; 512]));
    }

    /// What has ended by now.
    pub(super) fn ended(&mut self) -> Vec<(u64, Result<(), Errno>)> {
        self.channel.poll(&mut self.done);
        self.done.drain(..).map(|end| (end.ticket.0, end.result)).collect()
    }

    /// Wait on the descriptors until so many have ended.
    pub(super) fn wait(&mut self, count: usize) -> Vec<(u64, Result<(), Errno>)> {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut ended = self.ended();
        while ended.len() < count {
            assert!(Instant::now() < deadline, "{} of {count} ended", ended.len());
            {
                let fds = self.channel.wake_fds();
                let mut fds: Vec<_> =
                    fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
                poll(&mut fds, Some(&Timespec { tv_sec: 20, tv_nsec: 0 })).unwrap();
            }
            ended.extend(self.ended());
        }
        ended
    }

    /// Whether a descriptor says that there is something to poll for.
    pub(super) fn calls(&self) -> bool {
        let fds = self.channel.wake_fds();
        let mut fds: Vec<_> =
            fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() > 0
    }
}

pub(super) fn write(sector: u64, content: &[u8]) -> OpKind {
    let memory = OwnedMemory::new(content.len(), 0);
    memory.write(content);
    OpKind::Write { offset_bytes: sector * 512, from: memory.buffers(), fua: false }
}
