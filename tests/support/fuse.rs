//! A file system of the host that fails on command.
//!
//! Knows: FUSE, one file `disk.img` in memory, which of its calls shall fail and how. Must not know:
//! who calls. Invariants: a call that is told to fail changes nothing; a call that is cut short does
//! what it says it did; a call that is late changes the file when it ends and not before; what is
//! durable is what the file held when a sync ended well.

#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test binary uses a part")]
#![allow(clippy::cast_possible_truncation, reason = "files here fit into memory")]

use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, InitFlags, KernelConfig, LockOwner, MountOption, OpenFlags,
    ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};
use tempfile::TempDir;

const IMAGE: INodeNo = INodeNo(2);
/// The kernel keeps nothing that it could ask for.
const TTL: Duration = Duration::ZERO;

/// Calls that nobody waits for in the kernel, at most.
const BACKGROUND: u16 = 256;

/// What a caller asks a file system for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    Read,
    Write,
    /// fsync and fdatasync.
    Sync,
    /// fallocate, whatever its mode.
    Allocate,
    /// A new length.
    Resize,
    /// A descriptor of the file is closed.
    Close,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It fails with this error number.
    Fail(i32),
    /// It moves less than it was asked to: how much comes from this seed and its number. Only
    /// reads and writes of more than a block.
    Short(u64),
    /// It is done, and answered, when the test lets it go. Only reads, writes and closes.
    Held,
}

/// Which calls of a class are meant, counted from 0 since the plan was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    Nth(u64),
    /// Each one but every third.
    Storm,
    Always,
}

/// What the file system is to do wrong.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub class: Class,
    pub when: When,
    pub trouble: Trouble,
}

/// What kind of file system it is.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// The kernel caches the file and writes back when it likes; otherwise every call arrives here.
    pub cached: bool,
    /// Reads and writes must be multiples of this: 1 takes anything.
    pub block_bytes: u64,
    /// Direct I/O that was asked for asynchronously needs no thread of the caller.
    pub async_direct: bool,
}

#[derive(Debug, Default)]
struct File {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    plan: Option<Plan>,
    /// Calls of the plan's class since it was made.
    calls: u64,
    /// Calls that the plan was carried out on.
    struck: u64,
    /// Calls that have been held and are not done yet.
    late: usize,
    /// They are not to be done yet.
    holding: bool,
}

impl File {
    fn judge(&mut self, class: Class) -> Option<Trouble> {
        let plan = self.plan.filter(|plan| plan.class == class)?;
        let number = self.calls;
        self.calls += 1;
        let meant = match plan.when {
            When::Nth(wanted) => number == wanted,
            When::Storm => number % 3 != 2,
            When::Always => true,
        };
        self.struck += u64::from(meant);
        meant.then_some(match plan.trouble {
            Trouble::Short(seed) => Trouble::Short(seed.wrapping_add(number)),
            other => other,
        })
    }

    fn range(&self, offset: u64, bytes: usize) -> Range<usize> {
        let end = self.bytes.len();
        let start = (offset as usize).min(end);
        start..start.saturating_add(bytes).min(end)
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        let end = offset as usize + data.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[offset as usize..end].copy_from_slice(data);
    }
}

#[derive(Debug, Default)]
struct Shared {
    file: Mutex<File>,
    let_go: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, File> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn let_go(&self) {
        self.lock().holding = false;
        self.let_go.notify_all();
    }
}

#[derive(Debug)]
struct Server {
    shape: Shape,
    shared: Arc<Shared>,
}

/// A part of `bytes` in whole blocks: not nothing, and not all of it where there are two blocks.
fn cut(bytes: usize, block_bytes: u64, seed: u64) -> usize {
    let block = block_bytes as usize;
    let blocks = bytes / block;
    if blocks < 2 {
        return bytes;
    }
    let random = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    (1 + random as usize % (blocks - 1)) * block
}

fn errno(number: i32) -> Errno {
    Errno::from_i32(number)
}

impl Server {
    fn misaligned(&self, offset: u64, bytes: usize) -> bool {
        let block = self.shape.block_bytes;
        !offset.is_multiple_of(block) || !(bytes as u64).is_multiple_of(block)
    }

    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let (kind, size) = match inode {
            INodeNo::ROOT => (FileType::Directory, 0),
            IMAGE => (FileType::RegularFile, self.shared.lock().bytes.len() as u64),
            _ => return None,
        };
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: 0o700,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn answer_attributes(&self, inode: INodeNo, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&TTL, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    /// Read later, and answer then.
    fn read_late(&self, offset: u64, bytes: usize, reply: ReplyData) {
        let shared = self.shared.clone();
        shared.lock().late += 1;
        std::thread::spawn(move || {
            let file = shared.lock();
            let held = shared.let_go.wait_while(file, |file| file.holding);
            let file = held.unwrap_or_else(PoisonError::into_inner);
            let data = file.bytes[file.range(offset, bytes)].to_vec();
            drop(file);
            // The answer is what moves the bytes: until then the read is late.
            reply.data(&data);
            shared.lock().late -= 1;
        });
    }

    /// Write later, and answer then.
    fn write_late(&self, offset: u64, data: Vec<u8>, reply: ReplyWrite) {
        let shared = self.shared.clone();
        shared.lock().late += 1;
        std::thread::spawn(move || {
            let file = shared.lock();
            let held = shared.let_go.wait_while(file, |file| file.holding);
            let mut file = held.unwrap_or_else(PoisonError::into_inner);
            file.write(offset, &data);
            file.late -= 1;
            drop(file);
            reply.written(data.len() as u32);
        });
    }
}

impl Filesystem for Server {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let wanted = [
            (self.shape.cached, InitFlags::FUSE_WRITEBACK_CACHE),
            (self.shape.async_direct, InitFlags::FUSE_ASYNC_DIO),
        ];
        for (_, flag) in wanted.iter().filter(|(wanted, _)| *wanted) {
            config
                .add_capabilities(*flag)
                .map_err(|_| io::Error::from(io::ErrorKind::Unsupported))?;
        }
        // Held calls must not keep others from arriving.
        let _ = config.set_max_background(BACKGROUND);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.attributes(IMAGE) {
            Some(image) if parent == INodeNo::ROOT && name == "disk.img" => {
                reply.entry(&TTL, &image, Generation(0));
            }
            _ => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.answer_attributes(inode, reply);
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<std::time::SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<std::time::SystemTime>,
        _chgtime: Option<std::time::SystemTime>,
        _bkuptime: Option<std::time::SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        if let Some(size) = size.filter(|_| inode == IMAGE) {
            let mut file = self.shared.lock();
            if let Some(Trouble::Fail(number)) = file.judge(Class::Resize) {
                return reply.error(errno(number));
            }
            file.bytes.resize(size as usize, 0);
        }
        self.answer_attributes(inode, reply);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let direct = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES;
        let flags = if self.shape.cached { FopenFlags::empty() } else { direct };
        reply.opened(FileHandle(0), flags);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        if self.shared.lock().judge(Class::Close).is_none() {
            return reply.ok();
        }
        let shared = self.shared.clone();
        std::thread::spawn(move || {
            drop(shared.let_go.wait_while(shared.lock(), |file| file.holding));
            reply.ok();
        });
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if self.misaligned(offset, size as usize) {
            return reply.error(Errno::EINVAL);
        }
        let mut file = self.shared.lock();
        let range = match file.judge(Class::Read) {
            Some(Trouble::Fail(number)) => return reply.error(errno(number)),
            Some(Trouble::Short(seed)) => {
                let asked = file.range(offset, size as usize).len();
                file.range(offset, cut(asked, self.shape.block_bytes, seed))
            }
            Some(Trouble::Held) => {
                drop(file);
                return self.read_late(offset, size as usize, reply);
            }
            None => file.range(offset, size as usize),
        };
        reply.data(&file.bytes[range]);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        if self.misaligned(offset, data.len()) {
            return reply.error(Errno::EINVAL);
        }
        let mut file = self.shared.lock();
        let moved = match file.judge(Class::Write) {
            Some(Trouble::Fail(number)) => return reply.error(errno(number)),
            Some(Trouble::Held) => {
                drop(file);
                return self.write_late(offset, data.to_vec(), reply);
            }
            Some(Trouble::Short(seed)) => cut(data.len(), self.shape.block_bytes, seed),
            None => data.len(),
        };
        file.write(offset, &data[..moved]);
        drop(file);
        reply.written(moved as u32);
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let mut file = self.shared.lock();
        if let Some(Trouble::Fail(number)) = file.judge(Class::Sync) {
            return reply.error(errno(number));
        }
        file.durable = file.bytes.clone();
        reply.ok();
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        _mode: i32,
        reply: ReplyEmpty,
    ) {
        let mut file = self.shared.lock();
        if let Some(Trouble::Fail(number)) = file.judge(Class::Allocate) {
            return reply.error(errno(number));
        }
        let range = file.range(offset, length as usize);
        file.bytes[range].fill(0);
        reply.ok();
    }
}

/// Nobody waits for what is held by a test that has ended.
impl Drop for Host {
    fn drop(&mut self) {
        self.plan(None);
        self.shared.let_go();
        // Also if the kernel has not yet closed the files of a process that was killed.
        let unmounted = Command::new("umount").arg("--lazy").arg(self.directory.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.directory.path().display());
        }
    }
}

/// The file system, mounted until it is dropped.
#[derive(Debug)]
pub struct Host {
    shared: Arc<Shared>,
    // Unmounted before its directory is removed: fields drop in their order.
    _session: BackgroundSession,
    directory: TempDir,
}

impl Host {
    /// Mount one, or tell why the host of this test cannot lend it.
    pub fn mount(shape: Shape) -> Result<Self, String> {
        if !PathBuf::from("/dev/fuse").exists() {
            return Err("there is no /dev/fuse".to_owned());
        }
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let shared = Arc::new(Shared::default());
        let server = Server { shape, shared: shared.clone() };
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("blkfault-test".to_owned())];
        let session = fuser::spawn_mount(server, directory.path(), &config)
            .map_err(|error| format!("FUSE: {error}"))?;
        Ok(Self { shared, _session: session, directory })
    }

    pub fn image(&self) -> PathBuf {
        self.directory.path().join("disk.img")
    }

    /// Begin again with nothing but zeroes, all of them durable, and no plan.
    pub fn begin(&self, bytes: u64) {
        self.plan(None);
        let file = std::fs::File::options().write(true).open(self.image()).expect("the image");
        file.set_len(0).and_then(|()| file.set_len(bytes)).expect("begin again");
        drop(file);
        let mut file = self.shared.lock();
        assert_eq!(file.bytes.len() as u64, bytes);
        file.durable = file.bytes.clone();
    }

    /// Go wrong like this from now on.
    pub fn plan(&self, plan: Option<Plan>) {
        let mut file = self.shared.lock();
        (file.plan, file.calls, file.struck) = (plan, 0, 0);
        file.holding |= plan.is_some_and(|plan| plan.trouble == Trouble::Held);
    }

    /// Let everything go that was held.
    pub fn let_go(&self) {
        self.shared.let_go();
    }

    /// How many calls the plan was carried out on.
    pub fn struck(&self) -> u64 {
        self.shared.lock().struck
    }

    /// How many calls have been held and are not done yet.
    pub fn late(&self) -> usize {
        self.shared.lock().late
    }

    /// What the file holds.
    pub fn content(&self) -> Vec<u8> {
        self.shared.lock().bytes.clone()
    }

    /// What would be left after a crash of the host.
    pub fn durable(&self) -> Vec<u8> {
        self.shared.lock().durable.clone()
    }
}
