use thiserror::Error;
use x509_parser::{
    certificate::X509Certificate,
    extensions::{BasicConstraints, GeneralName, KeyUsage, ParsedExtension},
    oid_registry::{
        OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER, OID_X509_EXT_BASIC_CONSTRAINTS, OID_X509_EXT_KEY_USAGE,
        OID_X509_EXT_SUBJECT_ALT_NAME, OID_X509_EXT_SUBJECT_KEY_IDENTIFIER, Oid,
    },
    prelude::FromDer,
};

use crate::time::UnixTime;

/// Tag of `uniformResourceIdentifier` in a GeneralName (RFC 5280, 4.2.1.6).
const URI_TAG: u32 = 6;

/// Why bytes are no certificate that can be judged.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum CertificateError {
    /// An extension that occurs twice, or whose value is not what its OID says.
    #[error("certificate holds an unreadable or repeated {0} extension")]
    BadExtension(&'static str),
    /// Not one DER certificate and nothing else.
    #[error("bytes are not exactly one DER certificate")]
    NotACertificate,
}

/// A parsed certificate, with accessors that treat an unreadable extension as a fault, never as absent.
pub(crate) struct Certificate<'a>(X509Certificate<'a>);

impl<'a> Certificate<'a> {
    /// Reads one certificate; `der` may hold nothing else.
    pub(crate) fn parse(der: &'a [u8]) -> Result<Self, CertificateError> {
        match X509Certificate::from_der(der) {
            Ok(([], certificate)) => Ok(Self(certificate)),
            Ok(_) | Err(_) => Err(CertificateError::NotACertificate),
        }
    }

    /// Reads the first certificate of `der`; also returns how many bytes it took.
    pub(crate) fn parse_first(der: &'a [u8]) -> Result<(Self, usize), CertificateError> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| CertificateError::NotACertificate)?;
        Ok((Self(certificate), der.len() - rest.len()))
    }

    /// DER of the subject's Name.
    pub(crate) fn subject(&self) -> &[u8] {
        self.0.subject().as_raw()
    }

    /// DER of the issuer's Name.
    pub(crate) fn issuer(&self) -> &[u8] {
        self.0.issuer().as_raw()
    }

    /// DER SubjectPublicKeyInfo.
    pub(crate) fn spki(&self) -> &[u8] {
        self.0.public_key().raw
    }

    /// Content of the subjectPublicKey BIT STRING.
    pub(crate) fn public_key_bits(&self) -> &[u8] {
        &self.0.public_key().subject_public_key.data
    }

    pub(crate) fn not_before(&self) -> UnixTime {
        UnixTime(self.0.validity().not_before.timestamp())
    }

    pub(crate) fn not_after(&self) -> UnixTime {
        UnixTime(self.0.validity().not_after.timestamp())
    }

    /// The serial number in decimal digits.
    pub(crate) fn serial_decimal(&self) -> String {
        self.0.serial.to_string()
    }

    pub(crate) fn key_usage(&self) -> Result<Option<&KeyUsage>, CertificateError> {
        const NAME: &str = "key usage";
        match self.extension(&OID_X509_EXT_KEY_USAGE, NAME)? {
            None => Ok(None),
            Some(ParsedExtension::KeyUsage(usage)) => Ok(Some(usage)),
            Some(_) => Err(CertificateError::BadExtension(NAME)),
        }
    }

    pub(crate) fn basic_constraints(&self) -> Result<Option<&BasicConstraints>, CertificateError> {
        const NAME: &str = "basic constraints";
        match self.extension(&OID_X509_EXT_BASIC_CONSTRAINTS, NAME)? {
            None => Ok(None),
            Some(ParsedExtension::BasicConstraints(constraints)) => Ok(Some(constraints)),
            Some(_) => Err(CertificateError::BadExtension(NAME)),
        }
    }

    /// Whether the certificate may sign others: cA is true and keyUsage, if there, says keyCertSign.
    pub(crate) fn may_sign_certificates(&self) -> Result<bool, CertificateError> {
        let is_ca = self.basic_constraints()?.is_some_and(|c| c.ca);
        Ok(is_ca && self.key_usage()?.is_none_or(KeyUsage::key_cert_sign))
    }

    /// Raw bytes of every URI in the subject alternative name, duplicates and non-ASCII ones included.
    pub(crate) fn uri_sans(&self) -> Result<Vec<&[u8]>, CertificateError> {
        const NAME: &str = "subject alternative name";
        let names = match self.extension(&OID_X509_EXT_SUBJECT_ALT_NAME, NAME)? {
            None => return Ok(Vec::new()),
            Some(ParsedExtension::SubjectAlternativeName(san)) => &san.general_names,
            Some(_) => return Err(CertificateError::BadExtension(NAME)),
        };
        let uri = |name: &GeneralName<'a>| match *name {
            GeneralName::URI(text) => Some(text.as_bytes()),
            GeneralName::Invalid(tag, bytes) if tag.0 == URI_TAG => Some(bytes),
            _ => None,
        };
        Ok(names.iter().filter_map(uri).collect())
    }

    pub(crate) fn subject_key_id(&self) -> Option<&[u8]> {
        match self.extension(&OID_X509_EXT_SUBJECT_KEY_IDENTIFIER, "subject key identifier") {
            Ok(Some(ParsedExtension::SubjectKeyIdentifier(id))) => Some(id.0),
            _ => None,
        }
    }

    fn authority_key_id(&self) -> Option<&[u8]> {
        match self.extension(&OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER, "authority key identifier") {
            Ok(Some(ParsedExtension::AuthorityKeyIdentifier(id))) => id.key_identifier.as_ref().map(|id| id.0),
            _ => None,
        }
    }

    fn extension(&self, oid: &Oid<'_>, name: &'static str) -> Result<Option<&ParsedExtension<'a>>, CertificateError> {
        match self.0.get_extension_unique(oid) {
            Ok(found) => Ok(found.map(|extension| extension.parsed_extension())),
            Err(_) => Err(CertificateError::BadExtension(name)),
        }
    }
}

/// Reads the public key of a certificate.
///
/// `certificate` is DER; the result is DER SubjectPublicKeyInfo.
///
/// # Errors
/// [`CertificateError`] if the bytes are not exactly one certificate.
pub fn spki_of(certificate: &[u8]) -> Result<Vec<u8>, CertificateError> {
    Certificate::parse(certificate).map(|c| c.spki().to_vec())
}

/// Reads the subject key identifier of a DER certificate; `None` if it has none that can be read.
pub fn subject_key_id(certificate: &[u8]) -> Option<Vec<u8>> {
    let certificate = Certificate::parse(certificate).ok()?;
    certificate.subject_key_id().map(<[u8]>::to_vec)
}

/// Reads the identifier of the key that signed a DER certificate; `None` if it has none that can be read.
pub fn authority_key_id(certificate: &[u8]) -> Option<Vec<u8>> {
    let certificate = Certificate::parse(certificate).ok()?;
    certificate.authority_key_id().map(<[u8]>::to_vec)
}

/// Reads the serial number of a DER certificate in decimal digits; `None` if it cannot be read.
pub fn serial_decimal(certificate: &[u8]) -> Option<String> {
    Certificate::parse(certificate).ok().map(|certificate| certificate.serial_decimal())
}
