//! Signals that end a recording arrive as messages.

use crate::Error;
use crate::session::Event;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use std::sync::mpsc::Sender;

/// `si_code` of a signal that the terminal sent to the whole foreground group, from siginfo.h.
const SI_KERNEL: i32 = 0x80;

/// Blocks the signals in this thread and those it starts later. Call it before the first thread is started.
///
/// # Errors
/// When the system refuses.
pub(crate) fn block() -> Result<SigSet, Error> {
    let set = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT]);
    set.thread_block().map_err(Error::system("block signals"))?;
    Ok(set)
}

/// Starts a thread that forwards the blocked signals. It lives as long as the process.
///
/// # Errors
/// When the system refuses a signal descriptor.
pub(crate) fn forward(set: &SigSet, events: Sender<Event>) -> Result<(), Error> {
    let signals = SignalFd::with_flags(set, nix::sys::signalfd::SfdFlags::SFD_CLOEXEC)
        .map_err(Error::system("wait for signals"))?;
    std::thread::spawn(move || {
        while let Ok(Some(info)) = signals.read_signal() {
            let event = Event::Signal { number: info.ssi_signo as i32, from_terminal: info.ssi_code == SI_KERNEL };
            if events.send(event).is_err() {
                break;
            }
        }
    });
    Ok(())
}
