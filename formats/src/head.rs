//! The head of a capture: what it is, before any record.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Format version that this program writes. A reader refuses a newer one; a higher minor version only adds.
pub const VERSION: u16 = 1;
pub const MINOR: u16 = 0;

/// One sample of the kernel's clocks, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clocks {
    /// `CLOCK_BOOTTIME`, which records carry.
    pub boottime: u64,
    pub monotonic: u64,
    /// `CLOCK_REALTIME`, since 1970-01-01 UTC.
    pub realtime: i64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Head {
    pub version: u16,
    pub minor: u16,
    pub uuid: [u8; 16],
    pub metadata: Metadata,
}

impl Head {
    /// A head of the version that this program writes.
    pub fn new(uuid: [u8; 16], metadata: Metadata) -> Self {
        Head { version: VERSION, minor: MINOR, uuid, metadata }
    }
}

/// Where, when and how a capture was recorded. Stored as JSON; what this version does not know is kept in `extra`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    pub host: String,
    /// Kernel release.
    pub kernel: String,
    pub arch: String,
    pub cpus: u32,
    pub capturer_version: String,
    /// The recorded command; empty if running processes were named.
    pub command_line: Vec<String>,
    pub working_directory: String,
    /// The git repository that the working directory is in, by the URL of its remote or the name of its folder, and the commit
    /// that was checked out there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vcs_commit: Option<String>,
    /// Who records; under sudo, who called it.
    pub uid: u32,
    pub gid: u32,
    pub user_name: String,
    /// What was chosen to be recorded, in the capturer's words.
    pub selectors: Vec<String>,
    /// Which sources are on.
    pub sources: BTreeMap<String, bool>,
    /// Longest payload of one record in bytes; 0 for no limit.
    pub payload_cap: u64,
    /// Clocks at the start.
    pub clocks: Clocks,
    /// Sizes in bytes of the fixed parts of records, by name.
    pub record_layouts: BTreeMap<String, u32>,
    #[serde(flatten)]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl Metadata {
    /// Of a rotated capture: the id that its files share, and the number of this one, from 1.
    pub fn part(&self) -> Option<(&str, u64)> {
        let recording = self.extra.get("recording")?.as_str().filter(|id| !id.is_empty())?;
        Some((recording, self.extra.get("part")?.as_u64()?))
    }
}
