//! One run of one entrant: a back end that is started for it, or the kernel's ring itself.
//!
//! Knows: what a run consists of. Must not know: who meets whom. Invariants: a run ends, whatever the
//! back end does; what it leaves is a sample, or why there is none.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use crate::USED_BYTES;
use crate::back_end::{BackEnd, Failure, Place, Running, attempt, last_words};
use crate::cost::{self, Cost};
use crate::load::{Driver, Seen};
use crate::processors::Places;
use crate::report::Sample;
use crate::straight;
use crate::workload::{Pattern, Workload};

/// One run of one back end.
pub fn measure(
    back_end: &BackEnd,
    workload: Workload,
    image: (Place, &Path),
    places: &Places,
    times: [Duration; 2],
) -> Result<Sample, Failure> {
    let queue_size = workload.depth.next_power_of_two().max(128);
    let start = || attempt(|| back_end.start(image, workload.queues, queue_size));
    let mut running = places.as_back_end(start)?;
    attempt(|| sample(&mut running, workload, times)).map_err(Failure::Run)
}

fn sample(
    running: &mut Running,
    workload: Workload,
    times: [Duration; 2],
) -> Result<Sample, String> {
    let (seen, cost) = load_all(running, workload, times)?;
    let seconds = seen.elapsed.as_secs_f64();
    let us = |quantile| Some(seen.latency.value_at_quantile(quantile) as f64 / 1000.0);
    let operations = seen.operations.max(1) as f64;
    Ok(Sample {
        iops: seen.operations as f64 / seconds,
        bytes_per_second: seen.bytes as f64 / seconds,
        in_flight: Some(in_flight(workload, &seen)),
        p50_us: us(0.5),
        p99_us: us(0.99),
        p999_us: us(0.999),
        cpu_us: cost.cpu.as_secs_f64() * 1e6 / operations,
        switches: cost.switches as f64 / operations,
        resident_kib: Some(cost::resident_kib(running.process_id())? as f64),
        first_io_ms: Some(running.first_io.as_secs_f64() * 1000.0),
    })
}

/// Operations under way on average: all that there may be where each that ends is replaced at once, and
/// by Little's law where they come when they come.
fn in_flight(workload: Workload, seen: &Seen) -> f64 {
    let by_little = seen.operations as f64 / seen.elapsed.as_secs_f64() * seen.latency.mean() / 1e9;
    match workload.pattern {
        Pattern::Mixed { .. } => by_little,
        Pattern::Beside { .. } => {
            by_little + f64::from(workload.depth) * f64::from(workload.queues - 1)
        }
        _ => f64::from(workload.depth) * f64::from(workload.queues),
    }
}

/// Load all queues, each from a thread of its own; what was seen, and what it cost from the first's
/// start to the last's end.
///
/// Each driver says when it is warm, and goes on when all are. One that fails says nothing and hangs
/// up: then nobody goes on.
fn load_all(
    running: &mut Running,
    workload: Workload,
    [warm_up, time]: [Duration; 2],
) -> Result<(Seen, Cost), String> {
    let process_id = running.process_id();
    let memory = running.front.memory.clone();
    std::thread::scope(|scope| {
        let (mut drivers, mut warm, mut go) = (Vec::new(), Vec::new(), Vec::new());
        for queue in std::mem::take(&mut running.queues) {
            let driver = Driver::new(queue, &memory, workload, process_id);
            let (say_warm, is_warm) = mpsc::channel();
            let (say_go, may_go) = mpsc::channel::<()>();
            let at_start = move || {
                say_warm.send(()).map_err(|_| OVER)?;
                may_go.recv().map_err(|_| OVER.to_owned())
            };
            drivers.push(scope.spawn(move || driver.run(warm_up, time, at_start)));
            warm.push(is_warm);
            go.push(say_go);
        }
        let before = if warm.iter().all(|driver| driver.recv().is_ok()) {
            let before = Cost::so_far(process_id);
            for driver in &go {
                // One that has failed since says so when it is joined.
                let _ = driver.send(());
            }
            before
        } else {
            Err(OVER.to_owned())
        };
        drop(go);
        let joined = drivers
            .into_iter()
            .map(|driver| driver.join().unwrap_or_else(|panic| Err(last_words(panic.as_ref()))));
        let seen = together(joined.collect())?;
        Ok((seen, Cost::so_far(process_id)?.since(before?)))
    })
}

/// What a driver says that failed only because another one did.
const OVER: &str = "another queue failed";

/// What all drivers saw, or the first reason why there is nothing.
fn together(joined: Vec<Result<Seen, String>>) -> Result<Seen, String> {
    let failure = joined.iter().filter_map(|seen| seen.as_ref().err());
    if let Some(why) = failure.min_by_key(|why| *why == OVER) {
        return Err(why.clone());
    }
    let seen = joined.into_iter().flatten().reduce(|one, other| one.and(&other));
    seen.ok_or_else(|| "no queue".to_owned())
}

/// io_uring without a virtqueue.
pub fn straight(
    workload: Workload,
    (place, image): (Place, &Path),
    times: [Duration; 2],
) -> Result<Option<Sample>, String> {
    let flags = if place == Place::Direct { libc::O_DIRECT } else { 0 };
    let file = File::options().read(true).write(true).custom_flags(flags).open(image);
    let file = file.map_err(|error| format!("{}: {error}", image.display()))?;
    let Some(done) = straight::run(&file, workload, USED_BYTES, times)? else { return Ok(None) };
    let iops = done.operations as f64 / done.elapsed.as_secs_f64();
    Ok(Some(Sample {
        iops,
        bytes_per_second: iops * f64::from(workload.block_bytes),
        cpu_us: done.cost.cpu.as_secs_f64() * 1e6 / done.operations as f64,
        switches: done.cost.switches as f64 / done.operations as f64,
        ..Sample::default()
    }))
}
