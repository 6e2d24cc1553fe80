//! A slow disk's profile: whom it slows, by how much, when.
//!
//! Knows: how delay, rates, stretch and shape add up for one request. Must not know: the clock or
//! the seed's origin. Invariant: a profile is immutable; what its rates remember is [`Pacing`].

use serde::{Deserialize, Serialize};

use super::pace::Bucket;
use super::shape::{Phase, scaled};
use super::{BadDistribution, BadRate, BadShape, Distribution, Rate, Shape, Share};
use crate::fault::random::Stream;
use crate::fault::{Io, IoTypes, SectorRange, SectorSet};

/// A profile as an operator gives it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProfileOptions {
    /// The requests it slows.
    pub iotypes: IoTypes,
    /// The sectors it slows; empty: all.
    pub sectors: SectorSet,
    /// The share of those requests that are slowed.
    pub share: Share,
    /// Waited before the image.
    pub delay: Option<Distribution>,
    /// Bytes a second.
    pub bytes_per_second: Option<Rate>,
    /// Requests a second.
    pub requests_per_second: Option<Rate>,
    /// Limplock: the share of its full speed at which the disk works. A request that took the
    /// image t takes t divided by this.
    pub speed: Share,
    /// When.
    pub shape: Shape,
}

impl Default for ProfileOptions {
    /// Slows nothing, for all requests.
    fn default() -> Self {
        Self {
            iotypes: IoTypes::ALL,
            sectors: SectorSet::default(),
            share: Share::ALL,
            delay: None,
            bytes_per_second: None,
            requests_per_second: None,
            speed: Share::ALL,
            shape: Shape::Permanent,
        }
    }
}

/// A profile that holds together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "ProfileOptions", into = "ProfileOptions")]
pub struct Profile(ProfileOptions);

/// Why there is no such profile.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum BadProfile {
    /// It would slow no request.
    #[error("'iotype' expects at least one I/O type")]
    NoIoType,
    /// It would slow by nothing.
    #[error(
        "a slow profile expects a delay, a rate ('bytes-per-second', 'requests-per-second'), a \
         'speed' below 1, or a shape with stalls or spikes"
    )]
    Nothing,
    /// A delay.
    #[error(transparent)]
    Delay(#[from] BadDistribution),
    /// A rate.
    #[error(transparent)]
    Rate(#[from] BadRate),
    /// A shape.
    #[error(transparent)]
    Shape(#[from] BadShape),
}

impl Profile {
    /// Check a profile.
    ///
    /// # Errors
    /// A part out of its range, or a profile that slows nothing.
    pub fn new(options: ProfileOptions) -> Result<Self, BadProfile> {
        if options.iotypes.is_empty() {
            return Err(BadProfile::NoIoType);
        }
        options.delay.as_ref().map_or(Ok(()), Distribution::check)?;
        options.shape.check()?;
        let slows = options.delay.is_some()
            || options.bytes_per_second.is_some()
            || options.requests_per_second.is_some()
            || options.speed < Share::ALL
            || matches!(options.shape, Shape::Stalls { .. } | Shape::Spikes { .. });
        if slows { Ok(Self(options)) } else { Err(BadProfile::Nothing) }
    }

    /// What was asked for.
    #[must_use]
    pub fn options(&self) -> &ProfileOptions {
        &self.0
    }

    /// Whether it is about such requests.
    #[must_use]
    pub fn concerns(&self, io: &Io) -> bool {
        let ProfileOptions { iotypes, sectors, .. } = &self.0;
        iotypes.contains(io.iotype)
            && (sectors.is_empty()
                || SectorRange::of_bytes(io.offset_bytes, io.bytes)
                    .is_some_and(|range| sectors.first_in(range).is_some()))
    }
}

/// A profile in force: with what its rates remember.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::fault) struct Pacing {
    bytes: Bucket,
    requests: Bucket,
    since_ns: u64,
}

impl Pacing {
    /// In force from this time on.
    pub(in crate::fault) fn from(since_ns: u64) -> Self {
        Self { bytes: Bucket::default(), requests: Bucket::default(), since_ns }
    }

    /// How long a request that the profile [concerns](Profile::concerns) waits before the image,
    /// nanoseconds; `None` where it is not slowed at all.
    pub(in crate::fault) fn delay_ns(
        &mut self,
        Profile(options): &Profile,
        io: &Io,
        now_ns: u64,
        stream: &mut Stream,
    ) -> Option<u64> {
        let (is_in_share, spike) = (stream.next_unit(), stream.next_unit());
        if !options.share.takes(is_in_share) {
            return None;
        }
        let scale = match options.shape.phase(now_ns.saturating_sub(self.since_ns)) {
            Phase::Off => return None,
            Phase::Stalled(left_ns) => return Some(left_ns),
            Phase::Scaled(scale) => scale,
        };
        let drawn = options.delay.as_ref().map_or(0, |delay| scaled(delay.draw(stream), scale));
        let spiked = match &options.shape {
            Shape::Spikes { share, delay } if share.takes(spike) => delay.draw(stream),
            _ => 0,
        };
        let of = |rate: Option<Rate>, bucket: &mut Bucket, units| {
            rate.map_or(0, |rate| bucket.take(rate, units, now_ns))
        };
        let paced = of(options.bytes_per_second, &mut self.bytes, io.bytes).max(of(
            options.requests_per_second,
            &mut self.requests,
            1,
        ));
        Some(drawn.saturating_add(spiked).max(paced))
    }

    /// How much longer a request takes that took the image so long, nanoseconds.
    pub(in crate::fault) fn stretch_ns(
        &self,
        Profile(options): &Profile,
        took_ns: u64,
        now_ns: u64,
    ) -> u64 {
        let phase = options.shape.phase(now_ns.saturating_sub(self.since_ns));
        match phase {
            Phase::Scaled(scale) => scaled(took_ns, (options.speed.get().recip() - 1.0) * scale),
            Phase::Off | Phase::Stalled(_) => 0,
        }
    }
}

impl TryFrom<ProfileOptions> for Profile {
    type Error = BadProfile;

    fn try_from(options: ProfileOptions) -> Result<Self, BadProfile> {
        Self::new(options)
    }
}

impl From<Profile> for ProfileOptions {
    fn from(profile: Profile) -> Self {
        profile.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::IoType;
    use crate::fault::slow::{MILLISECOND_NS, SECOND_NS, Stage};

    fn io(ordinal: u64) -> Io {
        Io { iotype: IoType::Read, offset_bytes: 4096, bytes: 512, ordinal, queue: 0 }
    }

    fn delays(profile: &Profile, times_ns: impl Iterator<Item = u64>) -> Vec<u64> {
        let mut pacing = Pacing::from(0);
        let delay = |(ordinal, now_ns)| {
            let mut stream = Stream::new(1, "p", ordinal);
            pacing.delay_ns(profile, &io(ordinal), now_ns, &mut stream).unwrap_or(0)
        };
        (0..).zip(times_ns).map(delay).collect()
    }

    #[test]
    fn a_profile_is_about_its_types_and_sectors_only() {
        let profile = Profile::new(ProfileOptions {
            iotypes: [IoType::Read].into_iter().collect(),
            sectors: SectorRange::new(8, 8).into_iter().collect(),
            delay: Some(Distribution::Fixed { delay_ns: 1 }),
            ..ProfileOptions::default()
        });
        let profile = profile.unwrap();
        assert!(profile.concerns(&io(0)));
        assert!(!profile.concerns(&Io { offset_bytes: 4608, ..io(0) }));
        assert!(!profile.concerns(&Io { iotype: IoType::Flush, bytes: 0, ..io(0) }));
    }

    #[test]
    fn a_share_of_the_requests_is_slow() {
        let profile = Profile::new(ProfileOptions {
            share: Share::new(0.1).unwrap(),
            delay: Some(Distribution::Fixed { delay_ns: 1 }),
            ..ProfileOptions::default()
        });
        let slow = delays(&profile.unwrap(), (0..10_000).map(|_| 0)).iter().sum::<u64>();
        // Binomial with n = 10 000, p = 0.1: five standard deviations are 150.
        assert!((850..1150).contains(&slow), "{slow}");
    }

    #[test]
    fn a_bandwidth_limit_spreads_requests_out() {
        let profile = Profile::new(ProfileOptions {
            bytes_per_second: Some(Rate::new(512_000, Some(0)).unwrap()),
            ..ProfileOptions::default()
        });
        let delays = delays(&profile.unwrap(), (0..101).map(|_| SECOND_NS));
        assert_eq!((delays[0], delays[100]), (0, 100 * MILLISECOND_NS));
    }

    #[test]
    fn steps_scale_the_delay() {
        let stage = |scale| Stage { duration_ns: SECOND_NS, scale };
        let profile = Profile::new(ProfileOptions {
            delay: Some(Distribution::Fixed { delay_ns: 10 }),
            shape: Shape::Steps(vec![stage(1.0), stage(5.0)]),
            ..ProfileOptions::default()
        });
        let times = [0, SECOND_NS, 2 * SECOND_NS].into_iter();
        assert_eq!(delays(&profile.unwrap(), times), [10, 50, 0]);
    }

    #[test]
    fn limplock_stretches_what_the_image_took() {
        let speed = Share::new(0.01).unwrap();
        let profile = Profile::new(ProfileOptions { speed, ..ProfileOptions::default() });
        assert_eq!(Pacing::from(0).stretch_ns(&profile.unwrap(), 1000, 0), 99_000);
    }

    #[test]
    fn a_profile_that_slows_nothing_is_refused() {
        assert_eq!(Profile::new(ProfileOptions::default()), Err(BadProfile::Nothing));
    }
}
