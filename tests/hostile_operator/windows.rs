//! What abuse of a monitor costs a guest, told apart from what it costs the machine.
//!
//! Knows: three kinds of windows that take turns. In a quiet one nobody speaks to the daemon; in an
//! abused one clients abuse it; in a busy one they abuse another daemon, which takes the same
//! processors from the guest. What the abused windows have over the busy ones is the daemon's fault.
//! The machine changes while this runs, so windows are compared with their neighbours, and the spread
//! is printed beside the figure: a figure within it says nothing.

use std::time::{Duration, Instant};

use crate::guest::Guest;
use crate::{CASES, Case, Rig};

/// Abuse that goes on as long as one likes; a window ends with the telling in which its time is over.
const ABUSE: [&str; 6] = ["C-02", "C-05", "C-06", "C-07", "C-09", "C-11"];
/// The shortest of it, for a look at whether all this works.
const SHORT: [&str; 2] = ["C-07", "C-09"];

/// Requests that make a percentile.
const REQUESTS_MIN: usize = 100;

/// The 50th and 99th percentile of a window's requests, microseconds.
#[derive(Clone, Copy)]
struct Window {
    p50: f64,
    p99: f64,
}

/// The guest's requests while something goes on.
fn window(guest: &Guest, length: Duration, mut go_on: impl FnMut()) -> Window {
    let began = Instant::now();
    guest.take_times();
    while began.elapsed() < length || guest.count() < REQUESTS_MIN {
        go_on();
    }
    let times = guest.take_times();
    let at = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1e6;
    Window { p50: at(50), p99: at(99) }
}

/// Windows in turns, so many of each kind.
struct Turns {
    quiet: Vec<Window>,
    abused: Vec<Window>,
    busy: Vec<Window>,
}

impl Turns {
    fn take(guest: &Guest, rig: &Rig, other: &Rig, case: &Case, rounds: u32) -> Self {
        let length = if rounds > 2 { Duration::from_secs(1) } else { Duration::from_millis(200) };
        let mut turns = Self { quiet: Vec::new(), abused: Vec::new(), busy: Vec::new() };
        for round in 0..rounds {
            turns.quiet.push(window(guest, length, || std::thread::sleep(length / 10)));
            // Neither is always the first after the quiet.
            for second in [false, true] {
                if second == (round % 2 == 0) {
                    turns.busy.push(window(guest, length, || (case.tell)(other)));
                } else {
                    turns.abused.push(window(guest, length, || (case.tell)(rig)));
                }
            }
        }
        turns
    }
}

/// The quartiles of some numbers.
fn quartiles(mut numbers: Vec<f64>) -> [f64; 3] {
    numbers.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| numbers[(numbers.len() - 1) * quarter / 4])
}

/// Each window over its neighbour of the other kind.
fn ratios(these: &[Window], those: &[Window], of: impl Fn(&Window) -> f64) -> [f64; 3] {
    quartiles(these.iter().zip(those).map(|(this, that)| of(this) / of(that)).collect())
}

#[test]
fn what_abuse_costs_a_guest_is_told_beside_what_the_machine_costs_it() {
    let rounds = std::env::var("BLKFAULT_WINDOWS").map_or(2, |n| n.parse().expect("a number"));
    let (rig, other) = (Rig::new(), Rig::new());
    let guest = Guest::start(&rig.daemon.socket("busy"));
    let told = |[low, median, high]: [f64; 3]| format!("{median:.2} ({low:.2} to {high:.2})");
    let chosen = if rounds > 2 { &ABUSE[..] } else { &SHORT[..] };
    for case in CASES.iter().filter(|case| chosen.contains(&case.id)) {
        let turns = Turns::take(&guest, &rig, &other, case, rounds);
        let Turns { quiet, abused, busy } = &turns;
        for (name, of) in [("p50", (|w| w.p50) as fn(&Window) -> f64), ("p99", |w| w.p99)] {
            let median = |windows: &[Window]| quartiles(windows.iter().map(of).collect())[1];
            eprintln!(
                "{} {name}: quiet {:.0} us, busy {:.0}, abused {:.0}; abused/busy {}, abused/quiet {}, \
                 quiet/next quiet {}: {}",
                case.id,
                median(quiet),
                median(busy),
                median(abused),
                told(ratios(abused, busy, of)),
                told(ratios(abused, quiet, of)),
                told(ratios(quiet, &quiet[1..], of)),
                case.story
            );
        }
        // Not a figure: only a disk that waits for a monitor would come near.
        let worst = ratios(abused, busy, |window| window.p50)[1];
        assert!(worst < 100.0, "{}: {}: {worst} times as slow", case.id, case.story);
    }
    guest.end();
    assert!(rig.daemon.terminate().success() && other.daemon.terminate().success());
}
