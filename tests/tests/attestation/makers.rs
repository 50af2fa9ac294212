//! Devices of makers that exist in this test only: their chains have the shapes of the real ones, which the core's
//! tests verify from public samples.

use bp256::r1::{BrainpoolP256r1, ecdsa::Signature};
use ecdsa::{SigningKey, signature::Signer};
use rcgen::{BasicConstraints, CertificateParams, CustomExtension, DnType, IsCa, Issuer, KeyPair, PublicKeyData};

/// Serial number of every YubiHSM 2 here.
pub const YUBIHSM2_SERIAL: &str = "12345";
/// Serial number of every SmartCard-HSM here.
pub const SC_HSM_SERIAL: &str = "ZZTEST0001";

/// A maker of YubiHSM 2: root, sub-CA and the attestation key of its one device.
pub struct YubiHsm2 {
    root: Ca,
    sub_ca: Ca,
    device: Ca,
}

type Ca = (CertificateParams, KeyPair);

/// What the device says of a key: claims by their arc, content as DER.
pub struct Claims(Vec<(u64, Vec<u8>)>);

impl Default for Claims {
    /// Firmware 2.4.1, this device, generated, domain 1, may sign by ECDSA, object 7.
    fn default() -> Self {
        Self(vec![
            (1, vec![0x04, 3, 2, 4, 1]),
            (2, vec![0x02, 2, 0x30, 0x39]),
            (3, vec![0x03, 2, 0, 0x01]),
            (4, vec![0x03, 3, 0, 0, 1]),
            (5, vec![0x03, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0x80]),
            (6, vec![0x02, 1, 7]),
        ])
    }
}

impl Claims {
    /// The key came from outside.
    pub fn imported() -> Self {
        Self::default().but(3, &[0x03, 2, 0, 0x02])
    }

    /// `exportable-under-wrap`, bit 16 of the capabilities.
    pub fn extractable() -> Self {
        Self::default().but(5, &[0x03, 9, 0, 0, 0, 0, 0, 0, 0x01, 0, 0x80])
    }

    fn but(mut self, arc: u64, content: &[u8]) -> Self {
        self.0.retain(|(other, _)| *other != arc);
        self.0.push((arc, content.to_vec()));
        self
    }

    fn extensions(&self, arcs: std::ops::RangeInclusive<u64>) -> Vec<CustomExtension> {
        let named = self.0.iter().filter(|(arc, _)| arcs.contains(arc));
        let oid = |arc: u64| [1, 3, 6, 1, 4, 1, 41_482, 4, arc];
        named.map(|(arc, content)| CustomExtension::from_oid_content(&oid(*arc), content.clone())).collect()
    }
}

impl YubiHsm2 {
    pub fn new() -> Self {
        Self {
            root: ca("Test YubiHSM Root CA", 2),
            sub_ca: ca("Test YubiHSM 1 Sub-CA", 1),
            device: ca("YubiHSM Attestation (12345)", 0),
        }
    }

    /// DER.
    pub fn root(&self) -> Vec<u8> {
        self.root.0.self_signed(&self.root.1).unwrap().der().to_vec()
    }

    /// Key, device and sub-CA certificates.
    pub fn states(&self, key: &impl PublicKeyData, claims: &Claims) -> Vec<u8> {
        let mut device = self.device.0.clone();
        device.custom_extensions = Claims::default().extensions(1..=2);
        let device = signed(&device, &self.device.1, &self.sub_ca);
        [self.key(key, claims, &self.device), device, signed(&self.sub_ca.0, &self.sub_ca.1, &self.root)].concat()
    }

    /// What the owner of an attested key makes with it: a certificate for another key, in place of the device's.
    pub fn forged_by(&self, attested: &KeyPair, key: &impl PublicKeyData) -> Vec<u8> {
        let chain = self.states(attested, &Claims::default());
        let claims = Claims::default();
        let name = named("YubiHSM Attestation id:0x0007");
        let issuer = Issuer::from_params(&name, attested);
        let mut forged = named("YubiHSM Attestation id:0x0008");
        forged.custom_extensions = claims.extensions(1..=6);
        // Key and attested key; the device's certificate does not fit a third place, so it is left out.
        let attested_der = &chain[..der_len(&chain)];
        [forged.signed_by(key, &issuer).unwrap().der().as_ref(), attested_der].concat()
    }

    fn key(&self, key: &impl PublicKeyData, claims: &Claims, by: &Ca) -> Vec<u8> {
        let mut params = named("YubiHSM Attestation id:0x0007");
        params.custom_extensions = claims.extensions(1..=6);
        signed(&params, key, by)
    }
}

/// Length of the first certificate: its length takes two bytes.
fn der_len(der: &[u8]) -> usize {
    assert_eq!(der[..2], [0x30, 0x82]);
    4 + usize::from(u16::from_be_bytes([der[2], der[3]]))
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (rcgen::date_time_ymd(2017, 1, 1), rcgen::date_time_ymd(2071, 10, 5));
    params
}

fn ca(name: &str, path_len: u8) -> Ca {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_len));
    (params, KeyPair::generate().unwrap())
}

fn signed(params: &CertificateParams, key: &impl PublicKeyData, (issuer, issuer_key): &Ca) -> Vec<u8> {
    params.signed_by(key, &Issuer::from_params(issuer, issuer_key)).unwrap().der().to_vec()
}

/// A maker of SmartCard-HSMs: root, device issuer and one device, all on brainpoolP256r1.
pub struct ScHsm {
    root: Brainpool,
    issuer: Brainpool,
    device: Brainpool,
}

type Brainpool = SigningKey<BrainpoolP256r1>;

/// id-TA-ECDSA-SHA-256.
const ECDSA: &[u8] = &[0x04, 0x00, 0x7f, 0x00, 0x07, 0x02, 0x02, 0x02, 0x02, 0x03];
/// CardContact's role of a SmartCard-HSM certificate.
const ROLE: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x81, 0xc3, 0x1f, 0x03, 0x01, 0x01];
const ROOT_NAME: &[u8] = b"ZZTESTROOT00001";
const ISSUER_NAME: &[u8] = b"ZZTESTDICA00001";
const DEVICE_NAME: &[u8] = b"ZZTEST000100000";

/// Prime, a, b, base point and order.
type Curve = [&'static str; 5];
const BRAINPOOL_P256R1: Curve = [
    "a9fb57dba1eea9bc3e660a909d838d726e3bf623d52620282013481d1f6e5377",
    "7d5a0975fc2c3057eef67530417affe7fb8055c126dc5c6ce94a4b44f330b5d9",
    "26dc5c6ce94a4b44f330b5d9bbd77cbf958416295cf7e1ce6bccdc18ff8c07b6",
    "048bd2aeb9cb7e57cb2c4b482ffc81b7afb9de27e1e3bd23c23a4453bd9ace3262\
     547ef835c3dac4fd97f8461a14611dc9c27745132ded8e545c1d54c72f046997",
    "a9fb57dba1eea9bc3e660a909d838d718c397aa3b561a6f7901e0e82974856a7",
];
const P256: Curve = [
    "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff",
    "ffffffff00000001000000000000000000000000fffffffffffffffffffffffc",
    "5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b",
    "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296\
     4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
    "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
];

impl ScHsm {
    /// Makers of different seeds have different keys under the same names.
    pub fn new(seed: u8) -> Self {
        let key = |n: u8| SigningKey::from_slice(&[seed + n; 32]).unwrap();
        Self { root: key(0), issuer: key(1), device: key(2) }
    }

    /// A self-signed CVC with its curve spelled out.
    pub fn root(&self) -> Vec<u8> {
        let point = point(&self.root);
        card(ROOT_NAME, &explicit(&BRAINPOOL_P256R1, &point), ROOT_NAME, 0xc0, &self.root)
    }

    /// EF 2F02, then the request that the device made of the P-256 key at `point` (uncompressed).
    pub fn states(&self, attested: &[u8]) -> Vec<u8> {
        let device = card(ISSUER_NAME, &plain(&self.device), DEVICE_NAME, 0x00, &self.issuer);
        let issuer = card(ROOT_NAME, &plain(&self.issuer), ISSUER_NAME, 0x80, &self.root);
        let key = explicit(&P256, attested);
        let fields = [tlv(0x5f29, &[0]), tlv(0x42, b"UTCA00001"), tlv(0x7f49, &key), tlv(0x5f20, b"ZZTEST000100001")];
        let body = tlv(0x7f4e, &fields.concat());
        let inner = tlv(0x7f21, &[body, tlv(0x5f37, &[0x11; 64])].concat());
        let said = [inner, tlv(0x42, DEVICE_NAME)].concat();
        let signature = sign(&self.device, &said);
        [device, issuer, tlv(0x67, &[said, signature].concat())].concat()
    }
}

fn card(issuer: &[u8], key: &[u8], holder: &[u8], role: u8, signer: &Brainpool) -> Vec<u8> {
    let chat = [tlv(0x06, ROLE), tlv(0x53, &[role])].concat();
    let fields = [
        tlv(0x5f29, &[0]),
        tlv(0x42, issuer),
        tlv(0x7f49, key),
        tlv(0x5f20, holder),
        tlv(0x7f4c, &chat),
        tlv(0x5f25, &[2, 0, 0, 1, 0, 1]),
        tlv(0x5f24, &[9, 8, 1, 2, 3, 1]),
    ];
    let body = tlv(0x7f4e, &fields.concat());
    let signature = sign(signer, &body);
    tlv(0x7f21, &[body, signature].concat())
}

fn point(key: &Brainpool) -> Vec<u8> {
    key.verifying_key().to_sec1_point(false).as_bytes().to_vec()
}

fn plain(key: &Brainpool) -> Vec<u8> {
    [tlv(0x06, ECDSA), tlv(0x86, &point(key))].concat()
}

fn explicit(curve: &Curve, point: &[u8]) -> Vec<u8> {
    let domain = (0x81..=0x85).zip(curve).flat_map(|(tag, text)| tlv(tag, &hex::decode(text).unwrap()));
    [tlv(0x06, ECDSA), domain.collect(), tlv(0x86, point), tlv(0x87, &[1])].concat()
}

fn sign(key: &Brainpool, message: &[u8]) -> Vec<u8> {
    let signature: Signature = key.sign(message);
    tlv(0x5f37, &signature.to_bytes())
}

fn tlv(tag: u16, content: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = tag.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect();
    match content.len() {
        len @ ..=0x7f => out.push(len as u8),
        len @ ..=0xff => out.extend([0x81, len as u8]),
        len => out.extend([0x82, (len >> 8) as u8, len as u8]),
    }
    out.extend_from_slice(content);
    out
}
