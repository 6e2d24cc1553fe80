//! What the host must lend a test: loop devices, small file systems. Each is given back on drop.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A directory on the disk's file system, not a tmpfs.
pub(crate) fn scratch() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Say that something was left out, past the test harness, which hides what passing tests say.
pub(crate) fn left_out(what: &str, why: &str) {
    let why = why.lines().next().unwrap_or_default();
    let _ = writeln!(std::io::stderr(), "LEFT OUT: {what}: {why}");
}

/// A sparse file of this size.
pub(crate) fn sparse(path: &Path, bytes: u64) -> PathBuf {
    File::create(path).unwrap().set_len(bytes).unwrap();
    path.to_owned()
}

/// Run a command; what it wrote, or why it failed.
pub(crate) fn run(command: &[&str]) -> Result<String, String> {
    let output = Command::new(command[0])
        .args(&command[1..])
        .output()
        .map_err(|error| format!("{}: {error}", command[0]))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(format!("{}: {words}", command[0]));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// A loop device over a file.
pub(crate) struct Loop {
    pub(crate) device: PathBuf,
}

impl Loop {
    pub(crate) fn over(file: &Path, block_bytes: u32) -> Result<Self, String> {
        let size = block_bytes.to_string();
        let device = run(&["losetup", "-f", "--show", "-b", &size, file.to_str().unwrap()])?;
        Ok(Self { device: device.into() })
    }

    /// A write-protected loop device over a file.
    pub(crate) fn protected(file: &Path) -> Result<Self, String> {
        let device = run(&["losetup", "-r", "-f", "--show", file.to_str().unwrap()])?;
        Ok(Self { device: device.into() })
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if let Err(error) = run(&["losetup", "-d", self.device.to_str().unwrap()]) {
            left_out("giving back a loop device", &error);
        }
    }
}

/// A mounted file system of its own.
pub(crate) struct Mount {
    pub(crate) path: PathBuf,
    _directory: TempDir,
    _image: Option<Loop>,
}

impl Mount {
    /// A tmpfs of this size.
    pub(crate) fn tmpfs(bytes: u64) -> Result<Self, String> {
        let directory = scratch();
        let path = directory.path().join("mnt");
        std::fs::create_dir(&path).unwrap();
        let size = format!("size={bytes}");
        run(&["mount", "-t", "tmpfs", "-o", &size, "tmpfs", path.to_str().unwrap()])?;
        Ok(Self { path, _directory: directory, _image: None })
    }

    /// An ext4 of this size on a loop device.
    pub(crate) fn ext4(bytes: u64) -> Result<Self, String> {
        let directory = scratch();
        let image = sparse(&directory.path().join("ext4.img"), bytes);
        run(&["mkfs.ext4", "-q", "-F", "-m", "0", image.to_str().unwrap()])?;
        let device = Loop::over(&image, 512)?;
        drop(directory);
        Self::device(device)
    }

    /// The ext4 that is on a device. Its backing file may have been removed by now.
    pub(crate) fn device(device: Loop) -> Result<Self, String> {
        let directory = scratch();
        let path = directory.path().join("mnt");
        std::fs::create_dir(&path).unwrap();
        let name = device.device.to_str().unwrap();
        run(&["mount", "-t", "ext4", name, path.to_str().unwrap()])?;
        Ok(Self { path, _directory: directory, _image: Some(device) })
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(error) = run(&["umount", self.path.to_str().unwrap()]) {
            left_out("unmounting", &error);
        }
    }
}

/// A file system that lets no write pass until it is dropped.
pub(crate) struct Frozen<'a>(&'a Mount);

impl<'a> Frozen<'a> {
    pub(crate) fn new(mount: &'a Mount) -> Result<Self, String> {
        run(&["fsfreeze", "-f", mount.path.to_str().unwrap()])?;
        Ok(Self(mount))
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        run(&["fsfreeze", "-u", self.0.path.to_str().unwrap()]).unwrap();
    }
}

/// The value, or a line that says what is left out and nothing.
pub(crate) fn lend<T>(what: &str, value: Result<T, String>) -> Option<T> {
    value.map_err(|why| left_out(what, &why)).ok()
}
