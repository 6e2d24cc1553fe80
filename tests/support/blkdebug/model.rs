//! A naive blkdebug: lists that are walked, as QEMU's C code walks them, for an image without
//! size options. Written from QEMU's source, not from the engine; it shares only the rule types.

use std::collections::{BTreeMap, VecDeque};

use blkfault::fault::IoType;
use blkfault::fault::blkdebug::{Event, InjectError, IoTypeWord, Rules, SetState};

use super::Asked;

#[derive(Debug, Clone)]
enum ModelRule {
    Inject(usize, InjectError),
    Set(SetState),
}

/// blkdebug with raw on top.
#[derive(Debug)]
pub struct Model {
    state: i32,
    rules: BTreeMap<Event, VecDeque<ModelRule>>,
    active: VecDeque<(usize, InjectError)>,
    write_gen: u64,
    flushed_gen: u64,
    /// The last request was a discard that QEMU leaves out without telling.
    pub left_out: bool,
}

impl Model {
    pub fn open(rules: &Rules) -> Self {
        let mut model = Self {
            state: 1,
            rules: BTreeMap::new(),
            active: VecDeque::new(),
            write_gen: 0,
            flushed_gen: 0,
            left_out: false,
        };
        for (id, rule) in rules.inject_error.iter().enumerate() {
            model.insert(rule.event, ModelRule::Inject(id, rule.clone()));
        }
        for rule in &rules.set_state {
            model.insert(rule.event, ModelRule::Set(*rule));
        }
        model.event(Event::None);
        model
    }

    pub fn state(&self) -> i32 {
        self.state
    }

    /// QLIST_INSERT_HEAD.
    fn insert(&mut self, event: Event, rule: ModelRule) {
        self.rules.entry(event).or_default().push_front(rule);
    }

    /// `blkdebug_co_debug_event`.
    fn event(&mut self, event: Event) {
        let mut new_state = self.state;
        let mut injected = 0;
        for rule in self.rules.entry(event).or_default().iter() {
            let wanted = match rule {
                ModelRule::Inject(_, rule) => rule.state,
                ModelRule::Set(rule) => rule.state,
            };
            if wanted != 0 && wanted != self.state {
                continue;
            }
            match rule {
                ModelRule::Inject(id, rule) => {
                    injected += 1;
                    if injected == 1 {
                        self.active.clear();
                    }
                    self.active.push_front((*id, rule.clone()));
                }
                ModelRule::Set(rule) => new_state = rule.new_state,
            }
        }
        self.state = new_state;
    }

    /// `rule_check`: 0 or an error number.
    fn rule_check(&mut self, iotype: IoType, offset: u64, bytes: u64) -> i32 {
        let hit = self.active.iter().find(|(_, rule)| {
            let at = match rule.sector {
                None => true,
                Some(sector) => {
                    bytes > 0 && sector * 512 >= offset && sector * 512 < offset + bytes
                }
            };
            let typed = match rule.iotype {
                None => true,
                Some(IoTypeWord::BlockStatus) => false,
                Some(IoTypeWord::Io(wanted)) => wanted == iotype,
            };
            at && typed
        });
        let Some((id, rule)) = hit.cloned() else { return 0 };
        let Some(errno) = rule.errno else { return 0 };
        if rule.once {
            self.active.retain(|(other, _)| *other != id);
            for rules in self.rules.values_mut() {
                rules.retain(|rule| !matches!(rule, ModelRule::Inject(other, _) if *other == id));
            }
        }
        errno.number()
    }

    /// A request from a guest, to its end: 0 or an error number.
    pub fn request(&mut self, asked: &Asked) -> i32 {
        const ENOTSUP: i32 = 95;
        let (offset, bytes) = (asked.sector * 512, asked.sectors * 512);
        self.left_out = false;
        match asked.iotype {
            IoType::Read => {
                self.event(Event::ReadAio);
                self.rule_check(IoType::Read, offset, bytes)
            }
            IoType::Write => {
                self.event(Event::WriteAio);
                self.event(Event::Pwritev);
                let errno = self.rule_check(IoType::Write, offset, bytes);
                self.event(Event::PwritevDone);
                self.write_gen += 1;
                errno
            }
            IoType::WriteZeroes => {
                self.event(Event::PwritevZero);
                let mut errno = self.rule_check(IoType::WriteZeroes, offset, bytes);
                if errno == ENOTSUP {
                    errno = self.rule_check(IoType::Write, offset, bytes);
                }
                self.event(Event::PwritevDone);
                self.write_gen += 1;
                if errno == ENOTSUP {
                    // raw's own fallback: it writes zeroes.
                    return self.request(&Asked { iotype: IoType::Write, ..*asked });
                }
                errno
            }
            IoType::Discard => {
                let errno = self.rule_check(IoType::Discard, offset, bytes);
                self.write_gen += 1;
                self.left_out = errno == ENOTSUP;
                if self.left_out { 0 } else { errno }
            }
            IoType::GetId => 0,
            IoType::Flush => {
                self.event(Event::FlushToOs);
                if self.write_gen == self.flushed_gen {
                    return 0;
                }
                self.event(Event::FlushToDisk);
                let errno = self.rule_check(IoType::Flush, 0, 0);
                if errno == 0 {
                    self.flushed_gen = self.write_gen;
                }
                errno
            }
        }
    }
}
