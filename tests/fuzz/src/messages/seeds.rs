//! Seeds of F-03 by the ids of the bugs that they are like.

use super::encode;
use crate::Seed;
use crate::wire::{Message, fd, payload};

/// Where the front end has its memory, in its own address space.
pub const USER: u64 = 0x7000_0000;
const MEMORY: u64 = 1 << 20;

pub const FEATURES: u64 = 1 << 30 | 1 << 32 | 1 << 9 | 1 << 11 | 1 << 12 | 1 << 28 | 1 << 29;
const REPLY_ACK: u64 = 1 << 3;
/// MQ, CONFIG, REPLY_ACK, BACKEND_REQ, LOG_SHMFD, CONFIGURE_MEM_SLOTS, RESET_DEVICE.
const PROTOCOL: u64 = 1 | 1 << 1 | REPLY_ACK | 1 << 5 | 1 << 9 | 1 << 13 | 1 << 15;

fn number(request: u8, number: u64) -> Message {
    Message::new(request, payload(&[], &[number]))
}

pub fn state(request: u8, index: u32, num: u32) -> Message {
    Message::new(request, payload(&[index, num], &[]))
}

pub fn address(index: u32, table: u64, used: u64, avail: u64) -> Message {
    Message::new(9, payload(&[index, 0], &[table, used, avail, 0]))
}

/// SET_MEM_TABLE: guest address, size, user address, offset of each.
pub fn memory_table(regions: &[[u64; 4]]) -> Message {
    let count = u32::try_from(regions.len()).unwrap_or(0);
    Message::new(5, payload(&[count, 0], &regions.concat()))
}

fn region(request: u8, region: [u64; 4]) -> Message {
    Message::new(request, payload(&[0, 0], &region))
}

fn empty(request: u8) -> Message {
    Message::new(request, Vec::new())
}

fn negotiation() -> Vec<Message> {
    vec![empty(3), empty(1), number(2, FEATURES), empty(15), number(16, PROTOCOL), empty(17)]
}

fn table() -> Message {
    memory_table(&[[0, MEMORY, USER, 0]]).with(&[fd::MEMORY])
}

fn ring(index: u32) -> Vec<Message> {
    let base = USER + u64::from(index) * 0x1000;
    vec![
        state(8, index, 16),
        state(10, index, 0),
        address(index, base, base + 0xC00, base + 0x800),
        number(13, index.into()).with(&[fd::EVENT]),
        number(12, index.into()).with(&[fd::EVENT]),
        state(18, index, 1),
    ]
}

/// A session up to running rings.
fn session() -> Vec<Message> {
    [negotiation(), vec![table()], ring(0), ring(1)].concat()
}

fn and(first: Vec<Message>, then: Vec<Message>) -> Vec<Message> {
    [first, then].concat()
}

fn cut(messages: Vec<Message>, bytes: u8) -> Vec<Message> {
    messages.into_iter().map(|message| Message { cut: bytes, ..message }).collect()
}

fn acknowledged(messages: Vec<Message>) -> Vec<Message> {
    messages.into_iter().map(|message| Message { flags: 9, ..message }).collect()
}

fn config(request: u8, offset: u32, size: u32, bytes: &[u8]) -> Message {
    Message::new(request, [payload(&[offset, size, 0], &[]), bytes.to_vec()].concat())
}

fn inflight(request: u8, numbers: [u64; 2], queues: u16, size: u16) -> Message {
    let counts = [queues.to_ne_bytes(), size.to_ne_bytes()].concat();
    Message::new(request, [payload(&[], &numbers), counts, vec![0; 4]].concat())
}

/// The seeds.
pub fn seeds() -> Vec<Seed> {
    let mut all = ordinary();
    all.extend(memory());
    all.extend(descriptors());
    all.extend(rings());
    all.extend(others());
    all.into_iter().map(|(name, messages)| (name, encode(&messages))).collect()
}

type Named = (&'static str, Vec<Message>);

fn ordinary() -> Vec<Named> {
    let stop = vec![state(11, 0, 0), state(11, 1, 0)];
    vec![
        ("a-whole-session", and(session(), stop.clone())),
        ("a-whole-session-byte-by-byte", cut(and(session(), stop), 1)),
        ("a-whole-session-cut-in-the-header", cut(session(), 7)),
        ("a-whole-session-acknowledged", acknowledged(and(session(), vec![empty(34), empty(4)]))),
        ("rust-vmm-fragmented-payload", cut(vec![table()], 13)),
        ("configuration", vec![empty(3), config(24, 0, 72, &[0; 72]), config(25, 32, 1, &[1])]),
    ]
}

fn memory() -> Vec<Named> {
    let whole = [0, MEMORY, USER, 0];
    let add = |at| region(37, at).with(&[fd::MEMORY]);
    let remove = |at| region(38, at);
    let cut_memory = memory_table(&[whole]).with(&[fd::CUT_MEMORY]);
    let log = |bytes| Message::new(6, payload(&[], &[bytes, 0])).with(&[fd::MEMORY]);
    vec![
        ("yc-1971bb0-no-regions", and(negotiation(), vec![memory_table(&[])])),
        ("yc-1971bb0-no-regions-under-running-rings", and(session(), vec![memory_table(&[])])),
        ("SPDK-1183-a-new-table-under-running-rings", and(session(), vec![table(), table()])),
        (
            "SPDK-2469-a-table-that-does-not-cover-the-rings",
            and(
                session(),
                vec![memory_table(&[[0x9_0000, 4096, USER + MEMORY, 0]]).with(&[fd::MEMORY])],
            ),
        ),
        (
            "yc-d88b985-region-removed-under-running-rings",
            and(session(), vec![remove(whole), add(whole)]),
        ),
        (
            "yc-9a11766-region-added-and-removed",
            and(negotiation(), vec![add(whole), remove(whole), remove(whole)]),
        ),
        ("DPDK-27806d2d-ring-without-memory", and(negotiation(), ring(0))),
        (
            "CVE-2020-10723-ring-at-the-end-of-its-region",
            and(
                and(negotiation(), vec![table(), state(8, 0, 16)]),
                vec![
                    address(0, USER + MEMORY - 16, USER + MEMORY - 4, USER + MEMORY - 2),
                    number(12, 0).with(&[fd::EVENT]),
                ],
            ),
        ),
        (
            "CVE-2018-1059-two-regions-side-by-side",
            vec![
                memory_table(&[[0, 4096, USER, 0], [4096, 4096, USER + 4096, 4096]])
                    .with(&[fd::MEMORY, fd::MEMORY]),
            ],
        ),
        (
            "regions-that-overlap",
            vec![memory_table(&[whole, [4096, MEMORY, USER, 0]]).with(&[fd::MEMORY, fd::MEMORY])],
        ),
        (
            "region-that-wraps",
            vec![memory_table(&[[u64::MAX - 4095, 8192, u64::MAX - 4095, 0]]).with(&[fd::MEMORY])],
        ),
        (
            "region-past-the-end-of-its-file",
            vec![memory_table(&[[0, 1 << 40, USER, 0]]).with(&[fd::MEMORY])],
        ),
        ("region-of-nothing", vec![memory_table(&[[0, 0, USER, 0]]).with(&[fd::MEMORY])]),
        (
            "region-of-zeroes-without-end",
            vec![memory_table(&[[0, 1 << 45, USER, 0]]).with(&[fd::ZERO])],
        ),
        ("CHV-8841-memory-cut-short", and(and(negotiation(), vec![cut_memory]), ring(0))),
        (
            "CHV-8841-sealed-memory",
            and(negotiation(), vec![memory_table(&[whole]).with(&[fd::SEALED_MEMORY])]),
        ),
        ("read-only-memory", vec![memory_table(&[whole]).with(&[fd::READ_ONLY_MEMORY])]),
        ("CVE-2020-10722-log-that-wraps", and(session(), vec![log(u64::MAX)])),
        ("CVE-2020-10722-log-shorter-than-the-memory", and(session(), vec![log(1)])),
        ("a-log", and(session(), vec![log(4096), number(2, FEATURES | 1 << 26)])),
    ]
}

fn descriptors() -> Vec<Named> {
    let whole = [0, MEMORY, USER, 0];
    let many = |count| memory_table(&[whole]).with(&vec![fd::EVENT; count]);
    vec![
        (
            "CVE-2022-0669-descriptors-with-get-inflight",
            vec![inflight(31, [0, 0], 2, 16).with(&[fd::MEMORY; 3])],
        ),
        (
            "CVE-2022-0669-descriptors-with-set-inflight",
            vec![inflight(32, [4096, 0], 2, 16).with(&[fd::MEMORY; 3])],
        ),
        (
            "CVE-2022-0669-descriptors-with-messages-that-take-none",
            vec![empty(1).with(&[fd::EVENT; 4]), empty(3).with(&[fd::MEMORY])],
        ),
        ("CVE-2019-14818-more-descriptors-than-regions", vec![many(8)]),
        (
            "CVE-2020-10726-fewer-descriptors-than-regions",
            vec![memory_table(&[whole, [1 << 30, 4096, 0, 0]]).with(&[fd::MEMORY])],
        ),
        ("qemu-fd-num-more-than-any-message-has", vec![many(33)]),
        ("qemu-fd-num-as-many-as-a-message-may-have", vec![many(32)]),
        (
            "kick-and-call-of-every-kind",
            and(
                session(),
                (0..14)
                    .flat_map(|kind| {
                        [
                            number(12, 0).with(&[kind]),
                            number(13, 0).with(&[kind]),
                            number(14, 1).with(&[kind]),
                        ]
                    })
                    .collect(),
            ),
        ),
        (
            "ring-without-a-kick-descriptor",
            and(session(), vec![number(12, 1 << 8), number(13, 1 << 8)]),
        ),
        (
            "channel-that-is-no-socket",
            vec![empty(21).with(&[fd::PIPE]), empty(21).with(&[fd::SOCKET])],
        ),
        (
            "memory-of-every-kind",
            (0..14).map(|kind| memory_table(&[whole]).with(&[kind])).collect(),
        ),
    ]
}

fn rings() -> Vec<Named> {
    let base = |index| state(11, index, 0);
    vec![
        (
            "CHV-082fdc4d0-ring-index-out-of-range",
            and(session(), vec![state(8, 2, 16), base(u32::MAX), state(18, 2, 1)]),
        ),
        (
            "qemu-758ef96a-ring-sizes",
            and(session(), [0, 3, 32769, 0x1_0000, 2048].map(|size| state(8, 0, size)).to_vec()),
        ),
        ("CVE-2026-16457-packed-rings", vec![empty(3), number(2, FEATURES | 1 << 34)]),
        (
            "yc-6c7867c-ring-disabled-and-stopped",
            and(session(), vec![state(18, 0, 0), base(0), base(0), state(18, 0, 1)]),
        ),
        (
            "SPDK-63dab84449-stop-start-stop",
            and(session(), vec![base(0), number(12, 0).with(&[fd::EVENT]), base(0)]),
        ),
        (
            "rust-vmm-8c00b88-another-kick-on-a-running-ring",
            and(
                session(),
                vec![number(12, 0).with(&[fd::EVENT]), number(12, 0).with(&[fd::FULL_EVENT])],
            ),
        ),
        (
            "yc-another-call-on-a-running-ring",
            and(
                session(),
                vec![number(13, 0).with(&[fd::FULL_EVENT]), number(13, 0).with(&[fd::DEAF_PIPE])],
            ),
        ),
        (
            "VPP-ring-base-ahead-and-out-of-range",
            and(session(), vec![base(0), state(10, 0, 65535), state(10, 0, 65536)]),
        ),
        (
            "ring-misaligned",
            and(
                session(),
                vec![
                    base(0),
                    address(0, USER + 1, USER + 2, USER + 3),
                    number(12, 0).with(&[fd::EVENT]),
                ],
            ),
        ),
        (
            "qemu-71e076a07d-gone-in-the-middle-of-a-message",
            and(session(), vec![Message { length: Some(100), ..empty(5) }]),
        ),
        (
            "crosvm-c64cb8ec0-reset-under-running-rings",
            and(session(), vec![empty(34), empty(4), empty(34)]),
        ),
        ("QEMU-enables-rings-that-were-never-set-up", vec![state(18, 0, 1), state(18, 1, 1)]),
    ]
}

fn others() -> Vec<Named> {
    let request = |request| empty(request);
    vec![
        ("libvhost-user-request-0", vec![request(0), request(0)]),
        ("libvhost-user-all-requests", (0..64).filter(|n| *n > 0).take(47).map(request).collect()),
        (
            "CHV-1f0a78b76-partial-set-config",
            and(negotiation(), vec![config(25, 0, 1, &[9]), config(25, 33, 4, &[0; 4])]),
        ),
        (
            "CHV-1f0a78b76-set-config-of-writeback-with-another-value",
            and(negotiation(), vec![config(25, 32, 1, &[2])]),
        ),
        (
            "qemu-get-config-beyond-the-space",
            vec![config(24, 60, 200, &[0; 200]), config(24, u32::MAX, 8, &[0; 8])],
        ),
        ("qemu-get-config-of-nothing", vec![config(24, 0, 0, &[])]),
        ("Truman-set-config-longer-than-it-says", vec![config(25, 32, 1, &[1; 64])]),
        ("CVE-2021-3839-inflight-of-65535-queues", vec![inflight(31, [0, 0], u16::MAX, u16::MAX)]),
        (
            "qemu-fbdfdbb9-inflight-region-that-wraps",
            vec![inflight(32, [u64::MAX, u64::MAX], 2, 16).with(&[fd::MEMORY])],
        ),
        (
            "yc-cbbd1d7-inflight-twice",
            vec![inflight(31, [0, 0], 2, 128), inflight(31, [0, 0], 2, 128)],
        ),
        ("message-longer-than-any", vec![Message { length: Some(u32::MAX), ..empty(1) }]),
        ("message-that-says-it-is-an-answer", vec![Message { flags: 5, ..empty(1) }]),
        ("message-of-another-version", vec![Message { flags: 2, ..empty(1) }]),
        (
            "message-shorter-than-its-kind",
            vec![state(8, 0, 16), Message::new(9, vec![0; 8]), Message::new(5, vec![1])],
        ),
        (
            "two-messages-in-one",
            vec![Message { length: Some(0), payload: payload(&[1, 1, 0], &[]), ..empty(1) }],
        ),
        ("features-that-were-not-offered", vec![number(2, u64::MAX), number(16, u64::MAX)]),
        ("postcopy-and-status", [28, 29, 30, 39, 40, 41].map(request).to_vec()),
    ]
}
