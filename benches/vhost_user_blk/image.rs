//! The image that is served, in a folder on what is measured.
//!
//! Knows: files. Must not know: who serves them. Invariants: the file is gone at the end; what
//! was written before [`Image::settle`] is on the disk after it.

use std::os::unix::fs::FileExt;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::IMAGE_BYTES;

/// A file without holes.
#[derive(Debug)]
pub struct Image(NamedTempFile);

impl Image {
    /// A new one.
    ///
    /// # Errors
    /// There is no room, or no folder.
    pub fn new(folder: &Path) -> Result<Self, String> {
        Self::written(folder).map_err(|error| {
            let megabytes = IMAGE_BYTES >> 20;
            format!("no image of {megabytes} MiB in {}: {error}", folder.display())
        })
    }

    fn written(folder: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let image = NamedTempFile::new_in(folder)?;
        let block = vec![0x5a; 1 << 20];
        for at in (0..IMAGE_BYTES).step_by(block.len()) {
            image.as_file().write_all_at(&block, at)?;
        }
        image.as_file().sync_all()?;
        Ok(Self(image))
    }

    /// Write back what the last run left dirty, lest the next one pays for it.
    ///
    /// # Errors
    /// It is not written.
    pub fn settle(&self) -> Result<(), String> {
        self.0.as_file().sync_all().map_err(|error| format!("the image is not written: {error}"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}
