//! What was measured, as a table and as JSON.
//!
//! Knows: medians and ratios. Must not know: how anything was measured. Invariant: a ratio compares
//! medians of one run of this program, of back ends that took turns.

use serde_json::{Value, json};

use crate::back_end::{Place, Whose};
use crate::workload::Workload;

/// One short run of one back end.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// Operations per second.
    pub iops: f64,
    pub bytes_per_second: f64,
    /// Latency in microseconds: half, 99 % and 99.9 % of operations took no longer.
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    /// CPU time of the back end for an operation, user and system.
    pub cpu_us: f64,
    /// Context switches of the back end's threads for an operation.
    pub switches: f64,
    pub resident_kib: f64,
    pub first_io_ms: f64,
}

/// A figure's name, and the figure.
type Figure = (&'static str, fn(&Sample) -> f64);

impl Sample {
    const FIGURES: [Figure; 9] = [
        ("iops", |sample| sample.iops),
        ("bytes-per-second", |sample| sample.bytes_per_second),
        ("p50-us", |sample| sample.p50_us),
        ("p99-us", |sample| sample.p99_us),
        ("p999-us", |sample| sample.p999_us),
        ("cpu-us", |sample| sample.cpu_us),
        ("switches", |sample| sample.switches),
        ("resident-kib", |sample| sample.resident_kib),
        ("first-io-ms", |sample| sample.first_io_ms),
    ];

    fn to_json(self) -> Value {
        Self::FIGURES
            .iter()
            .map(|(name, figure)| ((*name).to_owned(), json!(figure(&self))))
            .collect()
    }
}

/// All runs of one back end under one workload.
#[derive(Debug)]
pub struct Row {
    pub place: Place,
    pub workload: Workload,
    pub back_end: String,
    pub whose: Whose,
    pub is_special: bool,
    pub samples: Vec<Sample>,
}

/// Somebody without figures.
#[derive(Debug)]
pub struct LeftOut {
    pub place: Place,
    pub workload: Workload,
    pub back_end: String,
    pub why: String,
}

/// What is known so far.
#[derive(Debug, Default)]
pub struct Report {
    pub rows: Vec<Row>,
    pub left_out: Vec<LeftOut>,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

impl Row {
    /// The median of a figure.
    pub fn median(&self, figure: fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(figure).collect())
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
    figure: fn(&Sample) -> f64,
    may: impl Fn(&Row) -> bool + 'a,
) -> impl Iterator<Item = f64> + 'a {
    let may = move |other: &&Row| other.meets(row) && !other.is_special && may(other);
    rows.iter().filter(may).map(move |row| row.median(figure))
}

/// Figures as many as fit a column.
fn short(value: f64) -> String {
    match value {
        value if value >= 10_000.0 => format!("{:.0}k", value / 1000.0),
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// What the columns say.
pub const LEGEND: &str = "\
op/s, latencies and all others are medians of the runs. CPU is the back end's, of all its threads and \
of the kernel's for it, for an operation. `x qsd` divides op/s by those of qemu-storage-daemon's \
fastest configuration there, `x CPU` CPU by that of its cheapest, which may be another one; `x peers` \
divides op/s by those of the fastest back end that is not ours. Blank is what was not measured.";

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
    for LeftOut { place, workload, back_end, why } in left_out {
        let why = why.replace('\n', "; ");
        text +=
            &format!("\n{back_end} is left out of {} on {}: {why}\n", workload.name, place.name());
    }
    text
}

fn line(rows: &[Row], row: &Row) -> String {
    let iops = row.median(|sample| sample.iops);
    let of = |mine: f64, other: Option<f64>| match other {
        Some(other) if row.whose == Whose::Ours && other > 0.0 => format!("{:.2}", mine / other),
        _ => String::new(),
    };
    let cpu = row.median(|sample| sample.cpu_us);
    let is_qsd = |other: &Row| other.whose == Whose::Qemu;
    let qsd = peers(rows, row, |sample| sample.iops, is_qsd).max_by(f64::total_cmp);
    let cheapest = peers(rows, row, |sample| sample.cpu_us, is_qsd).min_by(f64::total_cmp);
    let all = peers(rows, row, |sample| sample.iops, |other| other.whose != Whose::Ours);
    let fastest = all.max_by(f64::total_cmp);
    format!(
        "| {} | {} | {} | {} | {} | {} | {} | {} | {:.0} | {} | {} | {} | {} |\n",
        row.back_end,
        short(iops),
        short(row.median(|sample| sample.bytes_per_second) / 1e6),
        short(row.median(|sample| sample.p50_us)),
        short(row.median(|sample| sample.p99_us)),
        short(row.median(|sample| sample.p999_us)),
        short(row.median(|sample| sample.cpu_us)),
        short(row.median(|sample| sample.switches)),
        row.median(|sample| sample.resident_kib),
        short(row.median(|sample| sample.first_io_ms)),
        of(iops, qsd),
        of(cpu, cheapest),
        of(iops, fastest),
    )
}

/// Everything, for programs.
pub fn to_json(report: &Report) -> Value {
    let row = |row: &Row| {
        json!({
            "place": row.place.name(),
            "workload": row.workload.name,
            "back-end": row.back_end,
            "medians": Sample::FIGURES
                .iter()
                .map(|(name, figure)| ((*name).to_owned(), json!(row.median(*figure))))
                .collect::<Value>(),
            "runs": row.samples.iter().map(|sample| sample.to_json()).collect::<Value>(),
        })
    };
    let left_out = |one: &LeftOut| {
        json!({
            "place": one.place.name(),
            "workload": one.workload.name,
            "back-end": one.back_end,
            "why": one.why,
        })
    };
    json!({
        "rows": report.rows.iter().map(row).collect::<Value>(),
        "left-out": report.left_out.iter().map(left_out).collect::<Value>(),
    })
}
