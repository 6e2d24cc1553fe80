//! The rights of root in pieces, given up.
//!
//! Knows: capabilities(7). Must not know: what they were needed for. Invariant: afterwards the
//! thread, and every thread that it starts, has the capabilities that were to be kept and no way to
//! any other, whatever it may execute.

use std::fmt;
use std::io;
use std::str::FromStr;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

/// Capabilities to keep, as virtiofsd writes them: `+dac_override:+chown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept(CapabilitySet);

impl Default for Kept {
    fn default() -> Self {
        Self(CapabilitySet::empty())
    }
}

/// A list of capabilities that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' keeps no capability: accepted is +NAME, or several with colons, where NAME is a \
     capability in the words of capabilities(7) without CAP_, such as +dac_override:+chown"
)]
pub struct BadCapability(String);

impl FromStr for Kept {
    type Err = BadCapability;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let one = |item: &str| {
            let name = item.strip_prefix('+').map(str::to_ascii_uppercase);
            let known = name.and_then(|name| CapabilitySet::from_name(&name));
            known.ok_or_else(|| BadCapability(item.to_owned()))
        };
        text.split(':').map(one).collect::<Result<CapabilitySet, _>>().map(Self)
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self
            .0
            .iter_names()
            .map(|(name, _)| format!("+{}", name.to_ascii_lowercase()))
            .collect();
        f.write_str(&names.join(":"))
    }
}

/// What this thread may do now.
pub(super) fn held() -> io::Result<CapabilitySet> {
    Ok(capabilities(None)?.effective)
}

/// Give up, in this thread, all capabilities but these, and every way to get others. Those that this
/// thread does not have are not kept.
///
/// # Errors
/// What the host says.
pub(super) fn drop_all_but(kept: Kept) -> io::Result<()> {
    set_no_new_privs(true)?;
    drop_from_bounding_set(kept.0)?;
    let _ = clear_ambient_capability_set();
    let kept = kept.0 & capabilities(None)?.permitted;
    let sets =
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets)?;
    Ok(())
}

/// What `execve` could give back at most. Only a thread with `CAP_SETPCAP` may change it; for others
/// `no_new_privs` does the same.
fn drop_from_bounding_set(kept: CapabilitySet) -> io::Result<()> {
    if !held()?.contains(CapabilitySet::SETPCAP) {
        return Ok(());
    }
    for capability in (0..u64::BITS).map(|bit| CapabilitySet::from_bits_retain(1 << bit)) {
        // Beyond the last one that the kernel knows.
        let Ok(is_in) = capability_is_in_bounding_set(capability) else { break };
        if is_in && !kept.contains(capability) {
            remove_capability_from_bounding_set(capability)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_as_they_are_written() {
        for text in ["+dac_override", "+chown:+dac_override"] {
            assert_eq!(text.parse::<Kept>().unwrap().to_string(), text);
        }
        assert_eq!("+CHOWN".parse::<Kept>().unwrap().to_string(), "+chown");
        for bad in ["", "dac_override", "-chown", "+", "+root", "+chown:", "+cap_chown", "+_"] {
            let error = bad.parse::<Kept>().unwrap_err().to_string();
            assert!(error.contains("such as +dac_override"), "{error}");
        }
    }

    /// In a thread of its own, whose capabilities are its own affair.
    #[test]
    fn what_is_given_up_does_not_come_back() {
        std::thread::spawn(|| {
            drop_all_but(Kept::default()).unwrap();
            let left = capabilities(None).unwrap();
            for set in [left.effective, left.permitted, left.inheritable] {
                assert_eq!(set, CapabilitySet::empty());
            }
            assert!(rustix::thread::no_new_privs().unwrap());
            let back = CapabilitySets { permitted: CapabilitySet::CHOWN, ..left };
            set_capabilities(None, back).unwrap_err();
        })
        .join()
        .unwrap();
    }
}
