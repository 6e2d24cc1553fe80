//! Memory of the daemon that a guest's requests take, measured in a process of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::unwrap_used, reason = "what cannot happen fails the test")]

use blkfault::block::{
    Aio, CacheMode, Channel, Node, Op, OpKind, OwnedMemory, RawImage, RawOptions, Ticket,
};

const QUEUES: usize = 2;
const DEPTH: u64 = 256;
const REQUEST_BYTES: usize = 1 << 20;
/// Without a bound it would be 512 MiB.
const GROWTH_MAX_BYTES: u64 = 64 << 20;

/// Memory of this process that no file backs, in bytes.
fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Take what has ended until all has. The most memory that was seen meanwhile.
fn finish(channels: &mut [Box<dyn Channel>], mut in_flight: u64) -> u64 {
    let (mut most_bytes, mut done) = (anonymous_bytes(), Vec::new());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(300);
    while in_flight > 0 {
        assert!(std::time::Instant::now() < deadline, "{in_flight} requests do not end");
        for channel in channels.iter_mut() {
            channel.commit();
            channel.poll(&mut done);
        }
        for completion in done.drain(..) {
            assert_eq!(completion.result, Ok(()));
            in_flight -= 1;
        }
        most_bytes = most_bytes.max(anonymous_bytes());
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    most_bytes
}

#[test]
fn misaligned_requests_do_not_bloat_the_daemon_however_many_there_are() {
    let file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    file.as_file().set_len(4 << 20).unwrap();
    let memory = OwnedMemory::new(REQUEST_BYTES, 1);
    memory.write(&[5; REQUEST_BYTES]);
    for aio in [Aio::IoUring, Aio::Threads] {
        let options = RawOptions { aio, cache: CacheMode::Direct, ..RawOptions::new(file.path()) };
        let image = RawImage::open(options).unwrap();
        let mut channels: Vec<_> = (0..QUEUES).map(|_| image.channel().unwrap()).collect();
        let before_bytes = anonymous_bytes();
        let mut in_flight = 0;
        for channel in &mut channels {
            for number in 0..DEPTH {
                let from = memory.buffers();
                let kind = OpKind::Write { offset_bytes: 0, from, fua: false };
                channel.submit(Op { ticket: Ticket(number), ordinal: number, queue: 0, kind });
                in_flight += 1;
            }
        }
        let most_bytes = finish(&mut channels, in_flight);
        let growth_bytes = most_bytes.saturating_sub(before_bytes);
        assert!(growth_bytes < GROWTH_MAX_BYTES, "{aio:?}: {growth_bytes} bytes more");
        assert!(growth_bytes > 1 << 20, "{aio:?}: nothing went through memory of ours");
    }
}
