//! A real guest: QEMU with vhost-user-blk disks, Linux, and a shell that runs what the host sends.
//!
//! Knows: QEMU's command line, the guest of tests/support/guest-image and how it answers. Must not
//! know: who serves the disks, or what is tested. Invariant: everything has a deadline, and QEMU is
//! gone when its [`Vm`] is dropped, or when the thread that started it ends.

#![allow(dead_code, missing_docs, unreachable_pub, reason = "each test binary uses a part")]

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::daemon::tail;
use super::operator::Operator;

/// Longest that a boot or a script may take. Without KVM and on a busy machine a boot may well take
/// twenty seconds.
const WAIT: Duration = Duration::from_secs(240);

/// The guest's memory: 256 MiB and two pages. Seen: with 256 MiB, guests of QEMU 7.2 without KVM find
/// old bytes in their memory after they have migrated, with QEMU's own disks as well; with two pages
/// more they do not. Why is a guess: for memory in whole pieces of 256 KiB, QEMU goes through its
/// bitmap of written pages in another way, which may miss stores.
const MEMORY: &str = "262152k";

/// What the guest boots.
#[derive(Debug, Clone)]
pub struct Image {
    directory: PathBuf,
}

impl Image {
    /// The one named by `BLKFAULT_GUEST`; without it the story is left out, aloud.
    pub fn for_story(story: &str) -> Option<Self> {
        if let Some(directory) = std::env::var_os("BLKFAULT_GUEST") {
            return Some(Self { directory: directory.into() });
        }
        left_out(story, "BLKFAULT_GUEST names no guest (tests/run builds one)");
        None
    }

    /// Where its parts lie.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The accelerator that was found to work when the guest was built.
    fn accelerator(&self) -> String {
        let found = fs::read_to_string(self.directory.join("accel"));
        found.expect("a guest made by guest-image").trim().to_owned()
    }
}

/// The QEMU that runs the guests: the one named by `BLKFAULT_QEMU`, or the one that is installed.
fn program() -> OsString {
    std::env::var_os("BLKFAULT_QEMU").unwrap_or_else(|| "qemu-system-x86_64".into())
}

/// Options of a disk's character device by which QEMU connects again, as soon as it can: since 9.2
/// it counts in milliseconds.
pub fn reconnect() -> &'static str {
    static MILLISECONDS: OnceLock<bool> = OnceLock::new();
    let asks = || {
        let output = Command::new(program()).arg("--version").output().expect("QEMU's version");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let numbers = said.split_whitespace().nth(3).unwrap_or_default();
        let mut numbers = numbers.split('.').map(|number| number.parse::<u32>().expect("a number"));
        (numbers.next(), numbers.next()) >= (Some(9), Some(2))
    };
    if *MILLISECONDS.get_or_init(asks) { ",reconnect-ms=50" } else { ",reconnect=1" }
}

/// Say that a story is not told. The test harness does not keep this from the reader.
pub fn left_out(story: &str, reason: &str) {
    let line = format!("left out: {story}: {reason}\n");
    std::io::stderr().write_all(line.as_bytes()).expect("stderr");
}

/// What to build a machine of.
#[derive(Debug, Clone)]
pub struct Machine {
    cpus: u32,
    devices: Vec<String>,
}

impl Machine {
    /// One processor, no disk.
    pub fn new() -> Self {
        Self { cpus: 1, devices: Vec::new() }
    }

    /// As many processors; the disks added after this have as many queues.
    pub fn cpus(self, cpus: u32) -> Self {
        Self { cpus, ..self }
    }

    /// Another disk, `vda` for the first one: device `vd0` over the character device `vub0`.
    pub fn disk(self, socket: &Path) -> Self {
        self.disk_with(socket, "", "")
    }

    /// The same with more options (each led by a comma) of the character device and the device.
    pub fn disk_with(mut self, socket: &Path, chardev: &str, device: &str) -> Self {
        let number = self.devices.iter().filter(|word| *word == "-chardev").count();
        let queues = self.cpus;
        self.devices.extend([
            "-chardev".to_owned(),
            format!("socket,id=vub{number},path={}{chardev}", socket.display()),
            "-device".to_owned(),
            format!(
                "vhost-user-blk-pci,id=vd{number},chardev=vub{number},num-queues={queues}{device}"
            ),
        ]);
        self
    }

    /// More words for QEMU's command line.
    pub fn with(mut self, words: &[&str]) -> Self {
        self.devices.extend(words.iter().map(|&word| word.to_owned()));
        self
    }

    /// Start it and wait until the guest takes scripts.
    pub fn boot(&self, image: &Image) -> Vm {
        let mut vm = self.start(image);
        vm.wait_until_up();
        vm
    }

    /// Start it to be the destination of a guest that migrates from a machine built like it.
    pub fn wait_for_guest(&self, image: &Image) -> Vm {
        self.clone().with(&["-incoming", "defer"]).start(image)
    }

    fn start(&self, image: &Image) -> Vm {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| directory.path().join(name);
        // QEMU connects to these, so there is no moment at which it cannot be heard.
        let serial = UnixListener::bind(at("serial")).expect("a socket");
        let qmp = UnixListener::bind(at("qmp")).expect("a socket");
        let mut command = self.command(image, directory.path());
        let said = File::create(at("qemu.log")).expect("a log file");
        command.stdin(Stdio::null()).stdout(said.try_clone().expect("a log file")).stderr(said);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut process = Process { child, directory };
        let serial = process.accept(&serial);
        serial.set_read_timeout(Some(Duration::from_millis(200))).expect("timeout");
        let qemu = Operator::over(process.accept(&qmp));
        let (serial, line, transcript) = (BufReader::new(serial), Vec::new(), String::new());
        Vm { qemu, process, serial, line, transcript }
    }

    fn command(&self, image: &Image, directory: &Path) -> Command {
        let socket = |id: &str| format!("socket,id={id},path={}", directory.join(id).display());
        let console = directory.join("console");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program());
        command.args(["-nodefaults", "-no-user-config", "-display", "none"]);
        command.args(["-M", "q35,memory-backend=mem", "-accel", &image.accelerator()]);
        command.args(["-cpu", "max", "-smp", &self.cpus.to_string(), "-m", MEMORY]);
        let memory = format!("memory-backend-memfd,id=mem,size={MEMORY},share=on");
        command.args(["-object", &memory]);
        command.arg("-kernel").arg(image.directory.join("kernel"));
        command.arg("-initrd").arg(image.directory.join("initrd"));
        command.args(["-append", "console=ttyS0 quiet panic=-1 no_timer_check"]);
        command.args(["-chardev", &format!("file,id=console,path={}", console.display())]);
        command.args(["-serial", "chardev:console"]);
        command.args(["-chardev", &socket("serial"), "-serial", "chardev:serial"]);
        command.args(["-chardev", &socket("qmp"), "-mon", "chardev=qmp,mode=control"]);
        command.args(&self.devices);
        command
    }
}

/// QEMU as a process, with what it writes.
#[derive(Debug)]
struct Process {
    child: Child,
    directory: TempDir,
}

impl Process {
    /// The connection that QEMU makes to a socket of ours.
    fn accept(&mut self, listener: &UnixListener) -> UnixStream {
        listener.set_nonblocking(true).expect("a socket that does not block");
        let deadline = Instant::now() + WAIT;
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).expect("a socket that blocks");
                    return stream;
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
            }
            assert!(self.ended().is_none(), "QEMU ended at once");
            assert!(Instant::now() < deadline, "QEMU does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait")
    }

    /// What it has written to a file so far.
    fn said(&self, name: &str) -> String {
        let bytes = fs::read(self.directory.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("said by the guest's kernel:\n{}", tail(&self.said("console")));
            eprintln!("said by QEMU:\n{}", tail(&self.said("qemu.log")));
        }
    }
}

/// What a script came to.
#[derive(Debug)]
pub struct Answer {
    /// The shell's exit status.
    pub status: i32,
    /// Standard output and error together.
    pub output: String,
}

/// A machine that runs.
#[derive(Debug)]
pub struct Vm {
    /// QEMU's own monitor.
    pub qemu: Operator,
    process: Process,
    serial: BufReader<UnixStream>,
    line: Vec<u8>,
    transcript: String,
}

impl Vm {
    /// Wait until the guest is up: after a boot, a reboot, a reset.
    pub fn wait_until_up(&mut self) {
        while self.next_line("the guest to come up") != "@@READY" {}
    }

    /// Let the guest run a script, which ends within [`WAIT`].
    pub fn run(&mut self, script: &str) -> Answer {
        self.start(script);
        self.finish()
    }

    /// Let the guest run a script that must succeed; what it said.
    pub fn must(&mut self, script: &str) -> String {
        let answer = self.run(script);
        assert_eq!(answer.status, 0, "in the guest: {script}\n{}", answer.output);
        answer.output
    }

    /// Let the guest start a script; [`Self::finish`] waits for it. Each command of it is shown in
    /// the transcript, and the first that fails ends it.
    pub fn start(&mut self, script: &str) {
        assert!(script.len() < 4000, "the serial port's buffer holds no more");
        let text = format!("set -e\n{script}\n@@RUN\n");
        self.transcript.push_str(&text);
        self.serial.get_mut().write_all(text.as_bytes()).expect("send a script");
    }

    /// Wait until the script that was started has ended.
    pub fn finish(&mut self) -> Answer {
        let mut output = String::new();
        loop {
            let line = self.next_line("a script to end");
            assert_ne!(line, "@@READY", "the guest started anew in the middle of a script");
            if let Some(status) = line.strip_prefix("@@RC=") {
                let status = status.parse().expect("an exit status");
                return Answer { status, output: output.trim().to_owned() };
            }
            output.push_str(&line);
            output.push('\n');
        }
    }

    fn next_line(&mut self, what: &str) -> String {
        let deadline = Instant::now() + WAIT;
        loop {
            match self.serial.read_until(b'\n', &mut self.line) {
                Ok(0) => panic!("QEMU is gone, waiting for {what}"),
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    assert!(Instant::now() < deadline, "waited for {what} in vain");
                }
                Err(error) => panic!("serial port: {error}"),
            }
        }
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
        self.transcript.push_str(&line);
        line.trim_end().to_owned()
    }

    /// Move the guest, while it runs, to a machine that waits for it; call `meanwhile` again and again
    /// until it is there. What QEMU says of the migration. No script may run.
    pub fn migrate_to(&mut self, other: &mut Self, mut meanwhile: impl FnMut()) -> Value {
        let socket = format!("unix:{}", other.process.directory.path().join("guest").display());
        other.qemu.must("migrate-incoming", json!({ "uri": socket }));
        self.qemu.must("migrate", json!({ "uri": socket }));
        let deadline = Instant::now() + WAIT;
        loop {
            meanwhile();
            let told = self.qemu.must("query-migrate", json!({}));
            match told["status"].as_str() {
                Some("completed") => break self.has_moved_to(other, told),
                Some("failed" | "cancelled") | None => panic!("migration: {told}"),
                Some(_) => assert!(Instant::now() < deadline, "migration does not end: {told}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The source is through; the destination goes on in a moment.
    fn has_moved_to(&self, other: &mut Self, told: Value) -> Value {
        let deadline = Instant::now() + WAIT;
        while other.qemu.must("query-status", json!({}))["status"] != "running" {
            assert!(Instant::now() < deadline, "the guest does not go on where it went");
            std::thread::sleep(Duration::from_millis(5));
        }
        other.transcript = format!("{}(migrated)\n", self.transcript);
        told
    }

    /// QEMU's process.
    pub fn id(&self) -> u32 {
        self.process.child.id()
    }

    /// Wait until QEMU has ended, as it was told to.
    pub fn wait_ended(mut self) -> ExitStatus {
        let deadline = Instant::now() + WAIT;
        loop {
            if let Some(status) = self.process.ended() {
                return status;
            }
            assert!(Instant::now() < deadline, "QEMU does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What the kernel has said on its console.
    pub fn kernel_log(&self) -> String {
        self.process.said("console")
    }

    /// Kill QEMU, as a crash would.
    pub fn kill(mut self) {
        self.process.child.kill().expect("kill");
        self.process.child.wait().expect("wait");
    }

    /// Switch the guest off and wait until QEMU has ended by itself.
    pub fn power_off(mut self) -> ExitStatus {
        self.start("poweroff -f");
        self.wait_ended()
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("said on the serial port:\n{}", tail(&self.transcript));
        }
    }
}
