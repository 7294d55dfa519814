//! Whether root alone controls where a path leads.
//!
//! The service manager reads a credential as root, wherever its path leads. A user that can write
//! to any component of the path can place a link to one of root's secrets there at any time.
//! Therefore each component is checked: directories, links, their targets, and the file. Access
//! control lists need no check of their own, because their mask shows in the group's bits.

use std::ffi::OsString;
use std::fmt;
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

/// Links on the way, as many as the kernel follows (path_resolution(7)).
const MOST_LINKS: usize = 40;

const STICKY: u32 = 0o1000;

/// A part of a way that others than root may change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swayed {
    pub part: PathBuf,
    owner: u32,
    mode: u32,
}

impl fmt::Display for Swayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = self.part.display();
        if self.owner == 0 {
            write!(
                f,
                "{part} is writable by users other than root (mode {:04o})",
                self.mode & 0o7777
            )
        } else {
            write!(f, "{part} belongs to user {} and not to root", self.owner)
        }
    }
}

/// Returns the first part of the path to a file that users other than root may change. A part that
/// cannot be examined or does not exist is safe, unless every user can create it in its directory.
#[must_use]
pub fn swayed_part(path: &Path) -> Option<Swayed> {
    let mut reached = PathBuf::from("/");
    let mut directory = reached.symlink_metadata().ok()?;
    let mut links = 0;
    // What is left of the way, the next part last.
    let mut left = parts(path);
    while let Some(name) = left.pop() {
        if name == ".." {
            reached.pop();
            directory = reached.symlink_metadata().ok()?;
            continue;
        }
        let part = reached.join(&name);
        let found = match part.symlink_metadata() {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let open = directory.mode() & 0o022 != 0;
                return open.then(|| swayed(&reached, &directory));
            }
            Err(_) => return None,
        };
        if is_swayed(&found) {
            return Some(swayed(&part, &found));
        }
        if found.is_symlink() {
            links += 1;
            let target = part.read_link().ok().filter(|_| links <= MOST_LINKS);
            let Some(target) = target else { return Some(swayed(&part, &found)) };
            if target.is_absolute() {
                reached = PathBuf::from("/");
                directory = reached.symlink_metadata().ok()?;
            }
            left.extend(parts(&target));
        } else {
            reached = part;
            directory = found;
        }
    }
    None
}

/// The names in a path, the first one last.
fn parts(path: &Path) -> Vec<OsString> {
    let named = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    };
    path.components().rev().filter_map(named).collect()
}

fn is_swayed(found: &Metadata) -> bool {
    // The mode of a symbolic link means nothing; its directory decides who may replace it. In a
    // sticky directory only the owner of an entry may.
    let guarded = found.is_symlink() || found.is_dir() && found.mode() & STICKY != 0;
    let by_group = found.mode() & 0o020 != 0 && found.gid() != 0;
    let by_others = found.mode() & 0o002 != 0;
    found.uid() != 0 || !guarded && (by_group || by_others)
}

fn swayed(part: &Path, found: &Metadata) -> Swayed {
    Swayed { part: part.to_owned(), owner: found.uid(), mode: found.mode() }
}

#[cfg(test)]
mod as_root {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    /// A directory below `/run`, which is root's alone; `/tmp` is not.
    fn place() -> tempfile::TempDir {
        assert!(nix::unistd::geteuid().is_root(), "ownership can be tried by root alone");
        tempfile::tempdir_in("/run").unwrap()
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_roots_alone_is_trusted_also_through_its_links() {
        let place = place();
        let file = place.path().join("key");
        fs::write(&file, "x").unwrap();
        mode(&file, 0o644);
        symlink(&file, place.path().join("link")).unwrap();
        symlink("../../run/./nothing/..", place.path().join("up")).unwrap();
        for path in [&file, &place.path().join("link"), &place.path().join("missing")] {
            assert_eq!(swayed_part(path), None, "{}", path.display());
        }
        assert_eq!(swayed_part(Path::new("/etc/../etc/passwd")), None);
    }

    #[test]
    fn a_part_that_others_may_write_is_named() {
        let place = place();
        let [home, key] = ["home", "home/key"].map(|name| place.path().join(name));
        fs::create_dir(&home).unwrap();
        fs::write(&key, "x").unwrap();
        let link = place.path().join("link");
        symlink("home/key", &link).unwrap();
        let part = |path: &Path| swayed_part(path).map(|swayed| swayed.part);
        assert_eq!(part(&link), None);

        chown(&home, Some(1000), None).unwrap();
        assert_eq!(part(&key), Some(home.clone()), "its owner");
        assert_eq!(part(&link), Some(home.clone()), "behind a link");
        chown(&home, Some(0), Some(1000)).unwrap();
        mode(&home, 0o775);
        assert_eq!(part(&key), Some(home.clone()), "its group");
        mode(&home, 0o1777);
        assert_eq!(part(&key), None, "only root may replace what is root's");
        assert_eq!(part(&home.join("missing")), Some(home.clone()), "everybody may make it");
        let inner = home.join("inner");
        fs::create_dir(&inner).unwrap();
        assert_eq!(part(&inner.join("../missing")), Some(home.clone()), "the same on a detour");
        mode(&home, 0o757);
        assert_eq!(part(&home.join("missing")), Some(home.clone()));
        mode(&home, 0o755);
        mode(&key, 0o602);
        assert_eq!(part(&key), Some(key.clone()), "the file itself");
        std::os::unix::fs::lchown(&link, Some(1000), None).unwrap();
        assert_eq!(part(&link), Some(link.clone()), "the link itself");
    }

    #[test]
    fn links_in_a_circle_are_not_followed_for_ever() {
        let place = place();
        let [one, two] = ["one", "two"].map(|name| place.path().join(name));
        symlink(&one, &two).unwrap();
        symlink(&two, &one).unwrap();
        assert!(swayed_part(&one).is_some());
    }
}
