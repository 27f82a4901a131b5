//! Creates the capture file. It holds secrets: nobody but its owner may read it.

use crate::Error;
use crate::user::Invoker;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Refuses an output that is there already, before anything is started.
///
/// # Errors
/// [`Error::OutputExists`].
pub(crate) fn check(path: &Path, force: bool) -> Result<(), Error> {
    // A pipe or a device is written to, not replaced.
    let replaced = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file() || metadata.is_dir());
    if replaced && (!force || path.is_dir()) {
        return Err(Error::OutputExists { path: path.to_owned() });
    }
    Ok(())
}

/// Creates the file with mode 0600, owned by the user behind sudo.
///
/// # Errors
/// When it cannot be created; an existing file is replaced only with `force`.
pub(crate) fn create(path: &Path, force: bool, invoker: Option<&Invoker>) -> Result<File, Error> {
    check(path, force)?;
    let failed = |source| Error::Create { path: path.to_owned(), source };
    let regular = path.symlink_metadata().map_or(true, |metadata| metadata.is_file());
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    if regular {
        // A new file in place of the old one: whoever reads the old one keeps it.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => options.create_new(true),
        };
    }
    let file = options.open(path).map_err(failed)?;
    if let Some(invoker) = invoker.filter(|_| regular) {
        std::os::unix::fs::fchown(&file, Some(invoker.uid.as_raw()), Some(invoker.gid.as_raw())).map_err(failed)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_capture_is_for_its_owner_alone_and_never_overwritten_by_accident() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.asc");
        let file = create(&path, false, None).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let message = create(&path, false, None).unwrap_err().to_string();
        assert!(message.contains("run.asc exists") && message.contains("--force"), "{message}");
        create(&path, true, None).unwrap();
    }

    #[test]
    fn a_folder_is_no_output_even_with_force() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(check(folder.path(), true), Err(Error::OutputExists { .. })));
    }
}
