//! Messages that break the rules, one by one, and sessions that are cut.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::support::backend::DISK_BYTES;
use crate::support::front::{
    Ask, FLAG_NEED_REPLY, FLAG_REPLY, Front, Memory, ONE_REGION, Queue, Region, SCM_MAX_FD,
    Sharing, feature, message, protocol,
};
use crate::{Stage, ready, silent, words};

pub(crate) fn byte_by_byte(served: &Stage) {
    let wire = silent(served);
    let region = Region::new(0, 1 << 20);
    let table = [words(&[1]), words(&[0, 1 << 20, region.user_address(), 0])].concat();
    let honest: [(Ask, Vec<u8>, Option<BorrowedFd<'_>>); 5] = [
        (Ask::SetOwner, vec![], None),
        (Ask::GetFeatures, vec![], None),
        (Ask::SetProtocolFeatures, words(&[protocol::REPLY_ACK]), None),
        (Ask::SetFeatures, words(&[feature::VERSION_1 | feature::PROTOCOL_FEATURES]), None),
        (Ask::SetMemTable, table, Some(region.memfd())),
    ];
    for (ask, body, fd) in &honest {
        for (at, byte) in message(*ask as u32, 0, body).iter().enumerate() {
            // A descriptor comes with the first byte, or with the last as some senders do.
            let with_fd = fd.iter().copied().filter(|_| at == 0).collect::<Vec<_>>();
            wire.send_bytes(&[*byte], &with_fd).unwrap();
        }
        if *ask == Ask::GetFeatures {
            assert_eq!(wire.receive(Duration::from_secs(5)).unwrap().body.len(), 8);
        }
    }
    wire.send(Ask::SetVringNum as u32, FLAG_NEED_REPLY, &[0, 0, 0, 0, 16, 0, 0, 0], &[]).unwrap();
    let answer = wire.receive(Duration::from_secs(5)).unwrap();
    assert_eq!(answer.body, [0; 8], "everything before was understood");
}

pub(crate) fn two_at_once(served: &Stage) {
    let wire = silent(served);
    let ask = message(Ask::GetFeatures as u32, 0, &[]);
    wire.send_bytes(&[ask.clone(), ask.clone(), ask].concat(), &[]).unwrap();
    for _ in 0..3 {
        assert_eq!(wire.receive(Duration::from_secs(5)).unwrap().request, Ask::GetFeatures as u32);
    }
}

pub(crate) fn lengths(served: &Stage) {
    for length in [4097u32, 0x1_0000, u32::MAX] {
        let wire = silent(served);
        let mut bytes = message(Ask::SetMemTable as u32, 0, &[]);
        bytes[8..12].copy_from_slice(&length.to_ne_bytes());
        wire.send_bytes(&bytes, &[]).unwrap();
        assert!(wire.closes_within(Duration::from_secs(20)), "{length} bytes");
        served.wait_disconnected();
    }
    let front = ready(served);
    for ask in 1..45 {
        for length in [0, 1, 7, 8, 9, 40, 4096] {
            let _ = front.wire.send(ask, 0, &vec![0xff; length], &[]);
        }
    }
}

pub(crate) fn flags(served: &Stage) {
    for wrong in [1, 2, 3, 0x10, 0x8000_0000] {
        let wire = silent(served);
        // The version is 1; these are added to it, or make another of it.
        let mut bytes = message(Ask::GetFeatures as u32, 0, &[]);
        bytes[4..8].copy_from_slice(&(1u32 ^ wrong).to_ne_bytes());
        wire.send_bytes(&bytes, &[]).unwrap();
        assert!(wire.closes_within(Duration::from_secs(20)), "flags {:#x}", 1 ^ wrong);
        served.wait_disconnected();
    }
    let wire = silent(served);
    wire.send(Ask::SetOwner as u32, FLAG_REPLY, &[], &[]).unwrap();
    wire.send(Ask::GetFeatures as u32, FLAG_REPLY, &[], &[]).unwrap();
    assert!(wire.closes_within(Duration::from_secs(20)), "an answer to nothing");
}

pub(crate) fn unknown_requests(served: &Stage) {
    let front = ready(served);
    for request in (45..64).chain([0, 1000, u32::MAX]) {
        front.wire.send(request, FLAG_NEED_REPLY, &[], &[]).unwrap();
        let answer = front.wire.receive(Duration::from_secs(5)).unwrap();
        assert_eq!(answer.request, request);
        assert_ne!(answer.body, [0; 8], "{request} is refused");
    }
    assert_eq!(front.config().capacity, DISK_BYTES / 512, "the session goes on");
}

pub(crate) fn rings_first(served: &Stage) {
    let vring = |index: u32, num: u32| [index.to_ne_bytes(), num.to_ne_bytes()].concat();
    let wire = silent(served);
    let queue = Queue::new(&Memory::new(ONE_REGION), 0, 16, false);
    for (ask, body, fds) in [
        (Ask::SetVringEnable, vring(0, 1), vec![]),
        (Ask::SetVringBase, vring(0, 7), vec![]),
        (Ask::SetVringKick, words(&[0]), vec![queue.kick_fd()]),
        (Ask::SetVringCall, words(&[0]), vec![queue.call_fd()]),
        (Ask::SetVringAddr, words(&[0, 0, 4096, 8192, 0]), vec![]),
        (Ask::ResetDevice, vec![], vec![]),
    ] {
        wire.send(ask as u32, 0, &body, &fds).unwrap();
    }
    assert!(wire.ask_u64(Ask::GetFeatures).is_ok(), "refused, one after the other");
}

pub(crate) fn unoffered(served: &Stage) {
    let front = ready(served);
    let features = !front.protocol_offered;
    assert!(front.wire.tell(Ask::SetProtocolFeatures, &features.to_ne_bytes(), &[]).is_err());
}

pub(crate) fn answer_to_all(served: &Stage) {
    let front = ready(served);
    let _queues = front_queues(&front);
    // With payloads: answered once. The others: acknowledged once. In the order they came.
    let config = [words(&[8 << 32]), vec![0; 4 + 8]].concat();
    let vring = |num: u32| [0u32.to_ne_bytes(), num.to_ne_bytes()].concat();
    let all = [
        (Ask::GetFeatures, vec![]),
        (Ask::SetFeatures, words(&[front.accepted])),
        (Ask::GetConfig, config),
        (Ask::SetVringEnable, vring(1)),
        (Ask::SetVringEnable, vring(2)),
        (Ask::GetQueueNum, vec![]),
        (Ask::SetVringNum, vring(3)),
        (Ask::GetVringBase, vring(0)),
        (Ask::RemMemReg, vec![0; 40]),
        (Ask::GetMaxMemSlots, vec![]),
    ];
    for (ask, body) in &all {
        front.wire.send(*ask as u32, FLAG_NEED_REPLY, body, &[]).unwrap();
    }
    for (ask, _) in &all {
        let answer = front.wire.receive(Duration::from_secs(5)).unwrap();
        assert_eq!(answer.request, *ask as u32, "in order, and one each");
    }
    assert!(!front.wire.closes_within(Duration::from_millis(5)), "and nothing more");
}

fn front_queues(front: &Front) -> Queue {
    let queue = Queue::new(&front.memory, 0, 16, true);
    front.start_queue(&queue, 0);
    queue
}

pub(crate) fn descriptor_counts(served: &Stage) {
    let spare = File::open("/dev/null").unwrap();
    for count in [0, 2, 9, 32, 33, SCM_MAX_FD] {
        let fds = vec![spare.as_fd(); count];
        for ask in [Ask::SetVringKick, Ask::SetVringCall, Ask::AddMemReg, Ask::SetBackendReqFd] {
            let front = ready(served);
            let body = vec![0; if ask == Ask::AddMemReg { 40 } else { 8 }];
            let refused = front.wire.tell(ask, &body, &fds);
            assert!(refused.is_err(), "{ask:?} with {count} descriptors: {refused:?}");
            drop(front);
            served.wait_disconnected();
        }
    }
    let front = ready(served);
    let refused = front.wire.tell(Ask::SetFeatures, &words(&[0]), &[spare.as_fd()]);
    assert!(refused.is_err(), "a descriptor that nobody wants");
}

/// Descriptors that are neither memory nor eventfds.
pub(crate) fn odd_descriptors() -> Vec<(&'static str, OwnedFd)> {
    let (pipe, _) = std::io::pipe().unwrap();
    let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
    vec![
        ("a directory", File::open("/").unwrap().into()),
        ("a pipe", pipe.into()),
        ("a socket", socket.into()),
        ("/dev/null", File::open("/dev/null").unwrap().into()),
        ("/dev/zero", File::open("/dev/zero").unwrap().into()),
        ("a file for reading", File::open("/proc/self/exe").unwrap().into()),
    ]
}

pub(crate) fn descriptor_kinds(served: &Stage) {
    let front = ready(served);
    for (what, fd) in odd_descriptors() {
        let region = [words(&[0]), words(&[1 << 40, 4096, 1 << 40, 0])].concat();
        let refused = front.wire.tell(Ask::AddMemReg, &region, &[fd.as_fd()]);
        assert!(refused.is_err(), "{what} as memory");
        let index = words(&[0]);
        for ask in [Ask::SetVringCall, Ask::SetVringErr] {
            assert!(front.wire.tell(ask, &index, &[fd.as_fd()]).is_err(), "{what}: {ask:?}");
        }
        let mut queue = Queue::new(&front.memory, 0, 16, true);
        queue.set_interrupts(false);
        front.start_queue(&queue, 0);
        let refused = front.wire.tell(Ask::SetVringCall, &index, &[fd.as_fd()]);
        assert!(refused.is_err() && queue.is_alive(), "{what} to call on: refused, and no harm");
        queue.put_avail_index(1000);
        queue.kick_always();
        front.stop_queue(0);
    }
}

/// Regions as (guest address, bytes, user address, offset).
type Regions = &'static [[u64; 4]];

pub(crate) fn memory_tables(served: &Stage) {
    const MIB: u64 = 1 << 20;
    let tables: &[(&str, Regions, usize)] = &[
        ("no region", &[], 0),
        ("more descriptors than regions", &[[0, MIB, 0, 0]], 2),
        ("fewer descriptors than regions", &[[0, MIB, 0, 0], [MIB, MIB, MIB, 0]], 1),
        ("overlapping for the guest", &[[0, MIB, 0, 0], [4096, MIB, 1 << 40, 0]], 2),
        ("empty", &[[0, 0, 0, 0]], 1),
        ("guest addresses wrap", &[[u64::MAX - 4095, 8192, 0, 0]], 1),
        ("user addresses wrap", &[[0, 8192, u64::MAX - 4095, 0]], 1),
        ("the offset wraps", &[[0, 8192, 0, u64::MAX - 4095]], 1),
        ("past the end of the file", &[[0, MIB, 0, MIB]], 1),
        ("longer than the file", &[[0, 1 << 50, 0, 0]], 1),
        ("an offset within a page", &[[0, 4096, 0, 100]], 1),
    ];
    let region = Region::new(0, 1 << 20);
    let front = ready(served);
    let mut queue = front_queues(&front);
    for (what, regions, fds) in tables {
        let mut body = words(&[regions.len() as u64]);
        regions.iter().for_each(|region| body.extend(words(region)));
        let refused = front.wire.tell(Ask::SetMemTable, &body, &vec![region.memfd(); *fds]);
        assert!(refused.is_err(), "{what}");
        assert!(queue.is_alive(), "{what}: a refusal changes nothing");
    }
    for count in [33u64, 510, u64::from(u32::MAX)] {
        let body = [words(&[count]), vec![0; 64]].concat();
        assert!(front.wire.tell(Ask::SetMemTable, &body, &[]).is_err(), "{count} regions");
    }
    let overlapping_for_us = [words(&[2]), words(&[0, 8192, 0, 0]), words(&[8192, 8192, 0, 8192])];
    let fds = [region.memfd(), region.memfd()];
    let taken = front.wire.tell(Ask::SetMemTable, &overlapping_for_us.concat(), &fds);
    assert!(taken.is_ok(), "two guest addresses for one user address: odd, but no harm");
    assert!(queue.broken_within(Duration::from_secs(5)), "the ring's memory has gone");
}

pub(crate) fn memory_slots(served: &Stage) {
    let front = ready(served);
    let mut queue = front_queues(&front);
    let region = Region::new(1 << 40, 4096);
    front.add_region(&region).unwrap();
    assert!(front.add_region(&region).is_err(), "twice");
    front.remove_region(&region).unwrap();
    assert!(front.remove_region(&region).is_err(), "gone already");
    let slots = front.wire.ask_u64(Ask::GetMaxMemSlots).unwrap();
    let regions: Vec<_> = (0..slots).map(|slot| Region::new((slot + 2) << 40, 4096)).collect();
    for region in &regions[..slots as usize - 1] {
        front.add_region(region).unwrap();
    }
    assert!(front.add_region(&regions[slots as usize - 1]).is_err(), "one more than there are");
    assert!(queue.is_alive());
    let mut with_fd = words(&[0]);
    with_fd.extend(words(&[2 << 40, 4096, regions[0].user_address(), 0]));
    let fd = [regions[0].memfd()];
    front.wire.tell(Ask::RemMemReg, &with_fd, &fd).expect("a descriptor is closed unused");
}

pub(crate) fn ring_places(served: &Stage) {
    let front = ready(served);
    let base = front.memory.regions()[0].user_address();
    let end = base + front.memory.regions()[0].bytes;
    let mut queue = front_queues(&front);
    let spare = Queue::new(&front.memory, 1, 16, true);
    let num = [1u32.to_ne_bytes(), 16u32.to_ne_bytes()].concat();
    front.wire.tell(Ask::SetVringNum, &num, &[]).unwrap();
    for (what, table, used, avail) in [
        ("nowhere", 4096, 8192, 12_288),
        ("misaligned table", base + 4104, base + 8192, base + 12_288),
        ("misaligned used ring", base + 4096, base + 8194, base + 12_288),
        ("misaligned available ring", base + 4096, base + 8192, base + 12_289),
        ("table over the end", end - 16, base + 8192, base + 12_288),
        ("used ring over the end", base + 4096, end - 4, base + 12_288),
        ("available ring over the end", base + 4096, base + 8192, end - 2),
        ("around the end of everything", u64::MAX - 15, u64::MAX - 3, u64::MAX - 1),
    ] {
        let body = [words(&[1, table, used, avail, 0])].concat();
        let placed = front.wire.tell(Ask::SetVringAddr, &body, &[]);
        let index = words(&[1]);
        let started = front.wire.tell(Ask::SetVringKick, &index, &[spare.kick_fd()]);
        assert!(placed.is_err() || started.is_err(), "{what}");
    }
    assert!(queue.is_alive());
}

pub(crate) fn kicks(served: &Stage) {
    let mut front = ready(served);
    let index = words(&[0]);
    for (what, fd) in odd_descriptors() {
        let mut queue = Queue::new(&front.memory, 0, 16, true);
        front.start_queue(&queue, 0);
        let refused = front.wire.tell(Ask::SetVringKick, &index, &[fd.as_fd()]);
        assert!(refused.is_err() && queue.is_alive(), "{what} to kick: refused, and no harm");
        front.stop_queue(0);
        assert!(front_queues(&front).is_alive(), "{what}");
        front.stop_queue(0);
    }
    let no_fd = words(&[0x100]);
    assert!(front.wire.tell(Ask::SetVringKick, &no_fd, &[]).is_err(), "a ring to be polled");
    // One descriptor for both queues.
    let mut queues = front.start_queues(2, 16);
    let second = words(&[1]);
    front.wire.tell(Ask::SetVringKick, &second, &[queues[0].kick_fd()]).unwrap();
    assert!(queues[0].is_alive());
}

pub(crate) fn configuration(served: &Stage) {
    for (offset, bytes) in [(0u32, 0u32), (4090, 100), (u32::MAX, 2), (0, 4085)] {
        let front = ready(served);
        let header = [offset, bytes, 0];
        let mut body: Vec<u8> = header.iter().flat_map(|word| word.to_ne_bytes()).collect();
        body.resize(12 + bytes.min(4000) as usize, 0);
        front.wire.send(Ask::GetConfig as u32, 0, &body, &[]).unwrap();
        assert!(front.wire.closes_within(Duration::from_secs(20)), "{bytes} at {offset}");
        drop(front);
        served.wait_disconnected();
    }
}

pub(crate) fn other_features(served: &Stage) {
    let front = ready(served);
    // GPU, postcopy, crypto, IOTLB, device state, log: with an acknowledgement, each is refused.
    for request in [7, 19, 20, 22, 26, 27, 28, 29, 30, 32, 33, 39, 41] {
        front.wire.send(request, FLAG_NEED_REPLY, &[0; 8], &[]).unwrap();
        let answer = front.wire.receive(Duration::from_secs(5)).unwrap();
        assert_ne!(answer.body, [0; 8], "{request} is refused");
    }
    assert_eq!(front.queues_max, front.wire.ask_u64(Ask::GetQueueNum).unwrap());
}

pub(crate) fn cut_everywhere(served: &Stage) {
    let memory = Memory::new(&[(0, 1 << 20)]);
    let queue = Queue::new(&memory, 0, 16, false);
    let region = &memory.regions()[0];
    let user = |address| memory.user_address(address);
    let table = [words(&[1]), words(&[0, 1 << 20, region.user_address(), 0])].concat();
    let rings = [queue.layout.table, queue.layout.used, queue.layout.avail].map(user);
    let vring = |num: u32| [0u32.to_ne_bytes(), num.to_ne_bytes()].concat();
    let features = words(&[feature::VERSION_1 | feature::PROTOCOL_FEATURES]);
    let session: [(Ask, Vec<u8>, Option<BorrowedFd<'_>>); 9] = [
        (Ask::GetFeatures, vec![], None),
        (Ask::SetProtocolFeatures, words(&[protocol::MQ | protocol::CONFIG]), None),
        (Ask::SetFeatures, features, None),
        (Ask::SetMemTable, table, Some(region.memfd())),
        (Ask::SetVringNum, vring(16), None),
        (Ask::SetVringAddr, [words(&[0]), words(&rings), words(&[0])].concat(), None),
        (Ask::SetVringCall, words(&[0]), Some(queue.call_fd())),
        (Ask::SetVringKick, words(&[0]), Some(queue.kick_fd())),
        (Ask::SetVringEnable, vring(1), None),
    ];
    let messages: Vec<_> =
        session.iter().map(|(ask, body, fd)| (message(*ask as u32, 0, body), fd)).collect();
    for whole in 0..messages.len() {
        for cut in 0..messages[whole].0.len() {
            let wire = silent(served);
            for (bytes, fd) in &messages[..whole] {
                wire.send_bytes(bytes, fd.as_slice()).unwrap();
            }
            let (bytes, fd) = &messages[whole];
            if cut > 0 {
                wire.send_bytes(&bytes[..cut], fd.as_slice()).unwrap();
            }
            drop(wire);
            served.wait_disconnected();
        }
    }
}

pub(crate) fn descriptor_flood(served: &Stage) {
    let spare = File::open("/dev/null").unwrap();
    let fds = vec![spare.as_fd(); SCM_MAX_FD];
    for _ in 0..20 {
        let wire = silent(served);
        // Descriptors with every byte of a message, and with bytes of none.
        for byte in message(Ask::SetMemTable as u32, 0, &[0; 40]) {
            if wire.send_bytes(&[byte], &fds).is_err() {
                break;
            }
        }
        assert!(wire.closes_within(Duration::from_secs(20)));
        served.wait_disconnected();
    }
    let front = ready(served);
    front.share_memory(Sharing::Table);
}
