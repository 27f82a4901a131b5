//! Messages and contexts: a message is told once, and each call lists what it was given.
//!
//! **The chain.** A message's hash covers what it says ([`canonical`]) and the hash of the message before it, as a commit's in
//! git covers its parent: one hash stands for a whole history, equal hashes for equal histories, and `parent_hash` leads back
//! through it. Instructions and the tools that are offered stand beside the chain, each for itself: they change within a
//! conversation (dates in the one, MCP servers behind the other), and with them at its root each change would tell the whole
//! history again. The price of the chain: when an agent edits its history, what comes after the edit is told again. That is
//! rare, since it costs the provider's cache as well.
//!
//! **The list.** `llm_call_messages` lists the whole context of each call, not only what is new: then one condition
//! (`llm_call_id = …`) gives the context in any SQL, no row depends on another call, and a record that is lost takes nothing
//! from the calls around it. A conversation of 100 calls has 10,200 such rows where only what is new would make 400. But each
//! stands for a message that the call had on the wire, so that they grow as the capture does, and at 100 bytes they are small
//! beside it: the texts are told once. Where the wire carries only what is new (`previous_response_id`), the list may grow with
//! the square of the calls; there at most [`MAX_INHERITED`] messages are listed for a call, and [`INHERITED_IN_ALL`] in a
//! capture. What is not listed makes `context_complete` false, and `parent_hash` leads to it.

use super::canonical::{self, Hash, chained, role};
use super::links::{Asked, Identity, Links, Outcome, Placed};
use super::message::{Message, Part, Role, Said};
use super::{Call, opaque};
use crate::hex::hex;
use crate::output::Output;
use crate::recent::Recent;
use crate::tables::{LlmCallMessage, LlmMessage};
use serde_json::Value;

/// Messages of which is remembered that they were told; one that is not used for so long is told again.
const MAX_TOLD: usize = 1 << 18;

/// Most messages that are listed for a call though it did not send them.
const MAX_INHERITED: usize = 2000;
const INHERITED_IN_ALL: usize = 4_000_000;

/// The messages of a capture.
pub(crate) struct Contexts {
    capture_id: String,
    /// The message before each one that was told.
    told: Recent<Hash, Option<Hash>>,
    links: Links,
    inherited: usize,
}

impl Contexts {
    pub fn new(capture_id: String) -> Self {
        Contexts { capture_id, told: Recent::new(MAX_TOLD), links: Links::default(), inherited: 0 }
    }

    /// Takes a call: tells the messages that are new, and fills in what the call belongs to. Returns its context.
    pub fn take(&mut self, call: &mut Call, output: &mut Output<'_>) -> Vec<LlmCallMessage> {
        let Call { row, request, answer, asked: true, tools, session, .. } = call else { return Vec::new() };
        let named = row.previous_response_id.as_deref().map(|id| self.links.response(id));
        let seen = named.as_ref().is_none_or(Option::is_some);
        let previous = named.flatten();
        let names = tools.as_ref().map(|tools| canonical::together(tool_names(tools)));
        let offered = |payload| vec![Part::Other { kind: "tools".to_owned(), payload }];
        let tools = tools.take().map(|payload| Said::new(Message::new(Role::System, offered(payload))));
        let instructions = request.iter().take_while(|message| message.role == Role::System).count();
        let (instructions, said) = request.split_at(instructions);
        let system: Vec<_> = instructions.iter().filter_map(|message| place(message, None)).collect();
        let tools = tools.as_ref().and_then(|message| place(message, None));
        let identity = Identity {
            system: (!system.is_empty()).then(|| canonical::together(system.iter().map(|placed| placed.content))),
            tools: names,
        };

        let before = previous.as_ref().and_then(|known| known.last);
        let mut last = before;
        let mut next = |message| {
            let placed = place(message, last)?;
            last = Some(placed.hash);
            Some(placed)
        };
        let said: Vec<_> = said.iter().filter_map(|message| next(message)).collect();
        let answer = next(answer);

        let (mut context, all) = self.inherited(before);
        let roots = tools.iter().chain(&system);
        context.splice(..0, roots.clone().map(|root| root.hash));
        context.extend(said.iter().map(|placed| placed.hash));
        roots.for_each(|root| self.tell(root, None, output));
        let mut parent = before;
        for placed in said.iter().chain(&answer) {
            self.tell(placed, parent, output);
            parent = Some(placed.hash);
        }
        let rows = self.rows(row.llm_call_id, &context, answer.as_ref());

        let asked = Asked {
            llm_call_id: row.llm_call_id,
            proc_id: row.proc_id,
            identity,
            messages: &said,
            session: session.as_ref(),
        };
        let failed = row.error_type.is_some() || row.aborted || answer.is_none();
        let ids =
            self.links.place(&asked, previous, &Outcome { answer, response_id: row.response_id.as_deref(), failed });
        row.turn_id = Some(ids.turn);
        row.conversation_id = Some(ids.conversation);
        row.agent_id = Some(ids.agent);
        row.context_complete = seen && all;
        rows
    }

    /// What the wire does not carry: the messages up to this one, as many as are listed, and whether these are all.
    fn inherited(&mut self, last: Option<Hash>) -> (Vec<Hash>, bool) {
        let most = MAX_INHERITED.min(INHERITED_IN_ALL.saturating_sub(self.inherited));
        let (mut messages, mut next) = (Vec::new(), last);
        while let Some(hash) = next.filter(|_| messages.len() < most) {
            messages.push(hash);
            // One that is not remembered may have had others before it.
            let Some(parent) = self.told.get(&hash) else { break };
            next = *parent;
        }
        self.inherited += messages.len();
        messages.reverse();
        (messages, next.is_none())
    }

    /// Makes the rows of a message, if it is new.
    fn tell(&mut self, placed: &Placed<'_>, parent: Option<Hash>, output: &mut Output<'_>) {
        if self.told.get(&placed.hash).is_some() {
            return;
        }
        self.told.insert(placed.hash, parent);
        if !output.wants(LlmMessage::TABLE) {
            return;
        }
        for (part_idx, part) in (0..).zip(&placed.message.parts) {
            output.row(&LlmMessage {
                capture_id: self.capture_id.clone(),
                message_hash: hex(&placed.hash),
                parent_hash: parent.map(|parent| hex(&parent)),
                role: role(placed.message.role),
                part_idx,
                ..row(part)
            });
        }
    }

    fn rows(&self, llm_call_id: i64, context: &[Hash], answer: Option<&Placed<'_>>) -> Vec<LlmCallMessage> {
        let sent = context.iter().map(|hash| (hash, "sent"));
        let all = sent.chain(answer.map(|answer| (&answer.hash, "received")));
        let row = |(position, (hash, direction)): (i64, (&Hash, &'static str))| LlmCallMessage {
            capture_id: self.capture_id.clone(),
            llm_call_id,
            position,
            message_hash: hex(hash),
            direction,
        };
        (0..).zip(all).map(row).collect()
    }
}

/// A message behind another; nothing if it says nothing.
fn place(message: &Said, parent: Option<Hash>) -> Option<Placed<'_>> {
    let content = message.content()?;
    Some(Placed { message, content, hash: chained(parent, content) })
}

/// The names of the tools that are offered, in order: as each API has them.
fn tool_names(tools: &Value) -> Vec<String> {
    let name = |tool: &Value| {
        let of = |tool: &Value| tool.get("name").and_then(Value::as_str).map(str::to_owned);
        let inside = ["function", "toolSpec"].iter().find_map(|inside| of(tool.get(inside)?));
        of(tool).or(inside).or_else(|| tool.get("type").and_then(Value::as_str).map(str::to_owned))
    };
    let list = if tools.is_array() { Some(tools) } else { tools.get("tools") };
    let mut names = Vec::new();
    for tool in list.and_then(Value::as_array).into_iter().flatten() {
        match tool.get("functionDeclarations").or_else(|| tool.get("function_declarations")) {
            Some(Value::Array(functions)) => names.extend(functions.iter().filter_map(name)),
            _ => names.extend(name(tool)),
        }
    }
    names.sort_unstable();
    names
}

/// The cells that say what a part is.
fn row(part: &Part) -> LlmMessage {
    let of = |kind: &str, text: Option<String>, payload: Option<String>| {
        let len = text.as_ref().or(payload.as_ref()).map_or(0, String::len);
        let tokens = Some(len.div_ceil(4) as i64);
        LlmMessage {
            part_type: kind.to_owned(),
            text,
            payload,
            bytes: len as i64,
            est_tokens: tokens,
            ..LlmMessage::default()
        }
    };
    match part {
        Part::Text(text) => of("text", Some(text.clone()), None),
        Part::Reasoning(text) => of("reasoning", Some(text.clone()), None),
        Part::ToolCall(call) => LlmMessage {
            tool_call_id: call.id.clone(),
            tool_name: call.name.clone(),
            ..of("tool_call", None, Some(call.arguments.clone()))
        },
        Part::ToolResult(result) => {
            let text = canonical::result_text(&result.text);
            let text = opaque::removed_from_text(&text).into_owned();
            LlmMessage { tool_call_id: result.id.clone(), ..of("tool_result", Some(text), None) }
        }
        Part::Other { kind, payload } => {
            let mut bytes = 0;
            let payload = opaque::removed(kind, payload, &mut bytes).to_string();
            let whole = of(kind, None, Some(payload));
            if bytes == 0 { whole } else { LlmMessage { bytes: bytes as i64, est_tokens: None, ..whole } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tools_have_names_in_every_api() {
        let cases = [
            json!([{"name": "b", "input_schema": {}}, {"type": "web_search_20250305", "name": "a"}]),
            json!([{"type": "function", "function": {"name": "b"}}, {"type": "a"}]),
            json!([{"functionDeclarations": [{"name": "b"}, {"name": "a"}]}]),
            json!({"tools": [{"toolSpec": {"name": "a"}}, {"toolSpec": {"name": "b"}}]}),
        ];
        for tools in cases {
            assert_eq!(tool_names(&tools), ["a", "b"], "{tools}");
        }
    }
}
