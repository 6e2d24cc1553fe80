//! What a write takes is cut short, and the image keeps what it has (B-17).
//!
//! A front end that cuts its memory, or a host that has no page left for it, is no reason for zeroes on
//! the disk that nobody wrote: each case ends with the disk read back.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::ftruncate;

use crate::support::daemon::Daemon;
use crate::support::front::{Desc, Front, Queue, Status, UNWRITTEN, feature, header, kind};

/// One region for rings and headers, one for what is cut.
const LAYOUT: &[(u64, u64)] = &[(0, 16 << 20), (1 << 32, 1 << 20)];
const DATA: u64 = 1 << 32;
/// What is on the disk, and what is written when the memory goes.
const OLD: u8 = 0xaa;
const NEW: u8 = 0xbb;
/// So much of the disk is looked at, and each write is of so much.
const DISK_BYTES: usize = 256 << 10;
const BYTES: u32 = 128 << 10;

/// A request whose memory goes: it is offered, not kicked. Its status bytes.
type Offer = fn(&mut Front, &mut Queue) -> Vec<u64>;

struct Case {
    what: &'static str,
    offer: Offer,
    /// So much of the second region is left.
    left_bytes: u64,
    /// What the disk may hold afterwards.
    allowed: &'static [u8],
}

const CASES: &[Case] = &[
    Case { what: "all of it", offer: payload::<0>, left_bytes: 0, allowed: &[OLD] },
    Case {
        what: "all of it, at an odd address",
        offer: payload::<1>,
        left_bytes: 0,
        allowed: &[OLD],
    },
    Case { what: "its end", offer: payload::<0>, left_bytes: 64 << 10, allowed: &[OLD, NEW] },
    Case {
        what: "its end, at an odd address",
        offer: payload::<1>,
        left_bytes: 64 << 10,
        allowed: &[OLD, NEW],
    },
    Case {
        what: "all of it, when the daemon has met the gap",
        offer: payload_after_a_gap,
        left_bytes: 0,
        allowed: &[OLD],
    },
    Case {
        what: "the place in its header",
        offer: header_in_halves,
        left_bytes: 0,
        allowed: &[OLD],
    },
];

/// A write of memory at this distance from a page.
fn payload<const AT: u64>(front: &mut Front, queue: &mut Queue) -> Vec<u64> {
    let [head, status] = request(front, 0);
    let from = Desc::readable(DATA + AT, BYTES);
    queue.submit_chain(&[Desc::readable(head, 16), from, Desc::writable(status, 1)]);
    vec![status]
}

/// Before the write comes a request whose header is not there: the daemon finds that out itself, and
/// has zeroes in its place from then on.
fn payload_after_a_gap(front: &mut Front, queue: &mut Queue) -> Vec<u64> {
    let [_, status] = request(front, 0);
    let into = Desc::writable(front.memory.allocate(512, 512), 512);
    let header = Desc::readable(DATA + (512 << 10), 16);
    queue.submit_chain(&[header, into, Desc::writable(status, 1)]);
    [vec![status], payload::<0>(front, queue)].concat()
}

/// The header says that it is a write, and to where in memory that is gone: at 0 is something else.
fn header_in_halves(front: &mut Front, queue: &mut Queue) -> Vec<u64> {
    let [head, status] = request(front, 0);
    let from = front.memory.allocate(4096, 4096);
    front.memory.write(from, &[NEW; 4096]);
    let halves = [Desc::readable(head, 8), Desc::readable(DATA, 8)];
    let rest = [Desc::readable(from, 4096), Desc::writable(status, 1)];
    queue.submit_chain(&[halves, rest].concat());
    vec![status]
}

/// A header of a write and a status byte.
fn request(front: &Front, sector: u64) -> [u64; 2] {
    let [head, status] = [16, 1].map(|bytes| front.memory.allocate(bytes, 16));
    front.memory.write(head, &header(kind::OUT, sector));
    front.memory.write(status, &[UNWRITTEN]);
    [head, status]
}

fn front(socket: &Path) -> (Front, Queue) {
    let mut front = Front::with_memory(socket, LAYOUT);
    front.negotiate(feature::ALL);
    let queue = front.start_queues(1, 16).remove(0);
    (front, queue)
}

/// Wait until so many requests are answered, or the session has ended.
fn wait_for_ends(front: &Front, queue: &mut Queue, mut requests: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while requests > 0 && !front.wire.closes_within(Duration::from_millis(1)) {
        assert!(Instant::now() < deadline, "{requests} requests have no answer");
        while queue.pop_used().is_some() {
            requests -= 1;
        }
    }
}

fn tell(socket: &Path, disk: &str, case: &Case) {
    let what = format!("{disk}: {}", case.what);
    let (mut cutter, mut queue) = front(socket);
    assert_eq!(queue.write(0, &[OLD; DISK_BYTES]).status, Status::Ok, "{what}");
    cutter.memory.write(DATA, &[NEW; 1 << 20]);
    let statuses = (case.offer)(&mut cutter, &mut queue);
    ftruncate(cutter.memory.regions()[1].memfd(), case.left_bytes).unwrap();
    queue.kick_always();
    wait_for_ends(&cutter, &mut queue, statuses.len());
    for status in statuses {
        let status = Status::from(cutter.memory.read(status, 1)[0]);
        assert!([Status::IoErr, Status::Unwritten].contains(&status), "{what}: {status:?}");
    }
    drop((cutter, queue));
    let (_next, mut queue) = front(socket);
    let found = queue.read(0, DISK_BYTES);
    assert_eq!(found.status, Status::Ok, "{what}");
    let wrong = found.data.iter().filter(|byte| !case.allowed.contains(byte)).count();
    assert_eq!(wrong, 0, "{what}: bytes that are neither what was there nor what was written");
}

#[test]
fn memory_that_goes_leaves_the_image_as_it_was() {
    // Where a file can be opened around the page cache.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let raw = |name: &str, options: &str| {
        let path = dir.path().join(format!("{name}.img"));
        std::fs::File::create(&path).unwrap().set_len(4 << 20).unwrap();
        (name.to_owned(), format!("id={name},blk-file={},{options}", path.display()))
    };
    let (names, disks): (Vec<_>, Vec<_>) = [
        ("memory".to_owned(), "id=memory,memory=4M".to_owned()),
        raw("plain-threads", "aio=threads"),
        raw("plain-auto", "cache=writeback"),
        raw("direct-threads", "aio=threads,cache=none"),
        raw("direct-auto", "cache=none"),
    ]
    .into_iter()
    .unzip();
    let disks: Vec<&str> = disks.iter().map(String::as_str).collect();
    // A unix socket's path is short.
    let sockets = tempfile::tempdir().unwrap();
    let daemon = Daemon::start_disks(sockets.path(), &disks);
    for (name, case) in names.iter().flat_map(|name| CASES.iter().map(move |case| (name, case))) {
        tell(&daemon.socket(name), name, case);
    }
    for name in &names {
        daemon.wait_said(&format!("disk {name}: front end dropped: memory that it shares"), 1);
    }
    assert!(daemon.terminate().success());
}
