//! What a write must contain for a rule to match.
//!
//! Knows: bytes under a mask at a place in the payload. Must not know: where the payload is; it is
//! asked for through [`Payload`] only when everything else matches. Invariant: a pattern that
//! exists tests at least one bit.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The data of a write, read only if a rule asks.
pub trait Payload {
    /// Fill all of `into` with the payload's bytes from this offset on. False, with anything in
    /// `into`, where the payload does not have them.
    fn read(&self, offset_bytes: u64, into: &mut [u8]) -> bool;
}

/// No data: reads, flushes and discards.
#[derive(Debug, Clone, Copy)]
pub struct NoPayload;

impl Payload for NoPayload {
    fn read(&self, _offset_bytes: u64, _into: &mut [u8]) -> bool {
        false
    }
}

impl Payload for &[u8] {
    fn read(&self, offset_bytes: u64, into: &mut [u8]) -> bool {
        let start = usize::try_from(offset_bytes).ok();
        let range = start.and_then(|start| Some(start..start.checked_add(into.len())?));
        let Some(bytes) = range.and_then(|range| self.get(range)) else {
            return false;
        };
        into.copy_from_slice(bytes);
        true
    }
}

/// Longest pattern, bytes.
pub const PATTERN_BYTES_MAX: usize = 512;

/// Bytes to look for. Few rules have any, so it is small where there is none.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Content(Box<Written>);

/// Why there is no such pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadContent {
    /// No bytes, or too many.
    #[error("'bytes' expects 1 to {PATTERN_BYTES_MAX} bytes")]
    Bytes,
    /// A mask of another length.
    #[error("'mask' expects as many bytes as 'bytes'")]
    Mask,
    /// A mask that tests nothing.
    #[error("'mask' expects at least one bit")]
    MaskEmpty,
    /// A block that does not hold the pattern.
    #[error("'block-size' expects at least 'offset' plus the length of 'bytes'")]
    Block,
}

impl Content {
    /// A pattern at an offset from the start of the write or, with `block_bytes`, from the start of
    /// every block of the disk that the write has (4096 for a JBD2 commit block on most ext4). The
    /// mask's set bits are compared; without one all are.
    ///
    /// # Errors
    /// A pattern that is empty, too long, masked away, or that does not fit the block.
    pub fn new(
        offset_bytes: u64,
        block_bytes: Option<u64>,
        bytes: Vec<u8>,
        mask: Option<Vec<u8>>,
    ) -> Result<Self, BadContent> {
        if bytes.is_empty() || bytes.len() > PATTERN_BYTES_MAX {
            return Err(BadContent::Bytes);
        }
        let mask = mask.unwrap_or_else(|| vec![0xff; bytes.len()]);
        if mask.len() != bytes.len() {
            return Err(BadContent::Mask);
        }
        if mask.iter().all(|bits| *bits == 0) {
            return Err(BadContent::MaskEmpty);
        }
        let end = offset_bytes.checked_add(bytes.len() as u64).ok_or(BadContent::Block)?;
        if block_bytes.is_some_and(|block| block < end) {
            return Err(BadContent::Block);
        }
        Ok(Self(Box::new(Written { offset_bytes, block_bytes, bytes, mask })))
    }

    /// Where the pattern is, from the start of the write or of a block.
    #[must_use]
    pub fn offset_bytes(&self) -> u64 {
        self.0.offset_bytes
    }

    /// The blocks that are looked into, bytes; `None` for the start of the write only.
    #[must_use]
    pub fn block_bytes(&self) -> Option<u64> {
        self.0.block_bytes
    }

    /// What is looked for.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// The bits of it that count.
    #[must_use]
    pub fn mask(&self) -> &[u8] {
        &self.0.mask
    }

    /// Whether a write of so many bytes at this offset of the disk has the pattern.
    pub(in crate::fault) fn is_in(&self, payload: &dyn Payload, at_bytes: u64, bytes: u64) -> bool {
        let Some(block_bytes) = self.0.block_bytes else {
            return self.is_at(payload, self.0.offset_bytes);
        };
        let Some(start) = at_bytes.checked_next_multiple_of(block_bytes) else {
            return false;
        };
        let first = start - at_bytes;
        let blocks = bytes.saturating_sub(first).div_ceil(block_bytes);
        (0..blocks)
            .any(|block| self.is_at(payload, first + block * block_bytes + self.0.offset_bytes))
    }

    fn is_at(&self, payload: &dyn Payload, offset_bytes: u64) -> bool {
        let mut found = [0; PATTERN_BYTES_MAX];
        let Some(found) = found.get_mut(..self.0.bytes.len()) else {
            return false;
        };
        let same = |((found, wanted), mask): ((&u8, &u8), &u8)| (found ^ wanted) & mask == 0;
        payload.read(offset_bytes, found)
            && found.iter().zip(&self.0.bytes).zip(&self.0.mask).all(same)
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x?} & {:02x?} at {}", self.0.bytes, self.0.mask, self.0.offset_bytes)?;
        self.0.block_bytes.map_or(Ok(()), |block| write!(f, " of each {block}"))
    }
}

/// A pattern as it is written down.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    offset_bytes: u64,
    block_bytes: Option<u64>,
    bytes: Vec<u8>,
    mask: Vec<u8>,
}

impl TryFrom<Written> for Content {
    type Error = BadContent;

    fn try_from(written: Written) -> Result<Self, BadContent> {
        let Written { offset_bytes, block_bytes, bytes, mask } = written;
        Self::new(offset_bytes, block_bytes, bytes, Some(mask))
    }
}

impl From<Content> for Written {
    fn from(content: Content) -> Self {
        *content.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Magic, then block type 2, big endian (`journal_header_t`, `JBD2_COMMIT_BLOCK`).
    const COMMIT_BLOCK: [u8; 8] = [0xc0, 0x3b, 0x39, 0x98, 0, 0, 0, 2];

    fn in_blocks() -> Content {
        Content::new(0, Some(4096), COMMIT_BLOCK.to_vec(), None).unwrap()
    }

    #[test]
    fn a_commit_block_is_found_in_any_block_of_a_write() {
        let mut data = vec![0; 3 * 4096];
        assert!(!in_blocks().is_in(&data.as_slice(), 8192, data.len() as u64));
        data[8192..8200].copy_from_slice(&COMMIT_BLOCK);
        assert!(in_blocks().is_in(&data.as_slice(), 8192, data.len() as u64));
        // The same bytes, shifted on the disk: no block begins with them.
        assert!(!in_blocks().is_in(&data.as_slice(), 512, data.len() as u64));
    }

    #[test]
    fn only_masked_bits_are_compared() {
        let content = Content::new(1, None, vec![0xf0, 0x01], Some(vec![0xf0, 0x0f])).unwrap();
        assert!(content.is_in(&[9, 0xfa, 0xa1].as_slice(), 0, 3));
        assert!(!content.is_in(&[9, 0xea, 0xa1].as_slice(), 0, 3));
        assert!(!content.is_in(&[9, 0xfa].as_slice(), 0, 2), "the payload ends before the pattern");
    }

    #[test]
    fn patterns_that_test_nothing_are_refused() {
        let new = Content::new;
        assert_eq!(new(0, None, vec![], None), Err(BadContent::Bytes));
        assert_eq!(new(0, None, vec![1], Some(vec![])), Err(BadContent::Mask));
        assert_eq!(new(0, None, vec![1], Some(vec![0])), Err(BadContent::MaskEmpty));
        assert_eq!(new(4095, Some(4096), vec![1, 2], None), Err(BadContent::Block));
        assert_eq!(new(u64::MAX, None, vec![1], None), Err(BadContent::Block));
    }
}
