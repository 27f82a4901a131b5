//! Whether the model that answered is the one that was asked for.
//!
//! Providers answer a short name with the dated one behind it (`gpt-x` with `gpt-x-2026-01-31`), or the other way round, and
//! routers put the vendor before it (`vendor/gpt-x`), Bedrock region and vendor (`eu.vendor.gpt-x-v1:0`): none of these is another
//! model.

use super::{Analyzer, Inputs, Rows, reads};
use crate::table::Row;
use crate::tables::{Finding, LlmCall};

pub(super) const READS: Inputs = reads(&[(LlmCall::TABLE, &[])]);

pub(super) struct Models;

impl Analyzer for Models {
    fn row(&mut self, row: &dyn Row, out: &mut Rows<'_>) {
        let Some(call) = row.downcast::<LlmCall>() else { return };
        let (Some(asked), Some(served)) = (&call.request_model, &call.response_model) else { return };
        if same(asked, served) {
            return;
        }
        out(&Finding {
            capture_id: call.capture_id.clone(),
            rule_id: "model-substituted".to_owned(),
            severity: "low",
            ts: call.end_ts.or(call.start_ts).unwrap_or_default(),
            subject_kind: "llm_call",
            subject_key: call.llm_call_id.to_string(),
            message: format!("asked for {asked}, answered by {served}"),
            evidence: None,
        });
    }
}

/// Whether two names are of one model.
fn same(asked: &str, served: &str) -> bool {
    let (asked, served) = (bare(asked), bare(served));
    asked.starts_with(&served) || served.starts_with(&asked)
}

/// A name without its vendor and `-latest`, in small letters. A version has digits before its dot, a vendor has none.
fn bare(name: &str) -> String {
    let name = name.rsplit('/').next().unwrap_or(name).to_lowercase();
    let is_word = |part: &str| part.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-');
    let parts: Vec<&str> = name.split('.').collect();
    let vendors = parts.iter().take(parts.len() - 1).take_while(|part| is_word(part)).count();
    let name = parts.split_at(vendors).1.join(".");
    name.strip_suffix("-latest").map(str::to_owned).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_vendors_make_no_other_model() {
        let cases = [
            ("gpt-x", "gpt-x-2026-01-31", true),
            ("vendor/gpt-x", "gpt-x", true),
            ("sonnet-latest", "sonnet-20260101", true),
            ("models/Gem-1", "gem-1", true),
            ("eu.vendor.gpt-4.1-v1:0", "gpt-4.1", true),
            ("eu.vendor.gpt-4.1-v1:0", "gpt-4.2", false),
            ("big-x", "small-x", false),
        ];
        for (asked, served, expected) in cases {
            assert_eq!(same(asked, served), expected, "{asked} {served}");
        }
    }
}
