//! Every call that the engines make fails once: the first, the second, the third and so on, with
//! every error that it may have, until the workload ends without reaching it.

use std::io::Write;

use blkfault::block::{Aio, CacheMode};

use crate::host::lend;
use crate::is_long;
use crate::support::fuse::{Class, Host, Plan, Shape, Trouble, When};
use crate::workload::{DISK_BYTES, Engine, Failure, Story};

const ENGINES: [Aio; 2] = [Aio::IoUring, Aio::Threads];

/// The classes of calls that the engines make, and the errors that each may have.
const ERRORS: &[(Class, &[i32])] = &[
    (Class::Read, &[libc::EIO, libc::EINTR, libc::EAGAIN]),
    (
        Class::Write,
        &[libc::EIO, libc::ENOSPC, libc::EINTR, libc::EAGAIN, libc::EDQUOT, libc::EFBIG],
    ),
    (Class::Sync, &[libc::EIO, libc::EINTR, libc::ENOSPC, libc::EAGAIN, libc::EDQUOT]),
    (Class::Allocate, &[libc::EIO, libc::EOPNOTSUPP, libc::EINTR, libc::ENOSPC, libc::EAGAIN]),
    (Class::Resize, &[libc::EIO, libc::EINTR, libc::ENOSPC]),
];
/// How many of these errors a short test run uses.
const ERRORS_SHORT: usize = 3;

/// The kind of host under the engines.
struct Arm {
    name: &'static str,
    cache: CacheMode,
    shape: Shape,
}

const fn plain(block_bytes: u64, async_direct: bool) -> Shape {
    Shape { cached: false, block_bytes, async_direct }
}

const EVERY_CALL: Arm =
    Arm { name: "no page cache", cache: CacheMode::Buffered, shape: plain(1, true) };
const DIRECT: Arm = Arm { name: "O_DIRECT", cache: CacheMode::Direct, shape: plain(512, false) };
const DIRECT_4K: Arm =
    Arm { name: "O_DIRECT, blocks of 4096", cache: CacheMode::Direct, shape: plain(4096, true) };
const WRITEBACK: Arm = Arm {
    name: "page cache, written back late",
    cache: CacheMode::Buffered,
    shape: Shape { cached: true, block_bytes: 1, async_direct: false },
};

#[derive(Default)]
struct Figures {
    runs: u64,
    struck: u64,
    longest: u64,
    errors_reported: u64,
    checked_bytes: u64,
}

/// Whether the caller only has to ask again, or in another way.
fn is_harmless(plan: Plan) -> bool {
    match (plan.trouble, plan.class) {
        (Trouble::Short(_) | Trouble::Held, _) => true,
        (Trouble::Fail(_), Class::Sync) => false,
        (Trouble::Fail(number), Class::Allocate) if number == libc::EOPNOTSUPP => true,
        (Trouble::Fail(number), _) => [libc::EINTR, libc::EAGAIN].contains(&number),
    }
}

/// Whether the kernel itself hides from the engine that a transfer was short.
///
/// Behind a page cache FUSE takes it for a whole one. An asynchronous write that was short it
/// reports as `EIO`. And where FUSE has no asynchronous direct I/O, io_uring asks again for the rest
/// of a short transfer, but at the place of the first part, so that the bytes are wrong (seen with
/// Linux 6.18, below any engine of ours): there the story is told of threads alone.
fn hides_short(arm: &Arm, aio: Aio, class: Class) -> bool {
    let by_ring = class == Class::Write || !arm.shape.async_direct;
    arm.shape.cached || (aio == Aio::IoUring && by_ring)
}

/// What may go wrong with calls of a class.
fn troubles(arm: &Arm, aio: Aio, class: Class, errors: &[i32]) -> Vec<Trouble> {
    let count = if is_long() { errors.len() } else { ERRORS_SHORT };
    let mut troubles: Vec<_> = errors.iter().take(count).map(|n| Trouble::Fail(*n)).collect();
    let moves = matches!(class, Class::Read | Class::Write);
    if moves && !hides_short(arm, aio, class) {
        troubles.push(Trouble::Short(1));
    }
    troubles
}

/// What was reported is what happened.
fn check_report(arm: &Arm, plan: Plan, failures: &[Failure]) {
    let Trouble::Fail(number) = plan.trouble else {
        return assert!(failures.is_empty(), "a short transfer is no error: {failures:?}");
    };
    if arm.shape.cached {
        // When the kernel asks for it, and whether it asks again, is the kernel's choice.
        let unreported = failures.is_empty() && plan.class != Class::Read && !is_harmless(plan);
        return assert!(!unreported, "nobody was told");
    }
    if is_harmless(plan) {
        return assert!(failures.is_empty(), "it was to be asked again: {failures:?}");
    }
    assert_eq!(failures[0].errno.number(), number, "{failures:?}");
    let of_flush = plan.class == Class::Sync;
    assert!(failures.iter().all(|failure| failure.of_flush == of_flush), "{failures:?}");
    assert!(of_flush || failures.len() == 1, "others were told, too: {failures:?}");
}

/// One run. False if the plan was never carried out.
fn run(host: &Host, arm: &Arm, engine: Engine, plan: Plan, figures: &mut Figures) -> bool {
    host.begin(DISK_BYTES);
    host.plan(Some(plan));
    let mut story = match Story::open(host, engine, plan.class == Class::Sync) {
        Ok(story) => story,
        Err(error) => {
            assert!(host.struck() > 0 && !is_harmless(plan), "it does not open: {error}");
            return true;
        }
    };
    let struck_at_open = host.struck() > 0;
    story.run();
    let struck = host.struck() > 0;
    host.plan(None);
    if !struck || struck_at_open && plan.when != When::Storm {
        assert!(story.failures.is_empty(), "nothing went wrong: {:?}", story.failures);
    } else {
        check_report(arm, plan, &story.failures);
    }
    // What a lost page reads as is the kernel's choice.
    if !(arm.shape.cached && story.flush_failed) {
        story.check_all();
    }
    figures.runs += 1;
    figures.struck += u64::from(struck);
    figures.errors_reported += story.failures.len() as u64;
    figures.checked_bytes += story.checked_bytes;
    if story.flush_failed {
        story.check_reopened();
    }
    struck
}

fn told<T>(story: &str, run: impl FnOnce() -> T) -> T {
    // A failed assertion says what is wrong; this says where.
    struct Where<'a>(&'a str);
    impl Drop for Where<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("in the run: {}", self.0);
            }
        }
    }
    let _where = Where(story);
    run()
}

fn sweep(arm: &Arm) {
    let Some(host) = lend(arm.name, Host::mount(arm.shape)) else { return };
    let mut figures = Figures::default();
    for aio in ENGINES {
        let engine = Engine { aio, cache: arm.cache };
        for (class, errors) in ERRORS {
            for trouble in troubles(arm, aio, *class, errors) {
                let mut go = |when: When| {
                    let plan = Plan { class: *class, when, trouble };
                    let story = format!("{}, {aio:?}, {plan:?}", arm.name);
                    told(&story, || run(&host, arm, engine, plan, &mut figures))
                };
                let length = (0..1000).find(|nth| !go(When::Nth(*nth))).expect("it ends");
                assert!(length > 0, "{}, {aio:?}: no {class:?} at all", arm.name);
                figures.longest = figures.longest.max(length);
            }
        }
    }
    tell(arm, &figures);
}

fn tell(arm: &Arm, figures: &Figures) {
    let _ = writeln!(
        std::io::stderr(),
        "{:30}: {} runs, {} calls went wrong (sweeps of up to {} calls), {} errors reported, {} MiB \
         checked; 0 acknowledged and wrong, 0 unreported",
        arm.name,
        figures.runs,
        figures.struck,
        figures.longest,
        figures.errors_reported,
        figures.checked_bytes >> 20,
    );
}

#[test]
fn each_call_fails_once_and_the_guest_is_told_the_truth() {
    sweep(&EVERY_CALL);
}

#[test]
fn each_direct_call_fails_once_and_the_guest_is_told_the_truth() {
    sweep(&DIRECT);
}

#[test]
fn each_call_in_blocks_of_the_host_fails_once_and_the_guest_is_told_the_truth() {
    sweep(&DIRECT_4K);
}

#[test]
fn each_call_behind_a_page_cache_fails_once_and_the_guest_is_told_the_truth() {
    sweep(&WRITEBACK);
}

/// D-05 and D-06: not one call, but most of them.
#[test]
fn storms_of_interruptions_and_nothing_but_short_transfers_lose_nothing() {
    let (interrupted, again) = (Trouble::Fail(libc::EINTR), Trouble::Fail(libc::EAGAIN));
    for arm in [EVERY_CALL, DIRECT, DIRECT_4K] {
        let Some(host) = lend(arm.name, Host::mount(arm.shape)) else { return };
        for aio in ENGINES {
            let engine = Engine { aio, cache: arm.cache };
            for class in [Class::Read, Class::Write, Class::Allocate, Class::Resize] {
                let mut plans = vec![(When::Storm, interrupted)];
                // The standard library asks again for a length only if it was interrupted.
                plans.extend((class != Class::Resize).then_some((When::Storm, again)));
                let shorts = [(When::Always, Trouble::Short(1)), (When::Always, Trouble::Short(2))];
                let moves = matches!(class, Class::Read | Class::Write);
                plans
                    .extend(shorts.into_iter().filter(|_| moves && !hides_short(&arm, aio, class)));
                for (when, trouble) in plans {
                    let plan = Plan { class, when, trouble };
                    let story = format!("{}, {aio:?}, {plan:?}", arm.name);
                    let mut figures = Figures::default();
                    told(&story, || {
                        assert!(run(&host, &arm, engine, plan, &mut figures), "nothing went wrong");
                        assert_eq!(figures.errors_reported, 0);
                    });
                }
            }
        }
    }
}
