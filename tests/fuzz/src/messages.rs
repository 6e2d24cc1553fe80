//! F-03: a stream of vhost-user messages, cut anywhere, with descriptors of every kind.
//!
//! Every message is answered as the protocol says or ends the connection ([`Link`]); when the front
//! end has gone, no descriptor and no mapping of its is left.

use std::sync::Arc;

use blkfault::block::MemoryImage;
use blkfault::export::{Disk, DiskOptions, HeldOnStop, Serial};
use blkfault::fuzzing::{run_workers, take_turns_here};

use crate::image::Nobody;
use crate::input::{Reader, Writer};
use crate::wire::{Link, Message, leaves_nothing};

mod seeds;
pub use seeds::{memory_table, seeds};

/// More messages only take time.
const MESSAGES_MAX: usize = 48;

/// A disk with two queues.
pub fn disk() -> Arc<Disk> {
    let options = DiskOptions {
        id: "fuzz".to_owned(),
        serial: Serial::new("SERIAL-0123456789").expect("a good serial"),
        logical_block_bytes: 512,
        num_queues: 2,
        writable: true,
        writeback: true,
        held_on_stop: HeldOnStop::Fail,
        remembers_faults: false,
        poll: blkfault::export::PollShare::percent(0).expect("a share"),
    };
    Arc::new(Disk::new(options, Arc::new(MemoryImage::new(64 << 10)), Arc::new(Nobody)))
}

pub fn decode(input: &[u8]) -> Vec<Message> {
    let mut input = Reader::new(input);
    let mut messages = Vec::new();
    while !input.is_empty() && messages.len() < MESSAGES_MAX {
        messages.push(Message::read(&mut input));
    }
    messages
}

fn encode(messages: &[Message]) -> Vec<u8> {
    let mut output = Writer::default();
    messages.iter().for_each(|message| message.write(&mut output));
    output.0
}

/// Try an input.
pub fn run(input: &[u8]) {
    leaves_nothing(input, play);
}

fn play(input: &[u8]) {
    take_turns_here(true);
    let mut link = Link::new(disk());
    for message in decode(input) {
        if !link.is_up() {
            break;
        }
        link.send_made(&message);
        run_workers();
    }
}
