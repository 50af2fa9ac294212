use std::path::Path;

use chancery_core::evidence::tpm::templates::{
    AK_ATTRIBUTES, EkKind, attestation_key_template, attestation_key_unique, ek_template, node_key_template,
    storage_parent_template,
};
use chancery_proto::chancery::attest::tpm::v1 as pb;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use tss_esapi::{
    Context, TctiNameConf,
    handles::KeyHandle,
    interface_types::{resource_handles::Hierarchy, session_handles::AuthSession},
    structures::{
        Attest, Auth, Data, Digest, EccParameter, EncryptedSecret, HashcheckTicket, IdObject, PcrSelectionListBuilder,
        PcrSlot, Private, Public, Sensitive, Signature, SignatureScheme,
    },
    traits::{Marshall, UnMarshall},
    tss2_esys::{TPM2B_DIGEST, TPMT_TK_HASHCHECK},
};

use crate::rig::{Asked, Opening, Rig};

/// "This digest was not made by the TPM": what an unrestricted key may sign.
const NO_TICKET: TPMT_TK_HASHCHECK =
    TPMT_TK_HASHCHECK { tag: 0x8024, hierarchy: 0x4000_0007, digest: TPM2B_DIGEST { size: 0, buffer: [0; 64] } };
/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, sign: everything but restricted.
const UNRESTRICTED: u32 = 0x0004_0472;
/// What the node key must have.
pub const NODE_KEY: u32 = UNRESTRICTED;
/// userWithAuth, noDA, sign: what the TPM accepts of a key that was made outside.
pub const EXTERNAL: u32 = 0x0004_0440;

/// A primary key that an honest attestor would not use.
#[derive(Clone)]
pub struct OddKey {
    hierarchy: Hierarchy,
    template: Vec<u8>,
}

impl OddKey {
    /// The key an honest attestor uses.
    pub fn genuine(rig: &Rig) -> Self {
        Self { hierarchy: Hierarchy::Endorsement, template: template(rig, 0) }
    }

    /// The right template in the owner hierarchy.
    pub fn of_the_owner(rig: &Rig) -> Self {
        Self { hierarchy: Hierarchy::Owner, template: template(rig, 0) }
    }

    /// Another genuine attestation key of the same TPM.
    pub fn of_another_epoch(rig: &Rig) -> Self {
        Self { hierarchy: Hierarchy::Endorsement, template: template(rig, 7) }
    }

    /// In the TPM, but it signs whatever it is given.
    pub fn unrestricted(rig: &Rig) -> Self {
        let mut template = template(rig, 0);
        template[4..8].copy_from_slice(&UNRESTRICTED.to_be_bytes());
        Self { hierarchy: Hierarchy::Endorsement, template }
    }

    /// TPMT_PUBLIC.
    pub fn public(&self, rig: &Rig) -> Vec<u8> {
        with(rig, |tpm| tpm.primary(self.hierarchy, &self.template).1)
    }

    pub fn quote(&self, rig: &Rig, pcrs: &[u32], qualifier: [u8; 32]) -> Option<pb::Signed> {
        with(rig, |tpm| {
            let key = tpm.primary(self.hierarchy, &self.template).0;
            let slots: Vec<PcrSlot> = pcrs.iter().map(|pcr| PcrSlot::try_from(1 << pcr).unwrap()).collect();
            let bank = tss_esapi::interface_types::algorithm::HashingAlgorithm::Sha256;
            let selection = PcrSelectionListBuilder::new().with_selection(bank, &slots).build().unwrap();
            let data = Data::try_from(qualifier.to_vec()).unwrap();
            let one = Some(AuthSession::Password);
            let made = tpm.0.execute_with_session(one, |c| c.quote(key, data, SignatureScheme::Null, selection));
            signed(made.unwrap())
        })
    }

    pub fn certify(&self, rig: &Rig, opening: &Opening, qualifier: [u8; 32]) -> Option<pb::Signed> {
        with(rig, |tpm| {
            let object = tpm.load(opening);
            let key = tpm.primary(self.hierarchy, &self.template).0;
            tpm.certify(object, key, qualifier)
        })
    }

    /// The structure of TPM2_GetTime: signed by the key, and no quote.
    pub fn time(&self, rig: &Rig, qualifier: [u8; 32]) -> Option<pb::Signed> {
        with(rig, |tpm| {
            let key = tpm.primary(self.hierarchy, &self.template).0;
            let data = Data::try_from(qualifier.to_vec()).unwrap();
            let two = (Some(AuthSession::Password), Some(AuthSession::Password), None);
            let made = tpm.0.execute_with_sessions(two, |c| c.get_time(key, data, SignatureScheme::Null));
            signed(made.unwrap())
        })
    }

    /// The structure of TPM2_CertifyCreation of a new key.
    pub fn creation(&self, rig: &Rig, qualifier: [u8; 32]) -> Option<pb::Signed> {
        let files = tempfile::tempdir().unwrap();
        let at = |name: &str| files.path().join(name).display().to_string();
        let (hash, ticket, key) = (at("hash"), at("ticket"), at("key"));
        with(rig, |tpm| {
            tpm.primary(self.hierarchy, &self.template);
            rig.swtpm.tool("tpm2_createprimary", &["-C", "o", "-c", &key, "-d", &hash, "-t", &ticket]).unwrap();
            let certify = ["-C", FIRST, "-c", SECOND, "-d", &hash, "-t", &ticket, "-g", "sha256"];
            by_tool(rig, "tpm2_certifycreation", &certify, files.path(), qualifier)
        })
    }

    /// The structure of TPM2_NV_Certify: a place in the TPM's memory that anybody may have filled.
    pub fn stored(&self, rig: &Rig, qualifier: [u8; 32]) -> Option<pb::Signed> {
        const INDEX: &str = "0x1500017";
        let files = tempfile::tempdir().unwrap();
        let data = files.path().join("data").display().to_string();
        std::fs::write(&data, [0x17; 32]).unwrap();
        with(rig, |tpm| {
            let define = ["-C", "o", "-s", "32", "-a", "ownerread|ownerwrite|authread|authwrite", INDEX];
            rig.swtpm.tool("tpm2_nvdefine", &define).unwrap();
            rig.swtpm.tool("tpm2_nvwrite", &["-C", "o", "-i", &data, INDEX]).unwrap();
            tpm.primary(self.hierarchy, &self.template);
            let certify = ["-C", FIRST, "-c", "o", "-g", "sha256", "--size", "32", INDEX];
            let made = by_tool(rig, "tpm2_nvcertify", &certify, files.path(), qualifier);
            rig.swtpm.tool("tpm2_nvundefine", &["-C", "o", INDEX]).unwrap();
            made
        })
    }

    /// TPM2_Sign over bytes of our choice.
    pub fn sign(&self, rig: &Rig, attest: Vec<u8>) -> Option<pb::Signed> {
        let digest = ring::digest::digest(&ring::digest::SHA256, &attest);
        let signature = with(rig, |tpm| {
            let key = tpm.primary(self.hierarchy, &self.template).0;
            let digest = Digest::try_from(digest.as_ref().to_vec()).unwrap();
            let ticket = HashcheckTicket::try_from(NO_TICKET).unwrap();
            let one = Some(AuthSession::Password);
            tpm.0.execute_with_session(one, |c| c.sign(key, digest, SignatureScheme::Null, ticket)).unwrap()
        });
        Some(pb::Signed { attest, signature: signature.marshall().unwrap() })
    }

    /// The proof of an activation in which this key stands where the AK belongs; none where the TPM refuses.
    pub fn try_proof(&self, rig: &Rig, asked: &Asked) -> Option<Vec<u8>> {
        let credential = asked.challenge.credential.clone().unwrap();
        let secret = with(rig, |tpm| {
            let ek = tpm.primary(Hierarchy::Endorsement, &ek_template(EkKind::P384)).0;
            let key = tpm.primary(self.hierarchy, &self.template).0;
            let object = IdObject::try_from(credential.id_object).unwrap();
            let secret = EncryptedSecret::try_from(credential.encrypted_secret).unwrap();
            let two = (Some(AuthSession::Password), Some(AuthSession::Password), None);
            tpm.0.execute_with_sessions(two, |c| c.activate_credential(key, ek, object, secret)).ok()
        });
        secret.map(|secret| asked.proof(secret.value()))
    }
}

/// A key made in software, that the TPM lends a handle to.
pub struct SoftKey {
    pub pkcs8: Vec<u8>,
    scalar: Vec<u8>,
    point: Vec<u8>,
}

impl SoftKey {
    pub fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let pkcs8 = key.serialize_der();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8, &SystemRandom::new()).unwrap();
        let point = pair.public_key().as_ref().to_vec();
        Self { scalar: scalar(&pkcs8).to_vec(), pkcs8, point }
    }

    /// TPMT_PUBLIC with these attributes.
    pub fn public(&self, attributes: u32) -> Vec<u8> {
        let mut out = node_key_template();
        out.truncate(out.len() - 4);
        out[4..8].copy_from_slice(&attributes.to_be_bytes());
        for coordinate in self.point[1..].chunks(32) {
            out.extend([0, 32]);
            out.extend(coordinate);
        }
        out
    }

    /// Shows that the TPM takes the key, and has the genuine attestation key certify it.
    pub fn certify(&self, rig: &Rig, qualifier: [u8; 32]) -> Option<pb::Signed> {
        with(rig, |tpm| {
            let object = tpm.try_load_external(self, EXTERNAL).unwrap();
            let key = tpm.primary(Hierarchy::Endorsement, &template(rig, 0)).0;
            tpm.certify(object, key, qualifier)
        })
    }

    /// Whether the TPM would take this key with the attributes of one of its own.
    pub fn loads_as(&self, rig: &Rig, attributes: u32) -> bool {
        with(rig, |tpm| tpm.try_load_external(self, attributes).is_ok())
    }

    /// A TPMT_SIGNATURE over `attest`.
    pub fn sign(&self, attest: Vec<u8>) -> Option<pb::Signed> {
        let rng = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.pkcs8, &rng).unwrap();
        let raw = pair.sign(&rng, &attest).unwrap();
        let (r, s) = raw.as_ref().split_at(32);
        let signature = [&[0, 0x18, 0, 0x0b, 0, 32], r, &[0, 32], s].concat();
        Some(pb::Signed { attest, signature })
    }
}

/// The private key within a PKCS#8 of P-256: 32 bytes behind `04 20`.
fn scalar(pkcs8: &[u8]) -> &[u8] {
    let at = pkcs8.windows(5).position(|w| w == [2, 1, 1, 4, 32]).unwrap() + 5;
    &pkcs8[at..at + 32]
}

fn template(rig: &Rig, epoch: u32) -> Vec<u8> {
    let template = attestation_key_template(&attestation_key_unique(rig.domain(), epoch));
    assert_eq!(template[4..8], AK_ATTRIBUTES.to_be_bytes());
    template
}

/// Handles of the objects loaded first and second into an empty TPM.
const FIRST: &str = "0x80000000";
const SECOND: &str = "0x80000001";

/// A structure that the library has no function for, signed by a tool.
fn by_tool(rig: &Rig, program: &str, args: &[&str], files: &Path, qualifier: [u8; 32]) -> Option<pb::Signed> {
    let at = |name: &str| files.join(name).display().to_string();
    let (attest, signature, qualifier) = (at("attest"), at("signature"), hex::encode(qualifier));
    let rest = ["--attestation", &attest, "-o", &signature, "-q", &qualifier];
    rig.swtpm.tool(program, &[args, &rest].concat()).unwrap();
    let read = |path: String| std::fs::read(path).unwrap();
    Some(pb::Signed { attest: read(attest), signature: read(signature) })
}

struct Odd(Context);

/// Runs `work` on an emptied TPM and leaves it empty; the rig's own context loads its keys again when it finds them gone.
fn with<T>(rig: &Rig, work: impl FnOnce(&mut Odd) -> T) -> T {
    let empty = || rig.swtpm.tool("tpm2_flushcontext", &["-t"]).unwrap();
    empty();
    let tcti = rig.swtpm.tcti();
    let name: TctiNameConf = tcti.parse().unwrap();
    let mut odd = Odd(Context::new(name).unwrap());
    let done = work(&mut odd);
    drop(odd);
    empty();
    done
}

impl Odd {
    fn primary(&mut self, hierarchy: Hierarchy, template: &[u8]) -> (KeyHandle, Vec<u8>) {
        let template = Public::unmarshall(template).unwrap();
        let one = Some(AuthSession::Password);
        let made = self.0.execute_with_session(one, |c| c.create_primary(hierarchy, template, None, None, None, None));
        let made = made.unwrap();
        (made.key_handle, made.out_public.marshall().unwrap())
    }

    fn load(&mut self, opening: &Opening) -> KeyHandle {
        let parent = self.primary(Hierarchy::Owner, &storage_parent_template()).0;
        let private = Private::try_from(opening.blob.private.clone()).unwrap();
        let public = Public::unmarshall(&opening.blob.public).unwrap();
        let one = Some(AuthSession::Password);
        let key = self.0.execute_with_session(one, |c| c.load(parent, private, public)).unwrap();
        self.0.flush_context(parent.into()).unwrap();
        key
    }

    fn try_load_external(&mut self, key: &SoftKey, attributes: u32) -> tss_esapi::Result<KeyHandle> {
        let public = Public::unmarshall(&key.public(attributes))?;
        let private = Sensitive::Ecc {
            auth_value: Auth::default(),
            seed_value: Digest::default(),
            sensitive: EccParameter::try_from(key.scalar.clone())?,
        };
        self.0.execute_without_session(|c| c.load_external(private, public, Hierarchy::Null))
    }

    fn certify(&mut self, object: KeyHandle, key: KeyHandle, qualifier: [u8; 32]) -> Option<pb::Signed> {
        let data = Data::try_from(qualifier.to_vec()).unwrap();
        let two = (Some(AuthSession::Password), Some(AuthSession::Password), None);
        let made = self.0.execute_with_sessions(two, |c| c.certify(object.into(), key, data, SignatureScheme::Null));
        signed(made.unwrap())
    }
}

fn signed((attest, signature): (Attest, Signature)) -> Option<pb::Signed> {
    Some(pb::Signed { attest: attest.marshall().unwrap(), signature: signature.marshall().unwrap() })
}
