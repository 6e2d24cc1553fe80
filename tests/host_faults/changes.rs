//! Somebody else changes the image, or what it lies on, while it is served (D-08, D-09, D-10).

use std::fs::OpenOptions;
use std::path::Path;

use blkfault::block::{Aio, CacheMode, Node, OpenError, RawImage, RawOptions};
use blkfault::errno::Errno;

use crate::driver::Driver;
use crate::host::{Mount, lend, run, scratch, sparse};

const ENGINES: [Aio; 2] = [Aio::IoUring, Aio::Threads];
const BYTES: u64 = 1 << 20;

fn options(path: &Path, aio: Aio) -> RawOptions {
    RawOptions { aio, ..RawOptions::new(path) }
}

fn set_length(path: &Path, bytes: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

#[test]
fn beyond_the_end_of_an_image_that_was_cut_short_a_read_fails_and_a_write_makes_it_longer_again() {
    for aio in ENGINES {
        let directory = scratch();
        let path = sparse(&directory.path().join("disk.img"), BYTES);
        let image = RawImage::open(options(&path, aio)).unwrap();
        let mut driver = Driver::new(&image);
        driver.write(0, &[6; BYTES as usize]).unwrap();
        set_length(&path, 4096);
        assert_eq!(driver.read(8192, 4096), Err(Errno::EIO), "{aio:?}: not zeroes");
        assert_eq!(driver.write(0, &[7; 4096]), Ok(()), "{aio:?}");
        assert_eq!(
            std::fs::metadata(&path).unwrap().len(),
            4096,
            "{aio:?}: a write before the end"
        );
        // What was acknowledged must be there: refusing it would need a look at the length before
        // every write, and there would still be a moment in between.
        assert_eq!(driver.write(16384, &[8; 4096]), Ok(()), "{aio:?}");
        assert_eq!(driver.read(16384, 4096), Ok(vec![8; 4096]), "{aio:?}");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 20480, "{aio:?}");
        assert_eq!(driver.read(20480, 512), Err(Errno::EIO), "{aio:?}");
        assert_eq!(image.geometry().size_bytes, BYTES, "{aio:?}: the disk is as long as it was");
    }
}

#[test]
fn an_image_that_somebody_made_longer_or_punched_is_the_disk_it_was() {
    for aio in ENGINES {
        let directory = scratch();
        let path = sparse(&directory.path().join("disk.img"), BYTES);
        let image = RawImage::open(options(&path, aio)).unwrap();
        let mut driver = Driver::new(&image);
        driver.write(0, &[6; 65536]).unwrap();
        set_length(&path, 2 * BYTES);
        assert_eq!(driver.write(BYTES, &[1; 512]), Err(Errno::EIO), "{aio:?}: until block_resize");
        run(&["fallocate", "-p", "-o", "8192", "-l", "4096", path.to_str().unwrap()]).unwrap();
        let now = driver.read(0, 65536).unwrap();
        let is_right = |(at, byte): (usize, &u8)| *byte == if at / 4096 == 2 { 0 } else { 6 };
        assert!(now.iter().enumerate().all(is_right), "{aio:?}: only the hole reads as zeroes");
        assert_eq!(driver.write(8192, &[7; 4096]), Ok(()), "{aio:?}");
        assert_eq!(driver.flush(), Ok(()), "{aio:?}");
    }
}

#[test]
fn an_image_that_was_removed_renamed_or_replaced_is_served_until_it_is_opened_again() {
    for aio in ENGINES {
        let directory = scratch();
        let at = |name: &str| directory.path().join(name);
        let path = sparse(&at("disk.img"), BYTES);
        let image = RawImage::open(options(&path, aio)).unwrap();
        let mut driver = Driver::new(&image);
        driver.write(0, &[1; 4096]).unwrap();

        std::fs::rename(&path, at("renamed.img")).unwrap();
        assert_eq!(driver.write(4096, &[2; 4096]), Ok(()), "{aio:?}: renamed");
        assert_eq!(driver.flush(), Ok(()), "{aio:?}: renamed");
        assert_eq!(std::fs::read(at("renamed.img")).unwrap()[4096..8192], [2; 4096], "{aio:?}");
        let refused = image.reopen(options(&path, aio)).unwrap_err();
        assert!(matches!(refused, OpenError::Missing(_)), "{aio:?}: {refused}");

        std::fs::remove_file(at("renamed.img")).unwrap();
        assert_eq!(driver.write(8192, &[3; 4096]), Ok(()), "{aio:?}: removed");
        assert_eq!(driver.flush(), Ok(()), "{aio:?}: removed");
        let now = driver.read(0, 12288).unwrap();
        assert!(now.chunks(4096).zip(1..).all(|(block, n)| block == [n; 4096]), "{aio:?}");

        sparse(&at("other.img"), BYTES);
        std::fs::rename(at("other.img"), &path).unwrap();
        assert_eq!(driver.read(0, 4096), Ok(vec![1; 4096]), "{aio:?}: replaced");
        image.reopen(options(&path, aio)).unwrap();
        assert_eq!(driver.read(0, 4096), Ok(vec![0; 4096]), "{aio:?}: opened again");
    }
}

/// The name of the device that is mounted there.
fn device(mount: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts.lines().find(|line| line.split(' ').nth(1) == mount.to_str());
    line.and_then(|line| line.split([' ', '/']).nth(2)).expect("a mounted device").to_owned()
}

/// As ext4 does when it finds that it is damaged.
fn turn_read_only(mount: &Mount) -> Result<(), String> {
    run(&["mount", "-o", "remount,errors=remount-ro", mount.path.to_str().unwrap()])?;
    let trigger = format!("/sys/fs/ext4/{}/trigger_fs_error", device(&mount.path));
    std::fs::write(&trigger, "1").map_err(|error| format!("{trigger}: {error}"))
}

#[test]
fn on_a_file_system_that_turned_read_only_writes_fail_and_what_was_durable_is_read() {
    for aio in ENGINES {
        for cache in [CacheMode::Buffered, CacheMode::Direct] {
            let story = format!("{aio:?} {cache:?}");
            let Some(mount) = lend("a damaged ext4", Mount::ext4(16 << 20)) else { return };
            let path = sparse(&mount.path.join("disk.img"), BYTES);
            let image = RawImage::open(RawOptions { cache, ..options(&path, aio) }).unwrap();
            let mut driver = Driver::new(&image);
            assert_eq!(driver.write(0, &[5; 65536]), Ok(()), "{story}");
            assert_eq!(driver.flush(), Ok(()), "{story}");
            if lend("a damaged ext4", turn_read_only(&mount)).is_none() {
                return;
            }
            for at in [0, 256 << 10] {
                let refused = driver.write(at, &[6; 4096]).expect_err(&story);
                assert!([Errno::EROFS, Errno::EIO].contains(&refused), "{story}: {refused:?}");
            }
            assert_eq!(driver.read(0, 65536), Ok(vec![5; 65536]), "{story}");
            let refused = image.resize(2 * BYTES).expect_err(&story);
            assert!([Errno::EROFS, Errno::EIO].contains(&refused), "{story}: {refused:?}");
            assert_eq!(image.geometry().size_bytes, BYTES, "{story}");
        }
    }
}
