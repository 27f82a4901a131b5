//! The kernel side of agentsight: eBPF programs that write raw records into a ring buffer.
//!
//! `src/programs` holds one C file a source and the record layouts they share; the build compiles them into one object and
//! generates the skeleton that is re-exported here. On systems other than Linux the crate is empty.

#![cfg(target_os = "linux")]

#[allow(clippy::all, clippy::pedantic, dead_code, non_snake_case, missing_docs)]
mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/skeleton.rs"));
}

pub use skeleton::*;

/// The compiled programs, an ELF object with BTF.
pub const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agentsight.bpf.o"));
