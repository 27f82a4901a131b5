//! What a call costs: tokens times the price of its model, from a table of prices that is data.
//!
//! The built-in table is `prices.json` beside this file; where each price comes from, and of which day it is, stands in it. A
//! table has this form; prices are US dollars for a million tokens, and what a model has no price for is left out:
//!
//! ```json
//! {"name": "ours", "date": "2026-01-31", "models": {
//!   "model-x": {"input": 3, "output": 15, "cache_read": 0.3, "cache_write": 3.75, "cache_write_1h": 6,
//!               "above": [{"tokens": 200000, "input": 6, "output": 22.5}]},
//!   "model-y": {"input": 1, "output": 2, "up_to": 100000}}}
//! ```
//!
//! - `input` is for tokens of the prompt that are neither read from nor written to a cache; `cache_write` is for Anthropic's
//!   of 5 minutes, which is what it writes unless told otherwise. `output` includes reasoning.
//! - `above`: a prompt of more tokens than that, cached ones included, has these prices for all its tokens. `up_to`: the price
//!   of a longer one is not known.
//! - A model is found by the name of the one that answered, else of the one that was asked for: as it stands, or in small
//!   letters without what stands before the last `/`, without Bedrock's `us.anthropic.` and `-v1:0`, without Vertex's `@…`,
//!   without a date (`-20250929`, `-2025-08-07`), `-latest` or a number of three digits (`-001`) at its end; of Claude with
//!   `-` for `.`. Never by a part of its name.
//! - There is no cost where the model is not in the table, where tokens are not known or of a kind that has no price, where a
//!   call was broken off before the provider said for good what it took, or where another service tier was asked for or given
//!   (batch, flex, priority, fast).
//! - It is the maker's list price, whoever sells it; tools that a provider runs are not in it. What Ollama runs costs nothing
//!   that is known here.

use crate::hex::hex;
use crate::tables::LlmCall;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

/// Prices of models.
#[derive(Debug)]
pub struct Prices {
    /// Name, date and the first 12 digits of the hash, as `llm_calls.price_table` has them.
    pub id: String,
    name: String,
    date: String,
    sha256: String,
    models: BTreeMap<String, Model>,
}

/// A file of prices that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "no table of prices: {problem}; write {{\"name\": \"…\", \"date\": \"2026-01-31\", \"models\": {{\"MODEL\": {{\"input\": 3, \"output\": 15}}}}}}, in US dollars for a million tokens"
)]
pub struct BadPrices {
    problem: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    date: String,
    #[serde(default, rename = "unit")]
    _unit: String,
    #[serde(default, rename = "sources")]
    _sources: Vec<String>,
    models: BTreeMap<String, Model>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    input: f64,
    output: f64,
    cache_read: Option<f64>,
    cache_write: Option<f64>,
    cache_write_1h: Option<f64>,
    #[serde(default)]
    above: Vec<Above>,
    up_to: Option<i64>,
}

/// Prices of longer prompts.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Above {
    tokens: i64,
    input: f64,
    output: f64,
    cache_read: Option<f64>,
    cache_write: Option<f64>,
    cache_write_1h: Option<f64>,
}

/// Prices of one call: input, output, and of the cache.
struct Rates(f64, f64, [Option<f64>; 3]);

static BUILT_IN: LazyLock<Arc<Prices>> =
    LazyLock::new(|| Arc::new(Prices::parse(TABLE).unwrap_or_else(|_| Prices::none())));

const TABLE: &str = include_str!("prices.json");

impl Prices {
    /// The table that comes with this program.
    pub fn built_in() -> Arc<Prices> {
        BUILT_IN.clone()
    }

    /// A table of no prices.
    fn none() -> Prices {
        let (id, name) = (String::new(), String::new());
        Prices { id, name, date: String::new(), sha256: String::new(), models: BTreeMap::new() }
    }

    /// Reads a table.
    ///
    /// # Errors
    /// When the text is no table of prices; the error says where and what would be one.
    pub fn parse(text: &str) -> Result<Prices, BadPrices> {
        let bad = |problem: String| BadPrices { problem };
        let file: File = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
        for (name, model) in &file.models {
            model.check().map_err(|problem| bad(format!("models.{name}: {problem}")))?;
        }
        let sha256 = hex(&Sha256::digest(text));
        let id = format!("{} {} {}", file.name, file.date, &sha256[..12]);
        Ok(Prices { id, name: file.name, date: file.date, sha256, models: file.models })
    }

    /// The table's name, date and hash, for the first line of a replay.
    pub fn pinned(&self) -> Value {
        serde_json::json!({"name": self.name, "date": self.date, "sha256": self.sha256})
    }

    /// What a call costs, in US dollars, as far as it is known, if its usage is final. `tier` is the service tier that was
    /// asked for.
    pub(crate) fn cost(&self, call: &LlmCall, tier: Option<&str>) -> Option<f64> {
        if call.wire_api.starts_with("ollama") || !is_standard(tier) {
            return None;
        }
        let names = [&call.response_model, &call.request_model];
        let model = names.into_iter().flatten().find_map(|name| self.model(name))?;
        let usage: Value = serde_json::from_str(call.usage_raw.as_deref()?).ok()?;
        let text = |name: &str| usage.get(name).and_then(Value::as_str);
        if !is_standard(text("service_tier")) || !is_standard(text("speed")) {
            return None;
        }
        let (input, output) = (call.input_tokens?, call.output_tokens?.checked_add(beside_output(&usage, call))?);
        let (read, written) = (call.cache_read_input_tokens.unwrap_or(0), call.cache_write_input_tokens.unwrap_or(0));
        let hour =
            usage.get("cache_creation").and_then(|of| of.get("ephemeral_1h_input_tokens")?.as_i64()).unwrap_or(0);
        let counts = [read, written.checked_sub(hour)?, hour];
        let plain = input.checked_sub(read)?.checked_sub(written)?;
        if counts.iter().chain([&plain, &output]).any(|count| *count < 0) {
            return None;
        }
        let Rates(of_input, of_output, of_cache) = model.rates(input)?;
        let mut sum = plain as f64 * of_input + output as f64 * of_output;
        for (count, rate) in counts.into_iter().zip(of_cache).filter(|(count, _)| *count > 0) {
            sum += count as f64 * rate?;
        }
        // A millionth of it is dollars; what floating point adds behind ten digits is noise.
        Some((sum * 1e4).round() / 1e10)
    }

    fn model(&self, name: &str) -> Option<&Model> {
        self.models.get(name).or_else(|| {
            let bare = bare(name);
            self.models.get(&*bare).or_else(|| self.models.get(undated(&bare)))
        })
    }
}

impl Model {
    fn check(&self) -> Result<(), String> {
        let below = |name: &str| format!("{name} is below 0");
        let above = self.above.iter().flat_map(|above| {
            [Some(above.input), Some(above.output), above.cache_read, above.cache_write, above.cache_write_1h]
        });
        let own = [Some(self.input), Some(self.output), self.cache_read, self.cache_write, self.cache_write_1h];
        if own.into_iter().chain(above).flatten().any(|price| price < 0.0) {
            return Err(below("a price"));
        }
        if self.above.iter().map(|above| above.tokens).chain(self.up_to).any(|tokens| tokens < 0) {
            return Err(below("a number of tokens"));
        }
        Ok(())
    }

    /// The prices of a call with a prompt of so many tokens.
    fn rates(&self, input: i64) -> Option<Rates> {
        if self.up_to.is_some_and(|most| input > most) {
            return None;
        }
        let tier = self.above.iter().filter(|above| input > above.tokens).max_by_key(|above| above.tokens);
        Some(match tier {
            Some(above) => {
                Rates(above.input, above.output, [above.cache_read, above.cache_write, above.cache_write_1h])
            }
            None => Rates(self.input, self.output, [self.cache_read, self.cache_write, self.cache_write_1h]),
        })
    }
}

/// Reasoning that a provider (xAI) counts beside its output: only its total tells.
fn beside_output(usage: &Value, call: &LlmCall) -> i64 {
    let number = |name: &str| usage.get(name).and_then(Value::as_i64);
    let reasoning = call.reasoning_output_tokens.unwrap_or(0);
    let parts = number("prompt_tokens").zip(number("completion_tokens"));
    let beside = parts.zip(number("total_tokens")).is_some_and(|((prompt, completion), total)| {
        prompt.checked_add(completion).and_then(|sum| sum.checked_add(reasoning)) == Some(total)
    });
    if beside { reasoning } else { 0 }
}

fn is_standard(tier: Option<&str>) -> bool {
    matches!(tier, None | Some("" | "auto" | "default" | "standard" | "standard_only"))
}

/// A model's name as its maker writes it.
fn bare(name: &str) -> Cow<'_, str> {
    let name = name.rsplit('/').next().unwrap_or(name);
    let mut name = name.split('@').next().unwrap_or(name).to_lowercase();
    for vendor in ["anthropic.", "mistral.", "deepseek.", "openai."] {
        if let Some(at) = name.find(vendor) {
            name = name.split_off(at + vendor.len());
        }
    }
    if let Some((before, version)) = name.rsplit_once("-v")
        && !version.is_empty()
        && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b':')
    {
        name.truncate(before.len());
    }
    if name.starts_with("claude-") { Cow::Owned(name.replace('.', "-")) } else { Cow::Owned(name) }
}

/// A name without a date, `-latest` or a short number at its end.
fn undated(name: &str) -> &str {
    let name = name.strip_suffix("-latest").unwrap_or(name);
    let shape: String = name.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let ends = ["-0000-00-00", "-00000000", "-000"];
    let end = ends.iter().find(|end| shape.ends_with(**end)).map_or(0, |end| end.len());
    name.get(..name.len() - end).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call(model: &str, tokens: [i64; 4], usage: Value) -> LlmCall {
        let [input, output, read, write] = tokens;
        LlmCall {
            response_model: Some(model.to_owned()),
            input_tokens: Some(input),
            output_tokens: Some(output),
            cache_read_input_tokens: Some(read),
            cache_write_input_tokens: Some(write),
            usage_raw: Some(usage.to_string()),
            ..LlmCall::default()
        }
    }

    fn table() -> Prices {
        let prices = json!({"input": 3, "output": 15, "cache_read": 0.3, "cache_write": 3.75, "cache_write_1h": 6,
            "above": [{"tokens": 200_000, "input": 6, "output": 22.5}]});
        let models = json!({"claude-x-4-5": prices, "gpt-x": {"input": 1, "output": 2, "up_to": 1000}});
        Prices::parse(&json!({"name": "t", "date": "2026-01-31", "models": models}).to_string()).unwrap()
    }

    #[test]
    fn the_built_in_table_can_be_read() {
        let built_in = Prices::parse(TABLE).unwrap();
        assert!(built_in.models.len() > 100);
        assert!(built_in.models.keys().all(|name| name.to_lowercase() == *name));
    }

    #[test]
    fn each_kind_of_token_has_its_price() {
        let table = table();
        let plain = |tokens| table.cost(&call("claude-x-4-5", tokens, json!({})), None);
        assert_eq!(plain([1_000_000, 0, 0, 0]), Some(6.0));
        assert_eq!(plain([100_000, 10_000, 0, 0]), Some(0.45));
        assert_eq!(plain([100_000, 0, 90_000, 0]), Some(0.057));
        assert_eq!(plain([100_000, 0, 0, 100_000]), Some(0.375));
        let hour =
            json!({"cache_creation": {"ephemeral_1h_input_tokens": 50_000, "ephemeral_5m_input_tokens": 50_000}});
        assert_eq!(table.cost(&call("claude-x-4-5", [100_000, 0, 0, 100_000], hour), None), Some(0.4875));
        assert_eq!(plain([200_001, 0, 0, 0]), Some(1.200006));
        // No price of cached tokens above 200,000; more cached than there are; longer than is known.
        assert_eq!(plain([200_001, 0, 1, 0]), None);
        assert_eq!(plain([1, 0, 2, 0]), None);
        assert_eq!(table.cost(&call("gpt-x", [1001, 0, 0, 0], json!({})), None), None);
        let xai = json!({"prompt_tokens": 10, "completion_tokens": 10, "total_tokens": 30});
        let reasons = LlmCall { reasoning_output_tokens: Some(10), ..call("gpt-x", [10, 10, 0, 0], xai) };
        assert_eq!(table.cost(&reasons, None), Some(0.00005));
    }

    #[test]
    fn models_are_found_however_they_are_named() {
        let table = table();
        for name in [
            "claude-x-4-5",
            "claude-x-4-5-20250929",
            "anthropic/claude-x-4.5",
            "us.anthropic.claude-x-4-5-20250929-v1:0",
            "arn:aws:bedrock:us-east-1:1:inference-profile/eu.anthropic.claude-x-4-5-v2",
            "claude-x-4-5@20250929",
            "models/GPT-X",
            "gpt-x-2026-01-31",
            "gpt-x-latest",
            "gpt-x-001",
        ] {
            assert!(table.model(name).is_some(), "{name}");
        }
        for name in ["gpt-x-pro", "gpt", "claude-x-4", "gpt-x:free", "", "-latest"] {
            assert!(table.model(name).is_none(), "{name}");
        }
    }

    #[test]
    fn nothing_is_guessed() {
        let table = table();
        let good = call("gpt-x", [10, 10, 0, 0], json!({}));
        let cost = |call: LlmCall, tier| table.cost(&call, tier);
        assert!(cost(good.clone(), Some("default")).is_some());
        assert_eq!(cost(good.clone(), Some("priority")), None);
        assert_eq!(
            cost(LlmCall { usage_raw: Some(r#"{"service_tier":"batch"}"#.to_owned()), ..good.clone() }, None),
            None
        );
        assert_eq!(cost(LlmCall { output_tokens: None, ..good.clone() }, None), None);
        assert_eq!(cost(LlmCall { response_model: Some("other".to_owned()), ..good }, None), None);
    }

    #[test]
    fn errors_say_where_and_what_would_be_right() {
        let table = |models: &str| format!(r#"{{"name": "n", "date": "d", "models": {models}}}"#);
        for (text, expected) in [
            ("{".to_owned(), "EOF while parsing"),
            (r#"{"name": "n"}"#.to_owned(), "missing field `date`"),
            (table(r#"{"m": {"input": 1}}"#), "missing field `output` at line 1"),
            (table(r#"{"m": {"input": 1, "output": "2"}}"#), "expected f64 at line 1"),
            (table(r#"{"m": {"input": 1, "output": 2, "cached": 1}}"#), "unknown field `cached`, expected one of"),
            (table(r#"{"m": {"input": 1, "output": -2}}"#), "models.m: a price is below 0"),
        ] {
            let error = Prices::parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(error.ends_with("in US dollars for a million tokens"), "{error}");
        }
    }
}
