//! A disk's image that fails where it is told to and remembers what it was asked.
//!
//! Knows: ops and completions. Must not know: guests. Invariant: what does not fail is done by
//! blkfault's image in memory.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};

use blkfault::block::{Channel, Completion, Geometry, MemoryImage, Node, Op, OpKind};
use blkfault::errno::Errno;
use blkfault::export::{IoFailure, Observer};
use blkfault::fault::IoType;

/// An observer that does not listen.
#[derive(Debug)]
pub struct Nobody;

impl Observer for Nobody {
    fn connected(&self, _: &str) {}

    fn disconnected(&self, _: &str) {}

    fn io_failed(&self, _: &str, _: IoFailure) {}
}

/// What the image was asked last, and whether it had to be durable.
pub type Asked = Arc<Mutex<Option<(IoType, bool)>>>;

/// The image.
#[derive(Debug)]
pub struct Image {
    pub memory: MemoryImage,
    pub read_only: bool,
    pub fails: [bool; 5],
    pub errno: Errno,
    pub asked: Asked,
}

impl Node for Image {
    fn geometry(&self) -> Geometry {
        Geometry { read_only: self.read_only, ..self.memory.geometry() }
    }

    fn channel(&self) -> io::Result<Box<dyn Channel>> {
        Ok(Box::new(ImageChannel {
            inner: self.memory.channel()?,
            fails: self.fails,
            errno: self.errno,
            asked: self.asked.clone(),
            ended: Vec::new(),
        }))
    }

    fn resize(&self, size_bytes: u64) -> Result<(), Errno> {
        self.memory.resize(size_bytes)
    }
}

struct ImageChannel {
    inner: Box<dyn Channel>,
    fails: [bool; 5],
    errno: Errno,
    asked: Asked,
    ended: Vec<Completion>,
}

impl Channel for ImageChannel {
    fn submit(&mut self, op: Op) {
        let iotype = op.io().iotype;
        let fua = match &op.kind {
            OpKind::Write { fua, .. } | OpKind::WriteZeroes { fua, .. } => *fua,
            _ => false,
        };
        *self.asked.lock().expect("not poisoned") = Some((iotype, fua));
        if iotype == IoType::GetId {
            self.ended.push(op.complete(Ok(())));
        } else if self.fails[iotype as usize] {
            self.ended.push(op.complete(Err(self.errno)));
        } else {
            self.inner.submit(op);
        }
    }

    fn commit(&mut self) {
        self.inner.commit();
    }

    fn poll(&mut self, done: &mut Vec<Completion>) {
        done.append(&mut self.ended);
        self.inner.poll(done);
    }

    fn wake_fds(&self) -> Vec<BorrowedFd<'_>> {
        self.inner.wake_fds()
    }
}
