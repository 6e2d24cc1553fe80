//! Seeds of F-05 by the ids of the bugs that they are like.

use super::{Case, State};
use crate::Seed;
use crate::guest::{Desc, Put, readable, writable};
use crate::session::Step;

fn taken(counter: u64) -> State {
    State { inflight: 1, next: 0, counter }
}

fn answered(counter: u64, next: u16) -> State {
    State { inflight: 0, next, counter }
}

/// A log of a ring of 16 whose first descriptors say this.
fn case(states: &[State]) -> Case {
    Case {
        queue_size_log2: 4,
        ring_size_log2: 4,
        used_idx: 0,
        version: 1,
        desc_num: 16,
        last_batch_head: 0,
        logged_used_idx: 0,
        states: states.to_vec(),
        steps: [read(0), read(3), vec![Step::Kick { queue: 0 }]].concat(),
    }
}

/// A read in the descriptors from `head` on, which is not offered again.
fn read(head: u16) -> Vec<Step> {
    let header_at = 0x4000 + 16 * u32::from(head);
    let put = |index: u16, desc: Desc| Step::Put(Put::Desc { at: 16 * u32::from(index), desc });
    vec![
        Step::Put(Put::Header { at: header_at, kind: 0, sector: 1 }),
        put(head, readable(header_at.into(), 16, head + 1)),
        put(head + 1, writable(0x5000, 512, head + 2)),
        put(head + 2, writable(0x6000, 1, 0).last()),
    ]
}

/// The seeds.
pub fn seeds() -> Vec<Seed> {
    let two = [taken(1), State::default(), State::default(), taken(2)];
    let circle = [State { next: 1, ..taken(1) }, State { next: 0, ..taken(2) }];
    let cases = [
        ("an-unused-log", Case { version: 0, desc_num: 0, ..case(&[]) }),
        ("two-unanswered", case(&two)),
        ("yc-afa3ba4-a-fresh-log-of-a-guest-that-migrated", Case { used_idx: 700, ..case(&[]) }),
        (
            "yc-afa3ba4-a-used-index-that-is-not-zero",
            Case { used_idx: 700, version: 0, ..case(&[]) },
        ),
        (
            "yc-155f232-indices-that-wrap",
            Case {
                used_idx: 1,
                logged_used_idx: 0xFFFF,
                ..case(&[answered(1, 1), taken(2), taken(3)])
            },
        ),
        (
            "yc-ed62a07-answered-and-still-marked",
            Case { used_idx: 1, ..case(&[taken(1), taken(2)]) },
        ),
        (
            "yc-64fa7e8-a-batch-half-unmarked",
            Case {
                used_idx: 3,
                last_batch_head: 2,
                ..case(&[
                    answered(1, 0),
                    State { next: 0, ..taken(2) },
                    State { next: 1, ..taken(3) },
                ])
            },
        ),
        (
            "SPDK-919e45a9bd-resubmitted-in-order",
            case(&[taken(9), taken(3), taken(7), taken(u64::MAX)]),
        ),
        (
            "qemu-b9d248df-last-batch-head-out-of-range",
            Case { used_idx: 2, last_batch_head: 16, ..case(&two) },
        ),
        ("qemu-bf21298c-more-in-flight-than-the-ring-has", case(&[taken(1); 16])),
        ("qemu-fbdfdbb9-a-log-for-more-descriptors", Case { desc_num: u16::MAX, ..case(&two) }),
        (
            "qemu-758ef96a-heads-beyond-the-ring",
            Case { ring_size_log2: 2, ..case(&[taken(4); 16]) },
        ),
        ("yc-a-used-index-that-the-guest-wrote", Case { used_idx: 0x8000, ..case(&two) }),
        ("yc-a-list-in-a-circle", Case { used_idx: 16, ..case(&circle) }),
        (
            "yc-c915da0-a-ring-larger-than-the-log",
            Case { queue_size_log2: 2, desc_num: 4, ..case(&two) },
        ),
        ("CVE-2020-10726-the-same-counter-twice", case(&[taken(5), taken(5), taken(5)])),
        ("CVE-2021-3839-another-version", Case { version: 2, ..case(&two) }),
        (
            "CHV-8592-unanswered-behind-an-answered-one",
            Case {
                used_idx: 1,
                logged_used_idx: 1,
                last_batch_head: 1,
                ..case(&[taken(1), answered(2, 0), taken(3)])
            },
        ),
        (
            "VPP-nothing-in-flight",
            Case { used_idx: 5, logged_used_idx: 5, ..case(&[answered(1, 0), answered(2, 0)]) },
        ),
    ];
    cases.into_iter().map(|(name, case)| (name, case.encode())).collect()
}
