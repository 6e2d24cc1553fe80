//! What a signal handler is told of a mapping, while another thread changes it.

use std::ptr::from_ref;

use loom::sync::Arc;
use loom::thread;

use crate::slot::Slot;

static OLD: u8 = 1;
static NEW: u8 = 2;
const OLD_START: usize = 0x1000;
const NEW_START: usize = 0x2000;

fn old() -> (usize, usize, *const u8) {
    (OLD_START, 16, from_ref(&OLD))
}

fn new() -> (usize, usize, *const u8) {
    (NEW_START, 32, from_ref(&NEW))
}

/// One that tells of the old mapping.
fn slot() -> Arc<Slot<u8>> {
    let slot = Slot::new_taken();
    let (start, bytes, about) = old();
    slot.tell(start, bytes, about);
    Arc::new(slot)
}

/// What is told of this address while a slot goes from the old mapping to the new one.
fn asked_meanwhile(
    address: usize,
    check: impl Fn(Option<(usize, usize, *const u8)>) + Sync + Send + 'static,
) {
    loom::model(move || {
        let slot = slot();
        let writer = {
            let slot = slot.clone();
            thread::spawn(move || {
                slot.give_back();
                assert!(slot.take());
                let (start, bytes, about) = new();
                slot.tell(start, bytes, about);
            })
        };
        check(slot.holding(address));
        writer.join().expect("the writer");
        assert_eq!(slot.holding(NEW_START + 20), Some(new()));
    });
}

#[test]
fn the_old_mapping_is_told_of_whole_or_not_at_all() {
    asked_meanwhile(OLD_START + 8, |told| {
        assert!(told.is_none_or(|told| told == old()), "{told:?}")
    });
}

#[test]
fn the_new_mapping_is_told_of_whole_or_not_at_all() {
    asked_meanwhile(NEW_START + 20, |told| {
        assert!(told.is_none_or(|told| told == new()), "{told:?}")
    });
}

#[test]
fn what_only_parts_of_both_would_hold_is_not_told_of() {
    asked_meanwhile(OLD_START + 20, |told| assert_eq!(told, None));
}

#[test]
fn a_mapping_that_is_in_use_is_told_of() {
    loom::model(|| {
        let (slot, other) = (slot(), Arc::new(Slot::<u8>::new_taken()));
        let touches = {
            let slot = slot.clone();
            // Whoever touches a mapping got it from whoever made it.
            thread::spawn(move || assert_eq!(slot.holding(OLD_START), Some(old())))
        };
        other.give_back();
        touches.join().expect("the one who touches");
    });
}

#[test]
fn a_free_slot_is_taken_by_one() {
    loom::model(|| {
        let slot = slot();
        slot.give_back();
        let other = {
            let slot = slot.clone();
            thread::spawn(move || slot.take())
        };
        let ours = slot.take();
        let theirs = other.join().expect("the other");
        assert!(ours != theirs);
    });
}
