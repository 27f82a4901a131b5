//! Flags of system calls by name, as strace(1) writes them.

use agentsight_formats::record::file_op;

/// Flags of open(2) that every architecture numbers alike. `O_SYNC` holds the bit of `O_DSYNC`, `O_TMPFILE` that of
/// `O_DIRECTORY`: the larger ones come first.
const OPEN: [(u32, &str); 12] = [
    (0o100, "O_CREAT"),
    (0o200, "O_EXCL"),
    (0o400, "O_NOCTTY"),
    (0o1000, "O_TRUNC"),
    (0o2000, "O_APPEND"),
    (0o4000, "O_NONBLOCK"),
    (0o4010000, "O_SYNC"),
    (0o10000, "O_DSYNC"),
    (0o20000, "FASYNC"),
    (0o1000000, "O_NOATIME"),
    (0o2000000, "O_CLOEXEC"),
    (0o10000000, "O_PATH"),
];

/// Those that differ: asm-generic/fcntl.h, and arch/arm64/include/uapi/asm/fcntl.h.
const OPEN_GENERIC: [(u32, &str); 5] = [
    (0o20200000, "O_TMPFILE"),
    (0o200000, "O_DIRECTORY"),
    (0o400000, "O_NOFOLLOW"),
    (0o40000, "O_DIRECT"),
    (0o100000, "O_LARGEFILE"),
];
const OPEN_ARM: [(u32, &str); 5] = [
    (0o20040000, "O_TMPFILE"),
    (0o40000, "O_DIRECTORY"),
    (0o100000, "O_NOFOLLOW"),
    (0o200000, "O_DIRECT"),
    (0o400000, "O_LARGEFILE"),
];

const RENAME: [(u32, &str); 3] = [(1, "RENAME_NOREPLACE"), (2, "RENAME_EXCHANGE"), (4, "RENAME_WHITEOUT")];
const AT: [(u32, &str); 4] =
    [(0x100, "AT_SYMLINK_NOFOLLOW"), (0x200, "AT_REMOVEDIR"), (0x400, "AT_SYMLINK_FOLLOW"), (0x1000, "AT_EMPTY_PATH")];

/// The flags of a file operation; `None` where it has none.
pub(crate) fn of_file(op: u16, flags: u32, arch: &str) -> Option<String> {
    let names = match op {
        file_op::OPEN => {
            let access = ["O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"][(flags & 3) as usize];
            let mut names = vec![access.to_owned()];
            let differing =
                if arch.starts_with("aarch64") || arch.starts_with("arm") { &OPEN_ARM } else { &OPEN_GENERIC };
            add_names(&mut names, flags & !3, OPEN.iter().chain(differing));
            names
        }
        file_op::RENAME => named(flags, &RENAME),
        file_op::UNLINK | file_op::RMDIR | file_op::LINK | file_op::CHMOD => named(flags, &AT),
        _ => Vec::new(),
    };
    Some(names.join("|")).filter(|text| !text.is_empty())
}

/// Whether open(2) takes a mode with these flags.
pub(crate) fn creates(flags: u32) -> bool {
    const O_CREAT: u32 = 0o100;
    const O_TMPFILE: u32 = 0o20000000;
    flags & (O_CREAT | O_TMPFILE) != 0
}

fn named(flags: u32, known: &[(u32, &str)]) -> Vec<String> {
    let mut names = Vec::new();
    add_names(&mut names, flags, known.iter());
    names
}

/// What has no name is written as a number.
fn add_names<'a>(names: &mut Vec<String>, flags: u32, known: impl Iterator<Item = &'a (u32, &'a str)>) {
    let mut left = flags;
    for (bits, name) in known {
        if left & bits == *bits {
            left &= !bits;
            names.push((*name).to_owned());
        }
    }
    if left != 0 {
        names.push(format!("{left:#x}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_named_as_the_architecture_numbers_them() {
        let open = |flags, arch| of_file(file_op::OPEN, flags, arch).unwrap();
        assert_eq!(open(0, "x86_64"), "O_RDONLY");
        assert_eq!(open(0o1101, "x86_64"), "O_WRONLY|O_CREAT|O_TRUNC");
        assert_eq!(open(0o2200000, "x86_64"), "O_RDONLY|O_CLOEXEC|O_DIRECTORY");
        assert_eq!(open(0o2040000, "aarch64"), "O_RDONLY|O_CLOEXEC|O_DIRECTORY");
        assert_eq!(open(0o20200002, "x86_64"), "O_RDWR|O_TMPFILE");
        assert_eq!(open(0o4010001, "x86_64"), "O_WRONLY|O_SYNC");
        assert_eq!(open(0x8000_0000, "x86_64"), "O_RDONLY|0x80000000");
        assert_eq!(of_file(file_op::RENAME, 1, "").as_deref(), Some("RENAME_NOREPLACE"));
        assert_eq!(of_file(file_op::UNLINK, 0, ""), None);
    }
}
