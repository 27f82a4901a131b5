//! Errors, as each provider writes them.

use super::text;
use serde_json::Value;

/// What an error without a type is called.
const UNTYPED: &str = "error";

/// The type of the error that an object tells of, if it tells of one.
///
/// OpenAI and most others: `{"error": {"type": …, "code": …}}`; Google: `{"error": {"code": 503, "status": "UNAVAILABLE"}}`;
/// Mistral: `{"object": "error", "type": …}`; Ollama: `{"error": "what went wrong"}`.
pub(super) fn of(json: &Value) -> Option<String> {
    if json.get("object").is_some_and(|object| object == "error") {
        return json.get("type").and_then(text).or_else(|| Some(UNTYPED.to_owned()));
    }
    let error = json.get("error").filter(|error| !error.is_null())?;
    let named = ["type", "code", "status"].iter().find_map(|name| text(error.get(name)?));
    let word = || text(error).filter(|text| !text.is_empty() && text.bytes().all(is_of_word));
    let number = || error.get("code").filter(|code| code.is_i64()).map(Value::to_string);
    named.or_else(word).or_else(number).or_else(|| Some(UNTYPED.to_owned()))
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// The type of error of a response: what its body says, else what AWS says in a header field, else the status.
pub(super) fn of_response(said: Option<String>, field: Option<&str>, status: u16) -> Option<String> {
    let said = said.filter(|said| said != UNTYPED || status < 400);
    // `ValidationException:http://internal.amazon.com/…`
    let aws = || field?.split(':').next().map(str::to_owned);
    said.or_else(|| if status >= 400 { aws().or_else(|| Some(status.to_string())) } else { None })
}
