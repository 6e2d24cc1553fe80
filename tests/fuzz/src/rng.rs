//! Chance's changes to inputs, the same every time.
//!
//! Knows: bytes and a seed. Must not know: what inputs mean. Invariant: same seed, same changes.

/// A xorshift generator.
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.number() >> 16).unwrap_or(0) % end.max(1)
    }

    /// The same input with a few changes: bits, bytes, parts doubled, dropped, or out of another.
    pub fn change(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        const EDGES: [u8; 8] = [0, 1, 2, 4, 0x7F, 0x80, 0xFE, 0xFF];
        let mut input = input.to_vec();
        for _ in 0..1 + self.below(4) {
            let (at, to) = (self.below(input.len()), self.below(input.len() + 1));
            let part = at.min(to)..at.max(to);
            match self.below(7) {
                0 if !input.is_empty() => input[at] ^= 1 << self.below(8),
                1 if !input.is_empty() => input[at] = EDGES[self.below(EDGES.len())],
                2 if !input.is_empty() => input[at] = self.number() as u8,
                3 => drop(input.drain(part.start..part.end.min(part.start + 24))),
                4 => {
                    let copy = input[part].to_vec();
                    input.splice(at..at, copy);
                }
                5 => {
                    let from = self.below(other.len());
                    let some = &other[from..(from + self.below(64)).min(other.len())];
                    input.splice(at..at, some.iter().copied());
                }
                _ => {
                    let number = EDGES[self.below(EDGES.len())];
                    let end = (at + 1 + self.below(8)).min(input.len());
                    input[at.min(end)..end].fill(number);
                }
            }
            input.truncate(8192);
        }
        input
    }
}
