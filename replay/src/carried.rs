//! What of a request an earlier one must have carried already. Agents send their whole conversation with every call: what stands
//! before an answer of the model was sent before that answer was given, by a call that may be missing from the capture.

use crate::llm::message::{Message, Role};

/// The answers in the history of a request.
pub(crate) struct Carried {
    /// Where the last answer stands, and which call gave it, if its tool calls still wait for results.
    last: Option<(usize, Option<i64>)>,
    /// Where the last one stands that another call gave.
    other: Option<usize>,
}

impl Carried {
    /// Looks through the messages of a request, from the last one back to where nothing more is to be known. `asked_by` tells which
    /// call has an answer whose tool calls all wait for results.
    pub fn of<'m>(
        messages: impl DoubleEndedIterator<Item = &'m Message> + ExactSizeIterator,
        asked_by: impl Fn(&Message) -> Option<i64>,
    ) -> Self {
        // The last message, if the model's, is the start of the answer that is wanted.
        let history = messages.enumerate().rev().skip(1);
        let mut answers =
            history.filter(|(_, message)| message.role == Role::Assistant).map(|(at, message)| (at, asked_by(message)));
        let last = answers.next();
        // Before an answer that waits for nothing, all was sent before.
        let asked = last.filter(|(_, by)| by.is_some());
        let other = asked.and_then(|(_, by)| answers.find(|(_, other)| *other != by)).map(|(at, _)| at);
        Carried { last, other }
    }

    /// Whether the result in message `at`, of a tool call that `asker` asked for, was sent before. Some agents put each tool call of
    /// an answer before its result: what follows may be of the same answer.
    pub fn has(&self, at: usize, asker: Option<i64>) -> bool {
        match self.last {
            Some((last, by)) if by.is_none() || by != asker => at < last,
            Some(_) => self.other.is_some_and(|other| at < other),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A conversation in letters: `r` is a result, `1` an answer whose tool calls wait for call 1, `-` one that waits for nothing.
    fn carried(conversation: &str) -> Carried {
        let message = |letter: char| Message::new(if letter == 'r' { Role::Tool } else { Role::Assistant }, Vec::new());
        let messages: Vec<Message> = conversation.chars().map(message).collect();
        let by: Vec<Option<i64>> = conversation.chars().map(|letter| letter.to_digit(10).map(i64::from)).collect();
        let place = |message: &Message| messages.iter().position(|other| std::ptr::eq(other, message)).unwrap();
        Carried::of(messages.iter(), |message| by[place(message)])
    }

    #[test]
    fn what_stands_before_an_answer_was_sent_before() {
        assert!(!carried("-1r").has(2, Some(1)));
        assert!(carried("1r-r").has(1, Some(1)));
        assert!(!carried("1r-r").has(3, Some(2)));
        assert!(carried("1r2r").has(1, Some(1)));
    }

    #[test]
    fn calls_of_one_answer_may_stand_before_their_results_each() {
        assert!(!carried("1r1r").has(1, Some(1)));
        assert!(carried("2r1r1r").has(1, Some(2)));
        assert!(carried("1r-1r").has(1, Some(1)));
    }

    #[test]
    fn the_start_of_the_answer_that_is_wanted_is_none() {
        assert!(!carried("1r-").has(1, Some(1)));
    }
}
