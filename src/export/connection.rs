//! The socket of one front end, message by message.
//!
//! Knows: the vhost-user wire as far as the `vhost` crate leaves it to us. Must not know: what
//! messages mean. Invariant: serving one message never waits for a front end that sends nothing.
//!
//! The crate has no way to announce a change of the configuration space. Before it reads a message
//! we peek at the header; peeking at attached descriptors makes duplicates of them, which is how we
//! come by a copy of the back end's own channel (SET_BACKEND_REQ_FD) to write the announcement to.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send};
use vhost::vhost_user::{BackendReqHandler, Error};

use super::disk::Disk;
use super::session::{Session, is_in_step};

/// How long a message that has begun may take to arrive.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(2);
/// VHOST_USER_SET_BACKEND_REQ_FD.
const SET_BACKEND_REQ_FD: u32 = 21;
/// VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, version 1, no payload, no reply wanted.
const CONFIG_CHANGE: [u32; 3] = [2, 1, 0];
/// Requests whose answer is a payload, which a refusal cannot give: the front end would wait for
/// ever. GET_FEATURES, SET_LOG_BASE, GET_VRING_BASE, GET_PROTOCOL_FEATURES, GET_QUEUE_NUM,
/// GET_CONFIG, GET_INFLIGHT_FD, GET_MAX_MEM_SLOTS.
const AWAITS_PAYLOAD: [u32; 8] = [1, 6, 11, 15, 17, 24, 31, 36];
/// Descriptors that a message may carry at most (`MAX_ATTACHED_FD_ENTRIES` of the crate).
const DESCRIPTORS_MAX: usize = 32;

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// It was done or refused; the session goes on.
    Message,
    /// The front end has gone, or its stream makes no sense any more.
    Ended,
}

/// A connected front end and its session.
pub(super) struct Connection {
    disk_id: String,
    stream: UnixStream,
    handler: BackendReqHandler<Mutex<Session>>,
    /// The channel on which the back end may speak first.
    backend_channel: Option<OwnedFd>,
}

impl Connection {
    pub(super) fn new(stream: UnixStream, disk: Arc<Disk>) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(MESSAGE_TIMEOUT))?;
        stream.set_write_timeout(Some(MESSAGE_TIMEOUT))?;
        let disk_id = disk.options.id.clone();
        let session = Arc::new(Mutex::new(Session::new(disk)));
        let handler = BackendReqHandler::from_stream(stream.try_clone()?, session);
        Ok(Self { disk_id, stream, handler, backend_channel: None })
    }

    /// The socket, to wait on.
    pub(super) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Serve the message that is waiting.
    pub(super) fn serve(&mut self) -> Served {
        let request = match self.peek() {
            Ok(request) => request,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Served::Ended,
            Err(error) => {
                log::warn!("disk {}: front end: {error}", self.disk_id);
                return Served::Ended;
            }
        };
        match self.handler.handle_request() {
            Ok(()) => Served::Message,
            Err(Error::Disconnected) => Served::Ended,
            Err(error) if is_in_step(&error) && !AWAITS_PAYLOAD.contains(&request) => {
                log::warn!("disk {}: front end's message refused: {error}", self.disk_id);
                Served::Message
            }
            Err(error) => {
                log::warn!("disk {}: front end dropped: {error}", self.disk_id);
                Served::Ended
            }
        }
    }

    /// Tell the front end that the configuration space changed. Never waits.
    pub(super) fn announce_config_change(&self) {
        let Some(channel) = &self.backend_channel else {
            log::warn!("disk {}: the front end has no channel for a config change", self.disk_id);
            return;
        };
        let message: Vec<u8> = CONFIG_CHANGE.iter().flat_map(|word| word.to_ne_bytes()).collect();
        match send(channel, &message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) if sent == message.len() => {}
            _ => log::warn!("disk {}: the front end did not take a config change", self.disk_id),
        }
    }

    /// Look at the next header without taking it; tells which request it is.
    fn peek(&mut self) -> io::Result<u32> {
        let mut header = [0; 12];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::PEEK | RecvFlags::CMSG_CLOEXEC;
        let mut iov = [IoSliceMut::new(&mut header)];
        let received = recvmsg(self.stream.as_fd(), &mut iov, &mut ancillary, flags)?;
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let request = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
        let descriptors = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        // Every duplicate that is not kept is closed here.
        let mut descriptors: Vec<OwnedFd> = descriptors.flatten().collect();
        if request == SET_BACKEND_REQ_FD && received.bytes >= 4 && descriptors.len() == 1 {
            self.backend_channel = descriptors.pop();
        }
        Ok(request)
    }
}
