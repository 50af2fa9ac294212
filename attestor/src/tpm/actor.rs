use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use chancery_core::evidence::tpm::templates::EkKind;
use zeroize::Zeroizing;

use super::{Endorsement, NodeKeyBlob, Options, PcrValues, Signed, TpmError, device::Device};

/// Requests that may wait; at 50 ms each the last one waits 3 s.
const QUEUE: usize = 64;
/// Longest wait for one signature or read.
const SOON: Duration = Duration::from_secs(10);
/// Longest wait where a primary key is made; RSA keys take seconds on a discrete TPM.
const LATE: Duration = Duration::from_secs(60);

/// A request to the TPM thread.
struct Job {
    deadline: Instant,
    work: Box<dyn FnOnce(&mut Device) + Send>,
}

/// A handle to the TPM. Every method blocks until its deadline at most; requests are served in order.
///
/// Replies come through std channels: the signer of a handshake runs inside `Handle::block_on`, where tokio's own
/// blocking receivers panic.
#[derive(Clone)]
pub struct Tpm {
    queue: SyncSender<Job>,
}

impl Tpm {
    /// Opens the TPM and starts its thread, which ends with the last handle. Blocks.
    ///
    /// # Errors
    /// [`TpmError::Unavailable`].
    pub fn open(options: Options) -> Result<Self, TpmError> {
        let (queue, jobs) = sync_channel(QUEUE);
        let (opened, outcome) = sync_channel(1);
        let work = move || match Device::open(options) {
            Err(error) => drop(opened.send(Err(error))),
            Ok(device) => {
                let _ = opened.send(Ok(()));
                serve(device, &jobs);
            }
        };
        let spawned = thread::Builder::new().name("tpm".into()).spawn(work);
        spawned.map_err(|e| TpmError::Config(format!("no thread for the TPM: {e}")))?;
        wait(&outcome, LATE)?;
        Ok(Self { queue })
    }

    /// The EKs this TPM has certificates for, preferred one first; without any, the preferred one it can make.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn endorsements(&self) -> Result<Vec<Endorsement>, TpmError> {
        self.ask(LATE, Device::endorsements)
    }

    /// TPMT_PUBLIC of the attestation key.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn attestation_key(&self) -> Result<Vec<u8>, TpmError> {
        self.ask(LATE, Device::attestation_key)
    }

    /// Makes a node key; only its blob leaves the TPM.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn new_node_key(&self) -> Result<NodeKeyBlob, TpmError> {
        self.ask(LATE, Device::new_node_key)
    }

    /// Whether the TPM can still use a key; it cannot after TPM2_Clear.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn check_node_key(&self, key: &NodeKeyBlob) -> Result<(), TpmError> {
        let key = key.clone();
        self.ask(LATE, move |device| device.check_node_key(&key))
    }

    /// ECDSA with SHA-256 by a node key over `message`; DER.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn sign(&self, key: &NodeKeyBlob, message: &[u8]) -> Result<Vec<u8>, TpmError> {
        let (key, message) = (key.clone(), message.to_vec());
        self.ask(SOON, move |device| device.sign(&key, &message))
    }

    /// The secret of a credential that was made for our EK and attestation key.
    ///
    /// `id_object` and `encrypted_secret` are TPM2B contents without their sizes.
    ///
    /// # Errors
    /// [`TpmError::Refused`] where it was made for others.
    pub fn activate(
        &self,
        ek: EkKind,
        id_object: Vec<u8>,
        encrypted_secret: Vec<u8>,
    ) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        self.ask(LATE, move |device| device.activate(ek, &id_object, &encrypted_secret))
    }

    /// A quote by the attestation key over `pcrs` (ascending, unique) of the bank `bank` (TPM algorithm ID), and the values it is over.
    ///
    /// # Errors
    /// [`TpmError`]; `Nonsense` where the PCRs change faster than they can be read, or the bank is not there.
    pub fn quote(&self, bank: u16, pcrs: Vec<u8>, qualifier: [u8; 32]) -> Result<(Signed, PcrValues), TpmError> {
        self.ask(LATE, move |device| device.quote(bank, &pcrs, qualifier))
    }

    /// Certification of a node key by the attestation key.
    ///
    /// # Errors
    /// [`TpmError`].
    pub fn certify(&self, key: &NodeKeyBlob, qualifier: [u8; 32]) -> Result<Signed, TpmError> {
        let key = key.clone();
        self.ask(LATE, move |device| device.certify(&key, qualifier))
    }

    fn ask<T, F>(&self, within: Duration, mut work: F) -> Result<T, TpmError>
    where
        T: Send + 'static,
        F: FnMut(&mut Device) -> Result<T, TpmError> + Send + 'static,
    {
        let (reply, outcome) = sync_channel(1);
        let work = Box::new(move |device: &mut Device| {
            // Nobody may wait any more; the answer is then dropped.
            let _ = reply.send(device.persist(&mut work));
        });
        match self.queue.try_send(Job { deadline: Instant::now() + within, work }) {
            Ok(()) => wait(&outcome, within),
            Err(TrySendError::Full(_)) => Err(TpmError::Busy(QUEUE)),
            Err(TrySendError::Disconnected(_)) => Err(TpmError::Nonsense("its thread has ended".into())),
        }
    }
}

impl std::fmt::Debug for Tpm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tpm")
    }
}

fn wait<T>(outcome: &Receiver<Result<T, TpmError>>, within: Duration) -> Result<T, TpmError> {
    match outcome.recv_timeout(within) {
        Ok(answer) => answer,
        Err(RecvTimeoutError::Timeout) => Err(TpmError::Slow(within.as_secs())),
        Err(RecvTimeoutError::Disconnected) => Err(TpmError::Nonsense("its thread has ended".into())),
    }
}

fn serve(mut device: Device, jobs: &Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        if Instant::now() < job.deadline {
            (job.work)(&mut device);
        }
    }
}
