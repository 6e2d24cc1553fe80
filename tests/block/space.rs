//! A file system that fills up under an image (the blktap scenario): what was acknowledged is
//! there, what is not there was not acknowledged, and the disk works again once there is room.

use std::path::Path;

use blkfault::block::{Aio, CacheMode, OpKind, OwnedMemory, RawImage, RawOptions};
use blkfault::errno::Errno;

use crate::driver::Driver;
use crate::host::{Mount, lend, sparse};

const IMAGE_BYTES: u64 = 64 << 20;
const FILE_SYSTEM_BYTES: u64 = 16 << 20;
const FILLER_BYTES: usize = 4 << 20;

/// Content that tells where it belongs.
fn content(offset_bytes: u64, bytes: usize) -> Vec<u8> {
    (0..bytes as u64 / 8).flat_map(|i| (offset_bytes + i * 8 + 1).to_le_bytes()).collect()
}

/// Write the image from start to end, `depth` blocks at a time. Where each block ended and how.
fn fill(
    driver: &mut Driver,
    block_bytes: usize,
    depth: usize,
    fua: bool,
) -> Vec<(u64, Result<(), Errno>)> {
    let blocks: Vec<u64> = (0..IMAGE_BYTES / 2).step_by(block_bytes).collect();
    let mut ends = Vec::new();
    for batch in blocks.chunks(depth) {
        let submitted: Vec<_> = batch
            .iter()
            .map(|&offset_bytes| {
                let memory = OwnedMemory::new(block_bytes, 0);
                memory.write(&content(offset_bytes, block_bytes));
                let write = OpKind::Write { offset_bytes, from: memory.buffers(), fua };
                (offset_bytes, driver.submit(write))
            })
            .collect();
        driver.finish();
        ends.extend(submitted.into_iter().map(|(at, n)| (at, driver.ended(n).unwrap())));
    }
    ends
}

/// The whole story on one file system.
fn fill_and_free(directory: &Path, options: &dyn Fn(&Path) -> RawOptions, block: usize, fua: bool) {
    let filler = directory.join("filler");
    std::fs::write(&filler, vec![1; FILLER_BYTES]).unwrap();
    let path = sparse(&directory.join("disk.img"), IMAGE_BYTES);
    let options = options(&path);
    let story = format!("{options:?} blocks of {block} fua {fua}");
    let image = RawImage::open(options).unwrap();
    let mut driver = Driver::new(&image);

    let ends = fill(&mut driver, block, 16, fua);
    let failed = ends.iter().filter(|(_, end)| end.is_err()).count();
    assert!(failed > 0, "{story}: the file system did not fill up");
    for (offset_bytes, end) in &ends {
        match end {
            Ok(()) => {
                let now = driver.read(*offset_bytes, block).unwrap();
                assert!(now == content(*offset_bytes, block), "{story}: acknowledged and wrong");
            }
            Err(errno) => assert_eq!(*errno, Errno::ENOSPC, "{story}"),
        }
    }
    assert_eq!(driver.flush(), Ok(()), "{story}: a full file system is no lost data");

    std::fs::remove_file(&filler).unwrap();
    let &(at, _) = ends.iter().find(|(_, end)| end.is_err()).unwrap();
    // Some file systems give space back a moment later.
    let mut again = driver.write(at, &content(at, block));
    for _ in 0..100 {
        if again != Err(Errno::ENOSPC) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
        again = driver.write(at, &content(at, block));
    }
    assert_eq!(again, Ok(()), "{story}: the disk works again once there is room");
    assert_eq!(driver.flush(), Ok(()), "{story}");
    drop((driver, image));

    let mut ends = ends;
    ends.iter_mut().filter(|(offset, _)| *offset == at).for_each(|(_, end)| *end = Ok(()));
    let file = std::fs::File::open(&path).unwrap();
    for (offset_bytes, _) in ends.iter().filter(|(_, end)| end.is_ok()) {
        let mut now = vec![0; block];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut now, *offset_bytes).unwrap();
        assert!(
            now == content(*offset_bytes, block),
            "{story}: acknowledged and wrong in the file"
        );
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn on_a_full_tmpfs_nothing_is_acknowledged_that_is_not_there() {
    let Some(mount) = lend("a full tmpfs", Mount::tmpfs(FILE_SYSTEM_BYTES)) else { return };
    for aio in [Aio::IoUring, Aio::Threads] {
        for (block, fua) in [(4 << 10, false), (64 << 10, true), (1 << 20, false)] {
            let options = |path: &Path| RawOptions { aio, ..RawOptions::new(path) };
            fill_and_free(&mount.path, &options, block, fua);
        }
    }
}

#[test]
fn on_a_full_ext4_nothing_is_acknowledged_that_is_not_there() {
    let Some(mount) = lend("a full ext4", Mount::ext4(FILE_SYSTEM_BYTES)) else { return };
    for aio in [Aio::IoUring, Aio::Threads] {
        for cache in [CacheMode::Direct, CacheMode::Buffered] {
            for (block, fua) in [(4 << 10, false), (64 << 10, false), (1 << 20, true)] {
                let options = |path: &Path| RawOptions { aio, cache, ..RawOptions::new(path) };
                fill_and_free(&mount.path, &options, block, fua);
            }
        }
    }
}

#[test]
fn zeroes_that_find_no_room_are_not_acknowledged() {
    let Some(mount) = lend("zeroes on a full tmpfs", Mount::tmpfs(FILE_SYSTEM_BYTES)) else {
        return;
    };
    let path = sparse(&mount.path.join("disk.img"), IMAGE_BYTES);
    for aio in [Aio::IoUring, Aio::Threads] {
        let image = RawImage::open(RawOptions { aio, ..RawOptions::new(&path) }).unwrap();
        let mut driver = Driver::new(&image);
        // A tmpfs cannot zero a range without writing it.
        let (offset_bytes, bytes) = (0, IMAGE_BYTES);
        let zero = OpKind::WriteZeroes { offset_bytes, bytes, may_unmap: false, fua: false };
        assert_eq!(driver.run(zero), Err(Errno::ENOSPC), "{aio:?}");
    }
}
