//! The system calls that a daemon at work makes, each with its reason.
//!
//! Knows: what this program, its crates, Rust's standard library and the C library ask of the kernel
//! once the guard is up, which includes all that a command can cause: images opened, exports added,
//! threads started, memory of a front end mapped. Must not know: how a filter is built. Invariants:
//! nothing here starts a program, makes code of memory, or changes who the process is; nothing but
//! `io_uring_setup` opens a way to the network; a call that could do more than it is here for has its
//! arguments checked, as far as they are in registers.
//!
//! What a ring may do is not in the registers of `io_uring_setup`. The daemon restricts each of its own
//! before the first entry; code that was made to do another's bidding could make another ring without
//! restrictions, and that one opens files and sockets, within the sandbox if there is one. The calls are in
//! the table because `blockdev-add` may ask for io_uring at any time. Where that is too much, serve all
//! disks with `--aio threads` and forbid rings on the host (sysctl `kernel.io_uring_disabled`).

/// A call that may be made.
#[derive(Debug, Clone, Copy)]
pub struct Allowed {
    /// Its number on this architecture.
    pub number: i64,
    /// `SYS_` and its name.
    pub name: &'static str,
    /// With which arguments.
    pub when: When,
    /// What for.
    pub why: &'static str,
}

/// The arguments with which a call may be made.
#[derive(Debug, Clone, Copy)]
pub enum When {
    /// Any.
    Always,
    /// The argument of this index, of 32 bits, is one of these.
    OneOf(u8, &'static [u64]),
    /// So are these two.
    Both((u8, u64), (u8, u64)),
    /// In the argument of this index, these bits (the first number) are as in the second.
    Bits(u8, u64, u64),
    /// The argument of this index is this process's id.
    OwnProcess(u8),
}

use When::{Always, Bits, Both, OneOf, OwnProcess};

macro_rules! table {
    ($($call:ident $when:expr, $why:literal;)*) => {
        &[$(Allowed { number: libc::$call, name: stringify!($call), when: $when, why: $why }),*]
    };
}

/// A number of the C library as the kernel compares it: 32 bits, unsigned.
const fn word(value: i32) -> u64 {
    value.cast_unsigned() as u64
}

const EXEC: u64 = word(libc::PROT_EXEC);
/// What `pthread_create` asks for; musl adds `CLONE_DETACHED`, which does nothing.
const THREAD: u64 = word(
    libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM
        | libc::CLONE_SETTLS
        | libc::CLONE_PARENT_SETTID
        | libc::CLONE_CHILD_CLEARTID,
);
const ALL_BUT_DETACHED: u64 = !word(libc::CLONE_DETACHED) & 0xffff_ffff;
const DESCRIPTOR_COMMANDS: &[u64] = &[
    word(libc::F_DUPFD_CLOEXEC),
    word(libc::F_GETFD),
    word(libc::F_SETFD),
    word(libc::F_GETFL),
    word(libc::F_SETFL),
    word(libc::F_OFD_SETLK),
    word(libc::F_OFD_GETLK),
    word(libc::F_ADD_SEALS),
    word(libc::F_GET_SEALS),
];
/// `FIONBIO`, and of `linux/fs.h`: `BLKROGET`, `BLKSSZGET`, `BLKPBSZGET`.
const DEVICE_QUESTIONS: &[u64] = &[0x5421, 0x125e, 0x1268, 0x127b];
const FAULTS: &[u64] = &[word(libc::SIGBUS), word(libc::SIGSEGV), word(libc::SIGABRT)];
/// `IORING_REGISTER_PROBE`, `IORING_REGISTER_RESTRICTIONS`, `IORING_REGISTER_ENABLE_RINGS`.
const RING_REGISTRATIONS: &[u64] = &[8, 11, 12];

/// The calls on every architecture.
const COMMON: &[Allowed] = table! {
    // Images, and later files of state.
    SYS_openat Always, "images of blockdev-add and blockdev-reopen, their directories, sysfs";
    SYS_close Always, "every descriptor";
    SYS_statx Always, "what an image is, and how long; where a file is mounted";
    SYS_newfstatat Always, "fstat of the C library";
    SYS_fstat Always, "fstat of rustix";
    SYS_fstatfs Always, "whether an image is in memory, on a disk or elsewhere";
    SYS_lseek Always, "the length of a block device";
    SYS_pread64 Always, "image data where io_uring is not used; the alignment probe; mounts";
    SYS_preadv Always, "image data where io_uring is not used";
    SYS_pwritev Always, "image data where io_uring is not used";
    SYS_preadv2 Always, "image data that is in memory; eventfds that may not wait";
    SYS_fdatasync Always, "flushes where io_uring is not used";
    SYS_fallocate Always, "discards and zeroes where io_uring is not used; the probe for both";
    SYS_ftruncate Always, "block_resize; memory of our own to share";
    SYS_flock Always, "the turn to replace a stale socket";
    SYS_fcntl OneOf(1, DESCRIPTOR_COMMANDS), "image locks, blocking or not, copies, seals";
    SYS_ioctl OneOf(1, DEVICE_QUESTIONS), "sockets that do not block; block sizes of a device";
    SYS_io_uring_setup Always, "a ring for each worker (see above)";
    SYS_io_uring_enter Always, "image data";
    SYS_io_uring_register OneOf(1, RING_REGISTRATIONS), "what a ring can and may do";
    // Sockets of front ends and operators.
    SYS_socket OneOf(0, &[word(libc::AF_UNIX)]), "exports added later; systemd's notice";
    SYS_socketpair OneOf(0, &[word(libc::AF_UNIX)]), "the relay of a connection";
    SYS_bind Always, "exports added later";
    SYS_listen Always, "exports added later";
    SYS_connect Always, "whether anybody listens at a path; systemd's notice";
    SYS_accept4 Always, "front ends and operators";
    SYS_getpeername Always, "whether an inherited socket is connected";
    SYS_getsockopt OneOf(1, &[word(libc::SOL_SOCKET)]), "the kind of an inherited socket";
    SYS_setsockopt Both((1, word(libc::IPPROTO_TCP)), (2, word(libc::TCP_NODELAY))), "operators on TCP";
    SYS_recvfrom Always, "operators";
    SYS_recvmsg Always, "front ends, with the descriptors they pass";
    SYS_sendto Always, "operators; systemd's notice";
    SYS_sendmsg Always, "front ends";
    SYS_shutdown Always, "front ends that must go";
    SYS_fchmod Always, "a socket's mode, before it has a path";
    SYS_fchownat Always, "a socket's group";
    SYS_unlinkat Always, "sockets and the pidfile at the end; files of state";
    SYS_renameat Always, "files of state that replace their elders";
    // Waiting and waking.
    SYS_read Always, "eventfds, timers, small files";
    SYS_write Always, "eventfds, sockets, the log";
    SYS_writev Always, "the C library's last words";
    SYS_epoll_create1 Always, "one place to wait for each thread";
    SYS_epoll_ctl Always, "what to wait for";
    SYS_epoll_pwait Always, "waiting";
    SYS_ppoll Always, "waiting for one socket";
    SYS_eventfd2 Always, "waking a thread";
    SYS_timerfd_create Always, "delays";
    SYS_timerfd_settime Always, "delays";
    SYS_futex Always, "locks and channels";
    SYS_clock_nanosleep Always, "short rests";
    SYS_restart_syscall Always, "the kernel's own, after SIGSTOP and SIGCONT";
    SYS_clock_gettime Always, "the time where the vDSO does not tell it";
    SYS_sched_yield Always, "locks that spin for a moment";
    // Memory.
    SYS_mmap Bits(2, EXEC, 0), "guest memory, rings, stacks, the heap; never code";
    SYS_mprotect Bits(2, EXEC, 0), "stacks and the heap; never code";
    SYS_munmap Always, "what was mapped";
    SYS_mremap Always, "large buffers that grow";
    SYS_madvise Always, "memory given back; guest memory left out of core dumps";
    SYS_brk Always, "the heap";
    SYS_memfd_create Always, "memory of our own to share with a front end";
    // Threads.
    SYS_clone Bits(0, ALL_BUT_DETACHED, THREAD), "threads, and nothing but threads";
    SYS_clone3 Always, "answered ENOSYS by a filter of its own, so that clone is used";
    SYS_set_robust_list Always, "a thread begins";
    SYS_rseq Always, "a thread begins";
    SYS_sigaltstack Always, "a thread begins and ends: a stack to report overflows on";
    SYS_sched_getaffinity Always, "a thread begins: where its stack is";
    SYS_prctl OneOf(0, &[word(libc::PR_SET_NAME), word(libc::PR_SET_VMA)]), "names of threads and memory";
    SYS_prlimit64 OneOf(2, &[0]), "limits are asked for, and never set";
    SYS_gettid Always, "a thread's own number";
    SYS_getpid Always, "this process's own number";
    SYS_getrandom Always, "seeds of hash maps";
    SYS_exit Always, "a thread ends";
    SYS_exit_group Always, "the end";
    // When something is wrong.
    SYS_rt_sigprocmask Always, "a thread begins and ends; abort";
    SYS_rt_sigaction OneOf(0, FAULTS), "guest memory that is not there; abort";
    SYS_rt_sigreturn Always, "the end of a signal handler";
    SYS_tgkill OwnProcess(0), "abort and raise, in this process only";
    SYS_getcwd Always, "the backtrace of a panic";
};

/// The older spellings that x86-64 alone has, as far as they are used.
#[cfg(target_arch = "x86_64")]
const OF_ARCHITECTURE: &[Allowed] = table! {
    SYS_epoll_wait Always, "waiting";
    SYS_unlink Always, "sockets and the pidfile at the end";
    SYS_rename Always, "files of state that replace their elders";
    SYS_chmod Always, "a socket's mode for its group";
    SYS_readlink Always, "what a descriptor is; the backtrace of a panic";
};
/// What the others have instead.
#[cfg(not(target_arch = "x86_64"))]
const OF_ARCHITECTURE: &[Allowed] = table! {
    SYS_fchmodat Always, "a socket's mode for its group";
    SYS_readlinkat Always, "what a descriptor is; the backtrace of a panic";
};

/// What musl spells in another way than glibc.
#[cfg(all(target_env = "musl", target_arch = "x86_64"))]
const OF_LIBRARY: &[Allowed] = table! {
    SYS_open Always, "as openat";
    SYS_stat Always, "as newfstatat";
    SYS_lstat Always, "as newfstatat";
    SYS_tkill Always, "abort and raise";
};
#[cfg(all(target_env = "musl", not(target_arch = "x86_64")))]
const OF_LIBRARY: &[Allowed] = table! {
    SYS_tkill Always, "abort and raise";
};
#[cfg(not(target_env = "musl"))]
const OF_LIBRARY: &[Allowed] = &[];

/// Every call that may be made.
pub fn allowed() -> impl Iterator<Item = &'static Allowed> {
    COMMON.iter().chain(OF_ARCHITECTURE).chain(OF_LIBRARY)
}
