//! Quantities as people read them: three digits and a unit. A no-break space stands before the
//! unit.

/// Three digits at most: `0.042`, `1.23`, `45.6`, `789`.
fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// `value` in the largest of `units` it fills at least once; each unit is so many of the first.
fn in_units(value: f64, units: &[(f64, &str)]) -> String {
    // 999.7 would be written 1000, and is one of the next unit.
    let fits = |unit: f64| (value.abs() / unit * 1.0005) >= 1.0;
    let (unit, name) = units.iter().rev().find(|(unit, _)| fits(*unit)).unwrap_or(&units[0]);
    format!("{}{name}", digits(value / unit))
}

/// A count or a rate: `950`, `12.3 k`, `4.56 M`.
pub fn count(value: f64) -> String {
    in_units(value, &[(1.0, ""), (1e3, "\u{a0}k"), (1e6, "\u{a0}M"), (1e9, "\u{a0}G")])
}

/// Nanoseconds: `340 ns`, `1.2 µs`, `7.05 ms`, `2 s`.
pub fn nanoseconds(value: f64) -> String {
    in_units(value, &[(1.0, "\u{a0}ns"), (1e3, "\u{a0}µs"), (1e6, "\u{a0}ms"), (1e9, "\u{a0}s")])
}

/// Bytes in powers of 1024.
pub fn bytes(value: f64) -> String {
    const KIB: f64 = 1024.0;
    let units =
        [(1.0, "\u{a0}B"), (KIB, "\u{a0}KiB"), (KIB * KIB, "\u{a0}MiB"), (KIB * KIB * KIB, "\u{a0}GiB")];
    in_units(value, &units)
}

/// A share from 0 to 1, in percent.
pub fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    // Three decimals of a percent are noise; what is not nothing does not read as nothing.
    match percent {
        0.0 => "0\u{a0}%".to_owned(),
        tiny if tiny.abs() < 0.01 => format!("{}0.01\u{a0}%", if tiny > 0.0 { "< " } else { "> -" }),
        some if some.abs() < 10.0 => format!("{}\u{a0}%", digits((some * 100.0).round() / 100.0)),
        much => format!("{}\u{a0}%", digits((much * 10.0).round() / 10.0)),
    }
}

/// A plain number, such as envelopes per transaction.
pub fn number(value: f64) -> String {
    digits(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_and_the_unit_that_fits() {
        let plain = |text: String| text.replace('\u{a0}', " ");
        assert_eq!(
            [0.0, 7.0, 999.4, 999.7, 12_345.0, 4_560_000.0].map(|value| plain(count(value))),
            ["0", "7", "999", "1 k", "12.3 k", "4.56 M"]
        );
        assert_eq!([340.0, 1_200.0, 2e9].map(|value| plain(nanoseconds(value))), ["340 ns", "1.2 µs", "2 s"]);
        assert_eq!(plain(bytes(48.0 * 1024.0)), "48 KiB");
        assert_eq!(
            [0.0, 0.00001, 0.0312, 0.9, 1.0].map(|share| plain(percent(share))),
            ["0 %", "< 0.01 %", "3.12 %", "90 %", "100 %"]
        );
    }
}
