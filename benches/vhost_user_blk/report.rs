//! What was measured, as a table and as JSON.
//!
//! Knows: medians and ratios. Must not know: how anything was measured. Invariant: a ratio compares
//! medians of one run of this program, of back ends that took turns.

use std::time::Duration;

use serde_json::{Value, json};

use crate::back_end::{Place, Whose};
use crate::header::Header;
use crate::workload::Workload;

/// One short run of one entrant. What is not measured is `None`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// Operations per second.
    pub iops: f64,
    pub bytes_per_second: f64,
    /// Operations under way, on average.
    pub in_flight: Option<f64>,
    /// Latency in microseconds: half, 99 % and 99.9 % of operations took no longer.
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
    pub p999_us: Option<f64>,
    /// CPU time of the back end for an operation, user and system.
    pub cpu_us: f64,
    /// Context switches of the back end's threads for an operation.
    pub switches: f64,
    pub resident_kib: Option<f64>,
    pub first_io_ms: Option<f64>,
}

/// How a figure is had of a sample.
type Of = fn(&Sample) -> Option<f64>;

const IOPS: Of = |sample| Some(sample.iops);
const BYTES_PER_SECOND: Of = |sample| Some(sample.bytes_per_second);
const IN_FLIGHT: Of = |sample| sample.in_flight;
const P50_US: Of = |sample| sample.p50_us;
const P99_US: Of = |sample| sample.p99_us;
const P999_US: Of = |sample| sample.p999_us;
const CPU_US: Of = |sample| Some(sample.cpu_us);
const SWITCHES: Of = |sample| Some(sample.switches);
const RESIDENT_KIB: Of = |sample| sample.resident_kib;
const FIRST_IO_MS: Of = |sample| sample.first_io_ms;

/// All of them by name.
const FIGURES: [(&str, Of); 10] = [
    ("iops", IOPS),
    ("bytes-per-second", BYTES_PER_SECOND),
    ("in-flight", IN_FLIGHT),
    ("p50-us", P50_US),
    ("p99-us", P99_US),
    ("p999-us", P999_US),
    ("cpu-us", CPU_US),
    ("switches", SWITCHES),
    ("resident-kib", RESIDENT_KIB),
    ("first-io-ms", FIRST_IO_MS),
];

/// All figures as `of` has them.
fn figures(of: impl Fn(Of) -> Option<f64>) -> Value {
    FIGURES.iter().map(|(name, figure)| ((*name).to_owned(), json!(of(*figure)))).collect()
}

/// All runs of one back end under one workload.
#[derive(Debug)]
pub struct Row {
    pub place: Place,
    pub workload: Workload,
    pub back_end: String,
    pub whose: Whose,
    pub is_special: bool,
    /// What its rule delays each request by.
    pub delay: Option<Duration>,
    pub samples: Vec<Sample>,
}

/// Somebody without figures.
#[derive(Debug)]
pub struct LeftOut {
    pub place: Place,
    pub workload: Workload,
    pub back_end: String,
    /// Nor does it take part in what follows in that place.
    pub for_good: bool,
    pub why: String,
}

impl LeftOut {
    pub fn text(&self) -> String {
        let Self { place, workload, back_end, for_good, why } = self;
        let rest = if *for_good { " and of what follows there" } else { "" };
        let (place, why) = (place.name(), why.replace('\n', "; "));
        format!("{back_end} is left out of {} on {place}{rest}: {why}", workload.name)
    }
}

/// What is known so far.
#[derive(Debug, Default)]
pub struct Report {
    pub rows: Vec<Row>,
    pub left_out: Vec<LeftOut>,
}

/// Of those that there are.
fn median(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let mut values: Vec<f64> = values.flatten().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

impl Row {
    /// The median of a figure, if it was measured.
    pub fn median(&self, figure: Of) -> Option<f64> {
        median(self.samples.iter().map(figure))
    }

    /// Whether the rows are of the same contest.
    fn meets(&self, other: &Self) -> bool {
        self.place == other.place && self.workload.name == other.workload.name
    }
}

/// A figure of all that may be compared.
fn peers<'a>(
    rows: &'a [Row],
    row: &'a Row,
    figure: Of,
    may: impl Fn(&Row) -> bool + 'a,
) -> impl Iterator<Item = f64> + 'a {
    let may = move |other: &&Row| other.meets(row) && !other.is_special && may(other);
    rows.iter().filter(may).filter_map(move |row| row.median(figure))
}

/// Figures as many as fit a column.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 10_000.0 => format!("{:.0}k", value / 1000.0),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// The same for what may be missing.
fn cell(value: Option<f64>) -> String {
    value.map(short).unwrap_or_default()
}

/// What the columns say.
pub const LEGEND: &str = "\
op/s, latencies and all others are medians of the runs. CPU is the back end's, of all its threads and \
of the kernel's for it, for an operation. `x qsd` divides op/s by those of qemu-storage-daemon's \
fastest configuration there, `x CPU` CPU by that of its cheapest, which may be another one; `x peers` \
divides op/s by those of the fastest back end that is not ours. Blank is what was not measured.";

/// A number of things, to the last one where they are many.
fn count(value: Option<f64>) -> String {
    match value {
        Some(many) if many >= 100.0 => format!("{many:.0}"),
        few => cell(few),
    }
}

/// The table of contests, as Markdown.
pub fn table(rows: &[Row], left_out: &[LeftOut]) -> String {
    let mut text = String::new();
    let mut last: Option<&Row> = None;
    for row in rows {
        if last.is_none_or(|last| !last.meets(row)) {
            text += &format!("\n### {} on {}\n\n", row.workload.name, row.place.name());
            text += "| back end | op/s | MB/s | p50 us | p99 us | p99.9 us | CPU us | switches | KiB | first I/O ms | x qsd | x CPU | x peers |\n";
            text +=
                "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |\n";
        }
        last = Some(row);
        text += &line(rows, row);
    }
    for left_out in left_out {
        text += &format!("\n{}\n", left_out.text());
    }
    text
}

fn line(rows: &[Row], row: &Row) -> String {
    let is_qsd = |other: &Row| other.whose == Whose::Qemu;
    let is_theirs = |other: &Row| other.whose != Whose::Ours;
    let fastest_qsd = peers(rows, row, IOPS, is_qsd).max_by(f64::total_cmp);
    let cheapest_qsd = peers(rows, row, CPU_US, is_qsd).min_by(f64::total_cmp);
    let fastest = peers(rows, row, IOPS, is_theirs).max_by(f64::total_cmp);
    let is_ours = row.whose == Whose::Ours;
    let ratio = |figure, other: Option<f64>| {
        let ratio = row.median(figure)? / other?;
        (is_ours && ratio.is_finite()).then_some(ratio)
    };
    let mut cells = vec![row.back_end.clone()];
    cells.push(cell(row.median(IOPS)));
    cells.push(cell(row.median(BYTES_PER_SECOND).map(|bytes| bytes / 1e6)));
    cells.extend([P50_US, P99_US, P999_US, CPU_US, SWITCHES].map(|of| cell(row.median(of))));
    cells.push(row.median(RESIDENT_KIB).map(|kib| format!("{kib:.0}")).unwrap_or_default());
    cells.push(cell(row.median(FIRST_IO_MS)));
    cells.push(cell(ratio(IOPS, fastest_qsd)));
    cells.push(cell(ratio(CPU_US, cheapest_qsd)));
    cells.push(cell(ratio(IOPS, fastest)));
    format!("| {} |\n", cells.join(" | "))
}

/// How late delays end: what requests took beyond them, beside what they take without; nothing if none
/// were delayed. What is more than the delay is the back end's lateness and all that requests wait for
/// one another, of which the undelayed ones tell.
pub fn late(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let is_plain = |other: &&Row| other.meets(row) && other.delay.is_none();
        let (Some(delay), Some(plain)) = (row.delay, rows.iter().find(is_plain)) else { continue };
        let delay_us = delay.as_secs_f64() * 1e6;
        let over = |figure| cell(row.median(figure).map(|us| us - delay_us));
        if text.is_empty() {
            text += &format!(
                "\n### Beyond a delay of {delay_us:.0} us\n\n\
                 | load | in flight, undelayed | undelayed p50 us | p99 us | in flight, delayed | p50 \
                 us beyond the delay | p99 us |\n| --- | --: | --: | --: | --: | --: | --: |\n"
            );
        }
        text += &format!(
            "| {} | {} | {} | {} | {} | {} | {} |\n",
            row.workload.name,
            count(plain.median(IN_FLIGHT)),
            cell(plain.median(P50_US)),
            cell(plain.median(P99_US)),
            count(row.median(IN_FLIGHT)),
            over(P50_US),
            over(P99_US),
        );
    }
    text
}

/// Everything, for programs.
pub fn to_json(header: &Header, report: &Report) -> Value {
    let row = |row: &Row| {
        let delay_us = row.delay.map(|delay| delay.as_secs_f64() * 1e6);
        json!({
            "place": row.place.name(),
            "workload": row.workload.name,
            "pieces": row.workload.pieces(),
            "back-end": row.back_end,
            "delay-us": delay_us,
            "medians": figures(|figure| row.median(figure)),
            "runs": row.samples.iter().map(|sample| figures(|of| of(sample))).collect::<Value>(),
        })
    };
    let left_out = |one: &LeftOut| {
        json!({
            "place": one.place.name(),
            "workload": one.workload.name,
            "back-end": one.back_end,
            "for-good": one.for_good,
            "why": one.why,
        })
    };
    json!({
        "run": header.to_json(),
        "rows": report.rows.iter().map(row).collect::<Value>(),
        "left-out": report.left_out.iter().map(left_out).collect::<Value>(),
    })
}
