//! A chart of numbers over time, of block characters.

use crate::cli::local_time::LocalTime;
use std::time::Duration;

/// The lines of a chart, each of eight steps.
const ROWS: usize = 6;
const STEPS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What stands left of the columns: a number, a blank and a line.
const MARGIN: usize = 14;

/// The numbers of a stretch of time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stretch {
    /// When it begins, in Unix seconds.
    time: f64,
    least: f64,
    mean: f64,
    most: f64,
    count: f64,
}

impl Stretch {
    /// What `values --points` prints as comma-separated values; `None` where it is anything else.
    pub fn of_csv(text: &[u8]) -> Option<Vec<Self>> {
        let mut lines = std::str::from_utf8(text).ok()?.lines();
        (lines.next()? == "time,least,mean,most,count").then_some(())?;
        lines
            .map(|line| {
                let mut cells = line.split(',').map(|cell| cell.parse().ok());
                let mut next = || cells.next().flatten();
                let stretch = Self {
                    time: next()?,
                    least: next()?,
                    mean: next()?,
                    most: next()?,
                    count: next()?,
                };
                next().is_none().then_some(stretch)
            })
            .collect()
    }
}

/// Numbers over time, summed up.
#[derive(Debug)]
pub struct Chart {
    begin: Duration,
    end: Duration,
    least: f64,
    mean: f64,
    most: f64,
    /// The mean of each column, where there is one.
    columns: Vec<Option<f64>>,
}

impl Chart {
    /// The columns of a chart on a screen of this width.
    pub fn columns(width: usize) -> usize {
        width.saturating_sub(MARGIN).clamp(10, 1_000)
    }

    /// The chart of the last stretch of this length.
    pub fn new(stretches: &[Stretch], columns: usize, now: Duration, length: Duration) -> Self {
        let begin = now.saturating_sub(length);
        let width = length.as_secs_f64() / columns as f64;
        let mut means = vec![None; columns];
        for stretch in stretches {
            // Both programs have read the clock, one a little after the other.
            let place = ((stretch.time - begin.as_secs_f64()) / width).round().max(0.0) as usize;
            means[place.min(columns - 1)] = Some(stretch.mean);
        }
        let count: f64 = stretches.iter().map(|it| it.count).sum();
        Self {
            begin,
            end: now,
            least: stretches.iter().map(|it| it.least).fold(f64::INFINITY, f64::min),
            mean: stretches.iter().map(|it| it.mean * (it.count / count)).sum(),
            most: stretches.iter().map(|it| it.most).fold(f64::NEG_INFINITY, f64::max),
            columns: means,
        }
    }

    /// The lines of the chart, and the figures below it.
    pub fn render(&self, local: &LocalTime) -> String {
        let mut text = String::new();
        for row in (0..ROWS).rev() {
            let label = match row {
                0 => short(self.least),
                row if row == ROWS - 1 => short(self.most),
                _ => String::new(),
            };
            let line: String = self.columns.iter().map(|mean| self.sign(*mean, row)).collect();
            text.push_str(format!("{label:>12} │{line}").trim_end());
            text.push('\n');
        }
        let (begin, end) = (local.show(self.begin.as_secs()), local.show(self.end.as_secs()));
        let (least, mean, most) = (short(self.least), short(self.mean), short(self.most));
        text.push_str(&format!("{:>12} └ {begin} to {end}\n", ""));
        text.push_str(&format!("least {least}  mean {mean}  most {most}\n"));
        text
    }

    /// What a column shows in a row, of which 0 is the lowest.
    fn sign(&self, mean: Option<f64>, row: usize) -> char {
        let Some(mean) = mean else { return ' ' };
        // Halves, because the difference of the largest numbers would be infinite.
        let range = self.most / 2.0 - self.least / 2.0;
        let share = if range > 0.0 { (mean / 2.0 - self.least / 2.0) / range } else { 0.5 };
        // The least number is also visible.
        let height = 1 + (share * (ROWS * 8 - 1) as f64).round() as usize;
        STEPS[height.saturating_sub(row * 8).min(8)]
    }
}

/// A number with as many places as matter.
fn short(number: f64) -> String {
    let size = number.abs();
    if size != 0.0 && !(1e-3..1e9).contains(&size) {
        return format!("{number:.3e}");
    }
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: Duration = Duration::from_secs(951_782_400);

    fn chart(csv: &str) -> Chart {
        let stretches = Stretch::of_csv(csv.as_bytes()).unwrap();
        Chart::new(&stretches, 4, END, Duration::from_secs(40))
    }

    fn rendered(chart: &Chart) -> String {
        chart.render(&LocalTime::by_rules("UTC0"))
    }

    #[test]
    fn a_chart_shows_each_stretch_between_the_least_and_the_most() {
        let chart = chart(
            "time,least,mean,most,count\r\n951782360.2,-4.5,-4.5,-4.5,1\r\n\
             951782370.2,0,6,12,3\r\n951782390.2,20,20,20,2\r\n",
        );
        assert_eq!(
            rendered(&chart),
            "          20 │   █\n             │   █\n             │   █\n             │ ▅ █\n\
             \u{20}            │ █ █\n        -4.5 │▁█ █\n             \
             └ 2000-02-28 23:59:20 UTC to 2000-02-29 00:00:00 UTC\n\
             least -4.5  mean 8.917  most 20\n"
        );
    }

    #[test]
    fn numbers_that_never_change_and_the_largest_are_drawn() {
        let flat = chart("time,least,mean,most,count\r\n951782360,7,7,7,1\r\n");
        assert!(rendered(&flat).ends_with("least 7  mean 7  most 7\n"));
        let wide = chart("time,least,mean,most,count\r\n951782360,-1.7e308,0,1.7e308,2\r\n");
        assert!(rendered(&wide).contains("most 1.700e308"), "{}", rendered(&wide));
        let late = chart("time,least,mean,most,count\r\n951782500,1,1,1,1\r\n");
        assert_eq!(late.columns, [None, None, None, Some(1.0)]);
    }

    #[test]
    fn anything_else_is_not_understood() {
        for text in ["", "time,number", "time,least,mean,most,count\r\n1,2,3\r\n"] {
            assert_eq!(Stretch::of_csv(text.as_bytes()), None, "{text}");
        }
        let more = "time,least,mean,most,count\r\n1,2,3,4,5,6\r\n";
        assert_eq!(Stretch::of_csv(more.as_bytes()), None);
        assert_eq!(Stretch::of_csv(b"time,least,mean,most,count\r\n"), Some(vec![]));
    }
}
