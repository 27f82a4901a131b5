//! What a process has from whoever started it, and what the capturer needs otherwise. The command gets it back as it was: it
//! is to notice nothing of the capturer between its caller and itself.

use crate::Error;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use std::sync::atomic::{AtomicBool, Ordering};

/// Which standard descriptors were closed, and whether SIGPIPE was ignored. Noted before `main`: there Rust opens /dev/null for
/// the ones and ignores the other.
static CLOSED: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];
static PIPE_IGNORED: AtomicBool = AtomicBool::new(false);

// SAFETY: a function of this type is what the linker's list of initialisers holds.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = note;

extern "C" fn note() {
    for (descriptor, closed) in (0..).zip(&CLOSED) {
        // SAFETY: asks for the flags of a descriptor, whether it is open or not.
        closed.store(unsafe { libc::fcntl(descriptor, libc::F_GETFD) } < 0, Ordering::Relaxed);
    }
    PIPE_IGNORED.store(is_ignored(libc::SIGPIPE), Ordering::Relaxed);
}

/// Whether whoever started the process does not want it to take note of a signal.
pub(crate) fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: a sigaction of zeros is a valid one; the call only fills it in.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

/// Signals as they were. Others than these the capturer leaves alone, and no handler outlives an exec.
pub(crate) struct Inherited {
    mask: SigSet,
    ignored: [(Signal, bool); 3],
}

impl Inherited {
    /// Notes what was inherited, blocks these signals in this thread and those it starts later, and takes the others as the
    /// capturer needs them. Call it before the first thread is started.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn replace(blocked: &SigSet) -> Result<Inherited, Error> {
        let ignored = [
            (Signal::SIGPIPE, PIPE_IGNORED.load(Ordering::Relaxed)),
            (Signal::SIGCHLD, is_ignored(libc::SIGCHLD)),
            (Signal::SIGXFSZ, is_ignored(libc::SIGXFSZ)),
        ];
        // Of a child whose end nobody wants to know there is no exit status.
        set(Signal::SIGCHLD, false)
            // A file that is too large is an error of the write, which is told.
            .and_then(|()| set(Signal::SIGXFSZ, true))
            .and_then(|()| blocked.thread_swap_mask(SigmaskHow::SIG_BLOCK))
            .map(|mask| Inherited { mask, ignored })
            .map_err(Error::system("set signals up"))
    }

    /// In the child: puts the signals back. The mask is last: what has come meanwhile comes now.
    pub(crate) fn restore_signals(&self) -> nix::Result<()> {
        for (signal, ignored) in self.ignored {
            set(signal, ignored)?;
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.mask), None)
    }
}

/// In the child: closes the standard descriptors that were closed.
pub(crate) fn close_descriptors() {
    for (descriptor, closed) in (0..).zip(&CLOSED) {
        if closed.load(Ordering::Relaxed) {
            // SAFETY: what is open there is Rust's /dev/null, and the child has no use for it.
            unsafe { libc::close(descriptor) };
        }
    }
}

fn set(signal: Signal, ignored: bool) -> nix::Result<()> {
    let handler = if ignored { SigHandler::SigIgn } else { SigHandler::SigDfl };
    // SAFETY: neither of them runs code of ours.
    unsafe { sigaction(signal, &SigAction::new(handler, SaFlags::empty(), SigSet::empty())) }.map(|_| ())
}
