//! A failed flush stays failed until the image is reopened.
//!
//! The host is made to lose data for real: a loop device over a sparse file on a full tmpfs takes
//! a write into the page cache and cannot write it back.

use blkfault::block::{Aio, OpKind, OwnedMemory, RawImage, RawOptions};
use blkfault::errno::Errno;

use crate::driver::Driver;
use crate::host::{Loop, Mount, lend, sparse};

const BYTES: u64 = 16 << 20;

fn durable(offset_bytes: u64, byte: u8) -> OpKind {
    let memory = OwnedMemory::new(4096, 0);
    memory.write(&[byte; 4096]);
    OpKind::Write { offset_bytes, from: memory.buffers(), fua: true }
}

fn lose_data_and_reopen(aio: Aio, lose_by_flush: bool) {
    let story = format!("{aio:?}, lost by a flush: {lose_by_flush}");
    let Some(mount) = lend("a failed flush", Mount::tmpfs(4 << 20)) else { return };
    let backing = sparse(&mount.path.join("backing"), BYTES);
    let Some(device) = lend("a failed flush", Loop::over(&backing, 512)) else { return };
    let filler = mount.path.join("filler");
    let _ = std::fs::write(&filler, vec![1; 8 << 20]);
    let options = RawOptions { aio, ..RawOptions::new(&device.device) };
    let image = RawImage::open(options.clone()).unwrap();
    let (mut driver, mut other) = (Driver::new(&image), Driver::new(&image));

    if lose_by_flush {
        assert_eq!(driver.write(1 << 20, &[7; 4096]), Ok(()), "{story}: into the page cache");
        assert!(driver.flush().is_err(), "{story}: the host did not fail the flush");
    } else {
        assert!(driver.run(durable(1 << 20, 7)).is_err(), "{story}: the host did not fail");
    }
    assert_eq!(driver.flush(), Err(Errno::EIO), "{story}");
    assert_eq!(other.flush(), Err(Errno::EIO), "{story}: from another channel");
    assert_eq!(Driver::new(&image).flush(), Err(Errno::EIO), "{story}: from a new channel");

    std::fs::remove_file(&filler).unwrap();
    assert_eq!(driver.write(2 << 20, &[8; 4096]), Ok(()), "{story}: writes go on");
    assert_eq!(driver.flush(), Err(Errno::EIO), "{story}: room does not bring the data back");
    assert!(other.run(durable(3 << 20, 9)).is_err(), "{story}");

    image.reopen(options).unwrap();
    assert_eq!(driver.write(1 << 20, &[7; 4096]), Ok(()), "{story}");
    assert_eq!(driver.flush(), Ok(()), "{story}: reopened");
    assert_eq!(other.run(durable(3 << 20, 9)), Ok(()), "{story}");
    assert_eq!(other.flush(), Ok(()), "{story}");
    assert_eq!(other.read(1 << 20, 4096), Ok(vec![7; 4096]), "{story}");
}

#[test]
fn a_failed_flush_stays_failed_on_every_channel_until_the_image_is_reopened() {
    for aio in [Aio::IoUring, Aio::Threads] {
        lose_data_and_reopen(aio, true);
    }
}

#[test]
fn a_failed_durable_write_fails_the_flushes_after_it() {
    for aio in [Aio::IoUring, Aio::Threads] {
        lose_data_and_reopen(aio, false);
    }
}

#[test]
fn without_flushes_none_fails() {
    let Some(mount) = lend("no-flush", Mount::tmpfs(4 << 20)) else { return };
    let backing = sparse(&mount.path.join("backing"), BYTES);
    let Some(device) = lend("no-flush", Loop::over(&backing, 512)) else { return };
    let _ = std::fs::write(mount.path.join("filler"), vec![1; 8 << 20]);
    let options = RawOptions { no_flush: true, ..RawOptions::new(&device.device) };
    let image = RawImage::open(options).unwrap();
    let mut driver = Driver::new(&image);
    assert_eq!(driver.run(durable(1 << 20, 7)), Ok(()));
    assert_eq!(driver.flush(), Ok(()));
    assert!(image.no_flush());
}
