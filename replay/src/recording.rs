//! A recording and its files. One that was rotated has several, each a whole capture; read together they give the rows of one.

use crate::clock::WallClock;
use crate::hex::hex;
use crate::processes::signed;
use crate::tables;
use crate::{Error, agent};
use agentsight_formats::{Clocks, Head, Metadata};
use std::collections::BTreeMap;

/// Puts captures together that are files of one recording: their positions, in the order in which they are to be read. Each
/// recording stands where its first file was named; a file that is there twice is read once.
pub fn together<'h>(heads: impl IntoIterator<Item = &'h Head>) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<(u64, [u8; 16], usize)>> = Vec::new();
    let mut by_recording: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, head) in heads.into_iter().enumerate() {
        let Some((recording, part)) = head.metadata.part() else {
            groups.push(vec![(0, head.uuid, index)]);
            continue;
        };
        let group = *by_recording.entry(recording).or_insert(groups.len());
        if group == groups.len() {
            groups.push(Vec::new());
        }
        if let Some(files) = groups.get_mut(group) {
            files.push((part, head.uuid, index));
        }
    }
    let ordered = |mut files: Vec<(u64, [u8; 16], usize)>| {
        files.sort_unstable();
        files.dedup_by_key(|(part, uuid, _)| (*part, *uuid));
        files.into_iter().map(|(_, _, index)| index).collect()
    };
    groups.into_iter().map(ordered).collect()
}

/// What the table `captures` says of a recording, collected file by file.
#[derive(Default)]
pub(crate) struct Recording {
    pub capture_id: String,
    metadata: Metadata,
    files: Vec<String>,
    parts: Vec<u64>,
    pub segments: i64,
    pub exit_code: Option<i64>,
    /// Name and version of the agent, as it calls itself.
    agent: Option<(String, String)>,
    pub complete: bool,
}

impl Recording {
    pub fn new(head: &Head) -> Self {
        let id = head.metadata.part().map_or_else(|| uuid(&head.uuid), |(recording, _)| recording.to_owned());
        Recording { capture_id: id, metadata: head.metadata.clone(), complete: true, ..Recording::default() }
    }

    /// The next file. Returns how many are missing between the one before and this one.
    ///
    /// # Errors
    /// [`Error::Apart`] when it belongs to another recording.
    pub fn begin(&mut self, file: &str, head: &Head) -> Result<u64, Error> {
        let part = head.metadata.part();
        if !self.files.is_empty() && part.is_none_or(|(recording, _)| recording != self.capture_id) {
            return Err(Error::Apart { file: file.to_owned() });
        }
        self.files.push(file.to_owned());
        let Some((_, number)) = part else { return Ok(0) };
        let missing = self.parts.last().map_or(0, |last| number.saturating_sub(last.saturating_add(1)));
        self.parts.push(number);
        self.complete &= missing == 0;
        Ok(missing)
    }

    /// A model was called, by somebody who calls himself so.
    pub fn called(&mut self, user_agent: Option<&str>) {
        if self.agent.is_none() {
            self.agent = user_agent.and_then(agent::of_user_agent);
        }
    }

    pub fn row(self, clock: WallClock, end: Option<Clocks>, records: u64, dropped: u64) -> tables::Capture {
        let metadata = self.metadata;
        let (name, version) = self.agent.unzip();
        tables::Capture {
            capture_id: self.capture_id,
            started_at: clock.at(metadata.clocks.boottime),
            ended_at: end.map(|clocks| clock.at(clocks.boottime)),
            host: metadata.host,
            kernel: metadata.kernel,
            arch: metadata.arch,
            capturer_version: metadata.capturer_version,
            command_line: metadata.command_line.clone(),
            working_directory: metadata.working_directory,
            repo: metadata.repo,
            vcs_commit: metadata.vcs_commit,
            user_name: metadata.user_name,
            agent_name: name.or_else(|| agent::of_command(&metadata.command_line)),
            agent_version: version,
            exit_code: self.exit_code,
            file: self.files.first().cloned().unwrap_or_default(),
            files: self.files,
            first_part: self.parts.first().copied().map(signed),
            last_part: self.parts.last().copied().map(signed),
            segments: self.segments,
            records: signed(records),
            dropped_records: signed(dropped),
            complete: self.complete,
        }
    }
}

/// A UUID in its usual form (RFC 9562, 4).
fn uuid(bytes: &[u8; 16]) -> String {
    let hex = hex(bytes);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(uuid: u8, recording: &str, part: u64) -> Head {
        let mut metadata = Metadata::default();
        if !recording.is_empty() {
            metadata.extra.insert("recording".to_owned(), recording.into());
            metadata.extra.insert("part".to_owned(), part.into());
        }
        Head::new([uuid; 16], metadata)
    }

    #[test]
    fn files_of_one_recording_are_read_together_in_their_order() {
        let heads =
            [head(1, "b", 2), head(2, "", 0), head(3, "a", 1), head(4, "b", 1), head(1, "b", 2), head(2, "", 0)];
        assert_eq!(together(&heads), [vec![3, 0], vec![1], vec![2], vec![5]]);
    }
}
