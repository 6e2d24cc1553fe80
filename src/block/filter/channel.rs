//! Verdicts carried out: one queue's way past the faults of its disk.
//!
//! Knows: which requests ask, pass, fail, wait and come back. Must not know: how a verdict is
//! reached, or who releases. Invariants: every op ends exactly once, unless its front end is being
//! disconnected, and then when its ring stops, or it is kept for another channel; a request that
//! waits keeps no thread; with nothing armed a request costs one load and no system call.

use std::collections::HashMap;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::fault_point::{
    Answer, Go, InForce, Key, Link, Mail, Next, Question, Shared, Standing, Stopping, after,
};
use super::super::{Channel, Completion, OnError, Op, OpKind, Ticket};
use super::carried::{Carried, Wait, Waiting, WaitingRoom};
use super::timers::Timers;
use crate::errno::Errno;
use crate::fault::engine::Then;

/// One worker's way through the filter.
pub(super) struct FilterChannel {
    below: Box<dyn Channel>,
    shared: Arc<Shared>,
    link: Arc<Link>,
    in_force: InForce,
    /// Requests taken and not ended.
    depth: u32,
    /// Kept requests that are at the image.
    at_image: HashMap<Ticket, Carried>,
    waiting: WaitingRoom,
    timers: Timers,
    /// Ops that ended since the last poll.
    ended: Vec<Completion>,
    /// Room for what the image has ended.
    done: Vec<Completion>,
    /// A kept request was sent below since the last commit.
    uncommitted: bool,
    /// What it does not answer is submitted again to another channel.
    is_resumed: bool,
    /// The ring stops, and what becomes of waits.
    stopping: Option<Stopping>,
    /// Ops that another channel takes up, since somebody asked.
    kept: Vec<Ticket>,
    /// Requests in `ended` whose standing is remembered.
    ending: Vec<(u16, u64)>,
    /// Those that the last polls gave out.
    told: Vec<(u16, u64)>,
}

impl FilterChannel {
    pub(super) fn new(below: Box<dyn Channel>, shared: Arc<Shared>) -> io::Result<Self> {
        let link = Arc::new(Link::new()?);
        let timers = Timers::new()?;
        shared.add_link(&link);
        Ok(Self {
            below,
            in_force: shared.in_force(),
            shared,
            link,
            depth: 0,
            at_image: HashMap::new(),
            waiting: WaitingRoom::new(),
            timers,
            ended: Vec::new(),
            done: Vec::new(),
            uncommitted: false,
            is_resumed: false,
            stopping: None,
            kept: Vec::new(),
            ending: Vec::new(),
            told: Vec::new(),
        })
    }

    fn ask(&self, question: Question, op: &Op) -> Answer {
        self.shared.ask(question, op, &self.link, self.stopping)
    }

    /// Carry a request on until it is at the image, waits or has ended.
    fn carry(&mut self, mut carried: Carried, mut question: Question) {
        loop {
            let Answer { next, passage } = self.ask(question, &carried.op);
            question = match (next, carried.result) {
                (Next::Pass, None) => {
                    carried.passage = Some(passage);
                    return self.send(carried);
                }
                (Next::Pass, Some(result)) => return self.end(carried, result),
                // Only where a stopping ring lets nobody be held: what is known stays true.
                (Next::Fail(_), Some(_)) => Question::GoOn(passage),
                (Next::Fail(errno), None) => {
                    carried.result = Some(Err(errno));
                    self.shared.count_failed(&carried.op);
                    Question::Finished(passage, Err(errno), true)
                }
                (Next::Keep, _) => return self.keep(carried),
                (Next::Skip, _) => Question::GoOn(passage),
                (Next::Delay(key, ends, then), _) => {
                    carried.passage = Some(passage);
                    return self.wait(key, carried, Wait::Delayed(ends, then));
                }
                (Next::Hold(key, at_most, then), _) => {
                    carried.passage = Some(passage);
                    let wait = Wait::Held(at_most.map(after), then);
                    return self.wait(key, carried, wait);
                }
                (Next::Lose(key), _) => {
                    carried.passage = Some(passage);
                    return self.wait(key, carried, Wait::Lost);
                }
            };
        }
    }

    fn wait(&mut self, key: Key, mut carried: Carried, wait: Wait) {
        // Whoever stops again lets the next one go; a delay is no stop.
        let baton = carried.baton.take();
        if matches!(wait, Wait::Delayed(..)) {
            carried.baton = baton;
        }
        if let Some(at) = wait.deadline() {
            self.timers.add(at, key);
        }
        self.waiting.insert(key, Box::new(Waiting { carried, wait }));
    }

    /// Send a kept request to the image; one that asks it nothing is done.
    fn send(&mut self, mut carried: Carried) {
        if matches!(carried.op.kind, OpKind::GetId) {
            carried.result = Some(Ok(()));
            return self.finish(carried, Ok(()), true);
        }
        self.below.submit(carried.op.share());
        self.uncommitted = true;
        self.at_image.insert(carried.op.ticket, carried);
    }

    fn end(&mut self, carried: Carried, result: Result<(), Errno>) {
        if self.is_resumed {
            self.ending.push((carried.op.queue, carried.op.ordinal));
        }
        self.ended.push(carried.op.complete(result));
    }

    /// Leave a request to another channel.
    fn keep(&mut self, carried: Carried) {
        self.depth = self.depth.saturating_sub(1);
        self.link.set_depth(self.depth);
        self.kept.push(carried.op.ticket);
    }

    /// What the image said about a kept request.
    fn came_back(&mut self, mut carried: Carried, result: Result<(), Errno>) {
        if let (Err(errno), None | Some(Stopping::Keep)) = (result, self.stopping)
            && let Some(key) = self.shared.hold_on_error(&carried.op, errno, &self.link)
        {
            if self.stopping.is_some() {
                self.shared.forget(&self.link);
                return self.keep(carried);
            }
            return self.wait(key, carried, Wait::ImageError(errno));
        }
        let standing = carried.standing.take();
        if let Some((standing, (known, _))) =
            standing.and_then(|s| s.result.map(|result| (s, result)))
        {
            // It was done before, and what was decided then stands; only the data was missing.
            carried.result = Some(result.and(known));
            return self.carry(carried, Question::of(standing));
        }
        carried.result = Some(result);
        self.finish(carried, result, false);
    }

    fn finish(&mut self, mut carried: Carried, result: Result<(), Errno>, decided: bool) {
        match carried.passage.take() {
            Some(passage) => self.carry(carried, Question::Finished(passage, result, decided)),
            None => self.end(carried, result),
        }
    }

    /// A request's wait is over.
    fn go(&mut self, mut waiting: Waiting, go: Go) {
        let Waiting { carried, wait } = &mut waiting;
        match (go, *wait, carried.passage.take()) {
            (Go::On, Wait::ImageError(_), passage) => {
                carried.passage = passage;
                self.send(waiting.carried);
            }
            (Go::On, _, Some(passage)) => self.carry(waiting.carried, Question::GoOn(passage)),
            (Go::Fail(errno), wait, passage) => {
                carried.passage = passage;
                carried.result = Some(Err(errno));
                if !matches!(wait, Wait::ImageError(_)) {
                    self.shared.count_failed(&carried.op);
                }
                let decided = !matches!(wait, Wait::ImageError(_));
                self.finish(waiting.carried, Err(errno), decided);
            }
            // Only the engine makes a request wait otherwise, and it gives a passage.
            (Go::On, _, None) => self.send(waiting.carried),
        }
    }

    /// Take one out of the waiting room, with its moment.
    fn wake(&mut self, key: Key) -> Option<Waiting> {
        let waiting = self.waiting.remove(&key)?;
        if let Some(at) = waiting.wait.deadline() {
            self.timers.remove(at, key);
        }
        Some(*waiting)
    }

    fn take_mail(&mut self) {
        for mail in self.link.take_mail() {
            match mail {
                Mail::Sooner { key, ends } => self.advance(key, ends),
                // One that is not here any more drops its baton: the next is released.
                Mail::Released { key, go, baton } => {
                    if let Some(mut waiting) = self.wake(key) {
                        // A delay is no stop: one that was ended keeps its own.
                        waiting.carried.baton = baton.or(waiting.carried.baton.take());
                        self.go(waiting, go);
                    }
                }
            }
        }
    }

    /// A delay ends earlier than it was to.
    fn advance(&mut self, key: Key, ends: Instant) {
        if let Some(waiting) = self.waiting.get_mut(&key)
            && let Wait::Delayed(at, _) = &mut waiting.wait
        {
            self.timers.remove(*at, key);
            self.timers.add(ends, key);
            *at = ends;
        }
    }

    fn take_due(&mut self) {
        for key in self.timers.due() {
            let Some(waiting) = self.waiting.get_mut(&key) else {
                continue;
            };
            let then = match &mut waiting.wait {
                Wait::Delayed(_, then) => *then,
                Wait::Held(deadline, then) => {
                    *deadline = None;
                    *then
                }
                Wait::ImageError(_) | Wait::Lost => continue,
            };
            if !self.shared.take_back(key) {
                // It was released just now; the mail about it is on its way.
                continue;
            }
            if let Some(waiting) = self.waiting.remove(&key) {
                self.go(*waiting, then.into());
            }
        }
    }

    /// Hear from the image.
    fn hear(&mut self) {
        let mut done = std::mem::take(&mut self.done);
        self.below.poll(&mut done);
        if self.at_image.is_empty() {
            self.ended.append(&mut done);
        }
        for completion in done.drain(..) {
            match self.at_image.remove(&completion.ticket) {
                Some(carried) => self.came_back(carried, completion.result),
                None => self.ended.push(completion),
            }
        }
        self.done = done;
    }

    /// Start what was sent below since the last time; true if there was anything.
    fn start(&mut self) -> bool {
        let any = std::mem::take(&mut self.uncommitted);
        if any {
            self.below.commit();
        }
        any
    }

    fn is_concerned(&self, op: &Op) -> bool {
        self.in_force.armed.as_ref().is_some_and(|armed| armed.may_match(&op.io()))
    }
}

impl FilterChannel {
    fn begin(&mut self) {
        self.depth += 1;
        self.link.set_depth(self.depth);
        if self.shared.is_newer_than(self.in_force.generation) {
            self.in_force = self.shared.in_force();
        }
    }

    /// Go on with a request where it stands.
    fn take_up(&mut self, op: Op, standing: Standing) {
        let mut carried = Carried::new(op);
        match (standing.go, standing.result) {
            (Some(Go::Fail(errno)), _) => {
                carried.result = Some(Err(errno));
                carried.passage = Some(standing.passage);
                self.shared.count_failed(&carried.op);
                self.finish(carried, Err(errno), true);
            }
            (_, None) => self.carry(carried, Question::of(Box::new(standing))),
            (_, Some((result, true))) => {
                carried.result = Some(result);
                self.carry(carried, Question::of(Box::new(standing)));
            }
            (_, Some((_, false))) => {
                carried.standing = Some(Box::new(standing));
                self.send(carried);
            }
        }
    }
}

impl Channel for FilterChannel {
    fn take_up(&mut self, queue: u16, ordinals: &[u64]) {
        self.is_resumed = true;
        self.shared.take_up(&self.link, queue, ordinals);
    }

    fn submit_again(&mut self, op: Op) {
        match self.shared.standing(&op) {
            Some(standing) => {
                self.begin();
                self.take_up(op, standing);
            }
            None => self.submit(op),
        }
    }

    fn submit(&mut self, op: Op) {
        self.begin();
        if self.is_concerned(&op) {
            return self.carry(Carried::new(op), Question::Decide);
        }
        if self.in_force.on_error != OnError::Report || matches!(op.kind, OpKind::GetId) {
            return self.send(Carried::new(op));
        }
        self.below.submit(op);
    }

    fn commit(&mut self) {
        self.uncommitted = false;
        self.below.commit();
        self.timers.set();
    }

    fn poll(&mut self, done: &mut Vec<Completion>) {
        self.take_mail();
        self.take_due();
        loop {
            self.hear();
            // What came back may have been sent again, and may have ended at once.
            if !self.start() {
                break;
            }
        }
        self.timers.set();
        let ended = u32::try_from(self.ended.len()).unwrap_or(u32::MAX);
        if ended > 0 {
            self.depth = self.depth.saturating_sub(ended);
            self.link.set_depth(self.depth);
            done.append(&mut self.ended);
            self.told.append(&mut self.ending);
        }
    }

    fn ends_at_once(&self) -> bool {
        self.below.ends_at_once()
    }

    fn has_ended(&mut self) -> bool {
        self.below.has_ended()
    }

    fn next_moment(&self) -> Option<Instant> {
        self.timers.next().into_iter().chain(self.below.next_moment()).min()
    }

    fn wake_early(&mut self, lead: Duration) {
        self.timers.wake_early(lead);
        self.below.wake_early(lead);
    }

    fn answered(&mut self) {
        if !self.told.is_empty() {
            self.shared.forget_standings(&std::mem::take(&mut self.told));
        }
    }

    fn wake_fds(&self) -> Vec<BorrowedFd<'_>> {
        let mut fds = self.below.wake_fds();
        fds.extend([self.link.wake_fd(), self.timers.wake_fd()]);
        fds
    }

    fn keep_held(&mut self) {
        // Who was released before the ring stopped goes on.
        self.take_mail();
        self.stopping = Some(Stopping::Keep);
        self.shared.forget(&self.link);
        self.timers.clear();
        for (_, waiting) in std::mem::take(&mut self.waiting) {
            self.keep(waiting.carried);
        }
    }

    fn take_kept(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.kept)
    }

    fn fail_held(&mut self, errno: Errno) {
        // Who was released before the ring stopped goes on.
        self.take_mail();
        self.stopping = Some(Stopping::Fail(errno));
        self.shared.forget(&self.link);
        self.timers.clear();
        for (_, waiting) in std::mem::take(&mut self.waiting) {
            self.stop(*waiting, errno);
        }
    }
}

impl FilterChannel {
    /// End a wait because the ring stops: a delay is cut short; whose result is known is told it.
    fn stop(&mut self, waiting: Waiting, errno: Errno) {
        let go = match (waiting.wait, waiting.carried.result) {
            (Wait::Delayed(_, Then::Fail(errno)), _) => Go::Fail(errno),
            (Wait::ImageError(errno), _) => Go::Fail(errno),
            (Wait::Delayed(_, Then::GoOn), _) | (_, Some(_)) => Go::On,
            (Wait::Held(..) | Wait::Lost, None) => Go::Fail(errno),
        };
        self.go(waiting, go);
    }
}

impl Drop for FilterChannel {
    fn drop(&mut self) {
        self.shared.remove_link(&self.link);
        // Batons in letters that nobody read go on to the next.
        drop(self.link.take_mail());
    }
}
