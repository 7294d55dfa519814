//! Releases pages of files that are mapped into the process and count as its memory.
//!
//! The kernel maps more than what is used, and never takes it back while there is room. Pages that are
//! needed again are mapped again from the kernel's cache, which stays as it is. Where the releasing
//! fails, the pages stay, which is harmless.

use nix::sys::mman::{MmapAdvise, madvise};
use std::ffi::c_void;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;

/// Releases all pages of a file that is mapped for reading alone.
pub fn release_file(path: &Path) {
    release(|mapping| mapping.path == path.as_os_str().as_bytes() && mapping.mode == b"r--s");
}

/// Releases the code and the constants of the program and its libraries. A start runs through code that
/// nothing else needs, and the kernel maps much of what lies around it.
///
/// Breakpoints that a debugger has set by then are lost.
pub fn release_program() {
    release(|mapping| {
        // What the dynamic linker has changed is mapped from later parts of the file.
        let is_unchanged =
            mapping.mode == b"r-xp" || (mapping.mode == b"r--p" && mapping.is_beginning);
        mapping.path.starts_with(b"/") && is_unchanged
    });
}

/// A line of proc_pid_maps(5).
struct Mapping<'t> {
    range: (NonNull<c_void>, usize),
    mode: &'t [u8],
    /// Of the file.
    is_beginning: bool,
    path: &'t [u8],
}

fn release(is_wanted: impl Fn(&Mapping<'_>) -> bool) {
    let Ok(maps) = fs::read("/proc/self/maps") else { return };
    let mappings = maps.split(|&byte| byte == b'\n').filter_map(mapping);
    for Mapping { range: (address, length), .. } in mappings.filter(is_wanted) {
        #[expect(unsafe_code, reason = "nix cannot know what lies at an address")]
        // SAFETY: the range is one that the kernel has just reported as a map of a file, and the callers
        // choose those that nothing in this process has changed, so that releasing their pages changes
        // nothing that can be read.
        let _kept = unsafe { madvise(address, length, MmapAdvise::MADV_DONTNEED) };
    }
}

/// `55d0e2a00000-55d0e2c00000 r--p 00000000 fe:01 1234      /usr/bin/iotmonitor`
fn mapping(line: &[u8]) -> Option<Mapping<'_>> {
    let mut words = line.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
    let range = range(words.next()?)?;
    let mode = words.next()?;
    let is_beginning = words.next()?.iter().all(|&byte| byte == b'0');
    let path = line.iter().position(|&byte| byte == b'/').map_or(&[][..], |at| &line[at..]);
    Some(Mapping { range, mode, is_beginning, path })
}

fn range(word: &[u8]) -> Option<(NonNull<c_void>, usize)> {
    let (start, end) = str::from_utf8(word).ok()?.split_once('-')?;
    let (start, end) =
        (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    let address = NonNull::new(std::ptr::with_exposed_provenance_mut(start))?;
    Some((address, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::mman::{MapFlags, ProtFlags, mmap};
    use std::fs::File;
    use std::num::NonZero;

    const LENGTH: usize = 256 * 1024;

    /// Maps the file privately, as the kernel maps a program.
    fn map(file: &File, how: ProtFlags) -> NonNull<u8> {
        let length = NonZero::new(LENGTH).unwrap();
        #[expect(unsafe_code, reason = "nix cannot know what else uses the file")]
        // SAFETY: nobody else knows the file, and the map is never removed.
        let mapped = unsafe { mmap(None, length, how, MapFlags::MAP_PRIVATE, file, 0) };
        mapped.unwrap().cast()
    }

    /// The content of the map.
    fn bytes(mapped: NonNull<u8>) -> &'static [u8] {
        #[expect(unsafe_code, reason = "the map comes from the kernel")]
        // SAFETY: the map has this length, is never removed, and is not written to from now on.
        unsafe {
            std::slice::from_raw_parts(mapped.as_ptr(), LENGTH)
        }
    }

    /// Kilobytes of the file's map with this mode that are resident (proc_pid_smaps(5)).
    fn resident(path: &Path, mode: &str) -> usize {
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let is_it = |line: &str| line.ends_with(path.to_str().unwrap()) && line.contains(mode);
        let lines = maps.lines().skip_while(|line| !is_it(line));
        let line = lines.skip(1).find_map(|line| line.strip_prefix("Rss:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[test]
    fn unchanged_pages_are_released_and_changed_ones_stay() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), [1; LENGTH]).unwrap();
        let unchanged = map(file.as_file(), ProtFlags::PROT_READ);
        let changed = map(file.as_file(), ProtFlags::PROT_READ | ProtFlags::PROT_WRITE);
        #[expect(unsafe_code, reason = "the map comes from the kernel")]
        // SAFETY: the map is writable, and nothing refers to it yet.
        unsafe {
            changed.write(2);
        }
        assert_eq!(bytes(unchanged), [1; LENGTH]);
        assert_eq!(resident(file.path(), "r--p"), LENGTH / 1024);
        release_program();
        assert_eq!(resident(file.path(), "r--p"), 0);
        assert_eq!(bytes(unchanged), [1; LENGTH]);
        assert_eq!(bytes(changed)[..2], [2, 1]);
    }

    #[test]
    fn a_line_without_a_file_is_no_program() {
        let line = b"7ffd1c3d4000-7ffd1c3d6000 r-xp 00000000 00:00 0                  [vdso]";
        let vdso = mapping(line).unwrap();
        assert_eq!((vdso.mode, vdso.path), (&b"r-xp"[..], &b""[..]));
        assert!(mapping(b"").is_none());
    }
}
