//! Seeds of F-02 by the ids of the bugs that they are like.

use super::{ALL_FEATURES, Case, SECTORS, Step};
use crate::Seed;
use crate::guest::{BORDER, Desc, HOLE, Put, header, readable, segment, writable};
use crate::model::{DISCARD, FLUSH};

const IN: u32 = 0;
const OUT: u32 = 1;
const ID: u32 = 8;
const ERASE: u32 = 11;
const ZEROES: u32 = 13;

const HEAD: u32 = 0x1000;
const DATA: u32 = 0x2000;
const STATUS: u32 = 0x3000;

fn case(puts: Vec<Put>) -> Case {
    let mut steps: Vec<Step> = puts.into_iter().map(Step::Put).collect();
    steps.push(Step::Serve(0));
    Case {
        read_only: false,
        is_large: false,
        large_blocks: false,
        writeback: true,
        chose_writeback: true,
        indirect: true,
        features: ALL_FEATURES,
        fails: 0,
        size_log2: 4,
        steps,
    }
}

fn chain(kind: u32, sector: u64, descs: &[Desc]) -> Case {
    let put = |(at, desc): (u32, &Desc)| Put::Desc { at, desc: *desc };
    let mut puts: Vec<Put> = (0..).step_by(16).zip(descs).map(put).collect();
    puts.push(Put::Header { at: HEAD, kind, sector });
    case(puts)
}

fn and(mut case: Case, puts: Vec<Put>) -> Case {
    let served = case.steps.pop();
    case.steps.extend(puts.into_iter().map(Step::Put).chain(served));
    case
}

fn head() -> Desc {
    readable(HEAD.into(), 16, 1)
}

fn status() -> Desc {
    writable(STATUS.into(), 1, 0).last()
}

fn read(sector: u64, bytes: u32) -> Case {
    chain(IN, sector, &[head(), writable(DATA.into(), bytes, 2), status()])
}

fn write(sector: u64, bytes: u32) -> Case {
    let data = Put::Bytes { at: DATA, bytes: b"blkfault".repeat(31) };
    and(chain(OUT, sector, &[head(), readable(DATA.into(), bytes, 2), status()]), vec![data])
}

fn erase(kind: u32, segment: [u8; 16]) -> Case {
    let put = Put::Bytes { at: DATA, bytes: segment.to_vec() };
    and(chain(kind, 0, &[head(), readable(DATA.into(), 16, 2), status()]), vec![put])
}

/// Then read everything back, because the disk may have changed unseen.
fn and_flush(case: Case) -> Case {
    let mut case = and(case, Vec::new());
    case.steps.push(Step::Put(Put::Header { at: HEAD, kind: 4, sector: 0 }));
    case.steps.push(Step::Put(Put::Desc { at: 16, desc: status() }));
    case.steps.push(Step::Serve(0));
    case
}

/// The seeds.
pub fn seeds() -> Vec<Seed> {
    let mut all = ordinary();
    all.extend(bounds());
    all.extend(layouts());
    all.extend(failures());
    all.into_iter().map(|(name, case)| (name, case.encode())).collect()
}

fn ordinary() -> Vec<(&'static str, Case)> {
    vec![
        ("an-ordinary-read", read(1, 512)),
        ("an-ordinary-write-and-flush", and_flush(write(1, 1024))),
        ("an-ordinary-discard", erase(ERASE, segment(8, 8, 0))),
        ("an-ordinary-write-zeroes", erase(ZEROES, segment(8, 8, 1))),
        ("an-ordinary-id", chain(ID, 0, &[head(), writable(DATA.into(), 20, 2), status()])),
        (
            "CHV-5ae329305-write-through-where-flush-was-not-agreed-on",
            Case { features: ALL_FEATURES & !FLUSH, ..write(1, 512) },
        ),
        ("CHV-ce93686ad-write-to-a-read-only-disk", Case { read_only: true, ..write(1, 512) }),
        (
            "CHV-ce93686ad-write-zeroes-to-a-read-only-disk",
            Case { read_only: true, ..erase(ZEROES, segment(0, 1, 0)) },
        ),
        (
            "discard-without-the-feature",
            Case { features: ALL_FEATURES & !DISCARD, ..erase(ERASE, segment(0, 1, 0)) },
        ),
    ]
}

fn bounds() -> Vec<(&'static str, Case)> {
    let sectors_at_the_end = (1..9).map(|n| writable(DATA.into(), 512, n + 1));
    let descs: Vec<Desc> =
        [head()].into_iter().chain(sectors_at_the_end).chain([status()]).collect();
    let one_by_one = chain(IN, SECTORS, &descs);
    let large = |case| Case { is_large: true, ..case };
    vec![
        ("CHV-376434a69-many-sectors-at-the-last-one", one_by_one.clone()),
        ("CHV-376434a69-write-across-the-end", write(SECTORS, 1024)),
        ("CHV-376434a69-write-to-the-end-exactly", write(SECTORS, 512)),
        ("CHV-e0801bda3-sector-beyond-the-disk", read(SECTORS + 1, 512)),
        ("CHV-fa7cad4ae-sector-times-512-wraps", read(1 << 55, 512)),
        ("CHV-fa7cad4ae-sector-at-2-to-the-63", write(1 << 63, 512)),
        ("CHV-f7ebb4b87-write-zeroes-beyond-the-disk", erase(ZEROES, segment(u64::MAX, 8, 0))),
        ("CHV-f7ebb4b87-write-zeroes-across-the-end", erase(ZEROES, segment(SECTORS, 2, 0))),
        ("yc-bd2107d-sector-behind-the-end-less-length", read(SECTORS + 2, 1024)),
        (
            "SPDK-sectors-of-a-discard-times-512-wrap-32-bits",
            large(erase(ERASE, segment(0, 0x80_0008, 0))),
        ),
        (
            "SPDK-sectors-of-write-zeroes-above-the-limit",
            large(erase(ZEROES, segment(0, 0x40_0001, 0))),
        ),
        ("crosvm-7f64f5030-size-overflow", large(read(u64::MAX / 512, 0xFFFF_FE00))),
        ("CVE-2019-14835-data-of-4-GiB", large(read(0, 0xFFFF_FE00))),
        ("CVE-2019-18960-data-that-wraps-the-addresses", data_at(u64::MAX - 511, 1024)),
        ("CVE-2023-3180-lengths-that-do-not-agree", read(1, 513)),
        ("CVE-2016-5403-much-data-at-once", large(read(0, 0x8000))),
        ("CVE-2016-7422-data-without-memory", data_at(HOLE, 512)),
        ("blocks-of-4096-at-512", Case { large_blocks: true, ..read(1, 512) }),
        ("blocks-of-4096-at-the-ragged-end", Case { large_blocks: true, ..read(SECTORS, 4096) }),
    ]
}

fn data_at(addr: u64, bytes: u32) -> Case {
    chain(IN, 1, &[head(), writable(addr, bytes, 2), status()])
}

fn layouts() -> Vec<(&'static str, Case)> {
    let by_bytes: Vec<Desc> = (0..15)
        .map(|n| readable(u64::from(HEAD) + u64::from(n), 1, n + 1))
        .chain([writable(STATUS.into(), 1, 0).last()])
        .collect();
    let across = u32::try_from(BORDER - 8).unwrap_or(0);
    let header_across = Put::Header { at: across, kind: IN, sector: 2 };
    let refetched =
        vec![readable(0, 16, 1), writable(0, 512, 2), writable(u64::from(STATUS), 1, 0).last()];
    vec![
        ("SPDK-header-byte-by-byte-and-one-short", chain(4, 0, &by_bytes)),
        (
            "yc-header-in-two-parts-and-data-with-it",
            chain(
                OUT,
                0,
                &[readable(HEAD.into(), 8, 1), readable(u64::from(HEAD) + 8, 8 + 512, 2), status()],
            ),
        ),
        (
            "SPDK-status-at-the-end-of-the-data",
            chain(IN, 1, &[head(), writable(DATA.into(), 513, 0).last()]),
        ),
        (
            "SPDK-status-in-a-readable-buffer",
            chain(IN, 1, &[head(), readable(DATA.into(), 513, 0).last()]),
        ),
        (
            "SPDK-readable-behind-writable",
            chain(
                OUT,
                1,
                &[head(), writable(STATUS.into(), 1, 2), readable(DATA.into(), 512, 0).last()],
            ),
        ),
        (
            "CVE-2018-1059-data-across-two-regions",
            chain(IN, 1, &[head(), writable(BORDER - 100, 512, 2), status()]),
        ),
        ("CVE-2018-1059-data-into-a-hole", data_at(HOLE - 100, 512)),
        (
            "CVE-2018-1059-data-out-of-a-hole",
            chain(OUT, 0, &[head(), readable(HOLE - 100, 512, 2), status()]),
        ),
        (
            "CVE-2018-1059-header-across-two-regions",
            and(
                chain(
                    IN,
                    1,
                    &[readable(across.into(), 16, 1), writable(DATA.into(), 512, 2), status()],
                ),
                vec![header_across],
            ),
        ),
        (
            "XSA-155-data-over-the-descriptors",
            chain(IN, 1, &[head(), writable(0, 512, 2), status()]),
        ),
        (
            "CVE-2020-14375-data-over-the-header",
            chain(IN, 1, &[head(), writable(HEAD.into(), 512, 2), status()]),
        ),
        ("yc-sector-fetched-twice-a-header-that-is-a-descriptor", chain(IN, 1, &refetched)),
        (
            "status-over-the-data",
            chain(
                IN,
                1,
                &[head(), writable(DATA.into(), 512, 2), writable(DATA.into(), 1, 0).last()],
            ),
        ),
        ("status-without-memory", chain(IN, 1, &[head(), writable(HOLE, 1, 0).last()])),
        (
            "status-at-the-end-of-addresses",
            chain(IN, 1, &[head(), writable(u64::MAX - 3, 8, 0).last()]),
        ),
    ]
}

fn failures() -> Vec<(&'static str, Case)> {
    let id = |bytes| chain(ID, 0, &[head(), writable(DATA.into(), bytes, 2), status()]);
    vec![
        ("CVE-2024-8612-used-length-of-a-failed-read", Case { fails: 1, ..read(1, 512) }),
        ("CVE-2024-8612-used-length-of-a-short-id", id(64)),
        ("CVE-2024-8612-id-of-19-bytes", id(19)),
        ("ubiblk-short-read", read(SECTORS - 1, 2048)),
        ("CHV-e737d61a0-discard-fails", Case { fails: 1 << 3, ..erase(ERASE, segment(0, 8, 0)) }),
        (
            "CHV-e737d61a0-discard-is-unsupported",
            Case { fails: 1 << 3 | 1 << 5, ..erase(ERASE, segment(0, 8, 0)) },
        ),
        ("CHV-a5e145bde-write-without-space", Case { fails: 1 << 1, ..write(1, 512) }),
        ("CHV-6f19d0071-flush-fails", Case { fails: 1 << 2, ..and_flush(write(1, 512)) }),
        ("CHV-3fc0ff00d-unknown-type", chain(0x8000_0001, 0, &[head(), status()])),
        ("CHV-3fc0ff00d-discard-without-a-segment", chain(ERASE, 0, &[head(), status()])),
        ("CHV-3fc0ff00d-discard-with-two-segments", two_segments()),
        ("discard-with-unmap", erase(ERASE, segment(0, 8, 1))),
        ("write-zeroes-with-an-unknown-flag", erase(ZEROES, segment(0, 8, 2))),
        (
            "flush-with-a-sector-and-data",
            chain(4, 7, &[head(), writable(DATA.into(), 8, 2), status()]),
        ),
        ("header-of-zeroes", case(vec![Put::Bytes { at: 0, bytes: header(0, 0).to_vec() }])),
    ]
}

fn two_segments() -> Case {
    let bytes = [segment(0, 8, 0), segment(8, 8, 0)].concat();
    let put = Put::Bytes { at: DATA, bytes };
    and(chain(ERASE, 0, &[head(), readable(DATA.into(), 32, 2), status()]), vec![put])
}
