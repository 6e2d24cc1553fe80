//! The bugs of other programs that seeds are like.
//!
//! Knows: every id of the catalogue of bug classes, and where a seed is like it or why none can be.
//! Invariant: a seed that is named after an id begins with it.

/// An id, and why there is no seed where there is none.
pub type Id = (&'static str, Option<&'static str>);

const NO_QCOW2: Option<&str> = Some("no qcow2 image is opened");
const PROGRAM: Option<&str> = Some("about the program around the front end: tests/real_guest");
const SEED: Option<&str> = None;

/// The catalogue, class by class.
pub const IDS: &[Id] = &[
    // Descriptor chain loops.
    ("CVE-2019-9547", SEED),
    ("CVE-2016-6490", SEED),
    ("CVE-2016-7422", SEED),
    ("CVE-2026-16457", SEED),
    // Indirect tables.
    ("CVE-2020-10725", SEED),
    ("qemu-6dbdc271", SEED),
    // Avail index jumps, heads out of range.
    ("yc-dffd994", SEED),
    ("vm-virtio", SEED),
    ("CHV-fbcf2fd6b", SEED),
    // One head twice.
    ("CVE-2026-45782", SEED),
    // Length arithmetic.
    ("SPDK-length-sum", SEED),
    ("CVE-2019-14835", SEED),
    ("CVE-2019-18960", SEED),
    ("crosvm-7f64f5030", SEED),
    ("CVE-2023-3180", SEED),
    // Sector arithmetic.
    ("CHV-376434a69", SEED),
    ("CHV-e0801bda3", SEED),
    ("CHV-fa7cad4ae", SEED),
    ("CHV-f7ebb4b87", SEED),
    ("yc-bd2107d", SEED),
    // Directions, status byte, framing.
    ("SPDK-status", SEED),
    ("SPDK-readable-behind-writable", SEED),
    ("SPDK-header", SEED),
    ("yc-header", SEED),
    // Double fetch.
    ("CVE-2018-1059", SEED),
    ("CVE-2020-14375", SEED),
    ("yc-sector", SEED),
    ("qemu-b9d248df", SEED),
    ("XSA-155", SEED),
    // Configuration space.
    ("CHV-1f0a78b76", SEED),
    ("qemu-get-config", SEED),
    ("Truman", SEED),
    // Read-only.
    ("CHV-ce93686ad", SEED),
    // Memory table.
    ("SPDK-1183", SEED),
    ("SPDK-2469", SEED),
    ("yc-d88b985", SEED),
    ("yc-9a11766", SEED),
    ("yc-1971bb0", SEED),
    ("CVE-2020-10723", SEED),
    ("DPDK-27806d2d", SEED),
    // Leaks by messages.
    ("CVE-2020-10726", SEED),
    ("CVE-2022-0669", SEED),
    ("CVE-2019-14818", SEED),
    ("yc-cbbd1d7", SEED),
    ("qemu-fd-num", SEED),
    // Requests in flight.
    ("CVE-2021-3839", SEED),
    ("qemu-bf21298c", SEED),
    ("qemu-fbdfdbb9", SEED),
    ("qemu-758ef96a", SEED),
    ("yc-155f232", SEED),
    ("yc-ed62a07", SEED),
    ("yc-64fa7e8", SEED),
    ("yc-afa3ba4", SEED),
    ("yc-c915da0", SEED),
    ("SPDK-919e45a9bd", SEED),
    // Reconnecting without a log of them.
    ("CHV-8592", SEED),
    ("CHV-8764", PROGRAM),
    ("CHV-2708", SEED),
    ("VPP", SEED),
    // Stopping and draining.
    ("yc-6c7867c", SEED),
    ("SPDK-63dab84449", SEED),
    ("SPDK-840a5d2e7c", SEED),
    ("SPDK-29c6115c55", SEED),
    ("crosvm-c64cb8ec0", SEED),
    ("qemu-71e076a07d", SEED),
    ("CVE-2024-7409", SEED),
    // Lost notifications.
    ("rust-vmm-8c00b88", SEED),
    ("SPDK-df8d361f6c", SEED),
    ("crosvm-c14d6885e", SEED),
    // Panics that a guest causes.
    ("CHV-3fc0ff00d", SEED),
    ("CHV-082fdc4d0", SEED),
    ("libvhost-user-request-0", SEED),
    // Unbounded memory.
    ("CVE-2016-5403", SEED),
    // Leaks to the guest.
    ("CVE-2024-8612", SEED),
    ("ubiblk-short-read", SEED),
    // Lost errors.
    ("CHV-e737d61a0", SEED),
    ("CHV-6f19d0071", SEED),
    ("CHV-a5e145bde", SEED),
    // Images.
    ("CVE-2024-4467", SEED),
    ("CVE-2026-27211", SEED),
    ("CVE-2024-32498", NO_QCOW2),
    ("CVE-2015-5163", NO_QCOW2),
    ("CVE-2014-0142", NO_QCOW2),
    ("CVE-2014-0143", NO_QCOW2),
    ("CVE-2014-0144", NO_QCOW2),
    ("CVE-2014-0145", NO_QCOW2),
    ("CVE-2014-0146", NO_QCOW2),
    ("CVE-2014-0147", NO_QCOW2),
    ("CVE-2014-0222", NO_QCOW2),
    ("CVE-2014-0223", NO_QCOW2),
    ("CVE-2015-5162", SEED),
    ("CVE-2018-10908", SEED),
    // Monitors.
    ("qemu-json-MAX_TOKEN_SIZE", SEED),
    ("qemu-json-MAX_TOKEN_COUNT", SEED),
    ("qemu-json-MAX_NESTING", SEED),
    ("serde_json-recursion-128", SEED),
    ("ubiblk-read_line", SEED),
    ("CVE-2023-30612", SEED),
    ("SPDK_ERRLOG", SEED),
    // Memory that goes.
    ("CHV-8841", SEED),
    // What front ends get wrong.
    ("QEMU-f02a4b8e", PROGRAM),
    ("QEMU-gitlab-3528", PROGRAM),
    // Semantics.
    ("CHV-5ae329305", SEED),
    ("CVE-2020-10722", SEED),
];
