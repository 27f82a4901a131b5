//! What a session waits for, and in which order it is dealt with.

use crate::libraries;
use nix::sys::wait::WaitStatus;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

/// What the session waits for.
#[derive(Debug)]
pub(crate) enum Event {
    /// A recorded process executed a program.
    Exec(u32),
    /// A recorded process mapped a file that it may execute: its path, as the process sees it.
    Map(u32, PathBuf),
    /// A file that had probes was written to, and its writer is done.
    Written(File, PathBuf),
    /// A process that was selected by name or by cgroup is recorded from now on.
    Adopt(u32),
    /// A recorded process is gone.
    Exit(u32),
    /// The command is gone.
    CommandExit(WaitStatus),
    Signal {
        number: i32,
        from_terminal: bool,
    },
    /// What the recorder could not do.
    Warning(String),
    /// The recorder could not write, or the ring could not be read.
    Failed,
}

/// Events that wait. A program starts with dozens of libraries, and the one that speaks TLS is not to wait for the others.
#[derive(Default)]
pub(crate) struct Queue {
    /// By urgency, and then in the order in which they came.
    events: BTreeMap<(u8, u64), Event>,
    count: u64,
}

impl Queue {
    /// The most urgent event; waits for one if there is none.
    pub(crate) fn next(&mut self, inbox: &Receiver<Event>, timeout: Duration) -> Result<Event, RecvTimeoutError> {
        if self.events.is_empty() {
            let event = inbox.recv_timeout(timeout)?;
            self.add(event);
        }
        while let Ok(event) = inbox.try_recv() {
            self.add(event);
        }
        self.events.pop_first().map(|(_, event)| event).ok_or(RecvTimeoutError::Timeout)
    }

    fn add(&mut self, event: Event) {
        let urgency = match &event {
            Event::Map(_, path) if !libraries::speaks_tls(path) => 2,
            // The end comes after what was seen before it.
            Event::CommandExit(_) => 3,
            Event::Map(..) => 0,
            Event::Exec(_)
            | Event::Written(..)
            | Event::Adopt(_)
            | Event::Exit(_)
            | Event::Signal { .. }
            | Event::Warning(_)
            | Event::Failed => 1,
        };
        self.count += 1;
        self.events.insert((urgency, self.count), event);
    }
}
