//! What the control thread and a queue's worker hand to each other.
//!
//! The worker of these models is made as the product's is: it takes what it was told, looks whether it
//! may touch its ring, tells its next avail index, and sleeps until it is woken. Its ring is a cell,
//! which loom lets nobody touch at the same time as somebody else, or without having heard of who
//! touched it before.

use std::mem::ManuallyDrop;

use loom::cell::UnsafeCell;
use loom::sync::{Arc, Notify};
use loom::thread;

use crate::handoff::{Heard, Listener, Teller, Wake, ends};

const FIRST: u16 = 7;

/// What the product has an eventfd for: it keeps a wake for whoever is about to sleep.
struct Bell(Arc<Notify>);

impl Bell {
    fn new() -> Self {
        Self(Arc::new(Notify::new()))
    }
}

impl Wake for Bell {
    fn wake(&self) {
        self.0.notify();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Set(u8),
    End,
}

/// What belongs to the worker until it has ended.
struct Ring {
    /// The change that is in force.
    set: UnsafeCell<u8>,
    next_avail: UnsafeCell<u16>,
}

// SAFETY: loom finds whoever touches the cells at the same time.
unsafe impl Sync for Ring {}
// SAFETY: numbers.
unsafe impl Send for Ring {}

impl Ring {
    fn new() -> Arc<Self> {
        Arc::new(Self { set: UnsafeCell::new(0), next_avail: UnsafeCell::new(FIRST) })
    }

    fn set(&self) -> u8 {
        // SAFETY: as above.
        self.set.with(|set| unsafe { *set })
    }

    fn next_avail(&self) -> u16 {
        // SAFETY: as above.
        self.next_avail.with(|next| unsafe { *next })
    }
}

struct Worker {
    listener: Listener<Change, Bell>,
    ring: Arc<Ring>,
    draining: bool,
    /// Requests that its guest has for it.
    offered: u16,
}

impl Worker {
    fn new(listener: Listener<Change, Bell>, ring: &Arc<Ring>, offered: u16) -> Self {
        Self { listener, ring: ring.clone(), draining: false, offered }
    }

    fn run(mut self) {
        while self.turn() {
            self.listener.wake().0.wait();
        }
        self.listener.end(0);
    }

    /// Turns up to the one that ends it or would sleep.
    fn turn(&mut self) -> bool {
        loop {
            self.take_changes();
            if self.draining {
                return false;
            }
            if self.offered == 0 {
                return true;
            }
            self.fetch();
        }
    }

    fn take_changes(&mut self) {
        while let Some(change) = self.listener.take() {
            match change {
                // SAFETY: loom finds whoever touches it at the same time.
                Change::Set(set) => self.ring.set.with_mut(|ours| unsafe { *ours = set }),
                Change::End => self.draining = true,
            }
            self.listener.in_force();
        }
    }

    fn fetch(&mut self) {
        self.offered -= 1;
        if self.listener.is_abandoned() {
            return;
        }
        // SAFETY: as above.
        self.ring.next_avail.with_mut(|next| unsafe { *next += 1 });
        self.listener.set_next_avail(self.ring.next_avail());
    }
}

fn start(ring: &Arc<Ring>, offered: u16) -> (Teller<Change, Bell>, thread::JoinHandle<()>) {
    let (teller, listener) = ends(Bell::new(), FIRST);
    let worker = Worker::new(listener, ring, offered);
    (teller, thread::spawn(move || worker.run()))
}

fn tell(teller: &Teller<Change, Bell>, change: Change) -> Heard {
    teller.heard(teller.send(change), ()).expect("models wait as long as it takes")
}

/// Stop a worker, and look that all is over when it has.
fn stop(teller: &Teller<Change, Bell>, ring: &Ring) {
    teller.send(Change::End);
    assert_eq!(teller.ended(()), Some(0));
    // Races with the worker if that touches its ring once more.
    assert_eq!(teller.next_avail(), ring.next_avail());
}

#[test]
fn a_change_is_in_force_when_it_was_told_whether_the_worker_sleeps_or_not() {
    loom::model(|| {
        let ring = Ring::new();
        let (teller, worker) = start(&ring, 0);
        // Where the worker misses it nobody ever wakes, which loom tells.
        assert_eq!(tell(&teller, Change::Set(1)), Heard::InForce);
        assert_eq!(ring.set(), 1);
        assert_eq!(tell(&teller, Change::Set(2)), Heard::InForce);
        assert_eq!(ring.set(), 2);
        stop(&teller, &ring);
        worker.join().expect("the worker");
    });
}

#[test]
fn changes_that_nobody_waited_for_are_in_force_by_the_one_that_was_sent_last() {
    loom::model(|| {
        let ring = Ring::new();
        let (teller, worker) = start(&ring, 0);
        let first = teller.send(Change::Set(1));
        let last = teller.send(Change::Set(2));
        assert_eq!(teller.heard(last, ()), Some(Heard::InForce));
        assert_eq!(ring.set(), 2, "in the order in which they were sent");
        assert_eq!(teller.heard(first, ()), Some(Heard::InForce));
        stop(&teller, &ring);
        worker.join().expect("the worker");
    });
}

#[test]
fn what_a_worker_told_last_is_read_once_it_has_ended() {
    loom::model(|| {
        let ring = Ring::new();
        let (teller, worker) = start(&ring, 2);
        stop(&teller, &ring);
        assert!((FIRST..=FIRST + 2).contains(&teller.next_avail()));
        worker.join().expect("the worker");
    });
}

#[test]
fn an_abandoned_ring_is_not_touched_once_its_worker_has_ended() {
    loom::model(|| {
        let ring = Ring::new();
        let (teller, worker) = start(&ring, 2);
        teller.abandon();
        stop(&teller, &ring);
        // Somebody else has it now.
        // SAFETY: loom finds a worker that touches it.
        ring.next_avail.with_mut(|next| unsafe { *next = 0 });
        worker.join().expect("the worker");
        assert_eq!(ring.next_avail(), 0);
    });
}

#[test]
fn a_worker_that_hears_of_its_end_knows_whether_its_ring_was_abandoned() {
    loom::model(|| {
        let (teller, listener) = ends(Bell::new(), FIRST);
        let worker = thread::spawn(move || {
            loop {
                while let Some(change) = listener.take() {
                    assert_eq!(change, Change::End);
                    assert!(listener.is_abandoned());
                    return listener.end(3);
                }
                listener.wake().0.wait();
            }
        });
        teller.abandon();
        teller.send(Change::End);
        assert_eq!(teller.ended(()), Some(3), "the first number counts, and not its drop's");
        worker.join().expect("the worker");
    });
}

#[test]
fn who_tells_while_another_ends_the_worker_is_not_left_waiting() {
    loom::model(|| {
        let ring = Ring::new();
        let (teller, worker) = start(&ring, 0);
        let teller = Arc::new(teller);
        let other = {
            let (teller, ring) = (teller.clone(), ring.clone());
            thread::spawn(move || {
                let heard = tell(&teller, Change::Set(1));
                // Nobody writes it after that change.
                assert!(heard == Heard::Ended || ring.set() == 1);
                heard
            })
        };
        stop(&teller, &ring);
        let heard = other.join().expect("the other");
        worker.join().expect("the worker");
        assert_eq!(ring.set(), u8::from(heard == Heard::InForce));
    });
}

#[test]
fn a_worker_that_ends_by_itself_lets_go_who_waits_for_it() {
    loom::model(|| {
        let (teller, listener) = ends::<Change, _>(Bell::new(), FIRST);
        // As when it panics.
        let worker = thread::spawn(move || drop(listener));
        assert_eq!(tell(&teller, Change::Set(1)), Heard::Ended);
        assert_eq!(teller.ended(()), Some(0));
        assert_eq!(tell(&teller, Change::End), Heard::Ended);
        worker.join().expect("the worker");
    });
}

// Mistakes, which show that these models can fail. What loom has found ends the model in the middle,
// outside of which nothing of loom's may be dropped; what is well up to there must be.

#[test]
#[should_panic(expected = "deadlock")]
fn a_wake_that_comes_before_its_change_is_found() {
    /// Rung by hand, too early.
    struct Early(Arc<Notify>);
    impl Wake for Early {
        fn wake(&self) {}
    }
    loom::model(|| {
        let bell = Arc::new(Notify::new());
        let (teller, listener) = ends(Early(bell.clone()), FIRST);
        let (teller, listener) = (ManuallyDrop::new(teller), ManuallyDrop::new(listener));
        let bell = ManuallyDrop::new(bell);
        let worker = thread::spawn(move || {
            while listener.take().is_none() {
                listener.wake().0.wait();
            }
            listener.in_force();
            drop(ManuallyDrop::into_inner(listener));
        });
        bell.notify();
        assert!(teller.heard(teller.send(Change::Set(1)), ()).is_some());
        worker.join().expect("the worker");
        drop((ManuallyDrop::into_inner(teller), ManuallyDrop::into_inner(bell)));
    });
}

/// A worker that makes a mistake with its ring, and whoever stops it.
fn mistaken(mistake: impl Fn(&mut Worker) + Copy + Send + Sync + 'static) {
    loom::model(move || {
        let ring = ManuallyDrop::new(Ring::new());
        let (teller, listener) = ends(Bell::new(), FIRST);
        let teller = ManuallyDrop::new(teller);
        let mut worker = ManuallyDrop::new(Worker::new(listener, &ring, 1));
        let worker = thread::spawn(move || {
            mistake(&mut worker);
            drop(ManuallyDrop::into_inner(worker));
        });
        stop(&teller, &ring);
        worker.join().expect("the worker");
        drop((ManuallyDrop::into_inner(teller), ManuallyDrop::into_inner(ring)));
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn a_worker_that_touches_its_ring_after_its_end_is_found() {
    mistaken(|worker| {
        worker.listener.end(0);
        worker.fetch();
    });
}
