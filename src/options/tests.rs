use super::*;
use crate::guard::{Kept, Need, SandboxMode, SeccompMode};
use crate::qapi::types::{BlockFaultOnError, BlockdevOptionsVariant, BlockdevRef};

fn plan_of(arguments: &[&str]) -> Result<Plan, String> {
    let arguments = std::iter::once("blkfaultd").chain(arguments.iter().copied());
    let options = Options::try_parse_from(arguments).map_err(|error| error.to_string())?;
    options.plan().map_err(|error| error.to_string())
}

#[test]
fn the_command_line_is_well_formed() {
    command().debug_assert();
}

#[test]
fn the_flags_of_one_disk_are_the_commands_that_make_it() {
    let plan = plan_of(&[
        "--blk-file",
        "/no/such.img",
        "--socket-path",
        "/s",
        "--cache",
        "none",
        "--serial",
        "S",
        "--num-queues",
        "4",
        "--block-size",
        "4K",
        "--read-only",
        "--id",
        "db",
    ])
    .unwrap();
    let [disk] = &plan.disks[..] else { panic!("one disk, not {:?}", plan.disks) };
    let node = disk.node.as_ref().unwrap();
    assert_eq!(node.node_name.as_deref(), Some("db"));
    let BlockdevOptionsVariant::Raw(raw) = &node.variant else { panic!("{node:?}") };
    let BlockdevRef::Definition(file) = &raw.file else { panic!("{raw:?}") };
    assert_eq!(file.cache.as_ref().unwrap().direct, Some(true));
    assert_eq!(disk.export.writable, Some(false));
    assert_eq!((disk.export.id.as_str(), disk.export.node_name.as_str()), ("db", "db"));
}

#[test]
fn several_disks_are_numbered_and_may_share_a_store() {
    let plan = plan_of(&[
        "--memory",
        "1M",
        "--socket-path",
        "/a",
        "--disk",
        "format=null,size=2M,socket-path=/b",
        "--disk",
        "id=second-path,store=disk0,fd=3",
        "--monitor",
        "unix:/m",
        "--monitor",
        "tcp:127.0.0.1:4444",
        "--pidfile",
        "/p",
    ])
    .unwrap();
    let names: Vec<_> =
        plan.disks.iter().map(|d| (&d.export.id[..], &d.export.node_name[..])).collect();
    assert_eq!(names, [("disk0", "disk0"), ("disk1", "disk1"), ("second-path", "disk0")]);
    assert!(plan.disks[2].node.is_none());
    assert_eq!(plan.monitors.len(), 2);
    assert_eq!(plan.pidfile, Some("/p".into()));
}

#[test]
fn faults_from_the_beginning_are_options_of_the_disk() {
    let options = ["--blkdebug-config", "/e.conf", "--seed", "7", "--on-error", "hold-on-enospc"];
    let plan =
        plan_of(&[&["--memory", "1M", "--socket-path", "/a"], &options[..]].concat()).unwrap();
    let disk = &plan.disks[0];
    let BlockdevOptionsVariant::Blkdebug(blkdebug) = &disk.node.as_ref().unwrap().variant else {
        panic!("{disk:?}");
    };
    assert_eq!(blkdebug.config.as_deref(), Some("/e.conf"));
    assert!(matches!(&blkdebug.image, BlockdevRef::Definition(_)), "{disk:?}");
    assert_eq!(disk.export.seed, Some(7));
    assert_eq!(disk.export.on_error, Some(BlockFaultOnError::HoldOnEnospc));
}

#[test]
fn what_the_command_line_names_stays_open() {
    let plan = plan_of(&[
        "--blk-file",
        "/images/a.img",
        "--socket-path",
        "/run/vm/a",
        "--disk",
        "id=b,blk-file=/images/b.img,read-only,blkdebug-config=/etc/b.conf,socket-path=/run/vm/b",
        "--monitor",
        "unix:m",
        "--monitor",
        "tcp:127.0.0.1:4444",
        "--pidfile",
        "/run/blkfaultd.pid",
        "--sandbox",
        "landlock",
        "--allow-path",
        "/images",
    ])
    .unwrap();
    let permitted: Vec<_> =
        plan.guard.permitted.iter().map(|p| (p.path.to_str().unwrap(), p.need)).collect();
    let expected = [
        ("/images/a.img", Need::Image),
        ("/run/vm", Need::Sockets),
        ("/etc/b.conf", Need::Read),
        ("/images/b.img", Need::Read),
        (".", Need::Sockets),
        ("/run", Need::Sockets),
        ("/images", Need::Anything),
    ];
    assert_eq!(permitted, expected);
}

#[test]
fn system_calls_are_filtered_and_files_are_not_unless_the_operator_says_otherwise() {
    let disk = ["--memory", "1M", "--socket-path", "/a"];
    let default = plan_of(&disk).unwrap().guard;
    assert_eq!((default.seccomp, default.sandbox), (SeccompMode::Kill, SandboxMode::None));
    assert_eq!(default.kept, Kept::default());
    let options = ["--seccomp", "log", "--sandbox", "landlock", "--modcaps=+chown:+setuid"];
    let asked = plan_of(&[&disk[..], &options[..]].concat()).unwrap().guard;
    assert_eq!((asked.seccomp, asked.sandbox), (SeccompMode::Log, SandboxMode::Landlock));
    assert_eq!(asked.kept.to_string(), "+chown:+setuid");
}

#[test]
fn a_comma_in_a_value_is_written_twice() {
    let plan = plan_of(&["--disk", "memory=1M,socket-path=/a,,b,serial=x,,y"]).unwrap();
    assert_eq!(plan.disks[0].socket_path(), Some("/a,b"));
}

#[test]
fn options_that_make_no_sense_are_refused_by_name() {
    let cases: &[(&[&str], &str)] = &[
        (&[], "nothing to do"),
        (&["--memory", "1M"], "--socket-path"),
        (&["--memory", "1Q", "--socket-path", "/s"], "such as 64M"),
        (&["--socket-path", "/s"], "--blk-file PATH"),
        (&["--socket-path", "/s", "--fd", "3", "--memory", "1M"], "cannot be used with"),
        (&["--socket-path", "/s", "--fd", "-3", "--memory", "1M"], "--fd"),
        (&["--blk-file", "f", "--memory", "1M", "--socket-path", "/s"], "cannot be used with"),
        (&["--blk-file", "f", "--format", "vmdk", "--socket-path", "/s"], "possible values: raw"),
        (
            &["--blk-file", "f", "--format", "null", "--socket-path", "/s"],
            "--blk-file goes with --format raw",
        ),
        (&["--format", "memory", "--socket-path", "/s"], "needs --memory"),
        (
            &["--memory", "1M", "--aio", "threads", "--socket-path", "/s"],
            "--aio goes with --format raw",
        ),
        (&["--memory", "1M", "--num-queues", "257", "--socket-path", "/s"], "1..=256"),
        (&["--memory", "1M", "--num-queues", "0", "--socket-path", "/s"], "1..=256"),
        (&["--memory", "1M", "--read-only=maybe", "--socket-path", "/s"], "expected on or off"),
        (&["--disk", "memory=1M,socket-path=/s,sireal=x"], "'--serial'"),
        (
            &["--disk", "memory=1M,socket-path=/s", "--disk", "id=disk0,memory=1M,socket-path=/t"],
            "two disks have the id 'disk0'",
        ),
        (&["--disk", "store=a,socket-path=/s"], "no disk has that id"),
        (&["--disk", "store=disk0,socket-path=/s"], "no store of its own"),
        (&["--disk", "store=a,memory=1M,socket-path=/s"], "cannot be used with"),
        (&["--disk", ""], "--disk ''"),
        (&["--memory", "1M", "--cache", "none", "--socket-path", "/s"], "--cache none goes with"),
        (&["--memory", "9999P", "--socket-path", "/s"], "'--memory <SIZE>'"),
        (&["--memory", "1000", "--socket-path", "/s"], "a multiple of 512"),
        (&["--memory", "1M", "--block-size", "513", "--socket-path", "/s"], "power of two"),
        (&["--memory", "1M", "--fd", "abc"], "number of a file descriptor"),
        (
            &["--memory", "1M", "--socket-path", "/s", "--monitor", "unix:/s"],
            "the disk 'disk0' and the monitor unix:/s cannot both be at '/s'",
        ),
        (&["--memory", "1M", "--socket-path", "/s", "--pidfile", "/s"], "cannot both be at '/s'"),
        (&["--config", "/no/such/file"], "--config /no/such/file: "),
        (&["--memory", "1M", "--socket-path", "/s", "--seccomp", "trap"], "kill, log, none"),
        (&["--memory", "1M", "--socket-path", "/s", "--sandbox", "chroot"], "landlock, none"),
        (
            &["--memory", "1M", "--socket-path", "/s", "--allow-path", "/tmp"],
            "--allow-path goes with --sandbox landlock only",
        ),
        (&["--memory", "1M", "--socket-path", "/s", "--modcaps=-chown"], "such as +dac_override"),
    ];
    for (arguments, expected) in cases {
        let error = plan_of(arguments).map(|plan| format!("{plan:?}")).unwrap_err();
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
}

#[test]
fn capabilities_are_json_and_outrank_everything_else() {
    let arguments = ["--nonsense", "--print-capabilities"].map(std::ffi::OsStr::new);
    assert!(asks_for_capabilities(arguments.into_iter()));
    let capabilities: serde_json::Value = serde_json::from_str(CAPABILITIES).unwrap();
    assert_eq!(capabilities["type"], "block");
}

#[test]
fn every_option_has_help_with_an_example() {
    for argument in command().get_arguments() {
        let name = argument.get_id();
        let help = argument.get_long_help().unwrap_or_else(|| panic!("{name}")).to_string();
        let example = help.split("Example: ").nth(1).unwrap_or_else(|| panic!("{name}: {help}"));
        assert!(example.contains(argument.get_long().unwrap()), "{name}: {help}");
    }
}
