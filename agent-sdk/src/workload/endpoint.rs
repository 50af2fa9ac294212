//! Where the Workload API is: the URI of `SPIFFE_ENDPOINT_SOCKET`, parsed strictly.

use std::{
    env::{self, VarError},
    ffi::OsString,
    fmt,
    net::SocketAddr,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    str::FromStr,
};

use thiserror::Error;

/// The environment variable that names the endpoint.
pub const ENDPOINT_VARIABLE: &str = "SPIFFE_ENDPOINT_SOCKET";

/// Address of a Workload API: a UNIX socket (preferred) or a TCP address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Endpoint {
    /// `tcp://<ip>:<port>`.
    Tcp(SocketAddr),
    /// `unix:///absolute/path`.
    Unix(PathBuf),
}

/// Why a text is no endpoint.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum EndpointError {
    /// `unix://host/...`.
    #[error("a unix endpoint has no authority: write unix:///absolute/path")]
    Authority,
    /// A byte that no URI may hold, or a broken percent-encoding.
    #[error("endpoint holds a character or escape that no URI may hold")]
    BadCharacter,
    /// `tcp:` without two slashes, or an authority that is not an IP address and a port.
    #[error("a tcp endpoint is an IP address and a port: tcp://127.0.0.1:8000")]
    NotIpAndPort,
    /// Neither an explicit endpoint nor the environment variable.
    #[error("no endpoint given and {ENDPOINT_VARIABLE} is not set")]
    NotSet,
    /// A path, query, fragment or user where none may be.
    #[error("a {scheme} endpoint may not have a {part}")]
    Part {
        /// The scheme.
        scheme: &'static str,
        /// What it may not have.
        part: &'static str,
    },
    /// No path, or one that is not absolute.
    #[error("a unix endpoint has an absolute path: unix:///absolute/path")]
    Path,
    /// Another scheme, or none.
    #[error("endpoint must begin with 'unix:' or 'tcp:'")]
    Scheme,
}

impl Endpoint {
    /// Parses an endpoint URI.
    ///
    /// # Errors
    /// [`EndpointError`] naming the rule broken.
    ///
    /// Source: Workload Endpoint section 4; conformance WE-13 to WE-19, CF-06.
    pub fn parse(uri: &str) -> Result<Self, EndpointError> {
        let (scheme, rest) = uri.split_once(':').ok_or(EndpointError::Scheme)?;
        if !uri.bytes().all(is_uri_byte) {
            return Err(EndpointError::BadCharacter);
        }
        // RFC 3986, 3.1: a scheme has no case.
        match scheme.to_ascii_lowercase().as_str() {
            "tcp" => parse_tcp(rest).map(Self::Tcp),
            "unix" => parse_unix(rest).map(Self::Unix),
            _ => Err(EndpointError::Scheme),
        }
    }

    /// The endpoint `SPIFFE_ENDPOINT_SOCKET` names.
    ///
    /// # Errors
    /// [`EndpointError::NotSet`]: there is no default path; or the rule the value breaks.
    pub fn from_env() -> Result<Self, EndpointError> {
        Self::choose(None, env::var(ENDPOINT_VARIABLE))
    }

    /// The endpoint given, else the one `SPIFFE_ENDPOINT_SOCKET` names.
    ///
    /// # Errors
    /// As [`parse`](Self::parse) and [`from_env`](Self::from_env).
    ///
    /// Source: Workload Endpoint section 4; conformance WE-12.
    pub fn explicit_or_env(explicit: Option<&str>) -> Result<Self, EndpointError> {
        Self::choose(explicit, env::var(ENDPOINT_VARIABLE))
    }

    fn choose(explicit: Option<&str>, variable: Result<String, VarError>) -> Result<Self, EndpointError> {
        if let Some(uri) = explicit {
            return Self::parse(uri);
        }
        match variable {
            Ok(uri) if uri.is_empty() => Err(EndpointError::NotSet),
            Ok(uri) => Self::parse(&uri),
            Err(VarError::NotPresent) => Err(EndpointError::NotSet),
            Err(VarError::NotUnicode(_)) => Err(EndpointError::BadCharacter),
        }
    }

    /// The endpoint of a UNIX socket.
    ///
    /// # Errors
    /// [`EndpointError::Path`] when the path is not absolute.
    pub fn unix(path: &Path) -> Result<Self, EndpointError> {
        if !path.is_absolute() {
            return Err(EndpointError::Path);
        }
        Ok(Self::Unix(path.to_owned()))
    }
}

fn parse_tcp(rest: &str) -> Result<SocketAddr, EndpointError> {
    let part = |part| EndpointError::Part { scheme: "tcp", part };
    let authority = rest.strip_prefix("//").ok_or(EndpointError::NotIpAndPort)?;
    for (sign, name) in [('/', "path"), ('?', "query"), ('#', "fragment"), ('@', "user")] {
        if authority.contains(sign) {
            return Err(part(name));
        }
    }
    // Rust reads IPv6 scope ids ("%1"), URIs do not.
    let address: SocketAddr = authority.parse().map_err(|_| EndpointError::NotIpAndPort)?;
    if authority.contains('%') || address.port() == 0 {
        return Err(EndpointError::NotIpAndPort);
    }
    Ok(address)
}

fn parse_unix(rest: &str) -> Result<PathBuf, EndpointError> {
    let part = |part| EndpointError::Part { scheme: "unix", part };
    if rest.contains('#') {
        return Err(part("fragment"));
    }
    if rest.contains('?') {
        return Err(part("query"));
    }
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some("") => return Err(EndpointError::Path),
        Some(after) if after.starts_with('/') => after,
        Some(_) => return Err(EndpointError::Authority),
    };
    if !path.starts_with('/') {
        return Err(EndpointError::Path);
    }
    percent_decode(path).map(|bytes| OsString::from_vec(bytes).into())
}

/// Decodes `%41`; a NUL, which no path may hold, is refused.
fn percent_decode(text: &str) -> Result<Vec<u8>, EndpointError> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|b| char::from(b).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(EndpointError::BadCharacter) };
        match u8::try_from(high * 16 + low) {
            Ok(decoded) if decoded != 0 => out.push(decoded),
            _ => return Err(EndpointError::BadCharacter),
        }
    }
    Ok(out)
}

/// RFC 3986, appendix A: unreserved, reserved and `%`.
fn is_uri_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&b)
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(uri: &str) -> Result<Self, EndpointError> {
        Self::parse(uri)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_12_an_explicit_endpoint_wins_over_the_environment_and_nothing_is_assumed() {
        let env = || Ok("unix:///run/env.sock".to_owned());
        let unix = |path: &str| Ok(Endpoint::Unix(path.into()));
        assert_eq!(Endpoint::choose(Some("unix:///run/given.sock"), env()), unix("/run/given.sock"));
        assert_eq!(Endpoint::choose(None, env()), unix("/run/env.sock"));
        assert_eq!(Endpoint::choose(None, Err(VarError::NotPresent)), Err(EndpointError::NotSet));
        assert_eq!(Endpoint::choose(None, Ok(String::new())), Err(EndpointError::NotSet));
        assert!(Endpoint::choose(Some("blah"), env()).is_err(), "a bad explicit value never falls back");
    }
}
