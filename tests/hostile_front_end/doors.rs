//! Sockets: who comes in, who does not, and messages for which there is no door.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use blkfault::export::Door;

use crate::messages::odd_descriptors;
use crate::support::backend::DISK_BYTES;
use crate::support::front::{Ask, FLAG_NEED_REPLY, Front, ONE_REGION, Refusal, feature};
use crate::{Stage, ready, silent, words};

pub(crate) fn second(stage: &Stage) {
    let mut front = ready(stage);
    let mut queue = front.start_queues(1, 16).remove(0);
    for _ in 0..5 {
        let second = Front::try_connect(&stage.socket, ONE_REGION);
        assert!(matches!(second, Err(Refusal::Closed)), "{second:?}");
        assert!(queue.is_alive());
    }
}

pub(crate) fn come_and_go(stage: &Stage) {
    for round in 0..10 {
        let wire = silent(stage);
        if round % 2 == 0 {
            assert!(wire.ask_u64(Ask::GetFeatures).is_ok());
        }
        drop(wire);
        stage.wait_disconnected();
    }
}

fn refused(path: &Path, why: &str) {
    let error = Door::listen(path, None).expect_err(why).to_string();
    assert!(error.contains(why), "{}: {error}", path.display());
}

pub(crate) fn places(_: &Stage) {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("file"), "mine").unwrap();
    fs::create_dir(at("folder")).unwrap();
    let pipe = rustix::fs::FileType::Fifo;
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), pipe, mode, 0).unwrap();
    let living = UnixListener::bind(at("living")).unwrap();
    for target in ["file", "living", "nowhere"] {
        symlink(at(target), at(&format!("to-{target}"))).unwrap();
    }
    for name in ["file", "folder", "pipe", "to-file", "to-living", "to-nowhere"] {
        refused(&at(name), "not a socket");
    }
    refused(&at("living"), "in use");
    refused(&at(&"x".repeat(200)), "at most 107 bytes");
    refused(&at("folder/none/disk"), "No such file");
    assert_eq!(fs::read(at("file")).unwrap(), b"mine", "what was there is there");
    UnixStream::connect(at("living")).expect("and lives");
    drop(living);
    let (door, path) = Door::listen(&at("living"), None).expect("nobody listens any more");
    assert_eq!(fs::metadata(at("living")).unwrap().permissions().mode() & 0o777, 0o600);
    drop((door, path));
    assert!(!at("living").exists());
}

pub(crate) fn deaf_channel(stage: &Stage) {
    let mut front = ready(stage);
    let mut queue = front.start_queues(1, 16).remove(0);
    // More than a socket's buffer takes; each is waited for, for they count as one until it is said.
    for _ in 0..500 {
        stage.served.export.announce_resize();
        assert_eq!(front.queues_max, front.wire.ask_u64(Ask::GetQueueNum).unwrap());
    }
    assert!(queue.is_alive());
    assert!(front.config_changed_within(Duration::from_secs(20)), "what fitted can be read");
    for (what, channel) in odd_descriptors() {
        let _ = front.wire.tell(Ask::SetBackendReqFd, &[], &[channel.as_fd()]);
        stage.served.export.announce_resize();
        assert_eq!(front.config().capacity, DISK_BYTES / 512, "{what}");
        assert!(queue.is_alive(), "{what}");
    }
}

/// POSTCOPY_ADVISE, POSTCOPY_LISTEN, POSTCOPY_END.
const POSTCOPY: [u32; 3] = [28, 29, 30];
const IOTLB_MSG: u32 = 22;

fn refused_message(front: &Front, request: u32, body: &[u8]) {
    front.wire.send(request, FLAG_NEED_REPLY, body, &[]).unwrap();
    let answer = front.wire.receive(Duration::from_secs(20)).unwrap();
    assert_eq!(answer.request, request);
    assert_ne!(answer.body, [0; 8], "{request} is refused");
    assert!(answer.fds.is_empty());
}

pub(crate) fn postcopy(stage: &Stage) {
    let mut front = ready(stage);
    let mut queue = front.start_queues(1, 16).remove(0);
    for request in POSTCOPY {
        refused_message(&front, request, &[]);
        refused_message(&front, request, &[0; 8]);
    }
    assert!(queue.is_alive(), "memory is what it was");
    const PAGEFAULT: u64 = 1 << 8;
    let wanted = (front.protocol_offered | PAGEFAULT).to_ne_bytes();
    assert!(front.wire.tell(Ask::SetProtocolFeatures, &wanted, &[]).is_err());
}

pub(crate) fn iotlb(stage: &Stage) {
    const ACCESS_PLATFORM: u64 = 1 << 33;
    let mut front = ready(stage);
    let mut queue = front.start_queues(1, 16).remove(0);
    // An address, a size, an address of the front end, a permission and a type: miss, update,
    // invalidate, access failed, batch begin and end, none.
    for kind in [1u64, 2, 3, 4, 5, 6, 0, 255] {
        refused_message(&front, IOTLB_MSG, &words(&[0, 4096, 0, 3 | kind << 8]));
    }
    assert!(queue.is_alive());
    let features = feature::VERSION_1 | ACCESS_PLATFORM | feature::PROTOCOL_FEATURES;
    assert!(front.wire.tell(Ask::SetFeatures, &words(&[features]), &[]).is_err(), "not offered");
}
