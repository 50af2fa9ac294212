use chancery_core::evidence::tpm::templates::{attestation_key_template, attestation_key_unique};
use tss_esapi::{
    Context,
    constants::CapabilityType,
    handles::{KeyHandle, ObjectHandle},
    interface_types::{resource_handles::Hierarchy, session_handles::AuthSession},
    structures::{Auth, CapabilityData, Public},
    traits::{Marshall, UnMarshall},
};

use super::{Options, Tcti, TpmError};

/// The epoch of the attestation key; another one would give every TPM another key.
const AK_EPOCH: u32 = 0;

/// First handle of transient objects. Source: TPM 2.0 Library part 2, TPM_HT_TRANSIENT.
const TRANSIENT_FIRST: u32 = 0x8000_0000;
/// Objects of an earlier run that are looked for; emulators and chips hold three.
const MAX_LEFTOVERS: u32 = 16;

/// The open TPM and what is loaded in it: at most the attestation key, one node key, and one parent for a moment.
pub(super) struct Device {
    pub(super) options: Options,
    pub(super) context: Context,
    /// Handle and TPMT_PUBLIC.
    ak: Option<(KeyHandle, Vec<u8>)>,
    /// TPMT_PUBLIC and handle of the node key used last.
    pub(super) node_key: Option<(Vec<u8>, KeyHandle)>,
}

impl Device {
    pub(super) fn open(options: Options) -> Result<Self, TpmError> {
        let context = open(&options)?;
        Ok(Self { options, context, ak: None, node_key: None })
    }

    /// Runs `work`; where the TPM was reset, lost our keys or the transport broke, opens it anew and runs once more.
    pub(super) fn persist<T>(
        &mut self,
        work: &mut impl FnMut(&mut Self) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        match work(self) {
            Err(error) if error.may_pass() || !self.holds_its_keys() => {
                tracing::info!(%error, "opening the TPM anew");
                self.reopen()?;
                work(self)
            }
            other => other,
        }
    }

    /// Whether each handle still stands for the key we loaded under it.
    ///
    /// A reset, or another program at a TPM without a resource manager, empties the slots, and the TPM gives their
    /// numbers out again: a handle of ours may be another key, even one of our own. Then a refusal, whatever its code,
    /// was about that key. Answers that a wrong key could give as well are checked where they are made.
    fn holds_its_keys(&mut self) -> bool {
        let ak = self.ak.as_ref().map(|(handle, public)| (*handle, public.clone()));
        let node_key = self.node_key.as_ref().map(|(public, handle)| (*handle, public.clone()));
        ak.into_iter().chain(node_key).all(|(handle, public)| {
            let read = self.context.execute_without_session(|context| context.read_public(handle));
            read.is_ok_and(|(there, _, _)| there.marshall().is_ok_and(|there| there == public))
        })
    }

    fn reopen(&mut self) -> Result<(), TpmError> {
        self.flush();
        // The old context forgets its handles before the new one makes any: numbers are used again.
        self.context = open(&self.options)?;
        // On a device the kernel's resource manager forgets for a process that died; an emulator has three places.
        if !matches!(self.options.tcti, Tcti::Device(_))
            && let Err(error) = forget_leftovers(&mut self.context)
        {
            tracing::warn!(%error, "what an earlier run left in the TPM stays there");
        }
        Ok(())
    }

    fn flush(&mut self) {
        let ak = self.ak.take().map(|(handle, _)| handle);
        let node_key = self.node_key.take().map(|(_, handle)| handle);
        for handle in ak.into_iter().chain(node_key) {
            let _ = self.context.flush_context(handle.into());
        }
    }

    /// The attestation key, made on first use: 4 ms on an emulator, a tenth of a second on a chip.
    pub(super) fn ak(&mut self) -> Result<KeyHandle, TpmError> {
        if let Some((handle, _)) = &self.ak {
            return Ok(*handle);
        }
        let unique = attestation_key_unique(&self.options.trust_domain, AK_EPOCH);
        let (handle, public) = self.create_primary(Hierarchy::Endorsement, &attestation_key_template(&unique))?;
        self.ak = Some((handle, public));
        Ok(handle)
    }

    pub(super) fn attestation_key(&mut self) -> Result<Vec<u8>, TpmError> {
        self.ak()?;
        self.ak
            .as_ref()
            .map(|(_, public)| public.clone())
            .ok_or_else(|| TpmError::Nonsense("no attestation key".into()))
    }

    /// Makes a primary key of `template` (TPMT_PUBLIC); the caller flushes it.
    pub(super) fn create_primary(
        &mut self,
        hierarchy: Hierarchy,
        template: &[u8],
    ) -> Result<(KeyHandle, Vec<u8>), TpmError> {
        let template = Public::unmarshall(template)?;
        let made = self.context.execute_with_session(Some(AuthSession::Password), |context| {
            context.create_primary(hierarchy, template, None, None, None, None)
        })?;
        let public = made.out_public.marshall()?;
        Ok((made.key_handle, public))
    }

    /// Runs `work` with a primary key that is gone afterwards, whatever happened.
    pub(super) fn with_primary<T>(
        &mut self,
        hierarchy: Hierarchy,
        template: &[u8],
        work: impl FnOnce(&mut Self, KeyHandle) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        let (handle, _) = self.create_primary(hierarchy, template)?;
        let result = work(self, handle);
        self.context.flush_context(handle.into())?;
        result
    }
}

/// Flushes every transient object.
fn forget_leftovers(context: &mut Context) -> Result<(), TpmError> {
    let ask = |context: &mut Context| context.get_capability(CapabilityType::Handles, TRANSIENT_FIRST, MAX_LEFTOVERS);
    let (CapabilityData::Handles(left), _) = context.execute_without_session(ask)? else { return Ok(()) };
    for handle in left.into_inner() {
        let object = context.execute_without_session(|context| context.tr_from_tpm_public(handle))?;
        context.flush_context(object)?;
    }
    Ok(())
}

fn open(options: &Options) -> Result<Context, TpmError> {
    let unavailable =
        |error: tss_esapi::Error| TpmError::Unavailable { tcti: options.tcti.to_string(), problem: error.to_string() };
    // The library tells a missing device by an unknown number: asked here, the system says it in words.
    let there = match &options.tcti {
        Tcti::Device(path) => std::fs::File::options().read(true).write(true).open(path).map(drop),
        // Its control channel: the data channel may be somebody's for a moment.
        Tcti::Swtpm { host, port } => std::net::TcpStream::connect((*host, port.saturating_add(1))).map(drop),
    };
    there.map_err(|e| TpmError::Unavailable { tcti: options.tcti.to_string(), problem: e.to_string() })?;
    let mut context = Context::new(options.tcti.library()?).map_err(unavailable)?;
    for (hierarchy, auth) in
        [(ObjectHandle::Endorsement, &options.endorsement_auth), (ObjectHandle::Owner, &options.owner_auth)]
    {
        if !auth.is_empty() {
            context.tr_set_auth(hierarchy, Auth::try_from(auth.to_vec())?)?;
        }
    }
    // One harmless command: a context opens even where nobody answers commands.
    context.execute_without_session(|context| context.get_random(8)).map_err(unavailable)?;
    Ok(context)
}
