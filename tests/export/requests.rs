//! What each request does, and what the device says about itself.

use blkfault::errno::Errno;
use blkfault::export::DiskOptions;
use blkfault::fault::IoType;

use crate::support::backend::{Backend, DISK_BYTES, Served, options};
use crate::support::front::{Ask, Config, Front, SECTOR, Status, UNMAP, UNWRITTEN, feature, kind};
use crate::support::nodes::MemoryNode;
use crate::{front_with_queue, pattern};

const DISK_SECTORS: u64 = DISK_BYTES / SECTOR as u64;

#[test]
fn every_request_type_does_what_it_says() {
    for (name, backend) in Backend::all(1) {
        let (_front, mut queue) = front_with_queue(backend.socket());
        let data = pattern(1, 8 * SECTOR);
        assert_eq!((queue.write(8, &data).status, queue.flush().status), (Status::Ok, Status::Ok));
        let read = queue.read(8, data.len());
        assert_eq!((read.status, read.len), (Status::Ok, data.len() as u32 + 1), "{name}");
        assert!(read.data == data, "{name}: what was written is read");

        assert_eq!(queue.write_zeroes(9, 1, 0).status, Status::Ok, "{name}");
        assert_eq!(queue.write_zeroes(10, 1, UNMAP).status, Status::Ok, "{name}");
        assert_eq!(queue.discard(12, 4).status, Status::Ok, "{name}");
        let after = queue.read(8, data.len()).data;
        assert_eq!(after[..SECTOR], data[..SECTOR], "{name}: before the zeroes");
        assert!(after[SECTOR..3 * SECTOR].iter().all(|byte| *byte == 0), "{name}: zeroes");
        assert_eq!(after[3 * SECTOR..4 * SECTOR], data[3 * SECTOR..4 * SECTOR], "{name}: between");

        let id = queue.get_id();
        assert_eq!((id.status, id.len), (Status::Ok, 21), "{name}: GET_ID");
        assert_eq!(queue.fetch(99, 0, SECTOR).status, Status::Unsupp, "{name}: unknown type");
        let last = DISK_SECTORS - 1;
        assert_eq!(queue.read(last, SECTOR).status, Status::Ok, "{name}: the last sector");
        assert_eq!(queue.read(last, 2 * SECTOR).status, Status::IoErr, "{name}: past the end");
        assert_eq!(queue.write(last, &[0; 2 * SECTOR]).status, Status::IoErr, "{name}");
        assert!(queue.is_alive(), "{name}");
    }
}

#[test]
fn every_request_is_counted_once_where_it_belongs() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(1));
    let (_front, mut queue) = front_with_queue(&served.socket);
    for sector in 0..3 {
        queue.write(sector, &[1; 2 * SECTOR]);
    }
    queue.read(0, SECTOR);
    queue.read(DISK_SECTORS, SECTOR);
    queue.flush();
    queue.discard(0, 8);
    queue.write_zeroes(8, 16, 0);
    queue.get_id();
    queue.fetch(77, 0, 0);

    let stats = &served.disk().stats;
    let counts = |iotype| {
        let of = stats.of(iotype);
        (of.operations, of.bytes, of.failed, of.invalid)
    };
    assert_eq!(counts(IoType::Write), (3, 3 * 1024, 0, 0));
    assert_eq!(counts(IoType::Read), (1, 512, 0, 1));
    assert_eq!(counts(IoType::Flush), (1, 0, 0, 0));
    assert_eq!(counts(IoType::Discard), (1, 8 * 512, 0, 0));
    assert_eq!(counts(IoType::WriteZeroes), (1, 16 * 512, 0, 0));
    assert_eq!(stats.get_id_operations(), 1);
    assert_eq!(stats.malformed(), 1, "the unknown type");
    assert_eq!(stats.wr_highest_offset(), 4 * 512);
    assert!(stats.of(IoType::Write).total_time_ns > 0);
    assert!(stats.idle_time().is_some());
}

#[test]
fn a_failure_of_the_image_reaches_the_guest_and_the_observer() {
    let cases = [
        (IoType::Read, Errno::EIO, Status::IoErr),
        (IoType::Write, Errno::ENOSPC, Status::IoErr),
        (IoType::Flush, Errno::EIO, Status::IoErr),
        (IoType::Discard, Errno::EOPNOTSUPP, Status::Unsupp),
        (IoType::WriteZeroes, Errno::EIO, Status::IoErr),
    ];
    for (iotype, errno, status) in cases {
        let node = MemoryNode::new(DISK_BYTES);
        let served = Served::over(node.clone(), options(1));
        let (_front, mut queue) = front_with_queue(&served.socket);
        node.fail(iotype, errno);
        let reply = match iotype {
            IoType::Read => queue.read(0, SECTOR),
            IoType::Write => queue.write(0, &[1; SECTOR]),
            IoType::Flush => queue.flush(),
            IoType::GetId => queue.get_id(),
            IoType::Discard => queue.discard(0, 1),
            IoType::WriteZeroes => queue.write_zeroes(0, 1, 0),
        };
        let name = iotype.name();
        assert_eq!(reply.status, status, "{name}");
        let claimed = if iotype == IoType::Read { 0 } else { 1 };
        assert_eq!(reply.len, claimed, "{name}: no byte is claimed that was not written");
        let failures = served.seen.failures.lock().unwrap().clone();
        assert_eq!(failures.len(), 1, "{name}");
        assert_eq!((failures[0].iotype, failures[0].errno), (iotype, errno));
        assert_eq!(served.disk().stats.of(iotype).failed, 1, "{name}");
    }
}

#[test]
fn the_configuration_space_tells_the_whole_disk() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(4));
    let front = Front::connect(&served.socket);
    let config = front.config();
    let expected = Config {
        capacity: DISK_SECTORS,
        size_max: 1 << 20,
        seg_max: 126,
        cylinders: 8,
        heads: 16,
        sectors: 63,
        blk_size: 512,
        physical_block_exp: 3,
        alignment_offset: 0,
        min_io_size: 1,
        opt_io_size: 0,
        writeback: 1,
        num_queues: 4,
        max_discard_sectors: 1 << 22,
        max_discard_seg: 1,
        discard_sector_alignment: 1,
        max_write_zeroes_sectors: 1 << 22,
        max_write_zeroes_seg: 1,
        write_zeroes_may_unmap: 1,
    };
    assert_eq!(config, expected);
    assert_eq!(front.offered & feature::ALL, feature::ALL & !feature::RO);
    assert_eq!(front.queues_max, 4);
}

#[test]
fn any_part_of_the_configuration_space_can_be_read() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(1));
    let front = Front::connect(&served.socket);
    let whole = front.read_config(0, 256).expect("256 bytes");
    for offset in 0..100 {
        for bytes in [1, 2, 4, 8, 13] {
            let part = front.read_config(offset, bytes).expect("a part");
            assert_eq!(part, whole[offset as usize..][..bytes as usize], "{bytes} at {offset}");
        }
    }
    assert!(whole[72..].iter().all(|byte| *byte == 0), "zeroes behind the end");
}

#[test]
fn the_writeback_byte_is_the_one_that_a_driver_may_write() {
    let node = MemoryNode::new(DISK_BYTES);
    let served = Served::over(node.clone(), options(1));
    let (front, mut queue) = front_with_queue(&served.socket);
    let mut fua_of_write = || {
        queue.write(0, &[1; SECTOR]);
        queue.write_zeroes(0, 1, 0);
        let asked: Vec<bool> = node.asked().iter().map(|asked| asked.fua).collect();
        assert_eq!(asked.len(), 2);
        assert_eq!(asked[0], asked[1], "writes and zeroes are alike");
        asked[0]
    };
    assert!(!fua_of_write(), "write-back: nothing needs to be durable");
    front.write_config(Config::WRITEBACK_AT, &[0]).expect("write-through");
    assert_eq!(front.config().writeback, 0);
    assert!(fua_of_write(), "write-through: durable when it completes");
    front.write_config(Config::WRITEBACK_AT, &[1]).expect("write-back");
    assert!(!fua_of_write());

    let before = front.read_config(0, 72).expect("config");
    for (offset, bytes) in [(0, &[9u8; 8][..]), (32, &[2]), (32, &[1, 0]), (33, &[1]), (31, &[1])] {
        assert!(front.write_config(offset, bytes).is_err(), "{bytes:?} at {offset} is refused");
    }
    assert_eq!(front.read_config(0, 72).expect("config"), before, "a refusal changes nothing");
}

#[test]
fn a_driver_that_cannot_flush_gets_durable_writes() {
    let node = MemoryNode::new(DISK_BYTES);
    let served = Served::over(node.clone(), options(1));
    let cases = [
        (feature::ALL & !(feature::FLUSH | feature::CONFIG_WCE), true),
        (feature::ALL & !feature::FLUSH, true),
        (feature::ALL & !feature::CONFIG_WCE, false),
        (feature::ALL, false),
    ];
    for (features, fua) in cases {
        let mut front = Front::connect(&served.socket);
        front.negotiate(features);
        let can_flush = features & feature::FLUSH != 0;
        assert_eq!(front.config().writeback == 1, can_flush || features & feature::CONFIG_WCE == 0);
        let mut queue = front.start_queues(1, 16).remove(0);
        queue.write(0, &[1; SECTOR]);
        assert_eq!(node.asked()[0].fua, fua, "features {features:#x}");
        drop((front, queue));
        served.wait_disconnected();
    }
}

#[test]
fn what_one_driver_negotiates_is_not_what_the_next_one_finds() {
    let write_through = DiskOptions { writeback: false, ..options(1) };
    let node = MemoryNode::new(DISK_BYTES);
    let served = Served::over(node.clone(), write_through);
    let mut front = Front::connect(&served.socket);
    // Firmware that knows nothing of CONFIG_WCE, then a kernel that does, as at every boot.
    front.negotiate(feature::VERSION_1 | feature::BLK_SIZE | feature::FLUSH);
    let mut queue = front.start_queues(1, 16).remove(0);
    queue.write(0, &[1; SECTOR]);
    assert!(node.asked()[0].fua, "as the operator chose, whatever the driver knows");
    front.stop_queue(0);
    queue.reset(0);
    front.accept_features(feature::ALL);
    assert_eq!(front.config().writeback, 0, "as the operator chose");
    front.start_queue(&queue, 0);
    queue.write(0, &[1; SECTOR]);
    assert!(node.asked()[0].fua);
}

#[test]
fn a_read_only_disk_is_read_and_nothing_else() {
    let (read_only, node) = (DiskOptions { writable: false, ..options(1) }, MemoryNode::new(8192));
    let image = MemoryNode::new(8192);
    image.change(|geometry| geometry.read_only = true);
    let by_option = Served::over(node.clone(), read_only);
    let by_image = Served::over(image.clone(), options(1));
    for (served, node) in [(by_option, node), (by_image, image)] {
        let mut front = Front::connect(&served.socket);
        assert_ne!(front.offered & feature::RO, 0);
        assert_eq!(front.offered & feature::WRITE_ZEROES, 0);
        // A driver that does not accept RO gets no further (G-35).
        front.negotiate(feature::ALL & !feature::RO);
        let mut queue = front.start_queues(1, 16).remove(0);
        assert_eq!(queue.write(0, &[1; SECTOR]).status, Status::IoErr);
        assert_ne!(queue.write_zeroes(0, 1, 0).status, Status::Ok);
        assert_ne!(queue.discard(0, 1).status, Status::Ok);
        assert_eq!(queue.read(0, SECTOR).data, [0; SECTOR]);
        assert_eq!(queue.flush().status, Status::Ok);
        assert!(node.content().iter().all(|byte| *byte == 0), "nothing was written");
        assert!(node.asked().iter().all(|asked| asked.io.iotype != IoType::Write));
    }
}

#[test]
fn a_disk_of_large_blocks_takes_whole_blocks() {
    let large = DiskOptions { logical_block_bytes: 4096, ..options(1) };
    // One sector more than whole blocks: the disk ends at the last whole block.
    let served = Served::over(MemoryNode::new(3 * 4096 + 512), large);
    let (front, mut queue) = front_with_queue(&served.socket);
    let config = front.config();
    assert_eq!((config.blk_size, config.capacity, config.physical_block_exp), (4096, 24, 0));
    assert_eq!(config.discard_sector_alignment, 8);
    let data = pattern(5, 8192);
    assert_eq!(queue.write(8, &data).status, Status::Ok);
    assert!(queue.read(8, 8192).data == data);
    assert_eq!(queue.read(1, 4096).status, Status::IoErr, "misaligned");
    assert_eq!(queue.read(8, 512).status, Status::IoErr, "a part of a block");
    assert_eq!(queue.write(8, &[0; 512]).status, Status::IoErr);
    assert_eq!(queue.write_zeroes(9, 8, 0).status, Status::IoErr);
    assert_eq!(queue.discard(8, 4).status, Status::IoErr);
    assert_eq!(queue.read(24, 512).status, Status::IoErr, "behind the last whole block");
    assert!(queue.read(8, 8192).data == data, "refused requests change nothing");
}

#[test]
fn the_serial_fills_what_room_there_is() {
    let served = Served::over(MemoryNode::new(DISK_BYTES), options(1));
    let (_front, mut queue) = front_with_queue(&served.socket);
    let serial = b"SERIAL-0123456789\0\0\0";
    for room in [0, 1, 17, 19, 20, 21, 512] {
        let reply = queue.fetch(kind::GET_ID, 0, room);
        let given = room.min(serial.len());
        assert_eq!(reply.status, Status::Ok, "room for {room}");
        assert_eq!(reply.data[..given], serial[..given], "room for {room}");
        assert!(reply.data[given..].iter().all(|byte| *byte == UNWRITTEN), "room for {room}");
        let gapless = if room <= 20 { given + 1 } else { given };
        assert_eq!(reply.len as usize, gapless, "room for {room}: what was written is claimed");
    }
}

#[test]
fn an_image_that_shrank_fails_what_is_gone() {
    let node = MemoryNode::new(DISK_BYTES);
    let served = Served::over(node.clone(), options(1));
    let (_front, mut queue) = front_with_queue(&served.socket);
    blkfault::block::Node::resize(&node, DISK_BYTES / 2).expect("resize");
    assert_eq!(queue.read(DISK_SECTORS - 1, SECTOR).status, Status::IoErr);
    assert_eq!(queue.read(DISK_SECTORS / 2 - 1, SECTOR).status, Status::Ok);
}

#[test]
fn what_a_disk_offers_does_not_change_while_it_is_served() {
    let node = MemoryNode::new(DISK_BYTES);
    let served = Served::over(node.clone(), options(1));
    let mut front = Front::connect(&served.socket);
    front.negotiate(feature::ALL);
    let (offered, config) = (front.offered, front.config());
    // The host turned out unable to punch holes, or the operator reopened the node.
    node.change(|geometry| (geometry.can_discard, geometry.can_unmap_zeroes) = (false, false));
    assert_eq!(front.wire.ask_u64(Ask::GetFeatures).expect("features"), offered);
    assert_eq!(front.config(), config);
    front.accept_again();
    let mut queue = front.start_queues(1, 16).remove(0);
    assert_eq!(queue.discard(0, 8).status, Status::Ok);
    drop((front, queue));
    served.wait_disconnected();
    assert_eq!(Front::connect(&served.socket).offered, offered, "nor for the next session");
}
