//! The two threads of a recording besides the main one: one drains the ring, one writes the file.

use crate::batches::{self, Batches};
use crate::courtesy::Courtesy;
use crate::drain::{self, Outlet};
use crate::error::Error;
use crate::events::Event;
use crate::kernel::{Drops, Ring};
use crate::recorder::{Recorder, Written};
use std::io::PipeWriter;
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};

pub(crate) struct Threads {
    pub batches: Batches,
    /// Closed to end it.
    stop: PipeWriter,
    drain: JoinHandle<Result<(), Error>>,
    recorder: JoinHandle<Result<Written, Error>>,
}

impl Threads {
    pub fn start(recorder: Recorder, ring: Ring, drops: Drops, events: &Sender<Event>) -> Result<Threads, Error> {
        let (batches, queue) = batches::queue();
        let (stopped, stop) = std::io::pipe().map_err(|source| Error::System { what: "make a pipe", source })?;
        let courtesy = Courtesy::new(batches.backlog.clone(), drops);
        let outlet = Outlet::new(batches.clone(), courtesy, events.clone());
        let failed = |events: &Sender<Event>| drop(events.send(Event::Failed));
        let drain = thread::spawn({
            let events = events.clone();
            move || drain::run(&ring, &stopped, outlet).inspect_err(|_| failed(&events))
        });
        let recorder = thread::spawn({
            let events = events.clone();
            let warn = {
                let events = events.clone();
                move |warning| drop(events.send(Event::Warning(warning)))
            };
            move || recorder.run(queue, &warn).inspect_err(|_| failed(&events))
        });
        Ok(Threads { batches, stop, drain, recorder })
    }

    /// Takes what is left in the ring and then what is told last, and closes the file.
    pub fn stop(self, last: impl FnOnce() -> Vec<u8>) -> Result<Written, Error> {
        drop(self.stop);
        let drained = join(self.drain, "drain the ring");
        self.batches.send(last());
        drop(self.batches);
        let written = join(self.recorder, "write the capture");
        written.and_then(|written| drained.map(|()| written))
    }
}

fn join<T>(thread: JoinHandle<Result<T, Error>>, what: &'static str) -> Result<T, Error> {
    let panicked = |_| Error::System { what, source: std::io::Error::other("its thread panicked: please report it") };
    thread.join().map_err(panicked).and_then(|result| result)
}
