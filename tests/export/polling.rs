//! What looking for requests costs a whole daemon: at most its share of the time, and when the guest
//! is idle nothing.
//!
//! The daemon's threads tell how long they had a processor, which unlike the time that passes does not grow
//! on a busy machine. What does grow is what the same requests cost, now and then; so what has to hold is
//! tried a few times and must hold once, which a daemon that looks too much cannot do.

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tempfile::TempDir;

use crate::front_with_queue;
use crate::support::daemon::Daemon;
use crate::support::front::{Front, Queue, SECTOR, Status, kind};
use crate::support::process::Watched;

const US: Duration = Duration::from_micros(1);
/// How often a story may be disturbed, which the stories told beside it do for half a minute or so.
const TRIES: u32 = 40;
/// Until it is told again.
const REST: Duration = Duration::from_millis(200);
/// Requests at once of a guest in a hurry.
const DEPTH: u16 = 32;
/// How long a guest asks.
const LOAD: Duration = Duration::from_millis(250);
/// No answer with a wake takes longer in the middle, where nobody else wants the processors.
const WAKE_USUAL: Duration = Duration::from_micros(300);
/// Until a daemon whose guest asks for nothing more is asleep, and its threads' times are counted.
const SETTLE: Duration = Duration::from_millis(50);

/// A daemon with one disk in memory, which looks as much as it is told to, and a guest's queue.
struct Rig {
    // In the order in which they go.
    queue: Queue,
    _front: Front,
    watched: Watched,
    _daemon: Daemon,
    _directory: TempDir,
}

/// What a guest's requests took.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// Requests for which the daemon was asleep, so that the guest had to kick it.
    kicked: u64,
    /// Those for which it was awake.
    met_awake: u64,
    passed: Duration,
    cpu: Duration,
}

impl Cost {
    fn cpu_each(&self) -> Duration {
        self.cpu / self.requests()
    }

    /// From a request to its answer.
    fn latency(&self, pause: Duration) -> Duration {
        (self.passed / self.requests()).saturating_sub(pause)
    }

    fn requests(&self) -> u32 {
        u32::try_from(self.kicked + self.met_awake).unwrap()
    }
}

impl Rig {
    fn polling(percent: u8) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let percent = percent.to_string();
        let (_, cpu) = PROCESSORS.expect("as_guest");
        let wrapper = ["taskset", "-c", &cpu.to_string()];
        let options = ["--memory", "4M", "--poll", &percent];
        let daemon = Daemon::start_inside(directory.path(), &wrapper, &options);
        let (front, mut queue) = front_with_queue(&daemon.socket("disk0"));
        // The guest looks by itself, so its pauses are as long as it wants.
        queue.set_interrupts(false);
        queue.prepare_slots(DEPTH, SECTOR as u64);
        let watched = Watched::of(daemon.id());
        Self { queue, _front: front, watched, _daemon: daemon, _directory: directory }
    }

    /// Whether nearly all requests meet it awake, which is more than come just before it gets to sleep:
    /// two of three at most were seen. On a busy machine it may have nothing to show; one that never looks
    /// shows how busy it is.
    fn is_seen_looking(&mut self, never: &mut Self) -> bool {
        let (pause, mut quick) = (5 * US, 0);
        for _ in 0..TRIES {
            let cost = self.ask(1, pause);
            if cost.met_awake > 9 * cost.kicked {
                return true;
            }
            quick += u32::from(never.ask(1, pause).latency(pause) < WAKE_USUAL);
        }
        assert!(
            quick < TRIES / 2,
            "it does not look, and {quick} of {TRIES} times the machine was free"
        );
        eprintln!("not told: this machine is too busy to look");
        false
    }

    /// Ask for so many sectors at once, again and again, `pause` after the last answer.
    fn ask(&mut self, depth: u16, pause: Duration) -> Cost {
        let (cpu, began, mut requests) = (self.watched.cpu_time(), Instant::now(), 0);
        let kicks = self.queue.notifications.kicks;
        while began.elapsed() < LOAD {
            (0..depth).for_each(|slot| self.queue.start(slot, kind::IN, 0, SECTOR as u32));
            self.queue.kick();
            for _ in 0..depth {
                assert_eq!(self.queue.finish().status, Status::Ok);
            }
            requests += u64::from(depth);
            let answered = Instant::now();
            while answered.elapsed() < pause {
                std::hint::spin_loop();
            }
        }
        let passed = began.elapsed();
        std::thread::sleep(SETTLE);
        let cpu = self.watched.cpu_time() - cpu;
        let kicked = self.queue.notifications.kicks - kicks;
        Cost { kicked, met_awake: requests - kicked, passed, cpu }
    }
}

/// One processor for the guest and another for the daemon, if there are two: on one, the guest could
/// not ask while the daemon looks.
static PROCESSORS: LazyLock<Option<(usize, usize)>> = LazyLock::new(|| {
    let allowed = sched_getaffinity(None).unwrap();
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    cpus.next().zip(cpus.next())
});

/// Tell a story on the guest's processor, while no other one is told there.
fn as_guest(story: impl FnOnce() + Send) {
    let Some((cpu, _)) = *PROCESSORS else {
        eprintln!("not told: it needs two processors");
        return;
    };
    static TOLD: Mutex<()> = Mutex::new(());
    let _told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            sched_setaffinity(None, &cpus).unwrap();
            story();
        });
    });
}

/// Try until it holds; what was seen last if it never does.
fn once(mut holds: impl FnMut() -> Result<(), String>) {
    let mut said = Ok(());
    for _ in 0..TRIES {
        said = holds();
        if said.is_ok() {
            return;
        }
        std::thread::sleep(REST);
    }
    said.unwrap();
}

#[test]
fn a_daemon_that_may_look_all_the_time_costs_an_idle_guest_nothing() {
    as_guest(|| {
        let mut rig = Rig::polling(100);
        if !rig.is_seen_looking(&mut Rig::polling(0)) {
            return;
        }
        once(|| {
            let cost = rig.ask(1, 5 * US);
            let before = rig.watched.cpu_time();
            std::thread::sleep(Duration::from_secs(1));
            let idle = rig.watched.cpu_time() - before;
            if idle < Duration::from_millis(20) {
                return Ok(());
            }
            Err(format!("{idle:?} in a second after {cost:?}"))
        });
    });
}

#[test]
fn looking_takes_no_more_than_its_share_of_the_time() {
    as_guest(|| {
        let mut never = Rig::polling(0);
        for percent in [10, 40] {
            let mut rig = Rig::polling(percent);
            // With the shorter ones a daemon that looked without a limit would always look.
            for pause in [5, 20, 40, 60, 100, 200].map(|pause| pause * US) {
                once(|| {
                    // What a request costs a daemon that is awake, and one that is asleep.
                    let awake = never.ask(DEPTH, Duration::ZERO).cpu_each();
                    let asleep = never.ask(1, pause).cpu_each();
                    let cost = rig.ask(1, pause);
                    let requests = awake * u32::try_from(cost.met_awake).unwrap()
                        + asleep * u32::try_from(cost.kicked).unwrap();
                    let may_look = cost.passed * u32::from(percent) / 100;
                    // Requests do not cost the same twice.
                    let allowance = requests / 2 + cost.passed / 20;
                    if cost.cpu <= requests + may_look + allowance {
                        return Ok(());
                    }
                    Err(format!(
                        "{percent} %, asked after {pause:?}: {cost:?}; asleep each took \
                         {asleep:?}, awake {awake:?}"
                    ))
                });
            }
        }
    });
}

#[test]
fn a_daemon_that_may_not_look_is_kicked_for_each_request() {
    as_guest(|| {
        let mut never = Rig::polling(0);
        once(|| {
            let cost = never.ask(1, 30 * US);
            // One that has not got to sleep yet is met awake as well.
            if cost.met_awake < cost.kicked / 10 { Ok(()) } else { Err(format!("{cost:?}")) }
        });
        // One that may look is not, so that is what kicks tell.
        Rig::polling(100).is_seen_looking(&mut never);
    });
}
