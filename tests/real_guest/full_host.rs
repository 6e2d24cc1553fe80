//! The host's file system is full under the guest's disk: no success is told for bytes that are lost.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::directory;
use crate::support::daemon::Daemon;
use crate::support::vm::{Image, Machine, Vm, left_out};

const MIB: usize = 1 << 20;

/// A tmpfs of 200 MB in a mount namespace of its own, which ends with the process in it.
struct SmallHost {
    holder: Child,
    directory: PathBuf,
    is_root: bool,
}

impl SmallHost {
    /// Needs root or user namespaces; without them the reason why not.
    fn new(directory: &Path) -> Result<Self, String> {
        let is_root = rustix::process::geteuid().is_root();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare", "--mount"]);
        command.args((!is_root).then_some("--map-root-user"));
        command.args([
            "sh",
            "-c",
            r#"mount -t tmpfs -o size=200m small "$0" && echo done && read -r end"#,
        ]);
        command.arg(directory).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = command.spawn().map_err(|error| format!("unshare: {error}"))?;
        let mut line = String::new();
        let stdout = holder.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let mut host = Self { holder, directory: directory.to_owned(), is_root };
        if line.is_empty() {
            let mut said = String::new();
            let mut stderr = host.holder.stderr.take().expect("a pipe");
            stderr.read_to_string(&mut said).expect("a message");
            return Err(said.trim().to_owned());
        }
        Ok(host)
    }

    /// A path in the tmpfs, as seen from outside.
    fn path(&self, name: &str) -> PathBuf {
        let inside = self.directory.strip_prefix("/").expect("an absolute path");
        Path::new(&format!("/proc/{}/root", self.holder.id())).join(inside).join(name)
    }

    /// Words that start a program inside.
    fn wrapper(&self) -> Vec<String> {
        let mut words = vec!["nsenter".to_owned(), "--mount".to_owned()];
        if !self.is_root {
            words.extend(["--user".to_owned(), "--preserve-credentials".to_owned()]);
        }
        words.extend(["--target".to_owned(), self.holder.id().to_string(), "--".to_owned()]);
        words
    }
}

impl Drop for SmallHost {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// The bytes of block `number` of an image: four times its number and the same text. [`BLOCK`] makes
/// them in the guest.
fn block(number: u64) -> Vec<u8> {
    let text = b"of the image that is larger than its host\n".iter().cycle();
    let quarter = format!("block {number:09}\n").into_bytes();
    let quarter: Vec<u8> = quarter.into_iter().chain(text.copied()).take(MIB / 4).collect();
    quarter.repeat(4)
}

const BLOCK: &str = r#"[ -e /tmp/text ] || yes 'of the image that is larger than its host' |
        head -c $((262144 - 16)) >/tmp/text
    block() { for quarter in 1 2 3 4; do printf 'block %09d\n' $1; cat /tmp/text; done; }"#;

/// Write blocks, each on its own, and tell of each whether the disk took it.
fn write_blocks(vm: &mut Vm, numbers: &str, dd: &str) -> (Vec<u64>, Vec<u64>) {
    let script = format!(
        "{BLOCK}
        for n in {numbers}; do
            block $n >/tmp/block
            if dd if=/tmp/block of=/dev/vda bs=1M seek=$n conv=notrunc{dd} 2>/dev/null
            then echo took $n; else echo refused $n; fi
        done"
    );
    let output = vm.must(&script);
    let of = |word: &str| {
        let lines = output.lines().filter_map(|line| line.strip_prefix(word));
        lines.map(|number| number.trim().parse().expect("a number")).collect()
    };
    (of("took "), of("refused "))
}

/// Read blocks back in the guest, past its page cache, and compare.
fn check_blocks(vm: &mut Vm, numbers: &[u64]) {
    for numbers in numbers.chunks(200) {
        let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
        vm.must(&format!(
            "{BLOCK}
            for n in {}; do
                read=$(dd if=/dev/vda bs=1M skip=$n count=1 iflag=direct 2>/dev/null | md5sum)
                [ \"$read\" = \"$(block $n | md5sum)\" ] || {{ echo \"block $n is wrong\"; exit 1; }}
            done",
            numbers.join(" ")
        ));
    }
}

/// Of the blocks that the disk took, how many the image does not hold.
fn wrong_blocks(image: &Path, taken: &[u64]) -> usize {
    let image = File::open(image).expect("the image");
    let mut bytes = vec![0; MIB];
    let is_wrong = |number: &&u64| {
        image.read_exact_at(&mut bytes, *number * MIB as u64).expect("a block of the image");
        bytes != block(**number)
    };
    taken.iter().filter(is_wrong).count()
}

#[test]
fn a_full_host_is_an_error_and_never_a_lost_write() {
    let story = "a full host";
    let Some(image) = Image::for_story(story) else { return };
    let directory = directory();
    let mounted = directory.path().join("small");
    fs::create_dir(&mounted).expect("a directory");
    let host = match SmallHost::new(&mounted) {
        Ok(host) => host,
        Err(reason) => return left_out(story, &format!("no tmpfs can be mounted here ({reason})")),
    };
    let file = File::create(host.path("image")).expect("an image");
    file.set_len(2 << 30).expect("a sparse image");
    fs::write(host.path("ballast"), vec![1; 40 * MIB]).expect("a ballast");

    let wrapper = host.wrapper();
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let path = mounted.join("image");
    let options = ["--blk-file", path.to_str().expect("a UTF-8 path")];
    let daemon = Daemon::start_inside(directory.path(), &wrapper, &options);
    let mut vm = Machine::new().disk(&daemon.socket("disk0")).boot(&image);

    // One gigabyte in one go, past the page cache: dd ends at the first block that is refused.
    let stream = vm.must(&format!(
        "{BLOCK}
        n=0; while [ $n -lt 1024 ]; do block $n || break; n=$((n + 1)); done 2>/dev/null |
            dd of=/dev/vda bs=1M iflag=fullblock oflag=direct 2>/tmp/said && exit 1
        grep -q 'Input/output error' /tmp/said || {{ cat /tmp/said; exit 1; }}
        sed -n 's/+.* records out//p' /tmp/said"
    ));
    let streamed: u64 = stream.parse().expect("the number of blocks written");
    assert!((100..=160).contains(&streamed), "{streamed} MiB were taken, of which 160 fit");
    let mut taken: Vec<u64> = (0..streamed).collect();
    check_blocks(&mut vm, &taken);

    // Space for 20 blocks: each written through the page cache and synced, spread over a gigabyte.
    fs::write(host.path("ballast"), vec![1; 20 * MIB]).expect("a smaller ballast");
    let (took, refused) = write_blocks(&mut vm, "$(seq 200 16 1000)", ",fsync");
    assert!((10..=20).contains(&took.len()), "{} MiB were taken, of which 20 fit", took.len());
    assert!(!refused.is_empty());
    check_blocks(&mut vm, &took);
    taken.extend(took);

    // Space is freed: what was refused is taken now.
    fs::remove_file(host.path("ballast")).expect("no ballast");
    let again: Vec<String> = refused.iter().take(15).map(u64::to_string).collect();
    let (took, refused) = write_blocks(&mut vm, &again.join(" "), ",fsync");
    assert_eq!((took.len(), refused.len()), (15, 0));
    check_blocks(&mut vm, &took);
    taken.extend(took);

    assert!(vm.power_off().success());
    assert!(daemon.terminate().success());
    assert_eq!(wrong_blocks(&host.path("image"), &taken), 0, "blocks taken and lost");
}
