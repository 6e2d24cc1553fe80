//! The filter on system calls.
//!
//! Knows: how the table of calls becomes a filter, and how that is put on every thread. Must not
//! know: why a call is allowed. Invariant: a filter that is up stays up, and holds for every thread
//! there is and every one to come.

use std::collections::BTreeMap;

use clap::ValueEnum;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter_all_threads,
};

use super::calls::{self, When};

/// What becomes of a call that is not in the table. The words are virtiofsd's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum SeccompMode {
    /// The process ends by SIGSYS.
    #[default]
    Kill,
    /// It is carried out, and the kernel's log tells of it.
    Log,
    /// No filter.
    None,
}

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// It cannot be built for this machine.
    #[error("no filter for this architecture ({0}): use --seccomp none")]
    Build(#[from] seccompiler::BackendError),
    /// The kernel does not take it.
    #[error("the kernel takes no filter ({0}): use --seccomp none where it has no seccomp")]
    Install(#[from] seccompiler::Error),
}

/// Put the filter on every thread of the process. Sets `no_new_privs`.
///
/// # Errors
/// [`SeccompError`]; nothing is filtered then.
pub fn install(mode: SeccompMode) -> Result<(), SeccompError> {
    let otherwise = match mode {
        SeccompMode::None => return Ok(()),
        SeccompMode::Log => SeccompAction::Log,
        SeccompMode::Kill => SeccompAction::KillProcess,
    };
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = SeccompFilter::new(rules()?, otherwise, SeccompAction::Allow, arch)?;
    let filter = BpfProgram::try_from(filter)?;
    // First, because putting up a filter is no call of the table.
    apply_filter_all_threads(&without_clone3(arch)?)?;
    apply_filter_all_threads(&filter)?;
    Ok(())
}

/// Its arguments lie in memory, where a filter does not look. Where the kernel has none, the C
/// library uses `clone`, whose arguments can be checked.
fn without_clone3(arch: TargetArch) -> Result<BpfProgram, seccompiler::BackendError> {
    let rules = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let enosys = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    BpfProgram::try_from(SeccompFilter::new(rules, SeccompAction::Allow, enosys, arch)?)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn rules() -> Result<Rules, seccompiler::BackendError> {
    calls::allowed().map(|call| Ok((call.number, chain(call.when)?))).collect()
}

/// Any of these lets a call pass; none at all lets every call pass.
fn chain(when: When) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let equals = |(argument, value)| condition(argument, SeccompCmpOp::Eq, value);
    let rule = |conditions: Vec<_>| SeccompRule::new(conditions);
    match when {
        When::Always => Ok(Vec::new()),
        When::OneOf(argument, values) => {
            values.iter().map(|value| rule(vec![equals((argument, *value))?])).collect()
        }
        When::Both(one, other) => Ok(vec![rule(vec![equals(one)?, equals(other)?])?]),
        When::Bits(argument, mask, value) => {
            Ok(vec![rule(vec![condition(argument, SeccompCmpOp::MaskedEq(mask), value)?])?])
        }
        When::OwnProcess(argument) => {
            Ok(vec![rule(vec![equals((argument, u64::from(std::process::id())))?])?])
        }
    }
}

fn condition(
    argument: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_call_is_in_the_table_once_and_with_a_reason() {
        let mut seen = BTreeSet::new();
        for call in calls::allowed() {
            assert!(seen.insert(call.number), "{} is there twice", call.name);
            assert!(!call.why.is_empty(), "{}", call.name);
        }
        assert_eq!(seen.len(), rules().unwrap().len());
    }

    #[test]
    fn a_filter_fits_the_kernel() {
        /// `BPF_MAXINSNS`.
        const INSTRUCTIONS_MAX: usize = 4096;
        let filter = SeccompFilter::new(
            rules().unwrap(),
            SeccompAction::KillProcess,
            SeccompAction::Allow,
            TargetArch::try_from(std::env::consts::ARCH).unwrap(),
        );
        let program = BpfProgram::try_from(filter.unwrap()).unwrap();
        assert!((100..INSTRUCTIONS_MAX).contains(&program.len()), "{}", program.len());
    }
}
