//! Image locks, among ourselves and against QEMU.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use blkfault::block::{Locking, OpenError, RawImage, RawOptions};

use crate::driver::Driver;
use crate::host::{lend, run, scratch, sparse};

fn options(path: &Path, read_only: bool) -> RawOptions {
    RawOptions { read_only, ..RawOptions::new(path) }
}

fn refused(path: &Path, read_only: bool) -> String {
    match RawImage::open(options(path, read_only)) {
        Ok(_) => panic!("the lock of another did not keep us out"),
        Err(error @ OpenError::Locked { .. }) => error.to_string(),
        Err(error) => panic!("refused for another reason: {error}"),
    }
}

#[test]
fn a_writer_excludes_everybody_and_readers_exclude_a_writer() {
    let directory = scratch();
    let path = sparse(&directory.path().join("disk.img"), 1 << 20);
    let writer = RawImage::open(options(&path, false)).unwrap();
    let hint = format!("Is another process using the image [{}]?", path.display());
    assert_eq!(refused(&path, false), format!("Failed to get \"write\" lock. {hint}"));
    assert_eq!(refused(&path, true), format!("Failed to get shared \"write\" lock. {hint}"));
    let careless = RawOptions { locking: Locking::Off, ..options(&path, false) };
    RawImage::open(careless).unwrap();
    drop(writer);

    let reader = RawImage::open(options(&path, true)).unwrap();
    let second = RawImage::open(options(&path, true)).unwrap();
    assert_eq!(refused(&path, false), format!("Failed to get \"write\" lock. {hint}"));
    drop((reader, second));
    RawImage::open(options(&path, false)).unwrap();
}

#[test]
fn the_lock_lasts_as_long_as_the_image_and_not_as_its_channels() {
    let directory = scratch();
    let path = sparse(&directory.path().join("disk.img"), 1 << 20);
    let image = RawImage::open(options(&path, false)).unwrap();
    let mut driver = Driver::new(&image);
    driver.write(0, &[1; 512]).unwrap();
    drop(image);
    assert_eq!(driver.write(0, &[2; 512]), Ok(()));
    refused(&path, false);
    drop(driver);
    RawImage::open(options(&path, false)).unwrap();
}

#[test]
fn readers_of_one_image_serve_different_disks_and_not_the_same_one() {
    let directory = scratch();
    let path = sparse(&directory.path().join("disk.img"), 1 << 20);
    let other_path = sparse(&directory.path().join("other.img"), 1 << 20);
    let [first, second] = [(); 2].map(|()| RawImage::open(options(&path, true)).unwrap());
    let serve = |image: &RawImage, disk| image.serve(disk, "the disk at '/s'", Duration::ZERO);
    let (one, _two) = (serve(&first, 1).unwrap(), serve(&second, 2).unwrap());
    let error = serve(&second, 1).unwrap_err();
    assert!(matches!(error, OpenError::Marked { .. }), "{error}");
    let said = format!("the disk at '/s' on the image [{}]", path.display());
    assert!(error.to_string().contains(&said), "{error}");
    // What is opened in the place of the image serves the disk, and what was opened in vain does not.
    drop(first.prepare_reopen(options(&path, true)).unwrap());
    first.reopen(options(&path, true)).unwrap();
    serve(&second, 1).unwrap_err();
    first.reopen(options(&other_path, true)).unwrap();
    let third = serve(&second, 1).unwrap();
    let error = first.reopen(options(&path, true)).unwrap_err();
    assert!(matches!(error, OpenError::Marked { .. }), "{error}");
    drop(third);
    first.reopen(options(&path, true)).unwrap();
    drop(one);
    let _three = serve(&second, 1).unwrap();
    let careless = RawOptions { locking: Locking::Off, ..options(&path, true) };
    let _unasked = serve(&RawImage::open(careless).unwrap(), 1).unwrap();
}

#[test]
fn reopening_keeps_what_it_may_and_takes_what_it_needs() {
    let directory = scratch();
    let path = sparse(&directory.path().join("disk.img"), 1 << 20);
    let image = RawImage::open(options(&path, false)).unwrap();
    image.reopen(options(&path, false)).unwrap();
    refused(&path, true);
    image.reopen(options(&path, true)).unwrap();
    let reader = RawImage::open(options(&path, true)).unwrap();
    let error = image.reopen(options(&path, false)).unwrap_err();
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    assert!(image.options().read_only, "a refused reopen changes nothing");
    refused(&path, false);
    drop(reader);
    image.reopen(options(&path, false)).unwrap();
    refused(&path, true);

    let elsewhere = sparse(&directory.path().join("other.img"), 1 << 20);
    image.reopen(options(&elsewhere, false)).unwrap();
    RawImage::open(options(&path, false)).unwrap();
    refused(&elsewhere, false);
}

#[test]
fn a_reopening_that_comes_to_nothing_leaves_the_lock_as_it_was() {
    let directory = scratch();
    let path = sparse(&directory.path().join("disk.img"), 1 << 20);
    let image = RawImage::open(options(&path, true)).unwrap();
    drop(image.prepare_reopen(options(&path, false)).unwrap());
    refused(&path, false);
    RawImage::open(options(&path, true)).expect("readers share again");
}

/// A `qemu-io` that holds an image open until it is dropped.
struct QemuIo(Child);

impl QemuIo {
    fn open(path: &Path, read_only: bool) -> Self {
        let mut command = Command::new("qemu-io");
        if read_only {
            command.arg("-r");
        }
        let mut child = command
            .args(["-f", "raw"])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It answers once the image is open.
        writeln!(child.stdin.as_mut().unwrap(), "length").unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains('1'), "qemu-io says {line:?}");
        Self(child)
    }
}

impl Drop for QemuIo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn qemu_and_we_exclude_each_other() {
    if lend("locks against QEMU", run(&["qemu-io", "--version"])).is_none() {
        return;
    }
    let directory = scratch();
    let path = sparse(&directory.path().join("disk.img"), 1 << 20);
    let name = path.to_str().unwrap();
    let write = ["qemu-io", "-f", "raw", "-c", "write 0 512", name];
    let read = ["qemu-io", "-r", "-f", "raw", "-c", "read 0 512", name];
    let peek = ["qemu-img", "info", "-U", "-f", "raw", name];
    run(&write).expect("QEMU can write an image that nobody holds");

    let ours = RawImage::open(options(&path, false)).unwrap();
    let said = run(&write).unwrap_err();
    assert!(said.contains("Failed to get") && said.contains("lock"), "{said}");
    let convert = ["qemu-img", "convert", "-f", "raw", "-O", "raw", name, "/dev/null"];
    let said = run(&convert).unwrap_err();
    assert!(said.contains("Failed to get shared \"write\" lock"), "{said}");
    run(&peek).expect("force-share looks at an image that is in use");
    drop(ours);

    let ours = RawImage::open(options(&path, true)).unwrap();
    let said = run(&write).unwrap_err();
    assert!(said.contains("Failed to get \"write\" lock"), "{said}");
    run(&read).expect("readers share");
    drop(ours);
    run(&write).expect("the lock is gone with the image");

    let theirs = QemuIo::open(&path, false);
    assert!(refused(&path, false).contains("\"write\" lock"));
    assert!(refused(&path, true).contains("shared \"write\" lock"));
    drop(theirs);
    let theirs = QemuIo::open(&path, true);
    RawImage::open(options(&path, true)).expect("readers share");
    drop(theirs);
    RawImage::open(options(&path, false)).expect("a killed QEMU leaves no lock");
}
