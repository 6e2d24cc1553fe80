//! What one connected front end has negotiated and set up.
//!
//! Knows: the vhost-user protocol (QEMU's docs/interop/vhost-user.rst) as the `vhost` crate decodes
//! it. Must not know: guest requests. Invariants: nothing outlives the session, because dropping it
//! stops every worker; no message waits for a guest's request longer than [`patience`](super::patience)
//! allows; a message that is refused changes nothing, unless because a worker did not answer.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig,
    VhostUserSharedMsg, VhostUserSingleMemoryRegion, VhostUserVirtioFeatures,
    VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{
    Backend, Error, GpuBackend, Result, VhostUserBackendReqHandlerMut as RequestHandler,
};
use virtio_bindings::virtio_blk::{VIRTIO_BLK_F_CONFIG_WCE, VIRTIO_BLK_F_FLUSH};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};

use super::bell::{check, duplicate, let_writers_go};
use super::config::{WRITEBACK_OFFSET, config_space, features, has, read_config};
use super::control::{Change, End, Worker};
use super::dirty::DirtyLog;
use super::disk::{Disk, QUEUE_SIZE_MAX};
use super::inflight::{self, QueueLog, Region, Shape};
use super::mapping::Sharer;
use super::memory::{MEMORY_SLOTS_MAX, MemoryTable};
use super::patience::Patience;
use super::redo::look_ahead;
use super::ring::RingSetup;
use super::vring::Vring;
use super::waiting::Waiting;
use super::worker::WorkerSetup;

/// One front end's session with one disk.
#[derive(Debug)]
pub(super) struct Session {
    disk: Arc<Disk>,
    owned: bool,
    features: u64,
    /// REPLY_ACK is negotiated.
    acknowledges: bool,
    log: Arc<DirtyLog>,
    /// The front end, of whom all memory is.
    sharer: Arc<Sharer>,
    table: MemoryTable,
    vrings: Vec<Vring>,
    /// Where requests are marked that are not answered; the front end keeps it for the next of us.
    inflight: Option<Arc<Region>>,
    /// The `writeback` byte of the configuration space.
    writeback: Arc<AtomicBool>,
    /// When the first ring began to stop of those that stopped since a ring was started, if the
    /// image did not let it end.
    stuck_since: Option<Instant>,
}

impl Session {
    /// A session with a front end that has said nothing yet.
    pub(super) fn new(disk: Arc<Disk>, sharer: Arc<Sharer>) -> Self {
        let vrings =
            std::iter::repeat_with(Vring::default).take(disk.options.num_queues.into()).collect();
        let log = Arc::new(DirtyLog::default());
        Self {
            writeback: Arc::new(AtomicBool::new(disk.options.writeback)),
            disk,
            owned: false,
            features: 0,
            acknowledges: false,
            table: MemoryTable::new(log.clone(), sharer.clone()),
            sharer,
            log,
            vrings,
            inflight: None,
            stuck_since: None,
        }
    }

    /// Whether the front end may ask for an answer to any message (REPLY_ACK).
    pub(super) fn acknowledges(&self) -> bool {
        self.acknowledges
    }

    fn offered(&self) -> u64 {
        let transport =
            VhostUserVirtioFeatures::PROTOCOL_FEATURES | VhostUserVirtioFeatures::LOG_ALL;
        features(&self.disk) | transport.bits()
    }

    fn vring(&mut self, index: u32) -> Result<&mut Vring> {
        self.vrings.get_mut(index as usize).ok_or(Error::InvalidParam)
    }

    fn stopped_vring(&mut self, index: u32) -> Result<&mut Vring> {
        let vring = self.vring(index)?;
        if vring.worker.is_some() {
            return Err(Error::InvalidOperation("the ring is running"));
        }
        Ok(vring)
    }

    /// Use another memory table, and see that no ring uses the old one.
    fn set_table(&mut self, table: MemoryTable) -> Result<()> {
        self.table = table;
        let memory = self.table.memory();
        self.tell_all(|| Change::Memory(memory.clone()))
    }

    /// Make a change to every running ring, also to those behind one that does not answer. Waits for
    /// all of them together as long as for one.
    fn tell_all(&self, change: impl Fn() -> Change) -> Result<()> {
        let sent: Vec<_> = self.workers().map(|worker| worker.send(change())).collect();
        let let_go = || self.let_workers_go();
        let waiting = Waiting::for_change(&self.disk.ending, &let_go);
        let told: Vec<_> =
            self.workers().zip(sent).map(|(worker, sent)| worker.heard(sent, &waiting)).collect();
        told.into_iter().collect::<std::io::Result<()>>().map_err(Error::ReqHandlerError)
    }

    fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.vrings.iter().filter_map(|vring| vring.worker.as_ref())
    }

    /// Let those go who wait for the front end.
    fn let_workers_go(&self) {
        self.vrings.iter().for_each(Vring::let_worker_go);
    }

    /// Start the ring's worker. The ring starts on its kick descriptor, as in libvhost-user; it
    /// takes requests while it is enabled.
    fn start(&mut self, index: u8, kick: File) -> Result<()> {
        let (features, memory) = (self.features, self.table.memory().clone());
        let vring = self.vrings.get(usize::from(index)).ok_or(Error::InvalidParam)?;
        let (Some(size), Some(user_addrs)) = (vring.size, vring.user_addrs) else {
            return Err(Error::InvalidOperation("the ring has no size or no address"));
        };
        let mut guest_addrs = [0; 3];
        for (guest_addr, user_addr) in guest_addrs.iter_mut().zip(user_addrs) {
            *guest_addr = self.table.to_guest(user_addr).ok_or(Error::InvalidParam)?;
        }
        let [desc_table, avail_ring, used_ring] = guest_addrs;
        let log = self.inflight.as_ref().and_then(|region| QueueLog::of(region, index.into()));
        let goes_on = vring.next_avail != 0 || log.as_ref().is_some_and(QueueLog::is_used);
        self.disk.ring_starts(goes_on, self.vrings.iter().all(|vring| vring.worker.is_none()));
        let ring = RingSetup {
            index: index.into(),
            size,
            desc_table,
            avail_ring,
            used_ring,
            next_avail: vring.next_avail,
            log,
            event_idx: has(features, VIRTIO_RING_F_EVENT_IDX),
            indirect: has(features, VIRTIO_RING_F_INDIRECT_DESC),
            call: duplicate(vring.call.as_ref())?,
            err: duplicate(vring.err.as_ref())?,
        };
        let setup = WorkerSetup {
            disk: self.disk.clone(),
            memory,
            ring,
            kick,
            enabled: vring.enabled,
            features,
            writeback: self.writeback.clone(),
        };
        let worker = Worker::start(setup).map_err(Error::ReqHandlerError)?;
        self.vrings[usize::from(index)].worker = Some(worker);
        self.stuck_since = None;
        Ok(())
    }

    /// Stop a ring, if it runs; everything it took is answered.
    fn stop(&mut self, index: u32) -> Result<()> {
        let now = Instant::now();
        let patience = Patience::to_drain(now, self.stuck_since);
        let disk = self.disk.clone();
        let vring = self.vring(index)?;
        let bells: Vec<File> = vring.bells().collect();
        let Some(worker) = vring.worker.take() else {
            return Ok(());
        };
        let stopped = worker.drain(patience, &|| bells.iter().for_each(let_writers_go));
        let stopped = stopped.inspect_err(|_| disk.late.may_wait_for(vring.bells()));
        let stopped = stopped.map_err(Error::ReqHandlerError)?;
        vring.next_avail = stopped.next_avail;
        if stopped.is_stuck {
            self.stuck_since.get_or_insert(now);
        }
        Ok(())
    }

    /// End every ring at once, without another word to the driver. Waits for all of them together
    /// as long as for one.
    fn abandon(&mut self) {
        let patience = Patience::to_abandon(Instant::now());
        self.workers().for_each(|worker| worker.end(End::Abandon, patience));
        let let_go = || self.let_workers_go();
        let waiting = Waiting::for_end(patience.end(), None, &let_go);
        self.workers().for_each(|worker| _ = worker.ends(&waiting));
        for vring in &mut self.vrings {
            let ended = vring.worker.take().map(Worker::ended);
            if let Some(Err(error)) = ended {
                log::error!("disk {}: {error}", self.disk.options.id);
                self.disk.late.may_wait_for(vring.bells());
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.abandon();
    }
}

fn unsupported<T>(what: &'static str) -> Result<T> {
    Err(Error::InvalidOperation(what))
}

impl RequestHandler for Session {
    fn set_owner(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.owned, true) {
            return Err(Error::InvalidOperation("the session has an owner"));
        }
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.owned = false;
        self.reset_device()
    }

    fn reset_device(&mut self) -> Result<()> {
        self.abandon();
        self.features = 0;
        self.log.enable(false);
        self.inflight = None;
        for vring in &mut self.vrings {
            *vring = Vring::default();
        }
        self.writeback.store(self.disk.options.writeback, Ordering::Relaxed);
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(self.offered())
    }

    /// Sent again on a running ring to switch LOG_ALL; rings take the rest when they start.
    fn set_features(&mut self, acked: u64) -> Result<()> {
        if acked & !self.offered() != 0 {
            return Err(Error::InvalidParam);
        }
        self.features = acked;
        self.log.enable(acked & VhostUserVirtioFeatures::LOG_ALL.bits() != 0);
        if acked & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() == 0 {
            self.vrings.iter_mut().for_each(|vring| vring.enabled = true);
            self.tell_all(|| Change::Enable(true))?;
        }
        Ok(())
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy: Option<bool>,
    ) -> Result<Option<Vec<VhostUserMemoryRegionBase>>> {
        let table = self.table.with_only(regions, files).map_err(Error::ReqHandlerError)?;
        self.set_table(table)?;
        Ok(None)
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        let vring = self.stopped_vring(index)?;
        let size = u16::try_from(num).ok().filter(|size| size.is_power_of_two());
        vring.size = Some(size.filter(|size| *size <= QUEUE_SIZE_MAX).ok_or(Error::InvalidParam)?);
        Ok(())
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        let user_addrs = [descriptor, available, used];
        if user_addrs.iter().any(|addr| self.table.to_guest(*addr).is_none()) {
            return Err(Error::InvalidParam);
        }
        let vring = self.vring(index)?;
        if vring.worker.is_some() && vring.user_addrs != Some(user_addrs) {
            return Err(Error::InvalidOperation("the ring is running elsewhere"));
        }
        vring.user_addrs = Some(user_addrs);
        Ok(())
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        let base = u16::try_from(base).map_err(|_| Error::InvalidParam)?;
        self.stopped_vring(index)?.next_avail = base;
        Ok(())
    }

    /// Stops the ring; everything it took is answered first.
    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        self.stop(index)?;
        let vring = self.vring(index)?;
        vring.call = None;
        vring.err = None;
        Ok(VhostUserVringState::new(index, vring.next_avail.into()))
    }

    fn set_vring_kick(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        let Some(kick) = fd else {
            return unsupported("rings without a kick descriptor");
        };
        check(Some(&kick))?;
        self.stop(index.into())?;
        self.start(index, kick)
    }

    fn set_vring_call(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        self.vring(index.into())?.set_call(fd)
    }

    fn set_vring_err(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        self.vring(index.into())?.set_err(fd)
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::INFLIGHT_SHMFD
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
            | VhostUserProtocolFeatures::BACKEND_REQ
            | VhostUserProtocolFeatures::LOG_SHMFD
            | VhostUserProtocolFeatures::RESET_DEVICE)
    }

    fn set_protocol_features(&mut self, acked: u64) -> Result<()> {
        if acked & !self.get_protocol_features()?.bits() != 0 {
            return Err(Error::InvalidParam);
        }
        self.acknowledges = acked & VhostUserProtocolFeatures::REPLY_ACK.bits() != 0;
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(self.vrings.len() as u64)
    }

    /// Also for queues that were never set up: QEMU enables them all.
    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        self.vring(index)?.set_enabled(enable)
    }

    fn get_config(&mut self, offset: u32, size: u32, _: VhostUserConfigFlags) -> Result<Vec<u8>> {
        // Without FLUSH there is no write-back to choose (virtio 1.3 section 5.2.5.2).
        let can_flush = has(self.features, VIRTIO_BLK_F_FLUSH);
        let can_choose = has(self.features, VIRTIO_BLK_F_CONFIG_WCE);
        let writeback = self.writeback.load(Ordering::Relaxed) && (can_flush || !can_choose);
        let space = config_space(&self.disk, writeback);
        Ok(read_config(&space, offset, size))
    }

    /// Only `writeback` may be written (virtio 1.3 section 5.2.5).
    fn set_config(&mut self, offset: u32, buf: &[u8], _: VhostUserConfigFlags) -> Result<()> {
        match (offset as usize, buf) {
            (WRITEBACK_OFFSET, [value @ (0 | 1)])
                if has(self.features, VIRTIO_BLK_F_CONFIG_WCE) =>
            {
                self.writeback.store(*value == 1, Ordering::Relaxed);
                self.inflight.iter().for_each(|region| region.keep_writeback(*value == 1));
                Ok(())
            }
            _ => Err(Error::InvalidParam),
        }
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Ok(MEMORY_SLOTS_MAX)
    }

    fn add_mem_region(
        &mut self,
        region: &VhostUserSingleMemoryRegion,
        fd: File,
        _postcopy: Option<bool>,
    ) -> Result<Option<VhostUserMemoryRegionBase>> {
        let table = self.table.with_added(region, fd).map_err(Error::ReqHandlerError)?;
        self.set_table(table)?;
        Ok(None)
    }

    fn remove_mem_region(&mut self, region: &VhostUserSingleMemoryRegion) -> Result<()> {
        let table = self.table.without(region).map_err(Error::ReqHandlerError)?;
        self.set_table(table)
    }

    fn set_backend_req_fd(&mut self, _backend: Backend) {
        // The connection keeps a duplicate of its own: the crate's `Backend` cannot say
        // CONFIG_CHANGE_MSG (see `connection`).
    }

    fn set_gpu_socket(&mut self, _: GpuBackend) -> Result<()> {
        unsupported("GPU sockets")
    }

    fn get_shared_object(&mut self, _: VhostUserSharedMsg) -> Result<File> {
        unsupported("shared objects")
    }

    /// The region is the front end's from here on: it is used when it comes back.
    fn get_inflight_fd(&mut self, asked: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        let shape = self.inflight_shape(asked)?;
        let file = inflight::create(shape).map_err(Error::ReqHandlerError)?;
        Ok((VhostUserInflight::new(shape.bytes(), 0, asked.num_queues, asked.queue_size), file))
    }

    /// Comes before memory and rings, so what it tells is looked at when a ring starts.
    fn set_inflight_fd(&mut self, told: &VhostUserInflight, file: File) -> Result<()> {
        if self.vrings.iter().any(|vring| vring.worker.is_some()) {
            return Err(Error::InvalidOperation("a ring is running"));
        }
        let shape = self.inflight_shape(told)?;
        let region = Region::map(shape, &file, told.mmap_offset, told.mmap_size, &self.sharer);
        let region = region.map_err(Error::ReqHandlerError)?;
        region.agree_on_writeback(&self.writeback, self.disk.options.writeback);
        let region = Arc::new(region);
        look_ahead(&self.disk, &region);
        self.inflight = Some(region);
        Ok(())
    }

    fn set_device_state_fd(
        &mut self,
        _: VhostTransferStateDirection,
        _: VhostTransferStatePhase,
        _: File,
    ) -> Result<Option<File>> {
        unsupported("device state")
    }

    fn check_device_state(&mut self) -> Result<()> {
        unsupported("device state")
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        unsupported("shared memory")
    }

    fn set_log_base(&mut self, log: &VhostUserLog, file: File) -> Result<()> {
        let (offset, bytes, covers) = (log.mmap_offset, log.mmap_size, self.table.end());
        let set = self.log.set_bits(&file, offset, bytes, covers, &self.sharer);
        set.map_err(Error::ReqHandlerError)
    }
}

impl Session {
    fn inflight_shape(&self, of: &VhostUserInflight) -> Result<Shape> {
        let num_queues_max = self.disk.options.num_queues;
        let shape = Shape::new(of.num_queues, of.queue_size, num_queues_max);
        shape.map_err(Error::ReqHandlerError)
    }
}
