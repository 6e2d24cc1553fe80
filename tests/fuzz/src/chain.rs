//! F-01: the walk along a descriptor chain.
//!
//! Any memory, any table, any head; against the reference walk: the same pieces or both none, and no
//! descriptor read more often than there.

use std::cell::RefCell;
use std::rc::Rc;

use blkfault::fuzzing::{ChainAt, Event, Memory, walk, watch};

use crate::guest::{
    BORDER, BYTES, Desc, HOLE, INDIRECT, NEXT, Put, REGIONS, WRITE, header, present, readable,
    writable,
};
use crate::input::{Reader, Writer};
use crate::{Seed, model, reads};

/// An input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    pub size_log2: u8,
    pub indirect: bool,
    pub head: u16,
    pub table: u64,
    pub puts: Vec<Put>,
}

impl Case {
    pub fn decode(input: &[u8]) -> Self {
        let mut input = Reader::new(input);
        let (size_log2, indirect) = (input.u8() % 11, input.u8() & 1 != 0);
        let (head, table) = (input.u16(), input.u64());
        let mut puts = Vec::new();
        while !input.is_empty() {
            let kind = input.u8() % Put::KINDS;
            puts.push(Put::read(kind, &mut input));
        }
        Self { size_log2, indirect, head, table, puts }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut output = Writer::default();
        output.u8(self.size_log2);
        output.u8(self.indirect.into());
        output.u16(self.head);
        output.u64(self.table);
        self.puts.iter().for_each(|put| put.write(&mut output));
        output.0
    }
}

/// What is kept from input to input, because mapping memory is dear.
struct Ground {
    memory: Memory,
    mirror: Vec<u8>,
    reads: Rc<RefCell<model::Reads>>,
}

thread_local! {
    static GROUND: RefCell<Option<Ground>> = const { RefCell::new(None) };
}

/// Try an input.
pub fn run(input: &[u8]) {
    let case = Case::decode(input);
    let mut ground = GROUND.take().unwrap_or_else(|| Ground {
        memory: Memory::new(&REGIONS),
        mirror: vec![0; BYTES],
        reads: Rc::default(),
    });
    let mut dirty = Vec::new();
    for put in &case.puts {
        dirty.push(put.apply(&mut |at, bytes| ground.write(at, bytes)));
    }
    ground.compare(ChainAt {
        table: case.table,
        size: 1 << case.size_log2,
        head: case.head,
        indirect: case.indirect,
    });
    for (at, bytes) in dirty.into_iter().flat_map(present) {
        ground.write(at, &[0; 255][..bytes]);
    }
    GROUND.set(Some(ground));
}

impl Ground {
    fn write(&mut self, at: u64, bytes: &[u8]) {
        self.memory.write(at, bytes);
        let at = usize::try_from(at).unwrap_or(0);
        self.mirror[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn compare(&mut self, at: ChainAt) {
        self.reads.borrow_mut().clear();
        let reads = self.reads.clone();
        watch(Some(Box::new(move |event| {
            if let Event::Read { at, bytes } = event {
                reads.borrow_mut().push((at, bytes as u64));
            }
        })));
        let walked = walk(&self.memory, at);
        watch(None);
        let mut allowed = model::Reads::new();
        let expected = model::walk(&self.mirror, at, &mut allowed);
        match (&walked, &expected) {
            (Ok(walked), Some(expected)) => assert_eq!(walked, expected),
            (Err(_), None) => {}
            _ => panic!("{walked:?}, but the reference walks to {expected:?}"),
        }
        // Somebody really watched.
        assert_eq!(self.reads.borrow().is_empty(), allowed.is_empty());
        reads::check(&self.reads.borrow(), &allowed);
    }
}

/// A table of 16 at address 0, whose chain starts with the first.
fn table(descs: &[Desc]) -> Case {
    let put = |(at, desc): (u32, &Desc)| Put::Desc { at, desc: *desc };
    let puts = (0..).step_by(16).zip(descs).map(put).collect();
    Case { size_log2: 4, indirect: true, head: 0, table: 0, puts }
}

/// The same with more descriptors at `at`.
fn with_table(case: Case, at: u32, descs: &[Desc]) -> Case {
    let put = |(at, desc): (u32, &Desc)| Put::Desc { at, desc: *desc };
    let more = (at..).step_by(16).zip(descs).map(put);
    Case { puts: case.puts.iter().cloned().chain(more).collect(), ..case }
}

/// Seeds by the ids of the bugs that they are like.
pub fn seeds() -> Vec<Seed> {
    let (read, write) = (readable(0x1000, 16, 1), writable(0x2000, 512, 2));
    let status = writable(0x3000, 1, 0).last();
    let nested = Desc::table(0x410, 16);
    let straddling = u32::try_from(BORDER - 8).unwrap_or(0);
    let cases = [
        ("an-ordinary-read", table(&[read, write, status])),
        ("CVE-2019-9547-circular-chain", table(&[read, writable(0x2000, 512, 0)])),
        ("CVE-2019-9547-chain-to-itself", table(&[readable(0x1000, 16, 0)])),
        (
            "CVE-2016-6490-zero-length-descriptors-in-a-circle",
            table(&[readable(0x1000, 0, 1), readable(0x1000, 0, 0)]),
        ),
        ("CVE-2016-7422-huge-length", table(&[read, writable(0x2000, u32::MAX, 2), status])),
        ("CVE-2020-10725-indirect-table-outside-memory", table(&[Desc::table(HOLE, 64)])),
        (
            "CVE-2020-10725-indirect-table-at-the-end-of-addresses",
            table(&[Desc::table(u64::MAX - 15, 32)]),
        ),
        ("qemu-6dbdc271-zero-length-indirect-table", table(&[Desc::table(0x400, 0)])),
        (
            "CVE-2020-10725-nested-indirect-table",
            with_table(table(&[Desc::table(0x400, 32)]), 0x400, &[nested, status]),
        ),
        (
            "CVE-2020-10725-indirect-table-that-goes-on",
            table(&[Desc { flags: INDIRECT | NEXT, ..Desc::table(0x400, 16) }, status]),
        ),
        ("CVE-2020-10725-indirect-table-of-17-bytes", table(&[Desc::table(0x400, 17)])),
        ("CVE-2020-10725-indirect-table-of-65536-entries", table(&[Desc::table(0, 65536 * 16)])),
        (
            "CVE-2020-10725-indirect-table-without-the-feature",
            Case { indirect: false, ..table(&[Desc::table(0x400, 16)]) },
        ),
        (
            "CVE-2019-9547-circle-in-an-indirect-table",
            with_table(
                table(&[Desc::table(0x400, 32)]),
                0x400,
                &[readable(0, 1, 1), readable(0, 1, 0)],
            ),
        ),
        (
            "virtio-2.7.5.3-a-direct-part-and-an-indirect-one",
            with_table(
                table(&[read, Desc { flags: INDIRECT | WRITE, ..Desc::table(0x400, 32) }]),
                0x400,
                &[writable(0x2000, 512, 1), status],
            ),
        ),
        (
            "CVE-2018-1059-table-across-two-regions",
            Case {
                table: BORDER - 8,
                ..with_table(table(&[]), straddling, &[read, write, status])
            },
        ),
        ("yc-dffd994-head-out-of-range", Case { head: 16, ..table(&[read]) }),
        ("CHV-082fdc4d0-next-out-of-range", table(&[readable(0x1000, 16, 16)])),
        (
            "SPDK-length-sum-wraps-32-bits",
            table(&[read, writable(0x2000, u32::MAX, 2), writable(0x2000, 512, 3), status]),
        ),
        (
            "CVE-2019-14835-lengths-one-beyond-4-GiB",
            table(&[readable(0, u32::MAX - 15, 1), writable(0x2000, 16, 2), status]),
        ),
        ("CVE-2019-18960-address-and-length-wrap", table(&[readable(u64::MAX - 7, 16, 1), status])),
        ("SPDK-readable-behind-writable", table(&[status_then(1), readable(0x1000, 16, 0).last()])),
        (
            "vm-virtio-chain-as-long-as-the-queue",
            table(&(0..16).map(|n| readable(0x1000, 16, n + 1)).collect::<Vec<_>>()),
        ),
        ("table-at-the-end-of-addresses", Case { table: u64::MAX - 8, ..table(&[read]) }),
        (
            "XSA-155-table-of-headers",
            Case {
                puts: vec![Put::Bytes { at: 0, bytes: header(0, 0x1_0000_0000).to_vec() }],
                ..table(&[])
            },
        ),
    ];
    cases.into_iter().map(|(name, case)| (name, case.encode())).collect()
}

fn status_then(next: u16) -> Desc {
    writable(0x3000, 1, next)
}
