//! Shortens the time from a program's start to its probes.
//!
//! The first probe after a pause takes the kernel 10 to 20 ms, in which it waits for the other CPUs (an RCU grace period, for the
//! lock that keeps forks and probes apart); those that follow soon take a fraction of one. So while a new file is still
//! looked through, a probe is attached to a file that nobody executes.

use crate::kernel::{Attach, Kernel};
use libbpf_rs::libbpf_sys::{self, bpf_link_create_opts};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// For this time after a new file was seen more are expected, and the kernel is kept from forgetting.
const HOLD: Duration = Duration::from_millis(100);
const STEP: Duration = Duration::from_millis(8);
/// When nothing has happened for this long, or so many probes are on that file, they are taken off.
const QUIET: Duration = Duration::from_secs(1);
const MOST_LINKS: usize = 64;

/// Asks for it; a thread of its own does it.
pub(crate) struct WarmUp {
    wanted: Option<SyncSender<()>>,
}

impl WarmUp {
    /// Where probes are attached one by one, or a descriptor cannot be had, nothing is done: the first probe then takes longer.
    pub(crate) fn start(kernel: &Kernel<'_>) -> WarmUp {
        if kernel.attach == Attach::Perf {
            return WarmUp { wanted: None };
        }
        let program = kernel.skel.progs.tls_entry_multi.as_fd().try_clone_to_owned();
        let nobodys = nix::sys::memfd::memfd_create(c"agentsight", nix::sys::memfd::MFdFlags::MFD_CLOEXEC);
        let (Ok(program), Ok(nobodys)) = (program, nobodys) else { return WarmUp { wanted: None } };
        if nix::unistd::ftruncate(&nobodys, 4096).is_err() {
            return WarmUp { wanted: None };
        }
        let (wanted, asked) = sync_channel(1);
        std::thread::spawn(move || run(&program, &nobodys, &asked));
        WarmUp { wanted: Some(wanted) }
    }

    /// A probe will be attached soon.
    pub(crate) fn begin(&self) {
        if let Some(wanted) = &self.wanted {
            // One that is on its way serves as well.
            let _ = wanted.try_send(());
        }
    }
}

fn run(program: &OwnedFd, nobodys: &OwnedFd, asked: &Receiver<()>) {
    let Ok(path) = CString::new(format!("/proc/self/fd/{}", nobodys.as_raw_fd())) else { return };
    let offset = 0;
    let mut options = bpf_link_create_opts { sz: size_of::<bpf_link_create_opts>() as _, ..Default::default() };
    options.__bindgen_anon_1.uprobe_multi.path = path.as_ptr();
    options.__bindgen_anon_1.uprobe_multi.offsets = &raw const offset;
    options.__bindgen_anon_1.uprobe_multi.cnt = 1;
    let mut links = Vec::new();
    let mut busy_until = Instant::now();
    loop {
        let busy = Instant::now() < busy_until;
        let received = match busy {
            true => asked.recv_timeout(STEP),
            // With nothing to take off there is nothing to wake up for.
            false if links.is_empty() => asked.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => asked.recv_timeout(QUIET),
        };
        match received {
            Ok(()) => busy_until = Instant::now() + HOLD,
            Err(RecvTimeoutError::Timeout) if busy => {}
            Err(RecvTimeoutError::Timeout) => take_off(&mut links),
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if Instant::now() >= busy_until {
            continue;
        }
        if links.len() == MOST_LINKS {
            take_off(&mut links);
        }
        // SAFETY: the options and what they point to live through the call.
        let link = unsafe {
            libbpf_sys::bpf_link_create(program.as_raw_fd(), 0, libbpf_sys::BPF_TRACE_UPROBE_MULTI, &raw const options)
        };
        if link < 0 {
            return;
        }
        // SAFETY: the kernel has just made this descriptor for us.
        links.push(unsafe { OwnedFd::from_raw_fd(link) });
    }
}

/// Taking a probe off waits for longer than putting one on, and nobody is to wait for it.
fn take_off(links: &mut Vec<OwnedFd>) {
    if !links.is_empty() {
        let links = std::mem::take(links);
        std::thread::spawn(move || drop(links));
    }
}
