//! Images whose size changes while they are written.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use blkfault::block::{Aio, CacheMode, Node, OpKind, OwnedMemory, RawImage, RawOptions};
use blkfault::errno::Errno;

use crate::driver::{Driver, write_op};
use crate::host::{Frozen, Mount, lend, scratch, sparse};

const ENGINES: [Aio; 2] = [Aio::IoUring, Aio::Threads];
const LARGE_BYTES: u64 = 8 << 20;
const SMALL_BYTES: u64 = 1 << 20;
const BLOCK_BYTES: u64 = 16 << 10;

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

/// What the writers saw.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    done: AtomicU64,
    refused: AtomicU64,
}

/// Write the whole disk over and over, more at a time than the kernel is given, until told to stop.
fn write_all_over(image: &RawImage, seen: &Seen) {
    let mut driver = Driver::new(image);
    let memory = OwnedMemory::new(usize::try_from(BLOCK_BYTES).unwrap(), 0);
    memory.write(&[0xee; BLOCK_BYTES as usize]);
    while !seen.stop.load(Ordering::Relaxed) {
        let batch: Vec<_> = (0..LARGE_BYTES)
            .step_by(usize::try_from(BLOCK_BYTES).unwrap())
            .map(|offset_bytes| {
                let from = memory.buffers();
                driver.submit(OpKind::Write { offset_bytes, from, fua: false })
            })
            .collect();
        driver.finish();
        for number in batch {
            match driver.ended(number) {
                Some(Ok(())) => seen.done.fetch_add(1, Ordering::Relaxed),
                Some(Err(Errno::EIO)) => seen.refused.fetch_add(1, Ordering::Relaxed),
                other => panic!("a write ended with {other:?}"),
            };
        }
    }
}

/// Shrink an image that is written everywhere, then let the writers end.
fn shrink_under_load(image: &RawImage, path: &Path, story: &str) {
    let seen = Seen::default();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| write_all_over(image, &seen));
        }
        while seen.done.load(Ordering::Relaxed) < 1000 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let resized = image.resize(SMALL_BYTES);
        let at_once = length(path);
        while seen.refused.load(Ordering::Relaxed) < 1000 {
            std::thread::sleep(Duration::from_millis(1));
        }
        seen.stop.store(true, Ordering::Relaxed);
        assert_eq!(resized, Ok(()), "{story}");
        assert_eq!(at_once, SMALL_BYTES, "{story}: when the resize returned");
    });
    assert_eq!(length(path), SMALL_BYTES, "{story}: when the writers had ended");
}

#[test]
fn a_disk_that_shrinks_while_it_is_written_is_as_long_as_it_says_and_grows_again_with_zeroes() {
    for aio in ENGINES {
        for cache in [CacheMode::Buffered, CacheMode::Direct] {
            let directory = scratch();
            let path = sparse(&directory.path().join("disk.img"), LARGE_BYTES);
            let options = RawOptions { aio, cache, ..RawOptions::new(&path) };
            let image = RawImage::open(options).unwrap();
            for round in 0..5 {
                let story = format!("{aio:?} {cache:?} round {round}");
                shrink_under_load(&image, &path, &story);
                image.resize(LARGE_BYTES).unwrap();
                let mut driver = Driver::new(&image);
                let bytes = usize::try_from(LARGE_BYTES - SMALL_BYTES).unwrap();
                let grown = driver.read(SMALL_BYTES, bytes).unwrap();
                assert!(grown.iter().all(|byte| *byte == 0), "{story}: old bytes");
                assert_eq!(driver.read(SMALL_BYTES - 512, 512), Ok(vec![0xee; 512]), "{story}");
            }
        }
    }
}

#[test]
fn a_disk_does_not_shrink_below_a_write_that_hangs_and_stays_what_it_was() {
    for aio in ENGINES {
        let Some(mount) = lend("a shrink that waits", Mount::ext4(16 << 20)) else { return };
        let path = sparse(&mount.path.join("disk.img"), LARGE_BYTES);
        let image = RawImage::open(RawOptions { aio, ..RawOptions::new(&path) }).unwrap();
        let mut driver = Driver::new(&image);
        let Some(frozen) = lend("a shrink that waits", Frozen::new(&mount)) else { return };
        let hanging = driver.submit(write_op(SMALL_BYTES - 512, &[7; 1024]));
        driver.commit();
        // A thread of the pool may not have begun it.
        std::thread::sleep(Duration::from_millis(100));
        std::thread::scope(|scope| {
            let (resized_in, resized) = mpsc::channel();
            let image = &image;
            scope.spawn(move || resized_in.send(image.resize(SMALL_BYTES)).unwrap());
            let resized = resized.recv_timeout(Duration::from_secs(20));
            let now = (image.geometry().size_bytes, length(&path));
            // Before anything may fail, because what hangs here hangs until then.
            drop(frozen);
            assert_eq!(resized, Ok(Err(Errno::EBUSY)), "{aio:?}");
            assert_eq!(now, (LARGE_BYTES, LARGE_BYTES), "{aio:?}");
        });
        driver.finish();
        assert_eq!(driver.ended(hanging), Some(Ok(())), "{aio:?}");
        assert_eq!(image.resize(SMALL_BYTES), Ok(()), "{aio:?}");
        assert_eq!(length(&path), SMALL_BYTES, "{aio:?}");
    }
}

#[test]
fn a_disk_that_is_resized_while_it_is_about_to_be_reopened_has_its_new_size() {
    let directory = scratch();
    let path = sparse(&directory.path().join("disk.img"), LARGE_BYTES);
    let image = RawImage::open(RawOptions::new(&path)).unwrap();
    for size_bytes in [SMALL_BYTES, 2 * LARGE_BYTES] {
        let reopening = image.prepare_reopen(RawOptions::new(&path)).unwrap();
        image.resize(size_bytes).unwrap();
        reopening.commit();
        assert_eq!(image.geometry().size_bytes, size_bytes);
        let mut driver = Driver::new(&image);
        assert_eq!(driver.write(size_bytes - 512, &[1; 512]), Ok(()));
        assert_eq!(driver.write(size_bytes, &[1; 512]), Err(Errno::EIO));
        assert_eq!(length(&path), size_bytes);
    }
}

#[test]
fn a_disk_that_was_given_an_odd_length_before_it_was_reopened_has_its_whole_blocks() {
    let directory = scratch();
    let path = sparse(&directory.path().join("disk.img"), LARGE_BYTES);
    let image = RawImage::open(RawOptions::new(&path)).unwrap();
    let blocks = RawOptions { block_bytes: 4096, ..RawOptions::new(&path) };
    let reopening = image.prepare_reopen(blocks).unwrap();
    image.resize(SMALL_BYTES + 512).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[3; 512], SMALL_BYTES).unwrap();
    reopening.commit();
    assert_eq!(image.geometry().size_bytes, SMALL_BYTES);
    assert_eq!(length(&path), SMALL_BYTES + 512, "nothing is cut off");
}
