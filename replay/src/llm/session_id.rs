//! The id that an agent gives to its session, where it sends one: in a header field, or in the request.

use crate::message::Head;
use crate::values;
use serde_json::Value;

/// The longest that is taken.
const LONGEST: usize = 256;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SessionId {
    pub id: String,
    /// Whether each conversation has its own. Sub-agents of Claude Code, for one, have that of the agent which started them.
    pub of_conversation: bool,
}

/// Header fields, the most telling first. Codex: thread-id, conversation_id, session-id (each with `-` or `_`, by version);
/// OpenCode: x-opencode-session, x-session-affinity.
const FIELDS: [(&str, bool); 11] = [
    ("x-claude-code-session-id", false),
    ("thread-id", true),
    ("thread_id", true),
    ("conversation-id", true),
    ("conversation_id", true),
    ("x-opencode-session", true),
    ("x-session-affinity", true),
    ("session-id", false),
    ("session_id", false),
    ("x-session-id", false),
    ("x-interaction-id", false),
];

pub(super) fn of(head: &Head, request: &Value) -> Option<SessionId> {
    let field = |(name, of_conversation): &(&str, bool)| Some((head.field(name)?.to_owned(), *of_conversation));
    let in_conversation = || {
        let conversation = request.get("conversation")?;
        conversation.as_str().or_else(|| conversation.get("id")?.as_str()).map(|id| (id.to_owned(), true))
    };
    let cache_key = || {
        let key = request.get("prompt_cache_key")?.as_str()?;
        is_generated(key).then(|| (key.to_owned(), true))
    };
    let found = FIELDS
        .iter()
        .find_map(field)
        .or_else(in_conversation)
        .or_else(cache_key)
        .or_else(|| of_user(request).map(|id| (id, false)))
        .or_else(|| Some((request.get("session_id")?.as_str()?.to_owned(), false)));
    let (id, of_conversation) = found?;
    let good = !id.is_empty() && id.len() <= LONGEST;
    good.then_some(SessionId { id, of_conversation })
}

/// Claude Code: `metadata.user_id` is `user_…_account_…_session_ID`, or since 2.1.78 JSON with a `session_id` in a text.
fn of_user(request: &Value) -> Option<String> {
    let user = request.get("metadata")?.get("user_id")?.as_str()?;
    if let Some((_, id)) = user.rsplit_once("_session_") {
        return Some(id.to_owned());
    }
    values::parse(user.as_bytes())?.get("session_id")?.as_str().map(str::to_owned)
}

/// A key of a cache names a conversation only if it was made for one; a program may as well give its own name.
fn is_generated(key: &str) -> bool {
    key.len() >= 20 && key.bytes().filter(u8::is_ascii_digit).count() >= 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn agents_say_it_in_many_places() {
        let head = |fields: &[(&str, &str)]| {
            let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            Head { fields, ..Head::default() }
        };
        let uuid = "019ee74f-22b5-7043-b5fc-697ca0fbd5a6";
        let cases = [
            (head(&[("X-Claude-Code-Session-Id", "s1")]), json!({"prompt_cache_key": uuid}), Some(("s1", false))),
            (head(&[("session_id", "s"), ("thread_id", "t")]), json!({}), Some(("t", true))),
            (head(&[]), json!({"prompt_cache_key": uuid}), Some((uuid, true))),
            (head(&[]), json!({"prompt_cache_key": "my-application"}), None),
            (head(&[]), json!({"conversation": {"id": "conv_1"}}), Some(("conv_1", true))),
            (head(&[]), json!({"metadata": {"user_id": "user_1_account__session_s2"}}), Some(("s2", false))),
            (head(&[]), json!({"metadata": {"user_id": "{\"session_id\":\"s3\"}"}}), Some(("s3", false))),
            (head(&[]), json!({"metadata": {"user_id": "somebody"}}), None),
        ];
        for (head, request, expected) in cases {
            let expected = expected.map(|(id, of_conversation)| SessionId { id: id.to_owned(), of_conversation });
            assert_eq!(of(&head, &request), expected, "{request}");
        }
    }
}
