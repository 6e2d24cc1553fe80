//! The images that the one conformance body runs against.

use std::any::Any;
use std::path::Path;

use blkfault::block::{Aio, CacheMode, MemoryImage, Node, RawImage, RawOptions};

use crate::host::{Loop, lend, scratch, sparse};

/// An image, and what must outlive it.
pub(crate) struct Arm {
    pub(crate) name: String,
    pub(crate) disk: Box<dyn Node>,
    _keep: Box<dyn Any>,
}

const ENGINES: [Aio; 2] = [Aio::IoUring, Aio::Threads];

/// Every image that stores bytes, `bytes` long and all zeroes.
pub(crate) fn arms(bytes: u64) -> Vec<Arm> {
    let mut arms = vec![Arm {
        name: "memory".into(),
        disk: Box::new(MemoryImage::new(bytes)),
        _keep: Box::new(()),
    }];
    for aio in ENGINES {
        for cache in [CacheMode::Buffered, CacheMode::Direct] {
            arms.push(file_arm(bytes, aio, cache));
            arms.extend(device_arm(bytes, 512, aio, cache));
        }
        arms.extend(device_arm(bytes, 4096, aio, CacheMode::Buffered));
        // Smaller writes than the device takes.
        arms.extend(device_arm(bytes, 4096, aio, CacheMode::Direct));
    }
    arms
}

fn open(path: &Path, aio: Aio, cache: CacheMode) -> Box<dyn Node> {
    let options = RawOptions { aio, cache, discard: true, ..RawOptions::new(path) };
    Box::new(RawImage::open(options).unwrap())
}

fn file_arm(bytes: u64, aio: Aio, cache: CacheMode) -> Arm {
    let directory = scratch();
    let path = sparse(&directory.path().join("disk.img"), bytes);
    let disk = open(&path, aio, cache);
    Arm { name: format!("file {aio:?} {cache:?}"), disk, _keep: Box::new(directory) }
}

fn device_arm(bytes: u64, block_bytes: u32, aio: Aio, cache: CacheMode) -> Option<Arm> {
    let directory = scratch();
    let path = sparse(&directory.path().join("device.img"), bytes);
    let name = format!("device of {block_bytes} {aio:?} {cache:?}");
    let device = lend(&name, Loop::over(&path, block_bytes))?;
    let disk = open(&device.device, aio, cache);
    // The image is closed before the device is given back: fields drop in their order.
    Some(Arm { name, disk, _keep: Box::new((device, directory)) })
}
