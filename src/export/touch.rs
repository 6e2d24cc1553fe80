//! Small things in guest memory, read and written the short way.
//!
//! Knows: that nearly all of them lie in one region. Must not know: what they are. Invariants: each byte
//! is read once, whatever the guest writes meanwhile; what is written is marked as dirty.
//!
//! `vm-memory` has the same (`read_obj`, `write_obj`) by way of byte slices and a loop over regions, which
//! was an eighth of all that a worker did for 4 KiB reads of a cached file.

use vm_memory::guest_memory::GuestMemory as Memory;
use vm_memory::{ByteValued, Bytes, GuestAddress, Permissions, VolatileMemory};

use super::memory::GuestMemory;

/// Read an object. `None` if a part of it is not there.
pub(super) fn read<T: ByteValued>(memory: &GuestMemory, addr: u64) -> Option<T> {
    let bytes = size_of::<T>();
    let mut slices =
        Memory::get_slices(memory, GuestAddress(addr), bytes, Permissions::Read).ok()?;
    let mut slice = slices.next()?.ok()?;
    if slice.len() == bytes {
        return Some(slice.get_ref::<T>(0).ok()?.load());
    }
    let mut value = T::zeroed();
    let mut rest = value.as_mut_slice();
    loop {
        let (now, later) = rest.split_at_mut_checked(slice.len())?;
        slice.copy_to(now);
        if later.is_empty() {
            return Some(value);
        }
        rest = later;
        slice = slices.next()?.ok()?;
    }
}

/// Read bytes: 16 of them, as headers and segments have, the short way. `None` if one is not there.
pub(super) fn fill(memory: &GuestMemory, addr: u64, into: &mut [u8]) -> Option<()> {
    if let Ok(into) = <&mut [u8; 16]>::try_from(&mut *into) {
        *into = read::<u128>(memory, addr)?.to_ne_bytes();
        return Some(());
    }
    memory.read_slice(into, GuestAddress(addr)).ok()
}

/// Write a byte. `None` if it is not there.
pub(super) fn write_byte(memory: &GuestMemory, addr: u64, byte: u8) -> Option<()> {
    let mut slices = Memory::get_slices(memory, GuestAddress(addr), 1, Permissions::Write).ok()?;
    slices.next()?.ok()?.get_ref::<u8>(0).ok()?.store(byte);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 4096;

    /// Two regions side by side, and nothing after them.
    fn memory() -> GuestMemory {
        let regions = [(GuestAddress(0), PAGE), (GuestAddress(PAGE as u64), PAGE)];
        GuestMemory::from_ranges(&regions).unwrap()
    }

    #[test]
    fn an_object_is_the_same_wherever_regions_meet() {
        let (memory, object) = (memory(), 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100_u128);
        for addr in [0, 1, PAGE - 17, PAGE - 16, PAGE - 9, PAGE - 1, PAGE, 2 * PAGE - 16] {
            let addr = addr as u64;
            memory.write_obj(object, GuestAddress(addr)).unwrap();
            assert_eq!(read::<u128>(&memory, addr), Some(object), "at {addr}");
            for bytes in [16, 15] {
                let mut filled = vec![0; bytes];
                assert_eq!(fill(&memory, addr, &mut filled), Some(()));
                assert_eq!(filled, object.to_le_bytes()[..bytes], "{bytes} at {addr}");
            }
        }
    }

    #[test]
    fn what_is_not_all_there_is_nothing() {
        let memory = memory();
        for addr in [2 * PAGE as u64 - 15, 2 * PAGE as u64, u64::MAX - 7, u64::MAX] {
            assert_eq!(read::<u128>(&memory, addr), None, "at {addr}");
        }
        let last = 2 * PAGE as u64 - 1;
        assert_eq!(write_byte(&memory, last, 7), Some(()));
        assert_eq!(memory.read_obj::<u8>(GuestAddress(last)).unwrap(), 7);
        assert_eq!(write_byte(&memory, last + 1, 7), None);
        assert_eq!(write_byte(&memory, u64::MAX, 7), None);
    }
}
