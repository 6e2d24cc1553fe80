//! Vhost-user messages as bytes: whole ones in, whole ones out, never waiting.
//!
//! Knows: headers, lengths and attached descriptors (QEMU's docs/interop/vhost-user.rst, "Message
//! Specification"). Must not know: what a message asks. Invariants: a message is handed on when all
//! of it has come, however it was cut; a descriptor belongs to the message it came with and is
//! closed with it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::passed::{Closers, Passed};

/// Bytes of a header: request, flags, length of the body.
const HEADER_BYTES: usize = 12;
/// Longest body (`MAX_MSG_SIZE` of the `vhost` crate).
const BODY_BYTES_MAX: u32 = 4096;
/// Most descriptors of a message (`MAX_ATTACHED_FD_ENTRIES` of the crate).
const DESCRIPTORS_MAX: usize = 32;
/// How long a message that has begun may take to arrive.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(2);

const VERSION_MASK: u32 = 3;
const VERSION: u32 = 1;
const REPLY: u32 = 4;
const NEED_REPLY: u32 = 8;

/// A whole message.
#[derive(Debug)]
pub(super) struct Message {
    bytes: Vec<u8>,
    /// What came along.
    pub(super) descriptors: Passed,
}

/// Why nothing more is read from a peer.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("it has gone")]
    Gone,
    #[error("it has gone in the middle of a message")]
    Cut,
    #[error("a message did not arrive in {ARRIVAL_TIMEOUT:?}")]
    Late,
    #[error("flags {0:#x} of a message are not those of version {VERSION}")]
    Flags(u32),
    #[error("a message of {0} bytes is longer than {BODY_BYTES_MAX}")]
    Length(u32),
    #[error("more than {DESCRIPTORS_MAX} descriptors in a message")]
    Descriptors,
    #[error("descriptors that it passed cannot be closed")]
    Strangers,
    #[error("it does not read its answers")]
    Deaf,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<rustix::io::Errno> for WireError {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Io(errno.into())
    }
}

impl Message {
    /// The answer to a request that has no payload: 0 for done, 1 for refused.
    pub(super) fn acknowledgement(request: u32, refused: bool) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + 8);
        for word in [request, VERSION | REPLY, 8] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(u64::from(refused).to_ne_bytes());
        Self { bytes, descriptors: Passed::default() }
    }

    /// The number of the request.
    pub(super) fn request(&self) -> u32 {
        word(&self.bytes, 0)
    }

    /// Whether the sender wants an answer even where the request has none.
    pub(super) fn needs_reply(&self) -> bool {
        word(&self.bytes, 1) & NEED_REPLY != 0
    }

    /// Send it all, or fail: nothing here waits for a peer that does not read.
    pub(super) fn send(&self, socket: impl AsFd) -> Result<(), WireError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors: Vec<BorrowedFd<'_>> = self.descriptors.iter().map(AsFd::as_fd).collect();
        let rights = SendAncillaryMessage::ScmRights(&descriptors);
        if !descriptors.is_empty() && !control.push(rights) {
            return Err(WireError::Descriptors);
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let bytes = [IoSlice::new(&self.bytes)];
        match retry_on_intr(|| sendmsg(&socket, &bytes, &mut control, flags)) {
            Ok(sent) if sent == self.bytes.len() => Ok(()),
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Err(WireError::Deaf),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn word(bytes: &[u8], index: usize) -> u32 {
    let word = bytes.get(4 * index..4 * index + 4).and_then(|bytes| bytes.try_into().ok());
    u32::from_ne_bytes(word.unwrap_or_default())
}

/// The message that is arriving.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    descriptors: Passed,
    late_at: Option<Instant>,
    closers: Arc<Closers>,
}

impl Inbox {
    /// Nothing has come yet. These close what may come and is not to be touched.
    pub(super) fn new(closers: Arc<Closers>) -> Self {
        let descriptors = Passed::closed_by(closers.clone());
        Self { closers, descriptors, ..Self::default() }
    }

    /// When the message that has begun to arrive is late.
    pub(super) fn late_at(&self) -> Option<Instant> {
        self.late_at
    }

    /// Take what has come. `None` while the message is not whole.
    ///
    /// # Errors
    /// After any of them the peer is not to be listened to any more.
    pub(super) fn receive(&mut self, socket: impl AsFd) -> Result<Option<Message>, WireError> {
        loop {
            let missing = self.missing()?;
            if missing == 0 {
                self.late_at = None;
                let bytes = std::mem::take(&mut self.bytes);
                let none = Passed::closed_by(self.closers.clone());
                let descriptors = std::mem::replace(&mut self.descriptors, none);
                return Ok(Some(Message { bytes, descriptors }));
            }
            match self.receive_up_to(missing, socket.as_fd()) {
                Err(WireError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    let late = self.late_at.is_some_and(|late_at| late_at <= Instant::now());
                    return if late { Err(WireError::Late) } else { Ok(None) };
                }
                Err(error) => return Err(error),
                Ok(()) => {
                    self.late_at.get_or_insert_with(|| Instant::now() + ARRIVAL_TIMEOUT);
                }
            }
        }
    }

    /// Bytes that are missing, as far as can be known by now.
    fn missing(&self) -> Result<usize, WireError> {
        if self.bytes.len() < HEADER_BYTES {
            return Ok(HEADER_BYTES - self.bytes.len());
        }
        let (flags, length) = (word(&self.bytes, 1), word(&self.bytes, 2));
        if flags & VERSION_MASK != VERSION || flags & !(VERSION_MASK | REPLY | NEED_REPLY) != 0 {
            return Err(WireError::Flags(flags));
        }
        if length > BODY_BYTES_MAX {
            return Err(WireError::Length(length));
        }
        Ok(HEADER_BYTES + length as usize - self.bytes.len())
    }

    /// Never reads past the message, so that the descriptors of the next are not taken for its own.
    fn receive_up_to(&mut self, missing: usize, socket: BorrowedFd<'_>) -> Result<(), WireError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let have = self.bytes.len();
        self.bytes.resize(have + missing, 0);
        let mut slices = [IoSliceMut::new(&mut self.bytes[have..])];
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = retry_on_intr(|| recvmsg(socket, &mut slices, &mut control, flags));
        let taken = received.as_ref().map_or(0, |received| received.bytes);
        self.bytes.truncate(have + taken);
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                rights.for_each(|descriptor| self.descriptors.add(descriptor));
            }
        }
        let truncated = received?.flags.contains(ReturnFlags::CTRUNC);
        if truncated || self.descriptors.count() > DESCRIPTORS_MAX {
            return Err(WireError::Descriptors);
        }
        match (taken, have) {
            (0, 0) => Err(WireError::Gone),
            (0, _) => Err(WireError::Cut),
            _ => Ok(()),
        }
    }
}

/// Take everything that waits on a socket and forget it.
pub(super) fn discard(socket: impl AsFd) {
    let mut bytes = [0; 512];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    loop {
        // Descriptors that come along are closed with the buffer.
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        match retry_on_intr(|| recvmsg(&socket, &mut slices, &mut control, flags)) {
            Ok(received) if received.bytes > 0 => {}
            _ => return,
        }
    }
}
