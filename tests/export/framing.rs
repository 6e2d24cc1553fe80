//! How a request is cut into descriptors means nothing (virtio 1.3, 2.7.4).

use crate::support::backend::Backend;
use crate::support::front::{Cut, SECTOR, Status, Tables, header, kind};
use crate::{front_with_queue, pattern};

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
    ("one-byte indirect", Cut { readable: &[1; 99], writable: &[1; 99], tables: Tables::Indirect }),
];

/// What virtio 1.3 section 2.7.5.3.2 asks of devices, and qemu-storage-daemon's does not do.
const DIRECT_THEN_INDIRECT: (&str, Cut<'static>) =
    ("direct, then indirect", Cut { readable: &[16], writable: &[7], tables: Tables::Tail(1) });

#[test]
fn every_framing_that_the_standard_allows_means_the_same() {
    for (backend_name, backend) in Backend::all(1) {
        let (_front, mut queue) = front_with_queue(backend.socket());
        let beyond = (!matches!(backend, Backend::Qsd(_))).then_some(&DIRECT_THEN_INDIRECT);
        for (index, (cut_name, cut)) in CUTS.iter().chain(beyond).enumerate() {
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
        assert_eq!(queue.read(0, 4).status, Status::IoErr, "{backend_name}: not a whole sector");
        assert!(queue.is_alive(), "{backend_name}");
    }
}

#[test]
fn a_request_may_use_every_descriptor_of_its_queue() {
    for (name, backend) in Backend::all(1) {
        let (_front, mut queue) = front_with_queue(backend.socket());
        let data = pattern(3, 63 * SECTOR);
        let mut out = header(kind::OUT, 0).to_vec();
        out.extend(&data);
        // 1 header + 126 data + 1 status.
        let cuts: Vec<u32> = std::iter::once(16).chain([SECTOR as u32 / 2; 126]).collect();
        let cut = Cut { readable: &cuts, ..Cut::NONE };
        let write = queue.submit_cut(&out, 1, cut);
        assert_eq!(queue.room(), 0, "{name}: the chain fills the table");
        queue.kick();
        queue.wait(write.head);
        assert_eq!(queue.gather(&write), [0], "{name}");
        assert!(queue.read(0, data.len()).data == data, "{name}");
    }
}
