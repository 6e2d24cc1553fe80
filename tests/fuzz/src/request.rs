//! F-02: chains served over an image, against the reference device.
//!
//! After each chain: the same used length, the same guest memory to the byte, the same op at the image
//! with the same durability, no guest byte read more often; at the end the same disk.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use blkfault::block::{Channel, MemoryImage, Node, Op, OpKind, OwnedMemory, Ticket};
use blkfault::errno::Errno;
use blkfault::export::{Disk, DiskOptions, HeldOnStop, Serial};
use blkfault::fuzzing::{Agreed, ChainAt, Event, Memory, serve, watch};

use crate::guest::{BYTES, END, Put, REGIONS, is_there};
use crate::image::{Asked, Image, Nobody};
use crate::input::{Reader, Writer};
use crate::model::{self, CONFIG_WCE, Content, DISCARD, Device, FLUSH, Terms, WRITE_ZEROES};

mod seeds;
pub use seeds::seeds;

/// Sectors that are filled at the beginning and compared at the end; the disk has one more.
pub const SECTORS: u64 = 32;
/// Bytes of a disk that is large enough for everything but the largest sectors.
const LARGE_BYTES: u64 = 1 << 41;
/// More data in one chain only takes time.
const DATA_BYTES_MAX: u64 = 1 << 17;

/// What the guest does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Put(Put),
    /// Serve the chain that starts at this descriptor.
    Serve(u16),
}

/// An input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    pub read_only: bool,
    pub is_large: bool,
    pub large_blocks: bool,
    pub writeback: bool,
    pub chose_writeback: bool,
    pub indirect: bool,
    pub features: u64,
    /// By type; the fifth bit beyond them says that the image does not support it.
    pub fails: u8,
    pub size_log2: u8,
    pub steps: Vec<Step>,
}

/// The features that make a difference, in the order of their bits in an input.
const FEATURES: [u64; 4] = [FLUSH, CONFIG_WCE, DISCARD, WRITE_ZEROES];
pub const ALL_FEATURES: u64 = FLUSH | CONFIG_WCE | DISCARD | WRITE_ZEROES;

impl Case {
    pub fn decode(input: &[u8]) -> Self {
        let mut input = Reader::new(input);
        let (flags, chosen) = (input.u8(), input.u8());
        let is = |bit: u8| flags & 1 << bit != 0;
        let features = (0..).zip(FEATURES).filter(|(bit, _)| chosen & 1 << bit != 0);
        let mut case = Self {
            read_only: is(0),
            is_large: is(1),
            large_blocks: is(2),
            writeback: is(3),
            chose_writeback: is(4),
            indirect: !is(5),
            features: features.map(|(_, feature)| feature).sum(),
            fails: input.u8(),
            size_log2: input.u8() % 7,
            steps: Vec::new(),
        };
        while !input.is_empty() {
            case.steps.push(match input.u8() % (Put::KINDS + 1) {
                Put::KINDS => Step::Serve(input.u16()),
                kind => Step::Put(Put::read(kind, &mut input)),
            });
        }
        case
    }

    pub fn encode(&self) -> Vec<u8> {
        let flags = [
            self.read_only,
            self.is_large,
            self.large_blocks,
            self.writeback,
            self.chose_writeback,
            !self.indirect,
        ];
        let bits = |flags: &[bool]| {
            (0..).zip(flags).fold(0_u8, |bits, (bit, is)| bits | u8::from(*is) << bit)
        };
        let mut output = Writer::default();
        output.u8(bits(&flags));
        output.u8(bits(&FEATURES.map(|feature| self.features & feature != 0)));
        output.u8(self.fails);
        output.u8(self.size_log2);
        for step in &self.steps {
            match step {
                Step::Put(put) => put.write(&mut output),
                Step::Serve(head) => {
                    output.u8(Put::KINDS);
                    output.u16(*head);
                }
            }
        }
        output.0
    }

    fn terms(&self) -> Terms {
        let with_wce = self.features & CONFIG_WCE != 0;
        Terms {
            features: self.features,
            writeback: if with_wce { self.writeback } else { self.chose_writeback },
            read_only: self.read_only,
            capacity_bytes: if self.is_large { LARGE_BYTES } else { (SECTORS + 1) * 512 },
            block_bytes: if self.large_blocks { 4096 } else { 512 },
            fails: [0, 1, 2, 3, 4].map(|bit| self.fails & 1 << bit != 0),
            unsupported: self.fails & 1 << 5 != 0,
            serial: *serial().padded(),
        }
    }
}

fn serial() -> Serial {
    Serial::new("SERIAL-0123456789").expect("a good serial")
}

/// A disk over an image.
pub struct Scene {
    pub disk: Disk,
    image: Arc<Image>,
    channel: Box<dyn Channel>,
    asked: Asked,
}

impl Scene {
    fn new(case: &Case, terms: &Terms, content: &Content) -> Self {
        let asked = Asked::default();
        let image = Arc::new(Image {
            memory: MemoryImage::new(terms.capacity_bytes),
            read_only: case.read_only,
            fails: terms.fails,
            errno: if terms.unsupported { Errno::EOPNOTSUPP } else { Errno::ENOSPC },
            asked: asked.clone(),
        });
        let options = DiskOptions {
            id: "fuzz".to_owned(),
            serial: serial(),
            logical_block_bytes: u32::try_from(terms.block_bytes).unwrap_or(512),
            num_queues: 1,
            writable: true,
            writeback: case.chose_writeback,
            held_on_stop: HeldOnStop::Fail,
            remembers_faults: false,
            poll: blkfault::export::PollShare::percent(0).expect("a share"),
        };
        let disk = Disk::new(options, image.clone(), Arc::new(Nobody));
        let channel = image.channel().expect("a channel");
        let scene = Self { disk, image, channel, asked };
        let buffer = buffer();
        buffer.write(&flat(content));
        let from = buffer.pieces(&[SECTORS_BYTES]);
        scene.transfer(OpKind::Write { offset_bytes: 0, from, fua: false });
        scene
    }

    /// The sectors that are compared, as the image has them.
    fn content(&self) -> Vec<u8> {
        let buffer = buffer();
        let into = buffer.pieces(&[SECTORS_BYTES]);
        self.transfer(OpKind::Read { offset_bytes: 0, into });
        buffer.read()
    }

    fn transfer(&self, kind: OpKind) {
        let mut channel = self.image.memory.channel().expect("a channel");
        channel.submit(Op { ticket: Ticket(0), ordinal: 0, queue: 0, kind });
        channel.commit();
        let mut done = Vec::new();
        channel.poll(&mut done);
        assert_eq!(done.pop().map(|completion| completion.result), Some(Ok(())));
    }
}

const SECTORS_BYTES: usize = 32 * 512;

fn buffer() -> OwnedMemory {
    thread_local! {
        static BUFFER: OwnedMemory = OwnedMemory::new(SECTORS_BYTES, 0);
    }
    BUFFER.with(Clone::clone)
}

static ZEROES: [u8; BYTES] = [0; BYTES];

/// The sectors that are compared, one after the other.
fn flat(content: &Content) -> Vec<u8> {
    let mut all = vec![0; SECTORS_BYTES];
    for (place, sector) in all.chunks_mut(512).zip(0_u64..) {
        if let Some(content) = content.get(&sector) {
            place.copy_from_slice(content);
        }
    }
    all
}

/// What is kept from input to input, because mapping memory is dear.
struct Ground {
    memory: Memory,
    mirror: Vec<u8>,
    now: Vec<u8>,
    reads: Rc<RefCell<model::Reads>>,
}

thread_local! {
    /// What the disk has at first.
    static CONTENT: Content = {
        let byte = |sector: u64, at: usize| (sector as usize * 7 + at) as u8;
        (0..SECTORS).map(|sector| (sector, std::array::from_fn(|at| byte(sector, at)))).collect()
    };
    static GROUND: RefCell<Option<Ground>> = const { RefCell::new(None) };
}

/// Try an input.
pub fn run(input: &[u8]) {
    let case = Case::decode(input);
    let mut ground = GROUND.take().unwrap_or_else(|| Ground {
        memory: Memory::new(&REGIONS),
        mirror: vec![0; BYTES],
        now: vec![0; BYTES],
        reads: Rc::default(),
    });
    ground.mirror.fill(0);
    for (at, bytes) in REGIONS {
        ground.memory.write(at, &ZEROES[..bytes]);
    }
    let terms = case.terms();
    let mut content = CONTENT.with(Content::clone);
    let mut scene = Scene::new(&case, &terms, &content);
    for step in &case.steps {
        match step {
            Step::Put(put) => drop(put.apply(&mut |at, bytes| {
                ground.memory.write(at, bytes);
                let at = usize::try_from(at).unwrap_or(0);
                ground.mirror[at..at + bytes.len()].copy_from_slice(bytes);
            })),
            Step::Serve(head) => {
                let (size, indirect) = (1 << case.size_log2, case.indirect);
                let at = ChainAt { table: 0, size, head: head % size, indirect };
                ground.compare(&mut scene, &case, terms, at, &mut content);
            }
        }
    }
    assert!(scene.content() == flat(&content), "the disk has another content than the reference");
    GROUND.set(Some(ground));
}

impl Ground {
    fn compare(
        &mut self,
        scene: &mut Scene,
        case: &Case,
        terms: Terms,
        at: ChainAt,
        content: &mut Content,
    ) {
        let walked = model::walk(&self.mirror, at, &mut model::Reads::new());
        let data = walked.map_or(0, |(readable, writable)| {
            readable.iter().chain(&writable).map(|(_, bytes)| u64::from(*bytes)).sum()
        });
        if (DATA_BYTES_MAX..END * 2000).contains(&data) {
            return;
        }
        let expected = Device { terms, memory: &mut self.mirror, content }.serve(at);
        *scene.asked.lock().expect("not poisoned") = None;
        self.reads.borrow_mut().clear();
        let reads = self.reads.clone();
        watch(Some(Box::new(move |event| {
            if let Event::Read { at, bytes } = event {
                reads.borrow_mut().push((at, bytes as u64));
            }
        })));
        let agreed = Agreed { features: case.features, writeback: case.writeback };
        let used = serve(&scene.disk, &mut *scene.channel, agreed, &self.memory, at);
        watch(None);
        assert_eq!(used, expected.used_bytes, "used length");
        assert_eq!(*scene.asked.lock().expect("not poisoned"), expected.asked, "asked, durable");
        // Somebody really watched.
        assert_eq!(self.reads.borrow().is_empty(), expected.reads.is_empty());
        crate::reads::check(&self.reads.borrow(), &expected.reads);
        self.compare_memory();
    }

    fn compare_memory(&mut self) {
        for (start, bytes) in REGIONS {
            let now = &mut self.now[..bytes];
            self.memory.read(start, now);
            let from = usize::try_from(start).unwrap_or(0);
            let wanted = &self.mirror[from..from + bytes];
            if now != wanted {
                let at = now.iter().zip(wanted).position(|(now, wanted)| now != wanted);
                let at = at.unwrap_or(0);
                assert!(is_there(start));
                panic!("guest memory at {:#x}: {} not {}", from + at, now[at], wanted[at]);
            }
        }
    }
}
