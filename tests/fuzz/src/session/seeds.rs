//! Seeds of F-04 by the ids of the bugs that they are like.

use super::{Case, Step, place};
use crate::Seed;
use crate::guest::{BORDER, Desc, HOLE, Put, readable, writable};
use crate::wire::{Message, fd, payload};

const HEAD: u32 = 0x4000;
const DATA: u64 = 0x5000;
const STATUS: u64 = 0x6000;
const ALL: u8 = 0b11_1111;
const NO_EVENT_IDX: u8 = 0b1_1111;

fn desc(queue: u8, index: u16, desc: Desc) -> Step {
    let at = place(queue.into())[0] + 16 * u64::from(index);
    Step::Put(Put::Desc { at: u32::try_from(at).unwrap_or(0), desc })
}

/// A request in the descriptors from `head` on.
fn request(queue: u8, head: u16, kind: u32, sector: u64, bytes: u32) -> Vec<Step> {
    let header_at = HEAD + 16 * u32::from(head);
    let data =
        if kind == 1 { readable(DATA, bytes, head + 2) } else { writable(DATA, bytes, head + 2) };
    vec![
        Step::Put(Put::Header { at: header_at, kind, sector }),
        desc(queue, head, readable(header_at.into(), 16, head + 1)),
        desc(queue, head + 1, data),
        desc(queue, head + 2, writable(STATUS + u64::from(head), 1, 0).last()),
        Step::Offer { queue, head },
    ]
}

fn read(queue: u8, head: u16) -> Vec<Step> {
    request(queue, head, 0, 1, 512)
}

fn kick(queue: u8) -> Vec<Step> {
    vec![Step::Kick { queue }]
}

fn case(steps: Vec<Vec<Step>>) -> Case {
    Case { features: ALL, size_log2: 4, flips: false, base: 0, steps: steps.concat() }
}

fn stop(queue: u8) -> Vec<Step> {
    vec![Step::Stop { queue }]
}

fn start(queue: u8) -> Vec<Step> {
    vec![Step::Start { queue }]
}

fn tell(message: Message) -> Vec<Step> {
    vec![Step::Message(message)]
}

fn enable(queue: u32, on: u32) -> Vec<Step> {
    tell(Message::new(18, payload(&[queue, on], &[])))
}

type Named = (&'static str, Case);

/// The seeds.
pub fn seeds() -> Vec<Seed> {
    let all = [ordinary(), rings(), memory(), stopping()].concat();
    all.into_iter().map(|(name, case)| (name, case.encode())).collect()
}

fn ordinary() -> Vec<Named> {
    let both = case(vec![
        read(0, 0),
        request(0, 3, 1, 2, 512),
        request(0, 6, 4, 0, 0),
        kick(0),
        read(1, 0),
        kick(1),
        stop(0),
        start(0),
        read(0, 0),
        kick(0),
    ]);
    vec![
        ("an-ordinary-session", both.clone()),
        ("an-ordinary-session-without-event-idx", Case { features: NO_EVENT_IDX, ..both.clone() }),
        ("yc-155f232-indices-that-wrap", Case { base: 0xFFFE, ..both.clone() }),
        ("XSA-155-bytes-that-change-once-read", Case { flips: true, ..both.clone() }),
        ("CVE-2020-14375-ids-and-discards-that-change-once-read", Case { flips: true, ..kinds() }),
        ("CVE-2018-1059-bytes-that-change-across-regions", Case { flips: true, ..across() }),
        (
            "yc-sector-that-changes-once-read",
            Case { flips: true, size_log2: 2, ..case(vec![read(0, 0), kick(0)]) },
        ),
    ]
}

fn kinds() -> Case {
    let kinds = [8, 11, 13, 5, 99];
    let each = kinds.map(|kind| [request(0, 0, kind, 1, 16), kick(0)].concat());
    case(each.to_vec())
}

fn across() -> Case {
    case(vec![
        vec![
            Step::Put(Put::Header {
                at: u32::try_from(BORDER - 8).unwrap_or(0),
                kind: 0,
                sector: 1,
            }),
            desc(0, 0, readable(BORDER - 8, 16, 1)),
            desc(0, 1, writable(HOLE - 256, 512, 2)),
            desc(0, 2, writable(STATUS, 1, 0).last()),
            Step::Offer { queue: 0, head: 0 },
        ],
        kick(0),
    ])
}

fn rings() -> Vec<Named> {
    let offers = |heads: &[u16]| {
        heads.iter().map(|head| Step::Offer { queue: 0, head: *head }).collect::<Vec<_>>()
    };
    let index = |index| vec![Step::AvailIndex { queue: 0, index }];
    let suppress = vec![Step::Put(Put::Bytes { at: 0x800, bytes: vec![1, 0] })];
    let used_over = desc(0, 1, writable(place(0)[2], 512, 2));
    let rings_over = desc(0, 1, writable(place(0)[1] & !511, 512, 2));
    vec![
        (
            "CVE-2019-9547-circular-chain",
            case(vec![read(0, 0), vec![desc(0, 2, writable(STATUS, 1, 0))], kick(0)]),
        ),
        (
            "CVE-2026-45782-same-head-twice",
            case(vec![read(0, 0), offers(&[0]), kick(0), offers(&[0]), kick(0)]),
        ),
        ("CVE-2026-45782-one-head-many-times", case(vec![read(0, 0), offers(&[0; 15]), kick(0)])),
        (
            "yc-dffd994-queue-overflow",
            case(vec![read(0, 0), index(17), kick(0), read(1, 0), kick(1)]),
        ),
        (
            "vm-virtio-more-chains-than-the-queue-has",
            case(vec![read(0, 0), index(0x7FFF), kick(0)]),
        ),
        ("yc-dffd994-index-backwards", case(vec![read(0, 0), kick(0), index(0), kick(0)])),
        ("yc-dffd994-head-out-of-range", case(vec![read(0, 0), offers(&[16, 3]), kick(0)])),
        (
            "CHV-fbcf2fd6b-refilled-while-draining",
            case(vec![read(0, 0), kick(0), read(0, 3), read(0, 6), kick(0), read(0, 9), kick(0)]),
        ),
        ("SPDK-df8d361f6c-two-at-once-one-kick", case(vec![read(0, 0), read(0, 3), kick(0)])),
        ("rust-vmm-8c00b88-kick-before-the-head", case(vec![kick(0), read(0, 0), kick(0)])),
        ("crosvm-c14d6885e-kick-of-the-other-queue", case(vec![read(0, 0), kick(1), kick(0)])),
        (
            "yc-call-suppressed-and-wanted-again",
            Case {
                features: NO_EVENT_IDX,
                ..case(vec![suppress, read(0, 0), kick(0), stop(0), start(0)])
            },
        ),
        (
            "data-over-the-used-ring",
            case(vec![read(0, 0), vec![used_over], kick(0), read(0, 3), kick(0)]),
        ),
        ("data-over-the-avail-ring", case(vec![read(0, 0), vec![rings_over], kick(0)])),
        (
            "CVE-2016-5403-much-data-in-flight",
            case((0..5).map(|n| request(0, 3 * n, 0, 0, 0x4000)).chain([kick(0)]).collect()),
        ),
        ("CHV-3fc0ff00d-no-chain-at-all", case(vec![offers(&[7]), kick(0)])),
        ("VPP-a-queue-of-one", Case { size_log2: 0, ..case(vec![offers(&[0]), kick(0)]) }),
    ]
}

fn memory() -> Vec<Named> {
    let regions = |kept| vec![Step::Regions { kept }];
    let cut = |bytes| vec![Step::Cut { bytes }];
    vec![
        (
            "SPDK-1183-the-same-table-between-requests",
            case(vec![read(0, 0), kick(0), regions(7), read(0, 3), kick(0)]),
        ),
        (
            "SPDK-2469-the-rings-memory-goes",
            case(vec![read(0, 0), regions(6), kick(0), regions(7), kick(0)]),
        ),
        ("yc-d88b985-data-memory-goes", case(vec![read(0, 0), regions(1), kick(0)])),
        ("yc-1971bb0-all-memory-goes", case(vec![read(0, 0), regions(0), kick(0), stop(0)])),
        (
            "yc-9a11766-memory-goes-while-stopped",
            case(vec![read(0, 0), stop(0), regions(2), start(0), kick(0)]),
        ),
        ("CHV-8841-memory-cut-to-nothing", case(vec![read(0, 0), cut(0), kick(0)])),
        (
            "CHV-8841-memory-cut-behind-the-rings",
            case(vec![read(0, 0), cut(0x4000), kick(0), stop(0)]),
        ),
    ]
}

fn stopping() -> Vec<Named> {
    let reset = || tell(Message::new(34, Vec::new()));
    let call = tell(Message::new(13, payload(&[], &[0])).with(&[fd::FULL_EVENT]));
    vec![
        (
            "yc-6c7867c-disabled-with-heads-waiting",
            case(vec![enable(0, 0), read(0, 0), kick(0), stop(0), enable(0, 1), start(0), kick(0)]),
        ),
        (
            "yc-6c7867c-enabled-again-with-heads-waiting",
            case(vec![enable(0, 0), read(0, 0), kick(0), enable(0, 1)]),
        ),
        ("SPDK-840a5d2e7c-stopped-before-the-kick", case(vec![read(0, 0), stop(0), start(0)])),
        (
            "SPDK-29c6115c55-stopped-twice",
            case(vec![read(0, 0), kick(0), stop(0), stop(0), start(0), kick(0)]),
        ),
        ("crosvm-c64cb8ec0-reset-with-heads-waiting", case(vec![read(0, 0), reset(), kick(0)])),
        ("qemu-71e076a07d-gone-with-heads-waiting", case(vec![read(0, 0), read(1, 0)])),
        (
            "CVE-2024-7409-gone-in-the-middle-of-a-message",
            case(vec![read(0, 0), tell(Message { length: Some(8), ..Message::new(2, vec![0]) })]),
        ),
        (
            "CHV-8592-restart-where-it-stopped",
            case(vec![read(0, 0), read(0, 3), kick(0), stop(0), read(0, 6), start(0), kick(0)]),
        ),
        (
            "CHV-2708-restart-from-the-used-index",
            case(vec![
                read(0, 0),
                kick(0),
                stop(0),
                tell(Message::new(10, payload(&[0, 0], &[]))),
                start(0),
            ]),
        ),
        ("yc-call-that-is-full", case(vec![call, read(0, 0), kick(0)])),
    ]
}
