//! What stands in JSON as base64: images, documents, signatures. Of these, hash, size and type are kept, not the letters.
//!
//! A long text of such letters is taken for it wherever it stands; a short one, which may be a word, where an API has its images:
//! in a `data:` URL, as the `data` beside a media type (Anthropic, Gemini, MCP), as the `bytes` of a `source` (Bedrock), as the
//! `data` of OpenAI's `input_audio`, or as an image that is nothing but a text (Ollama).

use crate::hex::hex;
use crate::values;
use base64::Engine;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// Shorter texts may be words.
const SHORTEST: usize = 256;

/// The JSON of a part of a message without what is opaque in it, which is replaced by `{"sha256": …, "bytes": …}` and its type, if
/// that is told. Adds the sizes of what was replaced to `bytes`.
pub(super) fn removed(kind: &str, payload: &Value, bytes: &mut usize) -> Value {
    without(payload, "", kind == "image", bytes)
}

/// A result of a tool without what is opaque in it, if it is the JSON of its parts.
pub(crate) fn removed_from_text(text: &str) -> Cow<'_, str> {
    let json = if text.starts_with(['[', '{']) { values::parse(text.as_bytes()) } else { None };
    let mut bytes = 0;
    let removed = json.map(|value| without(&value, "", false, &mut bytes));
    removed.filter(|_| bytes > 0).map_or(Cow::Borrowed(text), |value| Cow::Owned(value.to_string()))
}

/// A value that is the field `name` of something; `certain` if a text there is no word.
fn without(value: &Value, name: &str, certain: bool, bytes: &mut usize) -> Value {
    match value {
        Value::String(text) => {
            let Some((data, kind)) = opaque(text, certain) else { return value.clone() };
            *bytes += data.len();
            let mut stands_for = json!({"sha256": hex(&Sha256::digest(&data)), "bytes": data.len()});
            if let (Some(kind), Some(object)) = (kind, stands_for.as_object_mut()) {
                object.insert("media_type".to_owned(), kind.into());
            }
            stands_for
        }
        Value::Array(items) => items.iter().map(|item| without(item, name, false, bytes)).collect(),
        Value::Object(fields) => {
            let typed = ["media_type", "mimeType", "mime_type"].iter().any(|name| fields.contains_key(*name));
            let certain = |field: &str| match field {
                "data" => typed || name == "input_audio",
                "bytes" => name == "source",
                _ => false,
            };
            let field = |(name, value): (&String, &Value)| (name.clone(), without(value, name, certain(name), bytes));
            Value::Object(fields.iter().map(field).collect::<Map<_, _>>())
        }
        other => other.clone(),
    }
}

/// The bytes that a text stands for, and the type that it gives them.
fn opaque(text: &str, certain: bool) -> Option<(Vec<u8>, Option<&str>)> {
    let (text, kind) = match text.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")) {
        Some((kind, rest)) => (rest, Some(kind)),
        None if text.len() < SHORTEST && !certain || text.is_empty() => return None,
        None => (text, None),
    };
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte);
    if !text.bytes().all(letter) {
        return None;
    }
    let engines: [&GeneralPurpose; 4] = [&STANDARD, &URL_SAFE, &STANDARD_NO_PAD, &URL_SAFE_NO_PAD];
    engines.iter().find_map(|engine| engine.decode(text).ok()).map(|data| (data, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is kept of it.
    fn kept(data: &[u8]) -> Value {
        json!({"sha256": hex(&Sha256::digest(data)), "bytes": data.len()})
    }

    #[test]
    fn images_stand_for_themselves_by_hash_size_and_type() {
        let data = STANDARD.encode([7; 300]);
        let image = json!({"type": "image", "source": {"media_type": "image/png", "data": data}});
        let mut bytes = 0;
        let without = removed("image", &image, &mut bytes);
        assert_eq!((bytes, &without["source"]["data"]), (300, &kept(&[7; 300])));
        let url = removed("", &json!({"url": "data:image/gif;base64,R0lGODlh"}), &mut bytes);
        assert_eq!((&url["url"]["media_type"], &url["url"]["bytes"]), (&json!("image/gif"), &json!(6)));
        assert!(!removed_from_text(&format!("[{image}]")).contains(&data));
    }

    #[test]
    fn the_smallest_image_of_every_api_is_replaced() {
        let small = [7; 70];
        let data = STANDARD.encode(small);
        let (url, kept) = (format!("data:image/png;base64,{data}"), kept(&small));
        let of_url = json!({"sha256": kept["sha256"], "bytes": 70, "media_type": "image/png"});
        let cases: [fn(&Value) -> Value; 5] = [
            |data| json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}),
            |data| json!({"inlineData": {"mimeType": "image/png", "data": data}}),
            |data| json!({"inline_data": {"data": data, "mime_type": "image/png"}}),
            |data| json!({"image": {"format": "png", "source": {"bytes": data}}}),
            |data| json!({"type": "input_audio", "input_audio": {"format": "wav", "data": data}}),
        ];
        let mut bytes = 0;
        for image in cases {
            let (sent, shown) = (image(&data.as_str().into()), image(&kept));
            assert_eq!(removed("image", &sent, &mut bytes), shown);
            assert_eq!(removed_from_text(&json!([sent]).to_string()), json!([shown]).to_string());
        }
        let of_responses = json!({"type": "input_image", "image_url": url});
        assert_eq!(removed("input_image", &of_responses, &mut bytes)["image_url"], of_url);
        assert_eq!(removed("image", &data.as_str().into(), &mut bytes), kept);
        assert_eq!(bytes, 7 * small.len());
    }

    #[test]
    fn words_stay() {
        let words = json!({
            "text": "so ".repeat(200), "word": "a".repeat(255), "url": "https://example.com/a.png",
            "data": "abcd", "bytes": "1234", "source": {"data": "abcd"}, "parts": [{"mimeType": "text/plain", "name": "abcd"}]
        });
        let mut bytes = 0;
        assert_eq!((removed("", &words, &mut bytes), bytes), (words.clone(), 0));
        assert_eq!(removed_from_text(&words.to_string()), words.to_string());
        assert_eq!(removed_from_text("[abcd"), "[abcd");
    }
}
