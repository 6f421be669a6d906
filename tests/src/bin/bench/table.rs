//! Figures with their spread, in columns.

use crate::watch::Run;

/// Several values of one figure.
#[derive(Debug, Default)]
pub(crate) struct Figure(Vec<f64>);

impl Figure {
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The middle one, of an even number the mean of the two.
    pub(crate) fn median(&self) -> f64 {
        let middle = |at: usize| self.0.get(at).copied().unwrap_or(f64::NAN);
        let half = self.0.len() / 2;
        if self.0.len() % 2 == 1 {
            middle(half)
        } else {
            f64::midpoint(middle(half.wrapping_sub(1)), middle(half))
        }
    }

    /// `median (least - most)`, or the median alone of one value.
    pub(crate) fn show(&self, scale: f64, digits: usize) -> String {
        let text = |value: f64| format!("{:.digits$}", value / scale);
        match (self.0.first(), self.0.last()) {
            (Some(least), Some(most)) if self.0.len() > 1 => {
                format!("{} ({}-{})", text(self.median()), text(*least), text(*most))
            }
            (Some(only), _) => text(*only),
            (None, _) => "-".to_owned(),
        }
    }
}

/// The runs of one reader, round by round.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) runs: Vec<Run>,
}

/// The lines, each beside the one named `base` in the same round.
pub(crate) fn show(lines: &[Line], base: &str) -> String {
    let base_runs = lines.iter().find(|line| line.name == base).map(|line| &line.runs);
    let mut rows = vec![[
        "reader".to_owned(),
        "k rows/s".to_owned(),
        format!("x {base}"),
        "client us/row".to_owned(),
        "walsender us/row".to_owned(),
        "client/walsender".to_owned(),
        "RSS peak MiB".to_owned(),
    ]];
    for Line { name, runs } in lines {
        let figure = |value: &dyn Fn(&Run) -> f64| Figure::of(runs.iter().map(value));
        let ratios = base_runs.into_iter().flatten().zip(runs);
        let ratios = ratios.map(|(base, run)| run.rows_per_second() / base.rows_per_second());
        rows.push([
            name.clone(),
            figure(&Run::rows_per_second).show(1_000.0, 0),
            Figure::of(ratios).show(1.0, 2),
            figure(&Run::client_us).show(1.0, 2),
            figure(&Run::sender_us).show(1.0, 2),
            figure(&|run| run.client_us() / run.sender_us()).show(1.0, 2),
            figure(&|run| run.rss_kib as f64).show(1_024.0, 0),
        ]);
    }
    align(&rows)
}

/// Columns as wide as their widest cell.
pub(crate) fn align<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("  {}", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_its_median_and_its_spread() {
        let figure = Figure::of([3.0, 1.0, 2.0].into_iter());
        assert_eq!(figure.show(1.0, 1), "2.0 (1.0-3.0)");
        assert_eq!(Figure::of([1.0, 2.0].into_iter()).median(), 1.5);
        assert_eq!(Figure::of([5.0].into_iter()).show(1.0, 0), "5");
        assert_eq!(Figure::default().show(1.0, 0), "-");
    }
}
