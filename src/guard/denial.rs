//! Why the host refused a path: what the daemon gave up, as far as that can be the reason.
//!
//! Knows: what was permitted and which file that was, who the process is, and which capability it
//! dropped. Must not know: what the path is for. Invariant: what cannot be the reason is not named.

use std::fmt::Write;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::paths::{self, Need, Permitted};

/// Which file: its device and inode.
type Place = (u64, u64);

/// What the path was wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// To read it.
    Read,
    /// To read and write it, or to make it.
    All,
}

/// What must be remembered from the time when everything could be looked at.
#[derive(Debug)]
pub(super) struct Denials {
    /// Under landlock: what was let in, and which file that was.
    sandbox: Option<Vec<(Permitted, Place)>>,
    /// CAP_DAC_OVERRIDE was dropped.
    pub(super) obeys_modes: bool,
    user: u32,
    groups: Vec<u32>,
}

impl Denials {
    /// What holds for a process that drops nothing. `permitted`: what the sandbox lets in, if there is
    /// one.
    pub(super) fn new(permitted: Option<&[Permitted]>) -> Self {
        let mut groups: Vec<u32> = rustix::process::getgroups().map_or_else(
            |_| Vec::new(),
            |groups| groups.into_iter().map(rustix::process::Gid::as_raw).collect(),
        );
        groups.push(rustix::process::getegid().as_raw());
        let placed = |permitted: &Permitted| {
            let place = place(&permitted.path.metadata().ok()?);
            Some((permitted.clone(), place))
        };
        Self {
            sandbox: permitted.map(|all| all.iter().filter_map(placed).collect()),
            obeys_modes: false,
            user: rustix::process::geteuid().as_raw(),
            groups,
        }
    }

    /// What to add to a message about this path, which the host refused for want of permission.
    pub(super) fn explain(&self, path: &Path, want: Want) -> String {
        let mut text = String::new();
        if let Some(permitted) = &self.sandbox {
            explain_sandbox(&mut text, permitted, path, want);
        }
        if self.obeys_modes && !self.mode_lets(path, want) {
            text.push_str(
                "; the daemon dropped its capabilities when it had started, so that the file's \
                 own permissions hold for root too: --modcaps +dac_override keeps this one",
            );
        }
        text
    }

    /// Whether owner, group and mode let this process read (and write) a file, or make one there, and
    /// get to it.
    fn mode_lets(&self, path: &Path, want: Want) -> bool {
        const SEARCH: u32 = 1;
        let of_file = if want == Want::Read { 0o4 } else { 0o6 };
        let own = match path.metadata() {
            Ok(metadata) if metadata.is_dir() => self.has(&metadata, 0o3),
            Ok(metadata) => self.has(&metadata, of_file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                paths::directory(path).metadata().is_ok_and(|metadata| self.has(&metadata, 0o3))
            }
            Err(_) => false,
        };
        let above = path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty());
        let searchable =
            |above: &Path| above.metadata().is_ok_and(|metadata| self.has(&metadata, SEARCH));
        own && above.into_iter().all(searchable)
    }

    fn has(&self, metadata: &Metadata, wanted: u32) -> bool {
        let class = match metadata {
            _ if metadata.uid() == self.user => 6,
            _ if self.groups.contains(&metadata.gid()) => 3,
            _ => 0,
        };
        metadata.mode() >> class & wanted == wanted
    }
}

fn place(metadata: &Metadata) -> Place {
    (metadata.dev(), metadata.ino())
}

fn explain_sandbox(text: &mut String, permitted: &[(Permitted, Place)], path: &Path, want: Want) {
    let place_now = path.metadata().ok().map(|metadata| place(&metadata));
    // A file is known again under any name; a directory permits what is in it.
    let is_let_in = permitted.iter().any(|(permitted, place)| match permitted.need {
        Need::Image => place_now == Some(*place),
        Need::Anything | Need::State => lies_in(path, *place),
        Need::Read => want == Want::Read && place_now == Some(*place),
        Need::Sockets => false,
    });
    if is_let_in {
        return;
    }
    let is_named = |(permitted, _): &&(Permitted, Place)| is_same_path(&permitted.path, path);
    if permitted.iter().any(|named| is_named(&named) && Some(named.1) != place_now) {
        let directory = paths::directory(path);
        let _ = write!(
            text,
            "; the daemon runs with --sandbox landlock, which lets it open the file that was here \
             when it started, and another has taken its place: --allow-path '{}' at its start lets \
             it open whatever is in that directory",
            directory.display()
        );
        return;
    }
    text.push_str("; the daemon runs with --sandbox landlock, which lets it open ");
    text.push_str(&paths::tell(permitted.iter().map(|(permitted, _)| permitted)));
    text.push_str(": --allow-path PATH at its start adds another");
}

/// Whether a path is this directory's or file's, or lies below it.
fn lies_in(path: &Path, of: Place) -> bool {
    let real = path.canonicalize().or_else(|_| paths::directory(path).canonicalize());
    let real = real.unwrap_or_else(|_| path.to_owned());
    real.ancestors().any(|above| above.metadata().is_ok_and(|metadata| place(&metadata) == of))
}

/// Whether two paths are the same name in the same directory.
fn is_same_path(one: &Path, other: &Path) -> bool {
    let directory = |path: &Path| -> Option<PathBuf> { paths::directory(path).canonicalize().ok() };
    one == other
        || (one.file_name() == other.file_name()
            && directory(one).is_some_and(|one| Some(one) == directory(other)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    fn denials(permitted: Option<&[Permitted]>, user: u32) -> Denials {
        Denials { obeys_modes: true, user, groups: Vec::new(), ..Denials::new(permitted) }
    }

    #[test]
    fn a_message_names_what_refused_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let [named, other] = ["named", "other"].map(|name| folder.path().join(name));
        for path in [&named, &other] {
            fs::write(path, "").unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
        }
        let mine = fs::metadata(&named).unwrap().uid();
        let permitted = [Permitted { path: named.clone(), need: Need::Image }];
        let (sandboxed, free) = (Some(&permitted[..]), None);
        for (user, sandbox, path, lists, mode) in [
            (mine, sandboxed, &other, true, false),
            (mine + 1, sandboxed, &other, true, true),
            (mine + 1, sandboxed, &named, false, true),
            (mine, free, &other, false, false),
            (mine + 1, free, &other, false, true),
        ] {
            let text = denials(sandbox, user).explain(path, Want::All);
            assert_eq!(text.contains("which lets it open '"), lists, "{text}");
            assert_eq!(text.contains("--modcaps +dac_override"), mode, "{text}");
        }
    }

    #[test]
    fn a_file_that_took_another_s_place_is_told_to_be_another() {
        let folder = tempfile::tempdir().unwrap();
        let [named, new] = ["named", "new"].map(|name| folder.path().join(name));
        fs::write(&named, "").unwrap();
        let permitted = [Permitted { path: named.clone(), need: Need::Image }];
        let denials = Denials::new(Some(&permitted));
        assert_eq!(denials.explain(&named, Want::All), "");
        fs::write(&new, "").unwrap();
        fs::rename(&new, &named).unwrap();
        let text = denials.explain(&named, Want::All);
        assert!(text.contains("another has taken its place: --allow-path '"), "{text}");
        assert!(!text.contains("(an image)"), "{text}");
    }
}
