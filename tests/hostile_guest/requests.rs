//! Well-formed chains that ask for what no driver may have.

use crate::support::backend::{DISK_BYTES, Served, options};
use crate::support::front::{
    Config, Desc, Front, Status, UNMAP, UNWRITTEN, feature, header, kind, segment,
};
use crate::support::nodes::MemoryNode;
use crate::{Case, Stage, epilogue, tell_all};

/// Sectors of the disk.
const CAPACITY: u64 = DISK_BYTES / 512;

pub(crate) const CASES: &[Case] = &[
    Case { id: "G-28", story: "no data, and no whole sector of it", tell: odd_data },
    Case { id: "G-29", story: "many descriptors at the last sector", tell: over_the_end },
    Case { id: "G-30", story: "sectors that wrap around", tell: sector_wraps },
    Case { id: "G-31", story: "the whole disk exactly: served", tell: whole_disk },
    Case { id: "G-32", story: "types that are none", tell: unknown_types },
    Case { id: "G-33", story: "every bad discard and write-zeroes segment", tell: segments },
    Case { id: "G-34", story: "requests whose feature was not accepted", tell: unnegotiated },
    Case { id: "G-35", story: "writes to a read-only disk", tell: read_only },
    Case { id: "G-36", story: "GET_ID with any room", tell: get_id_room },
];

#[test]
fn every_hostile_request_is_answered_and_touches_nothing() {
    tell_all(CASES);
}

fn odd_data(stage: &mut Stage) {
    for (wanted, expected) in [(kind::IN, (1, Status::Ok)), (kind::OUT, (1, Status::Ok))] {
        let chain = [stage.head(wanted, 0), stage.tail()];
        assert_eq!(stage.chain(&chain), expected, "no data");
    }
    for bytes in [1, 511, 513] {
        let chain = [stage.head(kind::IN, 0), stage.room(bytes), stage.tail()];
        assert_eq!(stage.chain(&chain), (0, Status::IoErr), "{bytes} bytes");
        let chain = [stage.head(kind::OUT, 0), stage.data(bytes), stage.tail()];
        assert_eq!(stage.chain(&chain), (1, Status::IoErr), "{bytes} bytes");
    }
}

fn over_the_end(stage: &mut Stage) {
    stage.front.memory.write(stage.data_at, &[0x66; 512]);
    let before = stage.node.memory.content();
    for count in [2, 3, 120] {
        let mut chain = vec![stage.head(kind::OUT, CAPACITY - 1)];
        chain.extend((0..count).map(|_| stage.data(512)));
        chain.push(stage.tail());
        assert_eq!(stage.chain(&chain), (1, Status::IoErr), "{count} sectors");
    }
    assert!(stage.node.memory.content() == before, "nothing was written and nothing grew");
}

fn sector_wraps(stage: &mut Stage) {
    for sector in [CAPACITY, 1 << 55, (1 << 55) - 1, 1 << 63, u64::MAX - 1, u64::MAX] {
        let chain = [stage.head(kind::OUT, sector), stage.data(512), stage.tail()];
        assert_eq!(stage.chain(&chain), (1, Status::IoErr), "write {sector:#x}");
        let chain = [stage.head(kind::IN, sector), stage.room(512), stage.tail()];
        assert_eq!(stage.chain(&chain), (0, Status::IoErr), "read {sector:#x}");
        for wanted in [kind::DISCARD, kind::WRITE_ZEROES] {
            assert_eq!(trim(stage, wanted, &segment(sector, 1, 0)), Status::IoErr, "{sector:#x}");
        }
    }
    assert!(stage.node.memory.asked().is_empty());
}

fn whole_disk(stage: &mut Stage) {
    let half = DISK_BYTES / 2;
    let chain = [stage.head(kind::OUT, 0), stage.data(half), stage.data(half), stage.tail()];
    assert_eq!(stage.chain(&chain), (1, Status::Ok));
    let mut chain = [stage.head(kind::IN, 0), stage.room(half), stage.room(half), stage.tail()];
    assert_eq!(stage.chain(&chain), (DISK_BYTES as u32 + 1, Status::Ok));
    chain[0] = stage.head(kind::IN, 1);
    assert_eq!(stage.chain(&chain), (0, Status::IoErr), "one sector on");
    assert_eq!(trim(stage, kind::WRITE_ZEROES, &segment(0, CAPACITY as u32, 0)), Status::Ok);
    assert_eq!(trim(stage, kind::DISCARD, &segment(0, CAPACITY as u32, 0)), Status::Ok);
}

fn unknown_types(stage: &mut Stage) {
    let known = [0, 1, 4, 5, 8, 11, 13];
    let low = (0..64).filter(|number| !known.contains(number));
    let barriers = known.map(|number| number | 1 << 31);
    for number in low.chain(barriers).chain([0x100, 0x1_0000, 0xdead_beef, u32::MAX]) {
        let chain = [stage.head(number, 0), stage.room(512), stage.tail()];
        assert_eq!(stage.chain(&chain), (0, Status::Unsupp), "type {number:#x}");
    }
    let legacy_flush = [stage.head(5, 0), stage.tail()];
    assert_eq!(stage.chain(&legacy_flush), (1, Status::Ok), "the legacy flush is one");
    assert_eq!(stage.node.memory.asked().len(), 1);
}

/// A discard or write-zeroes with these bytes as segments.
fn trim(stage: &mut Stage, wanted: u32, segments: &[u8]) -> Status {
    stage.front.memory.write(stage.data_at, segments);
    let chain = [stage.head(wanted, 0), stage.data(segments.len() as u64), stage.tail()];
    let (len, status) = stage.chain(&chain);
    assert_eq!(len, 1);
    status
}

fn segments(stage: &mut Stage) {
    let (max, wraps) = (1 << 22, 0x0080_0008);
    for wanted in [kind::DISCARD, kind::WRITE_ZEROES] {
        let good = segment(8, 8, 0);
        let two = [good, good].concat();
        for (bytes, expected, why) in [
            (&good[..], Status::Ok, "a good one"),
            (&[], Status::IoErr, "none"),
            (&good[..15], Status::IoErr, "15 bytes"),
            (&two[..17], Status::Unsupp, "17 bytes"),
            (&two[..], Status::Unsupp, "more than the limit"),
            (&segment(8, 0, 0), Status::Ok, "no sector"),
            (&segment(0, max, 0), Status::IoErr, "the limit, past the end"),
            (&segment(0, max + 1, 0), Status::IoErr, "more than the limit"),
            (&segment(0, wraps, 0), Status::IoErr, "a length that wraps 32 bits"),
            (&segment(0, u32::MAX, 0), Status::IoErr, "the largest"),
            (&segment(CAPACITY - 1, 2, 0), Status::IoErr, "over the end"),
            (&segment(CAPACITY, 0, 0), Status::Ok, "nothing at the end"),
            (&segment(8, 8, 2), Status::Unsupp, "an unknown flag"),
            (&segment(8, 8, 1 << 31), Status::Unsupp, "an unknown flag"),
        ] {
            assert_eq!(trim(stage, wanted, bytes), expected, "type {wanted}: {why}");
        }
        stage.front.memory.write(stage.data_at, &good);
        let mut chain = vec![stage.head(wanted, 0)];
        chain.extend((0..16).map(|at| Desc::readable(stage.data_at + at, 1)));
        chain.push(stage.tail());
        assert_eq!(stage.chain(&chain), (1, Status::Ok), "cut into bytes");
    }
    assert_eq!(trim(stage, kind::DISCARD, &segment(8, 8, UNMAP)), Status::Unsupp);
    assert_eq!(trim(stage, kind::WRITE_ZEROES, &segment(8, 8, UNMAP)), Status::Ok);
}

fn unnegotiated(_: &mut Stage) {
    let mut stage = Stage::with_features(feature::VERSION_1);
    let good = segment(0, 8, 0);
    assert_eq!(trim(&mut stage, kind::DISCARD, &good), Status::Unsupp);
    assert_eq!(trim(&mut stage, kind::WRITE_ZEROES, &good), Status::Unsupp);
    assert!(stage.node.memory.asked().is_empty());
    assert_eq!(stage.queue.flush().status, Status::Ok, "a flush can do no harm");
    let refused = stage.front.write_config(Config::WRITEBACK_AT, &[0]);
    assert!(refused.is_err(), "CONFIG_WCE was not accepted");
    epilogue(&mut stage);
}

fn read_only(_: &mut Stage) {
    let node = MemoryNode::new(DISK_BYTES);
    node.change(|geometry| geometry.read_only = true);
    let served = Served::over(node.clone(), options(1));
    let mut front = Front::connect(&served.socket);
    front.negotiate(feature::ALL & !feature::RO);
    let mut queue = front.start_queues(1, 16).remove(0);
    for _ in 0..3 {
        assert_eq!(queue.write(0, &[1; 512]).status, Status::IoErr);
        assert_eq!(queue.write_zeroes(0, 8, 0).status, Status::Unsupp);
        assert_eq!(queue.discard(0, 8).status, Status::Unsupp);
        assert!(queue.is_alive());
    }
    let unoffered = feature::VERSION_1 | feature::WRITE_ZEROES | feature::DISCARD;
    let body = unoffered.to_ne_bytes();
    let accepted = front.wire.tell(crate::support::front::Ask::SetFeatures, &body, &[]);
    assert!(accepted.is_err(), "what was not offered cannot be accepted");
    assert!(node.asked().iter().all(|asked| asked.io.iotype == blkfault::fault::IoType::Read));
}

fn get_id_room(stage: &mut Stage) {
    for room in [0, 1, 19, 20, 21, 1 << 20] {
        stage.front.memory.write(stage.data_at, &vec![UNWRITTEN; room + 1]);
        let chain = [stage.head(kind::GET_ID, 0), stage.room(room as u64), stage.tail()];
        let (len, status) = stage.chain(&chain);
        let written = room.min(20);
        assert_eq!(status, Status::Ok, "room for {room}");
        assert_eq!(len as usize, if room <= 20 { written + 1 } else { written });
        let after = stage.front.memory.read(stage.data_at, room + 1);
        assert!(after[written..].iter().all(|byte| *byte == UNWRITTEN), "room for {room}");
    }
    // A sector that means nothing, and data that nobody asked for.
    stage.front.memory.write(stage.data_at, &header(kind::GET_ID, u64::MAX));
    let chain = [Desc::readable(stage.data_at, 512), stage.room(20), stage.tail()];
    assert_eq!(stage.chain(&chain), (21, Status::Ok));
}
