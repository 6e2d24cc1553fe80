//! B-12, at its worst: a front end passes files of a file system that is its own, and that answers
//! nothing. It may keep its own disk from front ends, and nobody else from anything.

use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::host::{lend, scratch};
use crate::support::backend::alone;
use crate::support::daemon::Daemon;
use crate::support::front::{Ask, Front, Wire, feature, message};
use crate::support::fuse::{Class, Host, Plan, Shape, Trouble, When};
use crate::support::operator::Operator;

const SHAPE: Shape = Shape { cached: true, block_bytes: 1, async_direct: false };
const BYTES: u64 = 1 << 20;
/// What takes milliseconds takes no longer on the busiest machine.
const SOON: Duration = Duration::from_secs(20);
/// Where the stranger's memory would be, for the guest and for the front end.
const PLACE: u64 = 1 << 40;

/// A front end's file system, and its file.
struct Stranger {
    host: Host,
    file: File,
}

impl Stranger {
    fn mount() -> Option<Self> {
        let host = lend("files that do not answer", Host::mount(SHAPE))?;
        host.begin(BYTES);
        let file = File::options().read(true).write(true).open(host.image()).unwrap();
        Some(Self { host, file })
    }

    fn stop_answering(&self, class: Class) {
        self.host.plan(Some(Plan { class, when: When::Always, trouble: Trouble::Held }));
    }

    fn answer_again(&self) {
        self.host.plan(None);
        self.host.let_go();
    }
}

impl Drop for Stranger {
    /// Or this test could not close its own.
    fn drop(&mut self) {
        self.answer_again();
    }
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn start(directory: &std::path::Path) -> Daemon {
    Daemon::start(directory, &["--memory", "1M", "--num-queues", "2"])
}

fn wait_for_nobody(operator: &mut Operator) {
    let deadline = Instant::now() + SOON;
    let mut connected = || operator.must("query-block-exports", json!({}))[0]["connected"] == true;
    while connected() {
        assert!(Instant::now() < deadline, "the front end is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a front end is served now.
fn is_served(daemon: &Daemon) -> bool {
    let wire = Wire::connect(&daemon.socket("disk0")).unwrap();
    wire.ask_u64(Ask::GetFeatures).is_ok()
}

#[test]
fn memory_of_a_file_system_that_answers_nothing_is_refused() {
    let directory = scratch();
    let daemon = start(directory.path());
    let Some(stranger) = Stranger::mount() else { return };
    let mut front = Front::connect(&daemon.socket("disk0"));
    front.negotiate(feature::ALL);
    let mut queue = front.start_queues(1, 16).remove(0);
    stranger.stop_answering(Class::Read);
    let region = words(&[PLACE, BYTES, PLACE, 0]);
    for (ask, body) in [
        (Ask::SetMemTable, [words(&[1]), region.clone()].concat()),
        (Ask::AddMemReg, [words(&[0]), region].concat()),
        (Ask::SetInflightFd, words(&[BYTES, 0, 1 | 128 << 16])),
        (Ask::SetVringKick, words(&[1])),
        (Ask::SetVringCall, words(&[0])),
    ] {
        assert!(front.wire.tell(ask, &body, &[stranger.file.as_fd()]).is_err(), "{ask:?}");
        assert!(queue.is_alive(), "{ask:?}");
    }
    daemon.wait_said("memory is to be a memfd", 1);
    // This one awaits an answer that there is not.
    let log = words(&[BYTES, 0]);
    assert!(front.wire.ask_with(Ask::SetLogBase, &log, stranger.file.as_fd()).is_err());
    wait_for_nobody(&mut daemon.operator());
    assert!(is_served(&daemon));
    assert!(daemon.terminate().success());
}

#[test]
fn a_file_whose_closing_is_never_answered_keeps_nobody_but_its_own_disk() {
    // A child of another test closes what it has of this one's, and is kept with all of it.
    if !alone("strangers::a_file_whose_closing_is_never_answered_keeps_nobody_but_its_own_disk") {
        return;
    }
    let directory = scratch();
    let daemon = start(directory.path());
    let Some(stranger) = Stranger::mount() else { return };
    let mut operator = daemon.operator();
    stranger.stop_answering(Class::Close);
    let cut = &message(Ask::SetVringKick as u32, 0, &[0; 8])[..15];
    // In a whole message and in one that does not go on, until it is enough.
    let mut sessions = 0;
    while sessions < 3 || is_served(&daemon) {
        wait_for_nobody(&mut operator);
        let wire = Wire::connect(&daemon.socket("disk0")).unwrap();
        if sessions % 2 == 0 {
            let _ = wire.send(Ask::SetVringKick as u32, 0, &[0; 8], &[stranger.file.as_fd()]);
        } else {
            let _ = wire.send_bytes(cut, &[stranger.file.as_fd()]);
        }
        drop(wire);
        sessions += 1;
        assert!(sessions < 100, "each leaves a thread and a descriptor behind");
    }
    assert!(sessions > 3, "one alone harms nobody: {sessions}");
    operator.must("query-block", json!({}));
    stranger.answer_again();
    let deadline = Instant::now() + SOON;
    while !is_served(&daemon) {
        assert!(Instant::now() < deadline, "nothing is stuck any more");
        std::thread::sleep(Duration::from_millis(5));
    }
    stranger.stop_answering(Class::Close);
    wait_for_nobody(&mut operator);
    let front = Front::connect(&daemon.socket("disk0"));
    let told = front.wire.tell(Ask::SetVringKick, &words(&[0]), &[stranger.file.as_fd()]);
    assert!(told.is_err(), "no eventfd, and more");
    operator.must("block-export-del", json!({ "id": "disk0", "mode": "hard" }));
    let monitor = daemon.monitor();
    std::thread::scope(|scope| {
        let end = scope.spawn(|| daemon.terminate());
        let deadline = Instant::now() + SOON;
        while monitor.exists() {
            assert!(Instant::now() < deadline, "the service ends, whatever the kernel waits for");
            std::thread::sleep(Duration::from_millis(5));
        }
        stranger.answer_again();
        assert!(end.join().unwrap().success());
    });
}
