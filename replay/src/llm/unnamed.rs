//! Tool calls without ids. Gemini and Ollama give none: results stand in the order of the calls, or have their names. Here each
//! such call gets a key that is the same in the answer that asks for it and in every request that gives it back: it is made of
//! how the conversation starts, of what is called, and of how often that has been called before.

use super::message::{Message, Part, Role, ToolCall};
use crate::hex::hex;
use crate::values;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Gives keys to the calls and results of a conversation, and of the answer to it.
pub(super) fn give_keys(request: &mut [Message], answer: &mut Message) {
    if !any(request.iter().chain([&*answer])) {
        return;
    }
    let first = request.iter().find(|message| message.role != Role::System);
    let start = Sha256::digest(first.map(Message::text).unwrap_or_default());
    let mut calls: HashMap<String, u32> = HashMap::new();
    let mut pending = Pending::default();
    for part in request.iter_mut().chain([answer]).flat_map(|message| &mut message.parts) {
        match part {
            Part::ToolCall(call) if call.id.is_none() => {
                let what = what(call);
                let times = calls.entry(what.clone()).or_default();
                let key = hex(&Sha256::digest([&start, what.as_bytes(), &times.to_be_bytes()[..]].concat()));
                *times += 1;
                pending.add(call.name.clone(), key.clone());
                call.key = Some(key);
            }
            Part::ToolResult(result) if result.id.is_none() => result.key = pending.take(&result.name),
            _ => {}
        }
    }
}

/// Whether there is a call or a result without an id.
pub(super) fn any<'m>(messages: impl IntoIterator<Item = &'m Message>) -> bool {
    messages.into_iter().flat_map(|message| &message.parts).any(|part| match part {
        Part::ToolCall(call) => call.id.is_none(),
        Part::ToolResult(result) => result.id.is_none(),
        _ => false,
    })
}

/// Calls that wait for their results.
#[derive(Default)]
struct Pending {
    keys: BTreeMap<usize, String>,
    by_name: HashMap<Option<String>, VecDeque<usize>>,
    count: usize,
}

impl Pending {
    fn add(&mut self, name: Option<String>, key: String) {
        self.keys.insert(self.count, key);
        self.by_name.entry(name).or_default().push_back(self.count);
        self.count += 1;
    }

    /// The first of this name, or of all if the result has none.
    fn take(&mut self, name: &Option<String>) -> Option<String> {
        if name.is_none() {
            return self.keys.pop_first().map(|(_, key)| key);
        }
        let places = self.by_name.get_mut(name)?;
        std::iter::from_fn(|| places.pop_front()).find_map(|place| self.keys.remove(&place))
    }
}

/// Name and arguments, however these are written.
fn what(call: &ToolCall) -> String {
    let arguments = values::parse(call.arguments.as_bytes()).map(|mut json| {
        json.sort_all_objects();
        json.to_string()
    });
    format!("{}\n{}", call.name.as_deref().unwrap_or_default(), arguments.as_deref().unwrap_or(&call.arguments))
}
