//! The orders that QEMU 7.2 was seen to keep.

use super::*;
use crate::fault::blkdebug::limits::LimitOptions;

fn io(iotype: IoType, offset_bytes: u64, bytes: u64) -> Io {
    Io { iotype, offset_bytes, bytes, ordinal: 0, queue: 0 }
}

fn aligned(align: u64) -> Limits {
    Limits::new(&LimitOptions { align, ..LimitOptions::default() }, 1).unwrap()
}

/// A plan in a line: event names, and the first letter of a check with its range.
fn story(io: &Io, limits: &Limits) -> String {
    let words = plan(io, limits, Leg::default(), true).into_iter().map(|step| match step {
        Step::Raise(event) => event.name().to_owned(),
        Step::Check { iotype, offset_bytes, bytes } => {
            format!("{}({offset_bytes},{bytes})", iotype.name())
        }
        Step::RmwRead { offset_bytes, bytes, left_out } => {
            format!("rmw({offset_bytes},{bytes})-{left_out}")
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn requests_raise_what_raw_over_blkdebug_raises() {
    let plain = Limits::default();
    assert_eq!(story(&io(IoType::Read, 512, 1024), &plain), "read_aio read(512,1024)");
    assert_eq!(story(&io(IoType::Write, 512, 1024), &plain), "write_aio pwritev write(512,1024)");
    let zeroes = story(&io(IoType::WriteZeroes, 512, 1024), &plain);
    assert_eq!(zeroes, "pwritev_zero write-zeroes(512,1024)");
    assert_eq!(story(&io(IoType::Discard, 512, 1024), &plain), "discard(512,1024)");
    assert_eq!(story(&io(IoType::Flush, 0, 0), &plain), "flush_to_os flush_to_disk flush(0,0)");
    let clean = plan(&io(IoType::Flush, 0, 0), &plain, Leg::default(), false);
    assert_eq!(clean, [Step::Raise(Event::FlushToOs)]);
}

#[test]
fn an_unaligned_write_reads_its_surroundings_first() {
    let limits = aligned(4096);
    let story = |offset, bytes| story(&io(IoType::Write, offset, bytes), &limits);
    assert_eq!(
        story(512, 512),
        "write_aio pwritev_rmw_head pwritev_rmw_tail rmw(0,4096)-2 pwritev_rmw_after_head \
         pwritev_rmw_after_tail pwritev write(0,4096)"
    );
    assert_eq!(
        story(512, 3584),
        "write_aio pwritev_rmw_head rmw(0,4096)-1 pwritev_rmw_after_head pwritev write(0,4096)"
    );
    assert_eq!(
        story(512, 12288),
        "write_aio pwritev_rmw_head rmw(0,4096)-4 pwritev_rmw_after_head pwritev_rmw_tail \
         rmw(12288,4096)-1 pwritev_rmw_after_tail pwritev write(0,16384)"
    );
    assert_eq!(story(4096, 8192), "write_aio pwritev write(4096,8192)");
}

#[test]
fn a_read_is_widened_and_cut() {
    let limits = LimitOptions { align: 4096, max_transfer: 4096, ..LimitOptions::default() };
    let limits = Limits::new(&limits, 1).unwrap();
    let cut = story(&io(IoType::Read, 0, 8192), &limits);
    assert_eq!(cut, "read_aio read(0,4096) read_aio read(4096,4096)");
    let widened = story(&io(IoType::Read, 512, 512), &limits);
    assert_eq!(widened, "read_aio read(0,4096)");
}

#[test]
fn a_long_write_is_cut_and_each_piece_is_done_before_the_next() {
    let limits = LimitOptions { max_transfer: 1024, ..LimitOptions::default() };
    let limits = Limits::new(&limits, 1).unwrap();
    assert_eq!(
        story(&io(IoType::Write, 0, 1536), &limits),
        "write_aio pwritev write(0,1024) pwritev_done write_aio pwritev write(1024,512)"
    );
}

#[test]
fn zeroes_at_unaligned_ends_are_written() {
    let limits = aligned(4096);
    assert_eq!(
        story(&io(IoType::WriteZeroes, 512, 12288), &limits),
        "pwritev_rmw_head rmw(0,4096)-4 pwritev_rmw_after_head pwritev_rmw_tail \
         rmw(12288,4096)-1 pwritev_rmw_after_tail pwritev write(0,4096) pwritev_done \
         pwritev_zero write-zeroes(4096,8192) pwritev_done pwritev write(12288,4096)"
    );
    let limits = LimitOptions { opt_write_zero: 2048, ..LimitOptions::default() };
    let limits = Limits::new(&limits, 1).unwrap();
    assert_eq!(
        story(&io(IoType::WriteZeroes, 1024, 4096), &limits),
        "pwritev_zero write(1024,1024) write-zeroes(2048,2048) write(4096,1024)"
    );
}

#[test]
fn zeroes_that_are_not_supported_are_written_in_pieces() {
    let limits = LimitOptions { max_transfer: 1024, ..LimitOptions::default() };
    let limits = Limits::new(&limits, 1).unwrap();
    let io = io(IoType::WriteZeroes, 512, 1536);
    let leg = Leg::default();
    assert_eq!(leg.next(&io, &limits), None);
    let leg = leg.instead(&io).unwrap();
    assert_eq!(leg.instead(&io), None);
    let check = |iotype, offset_bytes, bytes| Step::Check { iotype, offset_bytes, bytes };
    let steps = plan(&io, &limits, leg, true);
    assert_eq!(steps[0], Step::Raise(Event::PwritevDone));
    assert_eq!(steps.last(), Some(&check(IoType::Write, 512, 1024)));
    let leg = leg.next(&io, &limits).unwrap();
    let steps = plan(&io, &limits, leg, true);
    assert_eq!(steps.last(), Some(&check(IoType::WriteZeroes, 1536, 512)));
}

#[test]
fn what_is_too_small_to_discard_is_left_alone() {
    let limits = aligned(4096);
    assert_eq!(story(&io(IoType::Discard, 512, 512), &limits), "");
    assert_eq!(story(&io(IoType::Discard, 512, 12288), &limits), "discard(4096,8192)");
}

proptest::proptest! {
    /// The image parts of a plan cover the request, without gaps, for any limits.
    #[test]
    fn a_plan_covers_its_request(
        sector in 0_u64..64, sectors in 1_u64..64, align in 0_u32..6, units in 1_u64..5,
        kind in 0_usize..3,
    ) {
        let align = 512 << align;
        let options = LimitOptions {
            align, max_transfer: align * units, opt_write_zero: align * units,
            max_write_zero: align * units * 2, ..LimitOptions::default()
        };
        let limits = Limits::new(&options, 1).unwrap();
        let iotype = [IoType::Read, IoType::Write, IoType::WriteZeroes][kind];
        let request = io(iotype, sector * 512, sectors * 512);
        let checks: Vec<_> = plan(&request, &limits, Leg::default(), true)
            .into_iter()
            .filter_map(|step| match step {
                Step::Check { offset_bytes, bytes, .. } => Some((offset_bytes, bytes)),
                _ => None,
            })
            .collect();
        let (first, last) = (checks[0], checks[checks.len() - 1]);
        proptest::prop_assert!(first.0 <= request.offset_bytes);
        proptest::prop_assert!(last.0 + last.1 >= request.offset_bytes + request.bytes);
        for pair in checks.windows(2) {
            proptest::prop_assert!(pair[1].0 <= pair[0].0 + pair[0].1, "{checks:?}");
        }
    }
}
