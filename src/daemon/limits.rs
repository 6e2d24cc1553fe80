//! What names and sizes may be, for whoever checks them first.
//!
//! Pure. The command line checks by these what the commands it makes would refuse, so that it can say
//! which option was wrong.

/// The largest disk: byte offsets are signed in the host's interfaces.
pub const SIZE_MAX_BYTES: u64 = (i64::MAX as u64) / 512 * 512;
/// The smallest and the largest logical block, in bytes. Linux before 6.15 takes no more than a page.
pub const LOGICAL_BLOCK_BYTES: [u64; 2] = [512, 4096];
/// The longest node name, as in QEMU (`BDRV_NODE_NAME` is 32 bytes with its NUL).
const NODE_NAME_MAX: usize = 31;

/// Whether a node may have this name: QEMU's `id_wellformed`.
///
/// # Errors
/// What would be accepted.
pub fn check_node_name(name: &str) -> Result<(), String> {
    let follows = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
    if begins && name.chars().all(follows) && name.len() <= NODE_NAME_MAX {
        return Ok(());
    }
    Err(format!(
        "expected a letter, then letters, digits, '-', '.' or '_', at most {NODE_NAME_MAX} in all"
    ))
}
