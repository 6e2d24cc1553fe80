//! A contest: everybody under one workload in one place, in turns.
//!
//! Knows: who meets, and in which order. Must not know: what a run is. Invariants: whoever fails is left
//! out with its reason, and the others go on; no run begins before what the last one wrote is on the
//! disk.

use std::io::{IsTerminal, Write};
use std::path::Path;

use crate::back_end::{BackEnd, Failure, Place, Whose};
use crate::image::Image;
use crate::options::{Options, STRAIGHT};
use crate::processors::Places;
use crate::report::{LeftOut, Row, Sample};
use crate::run;
use crate::workload::Workload;

/// Somebody who takes part.
enum Entrant {
    BackEnd(BackEnd),
    Straight,
}

impl Entrant {
    fn name(&self) -> &str {
        match self {
            Self::BackEnd(back_end) => &back_end.name,
            Self::Straight => STRAIGHT,
        }
    }

    fn row(&self, place: Place, workload: Workload) -> Row {
        let (whose, is_special, delay) = match self {
            Self::BackEnd(back_end) => (back_end.whose, back_end.is_special, back_end.delay()),
            Self::Straight => (Whose::Another, true, None),
        };
        let back_end = self.name().to_owned();
        Row { place, workload, back_end, whose, is_special, delay, samples: Vec::new() }
    }
}

/// All contests in one place.
pub struct Contests<'a> {
    options: &'a Options,
    places: &'a Places,
    place: Place,
    image: Image,
    entrants: Vec<Entrant>,
}

impl<'a> Contests<'a> {
    /// # Errors
    /// There is no room for the image.
    pub fn new(options: &'a Options, places: &'a Places, place: Place) -> Result<Self, String> {
        let folder = match place {
            Place::Tmpfs => Path::new("/dev/shm"),
            Place::Disk | Place::Direct => &options.disk,
        };
        let mut entrants: Vec<Entrant> =
            options.entrants(place).into_iter().map(Entrant::BackEnd).collect();
        entrants.extend(options.wants_straight().then_some(Entrant::Straight));
        Ok(Self { options, places, place, image: Image::new(folder)?, entrants })
    }

    /// The rows of those that were measured, and why the others were not.
    pub fn hold(&mut self, workload: Workload) -> (Vec<Row>, Vec<LeftOut>) {
        let mut met: Vec<Row> =
            self.entrants.iter().map(|entrant| entrant.row(self.place, workload)).collect();
        let mut left_out = Vec::new();
        // Those that have been left out, and those that are not to come again.
        let (mut out, mut gone) = (vec![false; met.len()], vec![false; met.len()]);
        for round in 1..=self.options.rounds {
            for turn in 0..self.entrants.len() {
                // Another one begins in each round.
                let at = (turn + round as usize - 1) % self.entrants.len();
                let entrant = &self.entrants[at];
                if out[at] {
                    continue;
                }
                self.progress(workload, round, entrant.name());
                let why = match self.run(entrant, workload) {
                    Ok(sample) => {
                        met[at].samples.extend(sample);
                        continue;
                    }
                    Err(Failure::Start(why)) => {
                        gone[at] = true;
                        why
                    }
                    Err(Failure::Run(why)) => why,
                };
                out[at] = true;
                // Figures of fewer rounds than the others' would look like theirs.
                met[at].samples.clear();
                left_out.push(self.leave_out(workload, entrant.name(), gone[at], why));
            }
        }
        show("");
        let mut gone = gone.into_iter();
        self.entrants.retain(|_| !gone.next().unwrap_or(false));
        met.retain(|row| !row.samples.is_empty());
        (met, left_out)
    }

    fn run(&self, entrant: &Entrant, workload: Workload) -> Result<Option<Sample>, Failure> {
        let (image, times) = ((self.place, self.image.path()), self.options.times());
        self.image.settle().map_err(Failure::Run)?;
        match entrant {
            Entrant::BackEnd(back_end) => {
                run::measure(back_end, workload, image, self.places, times).map(Some)
            }
            Entrant::Straight => run::straight(workload, image, times).map_err(Failure::Run),
        }
    }

    fn leave_out(&self, workload: Workload, name: &str, for_good: bool, why: String) -> LeftOut {
        let back_end = name.to_owned();
        let left_out = LeftOut { place: self.place, workload, back_end, for_good, why };
        show("");
        eprintln!("{}", left_out.text());
        left_out
    }

    fn progress(&self, workload: Workload, round: u32, name: &str) {
        let (place, rounds) = (self.place.name(), self.options.rounds);
        show(&format!("{} on {place}: round {round} of {rounds}: {name}", workload.name));
    }
}

/// Tell a terminal what is being done.
fn show(what: &str) {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        let _ = write!(stderr, "\r\x1b[K{what}");
        let _ = stderr.flush();
    }
}
