//! The requests that a worker has at the image, by head.
//!
//! Knows: which head has one. Must not know: what requests are. Invariant: a head has at most one. An idle
//! descriptor takes two bytes; a request's room is made when so many are in flight for the first time,
//! and used again.

/// What a head has that has none.
const NONE: u16 = u16::MAX;

/// Values of type `T`, at most one a head.
#[derive(Debug)]
pub(super) struct InFlight<T> {
    /// By head: where its value is.
    place_of: Vec<u16>,
    values: Vec<Option<T>>,
    free: Vec<u16>,
}

impl<T> InFlight<T> {
    /// For so many heads, fewer than 2^16 - 1.
    pub(super) fn new(heads: u16) -> Self {
        Self { place_of: vec![NONE; heads.into()], values: Vec::new(), free: Vec::new() }
    }

    /// How many heads have one.
    pub(super) fn len(&self) -> usize {
        self.values.len() - self.free.len()
    }

    pub(super) fn has(&self, head: u16) -> bool {
        self.place_of.get(usize::from(head)).is_some_and(|place| *place != NONE)
    }

    /// Give a head its value. One that it had is lost, and one for a head that there is not.
    pub(super) fn insert(&mut self, head: u16, value: T) {
        self.take(head);
        let Some(place_of) = self.place_of.get_mut(usize::from(head)) else {
            return;
        };
        let place = self.free.pop().unwrap_or_else(|| {
            self.values.push(None);
            // There are never more of them than heads.
            u16::try_from(self.values.len() - 1).unwrap_or(NONE)
        });
        self.values[usize::from(place)] = Some(value);
        *place_of = place;
    }

    /// Take a head's value away.
    pub(super) fn take(&mut self, head: u16) -> Option<T> {
        self.take_if(head, |_| true)
    }

    /// Take a head's value away, if it is like that.
    pub(super) fn take_if(&mut self, head: u16, is: impl FnOnce(&T) -> bool) -> Option<T> {
        let place_of = self.place_of.get_mut(usize::from(head))?;
        let place = *place_of;
        let value = self.values.get_mut(usize::from(place))?.take_if(|value| is(value))?;
        *place_of = NONE;
        self.free.push(place);
        Some(value)
    }

    /// All heads that there are.
    pub(super) fn heads(&self) -> std::ops::Range<u16> {
        0..u16::try_from(self.place_of.len()).unwrap_or(NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_has_what_it_was_given_until_it_is_taken() {
        let mut all = InFlight::new(4);
        assert_eq!(all.heads(), 0..4);
        for round in 0..3 {
            for head in [3, 0, 2] {
                assert!(!all.has(head));
                all.insert(head, (round, head));
                assert!(all.has(head));
            }
            assert_eq!(all.len(), 3);
            assert_eq!(all.take_if(2, |_| false), None);
            assert_eq!(all.take_if(2, |value| *value == (round, 2)), Some((round, 2)));
            assert_eq!((all.take(2), all.take(1), all.take(9)), (None, None, None));
            assert_eq!((all.take(0), all.take(3)), (Some((round, 0)), Some((round, 3))));
            assert_eq!(all.len(), 0);
        }
        assert_eq!(all.values.len(), 3, "room for as many as there were at once");
    }

    #[test]
    fn heads_that_there_are_not_have_nothing() {
        let mut all = InFlight::new(2);
        all.insert(2, ());
        all.insert(u16::MAX, ());
        assert!(!all.has(2) && !all.has(u16::MAX));
        assert_eq!(all.len(), 0);
    }
}
