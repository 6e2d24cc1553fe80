//! A vhost-user front end without a guest: it maps its own memory and drives the rings itself.
//!
//! Knows: the order of vhost-user messages that a VMM sends, and how to send them in another.
//! Must not know: which back end answers. Invariant: nothing here waits for ever, and every panic
//! says what it waited for. Used by the tests of the export, by the hostile ones and as a load
//! generator.

#![allow(dead_code, unused_imports, reason = "each test binary uses a part")]
#![allow(missing_docs, unreachable_pub, reason = "seen by tests alone")]
#![allow(clippy::cast_possible_truncation, reason = "sizes here are the test's own and small")]

pub mod config;
pub mod framing;
pub mod inflight;
pub mod memory;
pub mod request;
pub mod ring;
pub mod wire;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use config::{Config, feature, protocol};
pub use framing::{Cut, Framed, Tables};
pub use inflight::Inflight;
pub use memory::{Memory, Region};
pub use request::{Finished, Reply, SECTOR, Status, UNMAP, UNWRITTEN, header, kind, segment};
pub use ring::{Desc, Head, INDIRECT, Layout, NEXT, Queue, Used, WRITE};
pub use wire::{
    Ask, FLAG_NEED_REPLY, FLAG_REPLY, Message, Refusal, SCM_MAX_FD, WAIT, Wire, message,
};

/// Memory of a front end that asks for nothing special: 256 MiB at 0, touched as needed.
pub const ONE_REGION: &[(u64, u64)] = &[(0, 256 << 20)];

/// How a front end gives its memory to the back end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// SET_MEM_TABLE, all at once.
    Table,
    /// ADD_MEM_REG, one by one.
    Slots,
}

/// A connected front end.
#[derive(Debug)]
pub struct Front {
    /// The connection, for messages of the test's own.
    pub wire: Wire,
    /// The guest's memory.
    pub memory: Memory,
    /// Device features that the back end offers.
    pub offered: u64,
    /// Device features that were accepted.
    pub accepted: u64,
    /// Protocol features that the back end offers.
    pub protocol_offered: u64,
    /// Queues that the back end says it has.
    pub queues_max: u64,
    back_channel: Option<Wire>,
    back_channel_theirs: Option<OwnedFd>,
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

fn region_bytes(region: &Region) -> Vec<u8> {
    let words = [region.start, region.bytes, region.user_address(), 0];
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

impl Front {
    /// Connect and negotiate the protocol, as QEMU does when its device is made.
    pub fn connect(socket: &Path) -> Self {
        Self::with_memory(socket, ONE_REGION)
    }

    /// As [`connect`](Self::connect), with memory of regions given as (guest address, bytes).
    pub fn with_memory(socket: &Path, layout: &[(u64, u64)]) -> Self {
        Self::try_connect(socket, layout)
            .unwrap_or_else(|refusal| panic!("the back end refuses a front end: {refusal:?}"))
    }

    /// As [`with_memory`](Self::with_memory), where the back end may refuse.
    pub fn try_connect(socket: &Path, layout: &[(u64, u64)]) -> Result<Self, Refusal> {
        Self::over(Wire::connect(socket).map_err(|_| Refusal::Closed)?, layout)
    }

    /// As [`try_connect`](Self::try_connect), over a connection that exists.
    pub fn over(wire: Wire, layout: &[(u64, u64)]) -> Result<Self, Refusal> {
        Self::with_guest(wire, Memory::new(layout))
    }

    /// As [`over`](Self::over), for a guest that has been there before.
    pub fn with_guest(wire: Wire, memory: Memory) -> Result<Self, Refusal> {
        let offered = wire.ask_u64(Ask::GetFeatures)?;
        let mut front = Self {
            wire,
            memory,
            offered,
            accepted: 0,
            protocol_offered: 0,
            queues_max: 1,
            back_channel: None,
            back_channel_theirs: None,
        };
        front.negotiate_protocol()?;
        Ok(front)
    }

    fn negotiate_protocol(&mut self) -> Result<(), Refusal> {
        assert_ne!(self.offered & feature::PROTOCOL_FEATURES, 0, "no protocol features");
        self.protocol_offered = self.wire.ask_u64(Ask::GetProtocolFeatures)?;
        let mine = self.protocol_offered & protocol::KNOWN;
        self.wire.tell(Ask::SetProtocolFeatures, &mine.to_ne_bytes(), &[])?;
        if mine & protocol::MQ != 0 {
            self.queues_max = self.wire.ask_u64(Ask::GetQueueNum)?;
        }
        self.wire.acknowledged = mine & protocol::REPLY_ACK != 0;
        if mine & protocol::BACKEND_REQ != 0 {
            let (ours, theirs) = UnixStream::pair().expect("socket pair");
            self.wire.tell(Ask::SetBackendReqFd, &[], &[theirs.as_fd()])?;
            self.back_channel = Some(Wire::over(ours));
            self.back_channel_theirs = Some(theirs.into());
        }
        self.wire.tell(Ask::SetOwner, &[], &[])
    }

    /// Accept those of `wanted` that the back end offers, and share memory.
    pub fn negotiate(&mut self, wanted: u64) {
        self.accept_features(wanted);
        let slots = self.protocol_offered & protocol::CONFIGURE_MEM_SLOTS != 0;
        self.share_memory(if slots { Sharing::Slots } else { Sharing::Table });
    }

    /// Accept those of `wanted` that the back end offers.
    pub fn accept_features(&mut self, wanted: u64) {
        self.accept_exactly(self.offered & (wanted | feature::PROTOCOL_FEATURES));
    }

    /// Accept these features and no other.
    pub fn accept_exactly(&mut self, features: u64) {
        self.accepted = features;
        self.accept_again();
    }

    /// Say once more what was accepted.
    pub fn accept_again(&self) {
        self.must(Ask::SetFeatures, &self.accepted.to_ne_bytes());
    }

    /// Give all memory to the back end.
    pub fn share_memory(&self, how: Sharing) {
        self.try_share_memory(how).unwrap_or_else(|refusal| panic!("{how:?}: {refusal:?}"));
    }

    /// As [`share_memory`](Self::share_memory), where the back end may refuse.
    pub fn try_share_memory(&self, how: Sharing) -> Result<(), Refusal> {
        let regions = self.memory.regions();
        if how == Sharing::Slots {
            return regions.iter().try_for_each(|region| self.add_region(region));
        }
        let mut body = words(&[regions.len() as u32, 0]);
        regions.iter().for_each(|region| body.extend(region_bytes(region)));
        let fds: Vec<_> = regions.iter().map(|region| region.memfd()).collect();
        self.wire.tell(Ask::SetMemTable, &body, &fds)
    }

    /// Plug one more region in. The front end's own [`Memory`] does not know it.
    pub fn add_region(&self, region: &Arc<Region>) -> Result<(), Refusal> {
        let mut body = words(&[0, 0]);
        body.extend(region_bytes(region));
        self.wire.tell(Ask::AddMemReg, &body, &[region.memfd()])
    }

    /// Unplug a region.
    pub fn remove_region(&self, region: &Arc<Region>) -> Result<(), Refusal> {
        let mut body = words(&[0, 0]);
        body.extend(region_bytes(region));
        self.wire.tell(Ask::RemMemReg, &body, &[])
    }

    fn must(&self, ask: Ask, body: &[u8]) {
        self.wire.tell(ask, body, &[]).unwrap_or_else(|refusal| panic!("{ask:?}: {refusal:?}"));
    }

    /// Make and start `count` queues of `size` descriptors, with everything accepted.
    pub fn start_queues(&mut self, count: u16, size: u16) -> Vec<Queue> {
        let event_idx = self.accepted & feature::EVENT_IDX != 0;
        let size_max = match self.accepted & feature::SIZE_MAX {
            0 => 0,
            _ => self.config().size_max,
        };
        let mut queues = Vec::new();
        for index in 0..count {
            let mut queue = Queue::new(&self.memory, index, size, event_idx);
            if size_max != 0 {
                queue.segment_bytes = queue.segment_bytes.min(size_max);
            }
            self.start_queue(&queue, 0);
            queues.push(queue);
        }
        queues
    }

    /// Start a queue at `base`, as QEMU does when the guest's driver is ready.
    pub fn start_queue(&self, queue: &Queue, base: u16) {
        self.try_start_queue(queue, base)
            .unwrap_or_else(|refusal| panic!("start of queue {}: {refusal:?}", queue.index));
    }

    /// As [`start_queue`](Self::start_queue), where the back end may refuse.
    pub fn try_start_queue(&self, queue: &Queue, base: u16) -> Result<(), Refusal> {
        self.start_queue_disabled(queue, base)?;
        self.enable_queue(queue.index, true)
    }

    /// As [`try_start_queue`](Self::try_start_queue), but do not enable it.
    pub fn start_queue_disabled(&self, queue: &Queue, base: u16) -> Result<(), Refusal> {
        let index = u32::from(queue.index);
        let wire = &self.wire;
        wire.tell(Ask::SetVringNum, &words(&[index, queue.size.into()]), &[])?;
        wire.tell(Ask::SetVringBase, &words(&[index, base.into()]), &[])?;
        let mut body = words(&[index, 0]);
        let Layout { table, avail, used } = queue.layout;
        for address in [table, used, avail] {
            body.extend(self.memory.user_address(address).to_ne_bytes());
        }
        body.extend(0u64.to_ne_bytes());
        wire.tell(Ask::SetVringAddr, &body, &[])?;
        let vring = u64::from(index).to_ne_bytes();
        wire.tell(Ask::SetVringErr, &vring, &[queue.err_fd()])?;
        wire.tell(Ask::SetVringKick, &vring, &[queue.kick_fd()])?;
        wire.tell(Ask::SetVringCall, &vring, &[queue.call_fd()])
    }

    /// Enable or disable a queue.
    pub fn enable_queue(&self, index: u16, enable: bool) -> Result<(), Refusal> {
        self.wire.tell(Ask::SetVringEnable, &words(&[index.into(), enable.into()]), &[])
    }

    /// Stop a queue; the answer is the index of the next chain that the back end would take.
    pub fn stop_queue(&self, index: u16) -> u16 {
        self.try_stop_queue(index)
            .unwrap_or_else(|refusal| panic!("GET_VRING_BASE of queue {index}: {refusal:?}"))
    }

    /// As [`stop_queue`](Self::stop_queue), where the back end may refuse.
    pub fn try_stop_queue(&self, index: u16) -> Result<u16, Refusal> {
        let reply = self.wire.ask(Ask::GetVringBase, &words(&[index.into(), 0]))?;
        let number =
            |at: usize| u32::from_ne_bytes(reply.body[at..at + 4].try_into().expect("4 bytes"));
        assert_eq!(number(0), u32::from(index), "GET_VRING_BASE answers for another queue");
        Ok(u16::try_from(number(4)).expect("a split ring's base has 16 bits"))
    }

    /// Start a stopped queue where it stopped, and let the device look at its ring.
    pub fn restart_queue(&self, queue: &mut Queue, base: u16) {
        self.start_queue(queue, base);
        queue.kick_always();
    }

    /// Stop a queue, whatever state it is in, and start it again with empty rings.
    pub fn renew_queue(&self, queue: &mut Queue) {
        self.stop_queue(queue.index);
        queue.reset(0);
        self.start_queue(queue, 0);
    }

    /// The device's configuration space.
    pub fn config(&self) -> Config {
        let raw = self.read_config(0, Config::BYTES).expect("GET_CONFIG");
        Config::parse(&raw)
    }

    /// Bytes of the configuration space.
    pub fn read_config(&self, offset: u32, bytes: u32) -> Result<Vec<u8>, Refusal> {
        let mut body = words(&[offset, bytes, 0]);
        body.resize(12 + bytes as usize, 0);
        let reply = self.wire.ask(Ask::GetConfig, &body)?;
        match reply.body.len() {
            // A back end that cannot give it answers with a size of 0.
            12 => Err(Refusal::Status(0)),
            length => {
                assert_eq!(length, body.len(), "GET_CONFIG of {bytes} bytes at {offset}");
                Ok(reply.body[12..].to_vec())
            }
        }
    }

    /// Write bytes of the configuration space.
    pub fn write_config(&self, offset: u32, bytes: &[u8]) -> Result<(), Refusal> {
        let mut body = words(&[offset, bytes.len() as u32, 0]);
        body.extend(bytes);
        self.wire.tell(Ask::SetConfig, &body, &[])
    }

    /// Wait for the device to say that its configuration has changed; false when it did not.
    pub fn config_changed_within(&self, wait: Duration) -> bool {
        const CONFIG_CHANGE: u32 = 2;
        let channel = self.back_channel.as_ref().expect("BACKEND_REQ was offered");
        match channel.receive(wait) {
            Ok(message) => {
                assert_eq!(message.request, CONFIG_CHANGE, "back-end request");
                channel.acknowledge(&message).expect("answer the back end");
                true
            }
            Err(Refusal::Silence) => false,
            Err(refusal) => panic!("back-end channel: {refusal:?}"),
        }
    }

    /// Disable and forget everything, as a guest's reset does where the back end offers it.
    pub fn reset_device(&self) -> Result<(), Refusal> {
        self.wire.tell(Ask::ResetDevice, &[], &[])
    }
}
