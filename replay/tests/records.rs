//! Records of all kinds: measurements, and those of no sense.

mod common;

use agentsight_formats::record::{self, Metric, kind, metric};
use common::log::*;
use common::*;
use zerocopy::FromZeros;

#[test]
fn measurements_have_names_and_units() {
    let mut log = Log::default();
    for (name, value) in [(metric::RSS, 4096), (99, -1)] {
        let mut fixed = Metric::new_zeroed();
        fixed.header = log.header(kind::METRIC);
        (fixed.name, fixed.value) = (name.into(), value.into());
        log.push(&fixed, &[]);
    }
    let seen = log.rows();
    let rows = seen.cells("metrics", &["proc_id", "name", "unit", "value"]);
    assert_eq!(rows, [["1", "rss", "bytes", "4096"], ["1", "99", "", "-1"]]);
}

#[test]
fn a_record_too_short_for_its_kind_is_counted() {
    let mut log = Log::default();
    let short = record::Adopt { header: log.header(kind::FILE) };
    log.push(&short, &[]);
    let (seen, report) = rows_of(&capture(&log.script.records), None);
    let drops = cells(seen.table("drops")[0], &["reason", "source", "records"]);
    assert_eq!(drops, ["malformed", "file", "1"]);
    assert!(report.lossy());
}

/// Every kind of record, with bytes of no sense in it.
#[test]
fn records_of_no_sense_never_panic() {
    let mut random = random();
    let mut records = Vec::new();
    for round in 0..4000u64 {
        let (kind, _) = kind::NAMES[round as usize % kind::NAMES.len()];
        if kind == kind::CHECKPOINT {
            continue;
        }
        let small = random().is_multiple_of(2);
        let noise: Vec<u8> = (0..random() % 200).map(|_| if small { random() % 3 } else { random() } as u8).collect();
        let fixed = record::Adopt { header: header(kind, round, (random() % 4) as u32) };
        records.push(bytes(&fixed, &[&noise]));
    }
    let file = capture(&records);
    let (all, _) = rows_of(&file, None);
    for table in agentsight_replay::tables::TABLES {
        assert_eq!(rows_of(&file, Some(table.name)).0.table(table.name), all.table(table.name), "{}", table.name);
    }
}
