//! PKCS#11 URIs (RFC 7512), strict: what is not understood is refused, and a PIN never stands in one.

use std::path::PathBuf;

use thiserror::Error;

/// Longest URI in bytes.
const MAX_BYTES: usize = 1024;

/// What a URI says; values are percent-decoded.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Uri {
    /// `token`: label of the token.
    pub token: Option<String>,
    /// `manufacturer` of the token.
    pub manufacturer: Option<String>,
    /// `serial` of the token.
    pub serial: Option<String>,
    /// `model` of the token.
    pub model: Option<String>,
    /// `slot-id`, for modules whose tokens cannot be told apart otherwise.
    pub slot_id: Option<u64>,
    /// `object`: label of a key.
    pub object: Option<String>,
    /// `id` of a key.
    pub id: Option<Vec<u8>>,
    /// `pin-source`: file that holds the PIN.
    pub pin_source: Option<PathBuf>,
}

/// Why a text is no URI of ours.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum UriError {
    /// An attribute stands twice.
    #[error("uri: {0} stands twice")]
    Duplicate(String),
    /// Not `name=value`.
    #[error("uri: {0:?} is not NAME=VALUE")]
    NotAPair(String),
    /// A key is named where a token is wanted.
    #[error("uri: {0} names a key; name the token only")]
    NamesAKey(&'static str),
    /// Nothing says which token.
    #[error("uri: say which token: token=, serial= or slot-id=")]
    NoToken,
    /// The PIN would end up in logs and process lists.
    #[error("uri: pin-value is never taken; use pin_file or pin_env")]
    PinValue,
    /// Not `pkcs11:`.
    #[error("uri: it begins with pkcs11:")]
    Scheme,
    /// Longer than [`MAX_BYTES`].
    #[error("uri: {0} bytes exceed {MAX_BYTES}")]
    TooLong(usize),
    /// An attribute that is not looked at may not stand there.
    #[error("uri: {0} is not supported")]
    Unsupported(String),
    /// The value has no meaning.
    #[error("uri: the value of {0} is malformed")]
    Value(String),
}

impl Uri {
    /// Reads a URI.
    ///
    /// # Errors
    /// [`UriError`] naming the attribute. Source: RFC 7512, 2.3 and 2.4.
    pub fn parse(text: &str) -> Result<Self, UriError> {
        if text.len() > MAX_BYTES {
            return Err(UriError::TooLong(text.len()));
        }
        let rest = text.strip_prefix("pkcs11:").ok_or(UriError::Scheme)?;
        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
        let mut uri = Self::default();
        for pair in path.split(';').filter(|_| !path.is_empty()) {
            uri.path_attribute(pair)?;
        }
        for pair in query.into_iter().flat_map(|query| query.split('&')) {
            uri.query_attribute(pair)?;
        }
        Ok(uri)
    }

    /// Whether it names a token and no key.
    ///
    /// # Errors
    /// [`UriError::NamesAKey`], [`UriError::NoToken`].
    pub fn is_token(&self) -> Result<(), UriError> {
        if self.object.is_some() {
            return Err(UriError::NamesAKey("object"));
        }
        if self.id.is_some() {
            return Err(UriError::NamesAKey("id"));
        }
        let named = self.token.is_some() || self.serial.is_some() || self.slot_id.is_some();
        if named { Ok(()) } else { Err(UriError::NoToken) }
    }

    fn path_attribute(&mut self, pair: &str) -> Result<(), UriError> {
        let (name, value) = split(pair)?;
        let bytes = decode(value, b"-._~:[]@!$'()*+,=&").ok_or_else(|| UriError::Value(name.into()))?;
        let text = || {
            let text = String::from_utf8(bytes.clone()).ok().filter(|t| !t.is_empty());
            text.ok_or_else(|| UriError::Value(name.into()))
        };
        match name {
            "token" => put(&mut self.token, name, text()?),
            "manufacturer" => put(&mut self.manufacturer, name, text()?),
            "serial" => put(&mut self.serial, name, text()?),
            "model" => put(&mut self.model, name, text()?),
            "object" => put(&mut self.object, name, text()?),
            "id" => put(&mut self.id, name, bytes),
            "slot-id" => {
                let plain = value.bytes().all(|b| b.is_ascii_digit());
                let number = value.parse().ok().filter(|_| plain).ok_or_else(|| UriError::Value(name.into()))?;
                put(&mut self.slot_id, name, number)
            }
            "pin-value" => Err(UriError::PinValue),
            _ => Err(UriError::Unsupported(name.into())),
        }
    }

    fn query_attribute(&mut self, pair: &str) -> Result<(), UriError> {
        let (name, value) = split(pair)?;
        match name {
            "pin-source" => {
                let bytes = decode(value, b"-._~:[]@!$'()*+,=/?|").ok_or_else(|| UriError::Value(name.into()))?;
                let text = String::from_utf8(bytes).map_err(|_| UriError::Value(name.into()))?;
                // file:/path and file:///path; a host is not ours to ask.
                let path = text.strip_prefix("file:").map(|p| p.strip_prefix("//").unwrap_or(p));
                let path = path.filter(|p| p.starts_with('/')).ok_or_else(|| UriError::Value(name.into()))?;
                put(&mut self.pin_source, name, PathBuf::from(path))
            }
            "pin-value" => Err(UriError::PinValue),
            // `module-path` would load any library that the text names.
            _ => Err(UriError::Unsupported(name.into())),
        }
    }
}

fn split(pair: &str) -> Result<(&str, &str), UriError> {
    pair.split_once('=').ok_or_else(|| UriError::NotAPair(pair.into()))
}

fn put<T>(place: &mut Option<T>, name: &str, value: T) -> Result<(), UriError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(UriError::Duplicate(name.into())),
    }
}

/// Percent-decodes; `None` for a short escape or a character that must be escaped.
fn decode(value: &str, plain: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = value.bytes();
    let mut out = Vec::with_capacity(value.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let (high, low) = (char::from(bytes.next()?).to_digit(16)?, char::from(bytes.next()?).to_digit(16)?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte if byte.is_ascii_alphanumeric() || plain.contains(&byte) => byte,
            _ => return None,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_percent_decoded_to_bytes() {
        let uri = Uri::parse("pkcs11:token=ca%20a;id=%01%fF;serial=0a?pin-source=file:/etc/pin").unwrap();
        assert_eq!((uri.token.as_deref(), uri.id.as_deref()), (Some("ca a"), Some([1, 0xff].as_slice())));
        assert_eq!((uri.serial.as_deref(), uri.pin_source), (Some("0a"), Some("/etc/pin".into())));
        let uri = Uri::parse("pkcs11:slot-id=42;model=x;manufacturer=y?pin-source=file:///p").unwrap();
        assert_eq!((uri.slot_id, uri.pin_source), (Some(42), Some("/p".into())));
        assert_eq!(Uri::parse("pkcs11:").unwrap(), Uri::default());
    }

    #[test]
    fn what_is_not_understood_or_would_leak_is_refused_by_name() {
        for (text, error) in [
            ("pkcs11:token=a?pin-value=1234", UriError::PinValue),
            ("pkcs11:token=a;pin-value=1234", UriError::PinValue),
            ("pkcs11:token=a;token=b", UriError::Duplicate("token".into())),
            ("pkcs11:token=a;x-vendor=b", UriError::Unsupported("x-vendor".into())),
            ("pkcs11:token=a?module-path=/evil.so", UriError::Unsupported("module-path".into())),
            ("pkcs11:token=a?module-name=evil", UriError::Unsupported("module-name".into())),
            ("pkcs11:token=a;type=private", UriError::Unsupported("type".into())),
            ("pkcs11:token=%4", UriError::Value("token".into())),
            ("pkcs11:token=%zz", UriError::Value("token".into())),
            ("pkcs11:token=%ff", UriError::Value("token".into())),
            ("pkcs11:token=", UriError::Value("token".into())),
            ("pkcs11:token=a b", UriError::Value("token".into())),
            ("pkcs11:slot-id=-1", UriError::Value("slot-id".into())),
            ("pkcs11:slot-id=+1", UriError::Value("slot-id".into())),
            ("pkcs11:token=a;", UriError::NotAPair(String::new())),
            ("pkcs11:token", UriError::NotAPair("token".into())),
            ("pkcs11:token=a?pin-source=|/bin/pin", UriError::Value("pin-source".into())),
            ("pkcs11:token=a?pin-source=http://x/", UriError::Value("pin-source".into())),
            ("pkcs11:token=a?pin-source=file://host/p", UriError::Value("pin-source".into())),
            ("pkcs11:token=a?", UriError::NotAPair(String::new())),
            ("PKCS11:token=a", UriError::Scheme),
            ("", UriError::Scheme),
        ] {
            assert_eq!(Uri::parse(text), Err(error), "{text}");
        }
        let long = format!("pkcs11:token={}", "a".repeat(MAX_BYTES));
        assert!(matches!(Uri::parse(&long), Err(UriError::TooLong(_))));
    }

    #[test]
    fn a_token_is_named_by_label_serial_or_slot_and_without_a_key() {
        let judged = |text: &str| Uri::parse(text).unwrap().is_token();
        assert!(judged("pkcs11:serial=1").is_ok() && judged("pkcs11:slot-id=0").is_ok());
        assert_eq!(judged("pkcs11:model=x"), Err(UriError::NoToken));
        assert_eq!(judged("pkcs11:token=a;object=k"), Err(UriError::NamesAKey("object")));
        assert_eq!(judged("pkcs11:token=a;id=%01"), Err(UriError::NamesAKey("id")));
    }
}
