//! What is refused as an image, and in which words.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use blkfault::block::{Aio, CacheMode, ImageKind, Node, RawImage, RawOptions};
use blkfault::errno::Errno;

use crate::driver::Driver;
use crate::host::{Loop, Mount, lend, run, scratch, sparse};

/// Why the image does not open.
fn refusal(options: RawOptions) -> String {
    match RawImage::open(options.clone()) {
        Ok(_) => panic!("{options:?} was accepted"),
        Err(error) => error.to_string(),
    }
}

fn at(path: &Path) -> RawOptions {
    RawOptions::new(path)
}

#[test]
fn what_is_no_image_is_refused_by_name() {
    let directory = scratch();
    let path = |name: &str| directory.path().join(name);
    let name = |path: &Path| path.display().to_string();

    let missing = refusal(at(&path("missing")));
    assert!(missing.contains(&name(&path("missing"))) && missing.contains("does not exist"));
    let told = refusal(at(directory.path()));
    assert!(told.contains("is a directory: a regular file or block device is needed"), "{told}");
    run(&["mkfifo", path("fifo").to_str().unwrap()]).unwrap();
    assert!(refusal(at(&path("fifo"))).contains("is a FIFO"));
    let _listener = UnixListener::bind(path("socket")).unwrap();
    assert!(refusal(at(&path("socket"))).contains("is a socket"));
    assert!(refusal(at(Path::new("/dev/null"))).contains("is a character device"));
    let file = sparse(&path("disk.img"), 512);
    let told = refusal(RawOptions { expect: Some(ImageKind::HostDevice), ..at(&file) });
    assert!(told.contains("is a regular file: a block device is needed"), "{told}");
}

#[test]
fn a_size_that_does_not_fit_is_refused_with_what_would() {
    let directory = scratch();
    let odd = sparse(&directory.path().join("odd.img"), 1000);
    let told = refusal(at(&odd));
    let wanted = format!(
        "image '{}' is 1000 bytes long, which is not a multiple of the block size 512",
        odd.display()
    );
    assert_eq!(told, wanted);
    let small = sparse(&directory.path().join("small.img"), 512 * 9);
    assert!(refusal(RawOptions { block_bytes: 4096, ..at(&small) }).contains("block size 4096"));
    for block_bytes in [0, 1, 256, 513, 8192] {
        let told = refusal(RawOptions { block_bytes, ..at(&small) });
        assert!(told.contains("is not 512, 1024, 2048 or 4096"), "{told}");
    }
    RawImage::open(at(&small)).unwrap();
}

/// A child has copies of every descriptor until it executes something.
#[test]
fn an_image_that_was_refused_is_free_at_once_while_children_are_started() {
    let directory = scratch();
    let small = sparse(&directory.path().join("small.img"), 512 * 9);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                run(&["true"]).unwrap();
            }
        });
        let locked = (0..1000).find(|_| {
            refusal(RawOptions { block_bytes: 4096, ..at(&small) });
            RawImage::open(at(&small)).is_err()
        });
        done.store(true, Ordering::Relaxed);
        assert_eq!(locked, None, "the round whose image stayed locked");
    });
}

#[test]
fn an_image_that_may_not_be_written_is_served_read_only_or_not_at_all() {
    let directory = scratch();
    let path = sparse(&directory.path().join("disk.img"), 1 << 20);
    let Some(device) = lend("a read-only device", Loop::protected(&path)) else { return };
    let told = refusal(at(&device.device));
    assert!(told.contains("cannot be opened for writing"), "{told}");
    assert!(told.contains("serve it read-only"), "{told}");
    let image = RawImage::open(RawOptions { read_only: true, ..at(&device.device) }).unwrap();
    assert!(image.geometry().read_only && !image.geometry().can_discard);
    let mut driver = Driver::new(&image);
    assert_eq!(driver.write(0, &[1; 512]), Err(Errno::EROFS));
    assert_eq!(driver.read(0, 512), Ok(vec![0; 512]));
    assert_eq!(driver.flush(), Ok(()));
    assert_eq!(image.resize(2 << 20), Err(Errno::EOPNOTSUPP));
}

#[test]
fn direct_io_is_aligned_to_what_the_device_says() {
    let directory = scratch();
    let path = sparse(&directory.path().join("disk.img"), 1 << 20);
    let Some(device) = lend("a device of 4096", Loop::over(&path, 4096)) else { return };
    let options = RawOptions {
        cache: CacheMode::Direct,
        expect: Some(ImageKind::HostDevice),
        ..at(&device.device)
    };
    let image = RawImage::open(options).unwrap();
    let geometry = image.geometry();
    assert_eq!((geometry.request_alignment, geometry.physical_block_bytes), (512, 4096));
    assert_eq!((image.driver(), image.direct(), image.no_flush()), ("host_device", true, false));
    assert_eq!(image.path(), device.device);
    assert_eq!(Driver::new(&image).write(100, &[1; 512]), Err(Errno::EINVAL));
}

#[test]
fn a_file_system_with_large_blocks_takes_only_whole_ones_with_direct_io() {
    let directory = scratch();
    let backing = sparse(&directory.path().join("ext4.img"), 16 << 20);
    run(&["mkfs.ext4", "-q", "-F", "-b", "4096", backing.to_str().unwrap()]).unwrap();
    let Some(device) = lend("ext4 on a device of 4096", Loop::over(&backing, 4096)) else { return };
    let Some(mount) = lend("ext4 on a device of 4096", Mount::device(device)) else { return };
    let path = sparse(&mount.path.join("odd.img"), 512 * 9);
    let direct = RawOptions { cache: CacheMode::Direct, ..at(&path) };
    assert!(refusal(direct.clone()).contains("not a multiple of what O_DIRECT"));
    sparse(&path, 4096 * 9);
    let image = RawImage::open(direct).unwrap();
    assert_eq!(image.resize(4096 * 9 + 512), Err(Errno::EINVAL));
    let mut driver = Driver::new(&image);
    assert_eq!(driver.write(4096 + 512, &[3; 512]), Ok(()));
    let block = driver.read(4096, 4096).unwrap();
    assert!(block[512..1024].iter().all(|byte| *byte == 3));
    assert!(block[..512].iter().chain(&block[1024..]).all(|byte| *byte == 0));
}

#[test]
fn a_discard_frees_space_only_where_the_operator_said_so() {
    for (discard, aio) in
        [(false, Aio::IoUring), (true, Aio::IoUring), (false, Aio::Threads), (true, Aio::Threads)]
    {
        let directory = scratch();
        let path = sparse(&directory.path().join("disk.img"), 1 << 20);
        let image = RawImage::open(RawOptions { discard, aio, ..at(&path) }).unwrap();
        assert_eq!(image.geometry().can_discard, discard);
        let mut driver = Driver::new(&image);
        driver.write(0, &[1; 1 << 20]).unwrap();
        driver.flush().unwrap();
        let full = image.actual_size_bytes().unwrap();
        assert!(full >= 1 << 20);
        let (offset_bytes, bytes) = (0, 1 << 20);
        driver.run(blkfault::block::OpKind::Discard { offset_bytes, bytes }).unwrap();
        let left = image.actual_size_bytes().unwrap();
        assert_eq!(left < full / 2, discard, "{left} of {full} left");
        assert_eq!(image.geometry().size_bytes, 1 << 20);
    }
}
