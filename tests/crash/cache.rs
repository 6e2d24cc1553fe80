//! Whether a write is durable when it is answered is the guest's choice, and no front end repeats it to the
//! next daemon.

use std::time::Duration;

use crate::support::guest::Guest;

/// Where the configuration space has `writeback` (virtio 1.3 section 5.2.4).
const WRITEBACK: u32 = 32;

#[test]
fn the_cache_that_a_guest_has_chosen_outlives_daemon_and_connection() {
    let mut guest = Guest::new(0xcac4e, 1, 16, &[]);
    assert_eq!(guest.front().config().writeback, 1, "what every guest begins with");
    for writeback in [0, 1, 0] {
        guest.front().write_config(WRITEBACK, &[writeback]).unwrap();
        for dies in [false, true, true] {
            guest.load.run(Duration::from_millis(2));
            if dies {
                guest.daemon.kill();
            }
            guest.lose_connection();
            if dies {
                guest.daemon.start_again();
            }
            guest.reconnect_until_taken();
            assert_eq!(guest.front().config().writeback, writeback, "the daemon died: {dies}");
        }
    }
    guest.conclude();
}
