//! Descriptor chains that are none, and odd ones that are.

use crate::support::front::{Desc, INDIRECT, NEXT, Status, Used, WRITE, feature, header, kind};
use crate::{BORDER, Case, END, HOLE, QUEUE_SIZE, Stage, epilogue, tell_all};

/// A malformed chain is answered with nothing written.
const NOTHING: u32 = 0;

pub(crate) const CASES: &[Case] = &[
    Case { id: "G-01", story: "a descriptor that follows itself", tell: self_loop },
    Case { id: "G-02", story: "two descriptors that follow each other", tell: loop_of_two },
    Case { id: "G-03", story: "a loop inside an indirect table", tell: loop_in_table },
    Case { id: "G-04", story: "chains of the queue's size and one more", tell: full_length },
    Case { id: "G-05", story: "next is past the table", tell: next_past_table },
    Case { id: "G-10", story: "a head again while it is in flight", tell: head_twice },
    Case { id: "G-11", story: "one head in every place of the ring", tell: one_head_everywhere },
    Case { id: "G-12", story: "indirect tables of impossible lengths", tell: table_lengths },
    Case { id: "G-13", story: "an indirect table inside another", tell: nested_table },
    Case { id: "G-14", story: "INDIRECT and NEXT together", tell: indirect_and_next },
    Case { id: "G-15", story: "indirect without the feature", tell: indirect_unnegotiated },
    Case { id: "G-16", story: "indirect tables in odd places", tell: table_places },
    Case { id: "G-17", story: "direct descriptors, then a table: served", tell: direct_then_table },
    Case { id: "G-18", story: "WRITE on the indirect descriptor: ignored", tell: writable_table },
    Case { id: "G-19", story: "descriptors without length: served", tell: empty_descriptors },
    Case { id: "G-20", story: "lengths that add up to 4 GiB and more", tell: four_gib },
    Case { id: "G-21", story: "address and length wrap around", tell: address_wraps },
    Case { id: "G-22", story: "buffers in and at the edge of a hole", tell: holes },
    Case { id: "G-23", story: "a buffer over the border of two regions: served", tell: straddle },
    Case { id: "G-24", story: "the header in many pieces: served", tell: header_pieces },
    Case { id: "G-25", story: "no whole header", tell: short_header },
    Case { id: "G-26", story: "no status byte, or more than one", tell: status_room },
    Case { id: "G-27", story: "readable behind writable", tell: wrong_order },
];

#[test]
fn every_hostile_chain_is_answered_once_and_leaves_the_queue_alive() {
    tell_all(CASES);
}

fn self_loop(stage: &mut Stage) {
    let head = Desc { flags: NEXT, next: 0, ..stage.head(kind::IN, 0) };
    assert_eq!(stage.offer_raw(&[head]), NOTHING);
}

fn loop_of_two(stage: &mut Stage) {
    let head = Desc { flags: NEXT, next: 1, ..stage.head(kind::OUT, 0) };
    let back = Desc { flags: NEXT, next: 0, ..stage.data(512) };
    assert_eq!(stage.offer_raw(&[head, back]), NOTHING);
    assert!(stage.node.memory.asked().is_empty());
}

fn loop_in_table(stage: &mut Stage) {
    let head = Desc { flags: NEXT, next: 1, ..stage.head(kind::IN, 0) };
    let back = Desc { flags: NEXT | WRITE, next: 1, ..stage.room(512) };
    let table = stage.table_at(stage.data_at + 4096, &[head, back]);
    assert_eq!(stage.chain(&[table]), (NOTHING, Status::Unwritten));
}

fn full_length(stage: &mut Stage) {
    let pieces = usize::from(QUEUE_SIZE) - 2;
    let room = |stage: &Stage, count: usize| {
        let mut chain = vec![stage.head(kind::IN, 0)];
        chain.extend((0..count).map(|_| stage.room(512)));
        chain.push(stage.tail());
        chain
    };
    let full = room(stage, pieces);
    assert_eq!(stage.chain(&full), (pieces as u32 * 512 + 1, Status::Ok), "the queue's size");
    // As drivers of Windows do, and QEMU takes.
    let longer = stage.linked_table(&room(stage, pieces + 1));
    assert_eq!(stage.chain(&[longer]).1, Status::Ok, "one more, in an indirect table");
    let longest = stage.linked_table(&room(stage, 1022));
    assert_eq!(stage.chain(&[longest]).1, Status::Ok, "the limit");
    let too_long = stage.linked_table(&room(stage, 1023));
    assert_eq!(stage.chain(&[too_long]), (NOTHING, Status::Unwritten), "one more than the limit");
}

fn next_past_table(stage: &mut Stage) {
    for next in [QUEUE_SIZE, u16::MAX] {
        let head = Desc { flags: NEXT, next, ..stage.head(kind::IN, 0) };
        assert_eq!(stage.offer_raw(&[head]), NOTHING);
        stage.front.renew_queue(&mut stage.queue);
    }
    let head = Desc { flags: NEXT, next: 2, ..stage.head(kind::IN, 0) };
    let table = stage.table_at(stage.data_at, &[head, stage.tail()]);
    assert_eq!(stage.chain(&[table]), (NOTHING, Status::Unwritten), "in an indirect table");
}

fn head_twice(stage: &mut Stage) {
    stage.node.shut();
    let chain = [stage.head(kind::IN, 0), stage.room(512), stage.tail()];
    let head = stage.queue.submit_chain(&chain);
    stage.queue.offer(head.0);
    stage.queue.kick();
    stage.node.wait_held(1);
    assert_eq!(stage.queue.answer(), Used { head, len: NOTHING }, "in one batch");
    stage.queue.offer(head.0);
    stage.queue.kick();
    assert_eq!(stage.queue.answer(), Used { head, len: NOTHING }, "while in flight");
    assert_eq!((stage.node.held(), stage.status()), (1, Status::Unwritten));
    stage.node.open();
    assert_eq!(stage.queue.answer(), Used { head, len: 513 }, "the first is served");
    stage.front.renew_queue(&mut stage.queue);
}

fn one_head_everywhere(stage: &mut Stage) {
    stage.node.shut();
    let chain = [stage.head(kind::IN, 0), stage.room(512), stage.tail()];
    let head = stage.queue.submit_chain(&chain);
    (1..QUEUE_SIZE).for_each(|_| stage.queue.offer(head.0));
    stage.queue.kick();
    stage.node.wait_held(1);
    stage.node.open();
    let answers: Vec<u32> = (0..QUEUE_SIZE).map(|_| stage.queue.answer().len).collect();
    assert_eq!(answers.iter().filter(|len| **len == 513).count(), 1, "one of them is served");
    stage.front.renew_queue(&mut stage.queue);
}

fn table_lengths(stage: &mut Stage) {
    stage.linked_table(&[stage.head(kind::IN, 0), stage.room(512), stage.tail()]);
    for len in [0, 1, 15, 17, 47, 1025 * 16, 65_536 * 16, 1 << 20, u32::MAX, u32::MAX - 15] {
        let table = Desc { addr: stage.data_at, len, flags: INDIRECT, next: 0 };
        assert_eq!(stage.chain(&[table]), (NOTHING, Status::Unwritten), "{len} bytes");
    }
}

fn nested_table(stage: &mut Stage) {
    let inner = stage.linked_table(&[stage.head(kind::IN, 0), stage.room(512), stage.tail()]);
    let outer = stage.linked_table(&[inner]);
    assert_eq!(stage.chain(&[outer]), (NOTHING, Status::Unwritten));
    let itself = stage.table_at(stage.data_at, &[Desc::indirect(stage.data_at, 1)]);
    assert_eq!(stage.chain(&[itself]), (NOTHING, Status::Unwritten), "in itself");
    let last = stage.linked_table(&[stage.head(kind::IN, 0), stage.room(512), inner]);
    assert_eq!(stage.chain(&[last]), (NOTHING, Status::Unwritten), "at the end");
}

fn indirect_and_next(stage: &mut Stage) {
    let table = stage.linked_table(&[stage.head(kind::IN, 0), stage.room(512)]);
    let chain = [table, stage.tail()];
    assert_eq!(stage.chain(&chain), (NOTHING, Status::Unwritten));
}

fn indirect_unnegotiated(_: &mut Stage) {
    let mut stage = Stage::with_features(feature::ALL & !feature::INDIRECT_DESC);
    let table = stage.linked_table(&[stage.head(kind::IN, 0), stage.room(512), stage.tail()]);
    assert_eq!(stage.chain(&[table]), (NOTHING, Status::Unwritten));
    epilogue(&mut stage);
}

fn table_places(stage: &mut Stage) {
    // In the used ring: what is there is no request, whatever it is.
    let used = stage.queue.layout.used;
    stage.chain(&[Desc { addr: used + 4, len: 48, flags: INDIRECT, next: 0 }]);
    // A read into the table that describes it: the table was read before.
    let table_at = stage.data_at;
    let chain = [
        Desc { flags: NEXT, next: 1, ..stage.head(kind::IN, 0) },
        Desc { flags: NEXT | WRITE, next: 2, ..stage.room(512) },
        stage.tail(),
    ];
    let table = stage.table_at(table_at, &chain);
    assert_eq!(stage.chain(&[table]), (513, Status::Ok), "over itself");
    // Over the border of two regions, in the middle of a descriptor.
    let table = stage.table_at(BORDER - 24, &chain);
    assert_eq!(stage.chain(&[table]), (513, Status::Ok), "over a border");
    let outside = Desc::indirect(HOLE - 16, 3);
    assert_eq!(stage.chain(&[outside]).0, NOTHING, "into a hole");
    let wraps = Desc::indirect(u64::MAX - 15, 3);
    assert_eq!(stage.chain(&[wraps]).0, NOTHING, "around the end");
}

fn direct_then_table(stage: &mut Stage) {
    let head = stage.head(kind::IN, 0);
    let table = stage.linked_table(&[stage.room(512), stage.tail()]);
    assert_eq!(stage.chain(&[head, table]), (513, Status::Ok));
}

fn writable_table(stage: &mut Stage) {
    let table = stage.linked_table(&[stage.head(kind::IN, 0), stage.room(512), stage.tail()]);
    let writable = Desc { flags: table.flags | WRITE, ..table };
    assert_eq!(stage.chain(&[writable]), (513, Status::Ok));
}

fn empty_descriptors(stage: &mut Stage) {
    let out = Desc::readable(stage.data_at, 0);
    let back = Desc::writable(u64::MAX, 0);
    let (room, tail) = (stage.room(512), stage.tail());
    let head = stage.head(kind::IN, 0);
    assert_eq!(stage.chain(&[out, head, room, tail]), (513, Status::Ok), "first");
    let head = stage.head(kind::IN, 0);
    assert_eq!(stage.chain(&[head, out, back, room, tail]), (513, Status::Ok), "in the middle");
    let head = stage.head(kind::IN, 0);
    assert_eq!(stage.chain(&[head, room, tail, back]), (513, Status::Ok), "last");
    let mut many = vec![stage.head(kind::IN, 0)];
    many.extend((0..1000).map(|_| back));
    many.extend([room, tail]);
    let table = stage.linked_table(&many);
    assert_eq!(stage.chain(&[table]), (513, Status::Ok), "a thousand");
}

fn four_gib(stage: &mut Stage) {
    let piece = 32 << 20;
    for (sum, answered) in [
        (u64::from(u32::MAX), (NOTHING, Status::IoErr)),
        (1 << 32, (NOTHING, Status::Unwritten)),
        ((1 << 32) + 512, (NOTHING, Status::Unwritten)),
    ] {
        let mut chain = vec![stage.head(kind::IN, 0)];
        let mut left = sum - 17;
        while left > 0 {
            chain.push(Desc::writable(4096, left.min(piece) as u32));
            left -= left.min(piece);
        }
        chain.push(stage.tail());
        let table = stage.linked_table(&chain);
        assert_eq!(stage.chain(&[table]), answered, "{sum:#x} bytes");
    }
}

fn address_wraps(stage: &mut Stage) {
    for addr in [u64::MAX, u64::MAX - 511, u64::MAX - 256] {
        let chain = [stage.head(kind::IN, 0), Desc::writable(addr, 512), stage.tail()];
        assert_eq!(stage.chain(&chain), (NOTHING, Status::IoErr), "data at {addr:#x}");
        let chain = [stage.head(kind::OUT, 0), Desc::readable(addr, 512), stage.tail()];
        assert_eq!(stage.chain(&chain), (1, Status::IoErr), "data at {addr:#x}");
        stage.head(kind::IN, 0);
        let chain = [Desc::readable(addr, 16), stage.room(512), stage.tail()];
        assert_eq!(stage.chain(&chain), (NOTHING, Status::IoErr), "header at {addr:#x}");
        let chain = [stage.head(kind::IN, 0), stage.room(512), Desc::writable(addr, 512)];
        // The guest has memory where the addresses begin anew, but nobody named it.
        stage.front.memory.write(0, &[0xee; 512]);
        assert_eq!(stage.chain(&chain).0, NOTHING, "status at {addr:#x}");
        assert_eq!(stage.front.memory.read(0, 512), [0xee; 512], "status at {addr:#x}");
    }
}

fn holes(stage: &mut Stage) {
    let expected = |ok| if ok { (513, Status::Ok) } else { (NOTHING, Status::IoErr) };
    for (addr, ok) in [
        (HOLE, false),
        (HOLE - 511, false),
        (HOLE - 512, true),
        (END - 512, true),
        (END - 511, false),
        (END, false),
    ] {
        let chain = [stage.head(kind::IN, 0), Desc::writable(addr, 512), stage.tail()];
        assert_eq!(stage.chain(&chain), expected(ok), "data at {addr:#x}");
    }
    let chain = [stage.head(kind::IN, 0), stage.room(512), Desc::writable(HOLE, 1)];
    assert_eq!(stage.chain(&chain).0, 512, "the status cannot be written, and is not claimed");
}

fn straddle(stage: &mut Stage) {
    let at = BORDER - 8;
    stage.front.memory.write(at, &header(kind::IN, 0));
    stage.head(kind::IN, 0);
    let chain = [Desc::readable(at, 16), stage.room(512), stage.tail()];
    assert_eq!(stage.chain(&chain), (513, Status::Ok), "the header");
    let chain = [stage.head(kind::IN, 0), Desc::writable(BORDER - 100, 512), stage.tail()];
    assert_eq!(stage.chain(&chain), (513, Status::Ok), "the data");
}

fn header_pieces(stage: &mut Stage) {
    for lengths in [vec![16], vec![8, 8], vec![4; 4], vec![1; 16]] {
        stage.head(kind::IN, 0);
        let mut at = stage.header_at;
        let mut chain = Vec::new();
        for length in &lengths {
            chain.push(Desc::readable(at, *length));
            at += u64::from(*length);
        }
        chain.extend([stage.room(512), stage.tail()]);
        assert_eq!(stage.chain(&chain), (513, Status::Ok), "{lengths:?}");
    }
    // 15 bytes, then one with the data behind it.
    let mut data = header(kind::OUT, 0)[15..].to_vec();
    data.extend([0x5a; 512]);
    stage.front.memory.write(stage.data_at, &data);
    let head = Desc { len: 15, ..stage.head(kind::OUT, 0) };
    let chain = [head, stage.data(513), stage.tail()];
    assert_eq!(stage.chain(&chain), (1, Status::Ok));
    assert_eq!(stage.node.memory.content()[..512], [0x5a; 512]);
}

fn short_header(stage: &mut Stage) {
    for bytes in [0, 1, 15] {
        let head = Desc { len: bytes, ..stage.head(kind::FLUSH, 0) };
        let chain = [head, stage.tail()];
        assert_eq!(stage.chain(&chain), (1, Status::IoErr), "{bytes} bytes");
    }
    let writable = Desc { flags: WRITE, ..stage.head(kind::FLUSH, 0) };
    let chain = [writable, stage.tail()];
    assert_eq!(stage.chain(&chain), (NOTHING, Status::IoErr), "in a writable descriptor");
    assert_eq!(stage.front.memory.read(stage.header_at, 16), header(kind::FLUSH, 0));
    assert!(stage.node.memory.asked().is_empty());
}

fn status_room(stage: &mut Stage) {
    stage.front.memory.write(stage.data_at, &[0x77; 4096]);
    let chain = [stage.head(kind::OUT, 0), stage.data(512)];
    assert_eq!(stage.chain(&chain).0, NOTHING, "no writable byte");
    let chain = [stage.head(kind::OUT, 0), stage.data(512), Desc::writable(stage.status_at, 0)];
    assert_eq!(stage.chain(&chain), (NOTHING, Status::Unwritten), "an empty one");
    assert!(stage.node.memory.asked().is_empty(), "what cannot be answered is not done");

    let chain = [stage.head(kind::OUT, 0), stage.data(512), stage.room(4096)];
    assert_eq!(stage.chain(&chain).0, NOTHING, "the first 4095 bytes are not written");
    let after = stage.front.memory.read(stage.data_at, 4096);
    assert_eq!((&after[..4095], after[4095]), (&[0x77; 4095][..], 0), "the last byte alone");

    let chain = [stage.head(kind::IN, 0), stage.room(513)];
    assert_eq!(stage.chain(&chain).0, 513, "shared with the data");
    assert_eq!(stage.front.memory.read(stage.data_at + 512, 1), [0]);
}

fn wrong_order(stage: &mut Stage) {
    let chain = [stage.head(kind::OUT, 0), stage.tail(), stage.data(512)];
    assert_eq!(stage.chain(&chain), (NOTHING, Status::Unwritten));
    let chain = [stage.room(512), stage.head(kind::IN, 0), stage.tail()];
    assert_eq!(stage.chain(&chain), (NOTHING, Status::Unwritten));
    let empty = Desc::writable(stage.data_at, 0);
    let chain = [empty, stage.head(kind::IN, 0), stage.room(512), stage.tail()];
    assert_eq!(stage.chain(&chain), (513, Status::Ok), "an empty one has no direction");
    assert!(stage.node.memory.asked().len() == 1);
}
