//! The region of requests in flight, which a front end keeps for its back ends.
//!
//! Knows: GET_INFLIGHT_FD and SET_INFLIGHT_FD (vhost-user.rst). Must not know: what the region holds.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::{Ask, Front, Memory, Queue, Refusal, Sharing, Wire};

/// A region, and how it is described.
#[derive(Debug)]
pub struct Inflight {
    pub file: OwnedFd,
    pub offset: u64,
    pub bytes: u64,
    pub queues: u16,
    pub queue_size: u16,
}

impl Inflight {
    fn to_bytes(&self) -> Vec<u8> {
        body(self.bytes, self.offset, self.queues, self.queue_size)
    }
}

fn body(bytes: u64, offset: u64, queues: u16, queue_size: u16) -> Vec<u8> {
    let mut body: Vec<u8> = [bytes, offset].iter().flat_map(|word| word.to_ne_bytes()).collect();
    body.extend([queues, queue_size].iter().flat_map(|word| word.to_ne_bytes()));
    // The C structure is padded to its alignment.
    body.resize(24, 0);
    body
}

impl Front {
    /// Ask the back end for a region for so many queues.
    pub fn get_inflight(&self, queues: u16, queue_size: u16) -> Result<Inflight, Refusal> {
        let mut reply = self.wire.ask(Ask::GetInflightFd, &body(0, 0, queues, queue_size))?;
        let word =
            |at: usize| u64::from_ne_bytes(reply.body[at..at + 8].try_into().expect("8 bytes"));
        let (bytes, offset) = (word(0), word(8));
        let file = reply.fds.pop().expect("GET_INFLIGHT_FD comes with a descriptor");
        assert!(reply.fds.is_empty());
        Ok(Inflight { file, offset, bytes, queues, queue_size })
    }

    /// Give the back end a region.
    pub fn set_inflight(&self, region: &Inflight) -> Result<(), Refusal> {
        self.wire.tell(Ask::SetInflightFd, &region.to_bytes(), &[region.file.as_fd()])
    }

    /// Connect for a guest that runs, as QEMU does when its back end has come back: each ring goes
    /// on from what it has used.
    pub fn resume(
        socket: &Path,
        memory: &Memory,
        features: u64,
        region: Option<&Inflight>,
        queues: &[Queue],
    ) -> Result<Self, Refusal> {
        let wire = Wire::connect(socket).map_err(|_| Refusal::Closed)?;
        let mut front = Self::with_guest(wire, memory.clone())?;
        front.accepted = features;
        front.wire.tell(Ask::SetFeatures, &features.to_ne_bytes(), &[])?;
        if let Some(region) = region {
            front.set_inflight(region)?;
        }
        front.try_share_memory(Sharing::Slots)?;
        for queue in queues {
            front.try_start_queue(queue, queue.used_index_in_memory())?;
        }
        Ok(front)
    }
}
