//! A disk in memory dies with its daemon, and says so: zeroes are no answer to who wrote something else.

use tempfile::TempDir;

use crate::support::daemon::Daemon;
use crate::support::front::{Front, Inflight, Memory, ONE_REGION, Queue, Status};
use crate::support::load::ready;

const QUEUE_SIZE: u16 = 64;
const CONTENT: [u8; 4096] = [0xa5; 4096];
const GONE: &str = "what was written is gone, and every request fails until the guest is reset";

/// A guest with two queues, of which it uses one, and a daemon that comes and goes.
struct Scene {
    daemon: Daemon,
    memory: Memory,
    features: u64,
    region: Option<Inflight>,
    queues: Vec<Queue>,
    front: Option<Front>,
    _directory: TempDir,
}

impl Scene {
    fn new(has_log: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = ["--memory", "1M", "--num-queues", "2"];
        let daemon = Daemon::start(directory.path(), &options);
        let mut front = Front::with_memory(&daemon.socket("disk0"), ONE_REGION);
        let region = has_log.then(|| front.get_inflight(2, QUEUE_SIZE).unwrap());
        if let Some(region) = &region {
            front.set_inflight(region).unwrap();
        }
        let queues = ready(&mut front, 2, QUEUE_SIZE);
        let (memory, features) = (front.memory.clone(), front.accepted);
        Self { daemon, memory, features, region, queues, front: Some(front), _directory: directory }
    }

    fn connect(&mut self) {
        self.front = None;
        let (socket, region) = (self.daemon.socket("disk0"), self.region.as_ref());
        let front = Front::resume(&socket, &self.memory, self.features, region, &self.queues);
        self.front = Some(front.unwrap());
    }

    /// The second queue: the first one never has a request, so that it tells nothing.
    fn queue(&mut self) -> &mut Queue {
        &mut self.queues[1]
    }

    fn told_gone(&self) -> usize {
        self.daemon.log().matches(GONE).count()
    }
}

fn content_that_is_gone_is_never_read_as_zeroes(has_log: bool) {
    let mut scene = Scene::new(has_log);
    assert_eq!(scene.queue().write(8, &CONTENT).status, Status::Ok);
    // A connection may be lost as often as it likes.
    scene.connect();
    assert_eq!(scene.queue().read(8, CONTENT.len()).data, CONTENT);
    assert_eq!(scene.told_gone(), 0);

    scene.daemon.kill_and_start_again();
    for _ in 0..2 {
        scene.connect();
        assert_eq!(scene.queue().read(8, CONTENT.len()).status, Status::IoErr);
        assert_eq!(scene.queue().write(8, &CONTENT).status, Status::IoErr);
        assert_eq!(scene.queue().flush().status, Status::IoErr);
    }
    scene.daemon.wait_said(GONE, 1);

    // Another guest, or this one once it was reset, has a new disk.
    scene.front = None;
    let mut front = Front::with_memory(&scene.daemon.socket("disk0"), ONE_REGION);
    let mut queues = ready(&mut front, 2, QUEUE_SIZE);
    assert_eq!(queues[1].read(8, CONTENT.len()).data, [0; CONTENT.len()]);
    assert_eq!(queues[1].write(8, &CONTENT).status, Status::Ok);
    assert_eq!(queues[1].read(8, CONTENT.len()).data, CONTENT);
}

#[test]
fn content_that_is_gone_is_never_read_as_zeroes_with_a_log_of_requests_in_flight() {
    content_that_is_gone_is_never_read_as_zeroes(true);
}

#[test]
fn content_that_is_gone_is_never_read_as_zeroes_without_a_log() {
    content_that_is_gone_is_never_read_as_zeroes(false);
}

#[test]
fn a_disk_that_answered_by_fault_alone_is_not_gone() {
    let mut scene = Scene::new(false);
    let mut operator = scene.daemon.operator();
    crate::support::daemon::set_state(&mut operator, "disk0", "error");
    assert_eq!(scene.queue().write(8, &CONTENT).status, Status::IoErr);
    crate::support::daemon::set_state(&mut operator, "disk0", "none");
    scene.connect();
    assert_eq!(scene.queue().write(8, &CONTENT).status, Status::Ok);
    assert_eq!(scene.told_gone(), 0);
}
