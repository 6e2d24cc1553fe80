//! The fault filter: a node in front of which a disk's faults are.
//!
//! Knows: how to put a [`FaultPoint`] in front of a node. Must not know: verdicts (`fault`), or how
//! one is carried out ([`channel`]). Invariant: what passes is what was asked.

mod carried;
mod channel;
mod timers;

use std::io;
use std::sync::Arc;

use super::{Channel, FaultPoint, Geometry, Line, Node};
use crate::errno::Errno;
use channel::FilterChannel;

/// A node whose ops the fault engine sees first.
#[derive(Debug)]
pub struct FaultFilter {
    below: Arc<dyn Node>,
    point: Arc<FaultPoint>,
}

impl FaultFilter {
    /// Put a disk's faults in front of a node.
    #[must_use]
    pub fn new(below: Arc<dyn Node>, point: Arc<FaultPoint>) -> Self {
        Self { below, point }
    }
}

impl Node for FaultFilter {
    fn geometry(&self) -> Geometry {
        self.below.geometry()
    }

    fn channel(&self) -> io::Result<Box<dyn Channel>> {
        let below = self.below.channel()?;
        Ok(Box::new(FilterChannel::new(below, self.point.shared().clone())?))
    }

    fn resize(&self, size_bytes: u64) -> Result<(), Errno> {
        self.below.resize(size_bytes)
    }

    fn lose_earlier(&self) -> bool {
        self.below.lose_earlier()
    }

    fn begin_anew(&self) -> bool {
        self.below.begin_anew()
    }

    fn line(&self) -> Option<Arc<Line>> {
        Some(self.point.shared().line().clone())
    }
}

#[cfg(test)]
mod tests;
