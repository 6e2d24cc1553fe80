//! Rings full of random descriptors.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use crate::support::backend::{DISK_BYTES, Served, options};
use crate::support::front::{
    Desc, Front, INDIRECT, NEXT, Queue, WRITE, feature, header, kind, segment,
};
use crate::support::nodes::HoldingNode;
use crate::{BORDER, END, HOLE};

/// Descriptors of the queue: few, so that random ones meet each other.
const SIZE: u16 = 16;
/// The other tests' memory. What headers and segments are as descriptors is below 4 GiB; the rings
/// come first, above, where nothing random is written but by chance of one in a trillion.
const LAYOUT: &[(u64, u64)] = &[(1 << 32, 1 << 20), (0, 64 << 20), (BORDER, 1 << 20)];
/// Where random headers, tables and data lie.
const GROUND: u64 = 48 << 20;

/// A front end that serves one random ring after the other.
struct Ground {
    served: Served,
    node: HoldingNode,
    front: Front,
    queue: Queue,
}

impl Ground {
    fn new() -> Self {
        let node = HoldingNode::new(DISK_BYTES);
        let served = Served::over(node.clone(), options(1));
        let mut front = Front::with_memory(&served.socket, LAYOUT);
        front.negotiate(feature::ALL);
        let queue = front.start_queues(1, SIZE).remove(0);
        Self { served, node, front, queue }
    }

    fn renew(&mut self) {
        self.front.renew_queue(&mut self.queue);
        self.queue.broken_within(Duration::ZERO);
    }
}

/// Addresses where something interesting is, and some where nothing is.
fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => (0u64..32).prop_map(|place| GROUND + place * 512),
        4 => (0u64..16).prop_map(|place| GROUND + place * 16),
        1 => Just(BORDER - 100),
        1 => Just(END - 512),
        1 => Just(HOLE),
        1 => Just(HOLE - 1),
        1 => any::<u64>(),
    ]
}

fn length() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => Just(16u32),
        4 => Just(512u32),
        2 => Just(1u32),
        1 => Just(0u32),
        2 => (0u32..20).prop_map(|count| count * 16),
        1 => 0u32..5000,
        1 => any::<u32>(),
    ]
}

fn flags() -> impl Strategy<Value = u16> {
    prop_oneof![
        3 => Just(NEXT),
        3 => Just(NEXT | WRITE),
        2 => Just(WRITE),
        1 => Just(0u16),
        2 => Just(INDIRECT),
        1 => any::<u16>(),
    ]
}

fn descriptor() -> impl Strategy<Value = Desc> {
    let next = prop_oneof![9 => 0..SIZE, 1 => any::<u16>()];
    (address(), length(), flags(), next).prop_map(|(addr, len, flags, next)| Desc {
        addr,
        len,
        flags,
        next,
    })
}

/// What lies on the ground: headers, segments, descriptors.
fn sixteen_bytes() -> impl Strategy<Value = [u8; 16]> {
    let kinds = prop_oneof![
        Just(kind::IN),
        Just(kind::OUT),
        Just(kind::FLUSH),
        Just(kind::GET_ID),
        Just(kind::DISCARD),
        Just(kind::WRITE_ZEROES),
        any::<u32>(),
    ];
    let sectors = prop_oneof![4 => 0u64..8192, 1 => 8190u64..8195, 1 => any::<u64>()];
    prop_oneof![
        3 => (kinds, sectors).prop_map(|(kind, sector)| header(kind, sector)),
        1 => (0u64..9000, 0u32..64, 0u32..3).prop_map(|(at, count, flags)| segment(at, count, flags)),
        2 => descriptor().prop_map(Desc::to_bytes),
        1 => any::<[u8; 16]>(),
    ]
}

fn ring() -> impl Strategy<Value = (Vec<Desc>, Vec<[u8; 16]>, Vec<u16>)> {
    (
        prop::collection::vec(descriptor(), usize::from(SIZE)),
        prop::collection::vec(sixteen_bytes(), 32),
        prop::collection::vec(0..SIZE, 1..=usize::from(SIZE)),
    )
}

fn lay_out(ground: &mut Ground, descs: &[Desc], bytes: &[[u8; 16]]) {
    for (place, desc) in (0u16..).zip(descs) {
        ground.queue.put_desc(place, *desc);
    }
    for (place, bytes) in (0u64..).zip(bytes) {
        // In 16-byte steps for tables, in sectors for headers.
        ground.front.memory.write(GROUND + place * 16, bytes);
        ground.front.memory.write(GROUND + place * 512, bytes);
    }
}

thread_local! {
    static GROUNDS: RefCell<Option<Ground>> = const { RefCell::new(None) };
}

/// Use one ground for all cases, and a fresh one after a failure.
fn on_the_ground(
    tell: impl FnOnce(&mut Ground) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let mut ground = GROUNDS.take().unwrap_or_else(Ground::new);
    tell(&mut ground)?;
    GROUNDS.set(Some(ground));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// The front end fails on an answer to a head that was not offered, or offered less often.
    #[test]
    fn every_head_of_a_random_ring_is_answered_exactly_once((descs, bytes, heads) in ring()) {
        on_the_ground(|ground| {
            ground.renew();
            lay_out(ground, &descs, &bytes);
            ground.queue.set_interrupts(false);
            heads.iter().for_each(|head| ground.queue.offer(*head));
            ground.queue.kick_always();
            for _ in &heads {
                prop_assert!(ground.queue.wait_used(Duration::from_secs(5)).is_some(), "an answer");
            }
            prop_assert_eq!(ground.queue.in_flight(), 0);
            for asked in ground.node.memory.asked() {
                let end = asked.io.offset_bytes.checked_add(asked.io.bytes);
                prop_assert!(end.is_some_and(|end| end <= DISK_BYTES), "{:?}", asked);
            }
            ground.renew();
            prop_assert!(ground.queue.is_alive());
            Ok(())
        })?;
    }

    /// Any bytes at all in the table and both rings: a fresh session is served afterwards.
    #[test]
    fn random_bytes_in_the_rings_hurt_nobody_else(
        (descs, bytes, heads) in ring(),
        available in any::<[u16; 22]>(),
        index in prop_oneof![0u16..20, any::<u16>()],
        aimed in any::<bool>(),
    ) {
        on_the_ground(|ground| {
            ground.renew();
            lay_out(ground, &descs, &bytes);
            if aimed {
                // Buffers over the rings themselves.
                let into = Desc::writable(ground.queue.layout.used & !511, 4096);
                ground.queue.put_desc(heads[0], into);
            }
            let words: Vec<u8> = available.iter().flat_map(|word| word.to_le_bytes()).collect();
            ground.front.memory.write(ground.queue.layout.avail, &words[..2 * (3 + 16)]);
            ground.queue.put_avail_index(index);
            ground.queue.kick_always();
            let began = Instant::now();
            while began.elapsed() < Duration::from_micros(300) {
                std::hint::spin_loop();
            }
            ground.renew();
            prop_assert!(ground.queue.is_alive());
            prop_assert!(ground.served.disk().is_connected());
            Ok(())
        })?;
    }
}
