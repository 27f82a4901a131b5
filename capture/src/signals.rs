//! Signals that end a recording arrive as messages.

use crate::Error;
use crate::events::Event;
use crate::inherited::{Inherited, is_ignored};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::os::fd::AsFd;
use std::sync::mpsc::Sender;

/// `si_code` of a signal that the terminal sent to the whole foreground group, from siginfo.h.
const SI_KERNEL: i32 = 0x80;

/// The signals that end a recording, blocked: they wait until they are read.
pub(crate) struct Signals {
    waiting: SignalFd,
    pub inherited: Inherited,
}

impl Signals {
    /// Call it before the first thread is started.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn block() -> Result<Signals, Error> {
        let mut set = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT]);
        // Under nohup(1) the end of the terminal is not that of the recording; blocked, the signal would be ignored no more.
        if !is_ignored(libc::SIGHUP) {
            set.add(Signal::SIGHUP);
        }
        let inherited = Inherited::replace(&set)?;
        let waiting = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC).map_err(Error::system("wait for signals"))?;
        Ok(Signals { waiting, inherited })
    }

    /// Whether none has come yet. One that comes before the command was let go means that it is not wanted any more.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub(crate) fn none_came(&self) -> Result<(), Error> {
        let mut waiting = [PollFd::new(self.waiting.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, PollTimeout::ZERO).map_err(Error::system("look for signals"))? {
            0 => Ok(()),
            _ => match self.waiting.read_signal().map_err(Error::system("read a signal"))? {
                Some(info) => Err(Error::Interrupted { signal: info.ssi_signo as i32 }),
                None => Ok(()),
            },
        }
    }

    /// Starts a thread that forwards the signals. It lives as long as the process.
    pub(crate) fn forward(self, events: Sender<Event>) {
        std::thread::spawn(move || {
            while let Ok(Some(info)) = self.waiting.read_signal() {
                let event = Event::Signal { number: info.ssi_signo as i32, from_terminal: info.ssi_code == SI_KERNEL };
                if events.send(event).is_err() {
                    break;
                }
            }
        });
    }
}
