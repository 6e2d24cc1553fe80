//! State files that were cut off.
//!
//! Story: a daemon is killed after any byte that it wrote of its state file; the next one reads what
//! the whole lines say, and never refuses the disk because of the rest.

use blkfault::fuzzing::{state_file, state_line};

/// What a file comes to, as it would be written anew.
fn read(bytes: &[u8]) -> Result<Option<String>, String> {
    let line = state_file(bytes)?.map(|snapshot| state_line(&snapshot));
    line.transpose()
}

#[test]
fn a_state_file_cut_off_anywhere_says_what_its_whole_lines_say() {
    let (mut cuts, mut refused) = (0, Vec::new());
    for (name, bytes) in blkfault_fuzz::state::seeds() {
        if let Err(why) = state_file(&bytes) {
            refused.push((name, why));
            continue;
        }
        let mut expected = Ok(None);
        for end in 0..=bytes.len() {
            if bytes[..end].ends_with(b"\n") {
                expected = read(&bytes[..end]);
                assert!(matches!(expected, Ok(Some(_))), "{name}: {end} bytes: {expected:?}");
            }
            // Once in a line is as good as everywhere in it, but for characters that are cut.
            let is_special = end % 16 == 0 || bytes.get(end).is_none_or(|byte| *byte > 127);
            if end < 2000 || is_special {
                assert_eq!(read(&bytes[..end]), expected, "{name}: {end} bytes");
                cuts += 1;
            }
        }
    }
    assert_eq!(refused.len(), 8, "{refused:#?}");
    assert!(cuts > 1000, "{cuts} cuts");
}
