//! How fast `blkfaultd` is beside its peers: `cargo bench --bench vhost_user_blk`.
//!
//! Knows: who is measured under what, and in which order. Must not know: how a request is made.
//! Invariants: back ends take turns, A B C A B C, and each is started anew for each of its runs; all
//! figures of a comparison are of one run of this program. Without a guest: the load comes from the
//! tests' front end, which uses the rings as Linux does, and sleeps until it is called.
//!
//! `-- --help` tells the options. The table is printed; table, JSON and plots lie in `target/bench`.

#![allow(missing_docs, unreachable_pub, reason = "a program of its own")]
#![allow(clippy::cast_precision_loss, reason = "figures, all far below 2^52")]

#[path = "../../tests/support"]
mod support {
    pub mod front;
    pub mod operator;
}
mod back_end;
mod cost;
mod load;
mod plot;
mod processors;
mod report;
mod straight;
mod workload;

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::Duration;

use clap::Parser;

use back_end::{BackEnd, Place, Whose};
use cost::Cost;
use load::{Driver, Seen};
use processors::{Places, Processors};
use report::{Row, Sample};
use workload::{WORKLOADS, Workload};

/// Bytes of the image, and of its lower part that is used; rules are about the rest.
const IMAGE_BYTES: u64 = 256 << 20;
const USED_BYTES: u64 = IMAGE_BYTES / 2;
/// The workload that shows what rules cost.
const RULES_WORKLOAD: &str = "randread-4k-d32";
/// The one that shows how exact delays are, and how long they are.
const DELAYS_WORKLOAD: &str = "mixed-4k-2000ps";
const DELAY: Duration = Duration::from_millis(1);

/// Compare blkfaultd with other back ends, without a guest.
#[derive(Debug, Parser)]
struct Options {
    /// Length of each run in seconds.
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// Runs of each back end under each workload.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only workloads with one of these in their names.
    #[arg(long, value_name = "PART")]
    workload: Vec<String>,
    /// Only back ends with one of these in their names.
    #[arg(long, value_name = "PART")]
    back_end: Vec<String>,
    /// Only images there: tmpfs, disk (through the page cache), direct (around it).
    #[arg(long, value_name = "PLACE")]
    place: Vec<String>,
    /// Another back end: its name and the command that starts it, with {socket}, {image} and {queues}
    /// where those belong.
    #[arg(long, value_name = "NAME=COMMAND", value_parser = back_end::peer)]
    peer: Vec<BackEnd>,
    /// Which processors load and back end run on: any (as the scheduler likes), shared (the same
    /// one), apart (the load on one, the back end on the others).
    #[arg(long, value_name = "WHERE", default_value = "any", hide_possible_values = true)]
    processors: Processors,
    /// What rules cost that hit nothing, and nothing else.
    #[arg(long)]
    rules: bool,
    /// How exact a delay of 1 ms is, and nothing else: the latency with it less the latency without.
    #[arg(long, conflicts_with = "rules")]
    delays: bool,
    /// A folder on the disk that is measured.
    #[arg(long, default_value = "target/bench")]
    disk: PathBuf,
    /// Where table, JSON and plots go.
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
    /// What cargo says.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A contest of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Only {
    Rules,
    Delays,
}

impl Options {
    fn wants(parts: &[String], name: &str) -> bool {
        parts.is_empty() || parts.iter().any(|part| name.contains(part.as_str()))
    }

    /// The one contest that is wanted, if it is one of those that no other compares with.
    fn only(&self) -> Option<Only> {
        let rules = self.rules.then_some(Only::Rules);
        rules.or(self.delays.then_some(Only::Delays))
    }

    /// The back ends that meet.
    fn entrants(&self, place: Place) -> Vec<BackEnd> {
        let all = match self.only() {
            Some(Only::Rules) => back_end::with_all_rules(),
            Some(Only::Delays) => back_end::with_delays(DELAY),
            None => back_end::all(place, &self.peer),
        };
        all.into_iter().filter(|one| Self::wants(&self.back_end, &one.name)).collect()
    }

    fn workloads(&self) -> Vec<Workload> {
        let is_meant = |workload: &&Workload| match self.only() {
            Some(Only::Rules) => workload.name == RULES_WORKLOAD,
            Some(Only::Delays) => workload.name == DELAYS_WORKLOAD,
            None => self.wants_workload(workload.name),
        };
        WORKLOADS.iter().filter(is_meant).copied().collect()
    }

    /// A whole name means itself, whatever begins with it.
    fn wants_workload(&self, name: &str) -> bool {
        let is_whole = |part: &str| WORKLOADS.iter().any(|one| one.name == part);
        let is_meant =
            |part: &String| part == name || (!is_whole(part) && name.contains(part.as_str()));
        self.workload.is_empty() || self.workload.iter().any(is_meant)
    }

    fn places(&self) -> Vec<Place> {
        let is_meant = |place: &Place| match self.only() {
            Some(_) => *place == Place::Tmpfs,
            None => Self::wants(&self.place, place.name()),
        };
        Place::ALL.into_iter().filter(is_meant).collect()
    }

    /// Warm-up and measured part.
    fn times(&self) -> [Duration; 2] {
        [self.seconds / 5.0, self.seconds].map(Duration::from_secs_f64)
    }
}

/// A file without holes, gone at the end.
fn image(folder: &Path) -> tempfile::NamedTempFile {
    std::fs::create_dir_all(folder).expect("the folder for the image");
    let image = tempfile::NamedTempFile::new_in(folder).expect("an image");
    let block = vec![0x5a; 1 << 20];
    for at in (0..IMAGE_BYTES).step_by(block.len()) {
        image.as_file().write_all_at(&block, at).expect("room for the image");
    }
    image.as_file().sync_all().expect("the image is written");
    image
}

/// One run of one back end.
fn measure(
    back_end: &BackEnd,
    workload: Workload,
    image: &Path,
    places: &Places,
    [warm_up, time]: [Duration; 2],
) -> Result<Sample, String> {
    let queue_size = workload.depth.next_power_of_two().max(128);
    let mut running = places.as_back_end(|| back_end.start(image, workload.queues, queue_size))?;
    let process_id = running.process_id();
    let (seen, cost) = load_all(&mut running, workload, warm_up, time);
    let seconds = seen.elapsed.as_secs_f64();
    let us = |quantile| seen.latency.value_at_quantile(quantile) as f64 / 1000.0;
    let operations = seen.operations.max(1) as f64;
    Ok(Sample {
        iops: seen.operations as f64 / seconds,
        bytes_per_second: seen.bytes as f64 / seconds,
        p50_us: us(0.5),
        p99_us: us(0.99),
        p999_us: us(0.999),
        cpu_us: cost.cpu.as_secs_f64() * 1e6 / operations,
        switches: cost.switches as f64 / operations,
        resident_kib: cost::resident_kib(process_id) as f64,
        first_io_ms: running.first_io.as_secs_f64() * 1000.0,
    })
}

/// Load all queues, each from a thread of its own; what was seen, and what it cost from the first's
/// start to the last's end.
fn load_all(
    running: &mut back_end::Running,
    workload: Workload,
    warm_up: Duration,
    time: Duration,
) -> (Seen, Cost) {
    let process_id = running.process_id();
    let memory = running.front.memory.clone();
    let starts = Barrier::new(usize::from(workload.queues) + 1);
    std::thread::scope(|scope| {
        let drivers: Vec<_> = std::mem::take(&mut running.queues)
            .into_iter()
            .map(|queue| Driver::new(queue, &memory, workload, USED_BYTES))
            .map(|mut driver| {
                let starts = &starts;
                let at_start = || {
                    starts.wait();
                };
                scope.spawn(move || driver.run(warm_up, time, at_start))
            })
            .collect();
        starts.wait();
        let before = Cost::so_far(process_id);
        let seen = drivers.into_iter().map(|driver| driver.join().expect("a driver's figures"));
        let seen = seen.reduce(|one, other| one.and(&other)).expect("a queue");
        (seen, Cost::so_far(process_id).since(before))
    })
}

/// io_uring without a virtqueue.
fn straight(
    workload: Workload,
    image: &Path,
    place: Place,
    times: [Duration; 2],
) -> Option<Sample> {
    let flags = if place == Place::Direct { libc::O_DIRECT } else { 0 };
    let file = File::options().read(true).write(true).custom_flags(flags).open(image);
    let done = straight::run(&file.expect("the image"), workload, USED_BYTES, times)?;
    let iops = done.operations as f64 / done.elapsed.as_secs_f64();
    Some(Sample {
        iops,
        bytes_per_second: iops * f64::from(workload.block_bytes),
        cpu_us: done.cost.cpu.as_secs_f64() * 1e6 / done.operations as f64,
        switches: done.cost.switches as f64 / done.operations as f64,
        ..Sample::default()
    })
}

/// A contest: everybody under one workload in one place.
fn contest(
    options: &Options,
    places: &Places,
    (place, workload): (Place, Workload),
    image: &Path,
    rows: &mut Vec<Row>,
) {
    let entrants = options.entrants(place);
    let row = |name: &str, whose, is_special| Row {
        place,
        workload,
        back_end: name.to_owned(),
        whose,
        is_special,
        samples: Vec::new(),
    };
    let mut met: Vec<Row> =
        entrants.iter().map(|one| row(&one.name, one.whose, one.is_special)).collect();
    let mut limit = row("io_uring straight", Whose::Another, true);
    let mut left_out = vec![false; entrants.len()];
    for round in 1..=options.rounds {
        for ((back_end, row), left_out) in entrants.iter().zip(&mut met).zip(&mut left_out) {
            if *left_out {
                continue;
            }
            progress(&format!(
                "{} on {}: round {round} of {}: {}",
                workload.name,
                place.name(),
                options.rounds,
                back_end.name
            ));
            match measure(back_end, workload, image, places, options.times()) {
                Ok(sample) => row.samples.push(sample),
                Err(why) => {
                    *left_out = true;
                    eprintln!("\n{} is left out: {why}", back_end.name);
                }
            }
        }
        if options.only().is_none() && Options::wants(&options.back_end, &limit.back_end) {
            limit.samples.extend(straight(workload, image, place, options.times()));
        }
    }
    met.push(limit);
    met.retain(|row| !row.samples.is_empty());
    progress("");
    println!("{}", report::table(&met));
    rows.extend(met);
}

/// Tell a terminal what is being done.
fn progress(what: &str) {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        let _ = write!(stderr, "\r\x1b[K{what}");
        let _ = stderr.flush();
    }
}

fn main() {
    let options = Options::parse();
    println!(
        "{} runs of {} s of each, in turns; medians; CPU is the back end's, all threads, for an \
         operation; processors: {:?}",
        options.rounds, options.seconds, options.processors
    );
    let places = match options.processors.places() {
        Ok(places) => places,
        Err(why) => {
            eprintln!("{why}");
            std::process::exit(2);
        }
    };
    let mut rows = Vec::new();
    for place in options.places() {
        let folder = match place {
            Place::Tmpfs => Path::new("/dev/shm"),
            Place::Disk | Place::Direct => &options.disk,
        };
        let image = image(folder);
        for workload in options.workloads() {
            contest(&options, &places, (place, workload), image.path(), &mut rows);
        }
    }
    keep(&options, &rows);
}

/// Leave the figures in files.
fn keep(options: &Options, rows: &[Row]) {
    let written = std::fs::create_dir_all(&options.output)
        .and_then(|()| std::fs::write(options.output.join("table.md"), report::table(rows)))
        .and_then(|()| {
            let json = format!("{:#}\n", report::to_json(rows));
            std::fs::write(options.output.join("figures.json"), json)
        });
    if let Err(error) = written {
        eprintln!("{}: {error}", options.output.display());
    }
    for place in Place::ALL {
        let path = options.output.join(format!("latency-{}.svg", place.name()));
        match plot::latency_against_throughput(rows, place, &path) {
            Ok(true) => println!("{}", path.display()),
            Ok(false) => {}
            Err(error) => eprintln!("{}: {error}", path.display()),
        }
    }
}
