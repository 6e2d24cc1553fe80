//! What a driver makes the daemon say: bounded.

use std::time::{Duration, Instant};

use crate::support::daemon::{Daemon, told};
use crate::support::front::{Front, feature};

/// Longer than the daemon is silent about what it has just said.
const FLOOD: Duration = Duration::from_millis(1500);

#[test]
fn rings_that_lie_again_and_again_do_not_fill_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(dir.path(), &["--memory", "1M", "--num-queues", "2"]);
    let mut front = Front::connect(&daemon.socket("disk0"));
    front.negotiate(feature::ALL);
    let mut queues = front.start_queues(2, 16);
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < FLOOD || count < 20 {
        for queue in &mut queues {
            queue.put_avail_index(queue.avail_index().wrapping_add(0x7000));
            queue.kick_always();
            assert!(queue.broken_within(Duration::from_secs(20)));
            front.renew_queue(queue);
        }
        count += 1;
    }
    assert!(queues.iter_mut().all(|queue| queue.is_alive()));
    assert!(daemon.end().success());
    let (said, seconds) = (daemon.log(), began.elapsed().as_secs() as usize);
    for queue in 0..2 {
        let what = format!("queue {queue} is broken until");
        let (lines, told) = told(&said, &what);
        assert!(lines <= seconds + 2, "{what}: {lines} lines in {seconds} s");
        assert_eq!(told, count, "{what}: those left out are told of: {said}");
    }
}
