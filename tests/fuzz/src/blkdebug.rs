//! blkdebug's rules: written down, and the naive model of QEMU's code that the fault scripts use.

use std::fmt::Write;

use blkfault::errno::Errno;
use blkfault::fault::IoType;
use blkfault::fault::blkdebug::Rules;

#[path = "../../support/blkdebug/model.rs"]
pub mod model;

/// A request as the model takes it.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub iotype: IoType,
    pub sector: u64,
    pub sectors: u64,
}

/// A config file that says these rules.
pub fn config_text(rules: &Rules) -> String {
    let mut text = String::new();
    for rule in &rules.inject_error {
        let on_off = |on| if on { "on" } else { "off" };
        let errno = rule.errno.map_or(0, Errno::number);
        let _ = write!(
            text,
            "[inject-error]\nevent = \"{}\"\nstate = \"{}\"\nerrno = \"{errno}\"\n\
             delay-ns = \"{}\"\nonce = \"{}\"\nimmediately = \"{}\"\n",
            rule.event,
            rule.state,
            rule.delay_ns,
            on_off(rule.once),
            on_off(rule.immediately)
        );
        if let Some(iotype) = rule.iotype {
            let _ = writeln!(text, "iotype = \"{}\"", iotype.name());
        }
        if let Some(sector) = rule.sector {
            let _ = writeln!(text, "sector = \"{sector}\"");
        }
    }
    for rule in &rules.set_state {
        let _ = write!(
            text,
            "[set-state]\nevent = \"{}\"\nstate = \"{}\"\nnew_state = \"{}\"\n",
            rule.event, rule.state, rule.new_state
        );
    }
    text
}
