//! x
pub(crate) const CASES: &[crate::Case] = &[];
