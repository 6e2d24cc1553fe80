//! Descriptors that a front end passes.
//!
//! Knows: what the kernel tells of a descriptor without a question to what is behind it. Must not know:
//! what a message wants with one. Invariants: nothing is asked of a file for which somebody else than
//! this host's kernel answers, a program (FUSE) or another host, because it may never answer; such a
//! file is told when it is closed, so that is left to threads of their own, of which there are few.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use rustix::fs::{AtFlags, StatxFlags, fcntl_get_seals, statx};

use super::bell;

/// Threads that close strangers of one disk at once, before it has enough of them.
const CLOSERS_MAX: usize = 8;
/// File systems that this host's kernel answers for alone. An overlay, as in containers, may lie over others,
/// but only where whoever may mount for this process wants it.
const LOCAL: [&str; 12] = [
    "tmpfs",
    "hugetlbfs",
    "ramfs",
    "ext4",
    "ext3",
    "ext2",
    "xfs",
    "btrfs",
    "f2fs",
    "bcachefs",
    "zfs",
    "overlay",
];
/// What the kernel calls a descriptor of memory that is a device.
const MEMORY_DEVICE: &str = "/dev/dax";

/// Why strangers are refused.
pub(super) const REFUSAL: &str = "a descriptor is of a file that somebody else may answer for: memory \
    is to be a memfd, or a file of tmpfs, hugetlbfs or a local disk's file system that is mounted \
    where this process sees it";

/// The descriptors of a message.
#[derive(Debug, Default)]
pub(super) struct Passed {
    ours: Vec<OwnedFd>,
    /// Those that nothing may be asked.
    strangers: Vec<OwnedFd>,
    closers: Arc<Closers>,
}

impl Passed {
    /// None yet. Strangers among those that come are closed by these.
    pub(super) fn closed_by(closers: Arc<Closers>) -> Self {
        Self { ours: Vec::new(), strangers: Vec::new(), closers }
    }

    pub(super) fn add(&mut self, descriptor: OwnedFd) {
        let kind = if is_ours(descriptor.as_fd()) { &mut self.ours } else { &mut self.strangers };
        kind.push(descriptor);
    }

    /// How many there are, strangers too.
    pub(super) fn count(&self) -> usize {
        self.ours.len() + self.strangers.len()
    }

    /// Whether there are some that nothing may be asked, and that are kept back.
    pub(super) fn has_strangers(&self) -> bool {
        !self.strangers.is_empty()
    }
}

/// Those of which anything may be asked.
impl Deref for Passed {
    type Target = [OwnedFd];

    fn deref(&self) -> &[OwnedFd] {
        &self.ours
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        if self.has_strangers() {
            Closers::close(&self.closers, std::mem::take(&mut self.strangers));
        }
    }
}

/// The threads that close one disk's strangers.
#[derive(Debug, Default)]
pub(super) struct Closers(AtomicUsize);

impl Closers {
    /// Whether there are so many that do not come back that no more strangers are to be let in.
    pub(super) fn are_stuck(&self) -> bool {
        self.0.load(Ordering::SeqCst) >= CLOSERS_MAX
    }

    fn close(closers: &Arc<Self>, strangers: Vec<OwnedFd>) {
        closers.0.fetch_add(1, Ordering::SeqCst);
        let closer = Closer(closers.clone());
        let close = move || {
            let _closer = closer;
            drop(strangers);
        };
        // Without a thread to be had, dropping the closure closes them here.
        let _ = std::thread::Builder::new().name("close".to_owned()).spawn(close);
    }
}

/// One closing that has not ended.
struct Closer(Arc<Closers>);

impl Drop for Closer {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether this host's kernel alone answers for what is behind a descriptor.
fn is_ours(descriptor: BorrowedFd<'_>) -> bool {
    // Memory has seals, or none that could be set; nothing else can be asked for them.
    fcntl_get_seals(descriptor).is_ok()
        || !bell::can_tell()
        || name(descriptor).is_some_and(|name| is_of_no_file_system(&name))
        || is_in_a_local_file_system(descriptor)
}

/// The kernel's own name for a descriptor.
fn name(descriptor: BorrowedFd<'_>) -> Option<String> {
    let name = std::fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd())).ok()?;
    name.into_os_string().into_string().ok()
}

/// No path of a file is like these.
fn is_of_no_file_system(name: &str) -> bool {
    name == bell::EVENTFD || ["socket:[", "pipe:["].iter().any(|kind| name.starts_with(kind))
}

fn is_in_a_local_file_system(descriptor: BorrowedFd<'_>) -> bool {
    // Of the mount nothing is known that would have to be asked for.
    let mount = StatxFlags::MNT_ID;
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let Ok(told) = statx(descriptor, c"", flags, mount) else {
        return false;
    };
    if told.stx_mask & mount.bits() == 0 {
        return false;
    }
    let mounts = Mounts::of_this_process().and_then(|mounts| mounts.read());
    let kind = mounts.as_deref().and_then(|mounts| kind_of_mount(mounts, told.stx_mnt_id));
    match kind {
        Some("devtmpfs") => name(descriptor).is_some_and(|name| name.starts_with(MEMORY_DEVICE)),
        Some(kind) => LOCAL.contains(&kind),
        None => false,
    }
}

/// The type of a mount's file system, by `mountinfo` of proc(5).
fn kind_of_mount(mounts: &str, id: u64) -> Option<&str> {
    mounts.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let its_id: u64 = mount.split(' ').next()?.parse().ok()?;
        (its_id == id).then(|| file_system.split(' ').next()).flatten()
    })
}

/// Open what a sandbox would not let be opened later.
pub fn open_beforehand() {
    let _ = Mounts::of_this_process();
}

/// The mounts that this process sees.
#[derive(Debug)]
struct Mounts(File);

impl Mounts {
    fn of_this_process() -> Option<&'static Self> {
        static MOUNTS: OnceLock<Option<Mounts>> = OnceLock::new();
        let open = || File::open("/proc/self/mountinfo").map(Mounts).ok();
        MOUNTS.get_or_init(open).as_ref()
    }

    /// As they are now.
    fn read(&self) -> Option<String> {
        let mut text = Vec::new();
        let mut part = [0; 4096];
        loop {
            match self.0.read_at(&mut part, text.len() as u64) {
                Ok(0) => return Some(String::from_utf8_lossy(&text).into_owned()),
                Ok(bytes) => text.extend(&part[..bytes]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use rustix::event::{EventfdFlags, eventfd};
    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;

    #[test]
    fn memory_and_what_a_ring_needs_is_ours() {
        let (one, _other) = UnixStream::pair().unwrap();
        let (out, _into) = std::io::pipe().unwrap();
        let ours: [(&str, OwnedFd); 5] = [
            ("a memfd", memfd_create("guest", MemfdFlags::CLOEXEC).unwrap()),
            ("an eventfd", eventfd(0, EventfdFlags::CLOEXEC).unwrap()),
            ("a socket", one.into()),
            ("a pipe", out.into()),
            ("a file in memory", tempfile::tempfile_in("/dev/shm").unwrap().into()),
        ];
        for (what, descriptor) in ours {
            assert!(is_ours(descriptor.as_fd()), "{what}");
        }
    }

    #[test]
    fn what_nobody_needs_is_a_strangers_and_closed_all_the_same() {
        let closers = Arc::<Closers>::default();
        let mut passed = Passed::closed_by(closers.clone());
        let (out, into) = std::io::pipe().unwrap();
        for path in ["/proc/self/status", "/dev/null"] {
            passed.add(File::open(path).unwrap().into());
        }
        passed.add(into.into());
        assert_eq!((passed.count(), passed.len(), passed.has_strangers()), (3, 1, true));
        drop(passed);
        while closers.0.load(Ordering::SeqCst) > 0 {
            std::thread::yield_now();
        }
        let end = std::io::read_to_string(out).unwrap();
        assert_eq!(end, "", "the other end of the pipe is closed");
    }

    #[test]
    fn the_type_of_a_mount_is_told_by_its_id() {
        let mounts = "22 27 0:21 / /proc rw,relatime - proc proc rw\n\
            27 1 254:0 / / rw shared:1 master:2 - ext4 /dev/vda rw\n\
            31 27 0:40 / /mnt/a\\040-\\040b rw - fuse.sshfs a:/ rw\n";
        let kinds = [22, 27, 31, 2].map(|id| kind_of_mount(mounts, id));
        assert_eq!(kinds, [Some("proc"), Some("ext4"), Some("fuse.sshfs"), None]);
    }
}
