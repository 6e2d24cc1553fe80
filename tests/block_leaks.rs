//! Descriptors and threads of images, counted in a process of their own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::unwrap_used, reason = "what cannot happen fails the test")]

use blkfault::block::{
    Aio, CacheMode, Node, Op, OpKind, OwnedMemory, RawImage, RawOptions, Ticket,
};

fn count(directory: &str) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

/// Open an image, use two channels, close everything.
fn use_once(options: RawOptions) {
    let image = RawImage::open(options.clone()).unwrap();
    let mut channels = [image.channel().unwrap(), image.channel().unwrap()];
    for (number, channel) in (0..).zip(&mut channels) {
        let memory = OwnedMemory::new(512, 0);
        let kind = OpKind::Write { offset_bytes: 0, from: memory.buffers(), fua: false };
        channel.submit(Op { ticket: Ticket(number), ordinal: number, queue: 0, kind });
        channel.commit();
    }
    image.reopen(options).unwrap();
}

#[test]
fn after_a_thousand_images_no_descriptor_and_no_thread_is_left() {
    let file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    file.as_file().set_len(1 << 20).unwrap();
    let options = |aio, cache| RawOptions { aio, cache, ..RawOptions::new(file.path()) };
    let arms = [
        options(Aio::IoUring, CacheMode::Buffered),
        options(Aio::Threads, CacheMode::Buffered),
        options(Aio::IoUring, CacheMode::Direct),
        options(Aio::Threads, CacheMode::Direct),
    ];
    arms.iter().cloned().for_each(use_once);
    let (fds, threads) = (count("/proc/self/fd"), count("/proc/self/task"));
    for options in arms.iter().cycle().take(1000) {
        use_once(options.clone());
    }
    assert_eq!(count("/proc/self/fd"), fds, "descriptors");
    // The kernel's own threads of a closed ring end a moment later.
    for _ in 0..200 {
        if count("/proc/self/task") <= threads {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(count("/proc/self/task") <= threads, "threads");
    let refused = RawImage::open(RawOptions { block_bytes: 7, ..arms[0].clone() });
    assert!(refused.is_err());
    assert_eq!(count("/proc/self/fd"), fds, "descriptors of an image that did not open");
}
