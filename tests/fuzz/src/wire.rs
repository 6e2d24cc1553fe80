//! A vhost-user front end that sends whatever it is told to.
//!
//! Knows: messages, descriptors of every kind, and which message an answer belongs to. Must not know:
//! what messages do. Invariant: an answer is to the message that was just served, and no message gets
//! two.

use std::cell::RefCell;
use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use blkfault::export::Disk;
use blkfault::fuzzing::FrontEnd;
use rustix::event::EventfdFlags;
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::input::{Reader, Writer};

/// Most descriptors in a message of an input: more than any message may have.
const FDS_MAX: u8 = 40;
/// Requests that the front end waits for an answer to, whatever it negotiated.
const ANSWERED: [u32; 8] = [1, 6, 11, 15, 17, 24, 31, 36];
/// Requests of features that are not offered, some of which a refusal answers.
const MAY_ANSWER: std::ops::RangeInclusive<u32> = 40..=44;
const REPLY: u32 = 4;
const NEED_REPLY: u32 = 8;

/// A message of an input.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    pub request: u8,
    /// As sent: 1 is version 1, 9 wants a reply.
    pub flags: u8,
    /// What the header says instead of the payload's length.
    pub length: Option<u32>,
    pub payload: Vec<u8>,
    /// Kinds of descriptors ([`make_fd`]).
    pub fds: Vec<u8>,
    /// Bytes that are sent at once; 0: all.
    pub cut: u8,
}

impl Message {
    pub fn new(request: u8, payload: Vec<u8>) -> Self {
        Self { request, flags: 1, payload, ..Self::default() }
    }

    pub fn with(self, fds: &[u8]) -> Self {
        Self { fds: fds.to_vec(), ..self }
    }

    pub fn read(input: &mut Reader<'_>) -> Self {
        let (request, flags, says) = (input.u8(), input.u8() ^ 1, input.u8());
        let length = (says & 1 != 0).then(|| input.u32());
        let payload = usize::from(input.u16() % 4200);
        let payload = input.take(payload).to_vec();
        let fds = usize::from(input.u8() % FDS_MAX);
        let fds = input.take(fds).to_vec();
        Self { request, flags, length, payload, fds, cut: input.u8() }
    }

    pub fn write(&self, output: &mut Writer) {
        output.u8(self.request);
        output.u8(self.flags ^ 1);
        output.u8(self.length.is_some().into());
        if let Some(length) = self.length {
            output.u32(length);
        }
        output.u16(u16::try_from(self.payload.len()).unwrap_or(4199));
        output.bytes(&self.payload);
        output.u8(u8::try_from(self.fds.len()).unwrap_or(FDS_MAX - 1));
        output.bytes(&self.fds);
        output.u8(self.cut);
    }

    fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap_or(0);
        let header = [self.request.into(), self.flags.into(), self.length.unwrap_or(length)];
        let header = header.iter().flat_map(|word: &u32| word.to_ne_bytes());
        header.chain(self.payload.iter().copied()).collect()
    }
}

/// Words and numbers of a payload.
pub fn payload(words: &[u32], numbers: &[u64]) -> Vec<u8> {
    let words = words.iter().flat_map(|word| word.to_ne_bytes());
    words.chain(numbers.iter().flat_map(|number| number.to_ne_bytes())).collect()
}

/// Kinds of descriptors.
pub mod fd {
    pub const MEMORY: u8 = 0;
    pub const SMALL_MEMORY: u8 = 1;
    pub const SEALED_MEMORY: u8 = 2;
    pub const READ_ONLY_MEMORY: u8 = 3;
    pub const CUT_MEMORY: u8 = 4;
    pub const EVENT: u8 = 5;
    pub const FULL_EVENT: u8 = 6;
    pub const PIPE: u8 = 7;
    pub const DEAF_PIPE: u8 = 8;
    pub const SOCKET: u8 = 9;
    pub const DIRECTORY: u8 = 10;
    pub const NULL: u8 = 11;
    pub const ZERO: u8 = 12;
    pub const EPOLL: u8 = 13;
}

/// Bytes of a memory that all of a guest fits into.
const MEMORY_BYTES: u64 = 1 << 20;
/// The name under which mappings of it show.
const MEMORY_NAME: &str = "blkfault-fuzz";

/// A new memory file; it may be sealed or cut short later.
pub fn memory(bytes: u64, flags: MemfdFlags) -> OwnedFd {
    let file = rustix::fs::memfd_create(MEMORY_NAME, MemfdFlags::CLOEXEC | flags).expect("memfd");
    rustix::fs::ftruncate(&file, bytes).expect("memory");
    file
}

fn sealed(seals: SealFlags) -> OwnedFd {
    let file = memory(MEMORY_BYTES, MemfdFlags::ALLOW_SEALING);
    rustix::fs::fcntl_add_seals(&file, seals).expect("seals");
    file
}

fn open(path: &str, flags: OFlags) -> OwnedFd {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).expect("a device")
}

/// A descriptor of this kind.
pub fn make_fd(kind: u8) -> OwnedFd {
    let event =
        |count| rustix::event::eventfd(count, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
    match kind % 14 {
        fd::MEMORY => memory(MEMORY_BYTES, MemfdFlags::ALLOW_SEALING),
        fd::SMALL_MEMORY => memory(4096, MemfdFlags::ALLOW_SEALING),
        fd::SEALED_MEMORY => sealed(SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL),
        fd::READ_ONLY_MEMORY => sealed(SealFlags::WRITE),
        fd::CUT_MEMORY => memory(MEMORY_BYTES, MemfdFlags::empty()),
        fd::EVENT => event(0).expect("an eventfd"),
        fd::FULL_EVENT => {
            let full = event(0).expect("an eventfd");
            rustix::io::write(&full, &(u64::MAX - 1).to_ne_bytes()).expect("room");
            full
        }
        fd::PIPE => rustix::pipe::pipe().expect("a pipe").0,
        fd::DEAF_PIPE => rustix::pipe::pipe().expect("a pipe").1,
        fd::SOCKET => UnixStream::pair().expect("sockets").0.into(),
        fd::DIRECTORY => open("/", OFlags::RDONLY | OFlags::DIRECTORY),
        fd::NULL => open("/dev/null", OFlags::RDWR),
        fd::ZERO => open("/dev/zero", OFlags::RDWR),
        _ => {
            rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).expect("epoll")
        }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub request: u32,
    pub payload: Vec<u8>,
}

/// A front end and the back end that serves it, on one thread.
#[derive(Debug)]
pub struct Link {
    ours: UnixStream,
    /// The back end's end, only to see how much it has not read.
    theirs: UnixStream,
    back_end: Option<FrontEnd>,
    /// Sent and not read by the back end, or read and not a whole message.
    stream: Vec<u8>,
    unread: usize,
    /// For answers: no message that is asked for has a longer one.
    buffer: Vec<u8>,
}

impl Link {
    pub fn new(disk: Arc<Disk>) -> Self {
        static ONCE: Once = Once::new();
        // SAFETY: sets the disposition that Rust's own main sets, before anybody writes to a pipe.
        ONCE.call_once(|| unsafe {
            libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        });
        let (ours, theirs) = UnixStream::pair().expect("sockets");
        ours.set_nonblocking(true).expect("a socket");
        let back_end = FrontEnd::new(theirs.try_clone().expect("a descriptor"), disk);
        let back_end = Some(back_end.expect("descriptors"));
        let buffer = vec![0; 1 << 13];
        Self { ours, theirs, back_end, stream: Vec::new(), unread: 0, buffer }
    }

    /// Whether the back end still listens.
    pub fn is_up(&self) -> bool {
        self.back_end.is_some()
    }

    /// Send a message with descriptors that are made for it.
    pub fn send_made(&mut self, message: &Message) -> Vec<Answer> {
        let made: Vec<OwnedFd> = message.fds.iter().map(|kind| make_fd(*kind)).collect();
        let borrowed: Vec<BorrowedFd<'_>> = made.iter().map(AsFd::as_fd).collect();
        let answers = self.send(message, &borrowed);
        for (kind, file) in message.fds.iter().zip(&made) {
            if kind % 14 == fd::CUT_MEMORY {
                let _ = rustix::fs::ftruncate(file, 0);
            }
        }
        answers
    }

    /// Send a message and have it served; what is answered.
    pub fn send(&mut self, message: &Message, fds: &[BorrowedFd<'_>]) -> Vec<Answer> {
        let bytes = message.bytes();
        let step = if message.cut == 0 { bytes.len() } else { message.cut.into() };
        let (mut answers, mut fds) = (Vec::new(), fds);
        for piece in bytes.chunks(step) {
            if !self.is_up() || !self.send_piece(piece, fds) {
                break;
            }
            fds = &[];
            self.serve(&mut answers);
        }
        answers
    }

    fn send_piece(&mut self, piece: &[u8], fds: &[BorrowedFd<'_>]) -> bool {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(40))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let sent = sendmsg(&self.ours, &[IoSlice::new(piece)], &mut control, flags);
        let sent = sent.unwrap_or(0);
        self.stream.extend(&piece[..sent]);
        self.unread += sent;
        sent == piece.len()
    }

    fn serve(&mut self, answers: &mut Vec<Answer>) {
        while let Some(back_end) = &mut self.back_end {
            let before = self.unread;
            if before == 0 {
                return;
            }
            let goes_on = back_end.serve();
            self.unread =
                rustix::io::ioctl_fionread(&self.theirs).unwrap_or(0).try_into().unwrap_or(0);
            let new = self.receive();
            self.account(&new, goes_on);
            answers.extend(new);
            if !goes_on {
                self.back_end = None;
            } else if self.unread == before {
                return;
            }
        }
    }

    /// Whose answers these are: at most one message was served.
    fn account(&mut self, answers: &[Answer], goes_on: bool) {
        let word = |at: usize| {
            let bytes = self.stream.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            u32::from_ne_bytes(bytes.unwrap_or_default())
        };
        let (request, flags) = (word(0), word(4));
        let length = 12 + usize::try_from(word(8)).unwrap_or(usize::MAX - 12);
        let whole = self.stream.len() >= 12 && self.stream.len() - self.unread >= length;
        if !whole {
            assert!(answers.is_empty(), "an answer to half a message: {answers:?}");
            return;
        }
        self.stream.drain(..length);
        assert!(answers.len() <= 1, "two answers to message {request}: {answers:?}");
        for answer in answers {
            assert_eq!(answer.request, request, "the answer to another message");
        }
        let expects = ANSWERED.contains(&request);
        if goes_on && expects && flags & REPLY == 0 {
            assert_eq!(answers.len(), 1, "message {request} waits for its answer");
        }
        if flags & NEED_REPLY == 0 && !expects && !MAY_ANSWER.contains(&request) {
            assert!(answers.is_empty(), "nobody asked for an answer to message {request}");
        }
    }

    fn receive(&mut self) -> Vec<Answer> {
        // Descriptors that come along are dropped by the kernel: no room is made for them.
        let count = self.ours.read(&mut self.buffer).unwrap_or(0);
        let (mut answers, mut rest) = (Vec::new(), &self.buffer[..count]);
        while !rest.is_empty() {
            assert!(rest.len() >= 12, "half an answer: {rest:?}");
            let word = |at: usize| u32::from_ne_bytes(rest[at..at + 4].try_into().expect("a word"));
            assert_eq!(word(4), REPLY | 1, "an answer says that it is one");
            let end = 12 + usize::try_from(word(8)).expect("64 bits");
            assert!(rest.len() >= end, "half an answer: {rest:?}");
            answers.push(Answer { request: word(0), payload: rest[12..end].to_vec() });
            rest = &rest[end..];
        }
        answers
    }
}

/// Descriptors below this are looked for.
const FDS_END: i32 = 400;
/// Until all that front ends passed is closed, on a busy machine.
const CLOSED_WITHIN: Duration = Duration::from_secs(10);
/// Inputs between looks for mappings, which are dear.
const INPUTS_PER_LOOK: usize = 16;

/// How many descriptors the process has.
fn descriptors() -> usize {
    let mut fds: [libc::pollfd; FDS_END as usize] =
        std::array::from_fn(|fd| libc::pollfd { fd: fd as i32, events: 0, revents: 0 });
    // SAFETY: that many entries are there.
    unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, 0) };
    fds.iter().filter(|fd| fd.revents & libc::POLLNVAL == 0).count()
}

/// How many mappings of what front ends give it.
fn mappings() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let of_front_ends = |line: &&str| line.contains(MEMORY_NAME) || line.contains("/dev/zero");
    maps.lines().filter(of_front_ends).count()
}

/// Try an input: when the front end has gone, no descriptor and no mapping of its may be left. Mappings
/// are looked for after some inputs; where one is left, these are tried again one by one, to know which.
pub fn leaves_nothing(input: &[u8], run: fn(&[u8])) {
    thread_local! {
        static SINCE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    }
    blkfault::export::open_beforehand();
    let before = descriptors();
    run(input);
    let began = Instant::now();
    // Files that nothing may be asked are closed by another thread.
    while descriptors() != before && began.elapsed() < CLOSED_WITHIN {
        std::thread::yield_now();
    }
    assert_eq!(descriptors(), before, "descriptors after the front end has gone");
    let mut since = SINCE.take();
    since.push(input.to_vec());
    if since.len() < INPUTS_PER_LOOK {
        SINCE.set(since);
        return;
    }
    let found = mappings();
    for input in since.iter().filter(|_| found > 0) {
        let before = mappings();
        run(input);
        assert_eq!(mappings(), before, "mappings after the front end of {input:?} has gone");
    }
    assert_eq!(found, 0, "mappings after the front ends of some inputs have gone");
}

/// The number of a descriptor, for messages of failures.
pub fn number(fd: impl AsFd) -> i32 {
    fd.as_fd().as_raw_fd()
}
