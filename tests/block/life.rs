//! Images that change, hang or go while they are in use.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use blkfault::block::{
    Aio, MemoryImage, NO_IO_URING_VARIABLE, Node, OpKind, OwnedMemory, RawImage, RawOptions,
};
use blkfault::errno::Errno;

use crate::arms::arms;
use crate::driver::{Driver, write_op};
use crate::host::{Mount, lend, run, scratch, sparse};

const ENGINES: [Aio; 2] = [Aio::IoUring, Aio::Threads];

#[test]
fn an_image_that_somebody_cuts_short_gives_errors_and_not_zeroes() {
    for aio in ENGINES {
        let directory = scratch();
        let path = sparse(&directory.path().join("disk.img"), 1 << 20);
        let image = RawImage::open(RawOptions { aio, ..RawOptions::new(&path) }).unwrap();
        let mut driver = Driver::new(&image);
        driver.write(0, &[6; 1 << 20]).unwrap();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(300 << 10).unwrap();
        assert_eq!(driver.read(512 << 10, 4096), Err(Errno::EIO), "{aio:?}: beyond the end");
        assert_eq!(driver.read(299 << 10, 4096), Err(Errno::EIO), "{aio:?}: across the end");
        assert_eq!(driver.read(0, 300 << 10), Ok(vec![6; 300 << 10]), "{aio:?}: before it");
    }
}

#[test]
fn a_disk_shrinks_and_grows_under_its_channels() {
    for arm in arms(1 << 20) {
        if arm.name.starts_with("device") {
            assert_eq!(arm.disk.resize(1 << 19), Err(Errno::EOPNOTSUPP), "{}", arm.name);
            assert_eq!(arm.disk.resize(1 << 20), Ok(()), "{}: its own size", arm.name);
            continue;
        }
        let mut driver = Driver::new(&*arm.disk);
        driver.write(0, &[9; 1 << 20]).unwrap();
        arm.disk.resize(100 << 10).unwrap();
        assert_eq!(arm.disk.geometry().size_bytes, 100 << 10);
        assert_eq!(driver.read(100 << 10, 512), Err(Errno::EIO), "{}", arm.name);
        assert_eq!(driver.write(100 << 10, &[1; 512]), Err(Errno::EIO), "{}", arm.name);
        arm.disk.resize(2 << 20).unwrap();
        let now = driver.read(0, 2 << 20).unwrap();
        assert!(now[..100 << 10].iter().all(|byte| *byte == 9), "{}", arm.name);
        assert!(now[100 << 10..].iter().all(|byte| *byte == 0), "{}: old bytes", arm.name);
        assert_eq!(driver.write((2 << 20) - 512, &[1; 512]), Ok(()), "{}", arm.name);
    }
}

#[test]
fn a_size_that_cannot_be_leaves_the_image_as_it_was() {
    let directory = scratch();
    let path = sparse(&directory.path().join("disk.img"), 1 << 20);
    let image = RawImage::open(RawOptions::new(&path)).unwrap();
    assert_eq!(image.resize(1000), Err(Errno::EINVAL));
    assert_eq!(image.resize(u64::MAX - 511), Err(Errno::EFBIG));
    assert_eq!(image.resize(1 << 62), Err(Errno::EFBIG), "more than the file system can");
    assert_eq!(image.geometry().size_bytes, 1 << 20);
    image.reopen(RawOptions { read_only: true, ..RawOptions::new(&path) }).unwrap();
    assert_eq!(image.resize(512), Err(Errno::EROFS));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 1 << 20);
}

/// A file system that lets no write pass until it is dropped.
struct Frozen<'a>(&'a Mount);

impl<'a> Frozen<'a> {
    fn new(mount: &'a Mount) -> Result<Self, String> {
        run(&["fsfreeze", "-f", mount.path.to_str().unwrap()])?;
        Ok(Self(mount))
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        run(&["fsfreeze", "-u", self.0.path.to_str().unwrap()]).unwrap();
    }
}

#[test]
fn dropping_a_channel_waits_for_what_is_in_flight() {
    for aio in ENGINES {
        let Some(mount) = lend("a write that hangs", Mount::ext4(16 << 20)) else { return };
        let path = sparse(&mount.path.join("disk.img"), 1 << 20);
        let Some(frozen) = lend("a write that hangs", Frozen::new(&mount)) else { return };
        let (gone_in, gone) = mpsc::channel();
        let opened = path.clone();
        let worker = std::thread::spawn(move || {
            let image = RawImage::open(RawOptions { aio, ..RawOptions::new(&opened) }).unwrap();
            let mut driver = Driver::new(&image);
            driver.submit(write_op(4096, &[5; 4096]));
            driver.commit();
            // An engine may still be about to start the call.
            std::thread::sleep(Duration::from_millis(50));
            drop(driver);
            gone_in.send(()).unwrap();
        });
        let early = gone.recv_timeout(Duration::from_millis(300));
        assert_eq!(early, Err(mpsc::RecvTimeoutError::Timeout), "{aio:?}: it did not wait");
        drop(frozen);
        gone.recv_timeout(Duration::from_secs(30)).expect("the drop ends when the write does");
        worker.join().unwrap();
        assert_eq!(std::fs::read(&path).unwrap()[4096..8192], [5; 4096], "{aio:?}");
    }
}

#[test]
fn ops_in_flight_end_on_the_image_they_were_submitted_to() {
    for aio in ENGINES {
        let Some(mount) = lend("a reopen in flight", Mount::ext4(16 << 20)) else { return };
        let directory = scratch();
        let old = sparse(&mount.path.join("old.img"), 1 << 20);
        let new = sparse(&directory.path().join("new.img"), 2 << 20);
        let options = |path: &PathBuf| RawOptions { aio, ..RawOptions::new(path) };
        let image = RawImage::open(options(&old)).unwrap();
        let mut driver = Driver::new(&image);
        let Some(frozen) = lend("a reopen in flight", Frozen::new(&mount)) else { return };
        let hanging = driver.submit(write_op(0, &[1; 4096]));
        driver.commit();
        image.reopen(options(&new)).unwrap();
        assert_eq!(image.geometry().size_bytes, 2 << 20);
        // In a thread of its own, as every worker: the kernel runs a thread's writes in a row.
        let other = std::thread::scope(|scope| {
            scope.spawn(|| Driver::new(&image).write(0, &[2; 4096])).join().unwrap()
        });
        assert_eq!(other, Ok(()), "{aio:?}: the new image does not hang");
        driver.reap();
        assert_eq!(driver.ended(hanging), None, "{aio:?}: the old one does");
        let held = RawImage::open(options(&old));
        assert!(held.is_err(), "{aio:?}: the old image is locked while it is written");
        drop(frozen);
        driver.finish();
        assert_eq!(driver.ended(hanging), Some(Ok(())));
        RawImage::open(options(&old)).expect("the old image is closed with its last op");
        assert_eq!(std::fs::read(&old).unwrap()[..4096], [1; 4096]);
        assert_eq!(std::fs::read(&new).unwrap()[..4096], [2; 4096]);
        assert_eq!(driver.read(0, 4096), Ok(vec![2; 4096]));
    }
}

#[test]
fn a_refused_reopen_leaves_the_image_as_it_was() {
    let directory = scratch();
    let path = sparse(&directory.path().join("disk.img"), 1 << 20);
    let image = RawImage::open(RawOptions::new(&path)).unwrap();
    let mut driver = Driver::new(&image);
    driver.write(0, &[4; 512]).unwrap();
    assert!(image.reopen(RawOptions::new(directory.path().join("missing"))).is_err());
    assert_eq!(driver.read(0, 512), Ok(vec![4; 512]));
    assert_eq!(image.path(), path);
}

#[test]
fn memory_is_taken_when_written_and_given_back_when_discarded() {
    let disk = MemoryImage::new(1 << 40);
    let mut driver = Driver::new(&disk);
    assert_eq!(driver.read(1 << 39, 4096), Ok(vec![0; 4096]));
    assert_eq!(disk.actual_size_bytes(), 0);
    driver.write((1 << 39) - 512, &[1; 1024]).unwrap();
    assert_eq!(disk.actual_size_bytes(), 2 * (64 << 10));
    let keep =
        OpKind::WriteZeroes { offset_bytes: 0, bytes: 1 << 40, may_unmap: false, fua: false };
    driver.run(keep).unwrap();
    assert_eq!(disk.actual_size_bytes(), 2 * (64 << 10));
    driver.write(0, &[1; 512]).unwrap();
    driver.run(OpKind::Discard { offset_bytes: 64 << 10, bytes: (1 << 40) - (64 << 10) }).unwrap();
    assert_eq!(disk.actual_size_bytes(), 64 << 10);
    assert_eq!(driver.read(0, 512), Ok(vec![1; 512]));
}

#[test]
fn every_engine_serves_more_ops_than_the_kernel_is_given_at_once() {
    for aio in ENGINES {
        let directory = scratch();
        let path = sparse(&directory.path().join("disk.img"), 4 << 20);
        let image = RawImage::open(RawOptions { aio, ..RawOptions::new(&path) }).unwrap();
        let mut driver = Driver::new(&image);
        let ops = 3000;
        let submitted: Vec<_> = (0..ops)
            .map(|i: u64| {
                let memory = OwnedMemory::new(512, 0);
                memory.write(&[i as u8; 512]);
                let (offset_bytes, from) = (i * 512, memory.buffers());
                driver.submit(OpKind::Write { offset_bytes, from, fua: false })
            })
            .collect();
        driver.finish();
        assert!(submitted.iter().all(|number| driver.ended(*number) == Some(Ok(()))), "{aio:?}");
        let whole = driver.read(0, ops as usize * 512).unwrap();
        let right = whole.chunks(512).enumerate().all(|(i, c)| c.iter().all(|b| *b == i as u8));
        assert!(right, "{aio:?}");
    }
}

/// The same test in a process where io_uring is forbidden.
#[test]
fn without_io_uring_threads_serve() {
    if std::env::var_os(NO_IO_URING_VARIABLE).is_none() {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "life::without_io_uring_threads_serve"])
            .env(NO_IO_URING_VARIABLE, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let directory = scratch();
    let path = sparse(&directory.path().join("disk.img"), 1 << 20);
    let image = RawImage::open(RawOptions::new(&path)).unwrap();
    let mut driver = Driver::new(&image);
    driver.write(0, &[1; 4096]).unwrap();
    assert_eq!(driver.read(0, 4096), Ok(vec![1; 4096]));
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    let rings = descriptors
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter(|link| link.to_string_lossy().contains("io_uring"))
        .count();
    assert_eq!(rings, 0);
}
