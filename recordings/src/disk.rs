//! What the spool asks of its file system, a method a step: so that a test can fail, or look at, any of them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FallocateFlags, OFlags, StatVfsMountFlags};

/// A file system; each method does what it says unless it is overridden.
pub trait Disk: Send + Sync + 'static {
    /// Makes a new file, mode 0600, to read and write.
    ///
    /// # Errors
    /// Also if there is something of that name.
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
    }

    /// Opens what is there, if it is a plain file, to read and write.
    ///
    /// # Errors
    /// As the system says; of anything else than a plain file, [`io::ErrorKind::InvalidInput`].
    fn open(&self, path: &Path) -> io::Result<File> {
        if !fs::symlink_metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "this is no plain file"));
        }
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
    }

    /// Writes some of `bytes` where the file stands; says how much.
    ///
    /// # Errors
    /// As the system says.
    fn write(&self, mut file: &File, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        file.write_vectored(bytes)
    }

    /// Returns when a power cut costs nothing of what was written.
    ///
    /// # Errors
    /// As the system says; what the disk holds is then unknown.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// Returns when a power cut costs none of a folder's names.
    ///
    /// # Errors
    /// As the system says.
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    /// Allocates `len` bytes from `at` on; the file's length stays as it is.
    ///
    /// # Errors
    /// As the system says.
    fn reserve(&self, file: &File, at: u64, len: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, at, len)?)
    }

    /// Makes a file `len` bytes long, and gives back what was allocated beyond.
    ///
    /// # Errors
    /// As the system says.
    fn cut(&self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    /// Gives a file another name, whatever had that before.
    ///
    /// # Errors
    /// As the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    /// Removes a file.
    ///
    /// # Errors
    /// As the system says.
    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    /// Bytes that an unprivileged process may still write to the file system of `file`.
    ///
    /// # Errors
    /// As the system says; also if it is read-only.
    fn free(&self, file: &File) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(file)?;
        if stat.f_flag.contains(StatVfsMountFlags::RDONLY) {
            return Err(rustix::io::Errno::ROFS.into());
        }
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// The file system as it is.
#[derive(Clone, Copy, Debug)]
pub struct System;

impl Disk for System {}

/// Writes all of `bytes` where the file stands.
pub(crate) fn write_all(disk: &dyn Disk, file: &File, mut bytes: &mut [IoSlice<'_>]) -> io::Result<()> {
    /// `IOV_MAX` on every system we run on.
    const MAX_SLICES: usize = 1024;
    IoSlice::advance_slices(&mut bytes, 0);
    while !bytes.is_empty() {
        let some = bytes.len().min(MAX_SLICES);
        match disk.write(file, &bytes[..some]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => IoSlice::advance_slices(&mut bytes, n),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => (),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
