//! Line charts as inline SVG: axes with round numbers, lines, points with their ranges, a legend
//! beside it that never overlaps.
//!
//! Colours are classes, so that the style sheet decides them for light, dark and print. What is to
//! be said of a point is its `<title>`, which browsers show as a tooltip. Each series has a marker
//! of its own shape as well as its colour. A point that was measured on a busy machine is hollow.

use std::fmt::Write as _;

use maud::{Markup, html};

/// The drawing, in units that are about a pixel.
const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 44.0;

/// How wide a figure of a tick's name is, about.
const FIGURE_WIDTH: f64 = 6.6;

/// Colours there are; then they are used again, dashed.
const COLOURS: usize = 8;

/// How values become places.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scale {
    Linear,
    /// Of values above 0.
    Logarithmic,
}

/// An axis.
#[derive(Clone, Debug)]
pub struct Axis {
    pub label: String,
    pub scale: Scale,
    pub from: f64,
    pub to: f64,
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0 to a round number above `max`.
    pub fn from_zero(label: &str, max: f64, name: impl Fn(f64) -> String) -> Self {
        let max = if max > 0.0 { max } else { 1.0 };
        // 1, 2, 2.5 or 5 times a power of ten, so that there are four to eight steps.
        let rough = max / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step =
            [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough);
        let step = step.unwrap_or(10.0 * power);
        let steps = (max * 1.02 / step).ceil();
        let ticks = (0..=steps as usize).map(|tick| (tick as f64 * step, name(tick as f64 * step)));
        Axis {
            label: label.to_owned(),
            scale: Scale::Linear,
            from: 0.0,
            to: steps * step,
            ticks: ticks.collect(),
        }
    }

    /// Whole powers of ten around `min` and `max`.
    pub fn powers(label: &str, min: f64, max: f64, name: impl Fn(f64) -> String) -> Self {
        let from = min.max(f64::MIN_POSITIVE).log10().floor();
        let to = max.max(f64::MIN_POSITIVE).log10().ceil().max(from + 1.0);
        let powers = (0..=(to - from) as i32).map(|power| 10f64.powf(from + f64::from(power)));
        Axis {
            label: label.to_owned(),
            scale: Scale::Logarithmic,
            from: 10f64.powf(from),
            to: 10f64.powf(to),
            ticks: powers.map(|value| (value, name(value))).collect(),
        }
    }

    /// Where a value is, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear => (value - self.from) / (self.to - self.from),
            Scale::Logarithmic => {
                (value.max(self.from).log10() - self.from.log10()) / (self.to.log10() - self.from.log10())
            }
        };
        place.clamp(0.0, 1.0)
    }
}

/// A measured point.
#[derive(Clone, Debug)]
pub struct Point {
    pub x: f64,
    pub y: f64,
    /// The lowest and the highest, if there are several.
    pub range: Option<(f64, f64)>,
    /// What is said of it.
    pub says: String,
    pub is_disturbed: bool,
}

/// What belongs together.
#[derive(Clone, Debug, Default)]
pub struct Series {
    pub label: String,
    /// A solid line, through the points or not.
    pub line: Vec<(f64, f64)>,
    /// A dotted one.
    pub fit: Vec<(f64, f64)>,
    pub points: Vec<Point>,
}

/// A chart.
#[derive(Clone, Debug)]
pub struct Chart {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
    /// What would be ideal: its name and a grey line.
    pub ideal: Option<(String, Vec<(f64, f64)>)>,
}

/// To a tenth of a unit.
fn rounded(place: f64) -> f64 {
    (place * 10.0).round() / 10.0
}

/// The outline of a series' marker around the origin.
fn marker(series: usize) -> &'static str {
    match series % 4 {
        0 => "M-3.6 0a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0 -7.2 0Z",
        1 => "M-3.2 -3.2H3.2V3.2H-3.2Z",
        2 => "M0 -4.5L4.5 0L0 4.5L-4.5 0Z",
        _ => "M0 -4.2L4.2 3.4H-4.2Z",
    }
}

/// The classes of a series' colour and dash.
fn class(series: usize) -> String {
    let again = if series >= COLOURS { " again" } else { "" };
    format!("s{}{again}", series % COLOURS)
}

impl Chart {
    fn left(&self, x: f64) -> f64 {
        rounded(LEFT + self.x.place(x) * (WIDTH - LEFT - RIGHT))
    }

    fn top(&self, y: f64) -> f64 {
        rounded(TOP + (1.0 - self.y.place(y)) * (HEIGHT - TOP - BOTTOM))
    }

    fn path(&self, line: &[(f64, f64)]) -> String {
        let mut path = String::new();
        for (number, (x, y)) in line.iter().enumerate() {
            let verb = if number == 0 { 'M' } else { 'L' };
            write!(path, "{verb}{} {}", self.left(*x), self.top(*y)).expect("a string takes all");
        }
        path
    }

    fn point(&self, point: &Point, series: usize) -> Markup {
        let (x, y) = (self.left(point.x), self.top(point.y));
        html! {
            g class=(if point.is_disturbed { "point disturbed" } else { "point" }) {
                title { (point.says) }
                @if let Some((lowest, highest)) = point.range {
                    @let (low, high) = (self.top(lowest), self.top(highest));
                    path.range d=(format!("M{x} {low}V{high}M{} {low}h6M{} {high}h6", x - 3.0, x - 3.0)) {}
                }
                path.marker d=(marker(series)) transform=(format!("translate({x} {y})")) {}
                // Larger than what is seen, so that it is easy to point at.
                circle.target cx=(x) cy=(y) r="10" {}
            }
        }
    }

    /// Where the names of the lower axis stand that have room beside each other; the last one
    /// always has.
    fn names_below(&self) -> Vec<(f64, &str)> {
        let mut free = f64::INFINITY;
        let places = self.x.ticks.iter().rev().filter_map(|(value, name)| {
            let half = name.chars().count() as f64 * FIGURE_WIDTH / 2.0;
            let middle = self.left(*value).min(WIDTH - half);
            let fits = middle + half <= free;
            if fits {
                free = middle - half - FIGURE_WIDTH;
            }
            fits.then_some((rounded(middle), name.as_str()))
        });
        places.collect()
    }

    fn axes(&self) -> Markup {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        html! {
            g.grid {
                @for (value, _) in &self.y.ticks {
                    path d=(format!("M{LEFT} {}H{right}", self.top(*value))) {}
                }
            }
            g.axis {
                path d=(format!("M{LEFT} {bottom}H{right}")) {}
                @for (value, _) in &self.x.ticks {
                    path d=(format!("M{} {bottom}v4", self.left(*value))) {}
                }
            }
            g.ticks {
                @for (value, name) in &self.y.ticks {
                    text x=(LEFT - 7.0) y=(self.top(*value) + 3.8) text-anchor="end" { (name) }
                }
                @for (middle, name) in self.names_below() {
                    text x=(middle) y=(bottom + 17.0) text-anchor="middle" { (name) }
                }
                text.label x=((LEFT + right) / 2.0) y=(HEIGHT - 6.0) text-anchor="middle" { (self.x.label) }
            }
        }
    }

    fn legend(&self) -> Markup {
        let is_disturbed =
            self.series.iter().any(|series| series.points.iter().any(|point| point.is_disturbed));
        let has_fit = self.series.iter().any(|series| !series.fit.is_empty());
        let sample = |class: String, draw: Markup| {
            html! { svg class=(format!("sample {class}")) viewBox="-13 -6 26 12" width="26" height="12" aria-hidden="true" { (draw) } }
        };
        html! {
            ul.legend {
                @for (number, series) in self.series.iter().enumerate() {
                    li {
                        (sample(class(number), html! {
                            path.line d="M-13 0H13" {}
                            @if !series.points.is_empty() { path.marker d=(marker(number)) {} }
                        }))
                        (series.label)
                    }
                }
                @if let Some((name, _)) = &self.ideal {
                    li { (sample(String::new(), html! { path.ideal d="M-13 0H13" {} })) (name) }
                }
                @if has_fit {
                    li { (sample("neutral".to_owned(), html! { path.fit d="M-13 0H13" {} })) "fit" }
                }
                @if is_disturbed {
                    li { (sample("neutral".to_owned(), html! { g.point.disturbed { path.marker d=(marker(0)) {} } }))
                        "hollow: the machine was busy" }
                }
            }
        }
    }

    /// The chart with its title and legend.
    pub fn draw(&self) -> Markup {
        html! {
            figure.chart {
                figcaption { strong { (self.title) } span.unit { (self.y.label) } }
                (self.legend())
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(format!("{}: {} over {}", self.title, self.y.label, self.x.label)) {
                    (self.axes())
                    @if let Some((_, line)) = &self.ideal { path.ideal d=(self.path(line)) {} }
                    @for (number, series) in self.series.iter().enumerate() {
                        g class=(class(number)) {
                            @if series.fit.len() > 1 { path.fit d=(self.path(&series.fit)) {} }
                            @if series.line.len() > 1 { path.line d=(self.path(&series.line)) {} }
                        }
                    }
                    // Above all lines, so that none hides a point or takes its tooltip.
                    @for (number, series) in self.series.iter().enumerate() {
                        g class=(class(number)) {
                            @for point in &series.points { (self.point(point, number)) }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_all() {
        for max in [0.0, 0.003, 0.7, 1.0, 9.99, 17.0, 123_456.0, 8e9] {
            let axis = Axis::from_zero("y", max, |value| value.to_string());
            let most = if max > 0.0 { max } else { 1.0 };
            assert!(axis.to >= most && axis.to <= 1.6 * most, "{max}: {}", axis.to);
            assert!((4..=9).contains(&axis.ticks.len()), "{max}: {:?}", axis.ticks);
        }
        let axis = Axis::powers("y", 340.0, 2.5e6, |value| value.to_string());
        assert_eq!((axis.from.round(), axis.to.round(), axis.ticks.len()), (100.0, 1e7, 6));
        assert_eq!(axis.place(1e4), 0.4);
    }

    #[test]
    fn points_are_where_their_values_are() {
        let axis = |max| Axis::from_zero("", max, |value| value.to_string());
        let mut chart =
            Chart { title: "A & B".into(), x: axis(9.0), y: axis(9.0), series: Vec::new(), ideal: None };
        assert_eq!((chart.left(0.0), chart.left(10.0)), (LEFT, WIDTH - RIGHT));
        assert_eq!((chart.top(0.0), chart.top(10.0)), (HEIGHT - BOTTOM, TOP));
        let point = Point { x: 5.0, y: 5.0, range: Some((4.0, 6.0)), says: "<5>".into(), is_disturbed: true };
        chart.series.push(Series { label: "one".into(), points: vec![point], ..Series::default() });
        let drawn = chart.draw().into_string();
        assert!(
            drawn.contains("translate(240 125)") && drawn.contains(r#"point disturbed"><title>"#),
            "{drawn}"
        );
        assert!(drawn.contains("&lt;5&gt;") && drawn.contains("A &amp; B"), "{drawn}");
    }
}
