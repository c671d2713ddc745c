//! Where permission is denied: who asks, and what the file or directory allows to whom. What was to be done with it is
//! said elsewhere.

use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::file_system::directory_of;

/// An error as it is printed, with more where permission is denied.
pub struct Explained<'a> {
    error: &'a io::Error,
    path: &'a Path,
}

/// An error that `path` has brought. Where permission is denied, it prints the user, and the mode of the file or of the
/// directory on the way to it that keeps the user out.
#[must_use]
pub fn explained<'a>(error: &'a io::Error, path: &'a Path) -> Explained<'a> {
    Explained { error, path }
}

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        let is_denied = self.error.kind() == io::ErrorKind::PermissionDenied;
        // The owner of this is the user whom permissions are checked for.
        let Some(process) = fs::metadata("/proc/self").ok().filter(|_| is_denied) else {
            return Ok(());
        };
        let user = user_name(process.uid());
        match nearest(self.path) {
            Some((path, metadata)) => {
                let (owner, group) = (user_name(metadata.uid()), group_name(metadata.gid()));
                let mode = mode(&metadata);
                write!(f, "; the user is {user}, {path:?} is {mode} {owner} {group}")
            }
            None => write!(f, "; the user is {user}"),
        }
    }
}

/// Returns a user's name, or the number if `/etc/passwd` has no name for it. Other sources of names may take long to
/// answer, and a failover must not wait for them.
#[must_use]
pub fn user_name(id: u32) -> String {
    let users = fs::read("/etc/passwd").unwrap_or_default();
    name_of(id, &users).unwrap_or_else(|| format!("uid {id}"))
}

fn group_name(id: u32) -> String {
    let groups = fs::read("/etc/group").unwrap_or_default();
    name_of(id, &groups).unwrap_or_else(|| format!("gid {id}"))
}

/// Looks a number up in the lines of `/etc/passwd` or `/etc/group`: name, password, number and more, with colons between
/// them.
fn name_of(id: u32, lines: &[u8]) -> Option<String> {
    lines.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b':');
        let name = fields.next()?;
        let number = std::str::from_utf8(fields.nth(1)?).ok()?;
        (number.parse() == Ok(id)).then(|| String::from_utf8_lossy(name).into_owned())
    })
}

/// What can be seen of a path: the file itself, or the directory that hides it.
fn nearest(mut path: &Path) -> Option<(&Path, Metadata)> {
    loop {
        match fs::metadata(path) {
            Ok(metadata) => return Some((path, metadata)),
            Err(_) if directory_of(path) == path || path.parent().is_none() => return None,
            Err(_) => path = directory_of(path),
        }
    }
}

/// Kind and permissions as `ls -l` shows them.
fn mode(metadata: &Metadata) -> String {
    let bits = metadata.permissions().mode();
    let kind = if metadata.is_dir() { 'd' } else { '-' };
    let permissions = "rwxrwxrwx".chars().zip((0..9).rev());
    let permissions = permissions.map(|(it, bit)| if bits >> bit & 1 == 1 { it } else { '-' });
    [kind].into_iter().chain(permissions).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_by_their_number() {
        let users =
            b"root:x:0:0:root:/root:/bin/sh\n\nbroken\nposts:x:107:114::/:\npostgres:x:10:1:,,,:/:";
        assert_eq!(name_of(0, users).as_deref(), Some("root"));
        assert_eq!(name_of(10, users).as_deref(), Some("postgres"));
        assert_eq!(name_of(1, users), None);
        assert_eq!(name_of(0, b""), None);
    }

    #[test]
    fn only_a_denied_permission_is_explained() {
        let path = Path::new("/nowhere/at/all");
        let error = |kind| io::Error::from(kind);
        let denied = explained(&error(io::ErrorKind::PermissionDenied), path).to_string();
        assert!(denied.contains("; the user is ") && denied.contains("\"/\" is d"), "{denied}");
        let absent = error(io::ErrorKind::NotFound);
        assert_eq!(explained(&absent, path).to_string(), absent.to_string());
    }
}
