//! What a disk has given up at its image must not land on what another disk over it does, nor on what
//! comes after it under its own name.
//!
//! The host holds one call of a disk back. The disk gives it up: its export is removed, or its ring
//! stops. Who comes next over the same image, be it an export of the same name or the other disk of the
//! store, takes nothing until the host has done with the old call. Whether it does is looked at for a
//! moment: a machine that is slow lets a daemon that does not wait pass, and never fails one that does.

use std::time::Duration;

use serde_json::{Value, json};

use crate::host::lend;
use crate::late_writes::{BLOCK_BYTES, SHAPE, wait_for};
use crate::support::daemon::{Daemon, set_state};
use crate::support::front::request::{Status, kind};
use crate::support::front::ring::Queue;
use crate::support::front::{Front, Inflight, feature};
use crate::support::fuse::{Class, Host, Plan, Trouble, When};
use crate::support::operator::Operator;

const QUEUE_SIZE: u16 = 16;
/// How long an answer is looked for that must not come.
const LOOK: Duration = Duration::from_millis(300);
const OLD: [u8; BLOCK_BYTES] = [b'A'; BLOCK_BYTES];
const NEW: [u8; BLOCK_BYTES] = [b'B'; BLOCK_BYTES];

/// A daemon with disks `a` and `b` over one image of a slow host.
struct Scene<'a> {
    host: &'a Host,
    daemon: Daemon,
    operator: Operator,
    _directory: tempfile::TempDir,
}

/// A front end with one queue of one slot.
struct Guest {
    front: Option<Front>,
    queue: Queue,
    region: Inflight,
}

impl Guest {
    fn at(daemon: &Daemon, id: &str) -> Self {
        let mut front = Front::connect(&daemon.socket(id));
        let region = front.get_inflight(1, QUEUE_SIZE).unwrap();
        front.set_inflight(&region).unwrap();
        front.negotiate(feature::ALL);
        let mut queue = front.start_queues(1, QUEUE_SIZE).remove(0);
        queue.prepare_slots(1, BLOCK_BYTES as u64);
        Self { front: Some(front), queue, region }
    }

    fn start(&mut self, kind: u32, data: &[u8]) {
        self.queue.fill_slot(0, data);
        self.queue.start(0, kind, 0, BLOCK_BYTES as u32);
        self.queue.kick();
    }

    /// Connect again with the same memory, as to a back end that has come back.
    fn resume(&mut self, daemon: &Daemon, id: &str) {
        let front = self.front.take().unwrap();
        let (memory, features) = (front.memory.clone(), front.accepted);
        drop(front);
        let (socket, queues) = (daemon.socket(id), std::slice::from_ref(&self.queue));
        let front = Front::resume(&socket, &memory, features, Some(&self.region), queues);
        self.front = Some(front.unwrap());
    }

    /// Stop the queue as QEMU does; what was taken from it by then.
    fn stop(&self) -> u16 {
        let front = self.front.as_ref().unwrap();
        front.enable_queue(0, false).unwrap();
        front.stop_queue(0)
    }

    /// All that was asked for ends well, and not before the host has done the call that is late.
    fn waits_for(&mut self, host: &Host) {
        let early = self.queue.wait_used(LOOK);
        assert!(early.is_none(), "answered while an old call is at the host: {early:?}");
        assert_eq!(host.late(), 1);
        host.let_go();
        let ends = self.queue.finish_all();
        assert!(ends.iter().all(|end| end.status == Status::Ok), "{ends:?}");
        wait_for("the old call", || host.late() == 0);
    }
}

impl<'a> Scene<'a> {
    fn new(host: &'a Host, aio: &str, options: &str) -> Self {
        host.begin(1 << 20);
        let directory = tempfile::tempdir().unwrap();
        let image = host.image().display().to_string();
        let a = format!("id=a,blk-file={image},aio={aio},cache=none{options}");
        let b = format!("id=b,store=a{options}");
        let daemon = Daemon::start_disks(directory.path(), &[&a, &b]);
        let operator = daemon.operator();
        Self { host, daemon, operator, _directory: directory }
    }

    /// A guest of a disk of which one call stays at the host.
    fn guest_with_a_held(&self, id: &str, what: u32) -> Guest {
        let mut guest = Guest::at(&self.daemon, id);
        let class = if what == kind::OUT { Class::Write } else { Class::Read };
        self.host.plan(Some(Plan { class, when: When::Always, trouble: Trouble::Held }));
        guest.start(what, &OLD);
        wait_for("the call to be at the host", || self.host.late() == 1);
        self.host.plan(None);
        guest
    }

    fn remove(&mut self, id: &str) {
        self.operator.must("block-export-del", json!({ "id": id, "mode": "hard" }));
    }

    fn add(&mut self, id: &str, node: &str, writable: bool) -> Result<Value, Value> {
        let addr = json!({ "type": "unix", "path": self.daemon.socket(id) });
        let export = json!({ "type": "vhost-user-blk", "id": id, "node-name": node, "addr": addr,
            "writable": writable });
        self.operator.execute("block-export-add", export)
    }

    fn add_node(&mut self, name: &str, read_only: bool) -> Result<Value, Value> {
        let node = json!({ "driver": "file", "node-name": name, "filename": self.host.image(),
            "cache": { "direct": true }, "discard": "unmap", "read-only": read_only });
        self.operator.execute("blockdev-add", node)
    }
}

/// A process whose calls are held could not be waited for.
impl Drop for Scene<'_> {
    fn drop(&mut self) {
        self.host.let_go();
    }
}

fn an_export_that_was_added_again_waits(aio: &str, what: u32) {
    let Some(host) = lend("late disks", Host::mount(SHAPE)) else { return };
    let mut scene = Scene::new(&host, aio, "");
    let mut guest = scene.guest_with_a_held("a", what);
    scene.remove("a");
    scene.add("a", "a", true).unwrap();
    guest.resume(&scene.daemon, "a");
    // It is done again: only then may the guest write something else there, or use its buffer.
    guest.waits_for(&host);
    guest.start(kind::OUT, &NEW);
    assert_eq!(guest.queue.finish().status, Status::Ok);
    let read = guest.queue.read(0, BLOCK_BYTES);
    assert!(read.data == NEW, "the old call landed on what came after it");
}

#[test]
fn an_export_that_was_added_again_waits_for_a_write_over_threads_that_the_one_before_gave_up() {
    an_export_that_was_added_again_waits("threads", kind::OUT);
}

#[test]
fn an_export_that_was_added_again_waits_for_a_write_over_io_uring_that_the_one_before_gave_up() {
    an_export_that_was_added_again_waits("io_uring", kind::OUT);
}

#[test]
fn an_export_that_was_added_again_waits_for_a_read_that_the_one_before_gave_up() {
    an_export_that_was_added_again_waits("io_uring", kind::IN);
}

/// As a guest that moves, from the QEMU that uses one disk to the QEMU that uses the other.
fn the_other_disk_of_the_store_waits(aio: &str) {
    let Some(host) = lend("late disks", Host::mount(SHAPE)) else { return };
    let scene = Scene::new(&host, aio, "");
    let mut source = scene.guest_with_a_held("a", kind::OUT);
    source.stop();
    assert_eq!(source.queue.finish().status, Status::IoErr, "given up");
    let mut destination = Guest::at(&scene.daemon, "b");
    destination.start(kind::OUT, &NEW);
    destination.waits_for(&host);
    let read = destination.queue.read(0, BLOCK_BYTES);
    assert!(read.data == NEW, "the old write landed on the new one");
}

#[test]
fn the_other_disk_of_a_store_waits_for_a_write_over_threads_that_a_stopped_ring_gave_up() {
    the_other_disk_of_the_store_waits("threads");
}

#[test]
fn the_other_disk_of_a_store_waits_for_a_write_over_io_uring_that_a_stopped_ring_gave_up() {
    the_other_disk_of_the_store_waits("io_uring");
}

#[test]
fn a_hang_of_one_disk_does_not_keep_the_other_disk_of_its_store_waiting() {
    let Some(host) = lend("late disks", Host::mount(SHAPE)) else { return };
    let mut scene = Scene::new(&host, "threads", "");
    let mut hung = Guest::at(&scene.daemon, "a");
    set_state(&mut scene.operator, "a", "hang");
    hung.start(kind::OUT, &OLD);
    wait_for("it to be held", || {
        let held = scene.operator.must("query-block-fault-held", json!({ "id": "a" }));
        held.as_array().is_some_and(|held| held.len() == 1)
    });
    let mut before = Guest::at(&scene.daemon, "b");
    assert_eq!(before.queue.write(0, &NEW).status, Status::Ok, "while it is held");
    drop(before);
    hung.stop();
    drop(hung);
    let mut after = Guest::at(&scene.daemon, "b");
    assert_eq!(after.queue.write(0, &NEW).status, Status::Ok, "once its ring has stopped");
}

#[test]
fn an_image_cannot_be_opened_anew_until_what_an_export_gave_up_has_ended() {
    let Some(host) = lend("late disks", Host::mount(SHAPE)) else { return };
    let mut scene = Scene::new(&host, "io_uring", "");
    let mut guest = scene.guest_with_a_held("a", kind::OUT);
    for id in ["b", "a"] {
        scene.remove(id);
    }
    scene.operator.must("blockdev-del", json!({ "node-name": "a" }));
    let refused = scene.add_node("anew", false).unwrap_err();
    assert!(refused["desc"].as_str().unwrap().contains("lock"), "{refused}");
    host.let_go();
    wait_for("the image to be free", || scene.add_node("anew", false).is_ok());
    assert_eq!(host.late(), 0);
    scene.add("a", "anew", true).unwrap();
    guest.resume(&scene.daemon, "a");
    assert_eq!(guest.queue.finish().status, Status::Ok, "done again");
    assert_eq!(guest.queue.write(0, &NEW).status, Status::Ok);
}

/// Readers share an image, so that only the disk's mark on it tells.
#[test]
fn a_disk_is_not_shown_from_elsewhere_until_a_read_that_its_export_gave_up_has_ended() {
    let Some(host) = lend("late disks", Host::mount(SHAPE)) else { return };
    let mut scene = Scene::new(&host, "io_uring", ",read-only=on");
    let mut guest = scene.guest_with_a_held("a", kind::IN);
    scene.remove("a");
    scene.add_node("elsewhere", true).unwrap();
    let refused = scene.add("a", "elsewhere", false).unwrap_err();
    assert!(refused["desc"].as_str().unwrap().contains("lock of the disk"), "{refused}");
    host.let_go();
    wait_for("the disk to be free", || scene.add("a", "elsewhere", false).is_ok());
    assert_eq!(host.late(), 0);
    guest.resume(&scene.daemon, "a");
    assert_eq!(guest.queue.finish().status, Status::Ok, "read again");
}

#[test]
fn a_ring_that_stops_while_it_waits_for_the_host_fails_what_it_was_to_do_again() {
    let Some(host) = lend("late disks", Host::mount(SHAPE)) else { return };
    let scene = Scene::new(&host, "io_uring", "");
    let mut guest = scene.guest_with_a_held("a", kind::OUT);
    guest.resume(&scene.daemon, "a");
    let taken = guest.stop();
    assert_eq!((taken, guest.queue.used_index_in_memory()), (1, 1), "or it is lost on the way");
    assert_eq!((guest.queue.finish().status, host.late()), (Status::IoErr, 1));
    host.let_go();
    guest.resume(&scene.daemon, "a");
    assert_eq!(guest.queue.write(0, &NEW).status, Status::Ok, "the ring goes on");
}

#[test]
fn a_ring_that_keeps_what_is_held_when_it_stops_keeps_what_waits_for_the_host() {
    let Some(host) = lend("late disks", Host::mount(SHAPE)) else { return };
    let scene = Scene::new(&host, "io_uring", ",held-on-stop=keep");
    let mut guest = scene.guest_with_a_held("a", kind::OUT);
    guest.resume(&scene.daemon, "a");
    let taken = guest.stop();
    assert_eq!((taken, guest.queue.used_index_in_memory()), (1, 0));
    host.let_go();
    guest.resume(&scene.daemon, "a");
    assert_eq!(guest.queue.finish().status, Status::Ok);
}

/// Their old halves may yet write to the guest's memory, which an answer would give back.
#[test]
fn a_ring_that_stops_waits_longer_for_reads_that_it_was_to_do_again() {
    /// Longer than it waits for writes, and much shorter than for reads.
    const LET_GO_AFTER: Duration = Duration::from_millis(1200);
    let Some(host) = lend("late disks", Host::mount(SHAPE)) else { return };
    let scene = Scene::new(&host, "io_uring", "");
    let mut guest = scene.guest_with_a_held("a", kind::IN);
    guest.resume(&scene.daemon, "a");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(LET_GO_AFTER);
            host.let_go();
        });
        assert_eq!(guest.stop(), 1);
    });
    assert_eq!(guest.queue.finish().status, Status::Ok, "it was read again");
}
