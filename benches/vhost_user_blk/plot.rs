//! Latency against throughput, as SVG.
//!
//! Knows: how to draw. Must not know: how anything was measured.

use std::path::Path;

use plotters::prelude::*;

use crate::back_end::Place;
use crate::report::Row;
use crate::workload::Pattern;

type Anyhow = Box<dyn std::error::Error>;

/// Nothing where there are no two points. One curve for each back end: random reads of 4 KiB, a point for each depth.
pub fn latency_against_throughput(rows: &[Row], place: Place, path: &Path) -> Result<(), Anyhow> {
    let curves = curves(rows, place);
    if curves.is_empty() {
        return Ok(());
    }
    let points = || curves.iter().flat_map(|(_, points)| points.iter().copied());
    let right = points().map(|(iops, _)| iops).fold(1.0, f64::max) * 1.05;
    let top = points().map(|(_, latency)| latency).fold(1.0, f64::max) * 1.3;
    let bottom = points().map(|(_, latency)| latency).fold(f64::MAX, f64::min) * 0.7;

    let area = SVGBackend::new(path, (960, 600)).into_drawing_area();
    area.fill(&WHITE)?;
    let caption =
        format!("4 KiB random reads, {}: median latency against throughput", place.name());
    let mut chart = ChartBuilder::on(&area)
        .caption(caption, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..right, (bottom..top).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("requests per second")
        .y_desc("median latency in microseconds")
        .x_label_formatter(&|iops| format!("{:.0}k", iops / 1000.0))
        .draw()?;
    for (index, (name, points)) in curves.into_iter().enumerate() {
        let color = Palette99::pick(index).to_rgba();
        chart
            .draw_series(LineSeries::new(points.clone(), color.stroke_width(2)))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, color.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()?;
    Ok(())
}

type Curve = (String, Vec<(f64, f64)>);

fn curves(rows: &[Row], place: Place) -> Vec<Curve> {
    let mut curves: Vec<Curve> = Vec::new();
    let is_meant = |row: &&Row| {
        row.place == place
            && row.workload.pattern == Pattern::RandomRead
            && row.workload.queues == 1
    };
    for row in rows.iter().filter(is_meant) {
        let point = (row.median(|sample| Some(sample.iops)), row.median(|sample| sample.p50_us));
        let (Some(iops), Some(p50)) = point else { continue };
        let point = (iops, p50);
        match curves.iter_mut().find(|(name, _)| *name == row.back_end) {
            Some((_, points)) => points.push(point),
            None => curves.push((row.back_end.clone(), vec![point])),
        }
    }
    curves.retain(|(_, points)| {
        points.len() > 1 && points.iter().all(|(iops, p50)| *iops > 0.0 && *p50 > 0.0)
    });
    curves
}
