//! Vhost-user messages from the front end's side.
//!
//! Knows: headers, bodies, file descriptors and deadlines on one unix socket (vhost-user.rst,
//! "Message Specification"). Must not know: what a message does. Invariant: no call waits longer
//! than [`WAIT`]. It is our own because `vhost`'s `Frontend` retries a timed-out receive for ever
//! and refuses to send what a hostile front end would.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

/// Longest that anything here waits for the back end.
pub const WAIT: Duration = Duration::from_secs(20);

const VERSION: u32 = 1;
/// This is an answer.
pub const FLAG_REPLY: u32 = 4;
/// The sender wants an answer.
pub const FLAG_NEED_REPLY: u32 = 8;
/// Most descriptors that the kernel passes in one go.
pub const SCM_MAX_FD: usize = 253;
const HEADER_BYTES: usize = 12;
const BODY_BYTES_MAX: usize = 65_536;

/// Requests of a front end that this one sends, with their numbers in vhost-user.rst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Ask {
    GetFeatures = 1,
    SetFeatures = 2,
    SetOwner = 3,
    SetMemTable = 5,
    SetLogBase = 6,
    SetVringNum = 8,
    SetVringAddr = 9,
    SetVringBase = 10,
    GetVringBase = 11,
    SetVringKick = 12,
    SetVringCall = 13,
    SetVringErr = 14,
    GetProtocolFeatures = 15,
    SetProtocolFeatures = 16,
    GetQueueNum = 17,
    SetVringEnable = 18,
    SetBackendReqFd = 21,
    GetConfig = 24,
    SetConfig = 25,
    GetInflightFd = 31,
    SetInflightFd = 32,
    ResetDevice = 34,
    GetMaxMemSlots = 36,
    AddMemReg = 37,
    RemMemReg = 38,
}

/// A message as it came.
#[derive(Debug)]
pub struct Message {
    /// The request's number.
    pub request: u32,
    /// Flags without the version.
    flags: u32,
    /// What follows the header.
    pub body: Vec<u8>,
    /// Descriptors that came along.
    pub fds: Vec<OwnedFd>,
}

/// Why a message got no (good) answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The other end closed the connection.
    Closed,
    /// It answered a NEED_REPLY message with this number instead of 0.
    Status(u64),
    /// Nothing came within [`WAIT`].
    Silence,
}

/// A message as bytes.
pub fn message(request: u32, flags: u32, body: &[u8]) -> Vec<u8> {
    let header = [request, VERSION | flags, body.len() as u32];
    let mut bytes: Vec<u8> = header.iter().flat_map(|word| word.to_ne_bytes()).collect();
    bytes.extend(body);
    bytes
}

/// One end of a vhost-user connection.
#[derive(Debug)]
pub struct Wire {
    stream: UnixStream,
    /// REPLY_ACK is negotiated: every message asks for an answer.
    pub acknowledged: bool,
}

impl Wire {
    /// Connect to a back end's socket.
    pub fn connect(path: &Path) -> std::io::Result<Self> {
        Ok(Self::over(UnixStream::connect(path)?))
    }

    /// A wire over a connected socket.
    pub fn over(stream: UnixStream) -> Self {
        Self { stream, acknowledged: false }
    }

    /// Send a message of any shape.
    pub fn send(
        &self,
        request: u32,
        flags: u32,
        body: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), Refusal> {
        self.send_bytes(&message(request, flags, body), fds)
    }

    /// Send any bytes, with descriptors.
    pub fn send_bytes(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Refusal> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SCM_MAX_FD))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)), "too many descriptors");
        }
        let slices = [IoSlice::new(bytes)];
        let sent = rustix::net::sendmsg(&self.stream, &slices, &mut control, SendFlags::NOSIGNAL);
        match sent {
            Ok(sent) if sent == bytes.len() => Ok(()),
            Ok(_) => panic!("the socket took only a part of a message"),
            Err(_) => Err(Refusal::Closed),
        }
    }

    /// The next message from the other end.
    pub fn receive(&self, wait: Duration) -> Result<Message, Refusal> {
        let deadline = Instant::now() + wait;
        let mut header = [0; HEADER_BYTES];
        let mut fds = Vec::new();
        self.fill(&mut header, &mut fds, deadline)?;
        let word = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().expect("4 bytes"));
        let (request, flags, bytes) = (word(0), word(4), word(8) as usize);
        assert_eq!(flags & 3, VERSION, "version in the flags of message {request}");
        assert!(bytes <= BODY_BYTES_MAX, "message {request} claims {bytes} bytes");
        let mut body = vec![0; bytes];
        self.fill(&mut body, &mut fds, deadline)?;
        Ok(Message { request, flags, body, fds })
    }

    fn fill(
        &self,
        mut into: &mut [u8],
        fds: &mut Vec<OwnedFd>,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        while !into.is_empty() {
            if !wait_readable(self.stream.as_fd(), deadline) {
                return Err(Refusal::Silence);
            }
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(32))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut slices = [IoSliceMut::new(into)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            let got = rustix::net::recvmsg(&self.stream, &mut slices, &mut control, flags);
            let bytes = match got {
                Ok(got) if got.bytes > 0 => got.bytes,
                _ => return Err(Refusal::Closed),
            };
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    fds.extend(rights);
                }
            }
            into = &mut into[bytes..];
        }
        Ok(())
    }

    /// Ask for something that always has an answer.
    pub fn ask(&self, request: Ask, body: &[u8]) -> Result<Message, Refusal> {
        self.send(request as u32, 0, body, &[])?;
        let reply = self.receive(WAIT)?;
        assert_eq!(reply.request, request as u32, "answer to another request than {request:?}");
        assert_ne!(reply.flags & FLAG_REPLY, 0, "answer to {request:?} without the reply flag");
        Ok(reply)
    }

    /// Ask for something that always has an answer, with a descriptor.
    pub fn ask_with(
        &self,
        request: Ask,
        body: &[u8],
        fd: BorrowedFd<'_>,
    ) -> Result<Message, Refusal> {
        self.send(request as u32, 0, body, &[fd])?;
        self.receive(WAIT)
    }

    /// Ask for one 64-bit number.
    pub fn ask_u64(&self, request: Ask) -> Result<u64, Refusal> {
        let reply = self.ask(request, &[])?;
        Ok(u64::from_ne_bytes(reply.body.try_into().expect("an answer of 8 bytes")))
    }

    /// Tell something; with REPLY_ACK, wait until it is done.
    pub fn tell(&self, request: Ask, body: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), Refusal> {
        if !self.acknowledged {
            return self.send(request as u32, 0, body, fds);
        }
        self.send(request as u32, FLAG_NEED_REPLY, body, fds)?;
        let reply = self.receive(WAIT)?;
        assert_eq!(reply.request, request as u32, "answer to another request than {request:?}");
        match u64::from_ne_bytes(reply.body.try_into().expect("an answer of 8 bytes")) {
            0 => Ok(()),
            status => Err(Refusal::Status(status)),
        }
    }

    /// Answer a message of the other end with "done", where it asks for an answer.
    pub fn acknowledge(&self, message: &Message) -> Result<(), Refusal> {
        if message.flags & FLAG_NEED_REPLY == 0 {
            return Ok(());
        }
        self.send(message.request, FLAG_REPLY, &0u64.to_ne_bytes(), &[])
    }

    /// Whether the other end has closed the connection, or does so within `wait`.
    pub fn closes_within(&self, wait: Duration) -> bool {
        matches!(self.receive(wait), Err(Refusal::Closed))
    }
}

/// Wait until a descriptor is readable; false when the deadline passed first.
pub fn wait_readable(fd: BorrowedFd<'_>, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).expect("a short time");
        match rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("poll: {error}"),
        }
    }
}
