//! The traps of blkdebug, one by one (reference: QEMU 7.2, run).

use super::*;

fn inject(event: Event) -> InjectError {
    InjectError::on(event)
}

fn machine(inject_error: Vec<InjectError>, set_state: Vec<SetState>) -> Machine {
    Machine::open(Rules { inject_error, set_state })
}

fn errno(machine: &mut Machine, iotype: IoType, sector: u64) -> Option<i32> {
    let bytes = if iotype == IoType::Flush { 0 } else { 1024 };
    machine.check(iotype, sector * 512, bytes)?.errno.map(Errno::number)
}

#[test]
fn an_armed_rule_stays_armed_for_other_requests_and_states() {
    let rule = InjectError { state: 1, ..inject(Event::WriteAio) };
    let change = SetState { event: Event::WriteAio, state: 1, new_state: 2 };
    let mut machine = machine(vec![rule], vec![change]);
    assert_eq!(errno(&mut machine, IoType::Write, 0), None);
    machine.raise(Event::WriteAio);
    assert_eq!(machine.state(), 2);
    assert_eq!(errno(&mut machine, IoType::Write, 0), Some(5));
    machine.raise(Event::WriteAio);
    assert_eq!(errno(&mut machine, IoType::Write, 0), Some(5));
    machine.raise(Event::ReadAio);
    assert_eq!(errno(&mut machine, IoType::Read, 0), Some(5));
}

#[test]
fn an_event_with_a_matching_rule_replaces_what_was_armed() {
    let read = InjectError { errno: Some(Errno::ENOSPC), ..inject(Event::ReadAio) };
    let mut machine = machine(vec![inject(Event::WriteAio), read], vec![]);
    machine.raise(Event::WriteAio);
    machine.raise(Event::ReadAio);
    assert_eq!(errno(&mut machine, IoType::Write, 0), Some(28));
}

#[test]
fn the_first_matching_rule_hits_and_errno_0_hides_the_rest() {
    let narrow = InjectError { sector: Some(9), errno: None, ..inject(Event::None) };
    let mut machine = machine(vec![narrow, inject(Event::None)], vec![]);
    assert_eq!(errno(&mut machine, IoType::Read, 8), None);
    assert_eq!(errno(&mut machine, IoType::Read, 10), Some(5));
    assert_eq!(errno(&mut machine, IoType::Read, 7), Some(5));
}

#[test]
fn a_rule_with_a_sector_never_hits_a_flush() {
    let rule = InjectError { sector: Some(0), ..inject(Event::None) };
    let mut machine = machine(vec![rule], vec![]);
    assert_eq!(errno(&mut machine, IoType::Flush, 0), None);
    assert_eq!(errno(&mut machine, IoType::Read, 0), Some(5));
}

#[test]
fn once_means_once_and_errno_0_is_never_used_up() {
    let once = InjectError { once: true, ..inject(Event::None) };
    let shadow = InjectError { errno: None, ..once.clone() };
    let mut plain = machine(vec![once.clone()], vec![]);
    assert_eq!(errno(&mut plain, IoType::Read, 0), Some(5));
    plain.raise(Event::None);
    assert_eq!(errno(&mut plain, IoType::Read, 0), None);
    let mut shadowed = machine(vec![shadow, once], vec![]);
    for _ in 0..3 {
        assert_eq!(errno(&mut shadowed, IoType::Read, 0), None);
    }
}

#[test]
fn set_state_does_not_chain_and_the_first_one_written_wins() {
    let set = |state, new_state| SetState { event: Event::WriteAio, state, new_state };
    let mut chain = machine(vec![], vec![set(1, 2), set(2, 3)]);
    chain.raise(Event::WriteAio);
    assert_eq!(chain.state(), 2);
    let mut rivals = machine(vec![], vec![set(0, 7), set(1, 2)]);
    rivals.raise(Event::WriteAio);
    assert_eq!(rivals.state(), 7);
    let mut rivals = machine(vec![], vec![set(1, 2), set(0, 7)]);
    rivals.raise(Event::WriteAio);
    assert_eq!(rivals.state(), 2);
}

#[test]
fn a_breakpoint_is_met_once_and_all_of_an_event_at_once() {
    let mut machine = machine(vec![], vec![]);
    machine.add_breakpoint(Event::WriteAio, "A".into());
    machine.add_breakpoint(Event::WriteAio, "B".into());
    machine.add_breakpoint(Event::ReadAio, "C".into());
    assert_eq!(machine.raise(Event::WriteAio), [Arc::from("A"), Arc::from("B")]);
    assert_eq!(machine.raise(Event::WriteAio), []);
    assert!(machine.remove_breakpoints("C"));
    assert!(!machine.remove_breakpoints("C"));
    assert!(machine.is_empty());
}

#[test]
fn a_delay_without_an_error_hits_and_may_be_used_up() {
    let slow = InjectError { errno: None, delay_ns: 7, once: true, ..inject(Event::None) };
    let mut machine = machine(vec![slow], vec![]);
    let hit = machine.check(IoType::Read, 0, 512).unwrap();
    assert_eq!((hit.errno, hit.delay_ns, hit.exhausted), (None, 7, true));
    assert_eq!(machine.check(IoType::Read, 0, 512), None);
}

#[test]
fn rules_added_later_wait_for_their_event() {
    let mut machine = machine(vec![InjectError { sector: Some(1), ..inject(Event::None) }], vec![]);
    let later = InjectError { event: Event::None, ..inject(Event::None) };
    machine.add(Rules { inject_error: vec![later], set_state: vec![] });
    assert_eq!(errno(&mut machine, IoType::Read, 8), None);
    assert_eq!(errno(&mut machine, IoType::Read, 1), Some(5));
}
