//! What is known about disks, nodes and the daemon, in the monitor's words.
//!
//! Knows: counters and geometries, and the shapes in which QEMU tells them. Must not know: how
//! anything came about. Nothing here changes anything.

use super::nodes::{NodeEntry, Store};
use crate::export::{Disk, Stats};
use crate::fault::IoType;
use crate::qapi::types::{
    BlockDeviceInfo, BlockDeviceStats, BlockInfo, BlockdevCacheInfo, BlockdevDetectZeroesOptions,
    Command, CommandInfo, ImageInfo, VersionInfo, VersionTriple,
};

/// A node as `query-named-block-nodes` tells it.
pub(super) fn node(entry: &NodeEntry) -> BlockDeviceInfo {
    let geometry = entry.store.node().geometry();
    let (direct, no_flush) = entry.store.cache();
    BlockDeviceInfo {
        file: entry.store.description(),
        node_name: Some(entry.name.clone()),
        ro: entry.is_read_only(),
        drv: entry.driver.as_str().to_owned(),
        backing_file_depth: 0,
        active: true,
        encrypted: false,
        detect_zeroes: BlockdevDetectZeroesOptions::Off,
        bps: 0,
        bps_rd: 0,
        bps_wr: 0,
        iops: 0,
        iops_rd: 0,
        iops_wr: 0,
        image: image(entry, geometry.size_bytes),
        cache: BlockdevCacheInfo { writeback: true, direct, no_flush },
        write_threshold: 0,
    }
}

fn image(entry: &NodeEntry, size_bytes: u64) -> ImageInfo {
    let actual_bytes = match &entry.store {
        Store::Raw(image) => image.actual_size_bytes().ok(),
        Store::Memory(image) => Some(image.actual_size_bytes()),
        Store::Null(_) => None,
    };
    ImageInfo {
        filename: entry.store.description(),
        format: entry.driver.as_str().to_owned(),
        actual_size: actual_bytes.map(signed),
        virtual_size: signed(size_bytes),
    }
}

/// A disk as `query-block` tells it: its node, as far as the disk lets the guest have it.
pub(super) fn disk(disk: &Disk, node: Option<BlockDeviceInfo>) -> BlockInfo {
    let inserted = node.map(|mut node| {
        node.ro |= disk.geometry().read_only;
        node.cache.writeback = disk.options.writeback;
        node
    });
    BlockInfo {
        device: disk.options.id.clone(),
        r#type: "unknown".to_owned(),
        removable: false,
        locked: false,
        inserted,
    }
}

/// What some disks have done, summed: one disk, or all disks over a node.
pub(super) fn stats<'a>(disks: impl IntoIterator<Item = &'a Stats>) -> BlockDeviceStats {
    let mut sum = zero();
    for disk in disks {
        add(&mut sum, disk);
    }
    sum
}

fn add(sum: &mut BlockDeviceStats, disk: &Stats) {
    let operations = |iotype| disk.of(iotype).operations;
    let bytes = |iotype| disk.of(iotype).bytes;
    let failed = |iotype| disk.of(iotype).failed;
    let invalid = |iotype| disk.of(iotype).invalid;
    let time_ns = |iotype| disk.of(iotype).total_time_ns;

    sum.rd_bytes += bytes(IoType::Read);
    sum.wr_bytes += bytes(IoType::Write);
    sum.unmap_bytes += bytes(IoType::Discard);
    sum.wr_zeroes_bytes += bytes(IoType::WriteZeroes);
    sum.rd_operations += operations(IoType::Read);
    sum.wr_operations += operations(IoType::Write);
    sum.flush_operations += operations(IoType::Flush);
    sum.unmap_operations += operations(IoType::Discard);
    sum.wr_zeroes_operations += operations(IoType::WriteZeroes);
    sum.get_id_operations += disk.get_id_operations();
    sum.rd_total_time_ns += time_ns(IoType::Read);
    sum.wr_total_time_ns += time_ns(IoType::Write);
    sum.flush_total_time_ns += time_ns(IoType::Flush);
    sum.unmap_total_time_ns += time_ns(IoType::Discard);
    sum.wr_highest_offset = sum.wr_highest_offset.max(disk.wr_highest_offset());
    sum.failed_rd_operations += failed(IoType::Read);
    sum.failed_wr_operations += failed(IoType::Write);
    sum.failed_flush_operations += failed(IoType::Flush);
    sum.failed_unmap_operations += failed(IoType::Discard);
    sum.failed_wr_zeroes_operations += failed(IoType::WriteZeroes);
    sum.invalid_rd_operations += invalid(IoType::Read);
    sum.invalid_wr_operations += invalid(IoType::Write);
    sum.invalid_flush_operations += invalid(IoType::Flush);
    sum.invalid_unmap_operations += invalid(IoType::Discard);
    sum.invalid_wr_zeroes_operations += invalid(IoType::WriteZeroes);
    let idle_ns = disk.idle_time().map(|idle| u64::try_from(idle.as_nanos()).unwrap_or(u64::MAX));
    sum.idle_time_ns = match (sum.idle_time_ns, idle_ns) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    };
}

fn zero() -> BlockDeviceStats {
    BlockDeviceStats {
        rd_bytes: 0,
        wr_bytes: 0,
        zone_append_bytes: 0,
        unmap_bytes: 0,
        wr_zeroes_bytes: 0,
        rd_operations: 0,
        wr_operations: 0,
        zone_append_operations: 0,
        flush_operations: 0,
        unmap_operations: 0,
        wr_zeroes_operations: 0,
        get_id_operations: 0,
        rd_total_time_ns: 0,
        wr_total_time_ns: 0,
        zone_append_total_time_ns: 0,
        flush_total_time_ns: 0,
        unmap_total_time_ns: 0,
        wr_highest_offset: 0,
        rd_merged: 0,
        wr_merged: 0,
        zone_append_merged: 0,
        unmap_merged: 0,
        idle_time_ns: None,
        failed_rd_operations: 0,
        failed_wr_operations: 0,
        failed_zone_append_operations: 0,
        failed_flush_operations: 0,
        failed_unmap_operations: 0,
        failed_wr_zeroes_operations: 0,
        invalid_rd_operations: 0,
        invalid_wr_operations: 0,
        invalid_zone_append_operations: 0,
        invalid_flush_operations: 0,
        invalid_unmap_operations: 0,
        invalid_wr_zeroes_operations: 0,
        account_invalid: true,
        account_failed: true,
        timed_stats: Vec::new(),
    }
}

/// The monitor's numbers are signed; no image is that large.
fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// As `query-version` tells it.
pub(super) fn version() -> VersionInfo {
    let number = |text: &str| text.parse().unwrap_or(0);
    VersionInfo {
        qemu: VersionTriple {
            major: number(env!("CARGO_PKG_VERSION_MAJOR")),
            minor: number(env!("CARGO_PKG_VERSION_MINOR")),
            micro: number(env!("CARGO_PKG_VERSION_PATCH")),
        },
        package: concat!("blkfaultd ", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}

/// As `query-commands` tells them.
pub(super) fn commands() -> Vec<CommandInfo> {
    Command::NAMES.iter().map(|name| CommandInfo { name: (*name).to_owned() }).collect()
}
