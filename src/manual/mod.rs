//! The manual: what every fault means, where QEMU differs, what is promised, how it is tested.
//!
//! Text only. Each page says what is true of this version, and names the test that shows it.

#[doc = include_str!("fault_model.md")]
pub mod fault_model {}

#[doc = include_str!("qemu_differences.md")]
pub mod qemu_differences {}

#[doc = include_str!("promises.md")]
pub mod promises {}

#[doc = include_str!("testing.md")]
pub mod testing {}
