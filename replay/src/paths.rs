//! Paths as programs name them, made whole.

/// `path` below `base`, the folder that it is relative to, which the kernel has named (links resolved).
///
/// `.` and empty parts go. `..` goes together with the folder before it only where that is one of `base`: one that the
/// program named may be a link, and lead elsewhere. A base that does not begin with `/` begins with a mark: its front is missing
/// (`…`), or it leads to another root (`(unreachable)`).
pub(crate) fn absolute(base: &[u8], path: &[u8]) -> Vec<u8> {
    let rooted = path.starts_with(b"/") || base.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    let mut real = 0;
    if !path.starts_with(b"/") {
        parts.extend(named(base));
        real = parts.len();
    }
    for part in named(path) {
        if part == b".." && parts.len() == real && (rooted || real > 0) {
            // Above the root is the root, and a mark stays where it is.
            real = real.saturating_sub(1).max(usize::from(!rooted));
            parts.truncate(real);
        } else {
            parts.push(part);
        }
    }
    let mut out = Vec::with_capacity(base.len() + path.len() + 1);
    for part in &parts {
        if rooted || !out.is_empty() {
            out.push(b'/');
        }
        out.extend_from_slice(part);
    }
    if out.is_empty() && rooted {
        out.push(b'/');
    }
    out
}

fn named(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_are_below_their_folder_and_links_are_not_guessed() {
        let cases = [
            ("/w", "a.txt", "/w/a.txt"),
            ("/w", "./a//b/", "/w/a/b"),
            ("/w/src", "../a", "/w/a"),
            ("/w", "../../../a", "/a"),
            ("/", "a", "/a"),
            ("/w", "link/../a", "/w/link/../a"),
            ("/w", "../link/../../a", "/link/../../a"),
            ("", "/etc//passwd", "/etc/passwd"),
            ("", "/../etc/./x", "/etc/x"),
            ("", "/", "/"),
            ("/w", "", "/w"),
            ("…/w", "a/./b", "…/w/a/b"),
            ("…/w", "../../a", "…/a"),
            ("(unreachable)/", "../a", "(unreachable)/a"),
            ("/w", ".//a/../b", "/w/a/../b"),
            ("", "a/./b", "a/b"),
            ("", "../a", "../a"),
            ("", "", ""),
        ];
        for (base, path, whole) in cases {
            assert_eq!(String::from_utf8(absolute(base.as_bytes(), path.as_bytes())).unwrap(), whole, "{base} {path}");
        }
    }
}
