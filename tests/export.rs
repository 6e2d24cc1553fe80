//! The guest's door, told as stories of an honest front end over every back end.

mod support {
    pub mod backend;
    pub mod front;
    pub mod nodes;
}

use support::backend::{Backend, options};
use support::front::{Cut, Front, Queue, SECTOR, Status, Tables, feature, header, kind};

/// A connected front end with one running queue, everything negotiated.
fn front_with_queue(socket: &std::path::Path) -> (Front, Queue) {
    let mut front = Front::connect(socket);
    front.negotiate(feature::ALL);
    let queue = front.start_queues(1, 128).remove(0);
    (front, queue)
}

/// Bytes that differ from place to place.
fn pattern(seed: u8, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at / 7) as u8 ^ (at as u8).wrapping_mul(31) ^ seed).collect()
}

/// Ways to cut a request that mean the same as no cut at all.
const CUTS: &[(&str, Cut<'static>)] = &[
    ("two descriptors", Cut::NONE),
    ("header 16, data, status 1", Cut { readable: &[16], writable: &[1024], ..Cut::NONE }),
    ("header 8 + 8", Cut { readable: &[8, 8], ..Cut::NONE }),
    ("header 4 x 4", Cut { readable: &[4, 4, 4, 4], ..Cut::NONE }),
    ("header 15, then 1 with the data", Cut { readable: &[15], ..Cut::NONE }),
    ("header with data behind it", Cut { readable: &[16 + 100, 412], ..Cut::NONE }),
    ("one-byte descriptors", Cut { readable: &[1; 40], writable: &[1; 40], ..Cut::NONE }),
    ("odd lengths", Cut { readable: &[3, 30, 511], writable: &[511, 2, 510], ..Cut::NONE }),
    ("status with the last data byte", Cut { writable: &[1023], ..Cut::NONE }),
    ("an indirect table", Cut { readable: &[16], writable: &[1024], tables: Tables::Indirect }),
    ("an indirect table of two", Cut { tables: Tables::Indirect, ..Cut::NONE }),
    ("direct, then indirect", Cut { readable: &[16], writable: &[7], tables: Tables::Tail(1) }),
    ("one-byte indirect", Cut { readable: &[1; 99], writable: &[1; 99], tables: Tables::Indirect }),
];

#[test]
fn every_framing_that_the_standard_allows_means_the_same() {
    for (backend_name, backend) in Backend::all(1) {
        let (_front, mut queue) = front_with_queue(backend.socket());
        for (index, (cut_name, cut)) in CUTS.iter().enumerate() {
            let story = format!("{backend_name}: {cut_name}");
            let (sector, data) = (8 * index as u64, pattern(index as u8, 2 * SECTOR));
            let mut out = header(kind::OUT, sector).to_vec();
            out.extend(&data);
            let write = queue.submit_cut(&out, 1, *cut);
            queue.kick();
            assert_eq!(queue.wait(write.head).len, 1, "{story}: write");
            assert_eq!(queue.gather(&write), [0], "{story}: write");

            let read = queue.submit_cut(&header(kind::IN, sector), 2 * SECTOR as u32 + 1, *cut);
            queue.kick();
            assert_eq!(queue.wait(read.head).len, 2 * SECTOR as u32 + 1, "{story}: read");
            let mut expected = data;
            expected.push(0);
            assert!(queue.gather(&read) == expected, "{story}: read");
        }
        assert!(queue.is_alive(), "{backend_name}");
        assert_eq!(queue.read(0, 4).status, Status::IoErr);
    }
}

#[test]
fn smoke() {
    let _ = options(1);
}
