//! The socket of one front end, message by message.
//!
//! Knows: how messages and their answers travel between the front end, the `vhost` crate and the
//! session. Must not know: what messages mean. Invariants: nothing here waits for the front end;
//! a message is refused or the connection ended, and the front end is never left waiting for an
//! answer that does not come.
//!
//! The crate decodes messages but reads them as if each came in one piece, loses its step when one
//! is malformed, and cannot announce a change of the configuration space. So whole messages are
//! taken from the front end here ([`wire`](super::wire)) and handed to the crate over a socket pair
//! of our own, which can be emptied after each.

use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendFlags, send};
use vhost::vhost_user::BackendReqHandler;

use super::disk::Disk;
use super::mapping::Sharer;
use super::passed::{Closers, REFUSAL};
use super::session::Session;
use super::wire::{Inbox, Message, WireError, discard};

/// VHOST_USER_SET_BACKEND_REQ_FD.
const SET_BACKEND_REQ_FD: u32 = 21;
/// VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, version 1, no payload, no reply wanted.
const CONFIG_CHANGE: [u32; 3] = [2, 1, 0];
/// Requests whose answer is a payload, which a refusal cannot give: the front end would wait for
/// ever. GET_FEATURES, SET_LOG_BASE, GET_VRING_BASE, GET_PROTOCOL_FEATURES, GET_QUEUE_NUM,
/// GET_CONFIG, GET_INFLIGHT_FD, GET_MAX_MEM_SLOTS.
const AWAITS_PAYLOAD: [u32; 8] = [1, 6, 11, 15, 17, 24, 31, 36];

/// What became of the messages that were waiting.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// One was done or refused, or has not come in whole yet; the session goes on.
    Message,
    /// The front end has gone, or its stream makes no sense any more.
    Ended,
}

/// A connected front end and its session.
pub(super) struct Connection {
    disk_id: String,
    stream: UnixStream,
    sharer: Arc<Sharer>,
    inbox: Inbox,
    closers: Arc<Closers>,
    session: Arc<Mutex<Session>>,
    /// The crate's end of the pair, and the crate.
    decoder_end: UnixStream,
    decoder: BackendReqHandler<Mutex<Session>>,
    /// Our end of the pair.
    relay: UnixStream,
    /// The channel on which the back end may speak first.
    backend_channel: Option<OwnedFd>,
}

impl Connection {
    pub(super) fn new(stream: UnixStream, disk: Arc<Disk>) -> io::Result<Self> {
        let disk_id = disk.options.id.clone();
        let sharer = Arc::new(Sharer::new(stream.try_clone()?.into()));
        let inbox = Inbox::new(disk.closers.clone());
        let closers = disk.closers.clone();
        let session = Arc::new(Mutex::new(Session::new(disk, sharer.clone())));
        let (relay, decoder_end) = UnixStream::pair()?;
        let decoder = BackendReqHandler::from_stream(decoder_end.try_clone()?, session.clone());
        Ok(Self {
            disk_id,
            stream,
            sharer,
            inbox,
            closers,
            session,
            decoder_end,
            decoder,
            relay,
            backend_channel: None,
        })
    }

    /// The socket, to wait on.
    pub(super) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Whether the front end has closed its end; what it sent before may still be unread.
    pub(super) fn is_hung_up(&self) -> bool {
        let mut fds = [PollFd::new(&self.stream, PollFlags::empty())];
        let now = Timespec::default();
        poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().contains(PollFlags::HUP)
    }

    /// When [`serve`](Self::serve) is to be called even though nothing has come.
    pub(super) fn late_at(&self) -> Option<Instant> {
        self.inbox.late_at()
    }

    /// Serve the message that has come, if all of it has.
    pub(super) fn serve(&mut self) -> Served {
        let served = match self.inbox.receive(&self.stream) {
            Ok(None) => Ok(()),
            Ok(Some(message)) => self.relay(message),
            Err(error) => Err(error),
        };
        if self.sharer.has_cut() {
            log::error!(
                "disk {}: front end dropped: memory that it shares is gone (its file was cut short, \
                 or the host has no more)",
                self.disk_id
            );
            return Served::Ended;
        }
        match served {
            Ok(()) => Served::Message,
            Err(WireError::Gone) => Served::Ended,
            Err(error) => {
                log::warn!("disk {}: front end dropped: {error}", self.disk_id);
                Served::Ended
            }
        }
    }

    /// Have a message decoded and done, and pass the answer on.
    fn relay(&mut self, message: Message) -> Result<(), WireError> {
        let (request, needs_reply) = (message.request(), message.needs_reply());
        let channel = match &message.descriptors[..] {
            [channel] if request == SET_BACKEND_REQ_FD => Some(channel.try_clone()?),
            _ => None,
        };
        if message.descriptors.has_strangers() {
            log::warn!(
                "disk {}: message {request} of the front end refused: {REFUSAL}",
                self.disk_id
            );
            drop(message);
            if self.closers.are_stuck() {
                return Err(WireError::Strangers);
            }
            return self.answer_without_payload(request, needs_reply, true);
        }
        message.send(&self.relay)?;
        drop(message);
        let done = self.decoder.handle_request();
        // The crate may have stopped reading in the middle of what it did not like.
        discard(&self.decoder_end);
        let answer = Inbox::default().receive(&self.relay)?;

        if let Err(error) = &done {
            log::warn!(
                "disk {}: message {request} of the front end refused: {error}",
                self.disk_id
            );
        } else if channel.is_some() {
            self.backend_channel = channel;
        }
        if let Some(answer) = answer {
            return answer.send(&self.stream);
        }
        self.answer_without_payload(request, needs_reply, done.is_err())
    }

    fn answer_without_payload(
        &self,
        request: u32,
        needs_reply: bool,
        refused: bool,
    ) -> Result<(), WireError> {
        if AWAITS_PAYLOAD.contains(&request) {
            let why = "it waits for an answer that cannot be given";
            return Err(WireError::Io(io::Error::other(why)));
        }
        if needs_reply && self.acknowledges() {
            Message::acknowledgement(request, refused).send(&self.stream)?;
        }
        Ok(())
    }

    /// Whether REPLY_ACK is negotiated.
    fn acknowledges(&self) -> bool {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).acknowledges()
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
}

impl Drop for Connection {
    /// Memory that is still at the image keeps a descriptor of the connection.
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
