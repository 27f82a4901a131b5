//! Secrets that are sent to a model: in what a user says, in what tools print, wherever in a conversation.
//!
//! A message is looked through when it is first told ([`LlmMessage`]), not at every call that carries it again, and a secret is
//! told once a conversation. The key with which an agent shows the provider who it is stands in no message.

mod keywords;
mod scanner;

use super::{Analyzer, Inputs, Rows, reads};
use crate::bounded::Bounded;
use crate::table::{Row, Timestamp};
use crate::tables::{Finding, LlmCall, LlmCallMessage, LlmMessage};
use scanner::SCANNER;
pub(super) use scanner::masked;
use sha2::{Digest, Sha256};

pub(super) const READS: Inputs =
    reads(&[(LlmCall::TABLE, &[]), (LlmMessage::TABLE, &[]), (LlmCallMessage::TABLE, &[])]);

/// Messages with secrets, and secrets that were told, that are remembered.
const MAX_REMEMBERED: usize = 65_536;

/// Secrets of one message that are told, and bytes of memory of all that are remembered.
const MAX_SECRETS: usize = 256;
const MAX_BYTES: usize = 32 << 20;

/// A secret in a message.
#[derive(Clone)]
struct Secret {
    rule_id: String,
    severity: &'static str,
    finds: String,
    /// What of the message it is in.
    place: &'static str,
    evidence: String,
    hash: [u8; 32],
}

impl Secret {
    /// Bytes of memory that it takes.
    fn size(&self) -> usize {
        size_of::<Secret>() + self.rule_id.len() + self.finds.len() + self.evidence.len()
    }
}

pub(super) struct Secrets {
    /// By the hash of the message.
    messages: Bounded<String, Vec<Secret>>,
    /// By the conversation, or (where that is not known) the process.
    told: Bounded<(Option<i64>, i64, [u8; 32]), ()>,
    call: Option<Asked>,
}

/// The call whose messages come.
struct Asked {
    capture_id: String,
    llm_call_id: i64,
    conversation_id: Option<i64>,
    proc_id: i64,
    ts: Timestamp,
    /// Who is told.
    model: String,
}

impl Secrets {
    pub fn boxed(_: &str) -> Box<dyn Analyzer> {
        Box::new(Secrets {
            messages: Bounded::of_bytes(MAX_REMEMBERED, MAX_BYTES),
            told: Bounded::new(MAX_REMEMBERED),
            call: None,
        })
    }

    fn message(&mut self, message: &LlmMessage) {
        let place = match (message.role, message.part_type.as_str()) {
            (_, "tool_result") => "the result of a tool",
            (_, "tool_call") => "the arguments of a tool",
            (_, "tools") => "the description of a tool",
            ("system", _) => "the instructions",
            ("assistant", _) => "what it said before",
            _ => "a prompt",
        };
        let texts = [message.text.as_deref(), message.payload.as_deref()];
        let secrets: Vec<Secret> = texts.into_iter().flatten().flat_map(|text| found(text, place)).collect();
        if secrets.is_empty() {
            return;
        }
        let mut all = self.messages.remove(&message.message_hash).unwrap_or_default();
        let room = MAX_SECRETS.saturating_sub(all.len());
        all.extend(secrets.into_iter().take(room));
        let bytes = all.iter().map(Secret::size).sum();
        self.messages.insert_bytes(message.message_hash.clone(), all, bytes);
    }

    fn sent(&mut self, message: &LlmCallMessage, out: &mut Rows<'_>) {
        let Some(secrets) = self.messages.get(&message.message_hash) else { return };
        let Some(call) = self.call.as_ref().filter(|call| call.llm_call_id == message.llm_call_id) else { return };
        for secret in secrets {
            let of = if call.conversation_id.is_some() { 0 } else { call.proc_id };
            let key = (call.conversation_id, of, secret.hash);
            if !self.told.is_first(key) {
                continue;
            }
            out(&Finding {
                capture_id: call.capture_id.clone(),
                rule_id: format!("secret/{}", secret.rule_id),
                severity: secret.severity,
                ts: call.ts,
                subject_kind: "llm_call",
                subject_key: call.llm_call_id.to_string(),
                message: format!("{} sent to {}, in {}", secret.finds, call.model, secret.place),
                evidence: Some(secret.evidence.clone()),
            });
        }
    }
}

impl Analyzer for Secrets {
    fn row(&mut self, row: &dyn Row, out: &mut Rows<'_>) {
        if let Some(message) = row.downcast::<LlmMessage>() {
            self.message(message);
        } else if let Some(call) = row.downcast::<LlmCall>() {
            let model = call.request_model.as_deref().unwrap_or("a model");
            self.call = Some(Asked {
                capture_id: call.capture_id.clone(),
                llm_call_id: call.llm_call_id,
                conversation_id: call.conversation_id,
                proc_id: call.proc_id,
                ts: call.start_ts.unwrap_or_default(),
                model: format!("{model} of {}", call.provider_name),
            });
        } else if let Some(message) = row.downcast::<LlmCallMessage>()
            && message.direction == "sent"
        {
            self.sent(message, out);
        }
    }
}

fn found(text: &str, place: &'static str) -> Vec<Secret> {
    let of = |hit: scanner::Hit| {
        let (rule, secret) = (SCANNER.rule(&hit)?, text.get(hit.range.clone())?);
        Some(Secret {
            rule_id: rule.id.clone(),
            severity: ["low", "medium", "high"].into_iter().find(|name| *name == rule.severity).unwrap_or("high"),
            finds: rule.finds.clone(),
            place,
            evidence: scanner::mask(secret),
            hash: Sha256::digest(secret.as_bytes()).into(),
        })
    };
    SCANNER.scan(text).into_iter().filter_map(of).take(MAX_SECRETS).collect()
}
