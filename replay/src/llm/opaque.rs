//! What stands in JSON as base64: images, documents, signatures. Of these, hash, size and type are kept, not the letters.

use crate::hex::hex;
use base64::Engine;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// Shorter texts may be words.
const SHORTEST: usize = 256;

/// A value without what is opaque in it, which is replaced by `{"sha256": …, "bytes": …}` and its type, if that is told. Adds
/// the sizes of what was replaced to `bytes`.
pub(super) fn removed(value: &Value, bytes: &mut usize) -> Value {
    match value {
        Value::String(text) => {
            let Some((data, kind)) = opaque(text) else { return value.clone() };
            *bytes += data.len();
            let mut stands_for = json!({"sha256": hex(&Sha256::digest(&data)), "bytes": data.len()});
            if let (Some(kind), Some(object)) = (kind, stands_for.as_object_mut()) {
                object.insert("media_type".to_owned(), kind.into());
            }
            stands_for
        }
        Value::Array(items) => items.iter().map(|item| removed(item, bytes)).collect(),
        Value::Object(fields) => {
            let fields: Map<_, _> = fields.iter().map(|(name, value)| (name.clone(), removed(value, bytes))).collect();
            Value::Object(fields)
        }
        other => other.clone(),
    }
}

/// A text that may be JSON with such in it.
pub(super) fn removed_from_text(text: &str) -> Option<String> {
    if text.len() < SHORTEST || !text.starts_with(['[', '{']) {
        return None;
    }
    let value = serde_json::from_str::<Value>(text).ok()?;
    let mut bytes = 0;
    let without = removed(&value, &mut bytes);
    (bytes > 0).then(|| without.to_string())
}

/// The bytes that a text stands for, and the type that it gives them.
fn opaque(text: &str) -> Option<(Vec<u8>, Option<&str>)> {
    let (text, kind) = match text.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")) {
        Some((kind, rest)) => (rest, Some(kind)),
        None if text.len() < SHORTEST => return None,
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

    #[test]
    fn images_stand_for_themselves_by_hash_size_and_type() {
        let data = STANDARD.encode([7; 300]);
        let image = json!({"type": "image", "source": {"media_type": "image/png", "data": data}});
        let mut bytes = 0;
        let without = removed(&image, &mut bytes);
        assert_eq!((bytes, &without["source"]["data"]["bytes"]), (300, &json!(300)));
        assert_eq!(without["source"]["data"]["sha256"], hex(&Sha256::digest([7; 300])));
        let url = removed(&json!({"url": "data:image/gif;base64,R0lGODlh"}), &mut bytes);
        assert_eq!((&url["url"]["media_type"], &url["url"]["bytes"]), (&json!("image/gif"), &json!(6)));
        assert!(removed_from_text(&format!("[{image}]")).is_some_and(|text| !text.contains(&data)));
    }

    #[test]
    fn words_stay() {
        let words = json!({"text": "so ".repeat(200), "word": "a".repeat(255), "url": "https://example.com/a.png"});
        let mut bytes = 0;
        assert_eq!((removed(&words, &mut bytes), bytes), (words.clone(), 0));
        assert_eq!(removed_from_text(&words.to_string()), None);
    }
}
