//! How fast `blkfaultd` is beside its peers: `cargo bench --bench vhost_user_blk`.
//!
//! Knows: what is measured one after the other, and where the figures go. Must not know: how a request
//! is made. Invariants: back ends take turns, A B C B C A, and each is started anew for each of its
//! runs; all figures of a comparison are of one run of this program; what was measured is in the files
//! when the next contest begins. Without a guest: the load comes from the tests' front end, which uses
//! the rings as Linux does, and sleeps until it is called.
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
mod contest;
mod cost;
mod entrants;
mod header;
mod image;
mod load;
mod options;
mod plot;
mod processors;
mod report;
mod run;
mod straight;
mod workload;

use std::process::ExitCode;

use clap::Parser;

use back_end::Place;
use contest::Contests;
use header::Header;
use options::Options;
use processors::Places;
use report::Report;

/// Bytes of the image, and of its lower part that is used; rules are about the rest.
const IMAGE_BYTES: u64 = 256 << 20;
const USED_BYTES: u64 = IMAGE_BYTES / 2;

fn main() -> ExitCode {
    let options = Options::parse();
    let places = match options.check().and_then(|()| options.processors.places()) {
        Ok(places) => places,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let header = Header::new(&options);
    println!("{}", header.text());
    let is_whole = measure_all(&options, &places, &header);
    if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Hold all contests; whether there are figures of each.
fn measure_all(options: &Options, places: &Places, header: &Header) -> bool {
    let (mut report, mut is_whole) = (Report::default(), true);
    for place in options.places() {
        for name in options.kept_away(place) {
            println!("{name} is not on {}: its command has no {{direct}}", place.name());
        }
        if options.entrants(place).is_empty() && !options.wants_straight() {
            continue;
        }
        let mut contests = match Contests::new(options, places, place) {
            Ok(contests) => contests,
            Err(why) => {
                eprintln!("nothing is measured on {}: {why}", place.name());
                is_whole = false;
                continue;
            }
        };
        for workload in options.workloads() {
            let (rows, left_out) = contests.hold(workload);
            is_whole &= !rows.is_empty();
            println!("{}", report::table(&rows, &left_out));
            report.rows.extend(rows);
            report.left_out.extend(left_out);
            keep(options, header, &report);
        }
    }
    let late = report::late(&report.rows);
    println!("{late}");
    is_whole
}

/// Leave the figures so far in files, unless there are none.
fn keep(options: &Options, header: &Header, report: &Report) {
    if report.rows.is_empty() {
        return;
    }
    let table = report::table(&report.rows, &report.left_out);
    let late = report::late(&report.rows);
    let table = format!("{}{table}{late}{}", header.text(), header.commands_text());
    let json = format!("{:#}\n", report::to_json(header, report));
    for (path, text) in
        [(options.file("table", "md"), table), (options.file("figures", "json"), json)]
    {
        let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        if let Err(error) = folder.and_then(|()| std::fs::write(&path, text)) {
            eprintln!("{}: {error}", path.display());
        }
    }
    for place in Place::ALL {
        let path = options.file(&format!("latency-{}", place.name()), "svg");
        if let Err(error) = plot::latency_against_throughput(&report.rows, place, &path) {
            eprintln!("{}: {error}", path.display());
        }
    }
}
