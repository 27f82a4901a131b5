//! What a call goes on from, and so which conversation, turn and agent it belongs to.
//!
//! Each is named by the `llm_call_id` of its first call. A call goes on from an earlier one if, in this order of strength,
//!
//! 1. it says so (`previous_response_id`);
//! 2. its history holds what the earlier one was given and answered, or was given and somebody answered, up to that place and
//!    without a difference; or is what the earlier one was given, and that one failed;
//! 3. its history holds an answer of the earlier one that is no commonplace, and process and agent are the same: what stands
//!    before it was edited, cut off, or lost from the capture;
//! 4. it has the id of the earlier one's conversation, from the agent itself, and agent and process are the same;
//! 5. what its user says holds a summary that the earlier one wrote with the history before it, and process and agent are the
//!    same: the history was replaced by the summary.
//!
//! That two calls begin alike, as those of a script do or of a main agent and the one that finds a title, makes no conversation.
//! Calls go on from what their own process did, if it did the like; else from what another did: agents are resumed.
//!
//! A **turn** begins with a message of the user that is new and carries no result of a tool. An **agent** is a process with its
//! instructions and the names of its tools; a call that goes on from another is of the same agent if either is as before, since
//! instructions carry dates, and tools come and go.

use super::canonical::Hash;
use super::message::{Message, Part, Role};
use super::session_id::SessionId;
use crate::bounded::Bounded;
use std::collections::VecDeque;
use std::sync::Arc;

/// Calls that others may go on from.
const MAX_KNOWN: usize = 32_768;

/// Summaries that are looked for in new conversations, and the lines of each that are compared: whole ones, not too short.
const MAX_SUMMARIES: usize = 16;
const MAX_LINES: usize = 32;
const SHORTEST_LINE: usize = 24;

/// An answer this short may be given by anybody.
const COMMONPLACE: usize = 32;

/// The most that is searched for summaries of what a call says, in bytes, and of a line of theirs that is looked for.
const MAX_SEARCHED: usize = 1 << 20;
const MAX_LINE: usize = 256;

/// An id that is longer is none that another call gives again.
const MAX_ID: usize = 1024;

/// What an agent is known by: its instructions, and the names of its tools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub system: Option<Hash>,
    pub tools: Option<Hash>,
}

impl Identity {
    fn like(self, other: Identity) -> bool {
        self.system == other.system || self.tools.is_some() && self.tools == other.tools
    }
}

/// A message of a conversation.
pub(super) struct Placed<'m> {
    pub message: &'m Message,
    pub content: Hash,
    /// The same with all that stands before it.
    pub hash: Hash,
}

/// What a call asks.
pub(super) struct Asked<'m> {
    pub llm_call_id: i64,
    pub proc_id: i64,
    pub identity: Identity,
    pub messages: &'m [Placed<'m>],
    pub session: Option<&'m SessionId>,
}

/// A call that others may go on from.
pub(super) struct Known {
    pub ids: Ids,
    proc_id: i64,
    identity: Identity,
    /// Of the call that it goes on from.
    before: Option<Identity>,
    failed: bool,
    /// The last message: its answer, or what it was given last.
    pub last: Option<Hash>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Ids {
    pub conversation: i64,
    pub turn: i64,
    pub agent: i64,
}

/// How a call came out.
pub(super) struct Outcome<'m> {
    pub answer: Option<Placed<'m>>,
    pub response_id: Option<&'m str>,
    pub failed: bool,
}

struct Summary {
    known: Arc<Known>,
    lines: Vec<String>,
}

/// Where a call goes on: the earlier one, and how many of its messages that one knew.
struct Link {
    known: Arc<Known>,
    old: usize,
}

type ByHash = Bounded<(Option<i64>, Hash), Arc<Known>>;

pub(super) struct Links {
    /// By all that a call was given, and by that with its answer; of a process, and of any.
    asked: ByHash,
    answered: ByHash,
    /// By the answer alone, of a process.
    said: ByHash,
    responses: Bounded<String, Arc<Known>>,
    sessions: Bounded<(i64, String), Vec<Arc<Known>>>,
    agents: Bounded<(i64, Identity), i64>,
    summaries: VecDeque<Summary>,
}

impl Default for Links {
    fn default() -> Self {
        Links {
            asked: Bounded::new(2 * MAX_KNOWN),
            answered: Bounded::new(2 * MAX_KNOWN),
            said: Bounded::new(MAX_KNOWN),
            responses: Bounded::new(MAX_KNOWN),
            sessions: Bounded::new(MAX_KNOWN / 8),
            agents: Bounded::new(MAX_KNOWN / 8),
            summaries: VecDeque::new(),
        }
    }
}

impl Links {
    /// The call that had this response.
    pub fn response(&self, id: &str) -> Option<Arc<Known>> {
        self.responses.get(&id.to_owned()).cloned()
    }

    /// What a call belongs to. `previous` is the one that it says it goes on from. Remembers it for those that go on from it.
    pub fn place(&mut self, asked: &Asked<'_>, previous: Option<Arc<Known>>, outcome: &Outcome<'_>) -> Ids {
        let link = match previous {
            Some(known) => Some(Link { known, old: 0 }),
            None => self.by_history(asked).or_else(|| self.by_session(asked)).or_else(|| self.by_summary(asked)),
        };
        let before = link.as_ref().map(|link| &link.known);
        let agent = self.agent(asked, before.map(|known| &**known));
        let new = link.as_ref().map_or(asked.messages, |link| asked.messages.get(link.old..).unwrap_or_default());
        let own = asked.llm_call_id;
        let ids = Ids {
            conversation: before.map_or(own, |known| known.ids.conversation),
            turn: before
                .filter(|_| !new.iter().any(|placed| is_prompt(placed.message)))
                .map_or(own, |known| known.ids.turn),
            agent,
        };
        self.remember(asked, before.map(|known| known.identity), ids, outcome);
        ids
    }

    fn by_history(&self, asked: &Asked<'_>) -> Option<Link> {
        let of = |map: &ByHash, hash: Hash| {
            map.get(&(Some(asked.proc_id), hash)).or_else(|| map.get(&(None, hash))).cloned()
        };
        let count = asked.messages.len();
        for (index, placed) in asked.messages.iter().enumerate().rev() {
            let next = asked.messages.get(index + 1);
            if let Some(known) = of(&self.answered, placed.hash).filter(|_| next.is_some()) {
                return Some(Link { known, old: index + 1 });
            }
            if next.is_some_and(|next| next.message.role == Role::Assistant)
                && let Some(known) = of(&self.asked, placed.hash)
            {
                return Some(Link { known, old: index + 2 });
            }
            if index + 1 == count
                && let Some(known) = of(&self.asked, placed.hash).filter(|known| known.failed)
            {
                return Some(Link { known, old: count });
            }
            let said = self.said.get(&(Some(asked.proc_id), placed.content));
            if let Some(known) = said.filter(|known| known.identity.like(asked.identity)) {
                return Some(Link { known: known.clone(), old: index + 1 });
            }
        }
        None
    }

    fn by_session(&self, asked: &Asked<'_>) -> Option<Link> {
        let id = asked.session.filter(|session| session.of_conversation)?.id.clone();
        let mut known = self.sessions.get(&(asked.proc_id, id))?.iter().rev();
        let known = known.find(|known| known.identity.like(asked.identity))?.clone();
        Some(Link { known, old: asked.messages.len().saturating_sub(1) })
    }

    fn by_summary(&self, asked: &Asked<'_>) -> Option<Link> {
        let fits = |summary: &&Summary| {
            let known = &summary.known;
            let same = |identity: Identity| identity.like(asked.identity);
            known.proc_id == asked.proc_id && (same(known.identity) || known.before.is_some_and(same))
        };
        let fitting: Vec<&Summary> = self.summaries.iter().rev().filter(fits).collect();
        let texts = if fitting.is_empty() { Vec::new() } else { searched(asked.messages) };
        fitting.into_iter().find_map(|summary| {
            let (at, _) = texts.iter().rfind(|(_, text)| summary.is_in(text))?;
            Some(Link { known: summary.known.clone(), old: at + 1 })
        })
    }

    fn agent(&mut self, asked: &Asked<'_>, before: Option<&Known>) -> i64 {
        let key = (asked.proc_id, asked.identity);
        let same = before.filter(|known| known.identity.like(asked.identity)).map(|known| known.ids.agent);
        let known = same.or_else(|| self.agents.get(&key).copied());
        let agent = known.unwrap_or(asked.llm_call_id);
        if self.agents.get(&key).is_none() {
            self.agents.insert(key, agent);
        }
        agent
    }

    fn remember(&mut self, asked: &Asked<'_>, before: Option<Identity>, ids: Ids, outcome: &Outcome<'_>) {
        let given = asked.messages.last().map(|placed| placed.hash);
        let answer = outcome.answer.as_ref();
        let (proc_id, identity) = (asked.proc_id, asked.identity);
        let last = answer.map(|answer| answer.hash).or(given);
        let known = Arc::new(Known { ids, proc_id, identity, before, failed: outcome.failed, last });
        let insert = |map: &mut ByHash, hash| {
            map.insert((Some(proc_id), hash), known.clone());
            map.insert((None, hash), known.clone());
        };
        given.into_iter().for_each(|hash| insert(&mut self.asked, hash));
        if let Some(answer) = answer {
            insert(&mut self.answered, answer.hash);
            if !is_commonplace(answer.message) {
                self.said.insert((Some(proc_id), answer.content), known.clone());
            }
            let with_history = asked.messages.iter().any(|placed| placed.message.role == Role::Assistant);
            if let Some(lines) = summary(answer.message).filter(|_| with_history) {
                self.summaries.push_back(Summary { known: known.clone(), lines });
                if self.summaries.len() > MAX_SUMMARIES {
                    self.summaries.pop_front();
                }
            }
        }
        if let Some(id) = outcome.response_id.filter(|id| id.len() <= MAX_ID) {
            self.responses.insert(id.to_owned(), known.clone());
        }
        if let Some(session) = asked.session.filter(|session| session.of_conversation) {
            // The newest of each agent.
            let key = (proc_id, session.id.clone());
            let mut of_session = self.sessions.remove(&key).unwrap_or_default();
            of_session.retain(|other| other.ids.agent != ids.agent);
            of_session.push(known);
            if of_session.len() > MAX_SUMMARIES {
                of_session.remove(0);
            }
            self.sessions.insert(key, of_session);
        }
    }
}

impl Summary {
    /// Whether most of its lines stand in what the user says.
    fn is_in(&self, text: &str) -> bool {
        let found = self.lines.iter().filter(|line| text.contains(line.as_str())).count();
        10 * found >= 8 * self.lines.len()
    }
}

/// What the user says, by its place among the messages, as much of it as is searched. A summary stands at the start.
fn searched(messages: &[Placed<'_>]) -> Vec<(usize, String)> {
    let mut left = MAX_SEARCHED;
    let mut texts = Vec::new();
    for (at, placed) in messages.iter().enumerate().filter(|(_, placed)| placed.message.role == Role::User) {
        let mut text = placed.message.text();
        text.truncate(text.floor_char_boundary(left));
        left -= text.len();
        texts.push((at, text));
        if left == 0 {
            break;
        }
    }
    texts
}

/// The lines by which an answer would be known, if it were a summary.
fn summary(answer: &Message) -> Option<Vec<String>> {
    if answer.tool_calls().next().is_some() {
        return None;
    }
    let text = answer.text();
    let lines = text.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_LINE).take(MAX_LINES);
    let start = |line: &str| line.get(..line.floor_char_boundary(MAX_LINE)).unwrap_or_default().to_owned();
    let lines: Vec<String> = lines.map(start).collect();
    (lines.len() >= 3 || lines.iter().map(String::len).sum::<usize>() >= 80).then_some(lines)
}

/// Whether it is what a user says, and no result of a tool.
fn is_prompt(message: &Message) -> bool {
    let said = |part: &Part| match part {
        Part::Text(text) => !text.trim().is_empty(),
        Part::Other { .. } => true,
        _ => false,
    };
    message.role == Role::User && message.tool_results().next().is_none() && message.parts.iter().any(said)
}

fn is_commonplace(answer: &Message) -> bool {
    !answer.tool_calls().any(|call| call.id.is_some() || call.key.is_some()) && answer.text().trim().len() < COMMONPLACE
}
