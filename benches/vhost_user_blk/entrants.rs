//! Who is compared: ours, qemu-storage-daemon's configurations and whoever else is given.
//!
//! Knows: commands. Must not know: how they are started. Invariant: each is asked as its users would
//! ask it, with nothing that its help does not tell.

use std::time::Duration;

use crate::back_end::{BackEnd, Place, Rules, Whose};

const OURS: &str = env!("CARGO_BIN_EXE_blkfaultd");
const SERVED: &str = "--socket-path {socket} --num-queues {queues} --monitor unix:{monitor}";

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn ours(name: &str, options: &str) -> BackEnd {
    let words = words(&format!("{OURS} {options} {SERVED}"));
    BackEnd { name: name.into(), whose: Whose::Ours, is_special: false, rules: None, words }
}

/// Which thread of qemu-storage-daemon's serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Thread {
    Main,
    /// One of its own, that polls for a while before it sleeps: QEMU's default.
    Polling,
    /// One of its own, that sleeps when there is nothing to do.
    Sleeping,
}

impl Thread {
    const ALL: [Self; 3] = [Self::Main, Self::Polling, Self::Sleeping];

    /// What is behind a configuration's name, before its export, and in it.
    fn texts(self) -> [&'static str; 3] {
        match self {
            Self::Main => ["", "", ""],
            Self::Polling => [" + iothread", " --object iothread,id=io", ",iothread=io"],
            Self::Sleeping => [
                " + iothread, polling off",
                " --object iothread,id=io,poll-max-ns=0",
                ",iothread=io",
            ],
        }
    }
}

fn qsd(aio: &str, direct: bool, thread: Thread) -> BackEnd {
    let [name, object, export] = thread.texts();
    let cache = if direct { ",cache.direct=on" } else { "" };
    qsd_of(&format!("qsd {aio}{name}"), object, &format!("aio={aio}{cache}"), "f", export)
}

fn qsd_with_blkdebug(name: &str) -> BackEnd {
    let [_, object, export] = Thread::Polling.texts();
    let file = "aio=io_uring --blockdev driver=blkdebug,node-name=bd,image=f,config={config}";
    BackEnd { is_special: true, ..qsd_of(name, object, file, "bd", export) }
}

fn qsd_of(name: &str, object: &str, file: &str, top: &str, export: &str) -> BackEnd {
    let text = format!(
        "qemu-storage-daemon{object} \
         --blockdev driver=file,node-name=f,filename={{image}},locking=off,{file} \
         --export type=vhost-user-blk,id=e,node-name={top},addr.type=unix,addr.path={{socket}},\
         writable=on,num-queues={{queues}}{export}"
    );
    let words = words(&text);
    BackEnd { name: name.into(), whose: Whose::Qemu, is_special: false, rules: None, words }
}

fn with_rules(mut back_end: BackEnd, rules: Rules) -> BackEnd {
    back_end.is_special = true;
    back_end.rules = Some(rules);
    back_end
}

/// All that are compared in a place.
pub fn all(place: Place, peers: &[BackEnd]) -> Vec<BackEnd> {
    let direct = place == Place::Direct;
    let cache = if direct { " --cache none" } else { "" };
    let file = format!("--blk-file {{image}}{cache}");
    let mut all = vec![
        ours("blkfaultd", &file),
        ours("blkfaultd, polling off", &format!("{file} --poll 0")),
        ours("blkfaultd, threads", &format!("{file} --aio threads")),
    ];
    // Its pool of threads sleeps in any case.
    all.extend([Thread::Main, Thread::Polling].map(|thread| qsd("threads", direct, thread)));
    all.extend(Thread::ALL.map(|thread| qsd("io_uring", direct, thread)));
    if direct {
        all.extend(Thread::ALL.map(|thread| qsd("native", direct, thread)));
    }
    all.extend(peers.iter().filter(|peer| !direct || knows_direct(peer)).cloned());
    if place == Place::Tmpfs {
        for (name, options) in [("memory", "--memory 256M"), ("null", "--format null --size 256M")]
        {
            let mut back_end = ours(&format!("blkfaultd {name}"), options);
            back_end.is_special = true;
            all.push(back_end);
        }
    }
    all
}

/// Whether a peer's command says what is to be said of the page cache.
pub fn knows_direct(peer: &BackEnd) -> bool {
    peer.words.iter().any(|word| word.contains("{direct}"))
}

/// Ours and QEMU's with rules before the image.
pub fn with_all_rules() -> Vec<BackEnd> {
    let file = "--blk-file {image}";
    let armed = format!("{file} --blkdebug-config {{config}}");
    let mut all = vec![ours("blkfaultd", file)];
    for count in [1, 100, 10_000] {
        let name = format!("blkfaultd, {count} native rules");
        all.push(with_rules(ours(&name, file), Rules::Native(count)));
    }
    for count in [1, 100, 10_000] {
        let name = format!("blkfaultd, {count} rules");
        all.push(with_rules(ours(&name, &armed), Rules::Blkdebug(count)));
    }
    all.push(qsd("io_uring", false, Thread::Polling));
    for count in [1, 100, 10_000] {
        let back_end = qsd_with_blkdebug(&format!("qsd + blkdebug, {count} rules"));
        all.push(with_rules(back_end, Rules::Blkdebug(count)));
    }
    all
}

/// Ours, with and without a delay that every request meets.
pub fn with_delays(delay: Duration) -> Vec<BackEnd> {
    let plain = ours("blkfaultd", "--blk-file {image}");
    let delayed = ours("blkfaultd, all delayed", "--blk-file {image}");
    vec![plain, with_rules(delayed, Rules::Delay(delay))]
}

/// `NAME=COMMAND` with placeholders, as on the command line.
pub fn peer(text: &str) -> Result<BackEnd, String> {
    let (name, command) = text
        .split_once('=')
        .ok_or("expected NAME=COMMAND, with {socket}, {image} and {queues} in COMMAND")?;
    if !command.contains("{socket}") || !command.contains("{image}") {
        return Err("COMMAND must say where {socket} and {image} belong".into());
    }
    let (name, words) = (name.to_owned(), words(command));
    Ok(BackEnd { name, whose: Whose::Another, is_special: false, rules: None, words })
}
