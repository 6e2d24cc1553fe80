//! The shape of a request: what it wants and where, without its data.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a request does. The words are QEMU's `BlkdebugIOType`, and get-id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum IoType {
    /// `VIRTIO_BLK_T_IN`.
    Read,
    /// `VIRTIO_BLK_T_OUT`.
    Write,
    /// `VIRTIO_BLK_T_FLUSH`.
    Flush,
    /// `VIRTIO_BLK_T_DISCARD`.
    Discard,
    /// `VIRTIO_BLK_T_WRITE_ZEROES`.
    WriteZeroes,
    /// `VIRTIO_BLK_T_GET_ID`: met by those rules only that name it. It never gets to an image.
    GetId,
}

impl IoType {
    /// Every type that an image is asked for, in the order of the statistics: what is meant where
    /// no type is named.
    pub const ALL: [Self; 5] =
        [Self::Read, Self::Write, Self::Flush, Self::Discard, Self::WriteZeroes];
    /// Every type that a rule may name.
    pub const NAMED: [Self; 6] =
        [Self::Read, Self::Write, Self::Flush, Self::Discard, Self::WriteZeroes, Self::GetId];

    /// The name that operators use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Discard => "discard",
            Self::WriteZeroes => "write-zeroes",
            Self::GetId => "get-id",
        }
    }

    /// Whether such a request is about sectors.
    #[must_use]
    pub fn has_sectors(self) -> bool {
        !matches!(self, Self::Flush | Self::GetId)
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of request types.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(from = "Vec<IoType>", into = "Vec<IoType>")]
pub struct IoTypes(u8);

impl IoTypes {
    /// [`IoType::ALL`], so all but get-id.
    pub const ALL: Self = Self(0b1_1111);

    /// Whether the set has this type.
    #[must_use]
    pub fn contains(self, iotype: IoType) -> bool {
        self.0 & iotype.bit() != 0
    }

    /// The members, in the order of [`IoType::NAMED`].
    pub fn iter(self) -> impl Iterator<Item = IoType> {
        IoType::NAMED.into_iter().filter(move |iotype| self.contains(*iotype))
    }

    /// Whether the set has no member.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<IoType> for IoTypes {
    fn from_iter<T: IntoIterator<Item = IoType>>(iotypes: T) -> Self {
        Self(iotypes.into_iter().fold(0, |bits, iotype| bits | iotype.bit()))
    }
}

impl From<Vec<IoType>> for IoTypes {
    fn from(iotypes: Vec<IoType>) -> Self {
        iotypes.into_iter().collect()
    }
}

impl From<IoTypes> for Vec<IoType> {
    fn from(iotypes: IoTypes) -> Self {
        iotypes.iter().collect()
    }
}

impl fmt::Debug for IoTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// A request as the engine sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Io {
    /// What it does.
    pub iotype: IoType,
    /// First byte on the disk; 0 for a flush.
    pub offset_bytes: u64,
    /// Length in bytes; 0 for a flush.
    pub bytes: u64,
    /// Its place in the order in which the disk took requests, from 0.
    pub ordinal: u64,
    /// The virtqueue it came from.
    pub queue: u16,
}

/// Longest request that any guest can make, bytes: its used length has 32 bits.
const BYTES_MAX: u64 = 1 << 32;
/// No disk is longer, bytes.
const END_MAX: u64 = i64::MAX as u64;

/// A request as it is written down.
#[derive(Deserialize)]
struct Written {
    iotype: IoType,
    offset_bytes: u64,
    bytes: u64,
    ordinal: u64,
    queue: u16,
}

/// A request that nobody can have made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a request expects at most {BYTES_MAX} bytes, ending at most at {END_MAX}")]
struct BadIo;

impl TryFrom<Written> for Io {
    type Error = BadIo;

    fn try_from(written: Written) -> Result<Self, BadIo> {
        let Written { iotype, offset_bytes, bytes, ordinal, queue } = written;
        let end = offset_bytes.checked_add(bytes).filter(|end| *end <= END_MAX);
        if bytes > BYTES_MAX || end.is_none() {
            return Err(BadIo);
        }
        Ok(Self { iotype, offset_bytes, bytes, ordinal, queue })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_nobody_can_have_made_is_not_read() {
        let io = |offset_bytes, bytes| Io {
            iotype: IoType::Read,
            offset_bytes,
            bytes,
            ordinal: 1,
            queue: 2,
        };
        let read = |io: Io| serde_json::from_value::<Io>(serde_json::to_value(io).unwrap());
        assert_eq!(
            read(io(END_MAX - BYTES_MAX, BYTES_MAX)).unwrap(),
            io(END_MAX - BYTES_MAX, BYTES_MAX)
        );
        for bad in [io(0, BYTES_MAX + 1), io(END_MAX, 1), io(u64::MAX, 512)] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains("a request expects at most 4294967296 bytes"), "{error}");
        }
    }
}
