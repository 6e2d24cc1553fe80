//! Loads in the guest that know what every block must hold (tests/support/guest-load.rs).

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use serde_json::json;

use crate::support::daemon::{Daemon, set_state};
use crate::support::operator::Operator;
use crate::support::vm::{Image, Machine, Vm};
use crate::{directory, wait_for_writes, wait_until};

/// A load that runs in the guest, over a disk or a file.
#[derive(Debug, Clone)]
pub(crate) struct GuestLoad {
    target: String,
    said: String,
}

/// What a load came to.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub(crate) is_right: bool,
    pub(crate) requests: u64,
    pub(crate) verified_bytes: u64,
    pub(crate) errors: u64,
    pub(crate) longest: Duration,
    /// All that it said.
    pub(crate) said: String,
}

impl GuestLoad {
    /// Start one over this path in the guest; it goes on until [`end`].
    pub(crate) fn start(vm: &mut Vm, target: &str, options: &str) -> Self {
        let said = format!("/tmp/load{}", target.replace('/', "-"));
        vm.must(&format!("rm -f /tmp/enough {said}; guest-load {target} {options} >{said} 2>&1 &"));
        Self { target: target.to_owned(), said }
    }

    /// Whether it has come to an end, which it does by itself only if something is wrong.
    pub(crate) fn has_ended(&self, vm: &mut Vm) -> bool {
        vm.run(&format!("grep -q ^guest-load: {}", self.said)).status == 0
    }

    /// What it came to, once it has ended.
    fn verdict(&self, vm: &mut Vm) -> Verdict {
        wait_until(&format!("the load on {} has ended", self.target), || {
            std::thread::sleep(Duration::from_millis(100));
            self.has_ended(vm)
        });
        Verdict::parse(vm.must(&format!("cat {}", self.said)))
    }
}

/// Let these loads read everything back and end.
pub(crate) fn end(vm: &mut Vm, loads: &[GuestLoad]) -> Vec<Verdict> {
    vm.must("touch /tmp/enough");
    loads.iter().map(|load| load.verdict(vm)).collect()
}

/// The same for loads that must have found everything right: what they did together.
pub(crate) fn end_right(vm: &mut Vm, loads: &[GuestLoad]) -> Verdict {
    let verdicts = end(vm, loads);
    for (load, verdict) in loads.iter().zip(&verdicts) {
        assert!(verdict.is_right, "{}: {}", load.target, verdict.said);
        assert!(verdict.requests > 100, "{}: {}", load.target, verdict.said);
    }
    let together = |mut all: Verdict, one: Verdict| {
        all.requests += one.requests;
        all.verified_bytes += one.verified_bytes;
        all.errors += one.errors;
        all.longest = all.longest.max(one.longest);
        all
    };
    verdicts.into_iter().reduce(together).expect("a load")
}

impl Verdict {
    fn parse(said: String) -> Self {
        let line = said.lines().find(|line| line.starts_with("guest-load: ")).unwrap_or_default();
        let number = |name: &str| {
            let value = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            value
                .and_then(|value| value.parse().ok())
                .unwrap_or_else(|| panic!("no {name}: {said}"))
        };
        Self {
            is_right: line.starts_with("guest-load: RIGHT "),
            requests: number("requests"),
            verified_bytes: number("verified"),
            errors: number("errors"),
            longest: Duration::from_millis(number("longest-ms")),
            said: said.clone(),
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { requests, verified_bytes, errors, longest, .. } = self;
        let mib = verified_bytes >> 20;
        write!(f, "{requests} requests, {mib} MiB verified, {errors} errors, longest {longest:?}")
    }
}

/// Bytes of a block of the load, and of the image that it is over.
const BLOCK_BYTES: usize = 4096;
const IMAGE_BYTES: usize = 1 << 20;

/// A disk that spoils everything: what it makes of its image, given what that once was, and what the
/// load has to say of it.
type Spoiler = (&'static str, fn(&[u8], &mut Vec<u8>));

const SPOILERS: [Spoiler; 4] = [
    ("LOST", |_, now| now.fill(0)),
    ("STALE", |once, now| now.copy_from_slice(once)),
    ("TORN", |_, now| {
        now.chunks_exact_mut(BLOCK_BYTES).for_each(|block| block[BLOCK_BYTES / 2..].fill(0));
    }),
    ("WRONG", |_, now| now.rotate_left(BLOCK_BYTES)),
];

#[test]
fn the_load_in_the_guest_names_what_a_bad_disk_did() {
    let Some(image) = Image::for_story("the load and a bad disk") else { return };
    let directory = directory();
    let ids = SPOILERS.map(|(kind, _)| kind).into_iter().chain(["HUNG"]);
    let file = |id: &str| directory.path().join(format!("{id}.img"));
    let disks: Vec<String> = ids
        .map(|id| {
            File::create(file(id))
                .and_then(|made| made.set_len(IMAGE_BYTES as u64))
                .expect("a file");
            format!("id={id},blk-file={}", file(id).display())
        })
        .collect();
    let disks: Vec<&str> = disks.iter().map(String::as_str).collect();
    let daemon = Daemon::start_disks(directory.path(), &disks);
    let mut operator = daemon.operator();
    let machine = ["LOST", "STALE", "TORN", "WRONG", "HUNG"]
        .iter()
        .fold(Machine::new(), |machine, id| machine.disk(&daemon.socket(id)));
    let mut vm = machine.boot(&image);
    let options = "blocks=256 threads=1 hung=60";
    let mut loads: Vec<GuestLoad> = ["vda", "vdb", "vdc", "vdd"]
        .map(|name| GuestLoad::start(&mut vm, &format!("/dev/{name}"), options))
        .into();
    loads.push(GuestLoad::start(&mut vm, "/dev/vde", "blocks=256 threads=1 hung=2"));

    for (kind, spoil) in SPOILERS {
        // All of it is written by now, and most of it again afterwards.
        wait_for_writes(&mut operator, kind, 100);
        let once = fs::read(file(kind)).expect("the image");
        wait_for_writes(&mut operator, kind, 100);
        set_state(&mut operator, kind, "hang");
        wait_until("nothing is at the image", || held(&mut operator, kind) == 1);
        let mut now = fs::read(file(kind)).expect("the image");
        spoil(&once, &mut now);
        let file = File::options().write(true).open(file(kind)).expect("the image");
        file.write_all_at(&now, 0).expect("write the image");
        set_state(&mut operator, kind, "none");
    }
    set_state(&mut operator, "HUNG", "hang");
    for (load, kind) in loads.iter().zip(["LOST", "STALE", "TORN", "WRONG", "HUNG"]) {
        let verdict = load.verdict(&mut vm);
        assert!(!verdict.is_right && verdict.said.contains(kind), "{kind}: {}", verdict.said);
    }
    // What it was asked to end before anything was wrong is right.
    set_state(&mut operator, "HUNG", "none");
    let load = GuestLoad::start(&mut vm, "/dev/vda", options);
    wait_for_writes(&mut operator, "LOST", 100);
    end_right(&mut vm, &[load]);
}

/// Requests that a disk holds.
fn held(operator: &mut Operator, id: &str) -> usize {
    let held = operator.must("query-block-fault-held", json!({ "id": id }));
    held.as_array().expect("a list").len()
}
