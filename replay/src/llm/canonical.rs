//! What a message says, apart from how it is written: the hash of it.
//!
//! An agent gives back what a model said, in its next request, but hardly ever byte for byte: it parses arguments and writes
//! them anew, leaves empty texts and thoughts out, trims, turns a text into an array of one text, marks what is to be cached.
//! None of this makes another message:
//!
//! - JSON counts by its values: keys in any order, `1.0` as `1`; arguments that are empty are those of no argument.
//! - Texts that stand side by side are one text; whitespace around it does not count; an empty one is none.
//! - What a model thought does not count: most agents do not give it back, or give back another form of it.
//! - A tool's result that is an array of texts is their text.
//! - `cache_control` does not count, nor do `id` and `status` of a part that no API's file here understands.
//! - Claude Code puts a line of billing into its instructions that differs in every request; it does not count.
//!
//! Ids of tool calls do count: two calls of a tool with the same arguments are two. What an agent changes beyond this (another
//! id, a shortened result, a text of its own) makes another message, and so it should.

use super::message::{Message, Part, Role};
use crate::values;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::fmt::Write;

/// 128 bits of a SHA-256.
pub(crate) type Hash = [u8; 16];

/// What stands before the line of billing in Claude Code's instructions.
const BILLING: &str = "x-anthropic-billing-header:";

/// What a message says; nothing if it says nothing.
pub(crate) fn content(message: &Message) -> Option<Hash> {
    let mut out = Fields::default();
    let mut run = Vec::new();
    for part in &message.parts {
        if let Part::Text(text) = part {
            run.push(if message.role == Role::System { without_billing(text) } else { text });
        } else if !matches!(part, Part::Reasoning(_)) {
            out.texts(&mut run);
            out.part(part);
        }
    }
    out.texts(&mut run);
    (out.count > 0).then(|| {
        out.field(role(message.role).as_bytes());
        first_half(out.hasher)
    })
}

/// A message at its place in a conversation: what it says, and what was said before.
pub(crate) fn chained(parent: Option<Hash>, content: Hash) -> Hash {
    let hasher = Sha256::new().chain_update(parent.unwrap_or_default()).chain_update(content);
    first_half(hasher)
}

/// The hash of several in their order.
pub(crate) fn together(all: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Hash {
    let mut out = Fields::default();
    all.into_iter().for_each(|one| out.field(one.as_ref()));
    first_half(out.hasher)
}

pub(crate) fn role(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

/// Hashes fields one by one, so that no two lists of fields look alike.
#[derive(Default)]
struct Fields {
    hasher: Sha256,
    count: usize,
}

impl Fields {
    fn field(&mut self, bytes: &[u8]) {
        self.count += 1;
        self.hasher.update((bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }

    /// Texts that stand side by side.
    fn texts(&mut self, run: &mut Vec<&str>) {
        let text = match &run[..] {
            [] => return,
            [one] => Cow::Borrowed(*one),
            several => Cow::Owned(several.concat()),
        };
        let text = text.trim();
        if !text.is_empty() {
            self.field(b"text");
            self.field(text.as_bytes());
        }
        run.clear();
    }

    fn part(&mut self, part: &Part) {
        match part {
            Part::ToolCall(call) => {
                self.field(b"call");
                self.field(call.id.as_deref().unwrap_or_default().as_bytes());
                self.field(call.name.as_deref().unwrap_or_default().as_bytes());
                self.field(arguments(&call.arguments).as_bytes());
            }
            Part::ToolResult(result) => {
                self.field(if result.is_error == Some(true) { b"error" } else { b"result" });
                self.field(result.id.as_deref().unwrap_or_default().as_bytes());
                self.field(result_text(&result.text).trim().as_bytes());
            }
            Part::Other { kind, payload } => {
                let mut text = String::new();
                json(payload, &["id", "status"], &mut text);
                self.field(b"other");
                self.field(kind.as_bytes());
                self.field(text.as_bytes());
            }
            Part::Text(_) | Part::Reasoning(_) => {}
        }
    }
}

fn first_half(hasher: Sha256) -> Hash {
    let whole = hasher.finalize();
    std::array::from_fn(|index| whole.get(index).copied().unwrap_or_default())
}

/// Instructions without the line of billing.
fn without_billing(text: &str) -> &str {
    match text.strip_prefix(BILLING) {
        Some(rest) => rest.split_once('\n').map_or("", |(_, rest)| rest),
        None => text,
    }
}

/// Arguments by their values; what is no JSON as it is.
fn arguments(text: &str) -> Cow<'_, str> {
    let text = text.trim();
    if text.is_empty() {
        return Cow::Borrowed("{}");
    }
    let Some(value) = values::parse(text.as_bytes()) else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len());
    json(&value, &[], &mut out);
    Cow::Owned(out)
}

/// A result's text, also if it stands in an array of texts.
pub(super) fn result_text(text: &str) -> Cow<'_, str> {
    let of_text = |item: &Value| {
        let is_text = item.get("type")?.as_str()?.ends_with("text");
        item.get("text")?.as_str().filter(|_| is_text).map(str::to_owned)
    };
    let texts = || match values::parse(text.as_bytes()) {
        Some(Value::Array(items)) => items.iter().map(of_text).collect::<Option<String>>(),
        _ => None,
    };
    let array = text.starts_with("[{");
    array.then(texts).flatten().map_or(Cow::Borrowed(text), Cow::Owned)
}

/// Writes JSON by its values: keys in order, without `cache_control` anywhere and without `but` at the top.
fn json(value: &Value, but: &[&str], out: &mut String) {
    match value {
        Value::Object(object) => {
            let mut fields: Vec<_> =
                object.iter().filter(|(name, _)| *name != "cache_control" && !but.contains(&name.as_str())).collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            let mut before = '{';
            for (name, value) in fields {
                let _ = write!(out, "{before}{}:", Value::from(name.as_str()));
                json(value, &[], out);
                before = ',';
            }
            out.push_str(if before == '{' { "{}" } else { "}" });
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                json(item, &[], out);
            }
            out.push(']');
        }
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            // As JavaScript, which writes most of it, has numbers.
            Some(float) if float.fract() == 0.0 && float.abs() < 9e15 => {
                let _ = write!(out, "{}", float as i64);
            }
            _ => {
                let _ = write!(out, "{number}");
            }
        },
        other => {
            let _ = write!(out, "{other}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::{ToolCall, ToolResult};
    use super::*;
    use serde_json::json;

    fn text(text: &str) -> Part {
        Part::Text(text.to_owned())
    }

    fn call(arguments: &str) -> Part {
        Part::ToolCall(ToolCall { arguments: arguments.to_owned(), ..ToolCall::default() })
    }

    fn result(text: &str) -> Part {
        Part::ToolResult(ToolResult { text: text.to_owned(), ..ToolResult::default() })
    }

    fn said(role: Role, parts: &[Part]) -> Option<Hash> {
        content(&Message::new(role, parts.to_vec()))
    }

    #[test]
    fn how_a_message_is_written_makes_no_difference() {
        let other = |payload: Value| Part::Other { kind: "image".to_owned(), payload };
        let alike: &[(&[Part], &[Part])] = &[
            (&[text("a\n")], &[text(""), text(" a")]),
            (&[text("a "), text("b")], &[text("a b")]),
            (&[Part::Reasoning("hm".to_owned()), text("a")], &[text("a")]),
            (&[call(r#"{"b": 1.0, "a": "\u00e9"}"#)], &[call(r#"{"a":"é","b":1}"#)]),
            (&[call("")], &[call(" {} ")]),
            (&[result("x")], &[result(r#"[{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}]"#)]),
            (&[other(json!({"a": 1, "id": "x"}))], &[other(json!({"cache_control": {}, "a": 1}))]),
        ];
        for (one, other) in alike {
            assert!(said(Role::Assistant, one).is_some());
            assert_eq!(said(Role::Assistant, one), said(Role::Assistant, other), "{one:?}");
        }
        let billed = |cch| format!("x-anthropic-billing-header: cc_version=2; cch={cch};\nYou are");
        assert_eq!(said(Role::System, &[text(&billed(1))]), said(Role::System, &[text(&billed(2))]));
        assert_eq!(said(Role::User, &[text(" \n"), Part::Reasoning("hm".to_owned())]), None);
    }

    #[test]
    fn what_a_message_says_does() {
        let id = |id: &str| Part::ToolCall(ToolCall { id: Some(id.to_owned()), ..ToolCall::default() });
        let apart: &[(&[Part], &[Part])] = &[
            (&[text("ab")], &[text("a b")]),
            (&[id("1")], &[id("2")]),
            (&[call("[1,2]")], &[call("[2,1]")]),
            (&[call("[1]"), call("[2]")], &[call("[2]"), call("[1]")]),
            (&[text("a"), call("{}"), text("b")], &[text("a"), text("b"), call("{}")]),
            (&[result("[{]")], &[result("[{")]),
            (&[text("x")], &[result("x")]),
        ];
        for (one, other) in apart {
            assert_ne!(said(Role::User, one), said(Role::User, other), "{one:?}");
        }
        assert_ne!(said(Role::User, &[text("a")]), said(Role::Assistant, &[text("a")]));
        let a = said(Role::User, &[text("a")]).unwrap();
        assert_ne!(chained(None, a), chained(Some(a), a));
    }
}
